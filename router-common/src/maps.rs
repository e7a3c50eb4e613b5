//! Keys and values of the pinned maps.
//!
//! Field names are what `bpftool map dump` prints, so they use the field's terms. All integers are
//! in host byte order unless a comment says otherwise. Structures hold no padding that is not
//! named, so that every byte written is defined.
//!
//! How they hang together:
//!
//! ```text
//! port_by_ifindex[ifindex] → ports[place] ─┬─ own_table ────► routes_v4 / routes_v6 ─► RouteEntry
//!                                          └─ learned_table ─►        (longest prefix)     │ group
//!         dev_map[port] ◄─┐                                                                ▼
//!                         │                 next_hops[id] ◄── buckets[first + hash] ◄── groups[id]
//!            neighbors[place] ◄── neighbor ──┘
//!                    ▲
//!                    └── hosts[{vnet, address}]   (attached hosts: delivery and source check)
//!
//! restricted[{set, vnet}]: networks that take only what is at home in the port's network; a port
//! names one such set, nearly all ports none
//! ```
//!
//! What is wider than one aligned word (`Port`, `Neighbor`) is never changed in place: it is
//! written to a fresh place, published by one aligned word, and its old place is used again only
//! after a grace period.
//!
//! The kernel gives the elements of `port_by_ifindex` and `hosts` to other keys the moment that they
//! are removed, also while a program holds one. So `ports` and `neighbors` say themselves whose they
//! are, and a program that finds somebody else's takes it for none.
//!
//! Beside these the object holds two maps of the XDP program's own, of no use after it is gone:
//! `scratch` (bytes being summed) and `icmp_budget` (rate limit of ICMP errors), both per CPU.

/// Table number that no table has: "no table".
pub const NO_TABLE: u32 = 0;

/// Number that no group, next hop or neighbour place has. Element 0 of those arrays stays zeroed.
pub const NONE: u32 = 0;

/// Number that no port has. Place 0 of `port_counters` counts what arrives on interfaces that are
/// no port (any more).
pub const NO_PORT: u32 = 0;

/// Size of `port_by_ifindex`, `dev_map` and `port_counters`: one more than a host can have ports.
pub const MAX_PORTS: u32 = 4096;

/// Size of `ports`: all ports may change at once, and again before a grace period has passed.
pub const MAX_PORT_PLACES: u32 = 3 * MAX_PORTS;

/// Largest number of next hops in use at one time.
pub const MAX_NEXT_HOPS: u32 = 16_384;

/// Largest number of resolved neighbours, attached hosts included.
pub const MAX_NEIGHBORS: u32 = 65_536;

/// Largest number of groups in use at one time.
pub const MAX_GROUPS: u32 = 16_384;

/// Size of the `buckets` array.
pub const MAX_BUCKETS: u32 = 1 << 20;

/// Default size of `routes_v4`; the trie allocates an entry when it is written, not before.
pub const MAX_ROUTES_V4: u32 = 4 << 20;

/// Default size of `routes_v6`.
pub const MAX_ROUTES_V6: u32 = 1 << 20;

/// Largest number of names that the daemon keeps beside their numbers.
pub const MAX_NAMES: u32 = 65_536;

/// Size of `restricted`: 500 networks that each restrict all others, whose sets stand twice while
/// they change.
pub const MAX_RESTRICTED: u32 = 1 << 19;

/// Bits of the table number at the head of every trie key.
pub const TABLE_BITS: u32 = 32;

/// What follows the prefix length in a key of `routes_v4`.
///
/// The trie's prefix length counts the table's 32 bits too: a /16 has `prefix_len` 48.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteKeyV4 {
    /// Number of the table.
    pub table: u32,
    /// The prefix's address, network byte order.
    pub address: [u8; 4],
}

/// What follows the prefix length in a key of `routes_v6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteKeyV6 {
    /// Number of the table.
    pub table: u32,
    /// The prefix's address, network byte order.
    pub address: [u8; 16],
}

/// A route: value of `routes_v4` and `routes_v6`.
///
/// A trie does not tell which entry matched, so the value repeats its prefix length; XDP weighs
/// the answers of the own and the learned table by it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteEntry {
    /// Number of the group in `groups`.
    pub group: u32,
    /// Length of the address prefix alone, 0 to 32 or 128.
    pub prefix_len: u8,
    /// One of [`precedence`].
    pub precedence: u8,
    /// Bits of [`route_flags`].
    pub flags: u8,
    /// Zero.
    pub reserved: u8,
}

/// Which of two routes with prefixes of equal length wins: the larger.
pub mod precedence {
    /// A system route.
    pub const SYSTEM: u8 = 1;
    /// Learned by BGP.
    pub const LEARNED: u8 = 2;
    /// User-defined.
    pub const USER_DEFINED: u8 = 3;
}

/// Flags of a [`RouteEntry`].
pub mod route_flags {
    /// Beats a learned route of any length (the virtual network's own space, peerings, and what
    /// lies beneath them).
    pub const OVERRIDING: u8 = 1;
    /// Lies within the network's own space: a source whose route in the port's own table has this is
    /// at home.
    pub const LOCAL: u8 = 2;
}

impl RouteEntry {
    /// Whether this route of the own table wins over `learned`, the learned table's answer for the
    /// same destination.
    #[inline(always)]
    #[must_use]
    pub const fn wins_over(&self, learned: &Self) -> bool {
        self.flags & route_flags::OVERRIDING != 0
            || self.prefix_len > learned.prefix_len
            || (self.prefix_len == learned.prefix_len && self.precedence > learned.precedence)
    }
}

/// A next-hop group: where its buckets lie. Value of `groups`; one aligned word, so that it is
/// replaced in one write.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Place of the first bucket in `buckets`.
    pub first_bucket: u32,
    /// Number of buckets less one (a power of two less one); 0 for a group of a single next hop.
    pub mask: u32,
}

/// A bucket of a group: value of `buckets`; one aligned word.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Number of the next hop that the bucket's flows take.
    pub primary: u32,
    /// Number of the next hop that they take while the primary is down; [`NONE`] if there is none.
    pub backup: u32,
}

/// A next hop: value of `next_hops`. Each field is written by itself as one aligned word; `kind`
/// never changes while the next hop is in use.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHop {
    /// One of [`next_hop_kind`].
    pub kind: u32,
    /// `VIA`: place in `neighbors`, [`NONE`] while unresolved. `ATTACHED`: number of the virtual
    /// network whose `hosts` are asked.
    pub neighbor: u32,
    /// Not 0: skipped, the bucket's backup serves.
    pub down: u32,
    /// Zero.
    pub reserved: u32,
}

impl Group {
    /// The group as the one word that it is read and written as.
    #[inline(always)]
    #[must_use]
    pub const fn to_word(self) -> u64 {
        join(self.first_bucket, self.mask)
    }

    /// The group in a word.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        let (first_bucket, mask) = split(word);
        Self { first_bucket, mask }
    }
}

impl Bucket {
    /// The bucket as the one word that it is read and written as.
    #[inline(always)]
    #[must_use]
    pub const fn to_word(self) -> u64 {
        join(self.primary, self.backup)
    }

    /// The bucket in a word.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        let (primary, backup) = split(word);
        Self { primary, backup }
    }
}

/// Two fields as they lie in memory, `first` at the lower address.
#[inline(always)]
const fn join(first: u32, second: u32) -> u64 {
    if cfg!(target_endian = "little") {
        first as u64 | (second as u64) << 32
    } else {
        (first as u64) << 32 | second as u64
    }
}

#[inline(always)]
const fn split(word: u64) -> (u32, u32) {
    if cfg!(target_endian = "little") {
        (word as u32, (word >> 32) as u32)
    } else {
        ((word >> 32) as u32, word as u32)
    }
}

/// Kinds of next hop.
pub mod next_hop_kind {
    /// Nothing: the number is not in use.
    pub const UNUSED: u32 = 0;
    /// An appliance, gateway or uplink on a local link.
    pub const VIA: u32 = 1;
    /// The destination itself, attached to a port of the virtual network.
    pub const ATTACHED: u32 = 2;
    /// The gateway host's own stack.
    pub const HOST: u32 = 3;
    /// Nowhere (next hop type `None`, blackhole): dropped.
    pub const DISCARD: u32 = 4;
    /// `Internet` where no uplink is configured: dropped.
    pub const NO_UPLINK: u32 = 5;
    /// A learned route with the community BLACKHOLE (RFC 7999): dropped.
    pub const BLACKHOLE: u32 = 6;
}

/// A resolved neighbour: value of `neighbors`. Immutable while published.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Neighbor {
    /// MAC address that frames to it carry as their destination.
    pub mac: [u8; 6],
    /// MAC address of the port that they leave by.
    pub port_mac: [u8; 6],
    /// Number of that port: its place in the device map. [`NO_PORT`]: the address is the gateway
    /// host's own.
    pub port: u32,
    /// MTU of that port, layer 3, bytes.
    pub mtu: u32,
    /// Number of that port's virtual network.
    pub vnet: u32,
    /// The neighbour's own address, network byte order; IPv4 as IPv4-mapped IPv6.
    pub address: [u8; 16],
}

/// Key of `hosts`: an address attached to a virtual network. Value: place in `neighbors`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostKey {
    /// Number of the virtual network.
    pub vnet: u32,
    /// Network byte order; IPv4 as IPv4-mapped IPv6 (`::ffff:a.b.c.d`).
    pub address: [u8; 16],
}

/// Key of `restricted`: a network in a set of them. Value: 1. A set is never changed while a port
/// names it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RestrictedKey {
    /// Number of the set, [`Port::restricted`].
    pub set: u32,
    /// Number of the virtual network.
    pub vnet: u32,
}

/// A port: value of `ports`. Immutable while published in `port_by_ifindex`.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Number of the port: its place in the device map and the counters; kept for its life.
    /// Never [`NO_PORT`].
    pub id: u32,
    /// Number of its virtual network.
    pub vnet: u32,
    /// Own table of its subnet: user-defined and system routes.
    pub own_table: u32,
    /// Learned table, or [`NO_TABLE`].
    pub learned_table: u32,
    /// Bits of [`port_flags`].
    pub flags: u32,
    /// MTU, layer 3, bytes.
    pub mtu: u32,
    /// Source of ICMP errors sent out of this port, network byte order; 0.0.0.0: none are sent.
    pub gateway_v4: [u8; 4],
    /// Source address that its host may use, network byte order (`SOURCE_V4`).
    pub source_v4: [u8; 4],
    /// Source of ICMPv6 errors; `::`: none are sent.
    pub gateway_v6: [u8; 16],
    /// Source address that its host may use (`SOURCE_V6`).
    pub source_v6: [u8; 16],
    /// MAC address of the interface.
    pub mac: [u8; 6],
    /// Source MAC address that its host may use (`SOURCE_MAC`).
    pub source_mac: [u8; 6],
    /// Set of networks in `restricted` that take from here only packets whose source is at home in
    /// this port's network; [`NONE`] on nearly all ports, and wherever sources are checked.
    pub restricted: u32,
    /// Index of the interface.
    pub ifindex: u32,
    /// Zero.
    pub reserved: u32,
}

/// Flags of a [`Port`].
pub mod port_flags {
    /// Sources are not checked: the port of an NVA or a gateway.
    pub const IP_FORWARDING: u32 = 1;
    /// `source_v4` holds an address.
    pub const SOURCE_V4: u32 = 2;
    /// `source_v6` holds an address.
    pub const SOURCE_V6: u32 = 4;
    /// `source_mac` holds the only MAC address allowed.
    pub const SOURCE_MAC: u32 = 8;
    /// The port has further addresses: a source that is not `source_v4` or `source_v6` is looked
    /// up in `hosts` and must lie on this port.
    pub const MORE_SOURCES: u32 = 16;
}

/// Per-CPU counters of a next hop: value of `nh_counters`, by next-hop number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHopCounters {
    /// Packets redirected.
    pub packets: u64,
    /// Bytes redirected, layer 2.
    pub bytes: u64,
}

/// Settings that XDP reads: the one element of `settings`, written when the daemon starts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Seed of the flow hash. Equal on all hosts that must agree on ECMP.
    pub flow_seed: u64,
    /// ICMP errors a second and CPU at the most.
    pub icmp_rate: u32,
    /// Zero.
    pub reserved: u32,
}

/// Key of `names`: what a number given out by the daemon stands for, so that a restarted daemon
/// gives the same numbers again. The text is NUL-padded; its first word says the kind (`table`,
/// `group`, `next_hop`, `port`, `vnet`, `restricted`), for example `next_hop via hub 10.1.10.4`. XDP does not
/// read it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// The text, NUL-padded. Longer names end in a hash of the whole.
    pub text: [u8; 64],
}

#[cfg(feature = "user")]
mod user {
    use super::{
        Bucket, Group, HostKey, Name, Neighbor, NextHop, NextHopCounters, Port, RestrictedKey,
        RouteEntry, RouteKeyV4, RouteKeyV6, Settings,
    };

    macro_rules! plain_data {
        ($($type:ty),* $(,)?) => {
            // SAFETY: `repr(C)`, made of integers and arrays of them, without padding.
            $(unsafe impl aya::Pod for $type {})*
        };
    }

    plain_data!(
        Bucket,
        Group,
        HostKey,
        Name,
        Neighbor,
        NextHop,
        NextHopCounters,
        Port,
        RestrictedKey,
        RouteEntry,
        RouteKeyV4,
        RouteKeyV6,
        Settings,
        crate::reason::PortCounters,
    );
}

#[cfg(test)]
mod tests {
    use super::{Bucket, Group, RouteEntry, precedence, route_flags};

    fn route(prefix_len: u8, precedence: u8, flags: u8) -> RouteEntry {
        RouteEntry {
            group: 1,
            prefix_len,
            precedence,
            flags,
            reserved: 0,
        }
    }

    #[test]
    fn the_longer_prefix_wins_and_at_equal_length_the_precedence() {
        let learned = route(16, precedence::LEARNED, 0);
        assert!(route(17, precedence::SYSTEM, 0).wins_over(&learned));
        assert!(!route(16, precedence::SYSTEM, 0).wins_over(&learned));
        assert!(route(16, precedence::USER_DEFINED, 0).wins_over(&learned));
        assert!(!route(15, precedence::USER_DEFINED, 0).wins_over(&learned));
    }

    #[test]
    fn a_group_and_a_bucket_are_the_words_that_lie_in_memory() {
        let group = Group {
            first_bucket: 0x0102_0304,
            mask: 127,
        };
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&group.first_bucket.to_ne_bytes());
        bytes[4..].copy_from_slice(&group.mask.to_ne_bytes());
        assert_eq!(group.to_word().to_ne_bytes(), bytes);
        assert_eq!(Group::from_word(group.to_word()), group);

        let bucket = Bucket {
            primary: 7,
            backup: 0x0a0b_0c0d,
        };
        assert_eq!(Bucket::from_word(bucket.to_word()), bucket);
        assert_eq!(bucket.to_word().to_ne_bytes()[..4], 7u32.to_ne_bytes());
    }

    #[test]
    fn an_overriding_route_beats_a_longer_learned_one() {
        let learned = route(24, precedence::LEARNED, 0);
        assert!(route(16, precedence::SYSTEM, route_flags::OVERRIDING).wins_over(&learned));
    }
}
