//! What is announced by whom and what everybody is to learn: cases A, B, C and E.

use std::{ops::Range, sync::Arc};

use ipnet::Ipv4Net;
use tests::{
    injector::{Index, Peer, View, path_hash, update},
    internet::Table,
};

use crate::bed::{NETWORK, SPEAKER, SPEAKER_ASN, peer};

/// Prefixes that share an UPDATE and its AS path: that of the first of them.
pub const PER_UPDATE: usize = 4;

/// What is put before paths to tell them apart and to make them longer.
const FILLER_ASN: u32 = 64_999;

/// What a run of the injector announces and expects.
pub struct Load {
    /// The letter of the case.
    pub case: char,
    /// Who takes part.
    pub participants: Vec<Participant>,
    /// All prefixes.
    pub prefixes: Vec<Ipv4Net>,
    pub index: Arc<Index>,
    /// Hash of the AS path that receivers are to learn for each prefix.
    pub expected: Arc<[u64]>,
    /// What a speaker that knew the outcome would send to each receiver.
    pub answer: Arc<[u8]>,
}

/// A peer in a load.
pub struct Participant {
    pub peer: Peer,
    /// UPDATEs that it sends.
    pub stream: Arc<[u8]>,
    /// If it is a receiver: its own prefixes, which it need not learn.
    pub receives: Option<Range<usize>>,
}

impl Load {
    /// A: one sender of the whole table, one receiver.
    pub fn a(table: &Table, prefixes: usize) -> Self {
        Self::new(
            'A',
            table,
            prefixes,
            &std::array::from_fn::<_, 1, _>(|_| 0..prefixes),
            1,
            |_, _| 0,
        )
    }

    /// B: eight senders of the same prefixes, eight receivers. Which sender has the shortest path
    /// changes from UPDATE to UPDATE; no two have paths of the same length.
    pub fn b(table: &Table, prefixes: usize) -> Self {
        let shares: [_; 8] = std::array::from_fn(|_| 0..prefixes);
        Self::new('B', table, prefixes, &shares, 8, |sender, place| {
            (sender + 3 * (place / PER_UPDATE)) % 8
        })
    }

    /// C: peers that each announce prefixes of their own and learn all others.
    pub fn c(table: &Table, peers: usize, each: usize) -> Self {
        let shares: Vec<_> = (0..peers).map(|n| n * each..(n + 1) * each).collect();
        let mut load = Self::new('C', table, peers * each, &shares, 0, |_, _| 0);
        for (participant, share) in load.participants.iter_mut().zip(shares) {
            participant.receives = Some(share);
        }
        load
    }

    /// E: one sender of the whole table.
    pub fn e(table: &Table, prefixes: usize) -> Self {
        let all = std::array::from_fn::<_, 1, _>(|_| 0..prefixes);
        Self::new('E', table, prefixes, &all, 0, |_, _| 0)
    }

    /// `longer` says by how many ASNs a sender's path is longer than the table's.
    fn new(
        case: char,
        table: &Table,
        count: usize,
        shares: &[Range<usize>],
        receivers: usize,
        longer: impl Fn(usize, usize) -> usize,
    ) -> Self {
        let prefixes = &table.prefixes[..count];
        let mut participants = Vec::new();
        let mut best: Vec<Option<Vec<u32>>> = vec![None; count.div_ceil(PER_UPDATE)];
        for (sender, share) in shares.iter().enumerate() {
            let peer = peer(sender);
            let mut stream = Vec::with_capacity(25 * share.len());
            for start in share.clone().step_by(PER_UPDATE) {
                let end = share.end.min(start + PER_UPDATE);
                let path = path(peer.asn, longer(sender, start), table.path(start));
                let together = &prefixes[start..end];
                update::announce(&mut stream, path.iter().copied(), peer.address, together);
                let best = &mut best[start / PER_UPDATE];
                if best.as_ref().is_none_or(|best| path.len() < best.len()) {
                    *best = Some(path);
                }
            }
            participants.push(Participant {
                peer,
                stream: stream.into(),
                receives: None,
            });
        }
        participants.extend((0..receivers).map(|number| Participant {
            peer: peer(shares.len() + number),
            stream: [].into(),
            receives: Some(0..0),
        }));
        let mut answer = Vec::with_capacity(25 * count);
        let mut expected = Vec::with_capacity(count);
        for (best, together) in best.iter().flatten().zip(prefixes.chunks(PER_UPDATE)) {
            let path: Vec<u32> = [SPEAKER_ASN]
                .into_iter()
                .chain(best.iter().copied())
                .collect();
            update::announce(&mut answer, path.iter().copied(), SPEAKER[0], together);
            let hash = path_hash(path);
            expected.extend(together.iter().map(|_| hash));
        }
        Self {
            case,
            participants,
            prefixes: prefixes.to_vec(),
            index: Arc::new(Index::new(prefixes)),
            expected: expected.into(),
            answer: answer.into(),
        }
    }

    /// Everyone that takes part.
    pub fn peers(&self) -> Vec<Peer> {
        self.participants.iter().map(|one| one.peer).collect()
    }

    /// A receiver's view before it has learned anything.
    pub fn view(&self, own: Range<usize>) -> View {
        let (index, expected) = (Arc::clone(&self.index), Arc::clone(&self.expected));
        View::new(index, expected, own, vec![NETWORK])
    }
}

/// A sender's path: its own ASN, what makes it longer, the table's path.
pub fn path(asn: u32, longer: usize, path: &[u32]) -> Vec<u32> {
    let filler = std::iter::repeat_n(FILLER_ASN, longer);
    [asn]
        .into_iter()
        .chain(filler)
        .chain(path.iter().copied())
        .collect()
}
