//! `[[route_table]]`: user-defined routes, and which learned ones reach a subnet.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    PeerKind, Port, RouteServer,
    claims::Claims,
    fault::{self, Report},
    networks::Networks,
    schema,
    section::{Located, Section},
    special::refuse_next_hop,
    values::{Address, Name, Prefix},
};
use crate::names::RouteTableName;

/// `[[route_table]]`: what subnets that name it have beside the system's routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTable {
    /// Its name.
    pub name: RouteTableName,
    /// From which kinds of peer learned routes reach its subnets; default all.
    pub propagate: Propagate,
    /// `[[route_table.route]]`, sorted by prefix; each prefix once.
    pub routes: Vec<UserDefinedRoute>,
}

/// From which kinds of peer learned routes reach a subnet. Routes learned by hand go with those of
/// NVAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Propagate {
    /// From NVAs.
    pub nva: bool,
    /// From ExpressRoute gateways.
    pub express_route: bool,
    /// From VPN gateways.
    pub vpn: bool,
}

impl Propagate {
    /// All reach it.
    pub const ALL: Self = Self {
        nva: true,
        express_route: true,
        vpn: true,
    };

    /// None does.
    pub const NONE: Self = Self {
        nva: false,
        express_route: false,
        vpn: false,
    };

    /// Whether those from this kind of peer do.
    #[must_use]
    pub const fn from(self, kind: PeerKind) -> bool {
        match kind {
            PeerKind::Nva => self.nva,
            PeerKind::ExpressRoute => self.express_route,
            PeerKind::Vpn => self.vpn,
        }
    }
}

impl Default for Propagate {
    fn default() -> Self {
        Self::ALL
    }
}

/// `[[route_table.route]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserDefinedRoute {
    /// The prefix.
    pub prefix: IpNet,
    /// Where its packets go.
    pub next_hop: UserDefinedNextHop,
}

/// Where the packets of a user-defined route go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserDefinedNextHop {
    /// An appliance with this address in the network or in one that it is peered with.
    VirtualAppliance(IpAddr),
    /// The live members of the VPN gateway of the route server in use.
    VirtualNetworkGateway,
    /// The attached host that has the destination.
    VirtualNetwork,
    /// The network's uplink.
    Internet,
    /// Nowhere.
    None,
}

/// The words of `next_hop_type`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HopType {
    Appliance,
    Plain(UserDefinedNextHop),
}

const HOP_TYPES: [(&str, HopType); 5] = [
    ("virtual_appliance", HopType::Appliance),
    (
        "virtual_network_gateway",
        HopType::Plain(UserDefinedNextHop::VirtualNetworkGateway),
    ),
    (
        "virtual_network",
        HopType::Plain(UserDefinedNextHop::VirtualNetwork),
    ),
    ("internet", HopType::Plain(UserDefinedNextHop::Internet)),
    ("none", HopType::Plain(UserDefinedNextHop::None)),
];

/// The route tables of a file, and which of them subnets name.
#[derive(Debug, Default)]
pub(super) struct RouteTables {
    tables: Vec<(usize, RouteTable)>,
    appliances: Vec<Appliance>,
    /// Names of all of them, those with faults included, and whether a subnet uses them.
    used: HashMap<RouteTableName, bool>,
    /// The name of one could not be read: it may be the one that a subnet means.
    nameless: bool,
}

/// The next hop of one of their routes.
#[derive(Debug)]
struct Appliance {
    table: RouteTableName,
    prefix: IpNet,
    address: IpAddr,
    at: usize,
}

impl RouteTables {
    /// Reads all of them.
    pub(super) fn read(root: &Section<'_, '_>, report: &mut Report) -> Self {
        let mut all = Self::default();
        let mut names = Claims::of("name");
        for section in root.subsections("route_table", &schema::ROUTE_TABLE, report) {
            let name = section.required_text::<Name>("name", report);
            let label = name.as_ref().map_or("?", |name| &name.value.0).to_owned();
            let table = RouteTable {
                name: label.as_str().into(),
                propagate: propagate(&section, report),
                routes: all.routes(&section, &label, report),
            };
            let Some(name) = name else {
                all.nameless = true;
                continue;
            };
            names.claim(table.name.clone(), "a route table", name.at, report);
            all.used.insert(table.name.clone(), false);
            all.tables.push((section.at, table));
        }
        all
    }

    /// The table that a subnet names, if it does.
    pub(super) fn of_subnet(
        &mut self,
        section: &Section<'_, '_>,
        subnet: &str,
        report: &mut Report,
    ) -> Option<RouteTableName> {
        let Located { value, at } = section.text::<Name>("route_table", report)?;
        let name = RouteTableName::from(value.0);
        match self.used.get_mut(&name) {
            Some(used) => *used = true,
            None if self.nameless => {}
            None => report.fault(
                at,
                format!("subnet {subnet}: there is no route table \"{name}\""),
                if self.tables.is_empty() {
                    "add a [[route_table]] of that name".to_owned()
                } else {
                    let names = self.tables.iter().map(|(_, table)| &table.name);
                    format!("name one of: {}", fault::known(names))
                },
            ),
        }
        Some(name)
    }

    /// The tables. Those that no subnet uses deserve a warning, as do appliances out of reach.
    pub(super) fn finish(
        self,
        networks: &Networks,
        servers: &[RouteServer],
        report: &mut Report,
    ) -> Vec<RouteTable> {
        for (at, table) in &self.tables {
            if !self.used[&table.name] {
                report.warning(
                    *at,
                    format!("route table {} is that of no subnet", table.name),
                    "name it as route_table of a [[vnet.subnet]], or remove it",
                );
            }
        }
        self.check_appliances(networks, report);
        self.warn_of_gateways(networks, servers, report);
        self.tables.into_iter().map(|(_, table)| table).collect()
    }

    fn routes(
        &mut self,
        table: &Section<'_, '_>,
        label: &str,
        report: &mut Report,
    ) -> Vec<UserDefinedRoute> {
        let mut prefixes = Claims::of("prefix");
        let mut routes = Vec::new();
        for section in table.subsections("route", &schema::USER_DEFINED_ROUTE, report) {
            let prefix = section.required_text::<Prefix>("prefix", report);
            if let Some(prefix) = &prefix {
                let owner = format!("a route of table {label}");
                prefixes.claim(prefix.value.0, owner, prefix.at, report);
            }
            let prefix = prefix.map(|prefix| prefix.value.0);
            let next_hop = next_hop(&section, prefix, label, report);
            let (Some(prefix), Some(next_hop)) = (prefix, next_hop) else {
                continue;
            };
            if let UserDefinedNextHop::VirtualAppliance(address) = next_hop {
                self.appliances.push(Appliance {
                    table: label.into(),
                    prefix,
                    address,
                    at: section.place("next_hop"),
                });
            }
            routes.push(UserDefinedRoute { prefix, next_hop });
        }
        routes.sort_by_key(|route| route.prefix);
        routes
    }

    /// The next hops of routes are machines that the networks whose subnets have them reach.
    fn check_appliances(&self, networks: &Networks, report: &mut Report) {
        let mut users: HashMap<&RouteTableName, BTreeSet<usize>> = HashMap::new();
        for (index, network) in networks.iter().enumerate() {
            let subnets = network.vnet.subnets.iter();
            for table in subnets.filter_map(|subnet| subnet.route_table.as_ref()) {
                users.entry(table).or_default().insert(index);
            }
        }
        let forwards = networks.forwards();
        for appliance in &self.appliances {
            let Some(users) = users.get(&appliance.table) else {
                continue;
            };
            if !appliance.is_own(networks, users, report) {
                appliance.warn_of_unreached(networks, users, report);
                if forwards {
                    appliance.warn_without_port(networks, users, report);
                }
            }
        }
    }
}

impl Appliance {
    /// Whether it is the gateway host itself, which is reported.
    fn is_own(&self, networks: &Networks, users: &BTreeSet<usize>, report: &mut Report) -> bool {
        let mut places = users
            .iter()
            .filter_map(|network| networks.reached(*network, self.address));
        let own = places.find_map(|network| network.own.owner(&self.address));
        let Some((owner, place)) = own else {
            return false;
        };
        let line = report.line_of(place);
        report.fault(
            self.at,
            format!("{self} is that of {owner} (line {line})"),
            "give the address of the appliance",
        );
        true
    }

    /// A network whose packets do not reach it has its route as an invalid one.
    fn warn_of_unreached(&self, networks: &Networks, users: &BTreeSet<usize>, report: &mut Report) {
        let without: Vec<_> = users
            .iter()
            .filter(|network| !networks.may_reach(**network, self.address))
            .map(|network| &networks.at(*network).vnet.name)
            .collect();
        if without.is_empty() {
            return;
        }
        report.warning(
            self.at,
            format!(
                "{self} lies neither in network {} nor in one that is peered with it: the route is \
                 invalid there",
                fault::known(without)
            ),
            "give the address of an appliance that can be reached, or add the peering",
        );
    }

    fn warn_without_port(&self, networks: &Networks, users: &BTreeSet<usize>, report: &mut Report) {
        let mut places = users
            .iter()
            .filter_map(|network| networks.reached(*network, self.address));
        if let Some(network) = places.find(|network| !network.has_port(self.address)) {
            network.warn_without_port(&self.to_string(), self.at, report);
        }
    }
}

impl fmt::Display for Appliance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            prefix,
            address,
            ..
        } = self;
        write!(f, "next hop {address} of route {prefix} of table {table}")
    }
}

impl RouteTables {
    /// Ports of a gateway's members take what the gateway is sent, whatever a table lets in.
    fn warn_of_gateways(&self, networks: &Networks, servers: &[RouteServer], report: &mut Report) {
        for server in servers.iter().filter(|server| !server.gateways.is_empty()) {
            let is_gateway = |port: &Port| {
                let mut addresses = port.addresses.iter();
                addresses.any(|own| server.gateways.iter().any(|it| it.members.include(*own)))
            };
            let vnet = networks.find(&server.vnet).map(|at| &networks.at(at).vnet);
            for subnet in vnet.into_iter().flat_map(|vnet| &vnet.subnets) {
                let mut tables = self.tables.iter();
                let named =
                    tables.find(|(_, table)| Some(&table.name) == subnet.route_table.as_ref());
                let Some((at, table)) = named else {
                    continue;
                };
                let ports = &subnet.ports;
                let ignored = !ports.is_empty() && ports.iter().all(is_gateway);
                if ignored && table.propagate != Propagate::ALL {
                    report.warning(
                        *at,
                        format!(
                            "propagate_routes of table {} has no effect in subnet {}/{}: its ports \
                             are those of a gateway, which take what the gateway is sent",
                            table.name, server.vnet, subnet.name
                        ),
                        "leave it out, or give the subnet another table",
                    );
                }
            }
        }
    }
}

/// `true`, `false`, or a list of kinds of peer.
fn propagate(section: &Section<'_, '_>, report: &mut Report) -> Propagate {
    const KEY: &str = "propagate_routes";
    if !section.is_list(KEY) {
        return if section.boolean(KEY, true, report) {
            Propagate::ALL
        } else {
            Propagate::NONE
        };
    }
    let kinds = section.choices(KEY, &PeerKind::WORDS, report);
    let mut propagate = Propagate::NONE;
    for Located { value, .. } in kinds {
        match value {
            PeerKind::Nva => propagate.nva = true,
            PeerKind::ExpressRoute => propagate.express_route = true,
            PeerKind::Vpn => propagate.vpn = true,
        }
    }
    propagate
}

fn next_hop(
    section: &Section<'_, '_>,
    prefix: Option<IpNet>,
    table: &str,
    report: &mut Report,
) -> Option<UserDefinedNextHop> {
    section.require("next_hop_type", report);
    let kind = section.choice("next_hop_type", &HOP_TYPES, report);
    let address = section.text::<Address>("next_hop", report);
    let route = match prefix {
        Some(prefix) => format!("route {prefix} of table {table}"),
        None => format!("a route of table {table}"),
    };
    match (kind?.value, address) {
        (HopType::Plain(next_hop), None) => Some(next_hop),
        (HopType::Plain(_), Some(address)) => {
            report.fault(
                address.at,
                format!("{route} has a next_hop, which its next_hop_type has not"),
                "leave next_hop out, or write next_hop_type = \"virtual_appliance\"",
            );
            None
        }
        (HopType::Appliance, Some(address)) => {
            refuse_next_hop(&address, prefix.as_ref(), &route, report);
            Some(UserDefinedNextHop::VirtualAppliance(address.value.0))
        }
        (HopType::Appliance, None) => {
            if !section.has("next_hop") {
                report.fault(
                    section.at,
                    format!("{route} names no appliance"),
                    "add next_hop = \"…\", the appliance's address",
                );
            }
            None
        }
    }
}
