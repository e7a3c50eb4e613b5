//! Topology 10: user-defined routes beat learned ones, the network's own space beats more specific
//! learned routes, and a subnet may refuse learned routes.

use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;

use crate::{
    daemon::{Bird, Daemon},
    lab::Lab,
    network::Vm,
    overview::narrator::Narrator,
    topology::{
        Appliance, Kept, RouteServer, Site, Story, Subnet, World, failover::Traffic, trace::Trace,
        truth,
    },
    waypost::Waypost,
};

/// Route tables.
pub const STORY: Story = Story {
    number: 10,
    name: "user-defined-routes",
    about: "A user-defined route sends one subnet through the firewall while another follows BGP; the \
            network's own space is never learned away; a subnet may keep learned routes out.",
    drawing: "  vm1 (apps) ──┐        ┌── sdwan 65010 ──┐
               ├── gw ──┤                 ├── site ── office 10.250.0.10
  vm2 (data) ──┘        └── fw ───────────┘   65011",
    tell,
};

const SDWAN: u32 = 65010;
const SITE: u32 = 65011;
/// Half of the subnet that vm2 lives in.
const HALF: [&str; 2] = ["10.1.2.0/25", "fd00:1:0:2::/65"];

struct Stage<'a> {
    world: World<'a>,
    server: RouteServer,
    apps: Subnet,
    data: Subnet,
    vm1: Vm,
    vm2: Vm,
    appliance: Appliance,
    fw: Appliance,
    site: Site,
    waypost: Waypost,
    sdwan: Bird,
    router: Bird,
    trace: Trace,
}

fn tell(lab: &Lab, narrator: &mut Narrator) -> Result<Kept> {
    let mut stage = Stage::set(lab)?;
    stage.learned(narrator);
    stage.user_defined(narrator);
    stage.own_space(narrator);
    stage.propagation(narrator);
    stage.firewall_dies(narrator);
    stage.session_drops(narrator);
    let Stage {
        waypost,
        sdwan,
        router,
        ..
    } = stage;
    Ok(Box::new((waypost, sdwan, router)))
}

impl<'a> Stage<'a> {
    fn set(lab: &'a Lab) -> Result<Self> {
        let mut world = World::new(lab)?;
        let hub = world.network("hub", 1)?;
        let server = world.route_server(&hub, "rs1")?;
        let apps = world.subnet(&hub, "apps", 1)?;
        let data = world.subnet(&hub, "data", 2)?;
        let nva = world.subnet(&hub, "nva", 10)?;
        let vm1 = world.vm(&apps, 4, "vm1")?;
        let vm2 = world.vm(&data, 4, "vm2")?;
        let sdwan = world.appliance(&nva, 4, "sdwan", &[&server])?;
        let fw = world.appliance(&nva, 5, "fw", &[])?;
        let site = world.site("site", "office", 250, &[&sdwan, &fw])?;
        world.peer(&server, &sdwan, SDWAN)?;
        // The firewall speaks no BGP.
        for (prefix, [_, far]) in site.space.prefixes()?.into_iter().zip(site.sessions("fw")) {
            fw.host().route(prefix, far, "site")?;
        }
        let waypost = Waypost::start(&world.gw, world.config.clone())?;
        let speaker = site.speaker(SITE, &[(&sdwan, SDWAN)], None)?;
        let router = Bird::start(&site.router, speaker)?;
        let bird = Bird::start(sdwan.host(), sdwan.speaker_with(SDWAN, &site, SITE)?)?;
        waypost.established(&["sdwan"])?;
        Ok(Self {
            trace: Trace::start(&world)?,
            world,
            server,
            apps,
            data,
            vm1,
            vm2,
            appliance: sdwan,
            fw,
            site,
            waypost,
            sdwan: bird,
            router,
        })
    }

    /// A machine's packets to the office take this appliance; answers come by the SD-WAN.
    fn goes(&self, vm: &Vm, appliance: &str) -> Result<String> {
        let mut seen = Vec::new();
        for to in self.site.addresses()? {
            let there = [appliance, "site", "office"];
            let back = ["site", "sdwan", vm.host.name()];
            let way = self.trace.goes(&vm.host, to, &there, &back)?;
            seen.push(format!("{} → {to}: {way}", vm.host));
        }
        Ok(seen.join("\n"))
    }

    fn active(&self, subnet: &Subnet, next_hop: [IpAddr; 2]) -> Result<String> {
        let site = self.site.space.prefixes()?;
        truth::effective(&self.waypost, subnet, site, &[next_hop])
    }

    fn reload(&mut self) -> Result<()> {
        self.waypost.reload(self.world.config.clone())?;
        Ok(())
    }

    fn learned(&self, narrator: &mut Narrator) {
        narrator.step(
            "Routes of every party, without route tables",
            "the SD-WAN and the site's router have the network; both subnets have the site by the SD-WAN, \
             and\npackets go that way",
            || {
                let hub = self.apps.network.space.prefixes()?;
                let path = "65010 65515";
                Ok([
                    truth::learns_network(&self.sdwan, &self.server, hub, "65515")?,
                    truth::passed_on(&self.router, &self.site, "sdwan", hub, path)?,
                    self.active(&self.apps, self.appliance.addresses())?,
                    self.active(&self.data, self.appliance.addresses())?,
                    self.goes(&self.vm1, "sdwan")?,
                    self.goes(&self.vm2, "sdwan")?,
                ]
                .join("\n"))
            },
        );
    }

    /// Gives subnet apps a route to the site through the firewall.
    fn through_firewall(&mut self) -> Result<()> {
        let site = self.site.space.prefixes()?.into_iter();
        let routes: Vec<_> = site
            .zip(self.fw.addresses())
            .map(|(prefix, hop)| (prefix, "virtual_appliance", Some(hop)))
            .collect();
        self.world.route_table(&self.apps, true, &routes)
    }

    fn user_defined(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "A user-defined route for the site on subnet apps",
            "it beats the learned one of the same prefix, which is shown as Invalid with the reason: vm1 \
             goes\nthrough the firewall, vm2 still through the SD-WAN; nobody loses a packet",
            || {
                let traffic = self.both()?;
                self.through_firewall()?;
                self.reload()?;
                let site = self.site.space.prefixes()?;
                let mut seen = vec![
                    self.active(&self.apps, self.fw.addresses())?,
                    truth::invalid(&self.waypost, &self.apps, site, "learned", "user-defined")?,
                    self.active(&self.data, self.appliance.addresses())?,
                    truth::explained(
                        &self.waypost,
                        &self.apps,
                        self.site.addresses()?,
                        &["fw"],
                    )?,
                    self.goes(&self.vm1, "fw")?,
                    self.goes(&self.vm2, "sdwan")?,
                ];
                for traffic in traffic {
                    seen.push(traffic.lost_nothing()?);
                }
                Ok(seen.join("\n"))
            },
        );
    }

    /// Traffic of both machines to the office.
    fn both(&self) -> Result<[Traffic; 2]> {
        Ok([self.traffic(&self.vm1)?, self.traffic(&self.vm2)?])
    }

    fn traffic(&self, vm: &Vm) -> Result<Traffic> {
        // Two echoes cannot share an address: each machine has its own far end.
        let far = if vm.host.name() == "vm1" {
            (&self.site.host, self.site.addresses()?)
        } else {
            (&self.site.router, self.site.space.machine(0, 1)?)
        };
        Traffic::start((&vm.host, vm.addresses), far, 8)
    }

    fn own_space(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "The SD-WAN announces half of subnet data",
            "the network's own space beats the more specific route, which is shown as Invalid with the \
             reason:\nvm1 still reaches vm2 directly",
            || {
                let [ipv4, ipv6] = HALF;
                let half: [IpNet; 2] = [ipv4.parse()?, ipv6.parse()?];
                self.sdwan.announce_all(&half)?;
                let mut seen = Vec::new();
                for subnet in [&self.apps, &self.data] {
                    seen.push(truth::invalid(&self.waypost, subnet, half, "learned", "")?);
                }
                for to in self.vm2.addresses {
                    let vm2 = (&self.vm2.host, to);
                    let way = self.trace.symmetric(&self.vm1.host, vm2, &[])?;
                    seen.push(format!("vm1 → {to}: {way}"));
                }
                self.sdwan.withdraw_all(&half)?;
                Ok(seen.join("\n"))
            },
        );
    }

    fn propagation(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "Subnet data refuses learned routes, then all but those of NVAs",
            "without propagation vm2 does not reach the office; with propagation from ExpressRoute alone \
             neither;\nwith propagation from NVAs it does again",
            || {
                let site = self.site.space.prefixes()?;
                let mut seen = Vec::new();
                let express_route = toml::Value::from(vec!["express_route"]);
                for propagate in [toml::Value::from(false), express_route] {
                    seen.push(format!("propagate_routes = {propagate}"));
                    self.world.route_table(&self.data, propagate, &[])?;
                    self.reload()?;
                    seen.push(truth::no_learned(&self.waypost, &self.data, site)?);
                    for to in self.site.addresses()? {
                        let way = self.trace.ends(&self.vm2.host, to, &[])?;
                        seen.push(format!("vm2 → {to}: {way}"));
                    }
                }
                let nva = toml::Value::from(vec!["nva"]);
                seen.push(format!("propagate_routes = {nva}"));
                self.world.route_table(&self.data, nva, &[])?;
                self.reload()?;
                seen.push(self.active(&self.data, self.appliance.addresses())?);
                seen.push(self.goes(&self.vm2, "sdwan")?);
                Ok(seen.join("\n"))
            },
        );
    }

    fn firewall_dies(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "The firewall dies: its port loses the carrier",
            "a user-defined route stands in for nothing: vm1's packets are dropped and counted until the \
             route\ntable is taken away, then they follow BGP; vm2 notices nothing",
            || {
                let [first, second] = self.both()?;
                let before = self.waypost.counted("vm1", "next_hop_down")?;
                self.fw.unplug()?;
                let mut seen = Vec::new();
                for to in self.site.addresses()? {
                    let way = self.trace.ends(&self.vm1.host, to, &[])?;
                    seen.push(format!("vm1 → {to}: {way}"));
                }
                let counted = self.waypost.counted("vm1", "next_hop_down")? - before;
                anyhow::ensure!(counted > 0, "nothing was counted as next_hop_down");
                seen.push(format!("vm1's port counts {counted} packets as next_hop_down"));
                self.world.no_route_table(&self.apps)?;
                self.reload()?;
                seen.push(self.goes(&self.vm1, "sdwan")?);
                first.flows_on("packets follow BGP")?;
                seen.push(format!("vm1: {}", first.within(crate::overview::CONVERGENCE)?));
                seen.push(format!("vm2: {}", second.lost_nothing()?));
                self.fw.plug()?;
                Ok(seen.join("\n"))
            },
        );
    }

    fn session_drops(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "The SD-WAN's BGP daemon dies while the machine forwards",
            "graceful restart: neither machine loses a packet",
            || {
                let traffic = self.both()?;
                self.sdwan.process().kill()?;
                for traffic in &traffic {
                    traffic.flows_on("packets flow without the daemon")?;
                }
                let mut speaker = self.appliance.speaker_with(SDWAN, &self.site, SITE)?;
                speaker.options.restarting = true;
                self.sdwan = Bird::start(self.appliance.host(), speaker)?;
                self.waypost.established(&["sdwan"])?;
                let mut seen = Vec::new();
                for traffic in traffic {
                    traffic.flows_on("packets flow with the daemon")?;
                    seen.push(traffic.lost_nothing()?);
                }
                Ok(seen.join("\n"))
            },
        );
    }
}
