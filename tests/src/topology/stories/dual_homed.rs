//! Topology 6: a spoke with the route server, peered with two hubs that have an appliance each.

use anyhow::Result;
use ipnet::IpNet;

use crate::{
    daemon::{Bird, Daemon, Policy},
    lab::Lab,
    network::Vm,
    overview::narrator::Narrator,
    topology::{
        Appliance, Kept, RouteServer, Site, Story, Subnet, World,
        failover::{LINK_DOWN, SILENT_DEATH, Traffic, others_stayed},
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
             and\nno hub's; the site has them from both; the spoke has the site by nva1, since nva2 \
             prepends",
            || {
                let mut seen = Vec::new();
                for daemon in &self.daemons {
                    let server = &self.server;
                    seen.push(truth::learns_network(daemon, server, self.spoke, "65515")?);
                    for hub in [1, 2] {
                        let prefixes = crate::topology::Space(hub).prefixes()?;
                        seen.push(truth::lacks(daemon, server, prefixes)?);
                    }
                }
                for (nva, path) in BOTH.into_iter().zip(["65001 65515", "65002 65515"]) {
                    let (router, site) = (&self.router, &self.site);
                    seen.push(truth::passed_on(router, site, nva, self.spoke, path)?);
                }
                seen.push(self.active(&[&self.nvas[0]])?);
                let site = self.site.space.prefixes()?;
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
                let (trace, traffic) = self.traffic()?;
                traffic.takes(&trace, &["nva1"])?;
                self.nvas[0].unplug()?;
                traffic.takes(&trace, &["nva2"])?;
                self.nvas[0].plug()?;
                traffic.takes(&trace, &["nva1"])?;
                traffic.within(LINK_DOWN)
            },
        );
        narrator.step(
            "Hub 1's appliance falls silent, its port up",
            "probes find out: packets go out by hub 2 within 3 s",
            || {
                let (trace, traffic) = self.traffic()?;
                traffic.takes(&trace, &["nva1"])?;
                self.nvas[0].fall_silent()?;
                traffic.takes(&trace, &["nva2"])?;
                let loss = traffic.within(SILENT_DEATH)?;
                self.nvas[0].wake()?;
                self.goes("nva1")?;
                Ok(loss)
            },
        );
    }

    fn hub_loses_its_connectivity(&self, narrator: &mut Narrator) {
        narrator.step(
            "Hub 1 loses its line to the site, and gets it back",
            "its appliance withdraws the site, and packets go out by hub 2 within 3 s; then by hub 1 again",
            || {
                let (trace, traffic) = self.traffic()?;
                traffic.takes(&trace, &["nva1"])?;
                self.site.unplug(&self.nvas[0])?;
                traffic.takes(&trace, &["nva2"])?;
                let mut seen = vec![self.active(&[&self.nvas[1]])?];
                seen.push(traffic.within(SILENT_DEATH)?);
                self.site.plug(&self.nvas[0])?;
                seen.push(self.active(&[&self.nvas[0]])?);
                seen.push(self.goes("nva1")?);
                Ok(seen.join("\n"))
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
                let (trace, traffic) = self.traffic()?;
                let before = traffic.takes(&trace, &BOTH)?;
                self.nvas[0].unplug()?;
                let after = traffic.takes(&trace, &["nva2"])?;
                others_stayed(&before, &after, "nva1")?;
                let loss = traffic.only(&before, "nva1", LINK_DOWN)?;
                self.nvas[0].plug()?;
                Ok(loss)
            },
        );
    }
}
