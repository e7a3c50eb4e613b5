//! AS_PATH (RFC 4271 §5.1.2, RFC 5065, RFC 6793).

use std::iter::repeat_n;

use bytes::{BufMut, BytesMut};
use smallvec::{SmallVec, smallvec};

use super::super::{AS_TRANS, Asn, FaultKind, cursor::Cursor};

/// A segment of an AS path (RFC 4271 §4.3, RFC 5065).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AsSegment {
    /// What the numbers mean.
    pub kind: AsSegmentKind,
    /// 1 to 255 AS numbers on the wire; longer sequences are split when encoded.
    pub asns: SmallVec<[Asn; 6]>,
}

/// Kinds of AS path segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum AsSegmentKind {
    /// Unordered (deprecated by RFC 9774).
    Set = 1,
    /// Ordered.
    Sequence = 2,
    /// Ordered, within a confederation.
    ConfedSequence = 3,
    /// Unordered, within a confederation.
    ConfedSet = 4,
}

/// AS_PATH, 4-octet, merged with AS4_PATH where the speaker is old (RFC 6793 §4.2.3). Decoding
/// joins neighbouring sequences, so that paths with the same meaning are equal.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct AsPath {
    /// The segments, nearest neighbour first.
    pub segments: SmallVec<[AsSegment; 1]>,
}

/// The most AS numbers that a segment holds on the wire.
const MAX_SEGMENT: usize = 255;

impl AsPath {
    /// One sequence, or no segment at all if `asns` is empty.
    #[must_use]
    pub fn sequence(asns: impl IntoIterator<Item = Asn>) -> Self {
        let mut path = Self::default();
        path.push(AsSegmentKind::Sequence, asns);
        path
    }

    /// Its length in the decision process: a set counts 1, confederation segments nothing
    /// (RFC 4271 §9.1.2.2, RFC 5065 §5.3).
    #[must_use]
    pub fn length(&self) -> usize {
        self.segments.iter().map(AsSegment::length).sum()
    }

    /// Whether there are no AS numbers: the route originates in the peer's own AS.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// All AS numbers, nearest neighbour first, those of sets and confederations included.
    pub fn asns(&self) -> impl Iterator<Item = Asn> {
        self.segments
            .iter()
            .flat_map(|segment| segment.asns.iter().copied())
    }

    /// Whether `asn` is anywhere in the path.
    #[must_use]
    pub fn contains(&self, asn: Asn) -> bool {
        self.count(asn) > 0
    }

    /// How often `asn` is in the path.
    #[must_use]
    pub fn count(&self, asn: Asn) -> usize {
        self.asns().filter(|other| *other == asn).count()
    }

    /// Whether there is an AS_SET or AS_CONFED_SET (RFC 9774).
    #[must_use]
    pub fn has_sets(&self) -> bool {
        use AsSegmentKind::{ConfedSet, Set};
        self.segments
            .iter()
            .any(|segment| matches!(segment.kind, Set | ConfedSet))
    }

    /// Whether there is a confederation segment, which eBGP peers must not send (RFC 5065 §5).
    #[must_use]
    pub fn has_confederation(&self) -> bool {
        self.segments
            .iter()
            .any(|segment| segment.kind.is_confederation())
    }

    /// The leftmost AS, if the path starts with a sequence; what eBGP peers put there is their own.
    #[must_use]
    pub fn first_as(&self) -> Option<Asn> {
        let first = self.segments.first()?;
        (first.kind == AsSegmentKind::Sequence)
            .then(|| first.asns.first().copied())
            .flatten()
    }

    /// The AS that the route was learned from, confederation segments passed over: MEDs are
    /// compared among routes with the same (RFC 4271 §9.1.2.2, RFC 5065 §5.3).
    #[must_use]
    pub fn neighbour_as(&self) -> Option<Asn> {
        let first = self
            .segments
            .iter()
            .find(|segment| !segment.kind.is_confederation())?;
        (first.kind == AsSegmentKind::Sequence)
            .then(|| first.asns.first().copied())
            .flatten()
    }

    /// The rightmost AS, if the path ends with a sequence.
    #[must_use]
    pub fn origin_as(&self) -> Option<Asn> {
        let last = self.segments.last()?;
        (last.kind == AsSegmentKind::Sequence)
            .then(|| last.asns.last().copied())
            .flatten()
    }

    /// Puts `asn` in front, `count` times (RFC 4271 §5.1.2). A sequence may grow beyond what a
    /// segment holds; encoding splits it.
    pub fn prepend(&mut self, asn: Asn, count: usize) {
        if count == 0 {
            return;
        }
        match self.segments.first_mut() {
            Some(first) if first.kind == AsSegmentKind::Sequence => {
                first.asns.insert_many(0, repeat_n(asn, count));
            }
            _ => self.segments.insert(
                0,
                AsSegment {
                    kind: AsSegmentKind::Sequence,
                    asns: smallvec![asn; count],
                },
            ),
        }
    }

    /// Replaces every occurrence of `old` by `new`.
    pub fn replace(&mut self, old: Asn, new: Asn) {
        self.segments
            .iter_mut()
            .flat_map(|segment| segment.asns.iter_mut())
            .filter(|asn| **asn == old)
            .for_each(|asn| *asn = new);
    }

    /// Appends a segment, or lengthens the last one if both are the same kind of sequence.
    pub(super) fn push(&mut self, kind: AsSegmentKind, asns: impl IntoIterator<Item = Asn>) {
        let mut asns = asns.into_iter().peekable();
        if asns.peek().is_none() {
            return;
        }
        match self.segments.last_mut() {
            Some(last) if last.kind == kind && kind.is_sequence() => last.asns.extend(asns),
            _ => self.segments.push(AsSegment {
                kind,
                asns: asns.collect(),
            }),
        }
    }

    pub(super) fn parse(value: &[u8], four_octet_asn: bool) -> Result<Self, FaultKind> {
        let mut path = Self::default();
        let mut cursor = Cursor::new(value);
        while let Some(kind) = cursor.u8() {
            let kind = AsSegmentKind::from_code(kind).ok_or(FaultKind::SegmentType(kind))?;
            let count = usize::from(cursor.u8().ok_or(FaultKind::SegmentOverrun)?);
            if count == 0 {
                return Err(FaultKind::SegmentEmpty);
            }
            let octets = count * octets_per_as(four_octet_asn);
            let asns = cursor.bytes(octets).ok_or(FaultKind::SegmentOverrun)?;
            if four_octet_asn {
                let (asns, _) = asns.as_chunks();
                path.push(kind, asns.iter().copied().map(Asn::from_be_bytes));
            } else {
                let (asns, _) = asns.as_chunks();
                path.push(kind, asns.iter().map(|asn| u16::from_be_bytes(*asn).into()));
            }
        }
        Ok(path)
    }

    /// Appends the attribute's value, AS_TRANS in place of what does not fit.
    pub(super) fn encode(&self, four_octet_asn: bool, out: &mut BytesMut) {
        for segment in &self.segments {
            for asns in segment.asns.chunks(MAX_SEGMENT) {
                out.put_slice(&[segment.kind as u8, asns.len() as u8]);
                for asn in asns {
                    if four_octet_asn {
                        out.put_u32(*asn);
                    } else {
                        out.put_u16(u16::try_from(*asn).unwrap_or(AS_TRANS as u16));
                    }
                }
            }
        }
    }

    /// How many bytes `encode` appends.
    pub(super) fn encoded_len(&self, four_octet_asn: bool) -> usize {
        self.segments
            .iter()
            .map(|segment| {
                let asns = segment.asns.len();
                asns.div_ceil(MAX_SEGMENT) * 2 + asns * octets_per_as(four_octet_asn)
            })
            .sum()
    }
}

const fn octets_per_as(four_octet_asn: bool) -> usize {
    if four_octet_asn { 4 } else { 2 }
}

impl AsSegment {
    /// What it contributes to the path's length.
    #[must_use]
    pub fn length(&self) -> usize {
        match self.kind {
            AsSegmentKind::Sequence => self.asns.len(),
            AsSegmentKind::Set => 1,
            AsSegmentKind::ConfedSequence | AsSegmentKind::ConfedSet => 0,
        }
    }
}

impl AsSegmentKind {
    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Set,
            2 => Self::Sequence,
            3 => Self::ConfedSequence,
            4 => Self::ConfedSet,
            _ => return None,
        })
    }

    /// Whether the order of its AS numbers has a meaning.
    #[must_use]
    pub const fn is_sequence(self) -> bool {
        matches!(self, Self::Sequence | Self::ConfedSequence)
    }

    /// Whether it belongs to a confederation (RFC 5065).
    #[must_use]
    pub const fn is_confederation(self) -> bool {
        matches!(self, Self::ConfedSequence | Self::ConfedSet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc4271_9_1_2_2_a_set_counts_one_and_rfc5065_5_3_confederations_nothing() {
        let path = path(&[
            (AsSegmentKind::ConfedSequence, &[64512, 64513]),
            (AsSegmentKind::Sequence, &[65010, 65020]),
            (AsSegmentKind::Set, &[1, 2, 3]),
            (AsSegmentKind::ConfedSet, &[64514]),
        ]);
        assert_eq!(path.length(), 3);
        assert!(path.has_sets() && path.has_confederation());
        assert_eq!((path.first_as(), path.neighbour_as()), (None, Some(65010)));
        assert!(path.contains(3) && path.contains(64514) && !path.contains(4));
    }

    #[test]
    fn rfc4271_5_1_2_prepending_lengthens_a_leading_sequence_or_starts_one() {
        let mut sequence = AsPath::sequence([65020]);
        sequence.prepend(65515, 2);
        assert_eq!(sequence, AsPath::sequence([65515, 65515, 65020]));
        let mut set = path(&[(AsSegmentKind::Set, &[1, 2])]);
        set.prepend(65515, 1);
        assert_eq!(set.to_string(), "65515 {1 2}");
        let mut empty = AsPath::default();
        empty.prepend(65515, 0);
        assert!(empty.is_empty());
        empty.prepend(65515, 1);
        assert_eq!(empty, AsPath::sequence([65515]));
    }

    #[test]
    fn rfc4271_5_1_2_a_sequence_beyond_255_is_split_on_the_wire_and_whole_again_after() {
        let mut long = AsPath::sequence((1..=255).collect::<Vec<_>>());
        long.prepend(65515, 1);
        let mut out = BytesMut::new();
        long.encode(true, &mut out);
        assert_eq!(out.len(), long.encoded_len(true));
        assert_eq!((out[0], out[1]), (2, 255));
        assert_eq!((out[2 + 255 * 4], out[3 + 255 * 4]), (2, 1));
        assert_eq!(AsPath::parse(&out, true), Ok(long));
    }

    #[test]
    fn rfc4271_4_3_and_rfc5065_3_each_type_of_segment_has_its_number() {
        for (number, kind) in [
            (1, AsSegmentKind::Set),
            (2, AsSegmentKind::Sequence),
            (3, AsSegmentKind::ConfedSequence),
            (4, AsSegmentKind::ConfedSet),
        ] {
            let value = [number, 2, 0xfd, 0xf2, 0xfd, 0xfc];
            let expected = path(&[(kind, &[65010, 65020])]);
            assert_eq!(AsPath::parse(&value, false).as_ref(), Ok(&expected));
            let mut out = BytesMut::new();
            expected.encode(false, &mut out);
            assert_eq!(out[..], value);
        }
    }

    #[test]
    fn rfc7606_7_2_segments_of_unknown_type_without_numbers_or_cut_off_are_malformed() {
        for (value, fault) in [
            (&[0, 1, 0, 1][..], FaultKind::SegmentType(0)),
            (&[5, 1, 0, 1], FaultKind::SegmentType(5)),
            (&[2, 0], FaultKind::SegmentEmpty),
            (&[2], FaultKind::SegmentOverrun),
            (&[2, 1, 0], FaultKind::SegmentOverrun),
            (&[2, 1, 0, 1, 2], FaultKind::SegmentOverrun),
        ] {
            assert_eq!(AsPath::parse(value, false), Err(fault), "{value:?}");
        }
        assert_eq!(AsPath::parse(&[], true), Ok(AsPath::default()));
    }

    #[test]
    fn the_ends_of_a_path_are_those_of_its_sequences() {
        let path = path(&[
            (AsSegmentKind::Sequence, &[65010, 65020]),
            (AsSegmentKind::Set, &[1]),
        ]);
        assert_eq!((path.first_as(), path.origin_as()), (Some(65010), None));
        assert_eq!(AsPath::sequence([1, 2]).origin_as(), Some(2));
        assert_eq!(AsPath::default().first_as(), None);
    }

    #[test]
    fn replacing_reaches_every_occurrence() {
        let mut path = path(&[
            (AsSegmentKind::Sequence, &[65010, 65020, 65010]),
            (AsSegmentKind::Set, &[65010]),
        ]);
        assert_eq!(path.count(65010), 3);
        path.replace(65010, 65515);
        assert_eq!(path.to_string(), "65515 65020 65515 {65515}");
    }

    fn path(segments: &[(AsSegmentKind, &[Asn])]) -> AsPath {
        let mut path = AsPath::default();
        for (kind, asns) in segments {
            path.push(*kind, asns.iter().copied());
        }
        path
    }
}
