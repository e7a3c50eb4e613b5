//! Topology 6: a spoke with the route server, peered with two hubs that have an appliance each.

use anyhow::Result;
use ipnet::IpNet;

use crate::{
    daemon::{Bird, Daemon, Policy},
    lab::Lab,
    network::Vm,
    overview::narrator::Narrator,
    topology::{
        Appliance, Failed, Kept, RouteServer, Site, Story, Subnet, World,
        failover::{LINK_DOWN, SILENT_DEATH, Traffic, judged, others_stayed},
        trace::{FlowTrace, Trace},
        truth,
    },
    waypost::Waypost,
};

/// A spoke between two hubs.
pub const STORY: Story = Story {
    number: 6,
    name: "dual-homed",
    about: "A spoke with a route server goes out by the active one of two hubs, and by the other when the \
            first one's appliance or its connectivity dies; then by both.",
    drawing: "                 ┌── hub1: nva1 65001 ──┐
  spoke: vm1, rs ┤                      ├── site ── office 10.250.0.10
                 └── hub2: nva2 65002 ──┘   65050",
    tell,
};

const ASNS: [u32; 2] = [65001, 65002];
const SITE: u32 = 65050;
const BOTH: [&str; 2] = ["nva1", "nva2"];
const FLAPS: usize = 10;

struct Stage {
    spoke: [IpNet; 2],
    apps: Subnet,
    server: RouteServer,
    vm1: Vm,
    nvas: [Appliance; 2],
    site: Site,
    waypost: Waypost,
    daemons: [Bird; 2],
    router: Bird,
    trace: Trace,
}

fn tell(lab: &Lab, narrator: &mut Narrator) -> Result<Kept> {
    let mut stage = Stage::set(lab)?;
    stage.routes(narrator);
    stage.nva_dies(narrator);
    stage.hub_loses_its_connectivity(narrator);
    stage.session_drops(narrator);
    stage.preferred_flaps(narrator);
    stage.answers_fail_over(narrator);
    stage.both_active(narrator);
    Ok(Box::new(stage))
}

impl Stage {
    fn set(lab: &Lab) -> Result<Self> {
        let mut world = World::new(lab)?;
        let hubs = [world.network("hub1", 1)?, world.network("hub2", 2)?];
        let spoke = world.network("spoke", 3)?;
        let server = world.route_server(&spoke, "rs")?;
        let apps = world.subnet(&spoke, "apps", 1)?;
        let vm1 = world.vm(&apps, 4, "vm1")?;
        let mut join = |number: usize| -> Result<Appliance> {
            let hub = &hubs[number];
            let nva = world.subnet(hub, "nva", 10)?;
            let appliance = world.appliance(&nva, 4, BOTH[number], &[&server])?;
            world.peering(hub, &spoke, false)?;
            world.peer(&server, &appliance, ASNS[number])?;
            Ok(appliance)
        };
        let nvas = [join(0)?, join(1)?];
        let site = world.site("site", "office", 250, &nvas.each_ref())?;
        let waypost = Waypost::start(&world.gw, world.config.clone())?;
        let ways = [(&nvas[0], ASNS[0]), (&nvas[1], ASNS[1])];
        // Answers come by the second hub, whoever carries the requests: it is the first that will die.
        let router = Bird::start(&site.router, site.speaker(SITE, &ways, Some(&nvas[1]))?)?;
        let start = |number: usize| -> Result<Bird> {
            let nva = &nvas[number];
            let mut speaker = nva.speaker_with(ASNS[number], &site, SITE)?;
            let prepend = if number == 0 { 0 } else { 2 };
            nva.set_policy(&mut speaker, &server, &Policy::prepended(prepend));
            Bird::start(nva.host(), speaker)
        };
        let daemons = [start(0)?, start(1)?];
        waypost.established(&BOTH)?;
        Ok(Self {
            spoke: spoke.space.prefixes()?,
            trace: Trace::start(&world)?,
            apps,
            server,
            vm1,
            nvas,
            site,
            waypost,
            daemons,
            router,
        })
    }

    fn active(&self, nvas: &[&Appliance]) -> Result<String> {
        let hops: Vec<_> = nvas.iter().map(|nva| nva.addresses()).collect();
        truth::effective(
            &self.waypost,
            &self.apps,
            self.site.space.prefixes()?,
            &hops,
        )
    }

    fn goes(&self, nva: &str) -> Result<String> {
        let mut seen = Vec::new();
        let there = [nva, "site", "office"];
        for to in self.site.addresses()? {
            let back = ["site", "nva2", "vm1"];
            let way = self.trace.goes(&self.vm1.host, to, &there, &back)?;
            seen.push(format!("vm1 → {to}: {way}"));
        }
        Ok(seen.join("\n"))
    }

    fn routes(&self, narrator: &mut Narrator) {
        narrator.step(
            "Routes of every party",
            "both appliances, each in a hub, have the spoke's prefixes from the route server in the spoke, \
             and\nno hub's; and each the other's way to the site; the site has the spoke's from both; the spoke has the site by nva1, since nva2 \
             prepends",
            || {
                let mut seen = Vec::new();
                let site = self.site.space.prefixes()?;
                let network = [(self.spoke, "65515")];
                // Each is told the other's way to the site, never its own.
                let others = [
                    (site, "65515 65002 65002 65002 65050", self.nvas[1].addresses()),
                    (site, "65515 65001 65050", self.nvas[0].addresses()),
                ];
                for (daemon, other) in self.daemons.iter().zip(others) {
                    seen.push(truth::exactly_of(daemon, &self.server, &network, &[other])?);
                }
                for (nva, path) in BOTH.into_iter().zip(["65001 65515", "65002 65515"]) {
                    let network = [(self.spoke, path)];
                    let (router, site) = (&self.router, &self.site);
                    seen.push(truth::exactly_passed_on(router, site, nva, &network)?);
                }
                seen.push(self.active(&[&self.nvas[0]])?);
                let (waypost, apps) = (&self.waypost, &self.apps);
                seen.push(truth::invalid(waypost, apps, site, "learned", "longer AS path")?);
                let office = self.site.addresses()?;
                seen.push(truth::explained(waypost, apps, office, &["nva1"])?);
                Ok(seen.join("\n"))
            },
        );
        narrator.step(
            "The path of packets",
            "vm1 goes out by hub 1; the site answers by hub 2, which it prefers",
            || self.goes("nva1"),
        );
    }

    fn traffic(&self) -> Result<(FlowTrace, Traffic)> {
        let trace = FlowTrace::start(&self.nvas.each_ref().map(Appliance::host))?;
        let far = (&self.site.host, self.site.addresses()?);
        let traffic = Traffic::start((&self.vm1.host, self.vm1.addresses), far, 16)?;
        Ok((trace, traffic))
    }

    fn nva_dies(&self, narrator: &mut Narrator) {
        narrator.step(
            "Hub 1's appliance dies: its port loses the carrier; then it comes back",
            "packets go out by hub 2 within 50 ms, without waiting for BGP, and by hub 1 again afterwards",
            || {
                judged(|| {
                    let (trace, traffic) = self.traffic()?;
                    traffic.takes(&trace, &["nva1"])?;
                    let failed = traffic.fails(|| self.nvas[0].unplugged())?;
                    traffic.takes(&trace, &["nva2"])?;
                    failed.mend()?;
                    traffic.takes(&trace, &["nva1"])?;
                    traffic.within(LINK_DOWN)
                })
            },
        );
        narrator.step(
            "Hub 1's appliance falls silent, its port up",
            "probes find out: packets go out by hub 2 within 3 s",
            || {
                judged(|| {
                    let (trace, traffic) = self.traffic()?;
                    traffic.takes(&trace, &["nva1"])?;
                    let failed = traffic.fails(|| self.nvas[0].silent())?;
                    traffic.takes(&trace, &["nva2"])?;
                    let loss = traffic.within(SILENT_DEATH)?;
                    failed.mend()?;
                    self.goes("nva1")?;
                    Ok(loss)
                })
            },
        );
    }

    fn hub_loses_its_connectivity(&self, narrator: &mut Narrator) {
        narrator.step(
            "Hub 1 loses its line to the site, and gets it back",
            "its appliance withdraws the site, and packets go out by hub 2 within 3 s; then by hub 1 again",
            || {
                judged(|| {
                    let (trace, traffic) = self.traffic()?;
                    traffic.takes(&trace, &["nva1"])?;
                    let failed = traffic.fails(|| self.site.unplugged(&self.nvas[0]))?;
                    traffic.takes(&trace, &["nva2"])?;
                    let mut seen = vec![self.active(&[&self.nvas[1]])?];
                    seen.push(traffic.within(SILENT_DEATH)?);
                    failed.mend()?;
                    seen.push(self.active(&[&self.nvas[0]])?);
                    seen.push(self.goes("nva1")?);
                    Ok(seen.join("\n"))
                })
            },
        );
    }

    fn session_drops(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "nva1's BGP daemon dies while the machine forwards",
            "graceful restart: packets go on by hub 1, and none is lost",
            || {
                let (trace, traffic) = self.traffic()?;
                traffic.takes(&trace, &["nva1"])?;
                self.daemons[0].process().kill()?;
                traffic.takes(&trace, &["nva1"])?;
                let nva = &self.nvas[0];
                let mut speaker = nva.speaker_with(ASNS[0], &self.site, SITE)?;
                nva.set_policy(&mut speaker, &self.server, &Policy::default());
                speaker.options.restarting = true;
                self.daemons[0] = Bird::start(nva.host(), speaker)?;
                self.waypost.established(&BOTH)?;
                traffic.takes(&trace, &["nva1"])?;
                traffic.lost_nothing()
            },
        );
    }

    fn preferred_flaps(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "nva1 withdraws the site and announces it again, ten times",
            "each time packets go out by hub 2, whose longer path stands, and by hub 1 again; none is lost",
            || {
                let (trace, traffic) = self.traffic()?;
                traffic.takes(&trace, &["nva1"])?;
                let withdrawn = Policy {
                    passes_on: Some(Vec::new()),
                    ..Policy::default()
                };
                for _ in 0..FLAPS {
                    for (policy, by) in [(&withdrawn, 1), (&Policy::default(), 0)] {
                        for instance in self.server.addresses() {
                            self.daemons[0].set_policy(instance, policy.clone())?;
                        }
                        self.active(&[&self.nvas[by]])?;
                    }
                }
                traffic.takes(&trace, &["nva1"])?;
                Ok(format!("{}\n{}", traffic.lost_nothing()?, self.goes("nva1")?))
            },
        );
    }

    fn answers_fail_over(&self, narrator: &mut Narrator) {
        narrator.step(
            "Hub 2's appliance, by which the answers come, dies on both sides, and comes back",
            "answers come by hub 1 within 3 s, although packets never went by another; then by hub 2 again",
            || {
                let loss = judged(|| {
                    let (trace, traffic) = self.traffic()?;
                    traffic.takes(&trace, &["nva1"])?;
                    let failed = traffic.fails(|| {
                        let port = self.nvas[1].unplugged()?;
                        Ok([port, self.site.unplugged(&self.nvas[1])?])
                    })?;
                    traffic.flows_on("answers come another way")?;
                    traffic.takes(&trace, &["nva1"])?;
                    let loss = traffic.within(SILENT_DEATH)?;
                    for to in self.site.addresses()? {
                        let office = (&self.site.host, to);
                        let way = ["nva1", "site"];
                        self.trace.symmetric(&self.vm1.host, office, &way)?;
                    }
                    failed.into_iter().try_for_each(Failed::mend)?;
                    self.goes("nva1")?;
                    Ok(loss)
                })?;
                self.waypost.established(&BOTH)?;
                Ok(loss)
            },
        );
    }

    fn both_active(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "Active/active: nva2 prepends no more",
            "flows spread over both hubs and each sticks to one; no packet is lost on the way there",
            || {
                let (trace, traffic) = self.traffic()?;
                for instance in self.server.addresses() {
                    self.daemons[1].set_policy(instance, Policy::default())?;
                }
                let [first, second] = &self.nvas;
                let mut seen = vec![self.active(&[first, second])?];
                traffic.takes(&trace, &BOTH)?;
                seen.push(traffic.lost_nothing()?);
                Ok(seen.join("\n"))
            },
        );
        narrator.step(
            "Hub 1's appliance dies: its port loses the carrier",
            "its flows, and no others, move to hub 2 within 50 ms",
            || {
                judged(|| {
                    let (trace, traffic) = self.traffic()?;
                    let before = traffic.takes(&trace, &BOTH)?;
                    let failed = traffic.fails(|| self.nvas[0].unplugged())?;
                    let after = traffic.takes(&trace, &["nva2"])?;
                    others_stayed(&before, &after, "nva1")?;
                    let loss = traffic.only(&before, "nva1", LINK_DOWN)?;
                    failed.mend()?;
                    self.active(&self.nvas.each_ref())?;
                    Ok(loss)
                })
            },
        );
    }
}
