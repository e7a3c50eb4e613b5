//! The same task in each daemon's words: every peer is external and passive, everything is accepted
//! and everybody learns everything, with next hops kept where the daemon can. Nothing is tuned that
//! the daemon's own defaults leave alone.

use std::{fmt::Write as _, net::Ipv4Addr};

use anyhow::Result;
use tests::{
    injector::Peer,
    waypost::{
        Config,
        config::{self, Daemon, Instance, Port, RouteServer, Subnet, Vnet},
    },
};

use crate::bed::{NETWORK, ROUTE_SERVER, SPEAKER, SPEAKER_ASN};

/// Waypost as a route server only: no subnet has a port.
pub fn waypost(peers: &[Peer]) -> Result<Config> {
    let subnet = Subnet {
        name: "peers".to_owned(),
        prefixes: vec!["10.77.0.0/24".parse()?],
        route_table: None,
        port: Vec::new(),
    };
    Ok(route_server(peers, SPEAKER, vec![subnet]))
}

/// Waypost with its data plane: the peer is a machine behind the port `n0`.
pub fn waypost_with_port(peer: Peer) -> Result<Config> {
    let own = Subnet {
        name: "route-server".to_owned(),
        prefixes: vec!["10.77.255.0/27".parse()?],
        route_table: None,
        port: Vec::new(),
    };
    let peers = Subnet {
        name: "peers".to_owned(),
        prefixes: vec!["10.77.0.0/24".parse()?],
        route_table: None,
        port: vec![Port {
            interface: "n0".to_owned(),
            addresses: vec![peer.address.into()],
            mac: None,
            ip_forwarding: true,
        }],
    };
    Ok(route_server(&[peer], ROUTE_SERVER, vec![own, peers]))
}

fn route_server(peers: &[Peer], addresses: [Ipv4Addr; 2], subnet: Vec<Subnet>) -> Config {
    let peer = peers.iter().map(|peer| config::Peer {
        passive: true,
        max_prefixes: Some(2_000_000),
        ..config::Peer::new(&format!("p{}", peer.asn), peer.address.into(), peer.asn)
    });
    let instance = (1..).zip(addresses).map(|(id, address)| Instance {
        id,
        addresses: vec![address.into()],
    });
    Config {
        daemon: Daemon {
            socket: "/run/waypost/waypost.sock".into(),
            stale_time: 20,
        },
        dataplane: [].into(),
        vnet: vec![Vnet {
            name: "load".to_owned(),
            prefixes: vec![NETWORK.into()],
            uplink: Vec::new(),
            subnet,
            peering: Vec::new(),
        }],
        route_server: vec![RouteServer {
            name: "rs".to_owned(),
            vnet: "load".to_owned(),
            asn: SPEAKER_ASN,
            settings: [].into(),
            instance: instance.collect(),
            peer: peer.collect(),
            gateway: Vec::new(),
        }],
        route_table: Vec::new(),
    }
}

/// BIRD; with `install`, it writes what it learns into the kernel's table.
pub fn bird(peers: &[Peer], install: bool) -> String {
    let own = SPEAKER[0];
    let mut text = format!("log stderr all;\nrouter id {own};\nprotocol device {{}}\n");
    if install {
        // Its own routes are of no interest to it while they are written.
        text.push_str("protocol kernel { scan time 600; ipv4 { import none; export all; }; }\n");
    }
    for (number, peer) in peers.iter().enumerate() {
        let Peer { address, asn } = peer;
        let _ = writeln!(
            text,
            "protocol bgp p{number} {{ local {own} as {SPEAKER_ASN}; neighbor {address} as {asn}; \
             passive on; ipv4 {{ import all; export all; next hop keep; }}; }}"
        );
    }
    text
}

pub fn frr(peers: &[Peer]) -> String {
    let own = SPEAKER[0];
    let mut text = format!(
        "log stdout\nrouter bgp {SPEAKER_ASN}\n bgp router-id {own}\n no bgp ebgp-requires-policy\n \
         no bgp default ipv4-unicast\n"
    );
    for Peer { address, asn } in peers {
        let _ = writeln!(
            text,
            " neighbor {address} remote-as {asn}\n neighbor {address} passive"
        );
    }
    text.push_str(" address-family ipv4 unicast\n");
    for Peer { address, .. } in peers {
        let _ = writeln!(text, "  neighbor {address} activate");
    }
    text.push_str(" exit-address-family\n");
    text
}

pub fn gobgp(peers: &[Peer]) -> String {
    let own = SPEAKER[0];
    let mut text = format!(
        "[global.config]\nas = {SPEAKER_ASN}\nrouter-id = \"{own}\"\nlocal-address-list = [\"{own}\"]\n"
    );
    for Peer { address, asn } in peers {
        let _ = writeln!(
            text,
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{address}\"\npeer-as = {asn}\n\
             [neighbors.transport.config]\npassive-mode = true"
        );
    }
    text
}

pub fn openbgpd(peers: &[Peer]) -> String {
    let own = SPEAKER[0];
    let mut text = format!(
        "AS {SPEAKER_ASN}\nrouter-id {own}\nlisten on {own}\nsocket \"/run/openbgpd.sock\"\n\
         fib-update no\nnexthop qualify via default\n"
    );
    for Peer { address, asn } in peers {
        let _ = writeln!(
            text,
            "neighbor {address} {{\n remote-as {asn}\n local-address {own}\n passive\n announce IPv4 \
             unicast\n}}"
        );
    }
    text.push_str("allow from any\nallow to any\n");
    text
}
