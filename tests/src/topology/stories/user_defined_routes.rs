//! Topology 10: user-defined routes beat learned ones, the network's own space beats more specific
//! learned routes, and a subnet may refuse learned routes.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use ipnet::IpNet;

use crate::{
    daemon::{Bird, Daemon},
    lab::Lab,
    network::Vm,
    overview::narrator::Narrator,
    topology::{
        Appliance, Kept, RouteServer, Site, Story, Subnet, World,
        failover::{SILENT_DEATH, Traffic, judged},
        trace::Trace,
        truth,
    },
    until,
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
/// Within this a change of the file is done, from the call of `waypost reload` on.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long packets are dropped before it.
const BEFORE: Duration = Duration::from_millis(50);
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
    stage.firewall_falls_silent(narrator);
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
                let (apps, fw) = (&self.apps, [self.fw.addresses()]);
                let mut seen = vec![
                    truth::effective_from(&self.waypost, apps, "user_defined", site, &fw)?,
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
                    seen.push(truth::invalid(
                        &self.waypost,
                        subnet,
                        half,
                        "learned",
                        "the virtual network's own space",
                    )?);
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
                    let (waypost, data) = (&self.waypost, &self.data);
                    seen.push(truth::no_learned(waypost, data, site)?);
                    let why = "propagate_routes";
                    seen.push(truth::invalid(waypost, data, site, "learned", why)?);
                    for to in self.site.addresses()? {
                        let vm2 = &self.vm2.host;
                        let way = self.trace.dropped(waypost, vm2, to, "discard")?;
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

    fn firewall_falls_silent(&self, narrator: &mut Narrator) {
        narrator.step(
            "The firewall falls silent, its port up; then it speaks again",
            "nobody has a session with it, but probes find out: within 3 s vm1's packets are counted as \
             dropped;\nthen they go through the firewall again; vm2 notices nothing",
            || {
                let [first, second] = self.both()?;
                let before = self.waypost.counted("vm1", "next_hop_down")?;
                let failed = self.fw.silent()?;
                let silent = Instant::now();
                until("packets are counted as next_hop_down", SILENT_DEATH, || {
                    let counted = self.waypost.counted("vm1", "next_hop_down")? - before;
                    ensure!(counted > 0, "none is");
                    Ok(())
                })?;
                let after = silent.elapsed();
                failed.mend()?;
                first.flows_on("packets flow by the firewall")?;
                Ok([
                    format!("vm1's port counts next_hop_down after {after:.1?}"),
                    self.goes(&self.vm1, "fw")?,
                    format!("vm2: {}", second.lost_nothing()?),
                ]
                .join("\n"))
            },
        );
    }

    fn firewall_dies(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "The firewall dies: its port loses the carrier",
            "a user-defined route stands in for nothing: vm1's packets are dropped and counted until the \
             route\ntable is taken away, then they follow BGP, within a second; vm2 notices nothing",
            || {
                judged(|| {
                    self.through_firewall()?;
                    self.reload()?;
                    self.goes(&self.vm1, "fw")?;
                    let second = self.traffic(&self.vm2)?;
                    let fw = self.fw.clone();
                    let failed = fw.unplugged()?;
                    let mut seen = Vec::new();
                    for to in self.site.addresses()? {
                        let (waypost, vm1) = (&self.waypost, &self.vm1.host);
                        let way = self.trace.dropped(waypost, vm1, to, "next_hop_down")?;
                        seen.push(format!("vm1 → {to}: {way}"));
                    }
                    self.world.no_route_table(&self.apps)?;
                    let loss = self.reload_under_traffic()?;
                    seen.push(self.goes(&self.vm1, "sdwan")?);
                    seen.push(format!("vm1, from the reload on: {loss}"));
                    seen.push(format!("vm2: {}", second.lost_nothing()?));
                    failed.mend()?;
                    Ok(seen.join("\n"))
                })
            },
        );
    }

    /// Reloads just after traffic of vm1 has begun, which does not flow yet, and demands that it does
    /// at once.
    fn reload_under_traffic(&mut self) -> Result<String> {
        let far = (&self.site.host, self.site.addresses()?);
        let near = (&self.vm1.host, self.vm1.addresses);
        let (waypost, config) = (&mut self.waypost, self.world.config.clone());
        let traffic = thread::scope(|scope| {
            let starting = scope.spawn(|| Traffic::start(near, far, 8));
            thread::sleep(BEFORE);
            let reloaded = waypost.reload(config);
            let traffic = starting.join();
            reloaded?;
            traffic.map_err(|_| anyhow!("the starting thread panicked"))?
        });
        traffic
            .context("packets follow BGP")?
            .within(BEFORE + AT_ONCE)
    }

    fn session_drops(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "The SD-WAN's BGP daemon dies while the machine forwards",
            "graceful restart: its routes are kept as stale until it is back; neither machine loses a packet",
            || {
                let traffic = self.both()?;
                self.sdwan.process().kill()?;
                let mut seen = vec![self.waypost.keeps("sdwan", 2, false)?];
                for traffic in &traffic {
                    traffic.flows_on("packets flow without the daemon")?;
                }
                for vm in [&self.vm1, &self.vm2] {
                    seen.push(self.goes(vm, "sdwan")?);
                }
                let mut speaker = self.appliance.speaker_with(SDWAN, &self.site, SITE)?;
                speaker.options.restarting = true;
                self.sdwan = Bird::start(self.appliance.host(), speaker)?;
                self.waypost.established(&["sdwan"])?;
                self.waypost.keeps_nothing()?;
                for traffic in traffic {
                    traffic.flows_on("packets flow with the daemon")?;
                    seen.push(traffic.lost_nothing()?);
                }
                Ok(seen.join("\n"))
            },
        );
    }
}
