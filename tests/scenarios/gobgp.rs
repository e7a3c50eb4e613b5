//! GoBGP holds sessions with both instances, with IPv4 and IPv6 routes in both directions.

use anyhow::Result;
use tests::{
    daemon::GoBgp,
    interop::{
        Connects::{self, Both, Daemon, Waypost},
        Transport::{self, Ipv4, Ipv6},
        holds_sessions,
    },
    lab::Lab,
    scenario,
};

#[test]
fn over_ipv4_when_waypost_connects() -> Result<()> {
    scenario(|lab| run(lab, Ipv4, Waypost))
}

#[test]
fn over_ipv4_when_the_daemon_connects() -> Result<()> {
    scenario(|lab| run(lab, Ipv4, Daemon))
}

#[test]
fn over_ipv6_when_waypost_connects() -> Result<()> {
    scenario(|lab| run(lab, Ipv6, Waypost))
}

#[test]
fn over_ipv6_when_the_daemon_connects() -> Result<()> {
    scenario(|lab| run(lab, Ipv6, Daemon))
}

#[test]
fn when_both_connect() -> Result<()> {
    scenario(|lab| run(lab, Ipv4, Both))
}

fn run(lab: &Lab, transport: Transport, connects: Connects) -> Result<()> {
    holds_sessions(lab, transport, connects, |host, speaker| {
        Ok(Box::new(GoBgp::start(host, speaker)?))
    })
}
