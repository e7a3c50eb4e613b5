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
    keys: &["daemon", "dataplane", "vnet", "route_table", "route_server"],
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
    keys: &["name", "prefixes", "uplink", "subnet", "peering"],
};

/// `[[vnet.subnet]]`.
pub const SUBNET: Schema = Schema {
    header: "[[vnet.subnet]]",
    keys: &["name", "prefixes", "gateways", "route_table", "port"],
};

/// `[[vnet.subnet.port]]`.
pub const PORT: Schema = Schema {
    header: "[[vnet.subnet.port]]",
    keys: &["interface", "addresses", "mac", "ip_forwarding"],
};

/// `[[vnet.peering]]`.
pub const PEERING: Schema = Schema {
    header: "[[vnet.peering]]",
    keys: &[
        "remote",
        "use_remote_route_server",
        "allow_gateway_transit",
        "allow_forwarded_traffic",
    ],
};

/// `[[route_table]]`.
pub const ROUTE_TABLE: Schema = Schema {
    header: "[[route_table]]",
    keys: &["name", "propagate_routes", "route"],
};

/// `[[route_table.route]]`.
pub const USER_DEFINED_ROUTE: Schema = Schema {
    header: "[[route_table.route]]",
    keys: &["prefix", "next_hop_type", "next_hop"],
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
        "branch_to_branch",
        "routing_preference",
        "always_compare_med",
        "cluster_id",
        "soft_max_peers",
        "instance",
        "peer",
        "dynamic_peer",
        "gateway",
        "route_map",
        "route_maps",
        "learned",
        "advertised",
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

/// `[[route_server.gateway]]`.
pub const GATEWAY: Schema = Schema {
    header: "[[route_server.gateway]]",
    keys: &with_peer_settings::<{ 7 + PEER_SETTINGS.len() }>(&[
        "name",
        "kind",
        "members",
        "prefix",
        "max_members",
        "passive",
        "connect_retry",
    ]),
};

/// `[[route_server.peer.tcp_ao]]`, and the same under `dynamic_peer` and `gateway`.
pub const TCP_AO: Schema = Schema {
    header: "[[route_server.peer.tcp_ao]]",
    keys: &["id", "secret", "algorithm"],
};

/// `[[route_server.route_map]]`.
pub const ROUTE_MAP: Schema = Schema {
    header: "[[route_server.route_map]]",
    keys: &["name", "rule"],
};

/// `[[route_server.route_map.rule]]`.
pub const ROUTE_MAP_RULE: Schema = Schema {
    header: "[[route_server.route_map.rule]]",
    keys: &[
        "name",
        "prefix",
        "community",
        "as_path",
        "source",
        "source_peer",
        "action",
        "aggregate",
        "as_path_replace",
        "as_path_prepend",
        "community_replace",
        "community_remove",
        "community_add",
        "local_pref",
        "med",
        "weight",
        "next_hop",
        "then",
    ],
};

/// `[route_server.route_maps]`.
pub const ROUTE_MAPS: Schema = Schema {
    header: "[route_server.route_maps]",
    keys: &["nva", "express_route", "vpn"],
};

/// `[route_server.route_maps.nva]`, and the same for the other kinds of peer.
pub const ROUTE_MAPS_OF_KIND: Schema = Schema {
    header: "[route_server.route_maps.nva]",
    keys: &["in", "out"],
};

/// `[[route_server.learned]]`.
pub const LEARNED: Schema = Schema {
    header: "[[route_server.learned]]",
    keys: &["prefix", "next_hop"],
};

/// `[[route_server.advertised]]`.
pub const ADVERTISED: Schema = Schema {
    header: "[[route_server.advertised]]",
    keys: &["prefix", "to", "to_peer", "next_hop", "med", "community"],
};

/// What can be set for each peer, dynamic ones and members of gateways included.
const PEER_SETTINGS: [&str; 30] = [
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
    "remove_private_as",
    "allow_blackhole",
    "default_originate",
    "max_advertised",
    "advertised_limit_action",
    "route_map_in",
    "route_map_out",
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
pub const ALL: [&Schema; 21] = [
    &ROOT,
    &DAEMON,
    &DATAPLANE,
    &VNET,
    &SUBNET,
    &PORT,
    &PEERING,
    &ROUTE_TABLE,
    &USER_DEFINED_ROUTE,
    &ROUTE_SERVER,
    &INSTANCE,
    &PEER,
    &DYNAMIC_PEER,
    &GATEWAY,
    &TCP_AO,
    &ROUTE_MAP,
    &ROUTE_MAP_RULE,
    &ROUTE_MAPS,
    &ROUTE_MAPS_OF_KIND,
    &LEARNED,
    &ADVERTISED,
];
