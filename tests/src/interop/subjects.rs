//! The daemons, with what each of them lacks by its own documentation.

use anyhow::Result;

use super::{
    Connects, Transport,
    matrix::{Feature, Lack},
    stage::Subject,
};
use crate::{
    daemon::{Bird, Daemon, ExaBgp, Frr, GoBgp, OpenBgpd, Speaker, words},
    lab::Host,
};

const IPV4_TRANSPORT: Lack = Lack {
    feature: Feature::Ipv6NextHop,
    transport: Some(Transport::Ipv4),
    connects: None,
    why: "Over IPv4 the next hop of IPv4 routes is an IPv4 address; RFC 8950 comes into play over \
          IPv6.",
};

const fn lacks(feature: Feature, why: &'static str) -> Lack {
    Lack {
        feature,
        transport: None,
        connects: None,
        why,
    }
}

const fn lacks_if(connects: Connects, feature: Feature, why: &'static str) -> Lack {
    Lack {
        connects: Some(connects),
        ..lacks(feature, why)
    }
}

/// Of FRR.
const FRR_WAITS: &str = "Towards a neighbour that restarts gracefully FRR waits for its connection \
    for the restart time (bgp_timer_set() of bgpd/bgp_fsm.c: no connect timer with \
    PEER_STATUS_NSF_WAIT): let Waypost connect to FRR.";

impl Subject for Bird {
    const NAME: &'static str = "BIRD 2.0.12";
    const CAPABILITIES: &'static [&'static str] = &[
        words::FOUR_OCTET_ASN,
        words::ROUTE_REFRESH,
        words::ENHANCED_ROUTE_REFRESH,
        words::EXTENDED_MESSAGE,
        words::GRACEFUL_RESTART,
    ];
    const LACKS: &'static [Lack] = &[IPV4_TRANSPORT];

    fn start(host: &Host, speaker: Speaker) -> Result<Box<dyn Daemon>> {
        Ok(Box::new(Self::start(host, speaker)?))
    }
}

impl Subject for Frr {
    const NAME: &'static str = "FRR 8.4.4";
    // bgp_attr_munge_as4_attrs() of bgpd/bgp_attr.c looks at what the neighbour announced only.
    const READS_AS4_PATH: bool = false;
    const CAPABILITIES: &'static [&'static str] = &[
        words::FOUR_OCTET_ASN,
        words::ROUTE_REFRESH,
        words::ENHANCED_ROUTE_REFRESH,
        words::EXTENDED_MESSAGE,
        words::GRACEFUL_RESTART,
    ];
    const LACKS: &'static [Lack] = &[
        IPV4_TRANSPORT,
        lacks_if(Connects::Daemon, Feature::RestartOfWaypost, FRR_WAITS),
        lacks_if(
            Connects::Daemon,
            Feature::GracefulRestartOfWaypost,
            FRR_WAITS,
        ),
    ];

    fn start(host: &Host, speaker: Speaker) -> Result<Box<dyn Daemon>> {
        Ok(Box::new(Self::start(host, speaker)?))
    }
}

const GOBGP_NO_EXTENDED_MESSAGE: &str = "GoBGP 3.10 does not know RFC 8654: docs/sources/configuration.md has no setting for it, and `gobgp neighbor` shows no such capability.";

impl Subject for GoBgp {
    const NAME: &'static str = "GoBGP 3.10";
    const CAPABILITIES: &'static [&'static str] = &[
        words::FOUR_OCTET_ASN,
        words::ROUTE_REFRESH,
        words::IPV6_NEXT_HOP,
    ];
    const LACKS: &'static [Lack] = &[
        IPV4_TRANSPORT,
        lacks(
            Feature::TwoOctetAsn,
            "GoBGP always announces 4-octet ASNs: docs/sources/configuration.md has no switch for it.",
        ),
        lacks(Feature::ExtendedMessageSent, GOBGP_NO_EXTENDED_MESSAGE),
        lacks(Feature::ExtendedMessageReceived, GOBGP_NO_EXTENDED_MESSAGE),
        lacks(
            Feature::RefreshByDaemon,
            "GoBGP keeps Adj-RIB-In and reads that again: `softresetin` (docs/sources/cli-command-syntax.md, 2.2) sends no ROUTE-REFRESH.",
        ),
        lacks(
            Feature::EnhancedRefresh,
            "GoBGP 3.10 does not announce the capability of RFC 7313: capabilitiesFromConfig() of pkg/server/fsm.go has none but that of RFC 2918.",
        ),
        lacks(
            Feature::Roles,
            "GoBGP 3.10 does not know RFC 9234: docs/sources/configuration.md has no setting for it, and `gobgp neighbor` shows the capability as `UnknownCapability(9)`.",
        ),
    ];

    fn start(host: &Host, speaker: Speaker) -> Result<Box<dyn Daemon>> {
        Ok(Box::new(Self::start(host, speaker)?))
    }
}

const OPENBGPD_NO_EXTENDED_MESSAGE: &str = "OpenBGPD 7.7 does not know RFC 8654: bgpd.conf(5) of 7.7 has no setting for it under `announce`.";

impl Subject for OpenBgpd {
    const NAME: &'static str = "OpenBGPD 7.7";
    const CAPABILITIES: &'static [&'static str] = &[
        words::FOUR_OCTET_ASN,
        words::ROUTE_REFRESH,
        words::ENHANCED_ROUTE_REFRESH,
        words::GRACEFUL_RESTART,
    ];
    const LACKS: &'static [Lack] = &[
        IPV4_TRANSPORT,
        lacks(Feature::ExtendedMessageSent, OPENBGPD_NO_EXTENDED_MESSAGE),
        lacks(
            Feature::ExtendedMessageReceived,
            OPENBGPD_NO_EXTENDED_MESSAGE,
        ),
        lacks(
            Feature::RefreshByWaypost,
            "OpenBGPD 7.7 answers each ROUTE-REFRESH with `route refresh: AID … not negotiated` in its log (rde_dispatch_imsg_peer() of bgpd/rde.c), also for families that `bgpctl show neighbor` shows as negotiated.",
        ),
        lacks(
            Feature::GracefulRestartOfDaemon,
            "bgpd.conf(5) of OpenBGPD 7.7, `announce restart`: only the End-of-RIB marker is supported and announced; it asks nobody to keep its routes.",
        ),
        lacks(
            Feature::LongLived,
            "bgpd.conf(5) of OpenBGPD 7.7 has no long-lived graceful restart under `announce`.",
        ),
        lacks(
            Feature::Ipv6NextHop,
            "bgpd.conf(5) of OpenBGPD 7.7 has no extended next hop under `announce`.",
        ),
    ];

    fn start(host: &Host, speaker: Speaker) -> Result<Box<dyn Daemon>> {
        Ok(Box::new(Self::start(host, &speaker)?))
    }
}

impl Subject for ExaBgp {
    const NAME: &'static str = "ExaBGP 4.2.21";
    const CAPABILITIES: &'static [&'static str] = &[
        words::FOUR_OCTET_ASN,
        words::ROUTE_REFRESH,
        words::ENHANCED_ROUTE_REFRESH,
        words::EXTENDED_MESSAGE,
    ];
    const LACKS: &'static [Lack] = &[
        IPV4_TRANSPORT,
        Lack {
            transport: Some(Transport::Ipv6),
            ..lacks_if(
                Connects::Waypost,
                Feature::TtlSecurity,
                "Where it listens over IPv6, ExaBGP 4.2 does not send with hop limit 255: MIN_TTL() of exabgp/reactor/network/tcp.py sets IPv4's options only.",
            )
        },
        lacks(
            Feature::ShutdownByWaypost,
            "ExaBGP 4.2.21 under Python 3 cannot read a NOTIFICATION with a text: exabgp/bgp/message/notification.py formats bytes with str, and the session ends with NOTIFICATION 1/0.",
        ),
        lacks(
            Feature::GracefulRestartOfWaypost,
            "ExaBGP keeps no routes: it hands on each UPDATE to its processes (README, `ExaBGP does not perform any FIB manipulation`).",
        ),
        lacks(
            Feature::LongLived,
            "ExaBGP 4.2 does not know RFC 9494: `capability` of its configuration has no setting for it (exabgp/configuration/capability.py).",
        ),
        lacks(
            Feature::Roles,
            "ExaBGP 4.2 does not know RFC 9234: `capability` of its configuration has no setting for it (exabgp/configuration/capability.py).",
        ),
    ];

    fn start(host: &Host, speaker: Speaker) -> Result<Box<dyn Daemon>> {
        Ok(Box::new(Self::start(host, speaker)?))
    }
}
