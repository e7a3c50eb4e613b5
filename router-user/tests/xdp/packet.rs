//! Packets to send and what they are to become, written independently of the product.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const ICMP_V6: u8 = 58;
pub const ETHERNET: usize = 14;

pub type Mac = [u8; 6];

/// A packet in an Ethernet frame.
#[derive(Clone)]
pub struct Packet {
    pub from: Mac,
    pub to: Mac,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub hops: u8,
    pub protocol: u8,
    /// IPv4 flags and fragment offset.
    pub fragment: u16,
    /// IPv4 options, in whole words.
    pub options: Vec<u8>,
    /// IPv6: what stands between the header and the transport header, and the first one's number.
    pub extensions: Option<(u8, Vec<u8>)>,
    /// Transport header and what follows.
    pub payload: Vec<u8>,
}

impl Packet {
    pub fn new(from: Mac, to: Mac, source: &str, destination: &str) -> Self {
        Self {
            from,
            to,
            source: source.parse().expect("an address"),
            destination: destination.parse().expect("an address"),
            hops: 64,
            protocol: 0,
            fragment: 0x4000,
            options: Vec::new(),
            extensions: None,
            payload: Vec::new(),
        }
    }

    /// A UDP datagram with its checksum.
    pub fn udp(mut self, from: u16, to: u16, data: &[u8]) -> Self {
        self.protocol = UDP;
        self.payload = [from.to_be_bytes(), to.to_be_bytes()].concat();
        self.payload.extend((8 + data.len() as u16).to_be_bytes());
        self.payload.extend([0, 0]);
        self.payload.extend(data);
        self.with_checksum(6)
    }

    /// A TCP segment with its checksum.
    pub fn tcp(mut self, from: u16, to: u16, data: &[u8]) -> Self {
        self.protocol = TCP;
        self.payload = [from.to_be_bytes(), to.to_be_bytes()].concat();
        self.payload
            .extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
        self.payload.extend(data);
        self.with_checksum(16)
    }

    /// An ICMP or ICMPv6 message; its checksum is left out.
    pub fn icmp(mut self, kind: u8, code: u8, data: &[u8]) -> Self {
        self.protocol = if self.source.is_ipv4() { ICMP } else { ICMP_V6 };
        self.payload = vec![kind, code, 0, 0, 0, 0, 0, 0];
        self.payload.extend(data);
        self
    }

    pub fn hops(mut self, hops: u8) -> Self {
        self.hops = hops;
        self
    }

    /// Sets IPv4 flags and fragment offset.
    pub fn fragment(mut self, field: u16) -> Self {
        self.fragment = field;
        self
    }

    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// Puts IPv6 extension headers, the last of which is given its next header here.
    pub fn extensions(mut self, first: u8, mut headers: Vec<u8>, last: usize) -> Self {
        headers[last] = self.protocol;
        self.extensions = Some((first, headers));
        self
    }

    /// Puts a partial checksum, as a local sender does that leaves it to its network card.
    pub fn partial(mut self) -> Self {
        let place = if self.protocol == TCP { 16 } else { 6 };
        let sum = fold(self.pseudo_sum(self.payload.len()));
        self.payload[place..place + 2].copy_from_slice(&sum.to_be_bytes());
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = [self.to, self.from].concat();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([0x08, 0x00]);
                frame.extend(self.ipv4_header(source, destination));
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend([0x86, 0xdd]);
                frame.extend(self.ipv6_header(source, destination));
            }
            _ => panic!("two families"),
        }
        frame.extend(&self.payload);
        frame
    }

    /// Fills in the checksum at `place` of the transport header.
    fn with_checksum(mut self, place: usize) -> Self {
        let sum = self.pseudo_sum(self.payload.len()) + sum(&self.payload);
        let checksum = match !fold(sum) {
            0 if self.protocol == UDP => 0xffff,
            checksum => checksum,
        };
        self.payload[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
        self
    }

    fn pseudo_sum(&self, length: usize) -> u32 {
        let addresses = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                sum(&source.octets()) + sum(&destination.octets())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                sum(&source.octets()) + sum(&destination.octets())
            }
            _ => panic!("two families"),
        };
        addresses + u32::from(self.protocol) + sum(&(length as u32).to_be_bytes())
    }

    fn ipv4_header(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let length = 20 + self.options.len();
        let mut header = vec![0x40 | (length / 4) as u8, 0];
        header.extend(((length + self.payload.len()) as u16).to_be_bytes());
        header.extend([0x12, 0x34]);
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.hops, self.protocol, 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(&self.options);
        let checksum = !fold(sum(&header));
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    }

    fn ipv6_header(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let (first, extensions) = match &self.extensions {
            Some((first, headers)) => (*first, headers.as_slice()),
            None => (self.protocol, [].as_slice()),
        };
        let mut header = vec![0x60, 0x01, 0x23, 0x45];
        header.extend(((extensions.len() + self.payload.len()) as u16).to_be_bytes());
        header.extend([first, self.hops]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(extensions);
        header
    }
}

/// The sum of big-endian words, an odd last byte padded with zero.
pub fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum()
}

pub fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}
