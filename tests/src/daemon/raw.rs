//! A BGP speaker of bare bytes: sends what no daemon would, and shows what comes back.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use ipnet::Ipv4Net;
use socket2::{Domain, Socket, Type};

use crate::lab::Host;

/// A connection to a BGP speaker.
#[derive(Debug)]
pub struct RawPeer {
    stream: TcpStream,
}

/// A BGP message (RFC 4271 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Type: 1 OPEN, 2 UPDATE, 3 NOTIFICATION, 4 KEEPALIVE, 5 ROUTE-REFRESH.
    pub kind: u8,
    /// What follows the header.
    pub body: Vec<u8>,
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl RawPeer {
    /// Connects from an address of a host to port 179 of another.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub fn connect(host: &Host, from: IpAddr, to: IpAddr) -> Result<Self> {
        let attempt = || -> Result<TcpStream> {
            let socket = Socket::new(Domain::for_address((to, 179).into()), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
            socket.connect_timeout(&SocketAddr::new(to, 179).into(), PATIENCE)?;
            Ok(socket.into())
        };
        let stream = host
            .inside(attempt)
            .with_context(|| format!("{host} connects from {from} to {to} port 179"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is closed.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        Ok(())
    }

    /// The next message; `None` once the connection is closed.
    ///
    /// # Errors
    /// Nothing comes for five seconds, or no BGP message.
    pub fn receive(&mut self) -> Result<Option<Message>> {
        let mut header = [0; 19];
        match self.stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if closed(&error) => return Ok(None),
            Err(error) => bail!("nothing comes: {error}"),
        }
        ensure!(header[..16] == [0xff; 16], "no BGP marker: {header:02x?}");
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let mut body = vec![0; length.checked_sub(19).context("length below 19")?];
        self.stream.read_exact(&mut body)?;
        Ok(Some(Message {
            kind: header[18],
            body,
        }))
    }

    /// Exchanges OPEN and KEEPALIVE until the session is established.
    ///
    /// # Errors
    /// The far end refuses.
    pub fn establish(&mut self, asn: u16, router_id: Ipv4Addr) -> Result<()> {
        self.send(&open(asn, 180, router_id))?;
        loop {
            match self.receive()? {
                Some(Message { kind: 1, .. }) => self.send(&keepalive())?,
                Some(Message { kind: 4, .. }) => return Ok(()),
                other => bail!("instead of a session: {other:?}"),
            }
        }
    }

    /// Reads until the NOTIFICATION that ends the session: its code and subcode.
    ///
    /// # Errors
    /// The connection closes without one.
    pub fn notification(&mut self) -> Result<(u8, u8)> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            match self.receive()? {
                Some(Message { kind: 3, body }) => {
                    ensure!(body.len() >= 2, "a NOTIFICATION of {} bytes", body.len());
                    return Ok((body[0], body[1]));
                }
                Some(_) => {}
                None => bail!("closed without a NOTIFICATION"),
            }
        }
        bail!("no NOTIFICATION")
    }

    /// The same connection twice: one to read from, one to write to.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn share(self) -> Result<(Self, TcpStream)> {
        let writer = self.stream.try_clone()?;
        Ok((self, writer))
    }

    /// From now on [`RawPeer::receive`] waits as long as it takes.
    pub fn wait_for_ever(&mut self) {
        // It fails for a duration of zero only.
        let _ = self.stream.set_read_timeout(None);
    }

    /// Whether the far end closes the connection without a word of BGP, now or within the time that
    /// an answer may take.
    ///
    /// # Errors
    /// It stays open and silent.
    pub fn closed_in_silence(&mut self) -> Result<bool> {
        Ok(self.receive()?.is_none())
    }
}

fn closed(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

/// A message with a correct header.
#[must_use]
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 19).unwrap_or(u16::MAX);
    let mut bytes = vec![0xff; 16];
    bytes.extend(length.to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

/// An OPEN with the capabilities IPv4 unicast and 4-octet ASNs (RFC 5492, 6793).
#[must_use]
pub fn open(asn: u16, hold_time: u16, router_id: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![4];
    body.extend(asn.to_be_bytes());
    body.extend(hold_time.to_be_bytes());
    body.extend(router_id.octets());
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 65, 4];
    capabilities.extend(u32::from(asn).to_be_bytes());
    body.extend([capabilities.len() as u8 + 2, 2, capabilities.len() as u8]);
    body.extend(capabilities);
    message(1, &body)
}

/// A KEEPALIVE.
#[must_use]
pub fn keepalive() -> Vec<u8> {
    message(4, &[])
}

/// The body of an UPDATE that announces one IPv4 prefix, with 4-octet ASNs.
#[must_use]
pub fn update(prefix: Ipv4Net, next_hop: Ipv4Addr, asn: u32) -> Vec<u8> {
    let mut attributes = vec![0x40, 1, 1, 0]; // ORIGIN IGP
    attributes.extend([0x40, 2, 6, 2, 1]); // AS_PATH, one sequence of one
    attributes.extend(asn.to_be_bytes());
    attributes.extend([0x40, 3, 4]); // NEXT_HOP
    attributes.extend(next_hop.octets());
    let mut body = vec![0, 0];
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(attributes);
    let bytes = usize::from(prefix.prefix_len().div_ceil(8));
    body.push(prefix.prefix_len());
    body.extend(&prefix.network().octets()[..bytes]);
    body
}
