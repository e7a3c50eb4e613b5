//! A BGP speaker of bytes that announces routes with any attributes and reads on without an answer.
//!
//! In: announcements. Out: UPDATEs as RFC 4271, 4760 and 8654 have them. It answers each KEEPALIVE
//! with one.

use std::{
    collections::BTreeSet,
    io::Write,
    net::{IpAddr, Ipv4Addr, Shutdown, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Result, bail, ensure};
use ipnet::IpNet;

use super::{
    raw::{self, Message, RawPeer},
    words,
};
use crate::lab::Host;

/// A route with its attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Prefix.
    pub prefix: IpNet,
    /// NEXT_HOP, of the prefix's family.
    pub next_hop: IpAddr,
    /// AS path as the next speaker receives it.
    pub as_path: Vec<u32>,
    /// RFC 1997.
    pub communities: Vec<u32>,
    /// RFC 4360.
    pub extended: Vec<u64>,
    /// RFC 8092.
    pub large: Vec<[u32; 3]>,
    /// Which of several paths of one speaker it is (RFC 7911); a [`Feed`] sends one path only.
    pub path_id: Option<u8>,
}

impl Announcement {
    /// A route without communities.
    #[must_use]
    pub fn new(prefix: IpNet, next_hop: IpAddr, as_path: &[u32]) -> Self {
        Self {
            prefix,
            next_hop,
            as_path: as_path.to_vec(),
            communities: Vec::new(),
            extended: Vec::new(),
            large: Vec::new(),
            path_id: None,
        }
    }

    /// Its communities in the words that drivers and Waypost use.
    #[must_use]
    pub fn words(&self) -> BTreeSet<String> {
        let standard = self.communities.iter().copied().map(words::standard_of);
        let extended = self.extended.iter().copied().map(words::extended);
        let large = self.large.iter();
        let large = large.map(|[global, one, two]| format!("large:{global}:{one}:{two}"));
        standard.chain(extended).chain(large).collect()
    }

    /// The body of the UPDATE, with 4-octet ASNs.
    fn update(&self) -> Vec<u8> {
        let mut attributes = Vec::new();
        attribute(&mut attributes, 0x40, 1, &[0]); // ORIGIN IGP
        let mut path = Vec::new();
        if !self.as_path.is_empty() {
            path.extend([2, self.as_path.len() as u8]);
            path.extend(self.as_path.iter().flat_map(|asn| asn.to_be_bytes()));
        }
        attribute(&mut attributes, 0x40, 2, &path);
        if let IpAddr::V4(next_hop) = self.next_hop {
            attribute(&mut attributes, 0x40, 3, &next_hop.octets());
        }
        let communities: Vec<u8> = self
            .communities
            .iter()
            .flat_map(|c| c.to_be_bytes())
            .collect();
        let extended: Vec<u8> = self.extended.iter().flat_map(|c| c.to_be_bytes()).collect();
        let large = self.large.as_flattened().iter();
        let large: Vec<u8> = large.flat_map(|part| part.to_be_bytes()).collect();
        for (kind, value) in [(8, communities), (16, extended), (32, large)] {
            if !value.is_empty() {
                attribute(&mut attributes, 0xc0, kind, &value);
            }
        }
        let mut nlri = Vec::new();
        if let IpAddr::V6(next_hop) = self.next_hop {
            let mut reach = vec![0, 2, 1, 16];
            reach.extend(next_hop.octets());
            reach.push(0);
            reach.extend(prefix_bytes(self.prefix));
            attribute(&mut attributes, 0x80, 14, &reach);
        } else {
            nlri = prefix_bytes(self.prefix);
        }
        let mut body = vec![0, 0];
        body.extend((attributes.len() as u16).to_be_bytes());
        body.extend(attributes);
        body.extend(nlri);
        body
    }
}

/// IPv4 prefixes in an UPDATE of at most 4096 bytes.
const AT_ONCE: usize = 700;

/// A session that routes are fed into.
#[derive(Debug)]
pub struct Feed {
    stream: Arc<Mutex<TcpStream>>,
    ended: Arc<AtomicBool>,
}

impl Feed {
    /// Connects and exchanges OPENs and KEEPALIVEs. What comes afterwards is read and forgotten.
    ///
    /// # Errors
    /// The far end is not there or refuses.
    pub fn open(host: &Host, from: IpAddr, to: IpAddr, asn: u32, id: Ipv4Addr) -> Result<Self> {
        let mut peer = RawPeer::connect(host, from, to)?;
        peer.send(&open(asn, id))?;
        loop {
            match peer.receive()? {
                Some(Message { kind: 1, .. }) => peer.send(&raw::keepalive())?,
                Some(Message { kind: 4, .. }) => break,
                other => bail!("{to} to AS {asn}, instead of a session: {other:?}"),
            }
        }
        let (mut peer, stream) = peer.share()?;
        let stream = Arc::new(Mutex::new(stream));
        let ended = Arc::new(AtomicBool::new(false));
        let (flag, answers) = (Arc::clone(&ended), Arc::clone(&stream));
        thread::spawn(move || {
            peer.wait_for_ever();
            while let Ok(Some(message)) = peer.receive() {
                // Where UPDATEs are being written, the far end hears enough.
                let idle = (message.kind == 4)
                    .then(|| answers.try_lock().ok())
                    .flatten();
                let answered =
                    idle.is_none_or(|mut stream| stream.write_all(&raw::keepalive()).is_ok());
                if message.kind == 3 || !answered {
                    break;
                }
            }
            flag.store(true, Ordering::Relaxed);
        });
        Ok(Self { stream, ended })
    }

    /// Announces a route.
    ///
    /// # Errors
    /// The session has ended.
    pub fn announce(&mut self, announcement: &Announcement) -> Result<()> {
        self.write(&raw::message(2, &announcement.update()))
    }

    /// Announces many IPv4 prefixes with the attributes of one.
    ///
    /// # Errors
    /// The session has ended.
    pub fn announce_all(&mut self, like: &Announcement, prefixes: &[IpNet]) -> Result<()> {
        for some in prefixes.chunks(AT_ONCE) {
            let mut body = like.update();
            let own = prefix_bytes(like.prefix).len();
            body.truncate(body.len() - own);
            body.extend(some.iter().copied().flat_map(prefix_bytes));
            self.write(&raw::message(2, &body))?;
        }
        Ok(())
    }

    /// Withdraws many IPv4 prefixes.
    ///
    /// # Errors
    /// The session has ended.
    pub fn withdraw_all(&mut self, prefixes: &[IpNet]) -> Result<()> {
        for some in prefixes.chunks(AT_ONCE) {
            let bytes: Vec<u8> = some.iter().copied().flat_map(prefix_bytes).collect();
            let mut body = (bytes.len() as u16).to_be_bytes().to_vec();
            body.extend(bytes);
            body.extend([0, 0]);
            self.write(&raw::message(2, &body))?;
        }
        Ok(())
    }

    fn write(&self, message: &[u8]) -> Result<()> {
        let over = self.ended.load(Ordering::Relaxed);
        ensure!(!over, "the far end has closed the session");
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(stream.write_all(message)?)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // An error means that it is closed already.
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn attribute(out: &mut Vec<u8>, flags: u8, kind: u8, value: &[u8]) {
    match u8::try_from(value.len()) {
        Ok(length) => out.extend([flags, kind, length]),
        Err(_) => {
            out.extend([flags | 0x10, kind]);
            out.extend((value.len() as u16).to_be_bytes());
        }
    }
    out.extend(value);
}

fn prefix_bytes(prefix: IpNet) -> Vec<u8> {
    let used = usize::from(prefix.prefix_len().div_ceil(8));
    let octets = match prefix.network() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let mut bytes = vec![prefix.prefix_len()];
    bytes.extend(&octets[..used]);
    bytes
}

/// Both families, 4-octet ASNs, extended messages; a hold time of 180 s.
fn open(asn: u32, router_id: Ipv4Addr) -> Vec<u8> {
    const AS_TRANS: u16 = 23456;
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 6, 0, 65, 4];
    capabilities.extend(asn.to_be_bytes());
    let mut body = vec![4];
    body.extend(u16::try_from(asn).unwrap_or(AS_TRANS).to_be_bytes());
    body.extend([0, 180]);
    body.extend(router_id.octets());
    body.extend([capabilities.len() as u8 + 2, 2, capabilities.len() as u8]);
    body.extend(capabilities);
    raw::message(1, &body)
}

#[cfg(test)]
mod tests {
    use super::Announcement;

    #[test]
    fn an_update_of_ipv4_is_laid_out_as_rfc_4271_4_3_has_it() {
        let prefix = "10.77.0.0/16".parse().unwrap();
        let mut route = Announcement::new(prefix, "10.0.0.1".parse().unwrap(), &[65001]);
        route.communities = vec![0xffff_0000];
        let expected = [
            &[0, 0, 0, 27][..],
            &[0x40, 1, 1, 0],
            &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9],
            &[0x40, 3, 4, 10, 0, 0, 1],
            &[0xc0, 8, 4, 0xff, 0xff, 0, 0],
            &[16, 10, 77],
        ];
        assert_eq!(route.update(), expected.concat());
        assert_eq!(route.words().into_iter().collect::<Vec<_>>(), ["65535:0"]);
    }
}
