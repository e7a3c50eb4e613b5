//! Topology 11: a route server is added to a live network, and removed from it.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use ipnet::IpNet;

use crate::{
    daemon::{Bird, Daemon, Options, Policy, as_text},
    lab::{Lab, host::family_flag},
    network::Vm,
    overview::{CONVERGENCE, narrator::Narrator},
    topology::{
        Appliance, Kept, RouteServer, Site, Story, Subnet, World,
        failover::{LINK_DOWN, SILENT_DEATH, Traffic, judged},
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
/// Seconds until the session with an SD-WAN that hangs is given up.
const HOLD_TIME: i64 = 6;
/// At the least, counted from when it begins to hang: its last KEEPALIVE came a third of the hold time
/// before.
const HELD: Duration = Duration::from_secs(3);
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
    fw: Appliance,
    site: Site,
    waypost: Waypost,
    bird: Bird,
    stand_by: Bird,
    router: Bird,
    trace: Trace,
}

fn tell(lab: &Lab, narrator: &mut Narrator) -> Result<Kept> {
    let mut stage = Stage::set(lab)?;
    stage.without(narrator);
    stage.added(narrator);
    stage.session_drops(narrator);
    stage.daemon_hangs(narrator);
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
        let peers = &mut world.server(&server)?.peer;
        peers[0] = peers[0].clone().set("hold_time", HOLD_TIME);
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
            fw,
            site,
            waypost,
            bird,
            stand_by,
            router,
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
            "vm1 reaches the office by the uplink, and vm2 directly; answers come the same way; the site's \
             router\nhas nothing of the network from the SD-WAN",
            || {
                let told = truth::exactly_passed_on(&self.router, &self.site, "sdwan", &[])?;
                Ok(format!("{}\n{told}", self.goes(UPLINK_WAY)?))
            },
        );
    }

    fn added(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "A route server is added",
            "the SD-WAN and the firewall learn the network and each other's way to the site, the site's \
             router the\nnetwork, subnet apps the site by the SD-WAN; packets follow, both ways; nobody \
             loses one",
            || {
                let traffic = self.traffic()?;
                self.waypost.reload(self.with.clone())?;
                self.waypost.established(&PEERS)?;
                let (server, service) = (&self.server, service()?);
                let own = [(self.hub, "65515")];
                let by_fw = (service, "65515 65020 65020 65020 65020", self.fw.addresses());
                let by_sdwan = (service, "65515 65010 65011", self.sdwan.addresses());
                let mut seen = vec![
                    truth::exactly_of(&self.bird, server, &own, &[by_fw])?,
                    truth::exactly_of(&self.stand_by, server, &own, &[by_sdwan])?,
                    truth::passed_on(&self.router, &self.site, "sdwan", self.hub, "65010 65515")?,
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
            "graceful restart: its routes are kept as stale, packets take the same way; nobody loses one, \
             also when\nit comes back",
            || {
                let traffic = self.traffic()?;
                self.bird.process().kill()?;
                let kept = self.waypost.keeps("sdwan", 2, false)?;
                let way = self.goes(LEARNED_WAY)?;
                let mut speaker = self.sdwan.speaker_with(SDWAN, &self.site, SITE)?;
                speaker.options = Options {
                    restarting: true,
                    ..speaker.options
                };
                self.bird = Bird::start(self.sdwan.host(), speaker)?;
                self.waypost.established(&PEERS)?;
                self.waypost.keeps_nothing()?;
                self.goes(LEARNED_WAY)?;
                Ok(format!("{kept}\n{way}\n{}", Self::lost_nothing(traffic)?))
            },
        );
    }

    fn daemon_hangs(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "The SD-WAN's BGP daemon hangs while the machine forwards; then it goes on",
            "its hold timer runs out; since BIRD keeps no routes after a NOTIFICATION (RFC 8538), nor are \
             its own\nkept: packets take the firewall, then the SD-WAN again; nobody loses one (the site \
             answers by the\nfirewall meanwhile)",
            || {
                let traffic = self.traffic()?;
                self.answer_by_firewall("replace")?;
                self.bird.process().signal(libc::SIGSTOP)?;
                let hung = Instant::now();
                let mut seen = vec![self.leads(UPLINK_WAY)?];
                let after = hung.elapsed();
                ensure!(after > HELD, "already after {after:?}");
                for row in self.waypost.rows("peers --peer sdwan")? {
                    let error = row["last_error"].to_string().to_lowercase();
                    ensure!(error.contains("hold timer expired"), "{row}");
                }
                self.bird.process().signal(libc::SIGCONT)?;
                self.waypost.established(&PEERS)?;
                seen.push(self.leads(LEARNED_WAY)?);
                self.answer_by_firewall("delete")?;
                self.goes(LEARNED_WAY)?;
                seen.push(Self::lost_nothing(traffic)?);
                Ok(seen.join("\n"))
            },
        );
    }

    /// vm1 reaches the office by these, which answers by the firewall.
    fn leads(&self, [appliance, site]: [&str; 2]) -> Result<String> {
        let mut seen = Vec::new();
        for to in office()? {
            let there = [appliance, site, "office"];
            let back = ["site", "fw", "vm1"];
            let way = self.trace.goes(&self.vm1.host, to, &there, &back)?;
            seen.push(format!("vm1 → {to}: {way}"));
        }
        Ok(seen.join("\n"))
    }

    fn appliance_dies(&self, narrator: &mut Narrator) {
        narrator.step(
            "The SD-WAN's port loses the carrier, and gets it back",
            "packets take the firewall, which announces the same by a longer path, within 50 ms; then the \
             SD-WAN\nagain; vm2 and vm1 notice nothing (the site answers by the firewall meanwhile)",
            || {
                self.answer_by_firewall("replace")?;
                judged(|| {
                    let [outside, inside] = self.traffic()?;
                    let failed = outside.fails(|| self.sdwan.unplugged())?;
                    let mut seen = vec![self.leads(UPLINK_WAY)?];
                    failed.mend()?;
                    seen.push(self.leads(LEARNED_WAY)?);
                    outside.flows_on("packets flow")?;
                    seen.push(format!("vm1 to the office: {}", outside.within(LINK_DOWN)?));
                    seen.push(format!("vm2 to vm1: {}", inside.lost_nothing()?));
                    Ok(seen.join("\n"))
                })
            },
        );
        narrator.step(
            "The SD-WAN falls silent, its port up; then it speaks again",
            "probes find out: packets take the firewall within 3 s; then the SD-WAN again; vm2 and vm1 notice \
             nothing",
            || {
                let told = judged(|| {
                    let [outside, inside] = self.traffic()?;
                    let failed = outside.fails(|| self.sdwan.silent())?;
                    let mut seen = vec![self.leads(UPLINK_WAY)?];
                    seen.push(format!("vm1 to the office: {}", outside.within(SILENT_DEATH)?));
                    failed.mend()?;
                    self.sdwan.knows(self.hub)?;
                    seen.push(self.leads(LEARNED_WAY)?);
                    seen.push(format!("vm2 to vm1: {}", inside.lost_nothing()?));
                    Ok(seen.join("\n"))
                })?;
                self.answer_by_firewall("delete")?;
                self.waypost.established(&PEERS)?;
                Ok(format!("{told}\n{}", self.goes(LEARNED_WAY)?))
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
            "its sessions end; the SD-WAN, the firewall and the site's router forget the network; packets \
             take the\nuplink again; nobody loses one",
            || {
                let traffic = self.traffic()?;
                self.waypost.reload(self.without.clone())?;
                let instances: Vec<IpAddr> = self.server.addresses().to_vec();
                for daemon in [&self.bird, &self.stand_by] {
                    let title = daemon.title();
                    until(&format!("{title} has no session"), CONVERGENCE, || {
                        let sessions = daemon.sessions()?;
                        let up = |instance: &IpAddr| {
                            let state = sessions.get(instance);
                            state.is_some_and(|state| state == "established")
                        };
                        ensure!(!instances.iter().any(up), "{sessions:?}");
                        Ok(())
                    })?;
                    for instance in &instances {
                        let routes = daemon.received(*instance)?;
                        ensure!(routes.is_empty(), "{title}: {}", as_text(&routes));
                    }
                }
                let mut seen = vec![
                    truth::exactly_passed_on(&self.router, &self.site, "sdwan", &[])?,
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
