//! Attributes that are one 4-octet number or address (MULTI_EXIT_DISC, LOCAL_PREF, ORIGINATOR_ID,
//! ONLY_TO_CUSTOMER), a list of them (CLUSTER_LIST), or nothing at all (ATOMIC_AGGREGATE).

use std::net::Ipv4Addr;

use super::super::FaultKind;

pub(super) fn parse(value: &[u8]) -> Result<u32, FaultKind> {
    let octets = value.try_into().map_err(|_| FaultKind::Length {
        found: value.len(),
        expected: "4",
    })?;
    Ok(u32::from_be_bytes(octets))
}

pub(super) fn parse_address(value: &[u8]) -> Result<Ipv4Addr, FaultKind> {
    parse(value).map(Ipv4Addr::from_bits)
}

pub(super) fn parse_addresses(value: &[u8]) -> Result<Vec<Ipv4Addr>, FaultKind> {
    let (addresses, rest) = value.as_chunks::<4>();
    if addresses.is_empty() || !rest.is_empty() {
        return Err(FaultKind::Length {
            found: value.len(),
            expected: "a multiple of 4 above 0",
        });
    }
    Ok(addresses.iter().copied().map(Ipv4Addr::from).collect())
}

pub(super) fn parse_empty(value: &[u8]) -> Result<(), FaultKind> {
    if value.is_empty() {
        return Ok(());
    }
    Err(FaultKind::Length {
        found: value.len(),
        expected: "0",
    })
}
