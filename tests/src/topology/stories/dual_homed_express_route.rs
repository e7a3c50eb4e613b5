//! Topology 7: route servers in a spoke and in both of its hubs, all with one ASN, joined by appliances
//! that override it; ExpressRoute in each hub.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;

use crate::{
    daemon::{Bird, Daemon, Policy, Speaker},
    lab::{Host, Lab},
    network::Vm,
    overview::{CONVERGENCE, narrator::Narrator},
    topology::{
        Appliance, Failed, Kept, Kind, RouteServer, Site, Space, Story, Subnet, World,
        failover::{LINK_DOWN, SILENT_DEATH, Traffic, judged},
        plan::member,
        trace::{FlowTrace, Trace},
        truth,
    },
    until,
    waypost::Waypost,
};

/// A spoke between two hubs with ExpressRoute.
pub const STORY: Story = Story {
    number: 7,
    name: "dual-homed-express-route",
    about: "Three route servers of one ASN, joined by appliances between them: without as-override they \
            refuse each other's routes and say so, with it the spoke reaches the premises by hub 1 or 2.",
    drawing: "              ┌── nva1 65001 ── hub1: rs-hub1, vm-hub1 ── er1, er1b ──┐
  spoke: rs, vm1 ┤                                                   ├── onprem ── server
              └── nva2 65002 ── hub2: rs-hub2, vm-hub2 ── er2, er2b ──┘   65050   10.240.0.10",
    tell,
};

const SERVER_ASN: u32 = 65515;
const ASNS: [u32; 2] = [65001, 65002];
const ONPREM: u32 = 65050;
const NVAS: [&str; 2] = ["nva1", "nva2"];
/// The members of the gateways, which are called as their first ones.
const MEMBERS: [[&str; 2]; 2] = [["er1", "er1b"], ["er2", "er2b"]];
const SPOKE: Space = Space(3);

/// What stands in one hub.
struct Hub {
    space: [IpNet; 2],
    server: RouteServer,
    gateway_subnet: Subnet,
    apps: Subnet,
    vm: Vm,
    nva: Appliance,
    /// The members of its gateway; the second stands by, by a longer path either way.
    ers: [Appliance; 2],
}

struct Stage<'a> {
    world: World<'a>,
    hubs: [Hub; 2],
    spoke: RouteServer,
    apps: Subnet,
    vm1: Vm,
    onprem: Site,
    waypost: Waypost,
    nvas: [Bird; 2],
    gateways: [[Bird; 2]; 2],
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
    stage.member_dies(narrator);
    stage.hub_dies(narrator);
    stage.session_drops(narrator);
    stage.override_off(narrator);
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
            let apps = world.subnet(network, "apps", 1)?;
            let vm = world.vm(&apps, 4, &format!("vm-hub{}", number + 1))?;
            let [name, spare] = MEMBERS[number];
            let ers = [
                world.appliance(&gateway_subnet, 4, name, &[&server])?,
                world.appliance(&gateway_subnet, 5, spare, &[&server])?,
            ];
            // The spoke has a route server of its own, and uses neither hub's.
            world.peering(network, &spoke_network, false)?;
            world.peer(&server, &nva, ASNS[number])?;
            world.peer(&spoke, &nva, ASNS[number])?;
            let members = ers.each_ref();
            world.gateway(&server, name, Kind::ExpressRoute, &members, SERVER_ASN)?;
            world.set(&server, "branch_to_branch", true)?;
            Ok(Hub {
                space: network.space.prefixes()?,
                server,
                gateway_subnet,
                apps,
                vm,
                nva,
                ers,
            })
        };
        let hubs = [join(0)?, join(1)?];
        let [first, second] = &hubs;
        let members = [first.ers.each_ref(), second.ers.each_ref()];
        let onprem = world.site("onprem", "server", 240, members.as_flattened())?;
        let waypost = Waypost::start(&world.gw, world.config.clone())?;
        let ways = members.as_flattened().iter().map(|er| (*er, SERVER_ASN));
        let ways: Vec<_> = ways.collect();
        let mut speaker = onprem.speaker(ONPREM, &ways, None)?;
        for [_, spare] in MEMBERS {
            for [near, _] in onprem.sessions(spare) {
                prepend(&mut speaker, near);
            }
        }
        let router = Bird::start(&onprem.router, speaker)?;
        let start_member = |er: &Appliance, stands_by: bool| {
            let mut speaker = er.speaker_with(SERVER_ASN, &onprem, ONPREM)?;
            for [_, far] in onprem.sessions(er.name()) {
                if stands_by {
                    prepend(&mut speaker, far);
                }
            }
            Bird::start(er.host(), speaker)
        };
        let start_gateway = |hub: &Hub| -> Result<[Bird; 2]> {
            let [er, spare] = &hub.ers;
            Ok([start_member(er, false)?, start_member(spare, true)?])
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
            daemon.established(&instances, CONVERGENCE)?;
        }
        for (hub, [gateway, _]) in hubs.iter().zip(MEMBERS) {
            for er in &hub.ers {
                waypost.established(&[&member(gateway, er.address())])?;
            }
        }
        Ok(Self {
            trace: Trace::start(&world)?,
            world,
            spoke,
            apps,
            vm1,
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
            || self.apart(),
        );
    }

    /// The spoke and the premises do not have each other, since the route servers take it for a loop.
    fn apart(&self) -> Result<String> {
        let onprem = self.onprem.space.prefixes()?;
        let mut seen = Vec::new();
        for (nva, hub) in NVAS.into_iter().zip(&self.hubs) {
            let waypost = &self.waypost;
            seen.push(truth::rejected(waypost, &self.spoke, nva, onprem, "loop")?);
            let spoke = SPOKE.prefixes()?;
            seen.push(truth::rejected(waypost, &hub.server, nva, spoke, "loop")?);
        }
        seen.push(truth::no_learned(&self.waypost, &self.apps, onprem)?);
        for (daemons, hub) in self.gateways.iter().zip(&self.hubs) {
            for daemon in daemons {
                seen.push(truth::lacks(daemon, &hub.server, SPOKE.prefixes()?)?);
            }
        }
        for to in self.onprem.addresses()? {
            let way = self
                .trace
                .dropped(&self.waypost, &self.vm1.host, to, "discard")?;
            seen.push(format!("vm1 → {to}: {way}"));
        }
        Ok(seen.join("\n"))
    }

    fn with_override(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "With as-override on both appliances",
            "each has the premises from its hub and the spoke from the spoke's route server; the spoke has \
             the\npremises by nva1 (nva2 prepends), the hubs' machines by er1 and er2; the members of \
             ExpressRoute and the\nrouter behind them have the spoke",
            || {
                self.set_override(true)?;
                let (onprem, spoke) = (self.onprem.space.prefixes()?, SPOKE.prefixes()?);
                let mut seen = Vec::new();
                for (daemon, hub) in self.nvas.iter().zip(&self.hubs) {
                    let server = &hub.server;
                    seen.push(truth::learns_network(daemon, server, hub.space, "65515")?);
                    seen.push(truth::learns_network(daemon, &self.spoke, spoke, "65515")?);
                    let hops = hub.ers[0].addresses();
                    let path = "65515 65050";
                    seen.push(truth::learns_of(daemon, server, onprem, path, hops)?);
                }
                let paths = ["65001", "65002 65002 65002"];
                for ((daemons, hub), path) in self.gateways.iter().zip(&self.hubs).zip(paths) {
                    let server = &hub.server;
                    let hops = hub.nva.addresses();
                    for daemon in daemons {
                        seen.push(truth::learns_network(daemon, server, hub.space, "")?);
                        seen.push(truth::learns_of(daemon, server, spoke, path, hops)?);
                    }
                }
                for (er, path) in [
                    ("er1", "65515 65001"),
                    ("er1b", "65515 65515 65001"),
                    ("er2", "65515 65002 65002 65002"),
                    ("er2b", "65515 65515 65002 65002 65002"),
                ] {
                    let (router, site) = (&self.router, &self.onprem);
                    seen.push(truth::passed_on(router, site, er, spoke, path)?);
                }
                let [first, _] = &self.hubs;
                let hops = [first.nva.addresses()];
                seen.push(truth::effective(&self.waypost, &self.apps, onprem, &hops)?);
                for hub in &self.hubs {
                    let [er, _] = &hub.ers;
                    let hops = [er.addresses()];
                    seen.push(truth::effective(&self.waypost, &hub.apps, onprem, &hops)?);
                    for to in self.onprem.addresses()? {
                        let (vm, server) = (&hub.vm.host, (&self.onprem.host, to));
                        let way = self.trace.symmetric(vm, server, &[er.name(), "onprem"])?;
                        seen.push(format!("{vm} → {to}: {way}"));
                    }
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
        self.answered(if on { ["er2", "nva2"] } else { ["er1", "nva1"] })
    }

    /// vm1 reaches the premises by hub 1, and answers come back by these.
    fn answered(&self, [er, nva]: [&str; 2]) -> Result<()> {
        let there = ["nva1", "er1", "onprem", "server"];
        let back = ["onprem", er, nva, "vm1"];
        for to in self.onprem.addresses()? {
            self.trace.goes(&self.vm1.host, to, &there, &back)?;
        }
        Ok(())
    }

    /// The appliances, or the members of the gateways, that vm1's packets take.
    fn flows_by(&self, machines: &[&Appliance]) -> Result<FlowTrace> {
        let hosts: Vec<&Host> = machines.iter().map(|machine| machine.host()).collect();
        FlowTrace::start(&hosts)
    }

    fn nva_dies(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "Hub 1's appliance dies: its port loses the carrier; then it comes back",
            "vm1's packets go by hub 2 within 50 ms, then by hub 1 again (the premises answer by hub 2 \
             meanwhile)",
            || {
                self.answer_by_second(true)?;
                judged(|| {
                    let [first, second] = self.hubs.each_ref().map(|hub| &hub.nva);
                    let flows = self.flows_by(&[first, second])?;
                    let traffic = self.traffic()?;
                    traffic.takes(&flows, &["nva1"])?;
                    let failed = traffic.fails(|| first.unplugged())?;
                    traffic.takes(&flows, &["nva2"])?;
                    failed.mend()?;
                    traffic.takes(&flows, &["nva1"])?;
                    traffic.within(LINK_DOWN)
                })
            },
        );
        narrator.step(
            "Hub 1's appliance falls silent, its port up; then it speaks again",
            "probes find out: vm1's packets go by hub 2 within 3 s, then by hub 1 again",
            || {
                judged(|| {
                    let [first, second] = self.hubs.each_ref().map(|hub| &hub.nva);
                    let flows = self.flows_by(&[first, second])?;
                    let traffic = self.traffic()?;
                    traffic.takes(&flows, &["nva1"])?;
                    let failed = traffic.fails(|| first.silent())?;
                    traffic.takes(&flows, &["nva2"])?;
                    let loss = traffic.within(SILENT_DEATH)?;
                    failed.mend()?;
                    self.answered(["er2", "nva2"])?;
                    Ok(loss)
                })
            },
        );
    }

    fn member_dies(&self, narrator: &mut Narrator) {
        narrator.step(
            "The first member of hub 1's gateway dies: its port loses the carrier; then it comes back",
            "packets go by the second member within 50 ms, although every session is up, then by the first \
             again",
            || {
                judged(|| {
                    let [er, spare] = &self.hubs[0].ers;
                    let flows = self.flows_by(&[er, spare, &self.hubs[1].ers[0]])?;
                    let traffic = self.traffic()?;
                    traffic.takes(&flows, &["er1"])?;
                    let failed = traffic.fails(|| er.unplugged())?;
                    traffic.takes(&flows, &["er1b"])?;
                    self.members_established()?;
                    failed.mend()?;
                    traffic.takes(&flows, &["er1"])?;
                    traffic.within(LINK_DOWN)
                })
            },
        );
        narrator.step(
            "The first member falls silent, its port up; then it speaks again",
            "probes find out: packets go by the second member within 3 s, then by the first again",
            || {
                judged(|| {
                    let [er, spare] = &self.hubs[0].ers;
                    let flows = self.flows_by(&[er, spare, &self.hubs[1].ers[0]])?;
                    let traffic = self.traffic()?;
                    traffic.takes(&flows, &["er1"])?;
                    let failed = traffic.fails(|| er.silent())?;
                    traffic.takes(&flows, &["er1b"])?;
                    self.members_established()?;
                    let loss = traffic.within(SILENT_DEATH)?;
                    failed.mend()?;
                    self.answered(["er2", "nva2"])?;
                    Ok(loss)
                })
            },
        );
    }

    fn members_established(&self) -> Result<()> {
        let ers = self.hubs[0].ers.each_ref();
        let [er, spare] = ers.map(|er| member("er1", er.address()));
        self.waypost.established(&[&er, &spare])
    }

    fn hub_dies(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "Hub 1 dies: appliance and gateway lose their ports; then they come back",
            "vm1's packets go by hub 2 within 50 ms, then by hub 1 again",
            || {
                judged(|| {
                    let [first, second] = self.hubs.each_ref().map(|hub| &hub.nva);
                    let [er, spare] = &self.hubs[0].ers;
                    let flows = self.flows_by(&[first, second])?;
                    let traffic = self.traffic()?;
                    traffic.takes(&flows, &["nva1"])?;
                    let [nva, ers] = traffic.fails(|| {
                        let nva = first.unplugged()?;
                        self.carrier_is_lost(first)?;
                        Ok([vec![nva], vec![er.unplugged()?, spare.unplugged()?]])
                    })?;
                    traffic.takes(&flows, &["nva2"])?;
                    let loss = traffic.within(LINK_DOWN)?;
                    // What is behind the appliance first: nobody knows it from outside.
                    ers.into_iter().try_for_each(Failed::mend)?;
                    self.alive(er)?;
                    let traffic = self.traffic()?;
                    nva.into_iter().try_for_each(Failed::mend)?;
                    traffic.takes(&flows, &["nva1"])?;
                    self.answered(["er2", "nva2"])?;
                    let back = traffic.within(SILENT_DEATH)?;
                    Ok(format!("{loss}\nback: {back}"))
                })
            },
        );
        narrator.step(
            "Hub 1's connectivity dies: both members lose their lines to the premises; then they are back",
            "the premises are withdrawn along er1, rs-hub1, nva1; vm1's packets go by hub 2 within 3 s",
            || {
                let loss = judged(|| {
                    let [first, second] = self.hubs.each_ref().map(|hub| &hub.nva);
                    let [er, spare] = &self.hubs[0].ers;
                    let flows = self.flows_by(&[first, second])?;
                    let traffic = self.traffic()?;
                    traffic.takes(&flows, &["nva1"])?;
                    let lines = traffic.fails(|| {
                        let line = self.onprem.unplugged(er)?;
                        Ok([line, self.onprem.unplugged(spare)?])
                    })?;
                    traffic.takes(&flows, &["nva2"])?;
                    let (onprem, hops) = (self.onprem.space.prefixes()?, [second.addresses()]);
                    let active = truth::effective(&self.waypost, &self.apps, onprem, &hops)?;
                    let loss = traffic.within(SILENT_DEATH)?;
                    lines.into_iter().try_for_each(Failed::mend)?;
                    self.answered(["er2", "nva2"])?;
                    Ok(format!("{active}\n{loss}"))
                })?;
                self.answer_by_second(false)?;
                Ok(format!("{loss}\n{}", self.by_first()?))
            },
        );
    }

    /// Waits until the gateway host's kernel has lost a port's carrier. It tells of one after the other,
    /// and of none while another link is being taken down, which a cable does not ask for.
    fn carrier_is_lost(&self, machine: &Appliance) -> Result<()> {
        let name = machine.name();
        until("the port has lost its carrier", CONVERGENCE, || {
            let link = self
                .world
                .gw
                .run(&format!("ip -oneline link show dev {name}"))?;
            ensure!(link.contains("NO-CARRIER"), "{link}");
            Ok(())
        })
    }

    /// Waits until packets may be sent to a machine.
    fn alive(&self, machine: &Appliance) -> Result<()> {
        until("it is a next hop that is alive", CONVERGENCE, || {
            let fib = self.waypost.show("fib")?;
            let hops = fib["next_hops"].as_array().context("next hops")?;
            for address in machine.addresses() {
                let name = format!(" {address}");
                let mut named = hops
                    .iter()
                    .filter(|hop| hop["name"].as_str().is_some_and(|it| it.ends_with(&name)));
                ensure!(
                    named.clone().count() > 0 && named.all(|hop| hop["alive"] == true),
                    "{address}: {hops:?}"
                );
            }
            Ok(())
        })
    }

    fn session_drops(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "nva1's BGP daemon dies while the machine forwards",
            "graceful restart at both of its route servers: no packet is lost",
            || {
                let flows = self.flows_by(&[&self.hubs[0].nva, &self.hubs[1].nva])?;
                let traffic = self.traffic()?;
                traffic.takes(&flows, &["nva1"])?;
                self.nvas[0].process().kill()?;
                let kept = self.waypost.keeps("nva1", 4, false)?;
                traffic.takes(&flows, &["nva1"])?;
                let hub = &self.hubs[0];
                let mut speaker = hub.nva.speaker(ASNS[0])?;
                for (server, policy) in policies(hub, &self.spoke, 0, true) {
                    hub.nva.set_policy(&mut speaker, server, &policy);
                }
                speaker.options.restarting = true;
                self.nvas[0] = Bird::start(hub.nva.host(), speaker)?;
                let mut instances = hub.server.addresses().to_vec();
                instances.extend(self.spoke.addresses());
                self.nvas[0].established(&instances, CONVERGENCE)?;
                self.waypost.keeps_nothing()?;
                traffic.takes(&flows, &["nva1"])?;
                Ok(format!("{kept}\n{}", traffic.lost_nothing()?))
            },
        );
    }

    fn override_off(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "As-override is switched off on the live sessions, and on again",
            "the premises and the spoke lose each other, refused as a loop as in the beginning; then all is \
             as before",
            || {
                self.set_override(false)?;
                let apart = self.apart()?;
                self.set_override(true)?;
                Ok(format!("{apart}\n{}", self.by_first()?))
            },
        );
    }
}

/// Lets a speaker stand by in one session: its ASN stands twice in what it announces.
fn prepend(speaker: &mut Speaker, neighbor: IpAddr) {
    if let Some(policy) = speaker.options.policies.get_mut(&neighbor) {
        policy.prepend = 1;
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
