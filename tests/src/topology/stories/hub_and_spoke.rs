//! Topology 8: two spokes use the hub's route server; they reach each other through the hub's appliance.

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;

use crate::{
    daemon::{Bird, Daemon, Policy},
    lab::Lab,
    network::Vm,
    overview::narrator::Narrator,
    topology::{
        Appliance, Kept, RouteServer, Site, Space, Story, Subnet, World,
        failover::{LINK_DOWN, SILENT_DEATH, Traffic, judged},
        plan::default_routes,
        trace::{FlowTrace, Trace},
        truth,
    },
    waypost::Waypost,
};

/// A hub and two spokes.
pub const STORY: Story = Story {
    number: 8,
    name: "hub-and-spoke",
    about: "Spokes that use the hub's route server learn what the hub's appliances announce, and reach each \
            other through them: by the exact prefix, by a supernet, by the default route.",
    drawing: "  spoke1: vm1 ──┐        ┌── nva1 ──┐
                ├─ hub ──┤  65010   ├── site ── office 10.250.0.10
  spoke2: vm2 ──┘   rs   └── nva2 ──┘   65011",
    tell,
};

const NVA: u32 = 65010;
const SITE: u32 = 65011;
const SPOKES: [Space; 2] = [Space(11), Space(12)];
/// Both spokes and more.
const SUPERNET: [&str; 2] = ["10.8.0.0/13", "fd00:10::/28"];
const BOTH: [&str; 2] = ["nva1", "nva2"];

struct Stage {
    hub: [IpNet; 2],
    server: RouteServer,
    apps: [Subnet; 2],
    vms: [Vm; 2],
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
    stage.strangers(narrator);
    stage.exact(narrator);
    stage.nva_dies(narrator);
    stage.session_drops(narrator);
    stage.wider(narrator);
    stage.forwarded_traffic(narrator);
    Ok(Box::new(stage))
}

impl Stage {
    fn set(lab: &Lab) -> Result<Self> {
        let mut world = World::new(lab)?;
        let hub = world.network("hub", 1)?;
        let server = world.route_server(&hub, "rs1")?;
        let nva_subnet = world.subnet(&hub, "nva", 10)?;
        let mut spoke = |number: usize| -> Result<(Subnet, Vm)> {
            let name = format!("spoke{}", number + 1);
            let network = world.network(&name, SPOKES[number].0)?;
            world.peering(&hub, &network, true)?;
            let apps = world.subnet(&network, "apps", 1)?;
            let vm = world.vm(&apps, 4, &format!("vm{}", number + 1))?;
            Ok((apps, vm))
        };
        let ((apps1, vm1), (apps2, vm2)) = (spoke(0)?, spoke(1)?);
        let mut join = |number: usize| -> Result<Appliance> {
            let machine = u8::try_from(4 + number)?;
            let nva = world.appliance(&nva_subnet, machine, BOTH[number], &[&server])?;
            // What it announces itself, it must not learn its own way to.
            for spoke in SPOKES {
                nva.knows(spoke.prefixes()?)?;
            }
            world.peer(&server, &nva, NVA)?;
            Ok(nva)
        };
        let nvas = [join(0)?, join(1)?];
        let site = world.site("site", "office", 250, &nvas.each_ref())?;
        let waypost = Waypost::start(&world.gw, world.config.clone())?;
        let ways = [(&nvas[0], NVA), (&nvas[1], NVA)];
        let router = Bird::start(&site.router, site.speaker(SITE, &ways, Some(&nvas[0]))?)?;
        let start = |number: u8| -> Result<Bird> {
            let nva = &nvas[usize::from(number)];
            let mut speaker = nva.speaker_with(NVA, &site, SITE)?;
            nva.set_policy(&mut speaker, &server, &Policy::prepended(2 * number));
            Bird::start(nva.host(), speaker)
        };
        let daemons = [start(0)?, start(1)?];
        waypost.established(&BOTH)?;
        Ok(Self {
            hub: hub.space.prefixes()?,
            trace: Trace::start(&world)?,
            server,
            apps: [apps1, apps2],
            vms: [vm1, vm2],
            nvas,
            site,
            waypost,
            daemons,
            router,
        })
    }

    fn routes(&self, narrator: &mut Narrator) {
        narrator.step(
            "Routes of every party",
            "both appliances have the hub's prefixes and both spokes', by path 65515; the site's router has \
             them\nfrom both; both spokes have the site by nva1",
            || {
                let mut seen = Vec::new();
                let mut networks = vec![self.hub];
                for spoke in SPOKES {
                    networks.push(spoke.prefixes()?);
                }
                for prefixes in networks {
                    for daemon in &self.daemons {
                        let server = &self.server;
                        seen.push(truth::learns_network(daemon, server, prefixes, "65515")?);
                    }
                    for nva in BOTH {
                        let (router, site) = (&self.router, &self.site);
                        let path = "65010 65515";
                        seen.push(truth::passed_on(router, site, nva, prefixes, path)?);
                    }
                }
                let site = self.site.space.prefixes()?;
                seen.push(self.by_first(site)?);
                Ok(seen.join("\n"))
            },
        );
        narrator.step(
            "The path of packets to the site",
            "vm1 and vm2 reach the office through nva1 in the hub, and answers come back by it",
            || {
                let mut seen = Vec::new();
                for vm in &self.vms {
                    for to in self.site.addresses()? {
                        let office = (&self.site.host, to);
                        let way = self.trace.symmetric(&vm.host, office, &["nva1", "site"])?;
                        seen.push(format!("{} → {to}: {way}", vm.host));
                    }
                }
                Ok(seen.join("\n"))
            },
        );
    }

    /// Both spokes have these by the first appliance.
    fn by_first(&self, prefixes: [IpNet; 2]) -> Result<String> {
        let hops = [self.nvas[0].addresses()];
        let mut seen = Vec::new();
        for apps in &self.apps {
            seen.push(truth::effective(&self.waypost, apps, prefixes, &hops)?);
        }
        Ok(seen.join("\n"))
    }

    /// The spokes reach each other through the first appliance.
    fn meet(&self) -> Result<String> {
        let [vm1, vm2] = &self.vms;
        let mut seen = Vec::new();
        for to in vm2.addresses {
            let way = self
                .trace
                .symmetric(&vm1.host, (&vm2.host, to), &["nva1"])?;
            seen.push(format!("vm1 → {to}: {way}"));
        }
        Ok(seen.join("\n"))
    }

    fn strangers(&self, narrator: &mut Narrator) {
        narrator.step(
            "The spokes do not know each other",
            "peerings are not transitive: vm1's packets to vm2 go nowhere",
            || self.apart(),
        );
    }

    fn apart(&self) -> Result<String> {
        let [vm1, vm2] = &self.vms;
        let mut seen = Vec::new();
        for to in vm2.addresses {
            let way = self
                .trace
                .dropped(&self.waypost, &vm1.host, to, "discard")?;
            seen.push(format!("vm1 → {to}: {way}"));
        }
        Ok(seen.join("\n"))
    }

    fn announce(&mut self, prefixes: &[IpNet]) -> Result<()> {
        let mut daemons = self.daemons.iter_mut();
        daemons.try_for_each(|daemon| daemon.announce_all(prefixes))
    }

    fn withdraw(&mut self, prefixes: &[IpNet]) -> Result<()> {
        let mut daemons = self.daemons.iter_mut();
        daemons.try_for_each(|daemon| daemon.withdraw_all(prefixes))
    }

    fn exact(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "The appliances announce both spokes' exact prefixes",
            "each spoke has the other's by nva1, its own it keeps to itself: the route is shown as Invalid \
             with\nthe reason; vm1 and vm2 reach each other through nva1, both ways",
            || {
                let mut all = Vec::new();
                for spoke in SPOKES {
                    all.extend(spoke.prefixes()?);
                }
                self.announce(&all)?;
                let hops = [self.nvas[0].addresses()];
                let mut seen = Vec::new();
                for (apps, other) in self.apps.iter().zip([SPOKES[1], SPOKES[0]]) {
                    let prefixes = other.prefixes()?;
                    seen.push(truth::effective(&self.waypost, apps, prefixes, &hops)?);
                    let own = apps.network.space.prefixes()?;
                    seen.push(truth::invalid(
                        &self.waypost,
                        apps,
                        own,
                        "learned",
                        "the virtual network's own space",
                    )?);
                }
                seen.push(self.meet()?);
                Ok(seen.join("\n"))
            },
        );
    }

    /// Traffic between the spokes, and what of it and of its echoes the appliances see.
    fn traffic(&self) -> Result<BothWays> {
        let [vm1, vm2] = &self.vms;
        let nvas = self.nvas.each_ref().map(Appliance::host);
        let traces = [FlowTrace::start(&nvas)?, FlowTrace::of_echoes(&nvas)?];
        let far = (&vm2.host, vm2.addresses);
        let traffic = Traffic::start((&vm1.host, vm1.addresses), far, 16)?;
        Ok(BothWays { traces, traffic })
    }

    fn nva_dies(&self, narrator: &mut Narrator) {
        narrator.step(
            "nva1 dies: its port loses the carrier; then it comes back",
            "vm1 and vm2 reach each other through nva2 within 50 ms, both ways, and through nva1 again \
             afterwards",
            || {
                judged(|| {
                    let both = self.traffic()?;
                    both.take("nva1")?;
                    let failed = both.traffic.fails(|| self.nvas[0].unplugged())?;
                    both.take("nva2")?;
                    failed.mend()?;
                    both.take("nva1")?;
                    both.traffic.within(LINK_DOWN)
                })
            },
        );
        narrator.step(
            "nva1 falls silent, its port up",
            "probes find out: within 3 s packets go through nva2, both ways",
            || {
                judged(|| {
                    let both = self.traffic()?;
                    both.take("nva1")?;
                    let failed = both.traffic.fails(|| self.nvas[0].silent())?;
                    both.take("nva2")?;
                    let loss = both.traffic.within(SILENT_DEATH)?;
                    failed.mend()?;
                    for spoke in SPOKES {
                        self.nvas[0].knows(spoke.prefixes()?)?;
                    }
                    self.meet()?;
                    Ok(loss)
                })
            },
        );
    }

    fn session_drops(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "nva1's BGP daemon dies while the machine forwards",
            "graceful restart: its routes are kept as stale until it is back, and no packet between the \
             spokes is\nlost",
            || {
                let both = self.traffic()?;
                both.take("nva1")?;
                self.daemons[0].process().kill()?;
                let kept = self.waypost.keeps("nva1", 2, false)?;
                both.take("nva1")?;
                let nva = &self.nvas[0];
                let mut speaker = nva.speaker_with(NVA, &self.site, SITE)?;
                nva.set_policy(&mut speaker, &self.server, &Policy::default());
                speaker.options.restarting = true;
                for spoke in SPOKES {
                    speaker.announce.extend(spoke.prefixes()?);
                }
                self.daemons[0] = Bird::start(nva.host(), speaker)?;
                self.waypost.established(&BOTH)?;
                self.waypost.keeps_nothing()?;
                both.take("nva1")?;
                Ok(format!("{kept}\n{}", both.traffic.lost_nothing()?))
            },
        );
    }

    fn forwarded_traffic(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "spoke1's peering allows no forwarded traffic, then again",
            "what comes from the site through nva1 is dropped at nva1's port as forwarded_traffic; vm1's \
             peers\nin the hub still reach it; then the office does again",
            || {
                let vm1 = self.vms[0].clone();
                let before = self.waypost.counted("nva1", "forwarded_traffic")?;
                self.allow_forwarded_traffic(false)?;
                let mut seen = Vec::new();
                for to in vm1.addresses {
                    let way = self.trace.ends(&self.site.host, to, &["site", "nva1"])?;
                    seen.push(format!("office → {to}: {way}"));
                    let ping = self.nvas[0].host().reaches(to)?;
                    seen.push(format!("nva1 → {to}: {ping}"));
                }
                let counted = self.waypost.counted("nva1", "forwarded_traffic")? - before;
                ensure!(counted > 0, "nothing was counted as forwarded_traffic");
                seen.push(format!("nva1's port counts {counted} packets as forwarded_traffic"));
                self.allow_forwarded_traffic(true)?;
                for to in vm1.addresses {
                    let vm1 = (&vm1.host, to);
                    let through = ["site", "nva1"];
                    let way = self.trace.symmetric(&self.site.host, vm1, &through)?;
                    seen.push(format!("office → {to}: {way}"));
                }
                Ok(seen.join("\n"))
            },
        );
    }

    fn allow_forwarded_traffic(&mut self, allowed: bool) -> Result<()> {
        let mut config = self.waypost.config().clone();
        for vnet in config.vnet.iter_mut().filter(|vnet| vnet.name == "spoke1") {
            for peering in &mut vnet.peering {
                peering.allow_forwarded_traffic = allowed;
            }
        }
        self.waypost.reload(config)?;
        Ok(())
    }

    fn wider(&mut self, narrator: &mut Narrator) {
        let wider: [(&str, Result<[IpNet; 2]>); 2] = [
            ("A supernet of both spokes instead", supernet()),
            ("The default route instead", default_routes()),
        ];
        let mut before = Vec::new();
        for spoke in SPOKES {
            before.extend(spoke.prefixes().into_iter().flatten());
        }
        for (title, prefixes) in wider {
            narrator.step(
                title,
                "each spoke has it by nva1 beside its own space, which stays its own; vm1 and vm2 reach each \
                 other\nthrough nva1; withdrawn, they do not",
                || {
                    let prefixes = prefixes?;
                    self.withdraw(&before)?;
                    self.apart()?;
                    self.announce(&prefixes)?;
                    before = prefixes.to_vec();
                    let mut seen = vec![self.by_first(prefixes)?];
                    seen.push(self.meet().context("through nva1")?);
                    Ok(seen.join("\n"))
                },
            );
        }
        narrator.step(
            "The default route is withdrawn",
            "no spoke has it any more; vm1 and vm2 do not reach each other",
            || {
                self.withdraw(&before)?;
                let mut seen = Vec::new();
                for apps in &self.apps {
                    let prefixes = default_routes()?;
                    seen.push(truth::no_learned(&self.waypost, apps, prefixes)?);
                }
                seen.push(self.apart()?);
                Ok(seen.join("\n"))
            },
        );
    }
}

/// Traffic of which each way is looked at.
struct BothWays {
    traces: [FlowTrace; 2],
    traffic: Traffic,
}

impl BothWays {
    /// Waits until all flows take this appliance, there and back.
    fn take(&self, nva: &str) -> Result<()> {
        for trace in &self.traces {
            self.traffic.takes(trace, &[nva])?;
        }
        Ok(())
    }
}

fn supernet() -> Result<[IpNet; 2]> {
    let [ipv4, ipv6] = SUPERNET;
    Ok([ipv4.parse()?, ipv6.parse()?])
}
