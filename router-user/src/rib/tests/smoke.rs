//! A table of some size, once through: 100,000 prefixes from 8 peers, to the same 8 peers.

use super::*;

#[test]
fn a_hundred_thousand_prefixes_from_eight_peers_reach_all_of_them() {
    const PREFIXES: u32 = 100_000;
    const PEERS: u8 = 8;
    let mut lab = Lab::new();
    let peers: Vec<usize> = (0..PEERS).map(|host| lab.nva(host + 4)).collect();
    let mut bytes = vec![0; peers.len()];
    for (place, &peer) in peers.iter().enumerate() {
        let host = place as u8 + 4;
        let index = lab.peers[peer].index;
        for batch in 0..PREFIXES / 1000 {
            // Paths get longer from one peer to the next: the first peer's are used.
            let path = vec![65000 + u32::from(host); place + 1];
            let path = [path, vec![4_200_000_000 + batch]].concat();
            let path = lab.intern(attributes(&path, host));
            for number in batch * 1000..(batch + 1) * 1000 {
                let address = Ipv4Addr::from((20 << 24) + (number << 8));
                let net = IpNet::new(address.into(), 24).unwrap();
                lab.rib
                    .announce(index, net.into(), &path, &Judgement::Eligible(Zone(0)));
            }
            lab.rib.release(path);
            for (index, piece) in lab.rib.take_messages() {
                let to = lab.peers.iter().position(|peer| peer.index == index);
                bytes[to.unwrap()] += piece.len();
            }
        }
    }
    for &peer in &peers {
        let totals = lab.rib.totals(lab.peers[peer].index);
        assert_eq!(totals.received, [PREFIXES as usize, 0]);
        assert_eq!(totals.advertised.iter().sum::<usize>(), PREFIXES as usize);
    }
    assert_eq!(lab.rib.prefixes(None, None).count(), PREFIXES as usize);
    assert!(bytes.iter().all(|bytes| *bytes > 0));
    assert!(lab.rib.attribute_sets() <= 800);

    // The second peer takes over from the first; the others were not used.
    let taken_over = lab.rib.take_learned().len();
    assert!(taken_over >= PREFIXES as usize);
    lab.rib.remove_session(lab.peers[peers[0]].index);
    assert_eq!(lab.rib.take_learned().len(), PREFIXES as usize);
    for &peer in peers[1..].iter().rev() {
        lab.rib.remove_session(lab.peers[peer].index);
    }
    assert_eq!(lab.rib.attribute_sets(), 0);
    assert_eq!(lab.rib.prefixes(None, None).count(), 0);
}
