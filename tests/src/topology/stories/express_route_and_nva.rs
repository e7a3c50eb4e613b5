//! Topology 4: an ExpressRoute gateway and an SD-WAN appliance, branch-to-branch off, then on.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use ipnet::IpNet;

use crate::{
    daemon::{Bird, Daemon},
    lab::Lab,
    network::Vm,
    overview::narrator::Narrator,
    topology::{
        Appliance, Failed, Kept, Kind, RouteServer, Site, Story, Subnet, World,
        failover::{self, LINK_DOWN, SILENT_DEATH, Traffic, judged},
        plan::member,
        trace::{FlowTrace, Trace},
        truth,
    },
    waypost::Waypost,
};

/// A site behind an appliance and one behind an ExpressRoute gateway.
pub const STORY: Story = Story {
    number: 4,
    name: "express-route-and-nva",
    about: "A site behind an SD-WAN appliance and one behind ExpressRoute learn nothing of each other, \
            until branch-to-branch is switched on; both know the network in either case.",
    drawing: "  office ── branch ── sdwan ──┐        ┌── er1 ──┐
10.250.0.10  65011    65010   ├── gw ──┤  65515  ├── onprem ── server
                        vm1 ──┘        └── er2 ──┘   65050   10.240.0.10",
    tell,
};

const SERVER_ASN: u32 = 65515;
const SDWAN: u32 = 65010;
const BRANCH: u32 = 65011;
const ONPREM: u32 = 65050;
const MEMBERS: [&str; 2] = ["er1", "er2"];

struct Stage<'a> {
    world: World<'a>,
    hub: [IpNet; 2],
    apps: Subnet,
    server: RouteServer,
    vm1: Vm,
    sdwan: Appliance,
    members: [Appliance; 2],
    branch: Site,
    onprem: Site,
    waypost: Waypost,
    appliance: Bird,
    gateways: [Bird; 2],
    routers: [Bird; 2],
    trace: Trace,
}

fn tell(lab: &Lab, narrator: &mut Narrator) -> Result<Kept> {
    let mut stage = Stage::set(lab)?;
    stage.apart(narrator);
    stage.joined(narrator);
    stage.member_dies(narrator);
    stage.session_drops(narrator);
    stage.gateway_dies(narrator);
    stage.appliance_dies(narrator);
    stage.parted(narrator);
    let Stage {
        waypost,
        appliance,
        gateways,
        routers,
        ..
    } = stage;
    Ok(Box::new((waypost, appliance, gateways, routers)))
}

impl<'a> Stage<'a> {
    fn set(lab: &'a Lab) -> Result<Self> {
        let mut world = World::new(lab)?;
        let hub = world.network("hub", 1)?;
        let server = world.route_server(&hub, "rs1")?;
        let apps = world.subnet(&hub, "apps", 1)?;
        let gateway = world.subnet(&hub, "GatewaySubnet", 3)?;
        let nva = world.subnet(&hub, "nva", 10)?;
        let vm1 = world.vm(&apps, 4, "vm1")?;
        let sdwan = world.appliance(&nva, 4, "sdwan", &[&server])?;
        let er1 = world.appliance(&gateway, 4, "er1", &[&server])?;
        let er2 = world.appliance(&gateway, 5, "er2", &[&server])?;
        let branch = world.site("branch", "office", 250, &[&sdwan])?;
        let onprem = world.site("onprem", "server", 240, &[&er1, &er2])?;
        world.peer(&server, &sdwan, SDWAN)?;
        let both = [&er1, &er2];
        world.gateway(&server, "er", Kind::ExpressRoute, &both, SERVER_ASN)?;
        // The whole gateway will die: its sessions end after so many seconds.
        world.set_gateway(&server, "er", "hold_time", 9)?;
        let waypost = Waypost::start(&world.gw, world.config.clone())?;
        let ways = [(&er1, SERVER_ASN), (&er2, SERVER_ASN)];
        let routers = [
            Bird::start(
                &branch.router,
                branch.speaker(BRANCH, &[(&sdwan, SDWAN)], None)?,
            )?,
            // It answers by the first: it is the second that will die.
            Bird::start(&onprem.router, onprem.speaker(ONPREM, &ways, Some(&er1))?)?,
        ];
        let appliance = Bird::start(sdwan.host(), sdwan.speaker_with(SDWAN, &branch, BRANCH)?)?;
        let gateways = [
            Bird::start(er1.host(), er1.speaker_with(SERVER_ASN, &onprem, ONPREM)?)?,
            Bird::start(er2.host(), er2.speaker_with(SERVER_ASN, &onprem, ONPREM)?)?,
        ];
        let stage = Self {
            hub: hub.space.prefixes()?,
            trace: Trace::start(&world)?,
            world,
            apps,
            server,
            vm1,
            sdwan,
            members: [er1, er2],
            branch,
            onprem,
            waypost,
            appliance,
            gateways,
            routers,
        };
        stage.sessions()?;
        Ok(stage)
    }

    /// How often each session has been established.
    fn sessions(&self) -> Result<BTreeMap<String, u64>> {
        let members = self.members.each_ref().map(|er| member("er", er.address()));
        let [first, second] = &members;
        failover::established(&self.waypost, &["sdwan", first, second])
    }

    fn no_reset(&self, before: &BTreeMap<String, u64>) -> Result<String> {
        let now = self.sessions()?;
        ensure!(now == *before, "sessions: {before:?} before, {now:?} now");
        Ok("no session was reset".to_owned())
    }

    fn toggle(&mut self, on: bool) -> Result<()> {
        self.world.set(&self.server, "branch_to_branch", on)?;
        self.waypost.reload(self.world.config.clone())?;
        Ok(())
    }

    /// What all have, and nothing else: both sides the network, with branch-to-branch each the other's
    /// site as well, next hops kept; the virtual machines both sites.
    fn all_have(&self, joined: bool) -> Result<String> {
        let (office, server) = (self.branch.space.prefixes()?, self.onprem.space.prefixes()?);
        // Of two equal paths the one of the lower router id is announced.
        let (sdwan, er1) = (self.sdwan.addresses(), self.members[0].addresses());
        let other = usize::from(joined);
        let network = [(self.hub, "65515")];
        let routes = [(server, "65515 65050", er1)];
        let appliance = &self.appliance;
        let mut seen = vec![truth::exactly_of(
            appliance,
            &self.server,
            &network,
            &routes[..other],
        )?];
        let routes = [(office, "65010 65011", sdwan)];
        for gateway in &self.gateways {
            let (network, routes) = ([(self.hub, "")], &routes[..other]);
            seen.push(truth::exactly_of(gateway, &self.server, &network, routes)?);
            seen.push(truth::internal(gateway, &self.server)?);
        }
        let [branch, onprem] = &self.routers;
        let passed = [(self.hub, "65010 65515"), (server, "65010 65515 65050")];
        let passed = &passed[..=other];
        seen.push(truth::exactly_passed_on(
            branch,
            &self.branch,
            "sdwan",
            passed,
        )?);
        let passed = [(self.hub, "65515"), (office, "65515 65010 65011")];
        for er in MEMBERS {
            let passed = &passed[..=other];
            seen.push(truth::exactly_passed_on(onprem, &self.onprem, er, passed)?);
        }
        let hops = [self.sdwan.addresses()];
        let prefixes = self.branch.space.prefixes()?;
        seen.push(truth::effective(
            &self.waypost,
            &self.apps,
            prefixes,
            &hops,
        )?);
        let hops = self.members.each_ref().map(Appliance::addresses);
        let prefixes = self.onprem.space.prefixes()?;
        seen.push(truth::effective(
            &self.waypost,
            &self.apps,
            prefixes,
            &hops,
        )?);
        Ok(seen.join("\n"))
    }

    /// vm1 reaches both sites.
    fn both_sites(&self) -> Result<String> {
        let mut seen = Vec::new();
        for to in self.branch.addresses()? {
            let office = (&self.branch.host, to);
            let way = self
                .trace
                .symmetric(&self.vm1.host, office, &["sdwan", "branch"])?;
            seen.push(format!("vm1 → {to}: {way}"));
        }
        for to in self.onprem.addresses()? {
            let way = self.trace.passes(&self.vm1.host, to, |there, back| {
                matches!(there, ["er1" | "er2", "onprem", "server"])
                    && matches!(back, ["onprem", "er1", "vm1"])
            })?;
            seen.push(format!("vm1 → {to}: {way}"));
        }
        Ok(seen.join("\n"))
    }

    /// The office's router knows no way to the server.
    fn strangers(&self) -> Result<String> {
        let mut seen = Vec::new();
        for to in self.onprem.addresses()? {
            let way = self.trace.ends(&self.branch.host, to, &["branch"])?;
            seen.push(format!("office → {to}: {way}"));
        }
        Ok(seen.join("\n"))
    }

    fn apart(&self, narrator: &mut Narrator) {
        narrator.step(
            "Branch-to-branch off: what everyone has",
            "the SD-WAN has the network by path 65515, the gateway's members, which share the ASN, by an \
             empty\none, and nobody anything else; the sites' routers have it from them; vm1 reaches both \
             sites",
            || Ok(format!("{}\n{}", self.all_have(false)?, self.both_sites()?)),
        );
        narrator.step(
            "Branch-to-branch off: packets between the sites",
            "a ping from the office to the server ends at the office's router",
            || self.strangers(),
        );
    }

    fn joined(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "Branch-to-branch on",
            "each side learns the other, next hops kept; the office and the server reach each other; no \
             session\nis reset, and vm1's packets to the office are not disturbed",
            || {
                let sessions = self.sessions()?;
                let from = (&self.vm1.host, self.vm1.addresses);
                let far = (&self.branch.host, self.branch.addresses()?);
                let traffic = Traffic::start(from, far, 8)?;
                self.toggle(true)?;
                let mut seen = vec![self.all_have(true)?, self.between_sites()?];
                seen.push(self.no_reset(&sessions)?);
                seen.push(format!("vm1 to the office: {}", traffic.lost_nothing()?));
                Ok(seen.join("\n"))
            },
        );
    }

    fn between_sites(&self) -> Result<String> {
        let mut seen = Vec::new();
        for to in self.onprem.addresses()? {
            let way = self.trace.passes(&self.branch.host, to, |there, back| {
                matches!(
                    there,
                    ["branch", "sdwan", "er1" | "er2", "onprem", "server"]
                ) && matches!(back, ["onprem", "er1", "sdwan", "branch", "office"])
            })?;
            seen.push(format!("office → {to}: {way}"));
        }
        Ok(seen.join("\n"))
    }

    /// Traffic of the office to the server, and which member it takes.
    fn traffic(&self) -> Result<(FlowTrace, Traffic)> {
        let trace = FlowTrace::start(&self.members.each_ref().map(Appliance::host))?;
        let from = (&self.branch.host, self.branch.addresses()?);
        let traffic = Traffic::start(from, (&self.onprem.host, self.onprem.addresses()?), 16)?;
        Ok((trace, traffic))
    }

    /// The router of the server's site answers by this member from now on.
    fn answers_by(&mut self, member: usize) -> Result<()> {
        let [_, router] = &mut self.routers;
        for (number, er) in self.members.iter().enumerate() {
            let local_pref = if number == member { 200 } else { 100 };
            self.onprem.prefer(router, er, local_pref)?;
        }
        for to in self.onprem.addresses()? {
            let by = MEMBERS[member];
            self.trace.passes(&self.branch.host, to, |_, back| {
                back == ["onprem", by, "sdwan", "branch", "office"]
            })?;
        }
        Ok(())
    }

    fn member_dies(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "A member of the gateway dies, first er2, then er1: its port loses the carrier",
            "the office's flows to the server that took it go on by the other within 50 ms; the others \
             lose\nnothing, although it is er1 that the SD-WAN has as next hop",
            || {
                let mut seen = Vec::new();
                for (dying, staying) in [(1, 0), (0, 1)] {
                    self.answers_by(staying)?;
                    seen.push(judged(|| {
                        let (trace, traffic) = self.traffic()?;
                        let before = traffic.takes(&trace, &MEMBERS)?;
                        let failed = traffic.fails(|| self.members[dying].unplugged())?;
                        let after = traffic.takes(&trace, &[MEMBERS[staying]])?;
                        failover::others_stayed(&before, &after, MEMBERS[dying])?;
                        let loss = traffic.only(&before, MEMBERS[dying], LINK_DOWN)?;
                        failed.mend()?;
                        Ok(format!("{}: {loss}", MEMBERS[dying]))
                    })?);
                }
                Ok(seen.join("\n"))
            },
        );
        narrator.step(
            "The same members fall silent, one after the other, their ports up",
            "probes find out: within 3 s all flows take the other",
            || {
                let mut seen = Vec::new();
                for (dying, staying) in [(1, 0), (0, 1)] {
                    self.answers_by(staying)?;
                    seen.push(judged(|| {
                        let (trace, traffic) = self.traffic()?;
                        let before = traffic.takes(&trace, &MEMBERS)?;
                        let failed = traffic.fails(|| self.members[dying].silent())?;
                        traffic.takes(&trace, &[MEMBERS[staying]])?;
                        let loss = traffic.only(&before, MEMBERS[dying], SILENT_DEATH)?;
                        failed.mend()?;
                        let (trace, traffic) = self.traffic()?;
                        traffic.takes(&trace, &MEMBERS)?;
                        Ok(format!("{}: {loss}", MEMBERS[dying]))
                    })?);
                }
                self.answers_by(0)?;
                Ok(seen.join("\n"))
            },
        );
    }

    fn gateway_dies(&self, narrator: &mut Narrator) {
        narrator.step(
            "Both members die: their ports lose the carrier; then they come back",
            "the site behind them is withdrawn from the SD-WAN and the branch when their sessions end, and \
             vm1\ncannot reach it; traffic to the office loses nothing; then all is as before",
            || {
                let from = (&self.vm1.host, self.vm1.addresses);
                let far = (&self.branch.host, self.branch.addresses()?);
                let traffic = Traffic::start(from, far, 8)?;
                let failed = [self.members[0].unplugged()?, self.members[1].unplugged()?];
                let mut seen = Vec::new();
                let network = [(self.hub, "65515")];
                let appliance = &self.appliance;
                seen.push(truth::exactly_of(appliance, &self.server, &network, &[])?);
                let passed = [(self.hub, "65010 65515")];
                let (router, branch) = (&self.routers[0], &self.branch);
                seen.push(truth::exactly_passed_on(router, branch, "sdwan", &passed)?);
                let server = self.onprem.space.prefixes()?;
                seen.push(truth::no_learned(&self.waypost, &self.apps, server)?);
                for to in self.onprem.addresses()? {
                    let vm1 = &self.vm1.host;
                    let way = self.trace.dropped(&self.waypost, vm1, to, "discard")?;
                    seen.push(format!("vm1 → {to}: {way}"));
                }
                seen.push(format!("vm1 to the office: {}", traffic.lost_nothing()?));
                failed.into_iter().try_for_each(Failed::mend)?;
                seen.push(self.all_have(true)?);
                seen.push(self.between_sites()?);
                self.sessions()?;
                Ok(seen.join("\n"))
            },
        );
    }

    fn appliance_dies(&self, narrator: &mut Narrator) {
        narrator.step(
            "The SD-WAN dies: its port loses the carrier; then it comes back",
            "the office is out of reach, and Waypost counts what it drops; vm1's traffic to the server \
             loses\nnothing; then the office is reached again",
            || {
                let from = (&self.vm1.host, self.vm1.addresses);
                let far = (&self.onprem.host, self.onprem.addresses()?);
                let traffic = Traffic::start(from, far, 8)?;
                let failed = self.sdwan.unplugged()?;
                let mut seen = Vec::new();
                for to in self.branch.addresses()? {
                    let vm1 = &self.vm1.host;
                    let way = self.trace.dropped(&self.waypost, vm1, to, "next_hop_down")?;
                    seen.push(format!("vm1 → {to}: {way}"));
                }
                failed.mend()?;
                seen.push(self.both_sites()?);
                seen.push(format!("vm1 to the server: {}", traffic.lost_nothing()?));
                Ok(seen.join("\n"))
            },
        );
    }

    fn session_drops(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "er2's BGP daemon dies while the machine forwards",
            "graceful restart: no packet of the office to the server is lost",
            || {
                let (trace, traffic) = self.traffic()?;
                traffic.takes(&trace, &MEMBERS)?;
                self.gateways[1].process().kill()?;
                traffic.takes(&trace, &MEMBERS)?;
                let er2 = &self.members[1];
                let mut speaker = er2.speaker_with(SERVER_ASN, &self.onprem, ONPREM)?;
                speaker.options.restarting = true;
                self.gateways[1] = Bird::start(er2.host(), speaker)?;
                self.sessions()?;
                traffic.takes(&trace, &MEMBERS)?;
                traffic.lost_nothing()
            },
        );
    }

    fn parted(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "Branch-to-branch off again",
            "each side forgets the other at once and keeps the network; no session is reset",
            || {
                let sessions = self.sessions()?;
                self.toggle(false)?;
                let mut seen = vec![self.strangers()?, self.all_have(false)?];
                seen.push(self.no_reset(&sessions)?);
                Ok(seen.join("\n"))
            },
        );
    }
}
