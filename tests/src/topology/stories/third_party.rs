//! Topology 9: appliances announce a load balancer's address as next hop.

use anyhow::Result;
use ipnet::IpNet;

use crate::{
    daemon::{Bird, Daemon, Frr, Policy},
    lab::{Lab, Link, sysctl},
    network::Vm,
    overview::narrator::Narrator,
    topology::{
        Appliance, Kept, RouteServer, Site, Space, Story, Subnet, World,
        failover::{LINK_DOWN, Traffic},
        trace::Trace,
        truth,
    },
    waypost::Waypost,
};

/// A next hop that is none of the peers.
pub const STORY: Story = Story {
    number: 9,
    name: "third-party-next-hop",
    about: "Two appliances name a load balancer in front of them as next hop: packets go there, and stay \
            there whichever appliance speaks.",
    drawing: "                     ┌── nva1 ──┐
  vm1 ── gw ── lb ───┤  65010   ├── site ── office 10.250.0.10
          └─ fw 65020 └── nva2 ──┘   65011",
    tell,
};

const NVA: u32 = 65010;
const SITE: u32 = 65011;
const FIREWALL: u32 = 65020;
/// Links between the load balancer and the appliances.
const INSIDE: Space = Space(200);

struct Stage {
    apps: Subnet,
    server: RouteServer,
    vm1: Vm,
    lb: Appliance,
    nva1: Appliance,
    nva2: Appliance,
    site: Site,
    waypost: Waypost,
    first: Bird,
    second: Bird,
    firewall: Frr,
    _router: Bird,
    trace: Trace,
}

fn tell(lab: &Lab, narrator: &mut Narrator) -> Result<Kept> {
    let mut stage = Stage::set(lab)?;
    stage.routes(narrator);
    stage.speaker_leaves(narrator);
    stage.load_balancer_dies(narrator);
    Ok(Box::new(stage))
}

impl Stage {
    fn set(lab: &Lab) -> Result<Self> {
        let mut world = World::new(lab)?;
        let hub = world.network("hub", 1)?;
        let server = world.route_server(&hub, "rs1")?;
        let apps = world.subnet(&hub, "apps", 1)?;
        let nva = world.subnet(&hub, "nva", 10)?;
        let balancers = world.subnet(&hub, "load-balancer", 30)?;
        let vm1 = world.vm(&apps, 4, "vm1")?;
        let lb = world.appliance(&balancers, 4, "lb", &[])?;
        let nva1 = world.appliance(&nva, 4, "nva1", &[&server])?;
        let nva2 = world.appliance(&nva, 5, "nva2", &[&server])?;
        let fw = world.appliance(&nva, 6, "fw", &[&server])?;
        let site = world.site("site", "office", 250, &[&nva1, &nva2])?;
        balance(&mut world, &lb, &[&nva1, &nva2], site.space.prefixes()?)?;
        for (appliance, asn) in [(&nva1, NVA), (&nva2, NVA), (&fw, FIREWALL)] {
            world.peer(&server, appliance, asn)?;
        }
        let waypost = Waypost::start(&world.gw, world.config.clone())?;
        let ways = [(&nva1, NVA), (&nva2, NVA)];
        let router = Bird::start(&site.router, site.speaker(SITE, &ways, Some(&nva2))?)?;
        let start = |appliance: &Appliance| -> Result<Bird> {
            let mut speaker = appliance.speaker_with(NVA, &site, SITE)?;
            let policy = Policy {
                next_hop: Some(lb.addresses()),
                ..Policy::default()
            };
            appliance.set_policy(&mut speaker, &server, &policy);
            Bird::start(appliance.host(), speaker)
        };
        let (first, second) = (start(&nva1)?, start(&nva2)?);
        let firewall = Frr::start(fw.host(), fw.speaker(FIREWALL)?)?;
        waypost.established(&["nva1", "nva2", "fw"])?;
        Ok(Self {
            trace: Trace::start(&world)?,
            apps,
            server,
            vm1,
            lb,
            nva1,
            nva2,
            site,
            waypost,
            first,
            second,
            firewall,
            _router: router,
        })
    }

    fn routes(&self, narrator: &mut Narrator) {
        narrator.step(
            "Routes of every party",
            "the firewall learns the site by the load balancer's address, unchanged; so do the effective \
             routes\nof subnet apps, with a single next hop although two appliances announce it",
            || {
                let site = self.site.space.prefixes()?;
                let hops = self.lb.addresses();
                let path = "65515 65010 65011";
                let learned =
                    truth::learns_of(&self.firewall, &self.server, site, path, hops)?;
                let active = truth::effective(&self.waypost, &self.apps, site, &[hops])?;
                let explained =
                    truth::explained(&self.waypost, &self.apps, self.site.addresses()?, &["lb"])?;
                Ok(format!("{learned}\n{active}\n{explained}"))
            },
        );
        narrator.step(
            "The path of packets",
            "requests come in at the load balancer, then at an appliance, the site, the office; answers \
             come\nback by nva2, not by the load balancer",
            || self.through_lb(),
        );
    }

    fn through_lb(&self) -> Result<String> {
        let mut seen = Vec::new();
        for to in self.site.addresses()? {
            let way = self.trace.passes(&self.vm1.host, to, |there, back| {
                matches!(there, ["lb", "nva1" | "nva2", "site", "office"])
                    && matches!(back, ["site", "nva2", "vm1"])
            })?;
            seen.push(format!("vm1 → {to}: {way}"));
        }
        Ok(seen.join("\n"))
    }

    fn traffic(&self) -> Result<Traffic> {
        let from = (&self.vm1.host, self.vm1.addresses);
        Traffic::start(from, (&self.site.host, self.site.addresses()?), 16)
    }

    fn speaker_leaves(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "nva1's BGP daemon is stopped while the machine forwards",
            "nva2 still names the load balancer: the route stays as it is, and no packet is lost",
            || {
                let traffic = self.traffic()?;
                self.first.process().kill()?;
                traffic.flows_on("packets flow by the load balancer")?;
                let seen = self.through_lb()?;
                let mut speaker = self.nva1.speaker_with(NVA, &self.site, SITE)?;
                speaker.options.restarting = true;
                let policy = Policy {
                    next_hop: Some(self.lb.addresses()),
                    ..Policy::default()
                };
                self.nva1.set_policy(&mut speaker, &self.server, &policy);
                self.first = Bird::start(self.nva1.host(), speaker)?;
                self.waypost.established(&["nva1", "nva2"])?;
                traffic.flows_on("packets flow with both")?;
                Ok(format!("{seen}\n{}", traffic.lost_nothing()?))
            },
        );
    }

    fn load_balancer_dies(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "nva2 announces itself instead, by a longer path",
            "the load balancer stays the next hop; no packet is lost",
            || {
                let traffic = self.traffic()?;
                let prepended = Policy::prepended(2);
                for instance in self.server.addresses() {
                    self.second.set_policy(instance, prepended.clone())?;
                }
                let site = self.site.space.prefixes()?;
                let lost =
                    truth::invalid(&self.waypost, &self.apps, site, "learned", "longer AS path")?;
                let hops = [self.lb.addresses()];
                let active = truth::effective(&self.waypost, &self.apps, site, &hops)?;
                Ok(format!("{active}\n{lost}\n{}", traffic.lost_nothing()?))
            },
        );
        narrator.step(
            "The load balancer dies, and comes back",
            "packets go to nva2 itself within 50 ms of its port going down, although every session is up; \
             then\nto the load balancer again",
            || {
                let traffic = self.traffic()?;
                self.lb.unplug()?;
                let mut seen = Vec::new();
                for to in self.site.addresses()? {
                    let office = (&self.site.host, to);
                    let through = ["nva2", "site"];
                    let way = self.trace.symmetric(&self.vm1.host, office, &through)?;
                    seen.push(format!("without it, vm1 → {to}: {way}"));
                }
                self.waypost.established(&["nva1", "nva2", "fw"])?;
                self.lb.plug()?;
                traffic.flows_on("packets flow")?;
                seen.push(traffic.within(LINK_DOWN)?);
                self.through_lb()?;
                seen.push(self.nva2_learned()?);
                Ok(seen.join("\n"))
            },
        );
    }

    /// What the other instance of the appliance keeps of it: nothing, its own ASN is in the path.
    fn nva2_learned(&self) -> Result<String> {
        let site = self.site.space.prefixes()?;
        truth::lacks(&self.second, &self.server, site)?;
        Ok(format!(
            "{}: nothing of the site from {}, its own ASN is in the path; {} shares it with {}",
            self.second.title(),
            self.server.name,
            self.nva2.name(),
            self.nva1.name()
        ))
    }
}

/// Lets the load balancer spread packets to these prefixes over the appliances, by flow.
fn balance(
    world: &mut World<'_>,
    lb: &Appliance,
    to: &[&Appliance],
    prefixes: [IpNet; 2],
) -> Result<()> {
    let host = lb.host();
    let mut hops = [String::new(), String::new()];
    for (number, appliance) in (1..).zip(to) {
        let name = appliance.name();
        Link::new((host, name), (appliance.host(), "lb"))?;
        world.point(appliance.host(), "lb");
        let (near, far) = (INSIDE.machine(number, 1)?, INSIDE.machine(number, 2)?);
        for (family, (near, far)) in near.into_iter().zip(far).enumerate() {
            let length = if family == 0 { 24 } else { 64 };
            host.address(name, IpNet::new(near, length)?)?;
            appliance.host().address("lb", IpNet::new(far, length)?)?;
            hops[family] += &format!(" nexthop via {far} dev {name}");
        }
    }
    host.inside(|| {
        sysctl::set("ipv4/fib_multipath_hash_policy", "1")?;
        sysctl::set("ipv6/fib_multipath_hash_policy", "1")
    })?;
    for ((prefix, hops), family) in prefixes.into_iter().zip(hops).zip(["-4", "-6"]) {
        host.run(&format!("ip {family} route add {prefix}{hops}"))?;
    }
    Ok(())
}
