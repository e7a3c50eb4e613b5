//! An IP packet as seen on a wire.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IP protocol numbers that the lab looks into.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}

/// An IP packet as seen on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Interface.
    pub interface: String,
    /// Sent by the host itself rather than received.
    pub outgoing: bool,
    /// Ethernet source, `02:00:00:00:00:01`.
    pub source_mac: String,
    /// Ethernet destination.
    pub destination_mac: String,
    /// IP source.
    pub source: IpAddr,
    /// IP destination.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Protocol of the payload; IPv6 extension headers are not followed.
    pub protocol: u8,
    /// What follows the IP header, cut off at the capture's length.
    pub payload: Vec<u8>,
}

/// An ICMP or ICMPv6 echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Request rather than reply.
    pub request: bool,
    /// Identifier.
    pub id: u16,
    /// Sequence number.
    pub sequence: u16,
}

impl Packet {
    /// Parses an Ethernet frame; `None` if it is not IPv4 or IPv6.
    #[must_use]
    pub fn parse(interface: &str, outgoing: bool, frame: &[u8]) -> Option<Self> {
        let destination_mac = mac(frame.get(..6)?);
        let source_mac = mac(frame.get(6..12)?);
        let packet = frame.get(14..)?;
        let (source, destination, hop_limit, protocol, payload) = match frame.get(12..14)? {
            [0x08, 0x00] => ipv4(packet)?,
            [0x86, 0xdd] => ipv6(packet)?,
            _ => return None,
        };
        Some(Self {
            interface: interface.to_owned(),
            outgoing,
            source_mac,
            destination_mac,
            source,
            destination,
            hop_limit,
            protocol,
            payload: payload.to_vec(),
        })
    }

    /// Source and destination port of TCP and UDP.
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        if !matches!(self.protocol, protocol::TCP | protocol::UDP) {
            return None;
        }
        Some((word(&self.payload, 0)?, word(&self.payload, 2)?))
    }

    /// The echo that this packet is.
    #[must_use]
    pub fn echo(&self) -> Option<Echo> {
        let request = match (self.protocol, *self.payload.first()?) {
            (protocol::ICMP, 8) | (protocol::ICMPV6, 128) => true,
            (protocol::ICMP, 0) | (protocol::ICMPV6, 129) => false,
            _ => return None,
        };
        Some(Echo {
            request,
            id: word(&self.payload, 4)?,
            sequence: word(&self.payload, 6)?,
        })
    }

    /// Payload of UDP.
    #[must_use]
    pub fn udp_payload(&self) -> Option<&[u8]> {
        (self.protocol == protocol::UDP).then(|| self.payload.get(8..))?
    }
}

type Header<'a> = (IpAddr, IpAddr, u8, u8, &'a [u8]);

fn ipv4(packet: &[u8]) -> Option<Header<'_>> {
    let length = usize::from(packet.first()? & 0x0f) * 4;
    let address = |at: usize| -> Option<IpAddr> {
        let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes).into())
    };
    Some((
        address(12)?,
        address(16)?,
        *packet.get(8)?,
        *packet.get(9)?,
        packet.get(length..)?,
    ))
}

fn ipv6(packet: &[u8]) -> Option<Header<'_>> {
    let address = |at: usize| -> Option<IpAddr> {
        let bytes: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(bytes).into())
    };
    Some((
        address(8)?,
        address(24)?,
        *packet.get(7)?,
        *packet.get(6)?,
        packet.get(40..)?,
    ))
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn mac(bytes: &[u8]) -> String {
    let parts: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.join(":")
}

#[cfg(test)]
mod tests {
    use super::{Echo, Packet};

    #[test]
    fn an_echo_request_reads_as_it_was_sent() {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 63, 1, 0, 0]);
        frame.extend([10, 1, 1, 4, 10, 250, 0, 10]);
        frame.extend([8, 0, 0, 0, 0x12, 0x34, 0, 7]);
        let packet = Packet::parse("eth0", false, &frame).unwrap();
        assert_eq!(packet.source_mac, "02:00:00:00:00:02");
        assert_eq!(packet.source.to_string(), "10.1.1.4");
        assert_eq!(packet.destination.to_string(), "10.250.0.10");
        assert_eq!(packet.hop_limit, 63);
        let echo = Echo {
            request: true,
            id: 0x1234,
            sequence: 7,
        };
        assert_eq!(packet.echo(), Some(echo));
        assert_eq!(packet.ports(), None);
    }

    #[test]
    fn a_cut_off_frame_is_no_packet() {
        let frame = [0u8; 20];
        for length in 0..frame.len() {
            assert_eq!(Packet::parse("eth0", false, &frame[..length]), None);
        }
    }
}
