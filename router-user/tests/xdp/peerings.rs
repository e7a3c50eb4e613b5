//! Packets from one virtual network into another, and those that may not go there.
//!
//! ```text
//! hub: port 1 (an appliance that forwards, 10.1.1.4) ─┬─ spoke: port 3, vm2 10.2.2.4 (attached)
//!                                                     └─ spoke: port 2, nva (next hop of 10.250/16)
//! ```

use router_common::{
    maps::{NO_PORT, Port, next_hop_kind, precedence, route_flags},
    reason::Reason,
};

use crate::{
    packet::Packet,
    router::{
        NVA, OWN, PORT_1, PORT_2, PORT_3, Router, SITE_V4, SITE_V6, VIA, VM, VM_2, VM_V4, VM_V6,
        VNET, neighbor, nva, port, vm_port,
    },
};

const SPOKE: u32 = VNET + 1;
/// Next hop and group: attached to the spoke.
const IN_SPOKE: u32 = 60;
const SET: u32 = 5;
const SPOKE_VM_V4: &str = "10.2.2.4";
const SPOKE_VM_V6: &str = "fd00:2:0:2::4";
const AFAR_V4: &str = "192.168.7.7";
const AFAR_V6: &str = "fd00:77::7";

#[test]
fn a_machine_of_a_peered_network_is_reached_from_any_port() {
    let mut router = peered();
    for checked in [vm_port(), port(1, PORT_1)] {
        router.port(checked);
        for (from, to) in [(VM_V4, SPOKE_VM_V4), (VM_V6, SPOKE_VM_V6)] {
            let packet = Packet::new(VM, PORT_1, from, to).udp(1, 2, b"hello");
            router.forwards(&packet, PORT_3, VM_2);
        }
    }
}

#[test]
fn the_gateway_host_s_addresses_in_peered_networks_and_the_own_are_its() {
    let mut router = peered();
    let itself = || neighbor([0; 6], [0; 6], NO_PORT);
    for (place, vnet, address) in [
        (53, SPOKE, "10.2.2.1"),
        (54, SPOKE, "fd00:2:0:2::1"),
        (55, VNET, "10.1.1.1"),
        (56, VNET, "fd00:1:0:1::1"),
    ] {
        router.host(vnet, address, place, itself());
        let from = if address.contains(':') { VM_V6 } else { VM_V4 };
        for sender in [from, if from == VM_V6 { AFAR_V6 } else { AFAR_V4 }] {
            let packet = Packet::new(VM, PORT_1, sender, address).udp(1, 2, b"hello");
            router.counts(&packet.bytes(), Reason::ToHost);
        }
    }
}

#[test]
fn a_host_of_the_same_address_in_another_network_is_another_host() {
    let mut router = peered();
    let twin = neighbor(nva(3), PORT_2, 2);
    router.host(VNET, SPOKE_VM_V4, 40, twin);
    let packet = Packet::new(VM, PORT_1, VM_V4, SPOKE_VM_V4).udp(1, 2, b"hello");
    router.forwards(&packet, PORT_3, VM_2);
}

#[test]
fn forwarded_traffic_enters_a_restricted_network_only_from_a_source_at_home() {
    let mut router = peered();
    router.port(restricted_port());
    router.restrict(SET, SPOKE);
    for (afar, home, to) in [(AFAR_V4, VM_V4, SPOKE_VM_V4), (AFAR_V6, VM_V6, SPOKE_VM_V6)] {
        let packet = Packet::new(VM, PORT_1, afar, to).udp(1, 2, b"hello");
        router.counts(&packet.bytes(), Reason::ForwardedTraffic);
        let packet = Packet::new(VM, PORT_1, home, to).udp(1, 2, b"hello");
        router.forwards(&packet, PORT_3, VM_2);
    }
}

#[test]
fn what_counts_is_the_network_of_the_way_out_whatever_the_route() {
    let mut router = peered();
    router.port(restricted_port());
    router.restrict(SET, SPOKE);
    let forwarded = [(AFAR_V4, SITE_V4), (AFAR_V6, SITE_V6)]
        .map(|(from, to)| Packet::new(VM, PORT_1, from, to).udp(1, 2, b"hello"));
    for packet in &forwarded {
        router.forwards(packet, PORT_2, NVA);
    }
    // The next hop's port lies in the spoke now.
    let mut way = neighbor(NVA, PORT_2, 2);
    way.vnet = SPOKE;
    router.neighbor(VIA, way);
    for packet in &forwarded {
        router.counts(&packet.bytes(), Reason::ForwardedTraffic);
    }
}

#[test]
fn a_set_restricts_no_network_that_is_not_in_it() {
    let mut router = peered();
    router.port(restricted_port());
    router.restrict(SET, SPOKE + 1);
    router.restrict(SET + 1, SPOKE);
    for (from, to) in [(AFAR_V4, SPOKE_VM_V4), (AFAR_V6, SPOKE_VM_V6)] {
        let packet = Packet::new(VM, PORT_1, from, to).udp(1, 2, b"hello");
        router.forwards(&packet, PORT_3, VM_2);
    }
}

#[test]
fn a_source_is_at_home_by_its_longest_route_in_the_own_table() {
    let mut router = peered();
    router.port(restricted_port());
    router.restrict(SET, SPOKE);
    // A hole in the network's space, as a user-defined route for an appliance beyond it.
    for hole in ["10.1.9.0/24", "fd00:1:0:9::/64"] {
        router.route(OWN, hole, VIA, precedence::USER_DEFINED, 0);
    }
    for (hole, to) in [("10.1.9.9", SPOKE_VM_V4), ("fd00:1:0:9::9", SPOKE_VM_V6)] {
        let packet = Packet::new(VM, PORT_1, hole, to).udp(1, 2, b"hello");
        router.counts(&packet.bytes(), Reason::ForwardedTraffic);
    }
}

#[test]
fn an_error_about_a_packet_into_a_peered_network_reaches_its_sender() {
    let mut router = peered();
    router.port(Port {
        gateway_v4: [10, 1, 1, 1],
        gateway_v6: vm_port().gateway_v6,
        ..restricted_port()
    });
    router.restrict(SET, SPOKE);
    for (from, to) in [(VM_V4, SPOKE_VM_V4), (VM_V6, SPOKE_VM_V6)] {
        let packet = Packet::new(VM, PORT_1, from, to).udp(1, 2, b"hello");
        router.counts(&packet.hops(1).bytes(), Reason::TimeExceeded);
        let packet = Packet::new(VM, PORT_1, from, to).udp(1, 2, &[0; 1600]);
        let packet = if from == VM_V4 {
            packet.fragment(0x4000)
        } else {
            packet
        };
        router.counts(&packet.bytes(), Reason::MtuExceeded);
    }
}

/// A router of two peered networks.
fn peered() -> Router {
    let mut router = Router::new();
    router.port(port(1, PORT_1));
    for home in ["10.1.0.0/16", "fd00:1::/48"] {
        let flags = route_flags::OVERRIDING | route_flags::LOCAL;
        router.route(
            OWN,
            home,
            crate::router::ATTACHED,
            precedence::SYSTEM,
            flags,
        );
    }
    router.next_hop(IN_SPOKE, next_hop_kind::ATTACHED, SPOKE);
    router.bucket(IN_SPOKE, IN_SPOKE, 0);
    router.group(IN_SPOKE, IN_SPOKE, 0);
    for space in ["10.2.0.0/16", "fd00:2::/48"] {
        let flags = route_flags::OVERRIDING;
        router.route(OWN, space, IN_SPOKE, precedence::SYSTEM, flags);
    }
    for (place, host) in (50..).zip([SPOKE_VM_V4, SPOKE_VM_V6]) {
        router.host(SPOKE, host, place, neighbor(VM_2, PORT_3, 3));
    }
    router
}

fn restricted_port() -> Port {
    Port {
        restricted: SET,
        ..port(1, PORT_1)
    }
}
