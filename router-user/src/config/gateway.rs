//! `[[route_server.gateway]]`: ExpressRoute and VPN gateways.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    Peer,
    fault::Report,
    peer::Asns,
    peers::PeerReader,
    schema,
    section::{Located, Section},
    values::{Address, Name, Prefix},
};
use crate::names::GatewayName;

/// What a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerKind {
    /// A network virtual appliance.
    Nva,
    /// A member of an ExpressRoute gateway.
    ExpressRoute,
    /// A member of a VPN gateway.
    Vpn,
}

impl PeerKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nva, Self::ExpressRoute, Self::Vpn];

    /// All of them by their words.
    pub(super) const WORDS: [(&str, Self); 3] = [
        (Self::Nva.word(), Self::Nva),
        (Self::ExpressRoute.word(), Self::ExpressRoute),
        (Self::Vpn.word(), Self::Vpn),
    ];

    /// Its word in the configuration and in answers.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nva => "nva",
            Self::ExpressRoute => "express_route",
            Self::Vpn => "vpn",
        }
    }
}

/// Which of a few gateways a peer is a member of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The gateway.
    pub gateway: GatewayName,
    /// Its kind, [`PeerKind::ExpressRoute`] or [`PeerKind::Vpn`].
    pub kind: PeerKind,
}

/// `[[route_server.gateway]]`: a gateway with its members, each of which is a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its name; the members are called by it and their address.
    pub name: GatewayName,
    /// Its kind, [`PeerKind::ExpressRoute`] or [`PeerKind::Vpn`].
    pub kind: PeerKind,
    /// Who belongs to it.
    pub members: GatewayMembers,
    /// What each member is to be; name and address are its own, [`Peer::membership`] is set.
    pub template: Peer,
}

/// Who belongs to a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayMembers {
    /// These; the route server connects to them as well.
    Addresses(Vec<IpAddr>),
    /// Whoever connects from there.
    Range {
        /// The gateway's subnet, or a part of it.
        prefix: IpNet,
        /// Most of them at a time; default 16.
        max_members: u16,
    },
}

impl GatewayMembers {
    /// Whether whoever has this address belongs to the gateway.
    #[must_use]
    pub fn include(&self, address: IpAddr) -> bool {
        match self {
            Self::Addresses(members) => members.contains(&address),
            Self::Range { prefix, .. } => prefix.contains(&address),
        }
    }
}

/// Most routes that a member is sent, unless the file says otherwise.
const MAX_ADVERTISED: u32 = 1000;

/// The words of `kind`.
const KINDS: [(&str, PeerKind); 2] = [
    (PeerKind::ExpressRoute.word(), PeerKind::ExpressRoute),
    (PeerKind::Vpn.word(), PeerKind::Vpn),
];

impl PeerReader<'_> {
    /// `[[route_server.gateway]]`, each with its place.
    pub(super) fn gateways(
        &mut self,
        section: &Section<'_, '_>,
        report: &mut Report,
    ) -> Vec<(usize, Gateway)> {
        let sections = section.subsections("gateway", &schema::GATEWAY, report);
        sections
            .iter()
            .filter_map(|section| Some((section.at, self.gateway(section, report)?)))
            .collect()
    }

    fn gateway(&mut self, section: &Section<'_, '_>, report: &mut Report) -> Option<Gateway> {
        let name = section.required_text::<Name>("name", report);
        let label = name.as_ref().map_or("?", |name| &name.value.0).to_owned();
        let owner = format!("gateway {label}");
        if let Some(name) = &name {
            self.claim_name(name, "a gateway", report);
            self.recipients.insert(label.as_str().into());
        }
        section.require("kind", report);
        let kind = section.choice("kind", &KINDS, report);
        let settings = self.settings(section, &owner, Asns::Any, report);
        let passive = section.boolean("passive", false, report);
        let connect_retry = section.number("connect_retry", 1..=3600, 5, report);
        let members = self.members(section, &owner, settings.as_ref(), report);
        let prefixes = members.as_ref().map(GatewayMembers::prefixes);
        self.note_several(name.as_ref(), &owner, prefixes.unwrap_or_default());
        let (kind, members) = (kind?.value, members?);
        if kind == PeerKind::Vpn && members.most() == 1 {
            report.warning(
                section.at,
                format!("{owner} has a single member: when it fails, so does the gateway"),
                "give a VPN gateway two active members",
            );
        }
        if let Some(settings) = &settings {
            self.warn_of_ebgp_settings(section.at, &owner, settings, report);
        }
        let name = GatewayName::from(name?.value.0);
        let range = matches!(members, GatewayMembers::Range { .. });
        let settings = settings?;
        let template = Peer {
            membership: Some(Membership {
                gateway: name.clone(),
                kind,
            }),
            passive: passive || range,
            connect_retry,
            max_advertised: settings.max_advertised.or(Some(MAX_ADVERTISED)),
            ..settings
        };
        Some(Gateway {
            name,
            kind,
            members,
            template,
        })
    }

    /// Settings of eBGP sessions mean nothing to a gateway in the route server's own AS.
    fn warn_of_ebgp_settings(&self, at: usize, owner: &str, settings: &Peer, report: &mut Report) {
        let idle = [
            ("as_override", settings.policy.as_override),
            ("transparent", settings.policy.transparent),
            ("role", settings.role.is_some()),
        ];
        let idle = idle.into_iter().filter(|(_, is_set)| *is_set);
        let idle: Vec<&str> = idle.map(|(word, _)| word).collect();
        if settings.asn == self.common.local_asn && !idle.is_empty() {
            report.warning(
                at,
                format!(
                    "{owner} is in the route server's own AS, where {} has no effect",
                    idle.join(", ")
                ),
                "leave it out, or give the gateway an asn of its own",
            );
        }
    }

    fn members(
        &mut self,
        section: &Section<'_, '_>,
        owner: &str,
        settings: Option<&Peer>,
        report: &mut Report,
    ) -> Option<GatewayMembers> {
        match (section.has("members"), section.has("prefix")) {
            (true, false) => self.known_members(section, owner, settings, report),
            (false, true) => self.range(section, owner, settings, report),
            (both, _) => {
                let what = if both {
                    "has both members and a prefix"
                } else {
                    "has neither members nor a prefix"
                };
                report.fault(
                    section.at,
                    format!("{owner} {what}"),
                    "name its members (members = [\"…\"]), or the range that they connect from (prefix = \"…\")",
                );
                None
            }
        }
    }

    fn known_members(
        &mut self,
        section: &Section<'_, '_>,
        owner: &str,
        settings: Option<&Peer>,
        report: &mut Report,
    ) -> Option<GatewayMembers> {
        refuse(section, "max_members", owner, "names its members", report);
        let mut members = Vec::new();
        for address in section.filled_list::<Address>("members", report) {
            let Located {
                value: Address(value),
                at,
            } = address;
            self.claim_address(&address, owner, report);
            let what = format!("address {value} of {owner}");
            self.within_network(value.into(), &what, at, report);
            if let Some(place) = self.network {
                let network = self.networks.at_mut(place);
                network.note_forwarder(value);
                network.note_machine(value, what, "give the address of the gateway's member", at);
                self.note_placed(value, place, owner, at);
            }
            if let Some(settings) = settings {
                self.note_configured(&address, owner, settings);
            }
            members.push(value);
        }
        (!members.is_empty()).then_some(GatewayMembers::Addresses(members))
    }

    fn range(
        &mut self,
        section: &Section<'_, '_>,
        owner: &str,
        settings: Option<&Peer>,
        report: &mut Report,
    ) -> Option<GatewayMembers> {
        for key in ["passive", "connect_retry"] {
            refuse(section, key, owner, "waits for whoever connects", report);
        }
        let max_members = section.number("max_members", 1..=u16::MAX, 16, report);
        let range = section.text::<Prefix>("prefix", report)?;
        let prefix = range.value.0;
        self.refuse_mute_instances(prefix.addr(), owner, range.at, report);
        let what = format!("prefix {prefix} of {owner}");
        self.within_network(prefix, &what, range.at, report);
        if let Some(network) = self.network {
            self.networks.at_mut(network).note_forwarders(prefix);
        }
        if let Some(settings) = settings {
            self.note_range(&range, owner, settings, max_members, true);
        }
        Some(GatewayMembers::Range {
            prefix,
            max_members,
        })
    }

    /// A gateway lies in the route server's own network.
    fn within_network(&self, prefix: IpNet, what: &str, at: usize, report: &mut Report) {
        let Some(network) = self.network.map(|network| self.networks.at(network)) else {
            return;
        };
        let mut space = network.vnet.prefixes.iter();
        if network.complete && !space.any(|own| own.contains(&prefix)) {
            report.fault(
                at,
                format!("{what} lies outside network {}", network.vnet.name),
                "give what the gateway has in the route server's own network, best in a subnet for gateways",
            );
        }
    }
}

impl GatewayMembers {
    /// Where they are.
    fn prefixes(&self) -> Vec<IpNet> {
        match self {
            Self::Addresses(members) => members.iter().copied().map(IpNet::from).collect(),
            Self::Range { prefix, .. } => vec![*prefix],
        }
    }

    /// The most of them at a time.
    fn most(&self) -> usize {
        match self {
            Self::Addresses(members) => members.len(),
            Self::Range { max_members, .. } => usize::from(*max_members),
        }
    }
}

/// Reports a key that means nothing here.
fn refuse(section: &Section<'_, '_>, key: &str, owner: &str, why: &str, report: &mut Report) {
    if section.has(key) {
        report.fault(
            section.place(key),
            format!("{owner} {why}, and has {key}"),
            format!("leave {key} out"),
        );
    }
}
