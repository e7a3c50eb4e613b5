//! Fuzz targets of the BGP speaker and the route server. Each module is one target: `run` takes any
//! bytes, makes a case of them, and panics where the product breaks its word.
//!
//! - [`message`]: a stream of bytes, cut into messages, each decoded.
//! - [`open`]: an OPEN, and what two OPENs agree on.
//! - [`update`]: an UPDATE, what RFC 7606 makes of it, and whether it can be passed on.
//! - [`fsm`]: any sequence of events.
//! - [`convergence`]: two speakers, any changes, any mishaps; both end with the same routes.
//! - [`rules`]: route servers, networks, peers: any changes end where a small model says.
//!
//! `cargo xtask fuzz TARGET` searches for such bytes; `tests/seeds.rs` runs those that are known.

use arbitrary::Unstructured;
use router_user::bgp::wire::{Context, Family, FamilySet, Peering};

pub mod convergence;
pub mod fsm;
pub mod message;
pub mod open;
pub mod rules;
pub mod update;

/// A target by its name.
pub type Target = fn(&[u8]);

/// All targets.
pub const TARGETS: [(&str, Target); 6] = [
    ("message", message::run),
    ("open", open::run),
    ("update", update::run),
    ("fsm", fsm::run),
    ("convergence", convergence::run),
    ("rules", rules::run),
];

/// Random bytes: the same number, the same bytes.
#[must_use]
pub fn random(number: u64) -> Vec<u8> {
    let mut state = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let length = 20 + next() as usize % 600;
    (0..length).map(|_| (next() >> 24) as u8).collect()
}

/// Bytes in two parts: what a session agreed on, and the rest.
fn context(input: &[u8]) -> (Context, &[u8]) {
    let (choices, rest) = input.split_first_chunk().unwrap_or((&[0, 0], &[]));
    let [flags, families] = *choices;
    let set = |bits: u8| -> FamilySet {
        let chosen = |family: &Family| bits & 1 << *family as u8 != 0;
        Family::ALL.into_iter().filter(chosen).collect()
    };
    let context = Context {
        peering: if flags & 1 == 0 {
            Peering::External
        } else {
            Peering::Internal
        },
        four_octet_asn: flags & 2 == 0,
        extended_message: flags & 4 != 0,
        extended_next_hop: flags & 8 != 0,
        families: set(!families),
        add_path_receive: set(families >> 2),
        add_path_send: set(families >> 4),
    };
    (context, rest)
}

/// The other end's view of a session.
fn mirrored(context: Context) -> Context {
    Context {
        add_path_receive: context.add_path_send,
        add_path_send: context.add_path_receive,
        ..context
    }
}

/// One of `choices`.
fn pick<T: Copy>(bytes: &mut Unstructured<'_>, choices: &[T]) -> arbitrary::Result<T> {
    bytes.choose(choices).copied()
}
