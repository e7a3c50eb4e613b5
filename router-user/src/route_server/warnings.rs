//! What an operator should know of a session: the warnings of `show peers`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{Operator, RouteServer, Session, Up, kind, limit, text};
use crate::{
    bgp::{
        SessionId,
        wire::{Asn, Family},
    },
    config::{Peer, PeerKind},
    names::GatewayName,
};

/// Most peers that a warning names.
const MOST_NAMED: usize = 5;

/// What a session's warnings say of others, looked up once for all sessions of an answer.
pub(super) struct Others<'a> {
    /// The peers of an ASN and kind.
    by_asn: BTreeMap<(Asn, PeerKind), Vec<&'a Peer>>,
    /// Members of VPN gateways that have a session.
    live: BTreeMap<&'a GatewayName, BTreeSet<IpAddr>>,
    /// Says so if the NVAs are too many.
    many_peers: Option<String>,
}

impl RouteServer {
    pub(super) fn others(&self) -> Others<'_> {
        let mut by_asn: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for peer in &self.config.peers {
            let alike = by_asn.entry((peer.asn, peer.kind()));
            alike.or_default().push(peer);
        }
        let mut live: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (id, session) in self.sessions.iter().filter(|(_, it)| it.up.is_some()) {
            let own = session.peer.membership.as_ref();
            if let Some(own) = own.filter(|own| own.kind == PeerKind::Vpn) {
                live.entry(&own.gateway).or_default().insert(id.peer);
            }
        }
        Others {
            by_asn,
            live,
            many_peers: self.many_peers(),
        }
    }

    pub(super) fn warnings(
        &self,
        id: &SessionId,
        session: &Session,
        others: &Others<'_>,
    ) -> Vec<String> {
        let mut warnings = Vec::new();
        warnings.extend(operators_wish(&session.operator));
        warnings.extend(self.one_instance_only(id, session));
        warnings.extend(self.shared_asn(session, others));
        warnings.extend(single_member(session, others));
        if session.peer.membership.is_none() {
            warnings.extend(others.many_peers.clone());
        }
        warnings.extend(session.overfed.as_ref().map(|overfed| {
            format!(
                "closed because it was to be sent {} {} routes, more than the {} allowed \
                 (`max_advertised`)",
                overfed.count,
                text::family(overfed.family),
                session.peer.max_advertised.unwrap_or_default()
            )
        }));
        warnings.extend(self.no_policy(session));
        if let Some(up) = &session.up {
            warnings.extend(self.other_routes(id, up));
            warnings.extend(self.limits(session, up));
            warnings.extend(self.outbound_warnings(&session.peer, up));
            warnings.extend(self.not_advertised(id, up));
            warnings.extend(up.malformed.as_ref().map(|(count, what)| {
                format!("{count} prefixes treated as withdrawn, the last because of: {what}")
            }));
        }
        warnings
    }

    /// RFC 8212 §2: what a session lacks a policy for.
    fn no_policy(&self, session: &Session) -> Option<String> {
        if !self.config.require_policy || session.peer.asn == self.config.asn {
            return None;
        }
        let maps = self.maps.of(&session.peer);
        let lacks = match (maps.inbound, maps.outbound) {
            (None, None) => "learns and announces nothing: no policy is configured for it",
            (None, Some(_)) => "learns nothing: no import policy is configured for it",
            (Some(_), None) => "announces nothing: no export policy is configured for it",
            (Some(_), Some(_)) => return None,
        };
        Some(format!("{lacks} (RFC 8212, `require_policy`)"))
    }

    /// The session of the same peer with the other instance.
    fn sibling(&self, id: &SessionId) -> Option<(&SessionId, &Session)> {
        let instances = self.config.instances.iter();
        let mut others = instances.filter(|instance| instance.id != id.instance);
        others.find_map(|instance| {
            let other = SessionId {
                instance: instance.id,
                ..id.clone()
            };
            self.sessions.get_key_value(&other)
        })
    }

    fn one_instance_only(&self, id: &SessionId, session: &Session) -> Option<String> {
        let Some((other, sibling)) = self.sibling(id) else {
            let family = if id.peer.is_ipv4() { "IPv4" } else { "IPv6" };
            return Some(format!(
                "can peer with instance {} only: the other instance has no {family} address",
                id.instance
            ));
        };
        let only = match (&session.up, &sibling.up) {
            (Some(_), None) => id.instance,
            (None, Some(_)) => other.instance,
            _ => return None,
        };
        Some(format!("peers with instance {only} only"))
    }

    /// Two sessions of a peer that were told the same things have the same fingerprint.
    fn other_routes(&self, id: &SessionId, up: &Up) -> Option<String> {
        let (other, sibling) = self.sibling(id)?;
        // What import adds to one session's routes alone is not the peer's doing.
        if self.sessions[id].operator.drained != sibling.operator.drained {
            return None;
        }
        let theirs = self.rib.totals(sibling.up.as_ref()?.index);
        let ours = self.rib.totals(up.index);
        (ours.fingerprint != theirs.fingerprint).then(|| {
            format!(
                "announces other routes to instance {} ({} accepted) than to instance {} ({} accepted); see `waypost \
                 show learned`",
                id.instance,
                ours.accepted,
                other.instance,
                theirs.accepted,
            )
        })
    }

    /// Peers whose routes it is sent and that have its ASN: it drops these. In the route server's own AS
    /// that is as it should be.
    fn shared_asn(&self, session: &Session, others: &Others<'_>) -> Option<String> {
        let own = &session.peer;
        if own.asn == self.config.asn || own.policy.as_override {
            return None;
        }
        let sent = kind::sent_to(&self.config, own.kind());
        // None of its own gateway: these are sent nothing of each other's.
        let kinds = PeerKind::ALL.into_iter();
        let kinds = kinds.filter(|kind| sent.contains(kind::source(*kind)));
        let alike = kinds.filter_map(|kind| others.by_asn.get(&(own.asn, kind)));
        let count: usize = alike.clone().map(Vec::len).sum();
        let itself = usize::from(sent.contains(kind::source(own.kind())));
        let same = alike.flatten().filter(|peer| peer.address != own.address);
        let named: Vec<&str> = same
            .take(MOST_NAMED)
            .map(|peer| peer.name.as_str())
            .collect();
        let more = match count.saturating_sub(itself + named.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (!named.is_empty()).then(|| {
            format!(
                "shares ASN {} with {}{more}: it drops what is reflected to it from there, unless it \
                 accepts its own ASN in a path or has `as_override`",
                own.asn,
                named.join(", ")
            )
        })
    }

    /// More NVAs than `soft_max_peers`.
    fn many_peers(&self) -> Option<String> {
        let peers = self.config.peers.iter();
        let nvas = peers.filter(|peer| peer.membership.is_none()).count();
        let most = self.config.soft_max_peers;
        (nvas > usize::from(most)).then(|| {
            format!("the route server has {nvas} peers, more than {most} (`soft_max_peers`)")
        })
    }

    /// Says so in the log, each time another peer is too many.
    pub(super) fn warn_of_many_peers(&mut self) {
        let text = self.many_peers();
        if text != self.many_peers_told {
            if let Some(text) = &text {
                tracing::warn!(route_server = %self.config.name, "{text}");
            }
            self.many_peers_told = text;
        }
    }

    fn limits(&self, session: &Session, up: &Up) -> Vec<String> {
        let max = session.peer.max_prefixes as usize;
        let totals = self.rib.totals(up.index);
        let mut warnings = Vec::new();
        for family in Family::ALL {
            let count = totals.received[family as usize] - totals.stale[family as usize];
            let refused = up.refused[family as usize].count();
            let family = text::family(family);
            if let Some(refused) = refused {
                let remedy = match up.negotiated.route_refresh {
                    true => "they are asked for again when there is room",
                    false => "clear the session when there is room: the peer cannot be asked again",
                };
                warnings.push(format!(
                    "{refused} {family} routes were refused: at most {max} are allowed \
                     (`max_prefixes`); {remedy}"
                ));
            } else if count > max {
                warnings.push(format!(
                    "announces {count} {family} routes, more than the {max} allowed \
                     (`max_prefixes`)"
                ));
            } else if limit::is_near(count, max) {
                warnings.push(format!(
                    "announces {count} {family} routes of at most {max} (`max_prefixes`)"
                ));
            }
        }
        warnings
    }

    /// Originated prefixes that this instance has no next hop for.
    fn not_advertised(&self, id: &SessionId, up: &Up) -> Option<String> {
        let view = self.view(id)?;
        let missing = |prefix: &&IpNet| {
            let family = Family::of(prefix);
            up.negotiated.families.contains(&family) && view.own_next_hop(family).is_none()
        };
        let missing: Vec<String> = self
            .originated
            .iter()
            .filter(missing)
            .map(IpNet::to_string)
            .collect();
        (!missing.is_empty()).then(|| {
            format!(
                "not advertised: {}, because instance {} has no address of that family to name as \
                 next hop",
                missing.join(", "),
                id.instance
            )
        })
    }
}

fn operators_wish(operator: &Operator) -> Option<String> {
    let Operator { shutdown, drained } = operator;
    match (shutdown.as_deref(), drained) {
        (Some(""), _) => Some("shut down by the operator; see `waypost peer start`".to_owned()),
        (Some(text), _) => Some(format!(
            "shut down by the operator (\"{text}\"); see `waypost peer start`"
        )),
        (None, true) => Some(
            "drained: its routes are last choice, here and at the peer; see `waypost peer undrain`"
                .to_owned(),
        ),
        (None, false) => None,
    }
}

/// A VPN gateway has two active members: with one alone, its tunnels go down with it.
fn single_member(session: &Session, others: &Others<'_>) -> Option<String> {
    let own = session.peer.membership.as_ref()?;
    let live = others.live.get(&own.gateway)?;
    (live.len() == 1).then(|| {
        format!(
            "VPN gateway {} has a single live member: if that fails, so does the gateway; let a \
             second one connect",
            own.gateway
        )
    })
}
