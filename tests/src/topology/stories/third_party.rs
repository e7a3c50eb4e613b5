//! Topology 9: appliances announce a load balancer's address as next hop.

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;

use crate::{
    daemon::{Bird, Daemon, Frr, Policy},
    lab::{Capture, Lab, Link, Packet, packet::protocol, sysctl},
    network::{UPLINK, Vm},
    overview::{CONVERGENCE, narrator::Narrator},
    topology::{
        Appliance, Kept, RouteServer, Site, Space, Story, Subnet, World,
        failover::{LINK_DOWN, SILENT_DEATH, Traffic, judged},
        trace::{FlowTrace, Trace},
        truth,
    },
    until,
    updates::told_by,
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
/// The AS path of the site as the route server sends it.
const PATH: &str = "65515 65010 65011";
/// Links between the load balancer and the appliances.
const INSIDE: Space = Space(200);

struct Stage {
    hub: [IpNet; 2],
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
    router: Bird,
    trace: Trace,
    /// BGP at the two appliances, from before their daemons started.
    captures: [Capture; 2],
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
        let capture = |appliance: &Appliance| {
            let is_tcp = |packet: &Packet| packet.protocol == protocol::TCP;
            Capture::of(appliance.host(), &[UPLINK], is_tcp)
        };
        let captures = [capture(&nva1)?, capture(&nva2)?];
        let (first, second) = (start(&nva1)?, start(&nva2)?);
        let firewall = Frr::start(fw.host(), fw.speaker(FIREWALL)?)?;
        waypost.established(&["nva1", "nva2", "fw"])?;
        Ok(Self {
            trace: Trace::start(&world)?,
            hub: hub.space.prefixes()?,
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
            router,
            captures,
        })
    }

    fn routes(&self, narrator: &mut Narrator) {
        narrator.step(
            "Routes of every party",
            "the firewall learns the site by the load balancer's address, unchanged; so do the effective \
             routes\nof subnet apps, with a single next hop although two appliances announce it; both are \
             sent each other's\nroute and keep nothing of it, since their own ASN is in the path; they and \
             the site's router have the network",
            || {
                let site = self.site.space.prefixes()?;
                let hops = self.lb.addresses();
                let (server, own) = (&self.server, [(self.hub, "65515")]);
                let mut seen = vec![
                    truth::exactly_of(&self.firewall, server, &own, &[(site, PATH, hops)])?,
                    truth::effective(&self.waypost, &self.apps, site, &[hops])?,
                    truth::explained(&self.waypost, &self.apps, self.site.addresses()?, &["lb"])?,
                ];
                let appliances = [(&self.first, "nva1"), (&self.second, "nva2")];
                for ((daemon, name), capture) in appliances.into_iter().zip(&self.captures) {
                    seen.push(self.sent(name, capture)?);
                    seen.push(truth::exactly_of(daemon, server, &own, &[])?);
                    let own = [(self.hub, "65010 65515")];
                    let (router, site) = (&self.router, &self.site);
                    seen.push(truth::exactly_passed_on(router, site, name, &own)?);
                }
                Ok(seen.join("\n"))
            },
        );
        narrator.step(
            "The path of packets",
            "requests come in at the load balancer, then at an appliance, the site, the office; answers \
             come\nback by nva2, not by the load balancer",
            || self.through_lb(),
        );
    }

    /// What both instances have sent an appliance of the site: the other one's route, by the load
    /// balancer.
    fn sent(&self, name: &str, capture: &Capture) -> Result<String> {
        let (site, hops) = (self.site.space.prefixes()?, self.lb.addresses());
        until("the other appliance's route is sent", CONVERGENCE, || {
            let speakers = self.server.addresses();
            let told = told_by(&capture.packets(), &speakers)?;
            for speaker in speakers {
                let told = told.get(&speaker).context("UPDATEs of each instance")?;
                for (prefix, next_hop) in site.into_iter().zip(hops) {
                    let last = told.iter().rfind(|told| told.prefix == prefix);
                    let route = last.and_then(|told| told.route.as_ref());
                    let route = route.with_context(|| format!("{prefix} in {told:?}"))?;
                    ensure!(
                        route.as_path == PATH && route.next_hop == next_hop,
                        "{prefix}: {route:?}"
                    );
                }
            }
            Ok(())
        })?;
        let [ipv4, ipv6] = site;
        Ok(format!(
            "{name}: UPDATEs with {ipv4}, {ipv6} by the load balancer, path {PATH:?}"
        ))
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
                let kept = self.waypost.keeps("nva1", 2, false)?;
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
                self.waypost.keeps_nothing()?;
                traffic.flows_on("packets flow with both")?;
                Ok(format!("{kept}\n{seen}\n{}", traffic.lost_nothing()?))
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
                judged(|| {
                    let flows = self.flows()?;
                    let traffic = self.traffic()?;
                    traffic.takes(&flows, &["lb"])?;
                    let failed = traffic.fails(|| self.lb.unplugged())?;
                    traffic.takes(&flows, &["nva2"])?;
                    let mut seen = self.by_second()?;
                    self.waypost.established(&["nva1", "nva2", "fw"])?;
                    failed.mend()?;
                    traffic.takes(&flows, &["lb"])?;
                    seen.push(traffic.within(LINK_DOWN)?);
                    seen.push(self.through_lb()?);
                    Ok(seen.join("\n"))
                })
            },
        );
        narrator.step(
            "The load balancer falls silent, its port up; then it speaks again",
            "probes find out, for nobody has a session with it: packets go to nva2 itself within 3 s, then \
             to the\nload balancer again",
            || {
                judged(|| {
                    let flows = self.flows()?;
                    let traffic = self.traffic()?;
                    traffic.takes(&flows, &["lb"])?;
                    let failed = traffic.fails(|| self.lb.silent())?;
                    traffic.takes(&flows, &["nva2"])?;
                    let mut seen = self.by_second()?;
                    self.waypost.established(&["nva1", "nva2", "fw"])?;
                    failed.mend()?;
                    traffic.takes(&flows, &["lb"])?;
                    seen.push(traffic.within(SILENT_DEATH)?);
                    seen.push(self.through_lb()?);
                    Ok(seen.join("\n"))
                })
            },
        );
    }

    /// Where packets to the site come in from the gateway host.
    fn flows(&self) -> Result<FlowTrace> {
        FlowTrace::start(&[&self.lb, &self.nva1, &self.nva2].map(Appliance::host))
    }

    /// Without the load balancer packets go to nva2.
    fn by_second(&self) -> Result<Vec<String>> {
        let mut seen = Vec::new();
        for to in self.site.addresses()? {
            let office = (&self.site.host, to);
            let through = ["nva2", "site"];
            let way = self.trace.symmetric(&self.vm1.host, office, &through)?;
            seen.push(format!("without it, vm1 → {to}: {way}"));
        }
        Ok(seen)
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
