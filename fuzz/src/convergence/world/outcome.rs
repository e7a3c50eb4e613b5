//! What a world has come to, and whether that is right.

use super::*;

impl World {
    /// Puts this world into another one's final state, at once.
    pub(in crate::convergence) fn repeat(&mut self, other: &Self) {
        for (node, theirs) in other.nodes.iter().enumerate() {
            self.nodes[node].originated.clone_from(&theirs.originated);
            let originated = theirs.originated.clone();
            self.nodes[node].server.set_originated(originated);
            self.nodes[node].config.clone_from(&theirs.config);
            self.reload(node);
            for nva in (0..NVAS).map(Nva) {
                self.drain(node, nva, theirs.drained[nva.0]);
                for change in theirs.announced[nva.0].changes() {
                    self.tell(node, nva, change);
                }
            }
        }
    }

    /// Each has from the other what the other says that it sent.
    pub(in crate::convergence) fn assert_both_agree(&mut self) {
        for node in [0, 1] {
            let far = speaker_name(1 - node);
            let here = speaker_name(node);
            let sent = self.nodes[node].server.advertised_rows(&from(far));
            let sent: Vec<_> = sent
                .into_iter()
                .map(|row| (row.prefix, row.path_id, row.next_hop, row.as_path))
                .collect();
            let has = self.nodes[1 - node]
                .server
                .learned_rows(&from(here), self.now);
            let has: Vec<_> = has
                .into_iter()
                .map(|row| (row.prefix, row.path_id, row.next_hop, row.as_path))
                .collect();
            let row = |node: usize, peer: &str| {
                let rows = self.nodes[node].server.peer_rows(self.now);
                let mut rows = rows.into_iter();
                let wanted = rows.find(|row| row.peer.as_str() == peer && row.instance == 1);
                wanted.expect("a configured peer")
            };
            assert_eq!(row(node, far).advertised, sent.len(), "{here} miscounts");
            assert_eq!(row(1 - node, here).received, has.len(), "{far} miscounts");
            assert!(
                row(1 - node, here)
                    .stale
                    .iter()
                    .all(|stale| stale.routes == 0)
            );
            assert_eq!(
                sorted(sent),
                sorted(has),
                "{here} sent other routes than {far} has"
            );
        }
    }

    /// What subnets of both have learned, and every path with its fate.
    pub(in crate::convergence) fn learned(
        &self,
    ) -> [(BTreeMap<IpNet, LearnedRoute>, Vec<String>); 2] {
        self.nodes.each_ref().map(|node| {
            let rows = node.server.learned_rows(&Filter::default(), self.now);
            let told = |row: &LearnedRow| format!("{row:?}");
            (
                node.learned.clone(),
                sorted(rows.iter().map(told).collect()),
            )
        })
    }
}
