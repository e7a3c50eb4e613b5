//! Topology 3: the network's address space changes while everything runs.

use std::collections::BTreeMap;

use anyhow::Result;
use ipnet::IpNet;

use crate::{
    daemon::{Bird, Daemon, Frr},
    lab::Lab,
    network::Vm,
    overview::{CONVERGENCE, narrator::Narrator},
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
}

fn tell(lab: &Lab, narrator: &mut Narrator) -> Result<Kept> {
    let mut stage = Stage::set(lab)?;
    stage.routes(narrator);
    let with = stage.added(narrator);
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
        })
    }

    /// Every party has the network's prefixes: both appliances from both instances, and the routers
    /// behind them.
    fn everyone_has(&self, prefixes: [IpNet; 2]) -> Result<String> {
        let daemons: [&dyn Daemon; 2] = [&self.sdwan, &self.firewall];
        let mut seen = Vec::new();
        for daemon in daemons {
            seen.push(truth::learns_network(
                daemon,
                &self.server,
                prefixes,
                "65515",
            )?);
        }
        let paths = ["65010 65515", "65020 65515"];
        let sites = [(&self.site, "sdwan"), (&self.partner, "fw")];
        for ((router, (site, front)), path) in self.routers.iter().zip(sites).zip(paths) {
            seen.push(truth::passed_on(router, site, front, prefixes, path)?);
        }
        Ok(seen.join("\n"))
    }

    fn routes(&self, narrator: &mut Narrator) {
        narrator.step(
            "Routes of every party, and the paths of packets",
            "appliances and the routers behind them have 10.1.0.0/16 and fd00:1::/48; vm1 reaches the \
             office\nthrough the SD-WAN and the partner through the firewall, answers come the same way",
            || {
                let mut seen = vec![self.everyone_has(self.hub.space.prefixes()?)?];
                let trace = Trace::start(&self.world)?;
                let ways = [
                    (&self.site, ["sdwan", "site"], self.appliance.addresses()),
                    (
                        &self.partner,
                        ["fw", "partner"],
                        self.hub.space.machine(10, 5)?,
                    ),
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
                let mut seen = vec![self.everyone_has(prefixes)?];
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

    fn flaps(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "A prefix of the site flaps ten times",
            "10.251.0.0/16 and fd00:251::/48 come and go at the firewall; in the end they are there; \
             traffic to\nthe office, beside them, loses nothing",
            || {
                let (traffic, sessions) = self.watch()?;
                let prefixes = FLAPPING.prefixes()?;
                let seen_by = self.server.addresses()[0];
                for _ in 0..FLAPS {
                    self.routers[0].announce_all(&prefixes)?;
                    self.firewall.learns(prefixes[0], seen_by, CONVERGENCE)?;
                    self.routers[0].withdraw_all(&prefixes)?;
                    self.firewall.loses(prefixes[0], seen_by, CONVERGENCE)?;
                }
                self.routers[0].announce_all(&prefixes)?;
                let hops = self.appliance.addresses();
                let mut seen = vec![truth::learns_of(
                    &self.firewall,
                    &self.server,
                    prefixes,
                    "65515 65010 65011",
                    hops,
                )?];
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
            "they go from both appliances and from the routers behind them; no session is reset, no \
             packet of\nvm1 is lost",
            || {
                let (traffic, sessions) = self.watch()?;
                let prefixes = MORE.prefixes()?;
                let section = self.world.vnet(&self.hub)?;
                section.prefixes.retain(|prefix| !prefixes.contains(prefix));
                section.subnet.retain(|subnet| subnet.name != "more");
                self.waypost.reload(self.world.config.clone())?;
                let daemons: [&dyn Daemon; 2] = [&self.sdwan, &self.firewall];
                let mut seen = Vec::new();
                for daemon in daemons {
                    seen.push(truth::lacks(daemon, &self.server, prefixes)?);
                }
                let sites = [(&self.site, "sdwan"), (&self.partner, "fw")];
                for (router, (site, front)) in self.routers.iter().zip(sites) {
                    seen.push(truth::not_passed_on(router, site, front, prefixes)?);
                }
                seen.push(self.undisturbed(traffic, &sessions)?);
                Ok(seen.join("\n"))
            },
        );
    }
}
