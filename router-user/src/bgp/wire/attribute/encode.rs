//! Writing the attributes of an UPDATE, MP_REACH_NLRI and MP_UNREACH_NLRI excepted.

use std::net::Ipv4Addr;

use bytes::{BufMut, BytesMut};

use super::{
    super::{Context, Peering},
    AttributeCode, Header, PathAttributes, as4, flags,
};

/// What iBGP peers are told where a route has no LOCAL_PREF (RFC 4271 §5.1.5 demands one).
const DEFAULT_LOCAL_PREF: u32 = 100;

/// Appends all attributes in the order of their types; `next_hop` for routes in the NLRI field.
/// What belongs within an AS (LOCAL_PREF, ORIGINATOR_ID, CLUSTER_LIST) goes to iBGP peers only.
pub(in super::super) fn encode(
    attributes: &PathAttributes,
    next_hop: Option<Ipv4Addr>,
    context: &Context,
    out: &mut BytesMut,
) {
    use AttributeCode as Code;
    const WELL_KNOWN: u8 = flags::TRANSITIVE;
    const NON_TRANSITIVE: u8 = flags::OPTIONAL;
    const TRANSITIVE: u8 = flags::OPTIONAL | flags::TRANSITIVE;
    let header = |flags, code, len, out: &mut BytesMut| Header { flags, code, len }.encode(out);
    let four_octet = context.four_octet_asn;
    let internal = context.peering == Peering::Internal;

    header(WELL_KNOWN, Code::ORIGIN, 1, out);
    out.put_u8(attributes.origin as u8);

    let path = &attributes.as_path;
    header(WELL_KNOWN, Code::AS_PATH, path.encoded_len(four_octet), out);
    path.encode(four_octet, out);

    if let Some(next_hop) = next_hop {
        header(WELL_KNOWN, Code::NEXT_HOP, 4, out);
        out.put_slice(&next_hop.octets());
    }
    if let Some(med) = attributes.med {
        header(NON_TRANSITIVE, Code::MULTI_EXIT_DISC, 4, out);
        out.put_u32(med);
    }
    if internal {
        header(WELL_KNOWN, Code::LOCAL_PREF, 4, out);
        out.put_u32(attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF));
    }
    if attributes.atomic_aggregate {
        header(WELL_KNOWN, Code::ATOMIC_AGGREGATE, 0, out);
    }
    if let Some(aggregator) = &attributes.aggregator {
        aggregator.encode(four_octet, out);
    }
    if !attributes.communities.is_empty() {
        let len = attributes.communities.len() * 4;
        header(TRANSITIVE, Code::COMMUNITIES, len, out);
        attributes.communities.iter().for_each(|c| out.put_u32(*c));
    }
    if let Some(originator) = attributes.originator_id.filter(|_| internal) {
        header(NON_TRANSITIVE, Code::ORIGINATOR_ID, 4, out);
        out.put_slice(&originator.octets());
    }
    if internal && !attributes.cluster_list.is_empty() {
        let len = attributes.cluster_list.len() * 4;
        header(NON_TRANSITIVE, Code::CLUSTER_LIST, len, out);
        for cluster in &attributes.cluster_list {
            out.put_slice(&cluster.octets());
        }
    }
    if !attributes.extended_communities.is_empty() {
        let communities = attributes.extended_communities.as_flattened();
        header(
            TRANSITIVE,
            Code::EXTENDED_COMMUNITIES,
            communities.len(),
            out,
        );
        out.put_slice(communities);
    }
    if !four_octet {
        encode_for_old_speaker(attributes, out);
    }
    if !attributes.large_communities.is_empty() {
        let parts = attributes.large_communities.as_flattened();
        header(TRANSITIVE, Code::LARGE_COMMUNITY, parts.len() * 4, out);
        parts.iter().for_each(|part| out.put_u32(*part));
    }
    if let Some(asn) = attributes.only_to_customer {
        header(TRANSITIVE, Code::ONLY_TO_CUSTOMER, 4, out);
        out.put_u32(asn);
    }
    for unknown in &attributes.unknown {
        // RFC 4271 §5: passed on by a speaker that does not know it.
        let flags = unknown.flags | flags::PARTIAL;
        let code = AttributeCode(unknown.code);
        header(flags, code, unknown.value.len(), out);
        out.put_slice(&unknown.value);
    }
}

fn encode_for_old_speaker(attributes: &PathAttributes, out: &mut BytesMut) {
    if let Some(path) = as4::path_for_old_speaker(&attributes.as_path) {
        Header {
            flags: flags::OPTIONAL | flags::TRANSITIVE,
            code: AttributeCode::AS4_PATH,
            len: path.encoded_len(true),
        }
        .encode(out);
        path.encode(true, out);
    }
    if let Some(aggregator) = &attributes.aggregator
        && as4::aggregator_needs_four_octets(aggregator)
    {
        Header {
            flags: flags::OPTIONAL | flags::TRANSITIVE,
            code: AttributeCode::AS4_AGGREGATOR,
            len: 8,
        }
        .encode(out);
        out.put_u32(aggregator.asn);
        out.put_slice(&aggregator.id.octets());
    }
}
