//! What is announced by whom: the first nine tenths by the appliance, its two addresses as next hops
//! in turn, the last two tenths by the circuit. So a tenth is announced by both, and
//! `routing_preference` decides.

use std::{net::Ipv4Addr, ops::Range, sync::Arc};

use anyhow::{Result, ensure};
use ipnet::Ipv4Net;
use tests::{injector::update, internet::Table};

use crate::bed::{APPLIANCE_ASN, CIRCUIT_ASN, circuit, next_hops};

/// All routes, and the UPDATEs that announce them.
pub struct Load {
    pub prefixes: Vec<Ipv4Net>,
    /// Places of what the appliance announces, and the circuit.
    pub appliance: Range<usize>,
    pub circuit: Range<usize>,
    /// UPDATEs of both.
    pub streams: [Arc<[u8]>; 2],
    /// AS paths, without the ASN of who announces them.
    paths: Vec<Vec<u32>>,
}

impl Load {
    pub fn new(table: &Table, count: usize) -> Result<Self> {
        ensure!(
            (10..=table.prefixes.len()).contains(&count),
            "--routes: 10 to {}",
            table.prefixes.len()
        );
        let prefixes = table.prefixes[..count].to_vec();
        let paths: Vec<Vec<u32>> = (0..count).map(|place| table.path(place).to_vec()).collect();
        let (appliance, circuit_s) = (0..count / 10 * 9, count / 10 * 8..count);
        let mut load = Self {
            prefixes,
            appliance,
            circuit: circuit_s,
            streams: [[].into(), [].into()],
            paths,
        };
        let mut streams = [Vec::new(), Vec::new()];
        for place in load.appliance.clone() {
            load.announce(&mut streams[0], place, load.next_hop(place));
        }
        for place in load.circuit.clone() {
            let path: Vec<u32> = [CIRCUIT_ASN].into_iter().chain(load.path(place)).collect();
            let prefix = load.prefixes[place];
            update::announce(&mut streams[1], path.into_iter(), circuit(), &[prefix]);
        }
        load.streams = streams.map(Arc::from);
        Ok(load)
    }

    /// Appends the appliance's UPDATE of one prefix.
    pub fn announce(&self, out: &mut Vec<u8>, place: usize, next_hop: Ipv4Addr) {
        let path: Vec<u32> = [APPLIANCE_ASN]
            .into_iter()
            .chain(self.path(place))
            .collect();
        update::announce(out, path.into_iter(), next_hop, &[self.prefixes[place]]);
    }

    /// A route's AS path, without the ASN of who announces it.
    pub fn path(&self, place: usize) -> impl Iterator<Item = u32> {
        self.paths[place].iter().copied()
    }

    /// The appliance's next hop for a prefix.
    pub fn next_hop(&self, place: usize) -> Ipv4Addr {
        next_hops()[place % 2]
    }

    /// Places that only the appliance announces.
    pub fn alone(&self) -> Range<usize> {
        self.appliance.start..self.circuit.start
    }

    /// Where packets to each prefix are to go.
    pub fn learned(&self, express_route_first: bool) -> Vec<(Ipv4Net, Ipv4Addr)> {
        let to = |place: usize| {
            let both = self.appliance.contains(&place) && self.circuit.contains(&place);
            if self.circuit.contains(&place) && (!both || express_route_first) {
                circuit()
            } else {
                self.next_hop(place)
            }
        };
        let places = 0..self.prefixes.len();
        places
            .map(|place| (self.prefixes[place], to(place)))
            .collect()
    }

    /// The same where only the appliance's routes count.
    pub fn of_appliance(&self) -> Vec<(Ipv4Net, Ipv4Addr)> {
        self.appliance
            .clone()
            .map(|place| (self.prefixes[place], self.next_hop(place)))
            .collect()
    }
}
