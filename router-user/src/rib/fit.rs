//! How much of what a session may be sent fits into a limit.

use ipnet::IpNet;

use super::{
    Audience, Rib, SessionIndex, View,
    path::Path,
    table::{Address, Table},
    view::{FamilyView, Until, is_sent_only},
};
use crate::bgp::wire::Family;

#[cfg(test)]
thread_local! {
    /// How many walks over the table there were to see what fits.
    pub(crate) static FITTED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Beside the limit, so many prefixes are held before those that cannot matter are dropped.
const SLACK: usize = 4096;

impl Rib {
    /// Beyond which prefix learned routes are to be kept back from a session with this view
    /// ([`View::until`]), so that it is sent the first ones in order and at most `most` routes of a
    /// family in all. What is originated here is never kept back. A walk over the table.
    #[must_use]
    pub fn last_that_fits(
        &self,
        session: SessionIndex,
        view: &View,
        family: Family,
        most: usize,
    ) -> Until {
        let group = self.core.sessions[session].group;
        let audience = group.map_or(Audience::EVERYBODY, |group| self.out.view(group).audience);
        let view = View {
            audience,
            ..view.clone()
        };
        let to = FamilyView::new(&view, family);
        let info = self.core.sessions.info(session);
        let decision = self.core.decision();
        let sent = |prefix: IpNet, paths: &[Path]| {
            let several = to.sends_several();
            let first = to.choose(&decision, prefix, paths, Some(info)).path?;
            let ranking = several.then(|| to.choose_several(&decision, prefix, paths, Some(info)));
            Some(Sent {
                count: ranking.map_or(1, |ranking| ranking.paths.len()),
                own: first.is_local() || is_sent_only(decision.sessions, first),
            })
        };
        if !to.is_exchanged() {
            return Until::End;
        }
        match family {
            Family::Ipv4Unicast => last_that_fits(&self.tables.v4, sent, most),
            Family::Ipv6Unicast => last_that_fits(&self.tables.v6, sent, most),
        }
    }
}

/// What is sent of a prefix.
struct Sent {
    count: usize,
    /// It is originated here, or an aggregate.
    own: bool,
}

fn last_that_fits<A: Address>(
    table: &Table<A>,
    sent: impl Fn(IpNet, &[Path]) -> Option<Sent>,
    most: usize,
) -> Until {
    #[cfg(test)]
    FITTED.set(FITTED.get() + 1);
    let mut all = 0;
    let mut own = 0;
    let mut learned: Vec<(IpNet, usize)> = Vec::new();
    for slot in (0..table.len()).map(|slot| table.slot(slot)) {
        if slot.paths().is_empty() {
            continue;
        }
        let prefix = slot.prefix();
        let Some(sent) = sent(prefix, slot.paths()) else {
            continue;
        };
        all += sent.count;
        if sent.own {
            own += sent.count;
            continue;
        }
        learned.push((prefix, sent.count));
        if learned.len() > most.saturating_add(SLACK) {
            learned.sort_unstable();
            learned.truncate(most);
        }
    }
    if all <= most {
        return Until::End;
    }
    learned.sort_unstable();
    let mut room = most.saturating_sub(own);
    let fits = |(_, count): &&(IpNet, usize)| {
        let fits = *count <= room;
        room = room.saturating_sub(*count);
        fits
    };
    let last = learned.iter().take_while(fits).last();
    last.map_or(Until::Nothing, |(prefix, _)| Until::Prefix(*prefix))
}
