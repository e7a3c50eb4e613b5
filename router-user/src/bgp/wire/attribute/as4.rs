//! AS4_PATH and AS4_AGGREGATOR (RFC 6793): how 4-octet AS numbers cross a speaker that knows only
//! two octets.

use super::{
    super::{AS_TRANS, Asn, FaultKind},
    Aggregator, AsPath,
};

/// The largest AS number that an old speaker knows.
const MAX_TWO_OCTET: Asn = 0xffff;

/// AS4_PATH as received; confederation segments do not belong there and are dropped (RFC 6793 §6).
pub(super) fn parse_path(value: &[u8]) -> Result<AsPath, FaultKind> {
    let parsed = AsPath::parse(value, true)?;
    if parsed.is_empty() {
        return Err(FaultKind::SegmentEmpty);
    }
    if parsed.contains(0) {
        return Err(FaultKind::AsZero);
    }
    Ok(without_confederation(&parsed))
}

/// AS4_PATH for an old speaker, if the path has an AS that does not fit into two octets (§4.2.2).
pub(super) fn path_for_old_speaker(path: &AsPath) -> Option<AsPath> {
    if path.asns().all(|asn| asn <= MAX_TWO_OCTET) {
        return None;
    }
    Some(without_confederation(path)).filter(|path| !path.is_empty())
}

/// Whether an old speaker needs AS4_AGGREGATOR besides AGGREGATOR.
pub(super) const fn aggregator_needs_four_octets(aggregator: &Aggregator) -> bool {
    aggregator.asn > MAX_TWO_OCTET
}

/// What an old speaker's AS_PATH, AGGREGATOR, AS4_PATH and AS4_AGGREGATOR mean (§4.2.3).
pub(super) fn merge(
    path: &mut AsPath,
    aggregator: &mut Option<Aggregator>,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
) {
    if let (Some(two_octet), Some(four_octet)) = (aggregator, as4_aggregator) {
        if two_octet.asn != AS_TRANS {
            // Aggregated by an old speaker since: both AS4 attributes are out of date.
            return;
        }
        *two_octet = four_octet;
    }
    if let Some(as4_path) = as4_path
        && path.length() >= as4_path.length()
    {
        *path = merge_paths(path, &as4_path);
    }
}

/// The beginning of `path` that old speakers added since, then `as4_path`.
fn merge_paths(path: &AsPath, as4_path: &AsPath) -> AsPath {
    let mut missing = path.length() - as4_path.length();
    let mut merged = AsPath::default();
    for segment in &path.segments {
        // Confederation segments count nothing, and stay while they lead or follow what stays.
        if missing == 0 && segment.length() > 0 {
            break;
        }
        let taken = if segment.kind.is_sequence() && segment.length() > missing {
            &segment.asns[..missing]
        } else {
            &segment.asns[..]
        };
        merged.push(segment.kind, taken.iter().copied());
        let whole = taken.len() == segment.asns.len();
        missing -= segment.length().min(missing);
        if !whole {
            break;
        }
    }
    for segment in &as4_path.segments {
        merged.push(segment.kind, segment.asns.iter().copied());
    }
    merged
}

fn without_confederation(path: &AsPath) -> AsPath {
    let mut kept = AsPath::default();
    for segment in &path.segments {
        if !segment.kind.is_confederation() {
            kept.push(segment.kind, segment.asns.iter().copied());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::wire::AsSegmentKind::{ConfedSequence, Sequence, Set};

    const BIG: Asn = 4_200_000_000;

    #[test]
    fn rfc6793_4_2_3_what_old_speakers_prepended_stays_in_front_of_as4_path() {
        let mut path = AsPath::sequence([10, 20, AS_TRANS, 30]);
        merge(
            &mut path,
            &mut None,
            Some(AsPath::sequence([BIG, 30])),
            None,
        );
        assert_eq!(path, AsPath::sequence([10, 20, BIG, 30]));
    }

    #[test]
    fn rfc6793_4_2_3_an_as4_path_longer_than_as_path_is_ignored() {
        let mut path = AsPath::sequence([10]);
        merge(
            &mut path,
            &mut None,
            Some(AsPath::sequence([BIG, 30])),
            None,
        );
        assert_eq!(path, AsPath::sequence([10]));
    }

    #[test]
    fn rfc6793_4_2_3_sets_count_one_when_paths_are_compared() {
        let mut path = built(&[(Sequence, &[10, AS_TRANS]), (Set, &[AS_TRANS, 7, 8])]);
        let as4_path = built(&[(Sequence, &[BIG]), (Set, &[BIG, 7, 8])]);
        merge(&mut path, &mut None, Some(as4_path), None);
        assert_eq!(path, built(&[(Sequence, &[10, BIG]), (Set, &[BIG, 7, 8])]));
    }

    #[test]
    fn rfc6793_4_2_3_whole_segments_and_the_beginning_of_the_next_stay_in_front() {
        let as4_path = || Some(AsPath::sequence([BIG]));
        for leading in [Set, Sequence, ConfedSequence] {
            let asns: &[Asn] = if leading == Sequence { &[5] } else { &[5, 6] };
            let mut path = built(&[(leading, asns), (Set, &[7, 8]), (Sequence, &[10, AS_TRANS])]);
            merge(&mut path, &mut None, as4_path(), None);
            let expected = built(&[(leading, asns), (Set, &[7, 8]), (Sequence, &[10, BIG])]);
            assert_eq!(path, expected);
        }
        // A set counts one: it is in the way as a whole, or not at all.
        let mut path = built(&[(Sequence, &[10]), (Set, &[AS_TRANS, 7, 8])]);
        merge(&mut path, &mut None, as4_path(), None);
        assert_eq!(path, AsPath::sequence([10, BIG]));
    }

    #[test]
    fn rfc6793_4_2_3_leading_confederation_segments_stay() {
        let mut path = built(&[(ConfedSequence, &[64512]), (Sequence, &[AS_TRANS, 30])]);
        merge(
            &mut path,
            &mut None,
            Some(AsPath::sequence([BIG, 30])),
            None,
        );
        assert_eq!(
            path,
            built(&[(ConfedSequence, &[64512]), (Sequence, &[BIG, 30])])
        );
    }

    #[test]
    fn rfc6793_4_2_3_an_aggregator_that_is_not_as_trans_outdates_both() {
        let old = Aggregator {
            asn: 10,
            id: [1, 1, 1, 1].into(),
        };
        let as4 = Aggregator {
            asn: BIG,
            id: [2, 2, 2, 2].into(),
        };
        let mut path = AsPath::sequence([10, AS_TRANS]);
        let mut aggregator = Some(old);
        let as4_path = AsPath::sequence([BIG]);
        merge(
            &mut path,
            &mut aggregator,
            Some(as4_path.clone()),
            Some(as4),
        );
        assert_eq!(
            (&path, aggregator),
            (&AsPath::sequence([10, AS_TRANS]), Some(old))
        );
        aggregator = Some(Aggregator {
            asn: AS_TRANS,
            ..old
        });
        merge(&mut path, &mut aggregator, Some(as4_path), Some(as4));
        assert_eq!((path, aggregator), (AsPath::sequence([10, BIG]), Some(as4)));
    }

    #[test]
    fn rfc6793_4_2_3_an_aggregator_alone_leaves_as4_path_in_force() {
        let mut path = AsPath::sequence([10, AS_TRANS]);
        let mut aggregator = Some(Aggregator {
            asn: 10,
            id: [1, 1, 1, 1].into(),
        });
        let as4_path = AsPath::sequence([BIG]);
        merge(&mut path, &mut aggregator, Some(as4_path), None);
        assert_eq!(path, AsPath::sequence([10, BIG]));
    }

    #[test]
    fn rfc6793_6_as4_path_loses_its_confederation_segments() {
        let value = [3, 1, 0, 0, 0xfc, 0, 2, 1, 0, 0, 0, 30];
        assert_eq!(parse_path(&value), Ok(AsPath::sequence([30])));
        assert_eq!(parse_path(&[]), Err(FaultKind::SegmentEmpty));
        assert_eq!(parse_path(&[2, 1, 0, 0, 0, 0]), Err(FaultKind::AsZero));
    }

    #[test]
    fn rfc6793_4_2_2_an_old_speaker_gets_as4_path_only_where_it_is_needed() {
        assert_eq!(path_for_old_speaker(&AsPath::sequence([10, 65535])), None);
        let path = built(&[(ConfedSequence, &[64512]), (Sequence, &[BIG])]);
        assert_eq!(path_for_old_speaker(&path), Some(AsPath::sequence([BIG])));
    }

    fn built(segments: &[(super::super::AsSegmentKind, &[Asn])]) -> AsPath {
        let mut path = AsPath::default();
        for (kind, asns) in segments {
            path.push(*kind, asns.iter().copied());
        }
        path
    }
}
