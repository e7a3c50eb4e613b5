//! Events and changes in random order.

use super::*;

#[test]
fn no_packet_meets_half_a_change_in_any_order_of_events() {
    for seed in 0..200 {
        let (world, mut reconciler) = start();
        let mut random = Random(seed);
        for _ in 0..200 {
            // The fake panics on the first write that a packet could trip over.
            random.step(&world, &mut reconciler);
        }
    }
}

/// A small linear congruential generator: the same steps for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn step(&mut self, world: &Rc<RefCell<World>>, reconciler: &mut Fake) {
        match self.below(8) {
            0 => answers(reconciler, self.below(4) as u8 + 1),
            1 => neighbour(reconciler, Reachability::Failed),
            2 => {
                let up = self.below(2) == 0;
                let mtu = 1500 + self.below(2) as u32;
                reconciler.host_event(Event::Link(Link {
                    mtu,
                    ..link("nva", up)
                }));
            }
            3 => reconciler.host_event(Event::LinkGone { ifindex: 3 }),
            4 => {
                let count = 1 << self.below(3);
                let members: Vec<_> = (0..count)
                    .map(|_| {
                        [nva(), NextHop::Host, NextHop::Discard][self.below(3) as usize].clone()
                    })
                    .collect();
                let id = self.below(3);
                let next_hops = [nva(), NextHop::Host, NextHop::Discard];
                let mut changes: Vec<_> = next_hops.map(Change::PutNextHop).into();
                changes.push(group(id, &members));
                changes.push(route(&format!("10.{id}.0.0/16"), id));
                let restricted = [&[][..], &["spoke1"], &["spoke1", "spoke2"]];
                let restricted = restricted[self.below(3) as usize];
                changes.push(restricting(port("nva", &["10.1.10.4"]), restricted));
                apply(reconciler, &changes);
            }
            5 => {
                let id = self.below(3);
                let prefix = format!("10.{id}.0.0/16").parse().unwrap();
                let table = "t".into();
                apply(
                    reconciler,
                    &[
                        Change::RemoveRoute { table, prefix },
                        Change::RemoveGroup(GroupId(id)),
                    ],
                );
            }
            6 => apply(reconciler, &[Change::RemovePort("nva".into())]),
            _ => grace(world, reconciler),
        }
    }
}
