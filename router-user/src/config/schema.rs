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
    keys: &[
        "socket",
        "bgp_port",
        "stale_time",
        "event_log",
        "event_log_size",
        "metrics",
    ],
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
        "restart_time",
        "refresh_time",
        "require_policy",
        "connection_rate",
        "instance",
        "peer",
        "dynamic_peer",
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
    keys: &with_peer_settings::<{ 4 + PEER_SETTINGS.len() }>(&[
        "name",
        "address",
        "passive",
        "connect_retry",
    ]),
};

/// `[[route_server.dynamic_peer]]`.
pub const DYNAMIC_PEER: Schema = Schema {
    header: "[[route_server.dynamic_peer]]",
    keys: &with_peer_settings::<{ 3 + PEER_SETTINGS.len() }>(&["name", "prefix", "max_peers"]),
};

/// `[[route_server.peer.tcp_ao]]`, and the same under `dynamic_peer`.
pub const TCP_AO: Schema = Schema {
    header: "[[route_server.peer.tcp_ao]]",
    keys: &["id", "secret", "algorithm"],
};

/// What can be set for each peer, dynamic ones included.
const PEER_SETTINGS: [&str; 23] = [
    "asn",
    "hold_time",
    "max_prefixes",
    "limit_action",
    "limit_restart",
    "families",
    "send_hold_time",
    "md5_password",
    "tcp_ao",
    "ttl_security",
    "add_path_receive",
    "add_path_send",
    "graceful_restart",
    "long_lived_stale_time",
    "extended_next_hop",
    "role",
    "strict_role",
    "allow_own_as",
    "allow_as_set",
    "enforce_first_as",
    "max_as_path_length",
    "as_override",
    "transparent",
];

const fn with_peer_settings<const N: usize>(own: &[&'static str]) -> [&'static str; N] {
    let mut keys = [""; N];
    let mut at = 0;
    while at < N {
        keys[at] = if at < own.len() {
            own[at]
        } else {
            PEER_SETTINGS[at - own.len()]
        };
        at += 1;
    }
    keys
}

/// Every section.
pub const ALL: [&Schema; 11] = [
    &ROOT,
    &DAEMON,
    &DATAPLANE,
    &VNET,
    &SUBNET,
    &PORT,
    &ROUTE_SERVER,
    &INSTANCE,
    &PEER,
    &DYNAMIC_PEER,
    &TCP_AO,
];
