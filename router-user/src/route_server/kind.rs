//! Kinds of sources: who is preferred, and who learns what from whom.
//!
//! In: the configuration. Out: class and permitted sources of each kind of peer, and the sources that a
//! subnet or a gateway's port takes ([`LearnedUse`]). One place decides what a gateway is sent and what
//! its port forwards by, so that the two cannot differ.

use crate::{
    config::{self, PeerKind, RoutingPreference},
    rib::{SourceKind, SourceKinds, Towards},
};

use super::LearnedUse;

/// The kind of source that an NVA is.
pub(super) const NVA: SourceKind = SourceKind(0);

/// A member of an ExpressRoute gateway.
pub(super) const EXPRESS_ROUTE: SourceKind = SourceKind(1);

/// A member of a VPN gateway.
pub(super) const VPN: SourceKind = SourceKind(2);

/// Routes learned by hand; they go with those of NVAs.
pub(super) const STATIC: SourceKind = SourceKind(3);

/// All kinds.
pub(super) const ALL: [SourceKind; 4] = [NVA, EXPRESS_ROUTE, VPN, STATIC];

/// What a peer of this kind is as a source.
pub(super) const fn source(kind: PeerKind) -> SourceKind {
    match kind {
        PeerKind::Nva => NVA,
        PeerKind::ExpressRoute => EXPRESS_ROUTE,
        PeerKind::Vpn => VPN,
    }
}

/// The kind of peer that a source is; `None`: it is none, its routes were learned by hand.
pub(super) fn of_peer(kind: SourceKind) -> Option<PeerKind> {
    PeerKind::ALL.into_iter().find(|peer| source(*peer) == kind)
}

/// Class of a source in step 3 of the decision process; lower is preferred.
pub(super) fn class(preference: RoutingPreference, source: SourceKind) -> u8 {
    let source = match source {
        STATIC if planted!(StaticRoutesAreOfAnotherClass) => EXPRESS_ROUTE,
        source => source,
    };
    let preferred = match preference {
        RoutingPreference::ExpressRoute => source == EXPRESS_ROUTE,
        RoutingPreference::VpnGateway => source != EXPRESS_ROUTE,
        RoutingPreference::AsPath => true,
    } || planted!(ClassDoesNotCount);
    if preferred { 1 } else { 2 }
}

/// The sources whose routes a peer of this kind may be sent. Routes never pass between ExpressRoute
/// gateways, nor between VPN gateways; to and from gateways they pass with `branch_to_branch` only.
pub(super) fn sent_to(config: &config::RouteServer, kind: PeerKind) -> SourceKinds {
    let nvas = [NVA, STATIC];
    let branches = match kind {
        PeerKind::Nva => [EXPRESS_ROUTE, VPN].to_vec(),
        PeerKind::ExpressRoute if planted!(BetweenExpressRoutes) => ALL.to_vec(),
        PeerKind::ExpressRoute => [&nvas[..], &[VPN]].concat(),
        PeerKind::Vpn if planted!(BetweenVpns) => ALL.to_vec(),
        PeerKind::Vpn => [&nvas[..], &[EXPRESS_ROUTE]].concat(),
    };
    let mut sent = SourceKinds::default();
    if config.branch_to_branch || planted!(AlwaysBranchToBranch) {
        sent = branches.into_iter().fold(sent, SourceKinds::with);
    }
    if kind == PeerKind::Nva && (config.reflect_between_nvas || planted!(AlwaysReflects)) {
        sent = nvas.into_iter().fold(sent, SourceKinds::with);
    }
    sent
}

/// The sources that a user takes: a gateway's port exactly what its gateway is sent, a subnet what
/// propagates to it.
pub(super) fn taken_by(config: &config::RouteServer, of: &LearnedUse) -> SourceKinds {
    if let Some(kind) = of.gateway.filter(|_| !planted!(GatewayPortsTakeAll)) {
        return sent_to(config, kind);
    }
    let kinds = PeerKind::ALL.into_iter();
    let mut sources = kinds
        .filter(|kind| of.propagate.from(*kind))
        .map(source)
        .fold(SourceKinds::default(), SourceKinds::with);
    if of.propagate.nva {
        sources = sources.with(STATIC);
    }
    sources
}

/// What communities mean to a user: to a gateway's port what they mean to its gateway. Gateways of a
/// kind are taken to lie in other ASes if one of them does.
pub(super) fn towards(config: &config::RouteServer, of: &LearnedUse) -> Towards {
    let Some(kind) = of.gateway else {
        return Towards::Subnets;
    };
    let mut gateways = config.gateways.iter();
    let external = |own: &config::Gateway| own.kind == kind && own.template.asn != config.asn;
    match gateways.any(external) {
        true => Towards::External,
        false => Towards::Internal,
    }
}

/// Why a user takes no routes of a source that is none of those that it takes.
pub(super) fn why_not_taken(of: &LearnedUse, source: SourceKind) -> &'static str {
    match of.gateway {
        None => "routes of its kind of source do not come here (propagate_routes)",
        Some(PeerKind::ExpressRoute) if source == EXPRESS_ROUTE => {
            "a gateway's port takes only what the gateway is sent, and no ExpressRoute gateway is \
             sent routes of ExpressRoute gateways, its own included (kind)"
        }
        Some(PeerKind::Vpn) if source == VPN => {
            "a gateway's port takes only what the gateway is sent, and no VPN gateway is sent routes \
             of VPN gateways, its own included (kind)"
        }
        Some(_) => {
            "a gateway's port takes only what the gateway is sent, and that is nothing learned \
             (branch_to_branch)"
        }
    }
}

/// All of them.
pub(super) fn all() -> SourceKinds {
    ALL.into_iter()
        .fold(SourceKinds::default(), SourceKinds::with)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::{Instance, Propagate};

    #[test]
    fn express_route_is_preferred_by_default_and_vpn_and_nva_are_equals() {
        let classes =
            |preference| [EXPRESS_ROUTE, VPN, NVA, STATIC].map(|kind| class(preference, kind));
        assert_eq!(classes(RoutingPreference::default()), [1, 2, 2, 2]);
        assert_eq!(classes(RoutingPreference::VpnGateway), [2, 1, 1, 1]);
        assert_eq!(classes(RoutingPreference::AsPath), [1, 1, 1, 1], "no class");
    }

    /// For each setting: what NVAs, ExpressRoute and VPN gateways are sent.
    #[test]
    fn routes_pass_between_kinds_as_the_two_switches_say() {
        let none = &[][..];
        for (reflect, branch, nva, express_route, vpn) in [
            (true, false, &[NVA, STATIC][..], none, none),
            (false, false, none, none, none),
            (
                true,
                true,
                &[NVA, STATIC, EXPRESS_ROUTE, VPN],
                &[NVA, STATIC, VPN],
                &[NVA, STATIC, EXPRESS_ROUTE],
            ),
            (
                false,
                true,
                &[EXPRESS_ROUTE, VPN],
                &[NVA, STATIC, VPN],
                &[NVA, STATIC, EXPRESS_ROUTE],
            ),
        ] {
            let config = config::RouteServer {
                reflect_between_nvas: reflect,
                branch_to_branch: branch,
                ..route_server()
            };
            let expected = [nva, express_route, vpn].map(set);
            let sent = PeerKind::ALL.map(|kind| sent_to(&config, kind));
            assert_eq!(
                sent, expected,
                "reflect {reflect}, branch to branch {branch}"
            );
        }
    }

    #[test]
    fn a_gateways_port_takes_what_its_gateway_is_sent_whatever_its_table_says() {
        for branch_to_branch in [false, true] {
            let config = config::RouteServer {
                branch_to_branch,
                ..route_server()
            };
            for kind in [PeerKind::ExpressRoute, PeerKind::Vpn] {
                let port = LearnedUse {
                    gateway: Some(kind),
                    ..by(Propagate::ALL)
                };
                assert_eq!(taken_by(&config, &port), sent_to(&config, kind));
            }
        }
    }

    #[test]
    fn a_subnet_takes_what_propagates_to_it_and_static_routes_with_those_of_nvas() {
        let config = route_server();
        assert_eq!(taken_by(&config, &by(Propagate::ALL)), all());
        assert_eq!(taken_by(&config, &by(Propagate::NONE)), set(&[]));
        let nva = Propagate {
            nva: true,
            ..Propagate::NONE
        };
        assert_eq!(taken_by(&config, &by(nva)), set(&[NVA, STATIC]));
        let gateways = Propagate {
            nva: false,
            ..Propagate::ALL
        };
        assert_eq!(taken_by(&config, &by(gateways)), set(&[EXPRESS_ROUTE, VPN]));
    }

    fn set(kinds: &[SourceKind]) -> SourceKinds {
        kinds
            .iter()
            .copied()
            .fold(SourceKinds::default(), SourceKinds::with)
    }

    fn by(propagate: Propagate) -> LearnedUse {
        LearnedUse {
            propagate,
            gateway: None,
            reach: BTreeSet::new(),
            forwarding: true,
        }
    }

    fn route_server() -> config::RouteServer {
        let instance = |id: u8| Instance {
            id: crate::bgp::InstanceId(id),
            router_id: [10, 1, 255, 3 + id].into(),
            addresses: vec![[10, 1, 255, 3 + id].into()],
        };
        let instances = [instance(1), instance(2)];
        config::RouteServer::new("rs1".into(), "hub".into(), instances)
    }
}
