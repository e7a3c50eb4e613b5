//! Writing UPDATEs: as many prefixes as fit into each.

use std::iter::Peekable;

use bytes::{BufMut, BytesMut};

use super::super::{
    AttributeCode, Context, Family, NextHop, Nlri, PathAttributes,
    attribute::{self, flags},
    header::{self, MessageType},
};

/// Why routes cannot be announced to a peer. Nothing was written; the peer should be told that
/// they are withdrawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncodeError {
    /// `PathAttributes::next_hop` is `None`.
    #[error("the route has no next hop yet")]
    NoNextHop,
    /// The family cannot have such a next hop on this session.
    #[error("{family} routes cannot have the next hop {next_hop} on this session")]
    NextHop {
        /// Of the routes.
        family: Family,
        /// Of the attributes.
        next_hop: NextHop,
    },
    /// The attributes leave no room for a prefix (RFC 4271 §9.2).
    #[error("the attributes take {attributes} bytes, too many for a message of {max}")]
    TooLong {
        /// Bytes that the attributes take.
        attributes: usize,
        /// Bytes that a message may have.
        max: usize,
    },
}

/// Appends UPDATEs that announce `nlri` with `attributes`. Each run of routes of one family is
/// packed into as few messages as it fits into. IPv4 routes with an IPv4 next hop go into the NLRI
/// field, all others into MP_REACH_NLRI.
///
/// # Errors
///
/// `out` is as it was. See [`EncodeError`].
pub fn encode_announce(
    context: &Context,
    attributes: &PathAttributes,
    nlri: impl IntoIterator<Item = Nlri>,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let start = out.len();
    let mut nlri = nlri.into_iter().peekable();
    while let Some(first) = nlri.peek() {
        let family = Family::of(&first.prefix);
        let result = Announcement::new(context, attributes, family)
            .and_then(|announcement| announcement.encode(&mut nlri, out));
        if result.is_err() {
            out.truncate(start);
            return result;
        }
    }
    Ok(())
}

/// Appends UPDATEs that withdraw `nlri`, packed like those of [`encode_announce`].
pub fn encode_withdraw(
    context: &Context,
    nlri: impl IntoIterator<Item = Nlri>,
    out: &mut BytesMut,
) {
    let mut nlri = nlri.into_iter().peekable();
    while let Some(first) = nlri.peek() {
        let family = Family::of(&first.prefix);
        let add_path = context.add_path_send.contains(family);
        let start = header::begin(out, MessageType::Update);
        let limit = start + context.max_message_len();
        if withdraws_plainly(family, context) {
            let len = out.len();
            out.put_u16(0);
            // Two octets stay free for the length of the attributes.
            fill(&mut nlri, family, add_path, limit - 2, out);
            patch_len(out, len);
            out.put_u16(0);
        } else {
            let lens = begin_unreach(family, out);
            fill(&mut nlri, family, add_path, limit, out);
            lens.into_iter().for_each(|len| patch_len(out, len));
        }
        header::finish(out, start);
    }
}

/// Appends the End-of-RIB marker (RFC 4724 §2).
pub fn encode_end_of_rib(family: Family, out: &mut BytesMut) {
    header::message(out, MessageType::Update, |out| match family {
        Family::Ipv4Unicast => out.put_u32(0),
        Family::Ipv6Unicast => {
            let lens = begin_unreach(family, out);
            lens.into_iter().for_each(|len| patch_len(out, len));
        }
    });
}

/// IPv4 routes may have been announced in MP_REACH_NLRI once RFC 8950 was negotiated; they are
/// withdrawn by its counterpart then.
const fn withdraws_plainly(family: Family, context: &Context) -> bool {
    matches!(family, Family::Ipv4Unicast) && !context.extended_next_hop
}

/// Routes of one family with their attributes, encoded once for all messages.
struct Announcement {
    family: Family,
    add_path: bool,
    /// Next hop for MP_REACH_NLRI; `None`: the routes go into the NLRI field.
    reach: Option<NextHop>,
    /// All attributes but MP_REACH_NLRI.
    attributes: BytesMut,
    max: usize,
}

impl Announcement {
    fn new(
        context: &Context,
        attributes: &PathAttributes,
        family: Family,
    ) -> Result<Self, EncodeError> {
        let next_hop = attributes.next_hop.ok_or(EncodeError::NoNextHop)?;
        if !attribute::mp::fits(family, next_hop, context) {
            return Err(EncodeError::NextHop { family, next_hop });
        }
        let (plain, reach) = match (family, next_hop) {
            (Family::Ipv4Unicast, NextHop::V4(address)) => (Some(address), None),
            _ => (None, Some(next_hop)),
        };
        let mut encoded = BytesMut::with_capacity(256);
        attribute::encode(attributes, plain, context, &mut encoded);
        Ok(Self {
            family,
            add_path: context.add_path_send.contains(family),
            reach,
            attributes: encoded,
            max: context.max_message_len(),
        })
    }

    /// Appends messages until a route of another family, or none, is next.
    fn encode(
        &self,
        nlri: &mut Peekable<impl Iterator<Item = Nlri>>,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        while nlri
            .peek()
            .is_some_and(|next| Family::of(&next.prefix) == self.family)
        {
            let start = header::begin(out, MessageType::Update);
            out.put_u16(0);
            let filled = match self.reach {
                None => self.fill_plain(start, nlri, out),
                Some(next_hop) => self.fill_reach(start, next_hop, nlri, out),
            };
            if filled == 0 {
                return Err(EncodeError::TooLong {
                    attributes: self.attributes.len(),
                    max: self.max,
                });
            }
            header::finish(out, start);
        }
        Ok(())
    }

    fn fill_plain(
        &self,
        start: usize,
        nlri: &mut Peekable<impl Iterator<Item = Nlri>>,
        out: &mut BytesMut,
    ) -> usize {
        // Attributes too long for the field leave no room for a prefix either: nothing is sent.
        out.put_u16(u16::try_from(self.attributes.len()).unwrap_or(u16::MAX));
        out.put_slice(&self.attributes);
        fill(nlri, self.family, self.add_path, start + self.max, out)
    }

    /// MP_REACH_NLRI comes first (RFC 7606 §5.1).
    fn fill_reach(
        &self,
        start: usize,
        next_hop: NextHop,
        nlri: &mut Peekable<impl Iterator<Item = Nlri>>,
        out: &mut BytesMut,
    ) -> usize {
        let lens = begin_multiprotocol(AttributeCode::MP_REACH_NLRI, self.family, out);
        next_hop.encode(out);
        out.put_u8(0);
        let limit = (start + self.max).saturating_sub(self.attributes.len());
        let filled = fill(nlri, self.family, self.add_path, limit, out);
        if filled > 0 {
            patch_len(out, lens[1]);
            out.put_slice(&self.attributes);
            patch_len(out, lens[0]);
        }
        filled
    }
}

/// Appends routes while they are of `family` and end before `limit`; returns how many.
fn fill(
    nlri: &mut Peekable<impl Iterator<Item = Nlri>>,
    family: Family,
    add_path: bool,
    limit: usize,
    out: &mut BytesMut,
) -> usize {
    let mut count = 0;
    while let Some(next) = nlri.next_if(|next| {
        Family::of(&next.prefix) == family && out.len() + next.encoded_len(add_path) <= limit
    }) {
        next.encode(add_path, out);
        count += 1;
    }
    count
}

/// Appends an empty Withdrawn Routes field and the beginning of the attributes with
/// MP_UNREACH_NLRI; returns where their lengths are to be patched.
fn begin_unreach(family: Family, out: &mut BytesMut) -> [usize; 2] {
    out.put_u16(0);
    begin_multiprotocol(AttributeCode::MP_UNREACH_NLRI, family, out)
}

fn begin_multiprotocol(code: AttributeCode, family: Family, out: &mut BytesMut) -> [usize; 2] {
    let attributes = out.len();
    out.put_u16(0);
    out.put_slice(&[flags::OPTIONAL | flags::EXTENDED_LENGTH, code.0]);
    let value = out.len();
    out.put_u16(0);
    out.put_u16(family.afi());
    out.put_u8(family.safi());
    [attributes, value]
}

/// Fills in the two octets at `at` with the number of bytes that follow them.
fn patch_len(out: &mut BytesMut, at: usize) {
    let len = u16::try_from(out.len() - at - 2).expect("messages are bounded by 65,535 bytes");
    out[at..at + 2].copy_from_slice(&len.to_be_bytes());
}
