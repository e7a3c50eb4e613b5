//! Texts of the file as types: an address, a prefix, a name. Each error says `what; remedy`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{fault::Report, section::Located};

/// Longest name of a thing, bytes.
const MAX_NAME: usize = 48;

/// Longest name of a Linux interface, bytes (IFNAMSIZ less the closing NUL).
const MAX_INTERFACE: usize = 15;

/// Why a text is not what its key needs.
#[derive(Debug, thiserror::Error)]
pub(super) enum ValueError {
    #[error("\"{0}\" is not an IP address; write for example 10.1.1.4 or fd00:1:0:1::4")]
    Address(String),
    #[error(
        "\"{0}\" is not a prefix; write address/length, for example 10.1.0.0/16 or fd00:1::/48"
    )]
    Prefix(String),
    #[error("\"{0}\" has bits set beyond its length; write {1}")]
    HostBits(String, IpNet),
    #[error(
        "\"{0}\" is no usable name; use 1 to {MAX_NAME} letters, digits, \"-\", \"_\" or \".\""
    )]
    Name(String),
    #[error(
        "\"{0}\" is no interface name; use 1 to {MAX_INTERFACE} bytes without blanks or \"/\", as \"ip link\" shows it"
    )]
    Interface(String),
    #[error("\"{0}\" is not an absolute path; begin it with \"/\"")]
    Path(String),
    #[error("\"{0}\" is no router id; write an IPv4 address other than 0.0.0.0")]
    RouterId(String),
}

/// An IP address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address(pub(super) IpAddr);

impl FromStr for Address {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refused = |_| ValueError::Address(text.to_owned());
        match text.parse().map_err(refused)? {
            // One host, two ways to write it: the kernel knows the plain one.
            IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => {
                Err(ValueError::Address(text.to_owned()))
            }
            address => Ok(Self(address)),
        }
    }
}

/// A prefix without host bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix(pub(super) IpNet);

impl FromStr for Prefix {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let prefix: IpNet = text
            .parse()
            .map_err(|_| ValueError::Prefix(text.to_owned()))?;
        let truncated = prefix.trunc();
        if truncated == prefix {
            Ok(Self(prefix))
        } else {
            Err(ValueError::HostBits(text.to_owned(), truncated))
        }
    }
}

/// Addresses that are no single machine's anywhere in a network, and what they are.
const SPECIAL: [(IpNet, &str); 8] = [
    (v4(0, 0, 8), "unspecified"),
    (v4(127, 0, 8), "loopback"),
    (v4(169, 254, 16), "link-local"),
    (v4(224, 0, 4), "multicast"),
    (v6(0, 0, 128), "unspecified"),
    (v6(0, 1, 128), "loopback"),
    (v6(0xfe80, 0, 10), "link-local"),
    (v6(0xff00, 0, 8), "multicast"),
];

const fn v4(first: u8, second: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(
        Ipv4Addr::new(first, second, 0, 0),
        length,
    ))
}

const fn v6(first: u16, last: u16, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last),
        length,
    ))
}

/// Which special addresses there are in a prefix.
pub(super) fn special_within(prefix: &IpNet) -> Option<&'static str> {
    let mut special = SPECIAL.iter();
    special
        .find(|(special, _)| special.contains(prefix) || prefix.contains(special))
        .map(|(_, what)| *what)
}

/// Which special addresses a prefix consists of.
pub(super) fn all_special(prefix: &IpNet) -> Option<&'static str> {
    let mut special = SPECIAL.iter();
    special
        .find(|(special, _)| special.contains(prefix))
        .map(|(_, what)| *what)
}

/// Reports an address that cannot be the next hop of anything, or not of this prefix: IPv4 routes may
/// have IPv6 next hops (RFC 8950), not the other way round.
pub(super) fn refuse_next_hop(
    next_hop: &Located<Address>,
    prefix: Option<&IpNet>,
    owner: &str,
    report: &mut Report,
) {
    let Located {
        value: Address(address),
        at,
    } = *next_hop;
    if let Some(special) = all_special(&address.into()) {
        report.fault(
            at,
            format!("next hop {address} of {owner} is {special}"),
            "give the address of a machine",
        );
    } else if matches!(prefix, Some(IpNet::V6(_))) && address.is_ipv4() {
        report.fault(
            at,
            format!("{owner} has the IPv4 next hop {address}"),
            "give the machine's IPv6 address",
        );
    }
}

/// A name that can stand in a path, in a table's name and in `VNET/SUBNET`.
#[derive(Clone, Debug)]
pub(super) struct Name(pub(super) String);

impl FromStr for Name {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let dots_only = text.chars().all(|c| c == '.');
        if dots_only || text.len() > MAX_NAME || !text.chars().all(usable) {
            return Err(ValueError::Name(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The name of a network interface.
#[derive(Clone, Debug)]
pub(super) struct Interface(pub(super) String);

impl FromStr for Interface {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let usable = |c: char| !c.is_whitespace() && !c.is_control() && c != '/';
        let sized = (1..=MAX_INTERFACE).contains(&text.len());
        if !sized || text == "." || text == ".." || !text.chars().all(usable) {
            return Err(ValueError::Interface(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// An absolute path.
#[derive(Clone, Debug)]
pub(super) struct AbsolutePath(pub(super) PathBuf);

impl FromStr for AbsolutePath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let path = PathBuf::from(text);
        if path.is_absolute() {
            Ok(Self(path))
        } else {
            Err(ValueError::Path(text.to_owned()))
        }
    }
}

/// A BGP identifier (RFC 6286: any 4 octets but 0).
#[derive(Clone, Copy, Debug)]
pub(super) struct RouterId(pub(super) Ipv4Addr);

impl FromStr for RouterId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse()
            .ok()
            .filter(|id: &Ipv4Addr| !id.is_unspecified())
            .map(Self)
            .ok_or_else(|| ValueError::RouterId(text.to_owned()))
    }
}
