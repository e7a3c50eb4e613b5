//! Topology 2: two instances of one appliance without a load balancer, active/active, then
//! active/passive.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};

use crate::{
    daemon::{Bird, Daemon, Frr, Policy},
    lab::Lab,
    network::Vm,
    overview::narrator::Narrator,
    topology::{
        Appliance, Kept, RouteServer, Site, Story, Subnet, World,
        failover::{LINK_DOWN, SILENT_DEATH, Traffic, judged, others_stayed},
        trace::{FlowTrace, Flows, Trace, shares},
        truth,
    },
    waypost::Waypost,
};

/// Two instances of an appliance.
pub const STORY: Story = Story {
    number: 2,
    name: "instances",
    about: "Two instances of an SD-WAN appliance share the flows to a site, then one stands by.",
    drawing: "            ┌── sdwan1 ──┐
  vm1 ── gw ┤   65010    ├── site ── office 10.250.0.10
            └── sdwan2 ──┘   65011",
    tell,
};

const SDWAN: u32 = 65010;
const SITE: u32 = 65011;
const FLOWS: u16 = 32;
const BOTH: [&str; 2] = ["sdwan1", "sdwan2"];

struct Stage {
    hub: [ipnet::IpNet; 2],
    apps: Subnet,
    server: RouteServer,
    vm1: Vm,
    sdwan1: Appliance,
    sdwan2: Appliance,
    site: Site,
    waypost: Waypost,
    first: Frr,
    second: Bird,
    router: Bird,
    trace: Trace,
}

fn tell(lab: &Lab, narrator: &mut Narrator) -> Result<Kept> {
    let mut stage = Stage::set(lab)?;
    stage.routes(narrator);
    stage.share(narrator);
    stage.one_dies(narrator);
    stage.one_falls_silent(narrator);
    stage.session_drops(narrator);
    stage.stand_by(narrator);
    Ok(Box::new(stage))
}

impl Stage {
    fn set(lab: &Lab) -> Result<Self> {
        let mut world = World::new(lab)?;
        let hub = world.network("hub", 1)?;
        let server = world.route_server(&hub, "rs1")?;
        let apps = world.subnet(&hub, "apps", 1)?;
        let nva = world.subnet(&hub, "nva", 10)?;
        let vm1 = world.vm(&apps, 4, "vm1")?;
        let sdwan1 = world.appliance(&nva, 4, "sdwan1", &[&server])?;
        let sdwan2 = world.appliance(&nva, 5, "sdwan2", &[&server])?;
        let site = world.site("site", "office", 250, &[&sdwan1, &sdwan2])?;
        for sdwan in [&sdwan1, &sdwan2] {
            world.peer(&server, sdwan, SDWAN)?;
        }
        let waypost = Waypost::start(&world.gw, world.config.clone())?;
        // Answers come by the second, whoever carries the requests: it is the first that will die.
        let ways = [(&sdwan1, SDWAN), (&sdwan2, SDWAN)];
        let router = Bird::start(&site.router, site.speaker(SITE, &ways, Some(&sdwan2))?)?;
        let first = Frr::start(sdwan1.host(), sdwan1.speaker_with(SDWAN, &site, SITE)?)?;
        let second = Bird::start(sdwan2.host(), sdwan2.speaker_with(SDWAN, &site, SITE)?)?;
        waypost.established(&BOTH)?;
        Ok(Self {
            hub: hub.space.prefixes()?,
            trace: Trace::start(&world)?,
            apps,
            server,
            vm1,
            sdwan1,
            sdwan2,
            site,
            waypost,
            first,
            second,
            router,
        })
    }

    fn far(&self) -> Result<[IpAddr; 2]> {
        self.site.addresses()
    }

    fn routes(&self, narrator: &mut Narrator) {
        narrator.step(
            "Routes of every party",
            "both instances learn the network, and nothing else, from both route server instances, \
             the site\nlearns it from both appliances, and the subnet has the site by both",
            || {
                let daemons: [&dyn Daemon; 2] = [&self.first, &self.second];
                let mut seen = Vec::new();
                for daemon in daemons {
                    let network = [(self.hub, "65515")];
                    seen.push(truth::exactly_of(daemon, &self.server, &network, &[])?);
                }
                for sdwan in BOTH {
                    let network = [(self.hub, "65010 65515")];
                    let (router, site) = (&self.router, &self.site);
                    seen.push(truth::exactly_passed_on(router, site, sdwan, &network)?);
                }
                seen.push(self.both_active()?);
                Ok(seen.join("\n"))
            },
        );
    }

    fn both_active(&self) -> Result<String> {
        let hops = [self.sdwan1.addresses(), self.sdwan2.addresses()];
        truth::effective(
            &self.waypost,
            &self.apps,
            self.site.space.prefixes()?,
            &hops,
        )
    }

    fn traffic(&self) -> Result<(FlowTrace, Traffic)> {
        let trace = FlowTrace::start(&[self.sdwan1.host(), self.sdwan2.host()])?;
        let to = (&self.site.host, self.far()?);
        let traffic = Traffic::start((&self.vm1.host, self.vm1.addresses), to, FLOWS)?;
        Ok((trace, traffic))
    }

    /// Traffic whose flows take both.
    fn shared(&self) -> Result<(FlowTrace, Traffic, Flows)> {
        let (trace, traffic) = self.traffic()?;
        let flows = traffic.takes(&trace, &BOTH)?;
        traffic.lost_nothing()?;
        // What was dropped before both were known is another stream's.
        let (trace, traffic) = self.traffic()?;
        let again = traffic.takes(&trace, &BOTH)?;
        ensure!(
            flows == again,
            "flows of the same ports take other machines"
        );
        Ok((trace, traffic, flows))
    }

    fn share(&self, narrator: &mut Narrator) {
        narrator.step(
            "Active/active: flows spread, and each sticks",
            "32 flows each of IPv4 and IPv6 take both appliances, at least 16 each, every one always \
             the\nsame; answers come back by sdwan2",
            || {
                let (_trace, traffic, flows) = self.shared()?;
                let counts = shares(&flows);
                ensure!(counts.values().all(|count| *count >= 16), "{counts:?}");
                let loss = traffic.lost_nothing()?;
                let mut seen = vec![format!("flows by appliance {counts:?}; {loss}")];
                for to in self.far()? {
                    let way = self.trace.passes(&self.vm1.host, to, |there, back| {
                        matches!(there, ["sdwan1" | "sdwan2", "site", "office"])
                            && matches!(back, ["site", "sdwan2", "vm1"])
                    })?;
                    seen.push(format!("vm1 → {to}: {way}"));
                }
                Ok(seen.join("\n"))
            },
        );
    }

    fn one_dies(&self, narrator: &mut Narrator) {
        narrator.step(
            "sdwan1 dies: its port loses the carrier",
            "its flows go on by sdwan2 within 50 ms; no other flow loses a packet or moves",
            || {
                judged(|| {
                    let (trace, traffic, before) = self.shared()?;
                    let failed = traffic.fails(|| self.sdwan1.unplugged())?;
                    let after = traffic.takes(&trace, &["sdwan2"])?;
                    others_stayed(&before, &after, "sdwan1")?;
                    let loss = traffic.only(&before, "sdwan1", LINK_DOWN)?;
                    failed.mend()?;
                    self.both_active()?;
                    Ok(loss)
                })
            },
        );
    }

    fn one_falls_silent(&self, narrator: &mut Narrator) {
        narrator.step(
            "sdwan1 falls silent: its port stays up, its sessions stay established",
            "probes find out: its flows go on by sdwan2 within 3 s, no other flow is touched",
            || {
                judged(|| {
                    let (trace, traffic, before) = self.shared()?;
                    let failed = traffic.fails(|| self.sdwan1.silent())?;
                    let after = traffic.takes(&trace, &["sdwan2"])?;
                    others_stayed(&before, &after, "sdwan1")?;
                    self.waypost.established(&BOTH)?;
                    let loss = traffic.only(&before, "sdwan1", SILENT_DEATH)?;
                    failed.mend()?;
                    self.shared()?;
                    Ok(loss)
                })
            },
        );
    }

    fn session_drops(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "sdwan2's BGP daemon dies while the machine forwards",
            "graceful restart: its routes stay, no packet is lost, not when it comes back either",
            || {
                let (trace, traffic, _) = self.shared()?;
                self.second.process().kill()?;
                traffic.takes(&trace, &BOTH)?;
                let mut speaker = self.sdwan2.speaker_with(SDWAN, &self.site, SITE)?;
                speaker.options.restarting = true;
                self.second = Bird::start(self.sdwan2.host(), speaker)?;
                self.waypost.established(&BOTH)?;
                traffic.takes(&trace, &BOTH)?;
                traffic.lost_nothing()
            },
        );
    }

    fn stand_by(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "Active/passive: sdwan2 prepends its ASN twice",
            "the subnet has the site by sdwan1 alone; all flows take it, and none loses a packet on \
             the way\nthere",
            || {
                let (trace, traffic, _) = self.shared()?;
                for instance in self.server.addresses() {
                    let policy = Policy::prepended(2);
                    self.second.set_policy(instance, policy)?;
                }
                let active = self.first_alone()?;
                traffic.takes(&trace, &["sdwan1"])?;
                let mut seen = vec![active, traffic.lost_nothing()?];
                for to in self.far()? {
                    let (there, back) = (["sdwan1", "site", "office"], ["site", "sdwan2", "vm1"]);
                    let way = self.trace.goes(&self.vm1.host, to, &there, &back)?;
                    seen.push(format!("vm1 → {to}: {way}"));
                }
                Ok(seen.join("\n"))
            },
        );
        narrator.step(
            "The active one dies, and comes back",
            "sdwan2 takes over within 50 ms, without waiting for BGP; sdwan1 is preferred again \
             afterwards",
            || {
                let loss = judged(|| {
                    let (trace, traffic) = self.traffic()?;
                    traffic.takes(&trace, &["sdwan1"])?;
                    let failed = traffic.fails(|| self.sdwan1.unplugged())?;
                    traffic.takes(&trace, &["sdwan2"])?;
                    failed.mend()?;
                    traffic.takes(&trace, &["sdwan1"])?;
                    traffic.within(LINK_DOWN)
                })?;
                Ok(format!("{loss}\n{}", self.first_alone()?))
            },
        );
    }

    fn first_alone(&self) -> Result<String> {
        let hops = [self.sdwan1.addresses()];
        let prefixes = self.site.space.prefixes()?;
        let active = truth::effective(&self.waypost, &self.apps, prefixes, &hops)?;
        let reason = truth::invalid(
            &self.waypost,
            &self.apps,
            prefixes,
            "learned",
            "longer AS path",
        );
        Ok(format!("{active}\n{}", reason.context("why sdwan2 lost")?))
    }
}
