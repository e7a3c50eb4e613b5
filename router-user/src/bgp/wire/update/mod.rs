//! The UPDATE message (RFC 4271 §4.3, RFC 4760, RFC 7606): what it withdraws, what it announces,
//! and what was wrong with it. `encode` writes them.

mod encode;

use std::{mem, sync::Arc};

pub use encode::{EncodeError, encode_announce, encode_end_of_rib, encode_withdraw};

use super::{
    AttributeCode, Context, Disposition, Family, Fault, Notification, Peering,
    attribute::{self, Attributes, PathAttributes},
    cursor::Cursor,
    nlri::Prefixes,
    notification::error,
};
use crate::bgp::RouteChange;

/// A decoded UPDATE. Its attributes are parsed; its prefixes are known to be well-formed and still
/// lie in the buffer.
#[derive(Clone, PartialEq, Debug)]
pub struct Update<'a> {
    withdrawn: [Prefixes<'a>; 2],
    announced: [Option<Announced<'a>>; 2],
    end_of_rib: Option<Family>,
    faults: Vec<Fault>,
}

/// Routes that share their attributes and the field that they stood in.
#[derive(Clone, PartialEq, Debug)]
pub struct Announced<'a> {
    /// The attributes, NEXT_HOP included; not to be used if the UPDATE is to be treated as
    /// withdrawn.
    pub attributes: Arc<PathAttributes>,
    /// The prefixes.
    pub prefixes: Prefixes<'a>,
}

impl<'a> Update<'a> {
    /// The routes withdrawn: those of the Withdrawn Routes field, then those of MP_UNREACH_NLRI.
    pub fn withdrawn(&self) -> impl Iterator<Item = super::Nlri> + use<'a> {
        let [plain, multiprotocol] = self.withdrawn;
        plain.chain(multiprotocol)
    }

    /// The routes announced: those of the NLRI field, then those of MP_REACH_NLRI.
    pub fn announced(&self) -> impl Iterator<Item = &Announced<'a>> {
        self.announced.iter().flatten()
    }

    /// The family that is complete now (RFC 4724 §2), if the message says nothing but that.
    #[must_use]
    pub const fn end_of_rib(&self) -> Option<Family> {
        self.end_of_rib
    }

    /// What was wrong, none of it worth a session reset: attributes that were discarded, and
    /// reasons to treat the routes as withdrawn.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// The first fault because of which the announced routes are treated as withdrawn.
    #[must_use]
    pub fn malformed(&self) -> Option<&Fault> {
        self.faults
            .iter()
            .find(|fault| fault.disposition == Disposition::TreatAsWithdraw)
    }

    /// What the message changes, in the order in which it is to be applied: withdrawals before
    /// announcements (RFC 4271 §4.3).
    #[must_use]
    pub fn into_changes(self) -> Vec<RouteChange> {
        let mut changes = Vec::with_capacity(1);
        if let Some(family) = self.end_of_rib {
            changes.push(RouteChange::EndOfRib(family));
            return changes;
        }
        if self.withdrawn.iter().any(|prefixes| !prefixes.is_empty()) {
            changes.push(RouteChange::Withdraw {
                nlri: self.withdrawn().collect(),
                malformed: None,
            });
        }
        let malformed = self.malformed().map(|fault| Arc::from(fault.to_string()));
        for Announced {
            attributes,
            prefixes,
        } in self.announced.into_iter().flatten()
        {
            let nlri = prefixes.collect();
            changes.push(match &malformed {
                None => RouteChange::Announce { attributes, nlri },
                Some(reason) => RouteChange::Withdraw {
                    nlri,
                    malformed: Some(Arc::clone(reason)),
                },
            });
        }
        changes
    }

    pub(super) fn decode(body: &'a [u8], context: &Context) -> Result<Self, Notification> {
        let mut cursor = Cursor::new(body);
        let mut field = || cursor.u16().and_then(|len| cursor.bytes(len.into()));
        // RFC 7606 §3 a.
        let (Some(withdrawn), Some(attributes)) = (field(), field()) else {
            return Err(Notification::new(error::UPDATE, 1, []));
        };
        let withdrawn = plain_prefixes(withdrawn, context)?;
        let announced = plain_prefixes(cursor.rest(), context)?;
        let mut read = Attributes::default();
        read.read(attributes, context)?;
        if body == [0; 4] && context.families.contains(Family::Ipv4Unicast) {
            return Ok(Self::of_end_of_rib(Family::Ipv4Unicast));
        }
        // Routes of a family that is not exchanged are ignored, but they are there.
        let ignored = announced.is_empty() && !cursor.rest().is_empty();
        Self::new(withdrawn, announced, ignored, &mut read, context)
    }

    fn new(
        withdrawn: Prefixes<'a>,
        announced: Prefixes<'a>,
        ignored: bool,
        attributes: &mut Attributes<'a>,
        context: &Context,
    ) -> Result<Self, Notification> {
        if let Some(unreach) = attributes.unreach
            && unreach.is_empty()
            && withdrawn.is_empty()
            && announced.is_empty()
            && !attributes.has_other_than_unreach()
        {
            return Ok(Self::of_end_of_rib(unreach.family()));
        }
        let reaches = match &attributes.reach {
            Some(reach) => !reach.prefixes.is_empty(),
            // Of a family that is not exchanged, if it is there at all.
            None => attributes.has(AttributeCode::MP_REACH_NLRI),
        };
        let announces = !announced.is_empty() || ignored || reaches;
        if announces {
            require_mandatory(attributes, !announced.is_empty(), context);
        } else {
            refuse_faults_without_routes(attributes)?;
        }
        let unreach = attributes.unreach;
        Ok(Self {
            withdrawn: [
                withdrawn,
                unreach.unwrap_or(Prefixes::empty(Family::Ipv6Unicast)),
            ],
            announced: share(&mut attributes.path, announced, attributes.reach),
            end_of_rib: None,
            faults: mem::take(&mut attributes.faults),
        })
    }

    fn of_end_of_rib(family: Family) -> Self {
        Self {
            withdrawn: [Prefixes::empty(family); 2],
            announced: [None, None],
            end_of_rib: Some(family),
            faults: Vec::new(),
        }
    }
}

/// The Withdrawn Routes or the NLRI field; nothing, if IPv4 unicast is not exchanged.
fn plain_prefixes<'a>(bytes: &'a [u8], context: &Context) -> Result<Prefixes<'a>, Notification> {
    let family = Family::Ipv4Unicast;
    if !context.families.contains(family) {
        return Ok(Prefixes::empty(family));
    }
    let add_path = context.add_path_receive.contains(family);
    // RFC 7606 §5.3 and §3 j: the routes are not known, so they cannot be withdrawn.
    Prefixes::parse(bytes, family, add_path).map_err(|_| Notification::new(error::UPDATE, 10, []))
}

/// RFC 7606 §3 d, RFC 4271 §5.
fn require_mandatory(attributes: &mut Attributes<'_>, next_hop: bool, context: &Context) {
    attributes.require(AttributeCode::ORIGIN);
    attributes.require(AttributeCode::AS_PATH);
    if next_hop {
        attributes.require(AttributeCode::NEXT_HOP);
    }
    if context.peering == Peering::Internal {
        attributes.require(AttributeCode::LOCAL_PREF);
    }
}

/// RFC 7606 §5.2: attributes without routes, and malformed: the routes may have been lost, so that
/// a session reset is all that is left.
fn refuse_faults_without_routes(attributes: &Attributes<'_>) -> Result<(), Notification> {
    let withdrawing = attributes
        .faults
        .iter()
        .find(|fault| fault.disposition == Disposition::TreatAsWithdraw);
    match withdrawing {
        Some(fault) if attributes.has_other_than_unreach() => {
            Err(fault.notification(attributes.culprit.unwrap_or_default()))
        }
        _ => Ok(()),
    }
}

/// Gives each field's routes their attributes with their next hop; one set serves both fields
/// unless both are there.
fn share<'a>(
    path: &mut PathAttributes,
    plain: Prefixes<'a>,
    reach: Option<attribute::mp::Reach<'a>>,
) -> [Option<Announced<'a>>; 2] {
    let reach = reach.filter(|reach| !reach.prefixes.is_empty());
    let plain = (!plain.is_empty()).then(|| Announced {
        attributes: Arc::new(match reach {
            Some(_) => path.clone(),
            None => mem::take(path),
        }),
        prefixes: plain,
    });
    let reach = reach.map(|reach| {
        path.next_hop = Some(reach.next_hop);
        Announced {
            attributes: Arc::new(mem::take(path)),
            prefixes: reach.prefixes,
        }
    });
    [plain, reach]
}
