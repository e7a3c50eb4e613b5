//! What a session needs to know.

use std::{
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use crate::bgp::{
    SessionId,
    fsm::{Restarted, Settings},
    settings::{AddPath, Restart, RoleSettings, Security},
    wire::{Asn, Family},
};

/// What a session needs to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionConfig {
    /// Instance and peer.
    pub id: SessionId,
    /// The route server's ASN.
    pub local_asn: Asn,
    /// The peer's ASN.
    pub peer_asn: Asn,
    /// The instance's BGP identifier.
    pub router_id: Ipv4Addr,
    /// The instance's address of the peer's family: listened on, and connected from.
    pub local_address: IpAddr,
    /// TCP port, to listen on and to connect to.
    pub port: u16,
    /// Wait for the peer's connection instead of connecting as well.
    pub passive: bool,
    /// Offered hold time, seconds: 0 or at least 3.
    pub hold_time: u16,
    /// Delay between connection attempts, seconds; grows while they fail.
    pub connect_retry: u16,
    /// Families to exchange.
    pub families: Vec<Family>,
    /// How long the peer may take nothing of what is sent, seconds (RFC 9687).
    pub send_hold_time: u16,
    /// How its TCP connections are protected.
    pub security: Security,
    /// Several paths a prefix.
    pub add_path: AddPath,
    /// Graceful restart.
    pub restart: Restart,
    /// IPv4 routes with IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// Our role towards the peer (RFC 9234), if it is to be told.
    pub role: Option<RoleSettings>,
}

impl SessionConfig {
    /// The peer's address and port.
    #[must_use]
    pub const fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.id.peer, self.port)
    }

    /// The address and port to listen on.
    #[must_use]
    pub const fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.local_address, self.port)
    }

    /// What the state machine has to know, with fresh jitter.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            local_asn: self.local_asn,
            peer_asn: self.peer_asn,
            router_id: self.router_id,
            peer: self.peer(),
            passive: self.passive,
            hold_time: self.hold_time,
            connect_retry: Duration::from_secs(self.connect_retry.into()),
            send_hold_time: Duration::from_secs(self.send_hold_time.into()),
            authenticated: self.security.md5_password.is_some() || !self.security.tcp_ao.is_empty(),
            families: self.families.clone(),
            restart: self.restart,
            restarted: Restarted::default(),
            add_path: self.add_path,
            extended_next_hop: self.extended_next_hop,
            role: self.role,
            replace_established: false,
            seed: RandomState::new().hash_one(&self.id),
        }
    }
}
