//! How the two speakers are configured.

use std::{collections::BTreeSet, net::IpAddr};

use arbitrary::{Result, Unstructured};
use router_user::{
    bgp::{
        InstanceId, SessionId,
        session::SessionConfig,
        settings::{AddPath, Restart},
        wire::Family,
    },
    config::{self, Propagate},
    route_server::{LearnedUse, Surroundings},
};

use super::nva::{self, NVAS, Nva, SPEAKERS};

/// How the two are configured.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settings {
    pub(super) add_path_receive: [bool; 2],
    pub(super) add_path_send: [u8; 2],
    pub(super) graceful_restart: bool,
    /// Seconds; 0: not at all.
    pub(super) long_lived: u32,
    pub(super) nvas_restart: bool,
    pub(super) passive: Option<usize>,
    pub(super) only_v6: bool,
}

impl Settings {
    pub(super) fn read(bytes: &mut Unstructured<'_>) -> Result<Self> {
        let [flags, paths]: [u8; 2] = bytes.arbitrary()?;
        let send = |bits: u8| [0, 0, 1, 3][usize::from(bits & 3)];
        Ok(Self {
            add_path_receive: [flags & 1 != 0, flags & 2 != 0],
            add_path_send: [send(paths), send(paths >> 2)],
            graceful_restart: flags & 4 != 0,
            long_lived: if paths & 16 != 0 { 300 } else { 0 },
            nvas_restart: paths & 32 != 0,
            passive: (flags & 8 != 0).then_some(usize::from(flags >> 4 & 1)),
            only_v6: flags & 0x60 == 0x60,
        })
    }
}

pub(super) fn route_server(number: usize, settings: Settings) -> config::RouteServer {
    let IpAddr::V4(own) = speaker_address(number) else {
        unreachable!("speakers have IPv4 addresses")
    };
    let instance = |id: u8| config::Instance {
        id: InstanceId(id),
        router_id: [10, 0, number as u8, id].into(),
        addresses: vec![
            IpAddr::from([own.octets()[0], own.octets()[1], 255, 3 + id]),
            format!("fd00::ff:{number}:{id}")
                .parse()
                .expect("an address"),
        ],
    };
    let mut far = config::Peer::new(
        speaker_name(1 - number).into(),
        speaker_address(1 - number),
        SPEAKERS[1 - number],
    );
    far.add_path = add_path(number, settings);
    far.restart.enabled = settings.graceful_restart;
    let nvas = (0..NVAS).map(|n| {
        config::Peer::new(
            format!("nva{n}").as_str().into(),
            nva::address(number, Nva(n)),
            nva::asn(number, Nva(n)),
        )
    });
    let instances = [instance(1), instance(2)];
    config::RouteServer {
        asn: SPEAKERS[number],
        peers: std::iter::once(far).chain(nvas).collect(),
        ..config::RouteServer::new(speaker_name(number).into(), "hub".into(), instances)
    }
}

pub(super) fn session(
    number: usize,
    config: &config::RouteServer,
    id: &SessionId,
    settings: Settings,
) -> SessionConfig {
    let peer = &config.peers[0];
    SessionConfig {
        id: id.clone(),
        local_asn: config.asn,
        peer_asn: peer.asn,
        router_id: config.instances[0].router_id,
        local_address: speaker_address(number),
        port: 179,
        passive: settings.passive == Some(number),
        hold_time: peer.hold_time,
        connect_retry: peer.connect_retry,
        families: if settings.only_v6 {
            vec![Family::Ipv6Unicast]
        } else {
            Family::ALL.to_vec()
        },
        send_hold_time: peer.send_hold_time,
        security: peer.security.clone(),
        add_path: add_path(number, settings),
        restart: Restart {
            enabled: settings.graceful_restart,
            long_lived_stale_time: settings.long_lived,
            ..Restart::default()
        },
        extended_next_hop: false,
        role: None,
    }
}

pub(super) fn add_path(number: usize, settings: Settings) -> AddPath {
    AddPath {
        receive: settings.add_path_receive[number],
        send: settings.add_path_send[number],
    }
}

/// The first instance's address.
pub(super) fn speaker_address(number: usize) -> IpAddr {
    IpAddr::from([10, 2 + number as u8, 255, 4])
}

pub(super) fn speaker_name(number: usize) -> &'static str {
    ["left", "right"][number]
}

/// Where next hops can be resolved.
pub(super) fn around() -> Surroundings {
    let space = ["10.0.0.0/8", "fd00::/16"].map(|net| net.parse().expect("a prefix"));
    Surroundings {
        spaces: vec![("hub".into(), space.to_vec())],
        ..Surroundings::default()
    }
}

/// What its subnets take of what is learned.
pub(super) fn uses() -> BTreeSet<LearnedUse> {
    BTreeSet::from([LearnedUse {
        propagate: Propagate::ALL,
        gateway: None,
        reach: BTreeSet::from(["hub".into()]),
        forwarding: true,
    }])
}
