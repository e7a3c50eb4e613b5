//! Reading the attributes of an UPDATE: one pass, each attribute once, every fault noted with
//! what RFC 7606 makes of it.

use super::{
    super::{
        Context, Disposition, Fault, FaultKind, Notification, Peering, cursor::Cursor,
        nlri::Prefixes,
    },
    Aggregator, AsPath, AttributeCode, NextHop, Origin, PathAttributes, UnknownAttribute, as4,
    community, flags, mp, number,
    raw::{Overrun, RawAttribute},
};

/// What the attributes of an UPDATE say.
#[derive(Debug, Default)]
pub(in super::super) struct Attributes<'a> {
    /// Everything but MP_REACH_NLRI and MP_UNREACH_NLRI. `next_hop` is NEXT_HOP's.
    pub(in super::super) path: PathAttributes,
    /// MP_REACH_NLRI of a family that is exchanged.
    pub(in super::super) reach: Option<mp::Reach<'a>>,
    /// MP_UNREACH_NLRI of a family that is exchanged.
    pub(in super::super) unreach: Option<Prefixes<'a>>,
    /// Faults that do not reset the session.
    pub(in super::super) faults: Vec<Fault>,
    /// The first attribute that makes the routes withdrawn, as received.
    pub(in super::super) culprit: Option<&'a [u8]>,
    seen: CodeSet,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
}

impl<'a> Attributes<'a> {
    /// Reads all attributes.
    ///
    /// # Errors
    ///
    /// The NOTIFICATION where the RFC leaves nothing but a session reset.
    pub(in super::super) fn read(
        &mut self,
        bytes: &'a [u8],
        context: &Context,
    ) -> Result<(), Notification> {
        let mut cursor = Cursor::new(bytes);
        while !cursor.is_empty() {
            match RawAttribute::take(&mut cursor) {
                Ok(raw) => self.take(raw, context)?,
                Err(overrun) => {
                    self.overrun(overrun)?;
                    break;
                }
            }
        }
        self.merge_as4();
        Ok(())
    }

    /// Whether an attribute of this type came, well-formed or not.
    pub(in super::super) fn has(&self, code: AttributeCode) -> bool {
        self.seen.contains(code)
    }

    /// Whether there is anything but, possibly, MP_UNREACH_NLRI.
    pub(in super::super) fn has_other_than_unreach(&self) -> bool {
        self.seen.without(AttributeCode::MP_UNREACH_NLRI) != CodeSet::default()
    }

    /// Notes a missing attribute (RFC 7606 §3 d).
    pub(in super::super) fn require(&mut self, code: AttributeCode) {
        if !self.has(code) {
            self.faults.push(Fault {
                attribute: code,
                kind: FaultKind::Missing,
                disposition: Disposition::TreatAsWithdraw,
            });
        }
    }

    fn take(&mut self, raw: RawAttribute<'a>, context: &Context) -> Result<(), Notification> {
        if !self.seen.insert(raw.code) {
            // RFC 7606 §3 g.
            let disposition = if raw.code.carries_routes() {
                Disposition::SessionReset
            } else {
                Disposition::AttributeDiscard
            };
            return self.fault(FaultKind::Duplicate, disposition, raw);
        }
        let Some(rules) = raw.code.rules() else {
            return self.take_unknown(raw);
        };
        if let Some(kind) = unwanted(raw.code, context) {
            return self.fault(kind, Disposition::AttributeDiscard, raw);
        }
        if raw.flags & (flags::OPTIONAL | flags::TRANSITIVE) != rules.flags {
            let kind = FaultKind::Flags {
                found: raw.flags,
                expected: rules.flags,
            };
            // RFC 7606 §3 c; §5.3 and §3 j where the routes are in doubt with the attribute.
            let disposition = if raw.code.carries_routes() {
                Disposition::SessionReset
            } else {
                Disposition::TreatAsWithdraw
            };
            self.fault(kind, disposition, raw)?;
        }
        match self.read_value(raw, context) {
            Ok(()) => Ok(()),
            Err(kind) => self.fault(kind, rules.malformed, raw),
        }
    }

    fn read_value(&mut self, raw: RawAttribute<'a>, context: &Context) -> Result<(), FaultKind> {
        use AttributeCode as Code;
        let value = raw.value;
        let four_octet = context.four_octet_asn;
        match raw.code {
            Code::ORIGIN => self.path.origin = Origin::parse(value)?,
            Code::AS_PATH => self.path.as_path = AsPath::parse(value, four_octet)?,
            Code::NEXT_HOP => {
                self.path.next_hop = Some(NextHop::V4(number::parse_address(value)?));
            }
            Code::MULTI_EXIT_DISC => self.path.med = Some(number::parse(value)?),
            Code::LOCAL_PREF => self.path.local_pref = Some(number::parse(value)?),
            Code::ATOMIC_AGGREGATE => {
                number::parse_empty(value)?;
                self.path.atomic_aggregate = true;
            }
            Code::AGGREGATOR => {
                self.path.aggregator = Some(Aggregator::parse(value, four_octet)?);
            }
            Code::COMMUNITIES => self.path.communities = community::parse(value)?,
            Code::ORIGINATOR_ID => self.path.originator_id = Some(number::parse_address(value)?),
            Code::CLUSTER_LIST => self.path.cluster_list = number::parse_addresses(value)?,
            Code::MP_REACH_NLRI => self.reach = mp::parse_reach(value, context)?,
            Code::MP_UNREACH_NLRI => self.unreach = mp::parse_unreach(value, context)?,
            Code::EXTENDED_COMMUNITIES => {
                self.path.extended_communities = community::parse_extended(value)?;
            }
            Code::AS4_PATH => self.as4_path = Some(as4::parse_path(value)?),
            Code::AS4_AGGREGATOR => {
                self.as4_aggregator = Some(Aggregator::parse(value, true)?);
            }
            Code::LARGE_COMMUNITY => {
                self.path.large_communities = community::parse_large(value)?;
            }
            Code::ONLY_TO_CUSTOMER => self.path.only_to_customer = Some(number::parse(value)?),
            // Codes without rules do not come here.
            _ => {}
        }
        Ok(())
    }

    /// RFC 4271 §5 and §9: optional ones are kept if transitive, else dropped without a word.
    fn take_unknown(&mut self, raw: RawAttribute<'a>) -> Result<(), Notification> {
        if raw.flags & flags::OPTIONAL == 0 {
            return self.fault(FaultKind::Unrecognized, Disposition::SessionReset, raw);
        }
        if raw.flags & flags::TRANSITIVE != 0 {
            let attribute = UnknownAttribute {
                flags: raw.flags & (flags::OPTIONAL | flags::TRANSITIVE | flags::PARTIAL),
                code: raw.code.0,
                value: raw.value.into(),
            };
            let unknown = &mut self.path.unknown;
            let place = unknown.partition_point(|other| other.code < attribute.code);
            unknown.insert(place, attribute);
        }
        Ok(())
    }

    /// RFC 7606 §4; but where routes are lost with the attribute, they cannot be withdrawn (§3 j).
    fn overrun(&mut self, overrun: Overrun) -> Result<(), Notification> {
        let code = overrun.code.unwrap_or(AttributeCode::NONE);
        let fault = Fault {
            attribute: code,
            kind: FaultKind::Overrun,
            disposition: Disposition::TreatAsWithdraw,
        };
        if code.carries_routes() {
            return Err(fault.notification(&[]));
        }
        self.seen.insert(code);
        self.culprit.get_or_insert(&[]);
        self.faults.push(fault);
        Ok(())
    }

    fn fault(
        &mut self,
        kind: FaultKind,
        disposition: Disposition,
        raw: RawAttribute<'a>,
    ) -> Result<(), Notification> {
        let fault = Fault {
            attribute: raw.code,
            kind,
            disposition,
        };
        match disposition {
            Disposition::SessionReset => return Err(fault.notification(raw.whole)),
            Disposition::TreatAsWithdraw => {
                self.culprit.get_or_insert(raw.whole);
            }
            Disposition::AttributeDiscard => {}
        }
        self.faults.push(fault);
        Ok(())
    }

    fn merge_as4(&mut self) {
        let (path, aggregator) = (self.as4_path.take(), self.as4_aggregator.take());
        if path.is_some() || aggregator.is_some() {
            as4::merge(
                &mut self.path.as_path,
                &mut self.path.aggregator,
                path,
                aggregator,
            );
        }
    }
}

/// Attributes that are discarded because of who sent them (RFC 7606 §7.5, §7.9, §7.10; RFC 6793
/// §6).
fn unwanted(code: AttributeCode, context: &Context) -> Option<FaultKind> {
    match code {
        AttributeCode::LOCAL_PREF | AttributeCode::ORIGINATOR_ID | AttributeCode::CLUSTER_LIST => {
            (context.peering == Peering::External).then_some(FaultKind::FromExternal)
        }
        AttributeCode::AS4_PATH | AttributeCode::AS4_AGGREGATOR => {
            context.four_octet_asn.then_some(FaultKind::FromNewSpeaker)
        }
        _ => None,
    }
}

/// A set of attribute types.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct CodeSet([u64; 4]);

impl CodeSet {
    /// `false`: it was there already.
    fn insert(&mut self, code: AttributeCode) -> bool {
        let new = !self.contains(code);
        self.0[usize::from(code.0 >> 6)] |= Self::bit(code);
        new
    }

    fn contains(&self, code: AttributeCode) -> bool {
        self.0[usize::from(code.0 >> 6)] & Self::bit(code) != 0
    }

    fn without(mut self, code: AttributeCode) -> Self {
        self.0[usize::from(code.0 >> 6)] &= !Self::bit(code);
        self
    }

    const fn bit(code: AttributeCode) -> u64 {
        1 << (code.0 & 63)
    }
}
