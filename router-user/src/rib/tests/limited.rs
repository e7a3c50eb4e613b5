//! Sessions with a limit that do not keep up: what is still to be told is withdrawn once, and counted once.

use super::*;

const NETS: [&str; 3] = ["10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"];

/// A source, and a session that was sent its routes, does not take more, and has missed that the last
/// one is gone.
fn behind(limited: bool, several: bool) -> (Lab, usize) {
    let mut lab = Lab::new();
    let source = lab.nva(4);
    let slow = match several {
        true => lab.add_path_nva(5, 2),
        false => lab.nva(5),
    };
    let index = lab.peers[slow].index;
    lab.rib.set_limited(index, limited);
    for net in NETS {
        lab.announce(source, net, attributes(&[65004], 4));
    }
    lab.settle();
    assert_eq!(lab.peers[slow].holds.len(), 3);
    lab.rib.hold(index);
    lab.withdraw(source, NETS[2]);
    lab.settle();
    (lab, slow)
}

fn catches_up(lab: &mut Lab, slow: usize, left: usize) {
    let index = lab.peers[slow].index;
    lab.rib.resume(index);
    lab.settle();
    assert_eq!(lab.peers[slow].holds.len(), left);
    assert_eq!(lab.rib.totals(index).advertised, [left, 0]);
    assert_eq!(lab.peers[slow].withdrawn, 3 - left);
}

#[test]
fn one_that_gets_a_limit_while_it_is_held_is_still_told_what_went() {
    for several in [false, true] {
        let (mut lab, slow) = behind(false, several);
        let index = lab.peers[slow].index;
        lab.rib.set_limited(index, true);
        assert_eq!(lab.rib.totals(index).advertised, [3, 0]);
        catches_up(&mut lab, slow, 2);
    }
}

#[test]
fn what_a_limit_takes_from_one_that_is_held_is_not_taken_again_when_it_has_none() {
    for several in [false, true] {
        let (mut lab, slow) = behind(true, several);
        let index = lab.peers[slow].index;
        lab.rib
            .narrow(index, [Until::Prefix(prefix(NETS[0])), Until::End]);
        lab.settle();
        assert_eq!(lab.rib.totals(index).advertised, [1, 0]);
        lab.rib.set_limited(index, false);
        catches_up(&mut lab, slow, 1);
    }
}
