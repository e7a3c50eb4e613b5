//! The daemon's configuration file.

use std::fmt::Write as _;

use crate::bed::{
    APPLIANCE_ASN, APPLIANCE_PORT, APPLIANCES, Bed, CIRCUIT_ASN, CIRCUIT_PORT, GATEWAYS, SUBNETS,
    circuit, instances, next_hops, space, subnet,
};

/// The route server's ASN.
pub const ASN: u32 = 65_515;
/// Where the daemon is asked.
pub const SOCKET: &str = "/run/waypost/waypost.sock";

/// What the changes change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub branch_to_branch: bool,
    /// ExpressRoute first, as is the default; else appliances and VPN.
    pub express_route_first: bool,
    /// Whether the last network is peered with the hub.
    pub last_is_peered: bool,
}

impl Settings {
    /// Whether a network is the hub, or peered with it.
    pub fn is_peered(&self, vnet: u32, vnets: u32) -> bool {
        self.last_is_peered || vnet != vnets - 1
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            branch_to_branch: false,
            express_route_first: true,
            last_is_peered: true,
        }
    }
}

/// The file's text.
pub fn text(bed: &Bed, settings: &Settings) -> String {
    let events = bed.gateway.folder().join("events.jsonl");
    let mut text = format!(
        "[daemon]\nsocket = \"{SOCKET}\"\nevent_log = \"{}\"\nstale_time = 20\n",
        events.display()
    );
    let mut machines = bed.machines.iter().peekable();
    for vnet in 0..bed.vnets {
        let _ = write!(
            text,
            "[[vnet]]\nname = \"{}\"\nprefixes = [\"{}\"]\n",
            name(vnet),
            space(vnet)
        );
        peerings(&mut text, bed, vnet, settings);
        for number in 0..SUBNETS {
            let prefix = subnet(vnet, number);
            let _ = write!(
                text,
                "[[vnet.subnet]]\nname = \"s{number}\"\nprefixes = [\"{prefix}\"]\n"
            );
            if vnet == 0 && number == APPLIANCES {
                let [first, second] = next_hops();
                forwarding_port(
                    &mut text,
                    APPLIANCE_PORT,
                    &format!("\"{first}\", \"{second}\""),
                );
            }
            if vnet == 0 && number == GATEWAYS {
                forwarding_port(&mut text, CIRCUIT_PORT, &format!("\"{}\"", circuit()));
            }
            let here = machines.next_if(|one| (one.vnet, one.subnet) == (vnet, number));
            if let Some(machine) = here {
                let [.., b, c, d] = machine.address().octets();
                let _ = write!(
                    text,
                    "[[vnet.subnet.port]]\ninterface = \"{}\"\naddresses = [\"{}\"]\n\
                     mac = \"02:00:00:{b:02x}:{c:02x}:{d:02x}\"\n",
                    machine.interface(),
                    machine.address()
                );
            }
        }
    }
    route_server(&mut text, settings);
    text
}

/// The hub and every other network have a peering with each other.
fn peerings(text: &mut String, bed: &Bed, vnet: u32, settings: &Settings) {
    let peered = |other: u32| settings.is_peered(other, bed.vnets);
    if vnet != 0 && peered(vnet) {
        let _ = write!(
            text,
            "[[vnet.peering]]\nremote = \"{}\"\nuse_remote_route_server = true\n\
             allow_forwarded_traffic = true\n",
            name(0)
        );
    }
    if vnet == 0 {
        for other in (1..bed.vnets).filter(|other| peered(*other)) {
            let _ = write!(
                text,
                "[[vnet.peering]]\nremote = \"{}\"\nallow_gateway_transit = true\n",
                name(other)
            );
        }
    }
}

fn forwarding_port(text: &mut String, interface: &str, addresses: &str) {
    let _ = write!(
        text,
        "[[vnet.subnet.port]]\ninterface = \"{interface}\"\naddresses = [{addresses}]\n\
         ip_forwarding = true\n"
    );
}

fn route_server(text: &mut String, settings: &Settings) {
    let preference = if settings.express_route_first {
        "express_route"
    } else {
        "vpn_gateway"
    };
    let _ = write!(
        text,
        "[[route_server]]\nname = \"rs\"\nasn = {ASN}\nvnet = \"{}\"\nbranch_to_branch = {}\n\
         routing_preference = \"{preference}\"\n",
        name(0),
        settings.branch_to_branch
    );
    for (id, address) in (1..).zip(instances()) {
        let _ = write!(
            text,
            "[[route_server.instance]]\nid = {id}\naddresses = [\"{address}\"]\n"
        );
    }
    let limits = "passive = true\nmax_prefixes = 1000000\nmax_advertised = 1000000\n";
    let [appliance, _] = next_hops();
    let _ = write!(
        text,
        "[[route_server.peer]]\nname = \"appliance\"\naddress = \"{appliance}\"\n\
         asn = {APPLIANCE_ASN}\n{limits}\
         [[route_server.gateway]]\nname = \"circuit\"\nkind = \"express_route\"\n\
         members = [\"{}\"]\nasn = {CIRCUIT_ASN}\n{limits}",
        circuit()
    );
}

fn name(vnet: u32) -> String {
    if vnet == 0 {
        "hub".to_owned()
    } else {
        format!("v{vnet}")
    }
}
