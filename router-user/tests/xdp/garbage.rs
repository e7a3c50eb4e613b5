//! Whatever arrives gets a verdict and a reason.

use router_common::{maps::precedence, reason::Reason};

use crate::router::{
    Action, FOUR, LEARNED, PORT_1, Router, hex, port, to_site_v4, to_site_v6, vm_port,
};

#[test]
fn random_bytes_behind_a_right_address_get_a_verdict_and_a_reason() {
    let mut router = Router::new();
    router.port(port(1, PORT_1));
    let mut random = Random(0x9e37_79b9);
    for _ in 0..30_000 {
        let length = 14 + random.below(200);
        let mut frame: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        frame[..6].copy_from_slice(&PORT_1);
        let ethertype = if random.below(2) == 0 {
            0x0800_u16
        } else {
            0x86dd
        };
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        if length > 14 && random.below(4) != 0 {
            frame[14] = match ethertype {
                0x0800 => 0x40 | (5 + random.below(11)) as u8,
                _ => 0x60,
            };
        }
        assert_has_verdict(&router, &frame);
    }
    assert_all_counted(&router);
}

#[test]
fn mutated_packets_get_a_verdict_and_a_reason() {
    let mut router = Router::new();
    router.port(vm_port());
    for site in ["0.0.0.0/0", "::/0"] {
        router.route(LEARNED, site, FOUR, precedence::LEARNED, 0);
    }
    let inner = to_site_v4().udp(1, 2, b"inner").bytes();
    let inner_v6 = to_site_v6().tcp(1, 2, b"inner").bytes();
    let seeds = [
        to_site_v4().udp(1000, 2000, &[1; 40]).bytes(),
        to_site_v4()
            .tcp(1000, 2000, &[1; 40])
            .options(&[7, 7, 4, 1, 2, 3, 4, 1])
            .bytes(),
        to_site_v4().icmp(3, 3, &inner[14..]).bytes(),
        to_site_v4().udp(1, 2, b"x").hops(1).bytes(),
        to_site_v6().udp(1000, 2000, &[1; 40]).partial().bytes(),
        to_site_v6().icmp(1, 3, &inner_v6[14..]).bytes(),
        to_site_v6().tcp(1, 2, b"x").hops(1).bytes(),
        to_site_v6()
            .udp(1, 2, b"x")
            .extensions(
                0,
                [[44, 0, 1, 4, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, 1]].concat(),
                8,
            )
            .bytes(),
    ];
    let mut random = Random(0x1234_5678);
    for round in 0..30_000 {
        let mut frame = seeds[round % seeds.len()].clone();
        for _ in 0..1 + random.below(4) {
            let place = 12 + random.below(frame.len() - 12);
            frame[place] = random.next() as u8;
        }
        if random.below(4) == 0 {
            frame.truncate(14 + random.below(frame.len() - 14));
        }
        assert_has_verdict(&router, &frame);
    }
    assert_all_counted(&router);
}

fn assert_has_verdict(router: &Router, frame: &[u8]) {
    let action = router.run(frame).action;
    assert!(
        matches!(action, Action::Drop | Action::Pass | Action::Redirect),
        "{action:?} for\n{}",
        hex(frame)
    );
}

/// Each received packet was forwarded or has a reason, and maps never contradicted each other.
fn assert_all_counted(router: &Router) {
    let counted = router.counted(1);
    let with_reason: u64 = Reason::ALL
        .iter()
        .map(|reason| counted.reason(*reason))
        .sum();
    let forwarded: u64 = (0..16).map(|next_hop| router.sent(next_hop).0).sum();
    assert_eq!(counted.rx_packets, with_reason + forwarded, "{counted:?}");
    assert_eq!(counted.internal, 0, "{counted:?}");
    assert!(with_reason > 0);
}

/// Numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
