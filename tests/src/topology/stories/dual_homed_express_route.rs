//! Topology 7: route servers in a spoke and in both of its hubs, all with one ASN, joined by appliances
//! that override it; ExpressRoute in each hub.

use anyhow::Result;
use ipnet::IpNet;

use crate::{
    daemon::{Bird, Daemon, Policy},
    lab::Lab,
    network::Vm,
    overview::narrator::Narrator,
    topology::{
        Appliance, Kept, Kind, RouteServer, Site, Space, Story, Subnet, World,
        failover::{LINK_DOWN, SILENT_DEATH, Traffic},
        plan::member,
        trace::{FlowTrace, Trace},
        truth,
    },
    waypost::Waypost,
};

/// A spoke between two hubs with ExpressRoute.
pub const STORY: Story = Story {
    number: 7,
    name: "dual-homed-express-route",
    about: "Three route servers of one ASN, joined by appliances between them: without as-override they \
            refuse each other's routes and say so, with it the spoke reaches the premises by hub 1 or 2.",
    drawing: "              ┌── nva1 65001 ── hub1: rs-hub1, vm-hub1 ── er1 ──┐
  spoke: rs, vm1 ┤                                             ├── onprem ── server
              └── nva2 65002 ── hub2: rs-hub2 ─────────── er2 ──┘   65050   10.240.0.10",
    tell,
};

const SERVER_ASN: u32 = 65515;
const ASNS: [u32; 2] = [65001, 65002];
const ONPREM: u32 = 65050;
const NVAS: [&str; 2] = ["nva1", "nva2"];
const SPOKE: Space = Space(3);

/// What stands in one hub.
struct Hub {
    space: [IpNet; 2],
    server: RouteServer,
    gateway_subnet: Subnet,
    nva: Appliance,
    er: Appliance,
}

struct Stage<'a> {
    world: World<'a>,
    hubs: [Hub; 2],
    spoke: RouteServer,
    apps: Subnet,
    hub_apps: Subnet,
    vm1: Vm,
    vm_hub: Vm,
    onprem: Site,
    waypost: Waypost,
    nvas: [Bird; 2],
    gateways: [Bird; 2],
    router: Bird,
    trace: Trace,
}

fn tell(lab: &Lab, narrator: &mut Narrator) -> Result<Kept> {
    let mut stage = Stage::set(lab)?;
    stage.without_override(narrator);
    stage.with_override(narrator);
    stage.bypass(narrator);
    stage.symmetric(narrator);
    stage.nva_dies(narrator);
    stage.session_drops(narrator);
    let Stage {
        waypost,
        nvas,
        gateways,
        router,
        ..
    } = stage;
    Ok(Box::new((waypost, nvas, gateways, router)))
}

impl<'a> Stage<'a> {
    fn set(lab: &'a Lab) -> Result<Self> {
        let mut world = World::new(lab)?;
        let networks = [world.network("hub1", 1)?, world.network("hub2", 2)?];
        let spoke_network = world.network("spoke", SPOKE.0)?;
        let spoke = world.route_server(&spoke_network, "rs-spoke")?;
        let apps = world.subnet(&spoke_network, "apps", 1)?;
        let vm1 = world.vm(&apps, 4, "vm1")?;
        let mut join = |number: usize| -> Result<Hub> {
            let network = &networks[number];
            let server = world.route_server(network, &format!("rs-hub{}", number + 1))?;
            let nva_subnet = world.subnet(network, "nva", 10)?;
            let gateway_subnet = world.subnet(network, "GatewaySubnet", 3)?;
            let nva = world.appliance(&nva_subnet, 4, NVAS[number], &[&server, &spoke])?;
            let name = format!("er{}", number + 1);
            let er = world.appliance(&gateway_subnet, 4, &name, &[&server])?;
            // The spoke has a route server of its own, and uses neither hub's.
            world.peering(network, &spoke_network, false)?;
            world.peer(&server, &nva, ASNS[number])?;
            world.peer(&spoke, &nva, ASNS[number])?;
            world.gateway(&server, &name, Kind::ExpressRoute, &[&er], SERVER_ASN)?;
            world.set(&server, "branch_to_branch", true)?;
            Ok(Hub {
                space: network.space.prefixes()?,
                server,
                gateway_subnet,
                nva,
                er,
            })
        };
        let hubs = [join(0)?, join(1)?];
        let hub_apps = world.subnet(&networks[0], "apps", 1)?;
        let vm_hub = world.vm(&hub_apps, 4, "vm-hub1")?;
        let [first, second] = &hubs;
        let onprem = world.site("onprem", "server", 240, &[&first.er, &second.er])?;
        let waypost = Waypost::start(&world.gw, world.config.clone())?;
        let ways = [(&first.er, SERVER_ASN), (&second.er, SERVER_ASN)];
        let router = Bird::start(&onprem.router, onprem.speaker(ONPREM, &ways, None)?)?;
        let start_gateway = |hub: &Hub| {
            let speaker = hub.er.speaker_with(SERVER_ASN, &onprem, ONPREM)?;
            Bird::start(hub.er.host(), speaker)
        };
        let gateways = [start_gateway(first)?, start_gateway(second)?];
        let start_nva = |number: usize| -> Result<Bird> {
            let nva = &hubs[number].nva;
            let mut speaker = nva.speaker(ASNS[number])?;
            for (server, policy) in policies(&hubs[number], &spoke, number, false) {
                nva.set_policy(&mut speaker, server, &policy);
            }
            Bird::start(nva.host(), speaker)
        };
        let nvas = [start_nva(0)?, start_nva(1)?];
        for (daemon, hub) in nvas.iter().zip(&hubs) {
            let mut instances = hub.server.addresses().to_vec();
            instances.extend(spoke.addresses());
            daemon.established(&instances, crate::overview::CONVERGENCE)?;
        }
        for (hub, name) in hubs.iter().zip(["er1", "er2"]) {
            waypost.established(&[&member(name, hub.er.address())])?;
        }
        Ok(Self {
            trace: Trace::start(&world)?,
            world,
            spoke,
            apps,
            hub_apps,
            vm1,
            vm_hub,
            onprem,
            waypost,
            nvas,
            gateways,
            router,
            hubs,
        })
    }

    fn set_override(&mut self, on: bool) -> Result<()> {
        for (number, hub) in self.hubs.iter().enumerate() {
            for (server, policy) in policies(hub, &self.spoke, number, on) {
                for instance in server.addresses() {
                    self.nvas[number].set_policy(instance, policy.clone())?;
                }
            }
        }
        Ok(())
    }

    fn without_override(&self, narrator: &mut Narrator) {
        narrator.step(
            "Without as-override",
            "the appliances pass on what each route server told them, 65515 in the path: the other ones \
             reject\nit as a loop and say so; the spoke does not have the premises, ExpressRoute does not \
             have the spoke",
            || {
                let onprem = self.onprem.space.prefixes()?;
                let mut seen = Vec::new();
                for (nva, hub) in NVAS.into_iter().zip(&self.hubs) {
                    let waypost = &self.waypost;
                    seen.push(truth::rejected(waypost, &self.spoke, nva, onprem, "loop")?);
                    let spoke = SPOKE.prefixes()?;
                    seen.push(truth::rejected(waypost, &hub.server, nva, spoke, "loop")?);
                }
                seen.push(truth::no_learned(&self.waypost, &self.apps, onprem)?);
                for (daemon, hub) in self.gateways.iter().zip(&self.hubs) {
                    seen.push(truth::lacks(daemon, &hub.server, SPOKE.prefixes()?)?);
                }
                for to in self.onprem.addresses()? {
                    let way = self.trace.ends(&self.vm1.host, to, &[])?;
                    seen.push(format!("vm1 → {to}: {way}"));
                }
                Ok(seen.join("\n"))
            },
        );
    }

    fn with_override(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "With as-override on both appliances",
            "each has the premises from its hub and the spoke from the spoke's route server; the spoke has \
             the\npremises by nva1 (nva2 prepends), hub 1's machines by er1; the members of ExpressRoute \
             and the\nrouter behind them have the spoke",
            || {
                self.set_override(true)?;
                let (onprem, spoke) = (self.onprem.space.prefixes()?, SPOKE.prefixes()?);
                let mut seen = Vec::new();
                for (daemon, hub) in self.nvas.iter().zip(&self.hubs) {
                    let server = &hub.server;
                    seen.push(truth::learns_network(daemon, server, hub.space, "65515")?);
                    seen.push(truth::learns_network(daemon, &self.spoke, spoke, "65515")?);
                    let hops = hub.er.addresses();
                    let path = "65515 65050";
                    seen.push(truth::learns_of(daemon, server, onprem, path, hops)?);
                }
                let paths = ["65001", "65002 65002 65002"];
                for ((daemon, hub), path) in self.gateways.iter().zip(&self.hubs).zip(paths) {
                    let server = &hub.server;
                    seen.push(truth::learns_network(daemon, server, hub.space, "")?);
                    let hops = hub.nva.addresses();
                    seen.push(truth::learns_of(daemon, server, spoke, path, hops)?);
                }
                for (er, path) in [("er1", "65515 65001"), ("er2", "65515 65002 65002 65002")] {
                    let (router, site) = (&self.router, &self.onprem);
                    seen.push(truth::passed_on(router, site, er, spoke, path)?);
                }
                let [first, _] = &self.hubs;
                let hops = [first.nva.addresses()];
                seen.push(truth::effective(&self.waypost, &self.apps, onprem, &hops)?);
                let hops = [first.er.addresses()];
                seen.push(truth::effective(&self.waypost, &self.hub_apps, onprem, &hops)?);
                for to in self.onprem.addresses()? {
                    let server = (&self.onprem.host, to);
                    let through = ["er1", "onprem"];
                    let way = self.trace.symmetric(&self.vm_hub.host, server, &through)?;
                    seen.push(format!("vm-hub1 → {to}: {way}"));
                }
                Ok(seen.join("\n"))
            },
        );
    }

    fn bypass(&self, narrator: &mut Narrator) {
        narrator.step(
            "Without a user-defined route on the gateway's subnet",
            "vm1's packets to the premises go through nva1; the answers, which er1 knows by the peering, \
             bypass it",
            || {
                let mut seen = Vec::new();
                for to in self.onprem.addresses()? {
                    let there = ["nva1", "er1", "onprem", "server"];
                    let back = ["onprem", "er1", "vm1"];
                    let way = self.trace.goes(&self.vm1.host, to, &there, &back)?;
                    seen.push(format!("vm1 → {to}: {way}"));
                }
                Ok(seen.join("\n"))
            },
        );
    }

    fn symmetric(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "With user-defined routes to the spoke on both gateway subnets",
            "answers go through nva1 as well: er1, nva1, vm1; no packet is lost on the way there",
            || {
                let traffic = self.traffic()?;
                for hub in &self.hubs {
                    let hops = hub.nva.addresses();
                    let routes: Vec<_> = SPOKE
                        .prefixes()?
                        .into_iter()
                        .zip(hops)
                        .map(|(prefix, hop)| (prefix, "virtual_appliance", Some(hop)))
                        .collect();
                    self.world.route_table(&hub.gateway_subnet, true, &routes)?;
                }
                self.waypost.reload(self.world.config.clone())?;
                let mut seen = vec![self.by_first()?];
                seen.push(traffic.lost_nothing()?);
                Ok(seen.join("\n"))
            },
        );
    }

    fn by_first(&self) -> Result<String> {
        let mut seen = Vec::new();
        for to in self.onprem.addresses()? {
            let server = (&self.onprem.host, to);
            let through = ["nva1", "er1", "onprem"];
            let way = self.trace.symmetric(&self.vm1.host, server, &through)?;
            seen.push(format!("vm1 → {to}: {way}"));
        }
        Ok(seen.join("\n"))
    }

    fn traffic(&self) -> Result<Traffic> {
        let far = (&self.onprem.host, self.onprem.addresses()?);
        Traffic::start((&self.vm1.host, self.vm1.addresses), far, 16)
    }

    /// Lets the premises answer by the second hub, or by the better path again.
    fn answer_by_second(&mut self, on: bool) -> Result<()> {
        for [near, _] in self.onprem.sessions("er2") {
            let policy = Policy {
                local_pref: on.then_some(200),
                own_family: true,
                ..Policy::default()
            };
            self.router.set_policy(near, policy)?;
        }
        let back = if on {
            ["onprem", "er2", "nva2", "vm1"]
        } else {
            ["onprem", "er1", "nva1", "vm1"]
        };
        let there = ["nva1", "er1", "onprem", "server"];
        for to in self.onprem.addresses()? {
            self.trace.goes(&self.vm1.host, to, &there, &back)?;
        }
        Ok(())
    }

    fn nva_dies(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "Hub 1's appliance dies: its port loses the carrier; then it comes back",
            "vm1's packets go by hub 2 within 50 ms, then by hub 1 again (the premises answer by hub 2 \
             meanwhile)",
            || {
                self.answer_by_second(true)?;
                let traffic = self.traffic()?;
                let flows = FlowTrace::start(&self.hubs.each_ref().map(|hub| hub.nva.host()))?;
                traffic.takes(&flows, &["nva1"])?;
                self.hubs[0].nva.unplug()?;
                traffic.takes(&flows, &["nva2"])?;
                self.hubs[0].nva.plug()?;
                traffic.takes(&flows, &["nva1"])?;
                traffic.within(LINK_DOWN)
            },
        );
        narrator.step(
            "Hub 1's connectivity dies: er1 loses its line to the premises; then it is back",
            "the premises are withdrawn along er1, rs-hub1, nva1; vm1's packets go by hub 2 within 3 s",
            || {
                let traffic = self.traffic()?;
                self.onprem.unplug(&self.hubs[0].er)?;
                let (onprem, hops) = (
                    self.onprem.space.prefixes()?,
                    [self.hubs[1].nva.addresses()],
                );
                let mut seen =
                    vec![truth::effective(&self.waypost, &self.apps, onprem, &hops)?];
                traffic.flows_on("packets flow by hub 2")?;
                seen.push(traffic.within(SILENT_DEATH)?);
                self.onprem.plug(&self.hubs[0].er)?;
                self.answer_by_second(false)?;
                seen.push(self.by_first()?);
                Ok(seen.join("\n"))
            },
        );
    }

    fn session_drops(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "nva1's BGP daemon dies while the machine forwards",
            "graceful restart at both of its route servers: no packet is lost",
            || {
                let traffic = self.traffic()?;
                self.nvas[0].process().kill()?;
                traffic.flows_on("packets flow without the daemon")?;
                let hub = &self.hubs[0];
                let mut speaker = hub.nva.speaker(ASNS[0])?;
                for (server, policy) in policies(hub, &self.spoke, 0, true) {
                    hub.nva.set_policy(&mut speaker, server, &policy);
                }
                speaker.options.restarting = true;
                self.nvas[0] = Bird::start(hub.nva.host(), speaker)?;
                let mut instances = hub.server.addresses().to_vec();
                instances.extend(self.spoke.addresses());
                self.nvas[0].established(&instances, crate::overview::CONVERGENCE)?;
                traffic.flows_on("packets flow with the daemon")?;
                traffic.lost_nothing()
            },
        );
    }
}

/// An appliance's policies towards its hub's route server and the spoke's: it passes on to each what
/// the other one told it. The second prepends.
fn policies<'s>(
    hub: &'s Hub,
    spoke: &'s RouteServer,
    number: usize,
    as_override: bool,
) -> [(&'s RouteServer, Policy); 2] {
    let policy = |from: &RouteServer| Policy {
        as_override,
        prepend: if number == 0 { 0 } else { 2 },
        passes_on: Some(from.addresses().to_vec()),
        ..Policy::default()
    };
    [(&hub.server, policy(spoke)), (spoke, policy(&hub.server))]
}
