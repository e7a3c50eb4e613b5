//! Attributes as flags, type, length, value (RFC 4271 §4.3), before anyone looks at the value.

use bytes::{BufMut, BytesMut};

use super::{super::cursor::Cursor, AttributeCode};

/// Bits of the flags octet.
pub(in super::super) mod flags {
    /// Not well-known.
    pub(in super::super::super) const OPTIONAL: u8 = 0x80;
    /// Passed on by speakers that do not know it.
    pub(in super::super::super) const TRANSITIVE: u8 = 0x40;
    /// Somebody who passed it on did not know it.
    pub(in super::super::super) const PARTIAL: u8 = 0x20;
    /// The length has two octets.
    pub(in super::super::super) const EXTENDED_LENGTH: u8 = 0x10;
}

/// One attribute, borrowed from the message.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawAttribute<'a> {
    /// Flags octet.
    pub(super) flags: u8,
    /// Type.
    pub(super) code: AttributeCode,
    /// Value.
    pub(super) value: &'a [u8],
    /// Header and value, as a NOTIFICATION quotes it.
    pub(super) whole: &'a [u8],
}

/// The attributes cannot be split any further (RFC 7606 §4); with the type, if it can be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Overrun {
    pub(super) code: Option<AttributeCode>,
}

impl<'a> RawAttribute<'a> {
    /// Takes the next attribute from `cursor`, which is not empty.
    pub(super) fn take(cursor: &mut Cursor<'a>) -> Result<Self, Overrun> {
        let start = cursor.rest();
        let (flags, code) = (cursor.u8(), cursor.u8().map(AttributeCode));
        let overrun = Overrun { code };
        let (Some(flags), Some(code)) = (flags, code) else {
            return Err(overrun);
        };
        let len = if flags & flags::EXTENDED_LENGTH == 0 {
            cursor.u8().map(usize::from)
        } else {
            cursor.u16().map(usize::from)
        };
        let value = len.and_then(|len| cursor.bytes(len)).ok_or(overrun)?;
        Ok(Self {
            flags,
            code,
            value,
            whole: &start[..start.len() - cursor.rest().len()],
        })
    }
}

/// An attribute's header, to be written before its value.
pub(in super::super) struct Header {
    /// Optional, transitive and partial bits.
    pub(in super::super) flags: u8,
    /// Type.
    pub(in super::super) code: AttributeCode,
    /// Length of the value in bytes; what exceeds 65,535 cannot be sent, see `encode::TooLong`.
    pub(in super::super) len: usize,
}

impl Header {
    /// Appends it; the length takes two octets only if it must.
    pub(in super::super) fn encode(&self, out: &mut BytesMut) {
        if let Ok(len) = u8::try_from(self.len) {
            out.put_slice(&[self.flags, self.code.0, len]);
        } else {
            out.put_slice(&[self.flags | flags::EXTENDED_LENGTH, self.code.0]);
            out.put_u16(self.len as u16);
        }
    }
}
