//! Which keys of a section changed. What is not named here does not compile: a new field is told too.

use super::super::{DynamicPeers, Gateway, GatewayMembers, Peer, PeerPolicy, Port, RouteMaps};
use crate::bgp::settings::{AddPath, Restart, RoleSettings, Security};

/// Those of a port.
pub(super) fn of_port(old: &Port, new: &Port) -> Vec<&'static str> {
    let Port {
        interface: _,
        addresses,
        mac,
        ip_forwarding,
    } = old;
    changed([
        ("addresses", *addresses != new.addresses),
        ("mac", *mac != new.mac),
        ("ip_forwarding", *ip_forwarding != new.ip_forwarding),
    ])
}

/// Those of a peer.
pub(super) fn of_peer(old: &Peer, new: &Peer) -> Vec<&'static str> {
    let mut keys = changed([("address", old.address != new.address)]);
    keys.extend(of_settings(old, new));
    keys
}

/// Those of dynamic peers.
pub(super) fn of_dynamic_peers(old: &DynamicPeers, new: &DynamicPeers) -> Vec<&'static str> {
    let DynamicPeers {
        name: _,
        prefix,
        max_peers,
        template,
    } = old;
    let mut keys = changed([
        ("prefix", *prefix != new.prefix),
        ("max_peers", *max_peers != new.max_peers),
    ]);
    keys.extend(of_settings(template, &new.template));
    keys
}

/// Those of a gateway.
pub(super) fn of_gateway(old: &Gateway, new: &Gateway) -> Vec<&'static str> {
    let Gateway {
        name: _,
        kind,
        members,
        template,
    } = old;
    let mut keys = changed([("kind", *kind != new.kind)]);
    keys.extend(match (members, &new.members) {
        (
            GatewayMembers::Range {
                prefix,
                max_members,
            },
            GatewayMembers::Range {
                prefix: new_prefix,
                max_members: new_most,
            },
        ) => changed([
            ("prefix", prefix != new_prefix),
            ("max_members", max_members != new_most),
        ]),
        (old, new) => changed([("members", old != new)]),
    });
    keys.extend(of_settings(template, &new.template));
    keys
}

/// Those that all kinds of peers have. The restart time is the route server's.
fn of_settings(old: &Peer, new: &Peer) -> Vec<&'static str> {
    let Peer {
        name: _,
        dynamic: _,
        membership: _,
        address: _,
        asn,
        passive,
        hold_time,
        connect_retry,
        max_prefixes,
        limit_action,
        max_advertised,
        advertised_limit_action,
        limit_restart,
        families,
        send_hold_time,
        security:
            Security {
                md5_password,
                tcp_ao,
                ttl_security,
            },
        add_path: AddPath { receive, send },
        restart:
            Restart {
                enabled,
                time: _,
                long_lived_stale_time,
            },
        extended_next_hop,
        role,
        policy,
        route_maps: RouteMaps { inbound, outbound },
    } = old;
    let parts = |role: &Option<RoleSettings>| {
        let strict = role.is_some_and(|RoleSettings { strict, .. }| strict);
        (role.map(|RoleSettings { role, .. }| role), strict)
    };
    let (role, strict) = parts(role);
    let (new_role, new_strict) = parts(&new.role);
    let mut keys = changed([
        ("asn", *asn != new.asn),
        ("passive", *passive != new.passive),
        ("hold_time", *hold_time != new.hold_time),
        ("connect_retry", *connect_retry != new.connect_retry),
        ("max_prefixes", *max_prefixes != new.max_prefixes),
        ("limit_action", *limit_action != new.limit_action),
        ("max_advertised", *max_advertised != new.max_advertised),
        (
            "advertised_limit_action",
            *advertised_limit_action != new.advertised_limit_action,
        ),
        ("limit_restart", *limit_restart != new.limit_restart),
        ("families", *families != new.families),
        ("send_hold_time", *send_hold_time != new.send_hold_time),
        ("md5_password", *md5_password != new.security.md5_password),
        ("tcp_ao", *tcp_ao != new.security.tcp_ao),
        ("ttl_security", *ttl_security != new.security.ttl_security),
        ("add_path_receive", *receive != new.add_path.receive),
        ("add_path_send", *send != new.add_path.send),
        ("graceful_restart", *enabled != new.restart.enabled),
        (
            "long_lived_stale_time",
            *long_lived_stale_time != new.restart.long_lived_stale_time,
        ),
        (
            "extended_next_hop",
            *extended_next_hop != new.extended_next_hop,
        ),
        ("role", role != new_role),
        ("strict_role", strict != new_strict),
        ("route_map_in", *inbound != new.route_maps.inbound),
        ("route_map_out", *outbound != new.route_maps.outbound),
    ]);
    keys.extend(of_policy(policy, &new.policy));
    keys
}

fn of_policy(old: &PeerPolicy, new: &PeerPolicy) -> Vec<&'static str> {
    let PeerPolicy {
        allow_own_as,
        allow_as_set,
        enforce_first_as,
        max_as_path_length,
        as_override,
        transparent,
        remove_private_as,
        allow_blackhole,
        default_originate,
    } = old;
    changed([
        ("allow_own_as", *allow_own_as != new.allow_own_as),
        ("allow_as_set", *allow_as_set != new.allow_as_set),
        (
            "enforce_first_as",
            *enforce_first_as != new.enforce_first_as,
        ),
        (
            "max_as_path_length",
            *max_as_path_length != new.max_as_path_length,
        ),
        ("as_override", *as_override != new.as_override),
        ("transparent", *transparent != new.transparent),
        (
            "remove_private_as",
            *remove_private_as != new.remove_private_as,
        ),
        ("allow_blackhole", *allow_blackhole != new.allow_blackhole),
        (
            "default_originate",
            *default_originate != new.default_originate,
        ),
    ])
}

fn changed<const N: usize>(keys: [(&'static str, bool); N]) -> Vec<&'static str> {
    let changed = keys.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(key, _)| key).collect()
}
