//! Topology 11: a route server is added to a live network, and removed from it.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use ipnet::IpNet;

use crate::{
    daemon::{Bird, Daemon, Options, Policy},
    lab::{Lab, host::family_flag},
    network::Vm,
    overview::{CONVERGENCE, narrator::Narrator},
    topology::{
        Appliance, Kept, RouteServer, Site, Story, Subnet, World,
        failover::{LINK_DOWN, Traffic},
        plan::default_routes,
        trace::Trace,
        truth,
    },
    until,
    waypost::{Config, Waypost},
};

/// A route server comes and goes.
pub const STORY: Story = Story {
    number: 11,
    name: "route-server-added-and-removed",
    about: "A network works by its uplink alone; a route server is added to it and removed again, and \
            nobody loses a packet.",
    drawing: "                 ┌── fw (uplink) ──┐
  vm1, vm2 ── gw ┤                 ├── site ── office 198.51.100.10
                 └── sdwan 65010 ──┘   65011",
    tell,
};

/// A network of the site: a public one, since an uplink leads to no private one.
const SERVICE: [&str; 2] = ["198.51.100.0/24", "2001:db8:100::/48"];
const OFFICE: [&str; 2] = ["198.51.100.10", "2001:db8:100::10"];
const SDWAN: u32 = 65010;
const SITE: u32 = 65011;
const FIREWALL: u32 = 65020;
const PEERS: [&str; 2] = ["sdwan", "fw"];
const UPLINK_WAY: [&str; 2] = ["fw", "site"];
const LEARNED_WAY: [&str; 2] = ["sdwan", "site"];

struct Stage {
    with: Config,
    without: Config,
    hub: [IpNet; 2],
    apps: Subnet,
    server: RouteServer,
    vm1: Vm,
    vm2: Vm,
    sdwan: Appliance,
    site: Site,
    waypost: Waypost,
    bird: Bird,
    _stand_by: Bird,
    _router: Bird,
    trace: Trace,
}

fn tell(lab: &Lab, narrator: &mut Narrator) -> Result<Kept> {
    let mut stage = Stage::set(lab)?;
    stage.without(narrator);
    stage.added(narrator);
    stage.session_drops(narrator);
    stage.appliance_dies(narrator);
    stage.removed(narrator);
    Ok(Box::new(stage))
}

impl Stage {
    fn set(lab: &Lab) -> Result<Self> {
        let mut world = World::new(lab)?;
        let hub = world.network("hub", 1)?;
        let prefixes = hub.space.prefixes()?;
        let server = world.route_server(&hub, "rs1")?;
        let apps = world.subnet(&hub, "apps", 1)?;
        let data = world.subnet(&hub, "data", 2)?;
        let nva = world.subnet(&hub, "nva", 10)?;
        let vm1 = world.vm(&apps, 4, "vm1")?;
        let vm2 = world.vm(&data, 4, "vm2")?;
        let sdwan = world.appliance(&nva, 4, "sdwan", &[&server])?;
        let fw = world.appliance(&nva, 5, "fw", &[&server])?;
        let site = world.site("site", "office", 250, &[&sdwan, &fw])?;
        // The firewall is the way to everything, and back.
        fw.knows(prefixes)?;
        world.vnet(&hub)?.uplink = fw.addresses().to_vec();
        let service = service()?;
        let inside = site.addresses()?.into_iter().zip(office()?);
        for (prefix, (via, address)) in service.into_iter().zip(inside) {
            site.host.address("lo", address.into())?;
            site.router.route(prefix, via, "lan")?;
        }
        let ways = default_routes()?.into_iter().zip(site.sessions("fw"));
        for (prefix, (any, [near, far])) in service.into_iter().zip(ways) {
            fw.host().route(prefix, far, "site")?;
            site.router.route(any, near, "fw")?;
        }
        // Like every machine of a network the SD-WAN can reach that network; what it hears about it
        // comes before that.
        sdwan.knows(prefixes)?;
        world.peer(&server, &sdwan, SDWAN)?;
        world.peer(&server, &fw, FIREWALL)?;
        let with = world.config.clone();
        let mut without = with.clone();
        without.route_server.clear();
        let waypost = Waypost::start(&world.gw, without.clone())?;
        let mut speaker = site.speaker(SITE, &[(&sdwan, SDWAN)], None)?;
        speaker.announce = service.to_vec();
        let router = Bird::start(&site.router, speaker)?;
        let mut speaker = fw.speaker(FIREWALL)?;
        speaker.announce = service.to_vec();
        // It is reached without what it would hear.
        speaker.install = false;
        fw.set_policy(&mut speaker, &server, &Policy::prepended(3));
        let stand_by = Bird::start(fw.host(), speaker)?;
        let bird = Bird::start(sdwan.host(), sdwan.speaker_with(SDWAN, &site, SITE)?)?;
        Ok(Self {
            trace: Trace::start(&world)?,
            with,
            without,
            hub: prefixes,
            apps,
            server,
            vm1,
            vm2,
            sdwan,
            site,
            waypost,
            bird,
            _stand_by: stand_by,
            _router: router,
        })
    }

    /// Traffic of vm1 to the office, and of vm2 to vm1.
    fn traffic(&self) -> Result<[Traffic; 2]> {
        let office = (&self.site.host, office()?);
        let (vm1, vm2) = (&self.vm1, &self.vm2);
        let inside = (&vm1.host, vm1.addresses);
        Ok([
            Traffic::start((&vm1.host, vm1.addresses), office, 8)?,
            Traffic::start((&vm2.host, vm2.addresses), inside, 8)?,
        ])
    }

    fn lost_nothing(traffic: [Traffic; 2]) -> Result<String> {
        let [office, inside] = traffic;
        for traffic in [&office, &inside] {
            traffic.flows_on("packets flow after the change")?;
        }
        Ok(format!(
            "vm1 to the office: {}\nvm2 to vm1: {}",
            office.lost_nothing()?,
            inside.lost_nothing()?
        ))
    }

    fn goes(&self, through: [&str; 2]) -> Result<String> {
        let mut seen = Vec::new();
        for to in office()? {
            let office = (&self.site.host, to);
            let way = self.trace.symmetric(&self.vm1.host, office, &through)?;
            seen.push(format!("vm1 → {to}: {way}"));
        }
        for to in self.vm2.addresses {
            let way = self
                .trace
                .symmetric(&self.vm1.host, (&self.vm2.host, to), &[])?;
            seen.push(format!("vm1 → {to}: {way}"));
        }
        Ok(seen.join("\n"))
    }

    fn without(&self, narrator: &mut Narrator) {
        narrator.step(
            "A network without a route server",
            "vm1 reaches the office by the uplink, and vm2 directly; answers come the same way",
            || self.goes(UPLINK_WAY),
        );
    }

    fn added(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "A route server is added",
            "the SD-WAN learns the network, subnet apps has the site by the SD-WAN, packets follow, both \
             ways;\nnobody loses one",
            || {
                let traffic = self.traffic()?;
                self.waypost.reload(self.with.clone())?;
                self.waypost.established(&PEERS)?;
                let mut seen = vec![
                    truth::learns_network(&self.bird, &self.server, self.hub, "65515")?,
                    self.by_sdwan()?,
                    self.goes(LEARNED_WAY)?,
                ];
                seen.push(Self::lost_nothing(traffic)?);
                Ok(seen.join("\n"))
            },
        );
    }

    fn by_sdwan(&self) -> Result<String> {
        let hops = [self.sdwan.addresses()];
        truth::effective(&self.waypost, &self.apps, service()?, &hops)
    }

    fn session_drops(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "The SD-WAN's BGP daemon dies while the machine forwards",
            "graceful restart: nobody loses a packet, also when it comes back",
            || {
                let traffic = self.traffic()?;
                self.bird.process().kill()?;
                for traffic in &traffic {
                    traffic.flows_on("packets flow without the daemon")?;
                }
                let mut speaker = self.sdwan.speaker_with(SDWAN, &self.site, SITE)?;
                speaker.options = Options {
                    restarting: true,
                    ..speaker.options
                };
                self.bird = Bird::start(self.sdwan.host(), speaker)?;
                self.waypost.established(&PEERS)?;
                self.goes(LEARNED_WAY)?;
                Self::lost_nothing(traffic)
            },
        );
    }

    fn appliance_dies(&self, narrator: &mut Narrator) {
        narrator.step(
            "The SD-WAN's port loses the carrier, and gets it back",
            "packets take the firewall, which announces the same by a longer path, within 50 ms; then the \
             SD-WAN\nagain; vm2 and vm1 notice nothing (the site answers by the firewall meanwhile)",
            || {
                let [outside, inside] = self.traffic()?;
                let mut seen = Vec::new();
                let trace = |through: [&str; 2]| -> Result<String> {
                    let mut seen = Vec::new();
                    let there = [through[0], through[1], "office"];
                    for to in office()? {
                        let back = ["site", "fw", "vm1"];
                        let way = self.trace.goes(&self.vm1.host, to, &there, &back)?;
                        seen.push(format!("vm1 → {to}: {way}"));
                    }
                    Ok(seen.join("\n"))
                };
                self.answer_by_firewall("replace")?;
                self.sdwan.unplug()?;
                seen.push(trace(UPLINK_WAY)?);
                self.sdwan.plug()?;
                seen.push(trace(LEARNED_WAY)?);
                outside.flows_on("packets flow")?;
                seen.push(format!("vm1 to the office: {}", outside.within(LINK_DOWN)?));
                seen.push(format!("vm2 to vm1: {}", inside.lost_nothing()?));
                self.answer_by_firewall("delete")?;
                self.goes(LEARNED_WAY)?;
                Ok(seen.join("\n"))
            },
        );
    }

    /// Adds, or takes away, a more specific route of the site back to the network.
    fn answer_by_firewall(&self, verb: &str) -> Result<()> {
        for (prefix, [near, _]) in self.hub.into_iter().zip(self.site.sessions("fw")) {
            let half = IpNet::new(prefix.addr(), prefix.prefix_len() + 1)?;
            let family = family_flag(near);
            self.site.router.run(&format!(
                "ip {family} route {verb} {half} via {near} dev fw"
            ))?;
        }
        Ok(())
    }

    fn removed(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "The route server is removed",
            "its sessions end and the SD-WAN forgets the network; packets take the uplink again; nobody \
             loses one",
            || {
                let traffic = self.traffic()?;
                self.waypost.reload(self.without.clone())?;
                let instances: Vec<IpAddr> = self.server.addresses().to_vec();
                until("the SD-WAN's sessions are down", CONVERGENCE, || {
                    let sessions = self.bird.sessions()?;
                    let up = |instance: &IpAddr| {
                        let state = sessions.get(instance);
                        state.is_some_and(|state| state == "established")
                    };
                    ensure!(!instances.iter().any(up), "{sessions:?}");
                    Ok(())
                })?;
                let mut seen = vec![
                    truth::lacks(&self.bird, &self.server, self.hub)?,
                    truth::no_learned(&self.waypost, &self.apps, service()?)?,
                    self.goes(UPLINK_WAY)?,
                ];
                seen.push(Self::lost_nothing(traffic)?);
                Ok(seen.join("\n"))
            },
        );
    }
}

fn service() -> Result<[IpNet; 2]> {
    let [ipv4, ipv6] = SERVICE;
    Ok([ipv4.parse()?, ipv6.parse()?])
}

fn office() -> Result<[IpAddr; 2]> {
    let [ipv4, ipv6] = OFFICE;
    Ok([ipv4.parse()?, ipv6.parse()?])
}
