//! What the NVAs of a speaker announce.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use arbitrary::{Result, Unstructured};
use ipnet::IpNet;
use router_user::bgp::{
    RouteChange,
    wire::{AsPath, Asn, Family, Nlri, Origin, PathAttributes, community},
};

use crate::pick;

/// NVAs of each speaker.
pub(super) const NVAS: usize = 3;

/// ASNs of the two speakers.
pub(super) const SPEAKERS: [Asn; 2] = [65515, 65010];

/// An NVA of a speaker.
#[derive(Clone, Copy)]
pub(super) struct Nva(pub(super) usize);

/// The ASN of an NVA.
pub(super) fn asn(node: usize, nva: Nva) -> Asn {
    65020 + 10 * node as Asn + nva.0 as Asn
}

/// The address of an NVA.
pub(super) fn address(node: usize, nva: Nva) -> IpAddr {
    IpAddr::from([10, 2 + node as u8, 10, 4 + nva.0 as u8])
}

/// An announcement.
pub(super) fn change(
    bytes: &mut Unstructured<'_>,
    node: usize,
    nva: Nva,
) -> Result<(Arc<PathAttributes>, Vec<Nlri>)> {
    let nlri = some(bytes)?;
    let flags: u8 = bytes.arbitrary()?;
    let mut path = vec![asn(node, nva)];
    for _ in 0..flags & 3 {
        path.push(pick(
            bytes,
            &[64600, 64601, 4_200_000_001, SPEAKERS[0], SPEAKERS[1]],
        )?);
    }
    let mut communities = vec![];
    if flags & 4 != 0 {
        communities.push(pick(
            bytes,
            &[
                0xfde8_0001,
                community::NO_EXPORT,
                community::NO_ADVERTISE,
                community::GRACEFUL_SHUTDOWN,
                community::NO_LLGR,
                community::LLGR_STALE,
            ],
        )?);
    }
    let family = nlri
        .first()
        .map_or(Family::Ipv4Unicast, |nlri| Family::of(&nlri.prefix));
    let host = pick(bytes, &[4, 5, 6])?;
    let next_hop: IpAddr = match family {
        Family::Ipv4Unicast => [10, 2 + node as u8, 10, host].into(),
        Family::Ipv6Unicast => [0xfd00, 0, 0, 2 + node as u16, 0, 0, 0, host.into()].into(),
    };
    let attributes = PathAttributes {
        origin: pick(bytes, &[Origin::Igp, Origin::Egp, Origin::Incomplete])?,
        as_path: AsPath::sequence(path),
        next_hop: Some(next_hop.into()),
        med: (flags & 8 != 0).then_some(u32::from(flags >> 4)),
        communities,
        ..PathAttributes::default()
    };
    Ok((Arc::new(attributes), nlri))
}

/// Some prefixes of one family.
pub(super) fn some(bytes: &mut Unstructured<'_>) -> Result<Vec<Nlri>> {
    let chosen: u16 = bytes.arbitrary()?;
    let v6 = chosen & 1 != 0;
    let nth = |bit: u8| -> IpNet {
        let text = if v6 {
            format!("2001:db8:{bit}::/{}", 40 + bit)
        } else {
            format!("198.{}.0.0/{}", 18 + bit % 2, 16 + bit % 9)
        };
        text.parse::<IpNet>().expect("a prefix").trunc()
    };
    let prefixes = (1..16).filter(|bit| chosen >> bit & 1 != 0).map(nth);
    let distinct: BTreeMap<IpNet, ()> = prefixes.map(|prefix| (prefix, ())).collect();
    Ok(distinct.into_keys().map(Nlri::from).collect())
}

/// What an NVA has announced and not withdrawn.
#[derive(Clone, Default)]
pub(super) struct Announced(BTreeMap<IpNet, Arc<PathAttributes>>);

impl Announced {
    pub(super) fn apply(&mut self, change: &RouteChange) {
        match change {
            RouteChange::Announce { attributes, nlri } => {
                let routes = nlri.iter().map(|nlri| (nlri.prefix, attributes.clone()));
                self.0.extend(routes);
            }
            RouteChange::Withdraw { nlri, .. } => {
                self.0
                    .retain(|prefix, _| nlri.iter().all(|nlri| nlri.prefix != *prefix));
            }
            RouteChange::EndOfRib(_) => {}
        }
    }

    /// Nothing of this family any more.
    pub(super) fn forget(&mut self, family: Family) {
        self.0.retain(|prefix, _| Family::of(prefix) != family);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The same as one announcement a route.
    pub(super) fn changes(&self) -> Vec<RouteChange> {
        let routes = self.0.iter();
        let changes = routes.map(|(prefix, attributes)| RouteChange::Announce {
            attributes: attributes.clone(),
            nlri: vec![(*prefix).into()],
        });
        changes.collect()
    }
}
