//! Ports: which interface is one, with which tables, and how the program is attached.
//!
//! A port's value is written to a fresh place and published in `port_by_ifindex` by one word; its
//! number, and so its counters, stay for its life, also when the interface vanishes and returns.

use std::{collections::BTreeSet, net::IpAddr};

use router_common::maps::{self, NO_TABLE, NONE, port_flags};
use tracing::{info, warn};

use super::{
    kernel::{Attached, Event, Host, KernelError, Link, Maps},
    next_hops::host_key,
    numbers::{Claim, Kind, Retired, encode},
    reconciler::Reconciler,
};
use crate::{fib, names::InterfaceName};

/// A port as desired, and what stands of it.
#[derive(Debug)]
pub(super) struct PortState {
    pub(super) config: fib::Port,
    pub(super) number: u32,
    own_table: u32,
    pub(super) learned_table: u32,
    pub(super) vnet: u32,
    /// The tables are those of an earlier run, until it is known which learned one it takes.
    kept: bool,
    /// Set of networks that it may not forward into; while tables are kept, those of then as well.
    pub(super) restricted: u32,
    /// What is published, while the interface is there.
    pub(super) bound: Option<Bound>,
    pub(super) attachment: Attachment,
}

/// What a port keeps from an earlier run.
struct Kept {
    own_table: u32,
    learned_table: u32,
    restricted: u32,
}

/// A published port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) ifindex: u32,
    pub(super) place: u32,
    pub(super) value: maps::Port,
}

/// Whether packets meet the program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Attachment {
    /// The interface is not there (any more).
    Missing,
    Attached(Attached),
    /// Why not; tried again every few seconds.
    Refused(String),
}

impl PortState {
    /// What the operator should know.
    pub(super) fn error(&self) -> Option<String> {
        match &self.attachment {
            Attachment::Attached(_) => None,
            Attachment::Missing => Some(format!(
                "interface {} does not exist; it is attached as soon as it appears",
                self.config.interface
            )),
            Attachment::Refused(reason) => Some(reason.clone()),
        }
    }

    /// `native`, `generic`, or why nothing is attached.
    pub(super) fn attached(&self) -> String {
        match &self.attachment {
            Attachment::Attached(Attached::Native) => "native".into(),
            Attachment::Attached(Attached::Generic) => "generic".into(),
            Attachment::Attached(Attached::Waiting) => {
                "an older build's program, until all routes are relearned".into()
            }
            Attachment::Missing | Attachment::Refused(_) => self.error().unwrap_or_default(),
        }
    }
}

impl<M: Maps, H: Host> Reconciler<M, H> {
    pub(super) fn put_port(&mut self, port: &fib::Port) -> Result<(), KernelError> {
        let vnet = self.vnet(&port.vnet)?;
        let own_table = self.claim(Kind::Table, port.own_table.as_str())?.number();
        let learned_table = match &port.learned_table {
            Some(table) => self.claim(Kind::Table, table.as_str())?.number(),
            None => NO_TABLE,
        };
        let kept = self.kept(port, vnet, own_table);
        let restricted = match (port.ip_forwarding, &kept) {
            // Its sources are checked: each is its own.
            (false, _) => NONE,
            (true, None) => self.claim_restricted(&port.restricted)?,
            (true, Some(kept)) => {
                self.claim_restricted_beside(&port.restricted, kept.restricted)?
            }
        };
        let (number, bound, attachment) = match self.claim_port(&port.interface) {
            Ok(claimed) => claimed,
            Err(error) => {
                self.release_restricted(restricted);
                return Err(error);
            }
        };
        let (own_table, learned_table) = match &kept {
            Some(kept) => (kept.own_table, kept.learned_table),
            None => (own_table, learned_table),
        };
        let before = self.ports.insert(
            port.interface.clone(),
            PortState {
                config: port.clone(),
                number,
                own_table,
                learned_table,
                kept: kept.is_some(),
                vnet,
                restricted,
                bound,
                attachment,
            },
        );
        if let Some(before) = &before {
            for address in &before.config.addresses {
                let machine = (before.config.vnet.clone(), *address);
                self.machines.remove(&machine, &port.interface);
            }
        }
        for address in &port.addresses {
            let machine = (port.vnet.clone(), *address);
            self.machines.insert(machine, port.interface.clone());
        }
        self.put_gateways(port, vnet, before.as_ref());
        let realised = self.realise(&port.interface);
        if let Some(before) = before {
            self.release_restricted(before.restricted);
            for address in &before.config.addresses {
                if before.vnet != vnet || !port.addresses.contains(address) {
                    self.remove_host(host_key(before.vnet, *address), number);
                }
            }
            if before.config.vnet != port.vnet {
                self.unsettle(&before.config);
            }
            self.unwatch_hosts(&before);
        }
        self.unsettle(port);
        if let Some(ifindex) = self.links.named(&port.interface).map(|link| link.ifindex) {
            self.probe_on(ifindex);
        }
        realised
    }

    /// Keeps a port that finds no room until there is some.
    pub(super) fn put_off_port(&mut self, port: &fib::Port, error: &KernelError) {
        warn!(port = %port.interface, "port is not programmed: {error}");
        let waiting = (port.clone(), error.to_string());
        self.waiting.ports.insert(port.interface.clone(), waiting);
    }

    /// What a port keeps from an earlier run while it waits to hear which learned table it takes. Both
    /// tables: the own one was made to go with what was learned. An own one that changes in this run is
    /// followed, as the former may go.
    fn kept(&self, port: &fib::Port, vnet: u32, own_table: u32) -> Option<Kept> {
        if !port.awaits_learned || self.adopted.is_none() || self.sweeping() {
            return None;
        }
        match self.ports.get(&port.interface) {
            Some(before) => (before.kept && before.vnet == vnet).then(|| {
                let same = before.config.own_table == port.own_table;
                Kept {
                    own_table: if same { before.own_table } else { own_table },
                    learned_table: before.learned_table,
                    restricted: before.restricted,
                }
            }),
            None => {
                let numbers = &self.numbers[Kind::Port as usize];
                let number = numbers.number(Kind::Port, port.interface.as_str())?;
                let value = self.adopted.as_ref()?.ports.get(&number)?.value;
                (value.vnet == vnet && value.learned_table != NO_TABLE).then_some(Kept {
                    own_table: value.own_table,
                    learned_table: value.learned_table,
                    restricted: value.restricted,
                })
            }
        }
    }

    /// What earlier runs have left is about to go: no port meets it from now on.
    pub(super) fn leave_kept_tables(&mut self) {
        let kept = self.ports.iter().filter(|(_, state)| state.kept);
        let kept: Vec<fib::Port> = kept.map(|(_, state)| state.config.clone()).collect();
        for port in kept {
            if let Err(error) = self.put_port(&port) {
                self.put_off_port(&port, &error);
            }
        }
    }

    /// The port's number, and what of it stands.
    fn claim_port(
        &mut self,
        interface: &InterfaceName,
    ) -> Result<(u32, Option<Bound>, Attachment), KernelError> {
        let claim = self.claim(Kind::Port, interface.as_str())?;
        let number = claim.number();
        let (bound, attachment) = match claim {
            Claim::Fresh(_) => {
                self.maps.reset_port_counters(number)?;
                (None, Attachment::Missing)
            }
            Claim::Adopted(_) => (
                self.adopted
                    .as_mut()
                    .and_then(|adopted| adopted.ports.remove(&number)),
                Attachment::Missing,
            ),
            Claim::Known(_) => self
                .ports
                .get(interface)
                .map_or((None, Attachment::Missing), |state| {
                    (state.bound, state.attachment.clone())
                }),
        };
        Ok((number, bound, attachment))
    }

    pub(super) fn remove_port(&mut self, interface: &InterfaceName) {
        let Some(state) = self.ports.remove(interface) else {
            return;
        };
        if let Err(error) = self.host.detach(interface) {
            warn!(port = %interface, "the program is not detached: {error}");
        }
        self.forget(&encode(Kind::Port, interface.as_str()), Kind::Port);
        self.withdraw(state.number, state.bound);
        self.release_restricted(state.restricted);
        for address in &state.config.addresses {
            self.remove_host(host_key(state.vnet, *address), state.number);
            let machine = (state.config.vnet.clone(), *address);
            self.machines.remove(&machine, interface);
        }
        self.remove_gateways(&state, |_, _| false);
        self.unsettle(&state.config);
        self.unwatch_hosts(&state);
    }

    /// The kernel need not keep those addresses of a former port resolved that nobody asks for now.
    fn unwatch_hosts(&mut self, before: &PortState) {
        if let (Some(bound), None) = (before.bound, before.config.mac) {
            for address in &before.config.addresses {
                self.unwatch(bound.ifindex, *address);
            }
        }
    }

    /// Removes what is published of a port whose program is detached.
    pub(super) fn withdraw(&mut self, number: u32, bound: Option<Bound>) {
        if let Some(bound) = bound {
            self.unbind(bound);
        }
        if let Err(error) = self.maps.set_device(number, None) {
            warn!("a port stays in the device map: {error}");
        }
        self.retired.push(Retired::Number(Kind::Port, number));
    }

    /// What happened on the host.
    pub(super) fn host_event(&mut self, event: Event) {
        match event {
            Event::Link(link) => self.link(link),
            Event::LinkGone { ifindex } => self.link_gone(ifindex),
            Event::Neighbour {
                ifindex,
                address,
                reachability,
            } => self.neighbour(ifindex, address, reachability),
            Event::Address { ifindex } => self.look_again(ifindex),
        }
    }

    /// The full state of the host: after a start, and when events were lost.
    pub(super) fn resync(&mut self, links: Vec<Link>, neighbours: Vec<Event>) {
        let there: BTreeSet<u32> = links.iter().map(|link| link.ifindex).collect();
        let gone: Vec<u32> = self
            .links
            .indices()
            .filter(|ifindex| !there.contains(ifindex))
            .collect();
        for ifindex in gone {
            self.link_gone(ifindex);
        }
        for link in links {
            self.link(link);
        }
        for event in neighbours {
            self.host_event(event);
        }
    }

    /// Every half a second: neighbours are asked, refused ports tried again. `quiet`: no change
    /// waits, so a next hop without a port has none.
    pub(super) fn tick(&mut self, quiet: bool) {
        self.ticks += 1;
        self.probe_all();
        if quiet && self.ticks.is_multiple_of(2) {
            let lost: Vec<_> = self
                .next_hops
                .iter()
                .filter(|(_, state)| state.watched.is_none())
                .map(|(next_hop, _)| next_hop.clone())
                .collect();
            for next_hop in lost {
                self.resolve(&next_hop);
            }
        }
        if self.ticks.is_multiple_of(10) {
            let refused: Vec<InterfaceName> = self
                .ports
                .iter()
                .filter(|(_, state)| matches!(state.attachment, Attachment::Refused(_)))
                .map(|(interface, _)| interface.clone())
                .collect();
            for interface in refused {
                self.realise_or_wait(&interface);
            }
        }
    }

    fn link(&mut self, link: Link) {
        let ifindex = link.ifindex;
        let before = self.links.insert(link.clone());
        if let Some(before) = &before
            && before.name != link.name
            && self.ports.contains_key(&before.name)
        {
            info!(port = %before.name, "its interface is called {} now", link.name);
            self.release_interface(&before.name.clone(), ifindex);
            if let Err(error) = self.host.detach(&before.name) {
                warn!(port = %before.name, "the program is not detached: {error}");
            }
        }
        if before.as_ref() == Some(&link) {
            return;
        }
        let was_up = before.as_ref().is_some_and(|before| before.up);
        if was_up && !link.up {
            // One word a next hop, before anything else (invariant 8).
            self.next_hops_down(ifindex);
            self.neighbours.without_carrier(ifindex);
        }
        let Some(state) = self.ports.get(&link.name) else {
            return;
        };
        let fits = state.bound.is_some_and(|bound| {
            bound.ifindex == ifindex && bound.value.mac == link.mac.0 && bound.value.mtu == link.mtu
        });
        if !fits || !matches!(state.attachment, Attachment::Attached(_)) {
            self.realise_or_wait(&link.name);
        }
        if !fits || was_up != link.up {
            self.look_again(ifindex);
        }
    }

    fn link_gone(&mut self, ifindex: u32) {
        let Some(link) = self.links.remove(ifindex) else {
            return;
        };
        self.next_hops_down(ifindex);
        if self
            .ports
            .get(&link.name)
            .and_then(|state| state.bound)
            .is_some_and(|bound| bound.ifindex == ifindex)
        {
            warn!(port = %link.name, "its interface has vanished; it is attached again when it returns");
            self.release_interface(&link.name, ifindex);
        }
    }

    fn release_interface(&mut self, interface: &InterfaceName, ifindex: u32) {
        self.next_hops_down(ifindex);
        for next_hop in self.on_interface.take(&ifindex) {
            if let Some(state) = self.next_hops.get_mut(&next_hop) {
                state.watched = None;
            }
        }
        self.neighbours.forget(ifindex);
        if let Some(state) = self.ports.get_mut(interface) {
            state.attachment = Attachment::Missing;
            if let Some(bound) = state.bound.take() {
                self.unbind(bound);
            }
        }
    }

    fn unbind(&mut self, bound: Bound) {
        if let Err(error) = self.maps.unpublish_port(bound.ifindex) {
            warn!(ifindex = bound.ifindex, "a port stays published: {error}");
            return;
        }
        self.retired.push(Retired::PortPlace(bound.place));
        self.release_value(&bound.value);
    }

    /// What a published value named is named by one port less.
    fn release_value(&mut self, value: &maps::Port) {
        self.release_restricted(value.restricted);
        self.release_tables(value);
    }

    fn realise_or_wait(&mut self, interface: &InterfaceName) {
        if let Err(error) = self.realise(interface)
            && let Some(port) = self.ports.get(interface).map(|state| state.config.clone())
        {
            self.put_off_port(&port, &error);
        }
    }

    /// Brings a port into being on its interface, if that is there.
    ///
    /// # Errors
    /// A map is full; what is published stands meanwhile.
    fn realise(&mut self, interface: &InterfaceName) -> Result<(), KernelError> {
        let Some(link) = self.links.named(interface).cloned() else {
            if let Some(state) = self.ports.get_mut(interface) {
                state.attachment = Attachment::Missing;
                let bound = state.bound.take();
                warn!(port = %interface, "its interface does not exist; it is attached as soon as it appears");
                if let Some(bound) = bound {
                    self.unbind(bound);
                }
            }
            return Ok(());
        };
        let bound = self.bind(interface, &link);
        let Some(state) = self.ports.get_mut(interface) else {
            return Ok(());
        };
        let (attachment, realised) = match (bound, &state.attachment) {
            (Ok(attached), _) => (Attachment::Attached(attached), Ok(())),
            (Err(error @ KernelError::Full { .. }), Attachment::Attached(attached)) => {
                (Attachment::Attached(*attached), Err(error))
            }
            (Err(error @ KernelError::Full { .. }), _) => {
                (Attachment::Refused(error.to_string()), Err(error))
            }
            (Err(error), _) => (Attachment::Refused(error.to_string()), Ok(())),
        };
        if state.attachment != attachment {
            match &attachment {
                Attachment::Refused(reason) => warn!(port = %interface, "not attached: {reason}"),
                Attachment::Attached(Attached::Generic) => warn!(
                    port = %interface,
                    "its driver has no native XDP: attached in the generic mode, which is slower"
                ),
                _ => info!(port = %interface, "attached"),
            }
        }
        state.attachment = attachment;
        self.put_hosts(interface);
        realised
    }

    /// Value, device, publication, program: in this order, so that the program never finds half a
    /// port (invariant 5).
    fn bind(&mut self, interface: &InterfaceName, link: &Link) -> Result<Attached, KernelError> {
        let Some(state) = self.ports.get(interface) else {
            return Err(KernelError::Refused("not configured".into()));
        };
        let (number, before) = (state.number, state.bound);
        let attached_here = matches!(state.attachment, Attachment::Attached(_))
            && before.is_some_and(|bound| bound.ifindex == link.ifindex);
        let value = state.value(link);
        if !attached_here {
            self.host.prepare(interface, link.ifindex)?;
            self.maps.set_device(number, Some(link.ifindex))?;
        }
        let stands =
            before.is_some_and(|bound| bound.ifindex == link.ifindex && bound.value == value);
        if !stands {
            let place = self
                .port_places
                .take()
                .ok_or(KernelError::Full { map: "ports" })?;
            let published = self
                .maps
                .write_port(place, value)
                .and_then(|()| self.maps.publish_port(link.ifindex, place));
            if let Err(error) = published {
                self.port_places.release(place);
                return Err(error);
            }
            if let Some(state) = self.ports.get_mut(interface) {
                state.bound = Some(Bound {
                    ifindex: link.ifindex,
                    place,
                    value,
                });
            }
            self.hold_restricted(value.restricted);
            self.readers.hold(&value);
            match before {
                Some(before) if before.ifindex != link.ifindex => self.unbind(before),
                Some(before) => {
                    self.retired.push(Retired::PortPlace(before.place));
                    self.release_value(&before.value);
                }
                None => {}
            }
        }
        if attached_here {
            let Some(PortState {
                attachment: Attachment::Attached(attached),
                ..
            }) = self.ports.get(interface)
            else {
                return Ok(Attached::Native);
            };
            return Ok(*attached);
        }
        self.host.attach(interface, link.ifindex)
    }

    /// Next hops that may lie behind the port are resolved anew.
    fn unsettle(&mut self, port: &fib::Port) {
        let concerned = self.in_vnet.of(&port.vnet).cloned();
        self.unsettled.extend(concerned);
    }

    /// Next hops and hosts on an interface are asked and resolved anew, at once.
    fn look_again(&mut self, ifindex: u32) {
        let Some(interface) = self.links.get(ifindex).map(|link| link.name.clone()) else {
            return;
        };
        let Some(state) = self.ports.get(&interface) else {
            return;
        };
        let concerned: Vec<_> = self.in_vnet.of(&state.config.vnet).cloned().collect();
        self.probe_on(ifindex);
        for next_hop in concerned {
            self.resolve(&next_hop);
        }
        self.put_hosts(&interface);
    }
}

impl PortState {
    fn value(&self, link: &Link) -> maps::Port {
        let mut value = maps::Port {
            id: self.number,
            vnet: self.vnet,
            own_table: self.own_table,
            learned_table: self.learned_table,
            mtu: link.mtu,
            mac: link.mac.0,
            restricted: self.restricted,
            ifindex: link.ifindex,
            ..maps::Port::default()
        };
        for gateway in self.config.gateways.iter().rev() {
            match gateway {
                IpAddr::V4(address) => value.gateway_v4 = address.octets(),
                IpAddr::V6(address) => value.gateway_v6 = address.octets(),
            }
        }
        for address in &self.config.addresses {
            match address {
                IpAddr::V4(address) if value.flags & port_flags::SOURCE_V4 == 0 => {
                    value.source_v4 = address.octets();
                    value.flags |= port_flags::SOURCE_V4;
                }
                IpAddr::V6(address) if value.flags & port_flags::SOURCE_V6 == 0 => {
                    value.source_v6 = address.octets();
                    value.flags |= port_flags::SOURCE_V6;
                }
                _ => value.flags |= port_flags::MORE_SOURCES,
            }
        }
        if let Some(mac) = self.config.mac {
            value.source_mac = mac.0;
            value.flags |= port_flags::SOURCE_MAC;
        }
        if self.config.ip_forwarding {
            value.flags |= port_flags::IP_FORWARDING;
        }
        value
    }
}
