//! One word for what each daemon calls by another name: capabilities and communities.

/// RFC 6793.
pub const FOUR_OCTET_ASN: &str = "4-octet ASN";
/// RFC 2918.
pub const ROUTE_REFRESH: &str = "route refresh";
/// RFC 7313.
pub const ENHANCED_ROUTE_REFRESH: &str = "enhanced route refresh";
/// RFC 8654.
pub const EXTENDED_MESSAGE: &str = "extended message";
/// RFC 8950.
pub const IPV6_NEXT_HOP: &str = "IPv4 over IPv6 next hop";
/// RFC 4724.
pub const GRACEFUL_RESTART: &str = "graceful restart";
/// RFC 9494.
pub const LONG_LIVED: &str = "long-lived graceful restart";
/// RFC 9234.
pub const ROLE: &str = "role";

/// `ADD-PATH receive IPv4`, `ADD-PATH send IPv6`: seen from the daemon that says it.
#[must_use]
pub fn add_path(way: &str, ipv4: bool) -> String {
    format!("ADD-PATH {way} {}", if ipv4 { "IPv4" } else { "IPv6" })
}

/// A standard community (RFC 1997), from `65535:0` or from a daemon's name for it.
#[must_use]
pub fn standard(text: &str) -> String {
    let number = match text.to_lowercase().replace(['_', '-'], "").as_str() {
        "gracefulshutdown" => 0xffff_0000_u32,
        "blackhole" => 0xffff_029a,
        "llgrstale" => 0xffff_0006,
        "nollgr" => 0xffff_0007,
        "noexport" => 0xffff_ff01,
        "noadvertise" => 0xffff_ff02,
        "noexportsubconfed" | "localas" => 0xffff_ff03,
        _ => return text.to_owned(),
    };
    standard_of(number)
}

/// The same from its number.
#[must_use]
pub fn standard_of(number: u32) -> String {
    format!("{}:{}", number >> 16, number & 0xffff)
}

/// A large community (RFC 8092), from `1:2:3`.
#[must_use]
pub fn large(text: &str) -> String {
    format!("large:{}", text.replace(", ", ":"))
}

/// An extended community (RFC 4360), from its eight bytes.
#[must_use]
pub fn extended(bytes: u64) -> String {
    format!("ext:0x{bytes:016x}")
}

/// A route target of a 2-octet ASN (RFC 4360 §4), from `65010:100`.
#[must_use]
pub fn route_target(text: &str) -> Option<String> {
    let (asn, local) = text.split_once(':')?;
    let (asn, local): (u16, u32) = (asn.trim().parse().ok()?, local.trim().parse().ok()?);
    Some(extended(
        0x0002 << 48 | u64::from(asn) << 32 | u64::from(local),
    ))
}

#[cfg(test)]
mod tests {
    use super::{large, route_target, standard};

    #[test]
    fn a_community_has_one_name_whatever_a_daemon_calls_it() {
        assert_eq!(standard("GRACEFUL_SHUTDOWN"), "65535:0");
        assert_eq!(standard("graceful-shutdown"), "65535:0");
        assert_eq!(standard("65010:7"), "65010:7");
        assert_eq!(large("65010, 1, 2"), "large:65010:1:2");
        let target = route_target("65010:100").unwrap();
        assert_eq!(target, "ext:0x0002fdf200000064");
    }
}
