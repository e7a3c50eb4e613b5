//! What the appliance and the circuit are to be told: the prefixes of the networks that use the route
//! server, and with branch-to-branch what the other one announces.

use std::sync::Arc;

use ipnet::Ipv4Net;
use tests::injector::{Index, Injector, View, path_hash};

use crate::{
    bed::{APPLIANCE, APPLIANCE_ASN, Bed, CIRCUIT, CIRCUIT_ASN, space},
    configuration::{ASN, Settings},
    load::Load,
};

/// What each of them is to be told of every prefix: those of the load, then those of the networks.
pub struct Peers {
    /// For messages.
    pub prefixes: Vec<Ipv4Net>,
    /// AS paths of what the other one announces, by its place among the sessions.
    others: [Vec<u64>; 2],
    vnets: u32,
}

/// Is not to be told.
const NOTHING: u64 = 0;

impl Peers {
    pub fn new(bed: &Bed, load: &Load) -> Self {
        let networks = (0..bed.vnets).map(space);
        let prefixes: Vec<_> = load.prefixes.iter().copied().chain(networks).collect();
        let from = |asn: u32, announced: &std::ops::Range<usize>| {
            let path = |place| path_hash([ASN, asn].into_iter().chain(load.path(place)));
            let places = 0..load.prefixes.len();
            places
                .map(|place| {
                    if announced.contains(&place) {
                        path(place)
                    } else {
                        NOTHING
                    }
                })
                .collect()
        };
        let mut others = [const { Vec::new() }; 2];
        others[APPLIANCE] = from(CIRCUIT_ASN, &load.circuit);
        others[CIRCUIT] = from(APPLIANCE_ASN, &load.appliance);
        Self {
            prefixes,
            others,
            vnets: bed.vnets,
        }
    }

    /// Has the sessions, which have been told nothing yet, compare what they are told.
    pub fn listen(&self, injector: &mut Injector, settings: &Settings) {
        let index = Arc::new(Index::new(&self.prefixes));
        for (place, session) in injector.sessions.iter_mut().enumerate() {
            let expected = self.expected(place, settings);
            session.view = Some(View::new(Arc::clone(&index), expected, 0..0, Vec::new()));
        }
    }

    /// With other settings they are to be told something else.
    pub fn expect(&self, injector: &mut Injector, settings: &Settings) {
        for (place, session) in injector.sessions.iter_mut().enumerate() {
            if let Some(view) = &mut session.view {
                view.expect(self.expected(place, settings));
            }
        }
    }

    fn expected(&self, place: usize, settings: &Settings) -> Arc<[u64]> {
        let learned = self.others[place].iter().map(|path| {
            if settings.branch_to_branch {
                *path
            } else {
                NOTHING
            }
        });
        let networks = (0..self.vnets).map(|vnet| {
            if settings.is_peered(vnet, self.vnets) {
                path_hash([ASN])
            } else {
                NOTHING
            }
        });
        learned.chain(networks).collect()
    }
}
