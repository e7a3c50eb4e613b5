//! The keys that the configuration knows, section by section.

/// A section of the file and the keys that may stand in it.
#[derive(Debug)]
pub struct Schema {
    /// As written in the file: `[daemon]`, `[[vnet.subnet]]`.
    pub header: &'static str,
    /// Keys and subsections.
    pub keys: &'static [&'static str],
}

/// The top level.
pub const ROOT: Schema = Schema {
    header: "the top level",
    keys: &["daemon", "dataplane", "vnet", "route_server"],
};

/// `[daemon]`.
pub const DAEMON: Schema = Schema {
    header: "[daemon]",
    keys: &["socket", "bgp_port", "stale_time"],
};

/// `[dataplane]`.
pub const DATAPLANE: Schema = Schema {
    header: "[dataplane]",
    keys: &[
        "instance",
        "bpffs",
        "require_native",
        "max_routes_v4",
        "max_routes_v6",
        "flow_seed",
        "icmp_rate",
    ],
};

/// `[[vnet]]`.
pub const VNET: Schema = Schema {
    header: "[[vnet]]",
    keys: &["name", "prefixes", "uplink", "subnet"],
};

/// `[[vnet.subnet]]`.
pub const SUBNET: Schema = Schema {
    header: "[[vnet.subnet]]",
    keys: &["name", "prefixes", "gateways", "port"],
};

/// `[[vnet.subnet.port]]`.
pub const PORT: Schema = Schema {
    header: "[[vnet.subnet.port]]",
    keys: &["interface", "addresses", "mac", "ip_forwarding"],
};

/// `[[route_server]]`.
pub const ROUTE_SERVER: Schema = Schema {
    header: "[[route_server]]",
    keys: &[
        "name",
        "vnet",
        "asn",
        "reflect_between_nvas",
        "max_paths",
        "instance",
        "peer",
    ],
};

/// `[[route_server.instance]]`.
pub const INSTANCE: Schema = Schema {
    header: "[[route_server.instance]]",
    keys: &["id", "router_id", "addresses"],
};

/// `[[route_server.peer]]`.
pub const PEER: Schema = Schema {
    header: "[[route_server.peer]]",
    keys: &[
        "name",
        "address",
        "asn",
        "passive",
        "hold_time",
        "connect_retry",
        "max_prefixes",
        "limit_action",
    ],
};

/// Every section.
pub const ALL: [&Schema; 9] = [
    &ROOT,
    &DAEMON,
    &DATAPLANE,
    &VNET,
    &SUBNET,
    &PORT,
    &ROUTE_SERVER,
    &INSTANCE,
    &PEER,
];
