//! Topology 3: the network's address space changes while everything runs.

use std::collections::BTreeMap;

use anyhow::Result;
use ipnet::IpNet;

use crate::{
    daemon::{Bird, Daemon, Frr},
    lab::Lab,
    network::Vm,
    overview::narrator::Narrator,
    topology::{
        Appliance, Kept, Network, RouteServer, Site, Space, Story, Subnet, World,
        failover::{self, Traffic},
        trace::Trace,
        truth,
    },
    waypost::Waypost,
};

/// A change of the network's addresses.
pub const STORY: Story = Story {
    number: 3,
    name: "address-change",
    about: "A prefix is added to a virtual network and taken away again: every appliance is told at \
            once, and no session is reset.",
    drawing: "                     ┌── sdwan 65010 ── site ─── office 10.250.0.10
  vm1, later vm2 ─ gw ┤
                     └── fw 65020 ───── partner ─ server 10.240.0.10",
    tell,
};

const SDWAN: u32 = 65010;
const SITE: u32 = 65011;
const FIREWALL: u32 = 65020;
const PARTNER: u32 = 65021;
const PEERS: [&str; 2] = ["sdwan", "fw"];
/// The space that is added.
const MORE: Space = Space(3);
/// A prefix of the site that comes and goes.
const FLAPPING: Space = Space(251);
const FLAPS: usize = 10;

struct Stage<'a> {
    world: World<'a>,
    hub: Network,
    apps: Subnet,
    server: RouteServer,
    vm1: Vm,
    site: Site,
    waypost: Waypost,
    sdwan: Bird,
    firewall: Frr,
    routers: [Bird; 2],
    partner: Site,
    appliance: Appliance,
    fw: Appliance,
}

fn tell(lab: &Lab, narrator: &mut Narrator) -> Result<Kept> {
    let mut stage = Stage::set(lab)?;
    stage.routes(narrator);
    let with = stage.added(narrator);
    stage.session_drops(narrator);
    stage.appliance_dies(narrator);
    stage.flaps(narrator);
    stage.removed(narrator);
    let Stage {
        waypost,
        sdwan,
        firewall,
        routers,
        ..
    } = stage;
    Ok(Box::new((waypost, sdwan, firewall, routers, with)))
}

impl<'a> Stage<'a> {
    fn set(lab: &'a Lab) -> Result<Self> {
        let mut world = World::new(lab)?;
        let hub = world.network("hub", 1)?;
        let server = world.route_server(&hub, "rs1")?;
        let apps = world.subnet(&hub, "apps", 1)?;
        let nva = world.subnet(&hub, "nva", 10)?;
        let vm1 = world.vm(&apps, 4, "vm1")?;
        let sdwan = world.appliance(&nva, 4, "sdwan", &[&server])?;
        let fw = world.appliance(&nva, 5, "fw", &[&server])?;
        let site = world.site("site", "office", 250, &[&sdwan])?;
        let partner = world.site("partner", "server", 240, &[&fw])?;
        world.peer(&server, &sdwan, SDWAN)?;
        world.peer(&server, &fw, FIREWALL)?;
        let waypost = Waypost::start(&world.gw, world.config.clone())?;
        let behind = |site: &Site, asn, front: &Appliance, front_asn| {
            let speaker = site.speaker(asn, &[(front, front_asn)], None)?;
            Bird::start(&site.router, speaker)
        };
        let routers = [
            behind(&site, SITE, &sdwan, SDWAN)?,
            behind(&partner, PARTNER, &fw, FIREWALL)?,
        ];
        let bird = Bird::start(sdwan.host(), sdwan.speaker_with(SDWAN, &site, SITE)?)?;
        let frr = Frr::start(fw.host(), fw.speaker_with(FIREWALL, &partner, PARTNER)?)?;
        waypost.established(&PEERS)?;
        Ok(Self {
            world,
            hub,
            apps,
            server,
            vm1,
            site,
            waypost,
            sdwan: bird,
            firewall: frr,
            routers,
            partner,
            appliance: sdwan,
            fw,
        })
    }

    /// Every party has exactly these prefixes of the network and the site on the other side, with
    /// these prefixes: both appliances from both instances, and the routers behind them.
    fn everyone_has(&self, networks: &[Space], site: &[Space]) -> Result<String> {
        let prefixes = |spaces: &[Space]| -> Result<Vec<[IpNet; 2]>> {
            spaces.iter().map(|space| space.prefixes()).collect()
        };
        let (networks, site) = (prefixes(networks)?, prefixes(site)?);
        let partner = [self.partner.space.prefixes()?];
        let own: Vec<_> = networks.iter().map(|network| (*network, "65515")).collect();
        let mut seen = Vec::new();
        let daemons: [&dyn Daemon; 2] = [&self.sdwan, &self.firewall];
        let others = [
            (&partner[..], "65515 65020 65021", &self.fw),
            (&site[..], "65515 65010 65011", &self.appliance),
        ];
        for (daemon, (other, path, by)) in daemons.into_iter().zip(others) {
            let other = other
                .iter()
                .map(|prefixes| (*prefixes, path, by.addresses()));
            let other: Vec<_> = other.collect();
            seen.push(truth::exactly_of(daemon, &self.server, &own, &other)?);
        }
        let [site_router, partner_router] = &self.routers;
        let behind = [
            (
                site_router,
                &self.site,
                "sdwan",
                ["65010 65515", "65010 65515 65020 65021"],
                &partner[..],
            ),
            (
                partner_router,
                &self.partner,
                "fw",
                ["65020 65515", "65020 65515 65010 65011"],
                &site,
            ),
        ];
        for (router, at, front, [path, other_path], other) in behind {
            let own = networks.iter().map(|network| (*network, path));
            let other = other.iter().map(|prefixes| (*prefixes, other_path));
            let all: Vec<_> = own.chain(other).collect();
            seen.push(truth::exactly_passed_on(router, at, front, &all)?);
        }
        Ok(seen.join("\n"))
    }

    fn routes(&self, narrator: &mut Narrator) {
        narrator.step(
            "Routes of every party, and the paths of packets",
            "appliances and the routers behind them have 10.1.0.0/16, fd00:1::/48 and the site on the \
             other\nside, nothing else; vm1 reaches the office through the SD-WAN and the partner through \
             the firewall,\nanswers come the same way",
            || {
                let mut seen = vec![self.everyone_has(&[self.hub.space], &[self.site.space])?];
                let trace = Trace::start(&self.world)?;
                let ways = [
                    (&self.site, ["sdwan", "site"], self.appliance.addresses()),
                    (&self.partner, ["fw", "partner"], self.fw.addresses()),
                ];
                for (site, through, hop) in ways {
                    let prefixes = site.space.prefixes()?;
                    seen.push(truth::effective(&self.waypost, &self.apps, prefixes, &[hop])?);
                    for to in site.addresses()? {
                        let way =
                            trace.symmetric(&self.vm1.host, (&site.host, to), &through)?;
                        seen.push(format!("vm1 → {to}: {way}"));
                    }
                }
                Ok(seen.join("\n"))
            },
        );
    }

    /// Traffic of vm1 to the office, and the sessions as they are.
    fn watch(&self) -> Result<(Traffic, BTreeMap<String, u64>)> {
        let from = (&self.vm1.host, self.vm1.addresses);
        let traffic = Traffic::start(from, (&self.site.host, self.site.addresses()?), 8)?;
        Ok((traffic, failover::established(&self.waypost, &PEERS)?))
    }

    fn undisturbed(&self, traffic: Traffic, sessions: &BTreeMap<String, u64>) -> Result<String> {
        traffic.flows_on("packets flow after the change")?;
        let loss = traffic.lost_nothing()?;
        let sessions = failover::no_reset(&self.waypost, &PEERS, sessions)?;
        Ok(format!("{sessions}; vm1 to the office meanwhile: {loss}"))
    }

    fn added(&mut self, narrator: &mut Narrator) -> Option<Vm> {
        let mut added = None;
        narrator.step(
            "10.3.0.0/16 and fd00:3::/48 added, with a virtual machine in them",
            "both appliances and the routers behind them learn them; vm2 (10.3.1.4) and the office reach \
             each\nother; no session is reset, no packet of vm1 is lost",
            || {
                let (traffic, sessions) = self.watch()?;
                let more = Network {
                    space: MORE,
                    ..self.hub.clone()
                };
                let prefixes = MORE.prefixes()?;
                let section = self.world.vnet(&self.hub)?;
                section.prefixes.extend(prefixes);
                let subnet = self.world.subnet(&more, "more", 1)?;
                let vm2 = self.world.vm(&subnet, 4, "vm2")?;
                self.waypost.reload(self.world.config.clone())?;
                let mut seen = vec![self.everyone_has(&[self.hub.space, MORE], &[self.site.space])?];
                seen.push(self.undisturbed(traffic, &sessions)?);
                let trace = Trace::start(&self.world)?;
                for to in self.site.addresses()? {
                    let office = (&self.site.host, to);
                    let way = trace.symmetric(&vm2.host, office, &["sdwan", "site"])?;
                    seen.push(format!("vm2 → {to}: {way}"));
                }
                for to in vm2.addresses {
                    let way =
                        trace.symmetric(&self.site.host, (&vm2.host, to), &["site", "sdwan"])?;
                    seen.push(format!("office → {to}: {way}"));
                }
                added = Some(vm2);
                Ok(seen.join("\n"))
            },
        );
        added
    }

    fn session_drops(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "The SD-WAN's BGP daemon dies while the machine forwards",
            "graceful restart: no packet of vm1 to the office is lost, not when it comes back either",
            || {
                let (traffic, _) = self.watch()?;
                self.sdwan.process().kill()?;
                traffic.flows_on("packets flow without the daemon")?;
                let mut speaker = self.appliance.speaker_with(SDWAN, &self.site, SITE)?;
                speaker.options.restarting = true;
                self.sdwan = Bird::start(self.appliance.host(), speaker)?;
                self.waypost.established(&PEERS)?;
                traffic.flows_on("packets flow when it is back")?;
                let loss = traffic.lost_nothing()?;
                let spaces = [self.hub.space, MORE];
                Ok(format!("{loss}\n{}", self.everyone_has(&spaces, &[self.site.space])?))
            },
        );
    }

    fn appliance_dies(&self, narrator: &mut Narrator) {
        narrator.step(
            "The SD-WAN dies: its port loses the carrier; then it comes back",
            "nobody else has a way to the office: it is out of reach, and Waypost counts what it drops;              the\npartner's traffic loses nothing; then the office is reached again, without a new session",
            || {
                let sessions = failover::established(&self.waypost, &PEERS)?;
                let from = (&self.vm1.host, self.vm1.addresses);
                let partner = (&self.partner.host, self.partner.addresses()?);
                let traffic = Traffic::start(from, partner, 8)?;
                let trace = Trace::start(&self.world)?;
                let failed = self.appliance.unplugged()?;
                let mut seen = Vec::new();
                for to in self.site.addresses()? {
                    let way = trace.dropped(&self.waypost, &self.vm1.host, to, "next_hop_down")?;
                    seen.push(format!("vm1 → {to}: {way}"));
                }
                failed.mend()?;
                for to in self.site.addresses()? {
                    let office = (&self.site.host, to);
                    let way = trace.symmetric(&self.vm1.host, office, &["sdwan", "site"])?;
                    seen.push(format!("vm1 → {to}: {way}"));
                }
                seen.push(failover::no_reset(&self.waypost, &PEERS, &sessions)?);
                seen.push(format!("vm1 to the partner: {}", traffic.lost_nothing()?));
                Ok(seen.join("\n"))
            },
        );
    }

    fn flaps(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "A prefix of the site flaps ten times",
            "10.251.0.0/16 and fd00:251::/48 come and go at the firewall; in the end they are there; \
             traffic to\nthe office, beside them, loses nothing",
            || {
                let (traffic, sessions) = self.watch()?;
                let prefixes = FLAPPING.prefixes()?;
                let path = "65515 65010 65011";
                let hops = self.appliance.addresses();
                for _ in 0..FLAPS {
                    self.routers[0].announce_all(&prefixes)?;
                    truth::learns_of(&self.firewall, &self.server, prefixes, path, hops)?;
                    self.routers[0].withdraw_all(&prefixes)?;
                    truth::lacks(&self.firewall, &self.server, prefixes)?;
                }
                self.routers[0].announce_all(&prefixes)?;
                let spaces = [self.site.space, FLAPPING];
                let mut seen = vec![self.everyone_has(&[self.hub.space, MORE], &spaces)?];
                seen.push(truth::effective(
                    &self.waypost,
                    &self.apps,
                    prefixes,
                    &[hops],
                )?);
                seen.push(self.undisturbed(traffic, &sessions)?);
                Ok(seen.join("\n"))
            },
        );
    }

    fn removed(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "The prefixes removed again",
            "they go from both appliances, from the routers behind them and from the subnet; vm2 is out \
             of reach;\nno session is reset, no packet of vm1 is lost",
            || {
                let (traffic, sessions) = self.watch()?;
                let prefixes = MORE.prefixes()?;
                let section = self.world.vnet(&self.hub)?;
                section.prefixes.retain(|prefix| !prefixes.contains(prefix));
                section.subnet.retain(|subnet| subnet.name != "more");
                self.waypost.reload(self.world.config.clone())?;
                let spaces = [self.site.space, FLAPPING];
                let mut seen = vec![self.everyone_has(&[self.hub.space], &spaces)?];
                seen.push(truth::no_route(&self.waypost, &self.apps, prefixes)?);
                let trace = Trace::start(&self.world)?;
                for to in MORE.machine(1, 4)? {
                    let way = trace.ends(&self.site.host, to, &["site"])?;
                    seen.push(format!("office → {to}: {way}"));
                    let way = trace.dropped(&self.waypost, &self.vm1.host, to, "discard")?;
                    seen.push(format!("vm1 → {to}: {way}"));
                }
                seen.push(self.undisturbed(traffic, &sessions)?);
                Ok(seen.join("\n"))
            },
        );
    }
}
