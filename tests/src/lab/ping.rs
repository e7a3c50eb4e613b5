//! `ping`, the system's own.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};

use super::{Host, host::family_flag};

/// What `ping` reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Ping {
    /// Requests sent.
    pub sent: u32,
    /// Replies received.
    pub received: u32,
    /// Mean round-trip time, milliseconds; none without a reply.
    pub mean_ms: Option<f64>,
    /// TTL of the last reply.
    pub ttl: Option<u8>,
}

impl Ping {
    /// Every request was answered.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.sent > 0 && self.sent == self.received
    }
}

impl std::fmt::Display for Ping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} replies", self.received, self.sent)?;
        match self.mean_ms {
            Some(mean) => write!(f, ", mean {mean:.3} ms"),
            None => Ok(()),
        }
    }
}

impl Host {
    /// Pings an address, `count` times, 20 ms apart, with this ICMP identifier.
    ///
    /// # Errors
    /// `ping` cannot run. That nobody answers is no error: it is what was asked.
    pub fn ping(&self, to: IpAddr, count: u32, id: u16) -> Result<Ping> {
        let family = family_flag(to);
        let output = self.output(&format!(
            "ping {family} -n -c {count} -i 0.02 -W 1 -e {id} {to}"
        ))?;
        let text = String::from_utf8_lossy(&output.stdout);
        parse(&text).with_context(|| {
            let error = String::from_utf8_lossy(&output.stderr);
            format!("{self}: ping {to} says: {text}{error}")
        })
    }

    /// Pings and demands that every request is answered.
    ///
    /// # Errors
    /// One is not.
    pub fn reaches(&self, to: IpAddr) -> Result<Ping> {
        let ping = self.ping(to, 3, 7)?;
        ensure!(ping.complete(), "{self} pings {to}: {ping}");
        Ok(ping)
    }
}

fn parse(text: &str) -> Option<Ping> {
    let summary = text
        .lines()
        .find(|line| line.contains("packets transmitted"))?;
    let mut numbers = summary
        .split(", ")
        .filter_map(|part| part.split_whitespace().next()?.parse().ok());
    let (sent, received) = (numbers.next()?, numbers.next()?);
    let mean_ms = text
        .lines()
        .find_map(|line| line.strip_prefix("rtt "))
        .and_then(|line| line.split('/').nth(4)?.parse().ok());
    let ttl = text
        .rsplit_once("ttl=")
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    Some(Ping {
        sent,
        received,
        mean_ms,
        ttl,
    })
}

#[cfg(test)]
mod tests {
    use super::{Ping, parse};

    #[test]
    fn the_summary_of_ping_is_understood() {
        let text = "\
PING 10.1.1.1 (10.1.1.1) 56(84) bytes of data.
64 bytes from 10.1.1.1: icmp_seq=1 ttl=63 time=0.034 ms

--- 10.1.1.1 ping statistics ---
2 packets transmitted, 1 received, +1 errors, 50% packet loss, time 20ms
rtt min/avg/max/mdev = 0.034/0.041/0.049/0.007 ms
";
        let ping = Ping {
            sent: 2,
            received: 1,
            mean_ms: Some(0.041),
            ttl: Some(63),
        };
        assert_eq!(parse(text), Some(ping));
        assert_eq!(parse("ping: connect: Network is unreachable"), None);
    }
}
