//! The settings of peers: NVAs, dynamic ones and members of gateways.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{
    Membership, PeerKind, RouteMaps,
    claims::Claims,
    fault::Report,
    route_server::usable_asn,
    schema,
    section::{Located, Section},
};
use crate::{
    bgp::{
        settings::{AddPath, AoAlgorithm, AoKey, Restart, RoleSettings, Secret, Security},
        wire::{Asn, Family, FamilySet, Role},
    },
    names::PeerName,
};

/// `[[route_server.peer]]`: an NVA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: PeerName,
    /// It is not in the file: it came from the prefix of a `[[route_server.dynamic_peer]]`.
    pub dynamic: bool,
    /// It is a member of a gateway; `None`: an NVA.
    pub membership: Option<Membership>,
    /// Its address; the instances speak to it from their address of the same family.
    pub address: IpAddr,
    /// Its ASN.
    pub asn: Asn,
    /// Wait for its connection instead of connecting as well; default false.
    pub passive: bool,
    /// Offered hold time, seconds; default 180.
    pub hold_time: u16,
    /// Delay between connection attempts, seconds; default 120 in RFC 4271, here 5.
    pub connect_retry: u16,
    /// Most routes that it may announce, a session and family; default 1000.
    pub max_prefixes: u32,
    /// What happens beyond.
    pub limit_action: LimitAction,
    /// Most routes that it is sent, a session and family; default 1000 for members of gateways, no
    /// limit for NVAs.
    pub max_advertised: Option<u32>,
    /// What happens beyond.
    pub advertised_limit_action: LimitAction,
    /// After a teardown the session is tried again by itself; default true.
    pub limit_restart: bool,
    /// Families to exchange; default both.
    pub families: FamilySet,
    /// How long it may take nothing of what it is sent, seconds (RFC 9687); default 480.
    pub send_hold_time: u16,
    /// How its TCP connections are protected.
    pub security: Security,
    /// Several paths a prefix (RFC 7911).
    pub add_path: AddPath,
    /// Graceful restart; its time is the route server's.
    pub restart: Restart,
    /// IPv4 routes with IPv6 next hops (RFC 8950); default true.
    pub extended_next_hop: bool,
    /// Our role towards it (RFC 9234); default none.
    pub role: Option<RoleSettings>,
    /// Which of its paths are taken, and how paths are sent to it.
    pub policy: PeerPolicy,
    /// The route maps of its own; one that it has not is that of its kind
    /// ([`RouteServer::route_maps_of_kind`](super::RouteServer::route_maps_of_kind)).
    pub route_maps: RouteMaps,
}

impl Peer {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> PeerKind {
        let membership = self.membership.as_ref();
        membership.map_or(PeerKind::Nva, |membership| membership.kind)
    }

    /// A peer with all settings at their defaults.
    #[must_use]
    pub fn new(name: PeerName, address: IpAddr, asn: Asn) -> Self {
        Self {
            name,
            dynamic: false,
            membership: None,
            address,
            asn,
            passive: false,
            hold_time: 180,
            connect_retry: 5,
            max_prefixes: 1000,
            limit_action: LimitAction::default(),
            max_advertised: None,
            advertised_limit_action: LimitAction::default(),
            limit_restart: true,
            families: Family::ALL.into_iter().collect(),
            send_hold_time: 480,
            security: Security::default(),
            add_path: AddPath::default(),
            restart: Restart::default(),
            extended_next_hop: true,
            role: None,
            policy: PeerPolicy::default(),
            route_maps: RouteMaps::default(),
        }
    }
}

/// Which paths of a peer are taken, and how paths are sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerPolicy {
    /// How often the route server's own ASN may stand in a path; default 0.
    pub allow_own_as: u8,
    /// AS_SETs are accepted (RFC 9774 forbids them); default false.
    pub allow_as_set: bool,
    /// A path must begin with the peer's ASN; default true.
    pub enforce_first_as: bool,
    /// Longest AS path, ASNs counted one by one; default 255.
    pub max_as_path_length: u16,
    /// Outbound, the peer's ASN is replaced by our own; default false.
    pub as_override: bool,
    /// Outbound, our ASN is not prepended (RFC 7947); default false.
    pub transparent: bool,
    /// Outbound, ASNs for private use (RFC 6996) are taken out of the path; default false.
    pub remove_private_as: bool,
    /// Its routes with the community BLACKHOLE (RFC 7999) drop packets; default false, and the
    /// community means nothing.
    pub allow_blackhole: bool,
    /// Outbound, the default routes are originated; default false.
    pub default_originate: bool,
}

impl Default for PeerPolicy {
    fn default() -> Self {
        Self {
            allow_own_as: 0,
            allow_as_set: false,
            enforce_first_as: true,
            max_as_path_length: 255,
            as_override: false,
            transparent: false,
            remove_private_as: false,
            allow_blackhole: false,
            default_originate: false,
        }
    }
}

/// `[[route_server.dynamic_peer]]`: NVAs that are not known by address. Whoever connects from the
/// prefix becomes a peer; the route server never connects to it by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamicPeers {
    /// Name; the peers are called by it and their address.
    pub name: PeerName,
    /// Where they are.
    pub prefix: IpNet,
    /// Most of them at a time; default 100.
    pub max_peers: u16,
    /// What each is to be; name and address are its own.
    pub template: Peer,
}

/// What happens when a peer announces more than `max_prefixes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LimitAction {
    /// Cease, subcode 1; again after 15 minutes, doubling.
    #[default]
    Teardown,
    /// What is beyond is refused.
    Discard,
    /// Only a warning.
    Warn,
}

const LIMIT_ACTIONS: [(&str, LimitAction); 3] = [
    ("teardown", LimitAction::Teardown),
    ("discard", LimitAction::Discard),
    ("warn", LimitAction::Warn),
];

const ROLES: [(&str, Role); 5] = [
    ("provider", Role::Provider),
    ("route_server", Role::RouteServer),
    ("route_server_client", Role::RouteServerClient),
    ("customer", Role::Customer),
    ("peer", Role::Peer),
];

const ALGORITHMS: [(&str, AoAlgorithm); 2] = [
    ("hmac-sha-1-96", AoAlgorithm::HmacSha1),
    ("aes-128-cmac-96", AoAlgorithm::Aes128Cmac),
];

/// What peers of one route server share.
#[derive(Clone, Copy)]
pub(super) struct Common {
    /// The route server's ASN.
    pub(super) local_asn: Asn,
    /// Its restart time, seconds.
    pub(super) restart_time: u16,
}

/// Which ASNs a peer may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asns {
    /// Any but the route server's; there is no default.
    External,
    /// The route server's as well, which is the default.
    Any,
}

/// What a peer's section says beside who and where, and its route maps; `owner` names it in faults.
pub(super) fn read_settings(
    section: &Section<'_, '_>,
    common: Common,
    asns: Asns,
    owner: &str,
    report: &mut Report,
) -> Option<Peer> {
    let asn = if asns == Asns::Any && !section.has("asn") {
        Some(common.local_asn)
    } else {
        section.require("asn", report);
        section
            .integer("asn", 0..=Asn::MAX, report)
            .and_then(|asn| match asns {
                Asns::External => peer_asn(&asn, common.local_asn, owner, report),
                Asns::Any => usable_asn(&asn, owner, report),
            })
    };
    let defaults = Peer::new(PeerName::from(""), Ipv4Addr::UNSPECIFIED.into(), 0);
    let hold_time = section.number("hold_time", 0..=u16::MAX, defaults.hold_time, report);
    check_hold_time(section, hold_time, owner, report);
    let restart = restart(section, common.restart_time, owner, report);
    let max_advertised = section.integer("max_advertised", 1..=u32::MAX, report);
    Some(Peer {
        hold_time,
        max_prefixes: section.number("max_prefixes", 1..=u32::MAX, defaults.max_prefixes, report),
        limit_action: limit_action(section, "limit_action", report),
        max_advertised: max_advertised.map(|most| most.value),
        advertised_limit_action: limit_action(section, "advertised_limit_action", report),
        limit_restart: section.boolean("limit_restart", true, report),
        families: families(section, report),
        send_hold_time: section.number(
            "send_hold_time",
            1..=u16::MAX,
            defaults.send_hold_time,
            report,
        ),
        security: security(section, owner, report),
        add_path: AddPath {
            receive: section.boolean("add_path_receive", false, report),
            send: section.number("add_path_send", 0..=64, 0, report),
        },
        restart,
        extended_next_hop: section.boolean("extended_next_hop", true, report),
        role: role(section, owner, report),
        policy: policy(section, report),
        asn: asn?,
        ..defaults
    })
}

fn limit_action(section: &Section<'_, '_>, key: &str, report: &mut Report) -> LimitAction {
    let action = section.choice(key, &LIMIT_ACTIONS, report);
    action.map_or(LimitAction::default(), |action| action.value)
}

/// Longest long-lived stale time, seconds: 24 bits (RFC 9494 §3).
const MAX_STALE_TIME: u32 = (1 << 24) - 1;

fn check_hold_time(section: &Section<'_, '_>, time: u16, owner: &str, report: &mut Report) {
    if matches!(time, 1 | 2) {
        report.fault(
            section.place("hold_time"),
            format!("hold_time = {time} of {owner} is not allowed (RFC 4271)"),
            "give 0 (no keepalives) or at least 3 seconds",
        );
    }
}

fn restart(section: &Section<'_, '_>, time: u16, owner: &str, report: &mut Report) -> Restart {
    const LONG_LIVED: &str = "long_lived_stale_time";
    let restart = Restart {
        enabled: section.boolean("graceful_restart", true, report),
        time,
        long_lived_stale_time: section.number(LONG_LIVED, 0..=MAX_STALE_TIME, 0, report),
    };
    if !restart.enabled && restart.long_lived_stale_time > 0 {
        report.fault(
            section.place(LONG_LIVED),
            format!("{owner} has {LONG_LIVED}, but graceful_restart = false: nothing is kept"),
            format!("leave one of them out; {LONG_LIVED} builds on graceful restart (RFC 9494)"),
        );
    }
    restart
}

fn families(section: &Section<'_, '_>, report: &mut Report) -> FamilySet {
    const WORDS: [(&str, Family); 2] =
        [("ipv4", Family::Ipv4Unicast), ("ipv6", Family::Ipv6Unicast)];
    let mut families = FamilySet::EMPTY;
    for Located { value, at } in section.filled_list::<String>("families", report) {
        match WORDS.iter().find(|(word, _)| *word == value) {
            Some((_, family)) => families = families.with(*family),
            None => report.fault(
                at,
                format!("\"{value}\" is no address family"),
                "write \"ipv4\" or \"ipv6\"",
            ),
        }
    }
    if families == FamilySet::EMPTY {
        families = Family::ALL.into_iter().collect();
    }
    families
}

fn security(section: &Section<'_, '_>, owner: &str, report: &mut Report) -> Security {
    let md5_password = section.text::<Secret>("md5_password", report);
    let ttl_security = section.integer("ttl_security", 1..=254_u8, report);
    let mut ids = Claims::of("id");
    let mut tcp_ao = Vec::new();
    for key in section.subsections("tcp_ao", &schema::TCP_AO, report) {
        key.require("id", report);
        let id = key.integer("id", 0..=u8::MAX, report);
        let secret = key.required_text::<Secret>("secret", report);
        let algorithm = key.choice("algorithm", &ALGORITHMS, report);
        if let Some(id) = &id {
            ids.claim(id.value, format!("a TCP-AO key of {owner}"), id.at, report);
        }
        if let (Some(id), Some(secret)) = (id, secret) {
            tcp_ao.push(AoKey {
                id: id.value,
                secret: secret.value,
                algorithm: algorithm.map_or(AoAlgorithm::default(), |algorithm| algorithm.value),
            });
        }
    }
    if let Some(password) = &md5_password
        && !tcp_ao.is_empty()
    {
        report.fault(
            password.at,
            format!("{owner} has both md5_password and tcp_ao"),
            "keep one of them; TCP-AO (RFC 5925) replaces TCP MD5",
        );
    }
    Security {
        md5_password: md5_password.map(|password| password.value),
        tcp_ao,
        ttl_security: ttl_security.map(|hops| hops.value),
    }
}

fn role(section: &Section<'_, '_>, owner: &str, report: &mut Report) -> Option<RoleSettings> {
    let role = section.choice("role", &ROLES, report);
    let strict = section.boolean("strict_role", false, report);
    if strict && role.is_none() {
        report.fault(
            section.place("strict_role"),
            format!("{owner} has strict_role without a role"),
            "add role = \"route_server\", or leave strict_role out",
        );
    }
    Some(RoleSettings {
        role: role?.value,
        strict,
    })
}

fn policy(section: &Section<'_, '_>, report: &mut Report) -> PeerPolicy {
    let defaults = PeerPolicy::default();
    PeerPolicy {
        allow_own_as: section.number("allow_own_as", 0..=10, defaults.allow_own_as, report),
        allow_as_set: section.boolean("allow_as_set", defaults.allow_as_set, report),
        enforce_first_as: section.boolean("enforce_first_as", defaults.enforce_first_as, report),
        max_as_path_length: section.number(
            "max_as_path_length",
            1..=1023,
            defaults.max_as_path_length,
            report,
        ),
        as_override: section.boolean("as_override", defaults.as_override, report),
        transparent: section.boolean("transparent", defaults.transparent, report),
        remove_private_as: section.boolean("remove_private_as", defaults.remove_private_as, report),
        allow_blackhole: section.boolean("allow_blackhole", defaults.allow_blackhole, report),
        default_originate: section.boolean("default_originate", defaults.default_originate, report),
    }
}

fn peer_asn(asn: &Located<Asn>, local_asn: Asn, owner: &str, report: &mut Report) -> Option<Asn> {
    let value = usable_asn(asn, owner, report)?;
    if value == local_asn {
        report.fault(
            asn.at,
            format!("asn {value} of {owner} is the route server's own"),
            "give the appliance another ASN, for example 65010: NVAs speak external BGP",
        );
        return None;
    }
    if matches!(value, 8074 | 8075 | 12076 | 65517..=65520) {
        report.warning(
            asn.at,
            format!("asn {value} of {owner} is reserved by Azure"),
            "choose another one if the network is ever to be connected with Azure",
        );
    }
    Some(value)
}
