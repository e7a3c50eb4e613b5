//! What NVAs and operators do to a world beside announcing routes.

use super::*;

impl World {
    /// The NVA forgets everything and comes back with nothing.
    pub(in crate::convergence) fn restart_nva(&mut self, node: usize, nva: Nva) {
        self.lose_nva(node, nva);
        self.return_nva(node, nva);
    }

    /// Sessions that come back in another order have other places in the RIB, and so the path
    /// identifiers that follow from them, which decide among equals: only without them the end
    /// does not depend on the order.
    pub(in crate::convergence) fn may_be_away(&self) -> bool {
        self.nodes[0].settings.add_path_send == [0; 2]
    }

    /// What it has announced may be kept for a while, but not until the end.
    pub(in crate::convergence) fn lose_nva(&mut self, node: usize, nva: Nva) {
        let now = self.now;
        if !std::mem::replace(&mut self.nodes[node].lost[nva.0], true) {
            self.nodes[node].announced[nva.0].clear();
            self.nodes[node].lose_nva(nva, now);
            self.flush(node);
        }
    }

    pub(in crate::convergence) fn return_nva(&mut self, node: usize, nva: Nva) {
        let now = self.now;
        if std::mem::take(&mut self.nodes[node].lost[nva.0]) {
            self.nodes[node].connect_nva(nva, now);
            self.flush(node);
        }
    }

    pub(in crate::convergence) fn end_of_rib(&mut self, node: usize, nva: Nva) {
        for family in Family::ALL {
            self.tell(node, nva, RouteChange::EndOfRib(family));
        }
    }

    /// The NVA announces its routes of a family again: these are all that there are.
    pub(in crate::convergence) fn refresh_nva(
        &mut self,
        node: usize,
        nva: Nva,
        (attributes, nlri): (Arc<PathAttributes>, Vec<Nlri>),
    ) {
        let this = &mut self.nodes[node];
        let (Some(first), false) = (nlri.first(), this.lost[nva.0]) else {
            return;
        };
        if this.refreshed[nva.0] == 10 {
            return;
        }
        this.refreshed[nva.0] += 1;
        let family = Family::of(&first.prefix);
        let id = this.nva(nva);
        self.end_of_rib(node, nva);
        let begins = SessionEvent::RefreshBegins {
            id: id.clone(),
            family,
        };
        self.server(node, begins);
        self.nodes[node].announced[nva.0].forget(family);
        self.tell(node, nva, RouteChange::Announce { attributes, nlri });
        self.server(node, SessionEvent::RefreshEnds { id, family });
    }

    pub(in crate::convergence) fn clear_soft(&mut self, node: usize) {
        let now = self.now;
        let this = &mut self.nodes[node];
        // It may be down.
        let _ = this.server.clear_soft(&this.id, now);
        self.flush(node);
    }

    /// The session with the other speaker takes no more for now, or takes more.
    pub(in crate::convergence) fn hold(&mut self, node: usize, on: bool) {
        let id = self.nodes[node].id.clone();
        if on {
            self.nodes[node].server.hold(&id);
            self.flush(node);
        } else {
            self.server(node, SessionEvent::Drained { id });
        }
    }

    pub(in crate::convergence) fn drain(&mut self, node: usize, nva: Nva, on: bool) {
        let now = self.now;
        let this = &mut self.nodes[node];
        this.drained[nva.0] = on;
        let id = this.nva(nva);
        this.server.set_drained(&[id], on, now);
        self.flush(node);
    }

    pub(in crate::convergence) fn max_paths(&mut self, node: usize, learned: u8, sent: u8) {
        let config = &mut self.nodes[node].config;
        config.max_paths = learned;
        let send = &mut config.peers[0].add_path.send;
        *send = sent.min(*send * 3);
        self.reload(node);
    }

    pub(in crate::convergence) fn policy(&mut self, node: usize, peer: u8, bits: u8) {
        let peers = &mut self.nodes[node].config.peers;
        let place = usize::from(peer) % peers.len();
        peers[place].policy = config::PeerPolicy {
            as_override: bits & 1 != 0,
            transparent: bits & 2 != 0,
            enforce_first_as: bits & 4 == 0 && bits & 2 == 0,
            allow_own_as: bits >> 3 & 1,
            max_as_path_length: if bits & 16 != 0 { 2 } else { 255 },
            ..config::PeerPolicy::default()
        };
        self.reload(node);
    }

    pub(super) fn reload(&mut self, node: usize) {
        let now = self.now;
        let this = &mut self.nodes[node];
        this.server.reconfigure(&this.config, &around(), now);
        self.flush(node);
    }
}
