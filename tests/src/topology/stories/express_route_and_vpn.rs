//! Topology 5: an ExpressRoute and a VPN gateway, each with two active members, with branch-to-branch.

use anyhow::{Result, ensure};
use ipnet::IpNet;

use crate::{
    daemon::{Bird, Daemon},
    lab::{Capture, Lab, Packet},
    network::{UPLINK, Vm},
    overview::narrator::Narrator,
    topology::{
        Appliance, Kept, Kind, RouteServer, Site, Story, Subnet, World,
        failover::{self, LINK_DOWN, SILENT_DEATH, Traffic, judged},
        plan::member,
        trace::{FlowTrace, Trace},
        truth,
    },
    updates::told_by,
    waypost::Waypost,
};

/// Transit between ExpressRoute and VPN.
pub const STORY: Story = Story {
    number: 5,
    name: "express-route-and-vpn",
    about: "The sites behind an ExpressRoute and a VPN gateway reach each other through the network; both \
            gateways have two active members.",
    drawing: "             ┌── vpn1 ──┐        ┌── er1 ──┐
  pc ── shop ┤   65100  ├── gw ──┤  65515  ├── onprem ── server
       65060 └── vpn2 ──┘   │    └── er2 ──┘   65050   10.240.0.10
 10.230.0.10               vm1",
    tell,
};

const SERVER_ASN: u32 = 65515;
const VPN: u32 = 65100;
const SHOP: u32 = 65060;
const ONPREM: u32 = 65050;
const ER_MEMBERS: [&str; 2] = ["er1", "er2"];
const VPN_MEMBERS: [&str; 2] = ["vpn1", "vpn2"];

struct Stage {
    hub: [IpNet; 2],
    apps: Subnet,
    server: RouteServer,
    vm1: Vm,
    vpn: [Appliance; 2],
    er: [Appliance; 2],
    shop: Site,
    onprem: Site,
    waypost: Waypost,
    vpn_daemons: [Bird; 2],
    er_daemons: [Bird; 2],
    routers: [Bird; 2],
    /// What the VPN gateway's members got from the instances.
    told: [Capture; 2],
    trace: Trace,
}

fn tell(lab: &Lab, narrator: &mut Narrator) -> Result<Kept> {
    let mut stage = Stage::set(lab)?;
    stage.routes(narrator);
    stage.packets(narrator);
    stage.member_dies(narrator);
    stage.session_drops(narrator);
    Ok(Box::new(stage))
}

impl Stage {
    fn set(lab: &Lab) -> Result<Self> {
        let mut world = World::new(lab)?;
        let hub = world.network("hub", 1)?;
        let server = world.route_server(&hub, "rs1")?;
        let apps = world.subnet(&hub, "apps", 1)?;
        let gateway = world.subnet(&hub, "GatewaySubnet", 3)?;
        let vm1 = world.vm(&apps, 4, "vm1")?;
        let mut join = |machine, name| world.appliance(&gateway, machine, name, &[&server]);
        let er = [join(4, "er1")?, join(5, "er2")?];
        let vpn = [join(132, "vpn1")?, join(133, "vpn2")?];
        let onprem = world.site("onprem", "server", 240, &er.each_ref())?;
        let shop = world.site("shop", "pc", 230, &vpn.each_ref())?;
        world.set(&server, "branch_to_branch", true)?;
        world.gateway(
            &server,
            "er",
            Kind::ExpressRoute,
            &er.each_ref(),
            SERVER_ASN,
        )?;
        // Its members are whoever connects from there.
        world.gateway_within(&server, "vpn", Kind::Vpn, "10.1.3.128/27".parse()?, VPN)?;
        let waypost = Waypost::start(&world.gw, world.config.clone())?;
        let er_ways = er.each_ref().map(|er| (er, SERVER_ASN));
        let vpn_ways = vpn.each_ref().map(|vpn| (vpn, VPN));
        // Both answer by the first member: it is the second that will die.
        let routers = [
            Bird::start(&shop.router, shop.speaker(SHOP, &vpn_ways, Some(&vpn[0]))?)?,
            Bird::start(
                &onprem.router,
                onprem.speaker(ONPREM, &er_ways, Some(&er[0]))?,
            )?,
        ];
        let instances = server.addresses();
        let told = |vpn: &Appliance| {
            let bgp = move |packet: &Packet| instances.contains(&packet.source);
            Capture::of(vpn.host(), &[UPLINK], bgp)
        };
        let told = [told(&vpn[0])?, told(&vpn[1])?];
        let vpn_start =
            |vpn: &Appliance| Bird::start(vpn.host(), vpn.speaker_with(VPN, &shop, SHOP)?);
        let er_start =
            |er: &Appliance| Bird::start(er.host(), er.speaker_with(SERVER_ASN, &onprem, ONPREM)?);
        let stage = Self {
            hub: hub.space.prefixes()?,
            trace: Trace::start(&world)?,
            vpn_daemons: [vpn_start(&vpn[0])?, vpn_start(&vpn[1])?],
            er_daemons: [er_start(&er[0])?, er_start(&er[1])?],
            apps,
            server,
            vm1,
            vpn,
            er,
            shop,
            onprem,
            waypost,
            routers,
            told,
        };
        stage.established()?;
        Ok(stage)
    }

    fn established(&self) -> Result<()> {
        let er = self.er.each_ref().map(|er| member("er", er.address()));
        let vpn = self.vpn.each_ref().map(|vpn| member("vpn", vpn.address()));
        let names: Vec<&str> = er.iter().chain(&vpn).map(String::as_str).collect();
        failover::established(&self.waypost, &names)?;
        Ok(())
    }

    fn routes(&self, narrator: &mut Narrator) {
        narrator.step(
            "Routes of every party",
            "all four members have the network; each gateway has the other's site, next hop kept, its own \
             site\nnot; the sites' routers have each other's; vm1's subnet has both, by two members each",
            || {
                let server = &self.server;
                let (shop, onprem) = (self.shop.space.prefixes()?, self.onprem.space.prefixes()?);
                let mut seen = Vec::new();
                // Of two equal paths the one of the lower router id is announced.
                let hops = self.vpn[0].addresses();
                for er in &self.er_daemons {
                    let (network, other) = ([(self.hub, "")], [(shop, "65100 65060", hops)]);
                    seen.push(truth::exactly_of(er, server, &network, &other)?);
                    seen.push(truth::internal(er, server)?);
                }
                let hops = self.er[0].addresses();
                for (vpn, told) in self.vpn_daemons.iter().zip(&self.told) {
                    let network = [(self.hub, "65515")];
                    let other = [(onprem, "65515 65050", hops)];
                    seen.push(truth::exactly_of(vpn, server, &network, &other)?);
                    // BIRD would not keep a path with its own ASN: the wire tells.
                    let told = told_by(&told.packets(), &server.addresses())?;
                    ensure!(told.len() == 2, "{told:?}");
                    for (instance, told) in told {
                        let of = |prefixes: [IpNet; 2]| {
                            told.iter().any(|told| prefixes.contains(&told.prefix))
                        };
                        ensure!(of(onprem) && of(self.hub) && !of(shop), "{instance}: {told:?}");
                    }
                }
                let [shop_router, onprem_router] = &self.routers;
                for vpn in VPN_MEMBERS {
                    let passed = [(self.hub, "65100 65515"), (onprem, "65100 65515 65050")];
                    seen.push(truth::exactly_passed_on(shop_router, &self.shop, vpn, &passed)?);
                }
                for er in ER_MEMBERS {
                    let passed = [(self.hub, "65515"), (shop, "65515 65100 65060")];
                    let onprem = &self.onprem;
                    seen.push(truth::exactly_passed_on(onprem_router, onprem, er, &passed)?);
                }
                for (prefixes, members) in [(shop, &self.vpn), (onprem, &self.er)] {
                    let hops = members.each_ref().map(Appliance::addresses);
                    seen.push(truth::effective(&self.waypost, &self.apps, prefixes, &hops)?);
                }
                Ok(seen.join("\n"))
            },
        );
    }

    fn packets(&self, narrator: &mut Narrator) {
        narrator.step(
            "The sites reach each other, and vm1 reaches both",
            "from the shop in by vpn1, out by a member of ExpressRoute; back in by er1, out by a member of \
             the\nVPN gateway",
            || {
                let mut seen = Vec::new();
                for to in self.onprem.addresses()? {
                    let way = self.trace.passes(&self.shop.host, to, |there, back| {
                        matches!(there, ["shop", "vpn1", "er1" | "er2", "onprem", "server"])
                            && matches!(back, ["onprem", "er1", "vpn1" | "vpn2", "shop", "pc"])
                    })?;
                    seen.push(format!("pc → {to}: {way}"));
                }
                for to in self.shop.addresses()? {
                    let way = self.trace.passes(&self.vm1.host, to, |there, back| {
                        matches!(there, ["vpn1" | "vpn2", "shop", "pc"])
                            && matches!(back, ["shop", "vpn1", "vm1"])
                    })?;
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
            },
        );
    }

    /// Traffic of the server to the shop, and which VPN member it takes.
    fn traffic(&self) -> Result<(FlowTrace, Traffic)> {
        let trace = FlowTrace::start(&self.vpn.each_ref().map(Appliance::host))?;
        let from = (&self.onprem.host, self.onprem.addresses()?);
        let traffic = Traffic::start(from, (&self.shop.host, self.shop.addresses()?), 16)?;
        Ok((trace, traffic))
    }

    /// Traffic of the shop to the server, and which ExpressRoute member it takes.
    fn traffic_back(&self) -> Result<(FlowTrace, Traffic)> {
        let trace = FlowTrace::start(&self.er.each_ref().map(Appliance::host))?;
        let from = (&self.shop.host, self.shop.addresses()?);
        let traffic = Traffic::start(from, (&self.onprem.host, self.onprem.addresses()?), 16)?;
        Ok((trace, traffic))
    }

    fn member_dies(&self, narrator: &mut Narrator) {
        narrator.step(
            "A member of each gateway dies: its port loses the carrier",
            "the server's flows to the shop that took vpn2 go on by vpn1 within 50 ms, the shop's to the \
             server\nthat took er2 by er1; the others lose nothing",
            || {
                let vpn = judged(|| Self::dies(&self.vpn, VPN_MEMBERS, || self.traffic()))?;
                let er = judged(|| Self::dies(&self.er, ER_MEMBERS, || self.traffic_back()))?;
                Ok(format!("vpn2: {vpn}\ner2: {er}"))
            },
        );
        narrator.step(
            "The same members fall silent, their ports up",
            "probes find out: within 3 s all flows take vpn1, and er1",
            || {
                let vpn = judged(|| Self::falls_silent(&self.vpn, VPN_MEMBERS, || self.traffic()))?;
                let er =
                    judged(|| Self::falls_silent(&self.er, ER_MEMBERS, || self.traffic_back()))?;
                Ok(format!("vpn2: {vpn}\ner2: {er}"))
            },
        );
    }

    /// The second of two members dies while they share flows.
    fn dies(
        members: &[Appliance; 2],
        names: [&str; 2],
        traffic: impl Fn() -> Result<(FlowTrace, Traffic)>,
    ) -> Result<String> {
        let (trace, flows) = traffic()?;
        let before = flows.takes(&trace, &names)?;
        let failed = flows.fails(|| members[1].unplugged())?;
        let after = flows.takes(&trace, &names[..1])?;
        failover::others_stayed(&before, &after, names[1])?;
        let loss = flows.only(&before, names[1], LINK_DOWN)?;
        failed.mend()?;
        Ok(loss)
    }

    /// The second of two members falls silent while they share flows.
    fn falls_silent(
        members: &[Appliance; 2],
        names: [&str; 2],
        traffic: impl Fn() -> Result<(FlowTrace, Traffic)>,
    ) -> Result<String> {
        let (trace, flows) = traffic()?;
        let before = flows.takes(&trace, &names)?;
        let failed = flows.fails(|| members[1].silent())?;
        flows.takes(&trace, &names[..1])?;
        let loss = flows.only(&before, names[1], SILENT_DEATH)?;
        failed.mend()?;
        let (trace, flows) = traffic()?;
        flows.takes(&trace, &names)?;
        Ok(loss)
    }

    fn session_drops(&mut self, narrator: &mut Narrator) {
        narrator.step(
            "vpn2's BGP daemon dies while the machine forwards",
            "graceful restart: no packet of the server to the shop is lost",
            || {
                let (trace, traffic) = self.traffic()?;
                traffic.takes(&trace, &VPN_MEMBERS)?;
                self.vpn_daemons[1].process().kill()?;
                traffic.takes(&trace, &VPN_MEMBERS)?;
                let mut speaker = self.vpn[1].speaker_with(VPN, &self.shop, SHOP)?;
                speaker.options.restarting = true;
                self.vpn_daemons[1] = Bird::start(self.vpn[1].host(), speaker)?;
                self.established()?;
                traffic.takes(&trace, &VPN_MEMBERS)?;
                traffic.lost_nothing()
            },
        );
    }
}
