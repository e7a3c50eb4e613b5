//! The OPEN message (RFC 4271 §4.2) with the optional parameters of RFC 5492 and RFC 9072.

use std::net::Ipv4Addr;

use bytes::{BufMut, BytesMut};

use super::{
    AS_TRANS, Asn, Capability, Notification,
    cursor::Cursor,
    header::{self, MessageType},
};

const VERSION: u8 = 4;

/// Optional parameter: capabilities (RFC 5492 §4).
const CAPABILITIES: u8 = 2;

/// Optional parameter type that marks the extended format (RFC 9072 §2).
const EXTENDED: u8 = 255;

/// An OPEN message (RFC 4271 §4.2, RFC 9072). Decoding makes sure of its form; whether AS, hold time
/// and identifier are acceptable, the state machine decides, which can tell the operator why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    /// The 4-octet ASN where the capability was sent, else My Autonomous System; 0 if either is 0.
    pub asn: Asn,
    /// Seconds; 1 and 2 are not acceptable (RFC 4271 §4.2).
    pub hold_time: u16,
    /// BGP identifier; 0 is not acceptable (RFC 6286 §2.1).
    pub router_id: Ipv4Addr,
    /// All capabilities, in order.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// Whether this very capability was announced.
    #[must_use]
    pub fn has(&self, capability: &Capability) -> bool {
        self.capabilities.contains(capability)
    }

    /// The ASN of the 4-octet AS number capability, if it was announced.
    #[must_use]
    pub fn four_octet_asn(&self) -> Option<Asn> {
        self.capabilities
            .iter()
            .find_map(|capability| match capability {
                Capability::FourOctetAsn(asn) => Some(*asn),
                _ => None,
            })
    }

    /// Appends the message. An ASN above 65,535 goes out as AS_TRANS; the capability that carries
    /// it in full is the caller's to list.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut capabilities = BytesMut::new();
        for capability in &self.capabilities {
            capability.encode(&mut capabilities);
        }
        header::message(out, MessageType::Open, |out| {
            out.put_u8(VERSION);
            out.put_u16(u16::try_from(self.asn).unwrap_or(AS_TRANS as u16));
            out.put_u16(self.hold_time);
            out.put_slice(&self.router_id.octets());
            encode_parameters(&capabilities, out);
        });
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, Notification> {
        let mut body = Cursor::new(body);
        // The header's length check leaves at least the ten octets of the fixed part.
        let (Some(version), Some(my_asn), Some(hold_time), Some(router_id), Some(len)) = (
            body.u8(),
            body.u16(),
            body.u16(),
            body.array::<4>(),
            body.u8(),
        ) else {
            return Err(Notification::open_malformed());
        };
        if version != VERSION {
            return Err(Notification::unsupported_version());
        }
        let capabilities = decode_parameters(len, body.rest())?;
        let mut open = Self {
            asn: my_asn.into(),
            hold_time,
            router_id: router_id.into(),
            capabilities,
        };
        // RFC 7607 §2: AS 0 in either field.
        if my_asn != 0 {
            open.asn = open.four_octet_asn().unwrap_or(open.asn);
        }
        Ok(open)
    }
}

fn encode_parameters(capabilities: &[u8], out: &mut BytesMut) {
    match (capabilities.len(), u8::try_from(capabilities.len() + 2)) {
        (0, _) => out.put_u8(0),
        (len, Ok(parameters)) => {
            out.put_u8(parameters);
            out.put_u8(CAPABILITIES);
            out.put_u8(len as u8);
            out.put_slice(capabilities);
        }
        (len, _) => {
            out.put_u8(EXTENDED);
            out.put_u8(EXTENDED);
            out.put_u16((len + 3) as u16);
            out.put_u8(CAPABILITIES);
            out.put_u16(len as u16);
            out.put_slice(capabilities);
        }
    }
}

fn decode_parameters(len: u8, bytes: &[u8]) -> Result<Vec<Capability>, Notification> {
    let malformed = Notification::open_malformed;
    let mut cursor = Cursor::new(bytes);
    let extended = len != 0 && bytes.first() == Some(&EXTENDED);
    let len = if extended {
        cursor.u8().ok_or_else(malformed)?;
        cursor.u16().ok_or_else(malformed)?
    } else {
        len.into()
    };
    if cursor.rest().len() != usize::from(len) {
        return Err(malformed());
    }
    let mut capabilities = Vec::new();
    while let Some(kind) = cursor.u8() {
        let len = if extended {
            cursor.u16()
        } else {
            cursor.u8().map(u16::from)
        };
        let value = len
            .and_then(|len| cursor.bytes(len.into()))
            .ok_or_else(malformed)?;
        if kind != CAPABILITIES {
            return Err(Notification::unsupported_optional_parameter());
        }
        Capability::decode_all(value, &mut capabilities).ok_or_else(malformed)?;
    }
    Ok(capabilities)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::wire::{Context, Message, decode};

    #[test]
    fn rfc4271_4_2_an_open_without_parameters_is_29_bytes() {
        let mut out = BytesMut::new();
        open(65010, vec![]).encode(&mut out);
        assert_eq!(
            out[16..],
            [0, 29, 1, 4, 0xfd, 0xf2, 0, 180, 10, 1, 10, 4, 0]
        );
        assert_eq!(reread(&out), Ok(open(65010, vec![])));
    }

    #[test]
    fn rfc6793_a_large_asn_goes_out_as_as_trans_and_comes_back_from_the_capability() {
        let large = open(4_200_000_000, vec![Capability::FourOctetAsn(4_200_000_000)]);
        let mut out = BytesMut::new();
        large.encode(&mut out);
        assert_eq!(out[20..22], 23456_u16.to_be_bytes());
        assert_eq!(reread(&out), Ok(large));
    }

    #[test]
    fn rfc5492_capabilities_are_read_from_one_parameter_or_from_many() {
        let capabilities = vec![Capability::RouteRefresh, Capability::ExtendedMessage];
        let one = [2, 4, 2, 0, 6, 0];
        let many = [2, 2, 2, 0, 2, 2, 6, 0];
        for parameters in [&one[..], &many] {
            let bytes = raw(4, 65010, 180, parameters.len() as u8, parameters);
            assert_eq!(reread(&bytes), Ok(open(65010, capabilities.clone())));
        }
    }

    #[test]
    fn rfc9072_2_parameters_above_255_bytes_take_the_extended_format() {
        for size in [200, 247, 248, 249, 250, 251, 252, 255] {
            let capabilities = vec![
                Capability::RouteRefresh,
                Capability::Unknown {
                    code: 200,
                    value: vec![7; size].into(),
                },
            ];
            let mut out = BytesMut::new();
            open(65010, capabilities.clone()).encode(&mut out);
            let extended = out[28] == 255 && out[29] == 255;
            assert_eq!(extended, size + 4 + 2 > 255, "{size} bytes");
            assert_eq!(reread(&out), Ok(open(65010, capabilities)), "{size} bytes");
        }
    }

    #[test]
    fn rfc9072_2_the_extended_format_is_read_whatever_the_old_length_says() {
        let parameters = [255, 0, 5, 2, 0, 2, 2, 0];
        for len in [1, 255] {
            let bytes = raw(4, 65010, 180, len, &parameters);
            assert_eq!(
                reread(&bytes),
                Ok(open(65010, vec![Capability::RouteRefresh]))
            );
        }
        assert_eq!(
            reread(&raw(4, 65010, 180, 255, &[255, 0, 0])),
            Ok(open(65010, vec![])),
            "no parameters at all"
        );
    }

    #[test]
    fn rfc9072_2_an_ordinary_field_of_255_bytes_is_not_taken_for_the_extended_format() {
        let mut parameters = vec![2, 253, 200, 251];
        parameters.resize(255, 7);
        let capability = Capability::Unknown {
            code: 200,
            value: vec![7; 251].into(),
        };
        let bytes = raw(4, 65010, 180, 255, &parameters);
        assert_eq!(reread(&bytes), Ok(open(65010, vec![capability])));
    }

    #[test]
    fn rfc9072_3_type_255_anywhere_but_first_is_an_unknown_parameter() {
        let first_of_the_extended = [255, 0, 3, 255, 0, 0];
        let second_of_the_ordinary = [2, 2, 2, 0, 255, 0];
        for parameters in [first_of_the_extended, second_of_the_ordinary] {
            assert_eq!(
                reread(&raw(4, 65010, 180, 6, &parameters)),
                Err(Notification::unsupported_optional_parameter())
            );
        }
    }

    #[test]
    fn rfc9072_2_extended_lengths_that_do_not_add_up_are_refused() {
        for parameters in [
            &[255, 0, 4, 2, 0, 2, 2, 0][..],
            &[255, 0, 6, 2, 0, 2, 2, 0],
            &[255, 0, 5, 2, 0, 3, 2, 0],
            &[255, 0, 2, 2, 0],
            &[255],
        ] {
            assert_eq!(
                reread(&raw(4, 65010, 180, 255, parameters)),
                Err(Notification::open_malformed()),
                "{parameters:?}"
            );
        }
    }

    #[test]
    fn rfc4271_6_2_each_bad_field_has_its_notification() {
        let cases: [(&str, Vec<u8>, Notification); 8] = [
            (
                "version 3",
                raw(3, 65010, 180, 0, &[]),
                Notification::unsupported_version(),
            ),
            (
                "authentication parameter",
                raw(4, 65010, 180, 3, &[1, 1, 0]),
                Notification::unsupported_optional_parameter(),
            ),
            (
                "parameters longer than the message",
                raw(4, 65010, 180, 5, &[2, 2, 2, 0]),
                Notification::open_malformed(),
            ),
            (
                "parameters shorter than the message",
                raw(4, 65010, 180, 0, &[2, 2, 2, 0]),
                Notification::open_malformed(),
            ),
            (
                "parameter overruns",
                raw(4, 65010, 180, 4, &[2, 3, 2, 0]),
                Notification::open_malformed(),
            ),
            (
                "capability overruns",
                raw(4, 65010, 180, 4, &[2, 2, 2, 1]),
                Notification::open_malformed(),
            ),
            (
                "capability without length",
                raw(4, 65010, 180, 3, &[2, 1, 2]),
                Notification::open_malformed(),
            ),
            (
                "extended length cut off",
                raw(4, 65010, 180, 2, &[255, 0]),
                Notification::open_malformed(),
            ),
        ];
        for (what, bytes, expected) in cases {
            assert_eq!(reread(&bytes), Err(expected), "{what}");
        }
    }

    #[test]
    fn rfc7607_2_as_0_in_either_field_is_as_0() {
        let capability = [2, 6, 65, 4, 0, 0, 0xfd, 0xf2];
        for (my_asn, parameters) in [
            (0, &[][..]),
            (0, &capability),
            (23456, &[2, 6, 65, 4, 0, 0, 0, 0]),
        ] {
            let bytes = raw(4, my_asn, 180, parameters.len() as u8, parameters);
            assert_eq!(reread(&bytes).expect("well-formed").asn, 0);
        }
        assert_eq!(
            reread(&raw(4, 23456, 180, 8, &capability))
                .expect("well-formed")
                .asn,
            65010
        );
    }

    #[test]
    fn values_that_only_the_state_machine_can_judge_are_decoded() {
        for hold_time in [0, 1, 2, 3, u16::MAX] {
            let mut bytes = raw(4, 65010, hold_time, 0, &[]);
            for router_id in [[0; 4], [224, 0, 0, 1]] {
                bytes[24..28].copy_from_slice(&router_id);
                let open = reread(&bytes).expect("well-formed");
                assert_eq!(
                    (open.hold_time, open.router_id),
                    (hold_time, router_id.into())
                );
            }
        }
    }

    fn open(asn: Asn, capabilities: Vec<Capability>) -> Open {
        Open {
            asn,
            hold_time: 180,
            router_id: Ipv4Addr::new(10, 1, 10, 4),
            capabilities,
        }
    }

    fn raw(version: u8, asn: u16, hold_time: u16, len: u8, parameters: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        header::message(&mut out, MessageType::Open, |out| {
            out.put_u8(version);
            out.put_u16(asn);
            out.put_u16(hold_time);
            out.put_slice(&[10, 1, 10, 4]);
            out.put_u8(len);
            out.put_slice(parameters);
        });
        out.to_vec()
    }

    fn reread(bytes: &[u8]) -> Result<Open, Notification> {
        match decode(bytes, &Context::default())? {
            Message::Open(open) => Ok(open),
            other => panic!("{other:?}"),
        }
    }
}
