//! Cuts frames out of a byte stream, and fields off the front of a frame.
//!
//! Owns nothing, allocates nothing, and never trusts a length it has not compared with the bytes at hand.

use std::num::NonZeroU16;

use super::{Fault, kind};

/// Length of the first frame in `buffer`, or `None` while it is incomplete. `limit` is the largest whole
/// frame taken, in bytes; a larger claim fails as soon as the header is there.
pub(in crate::broker) fn complete(buffer: &[u8], limit: usize) -> Result<Option<usize>, Fault> {
    let mut remaining = 0_usize;
    for (index, byte) in buffer.iter().skip(1).take(4).enumerate() {
        remaining |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let length = index + 2 + remaining;
            if length > limit {
                return Err(Fault::Oversized);
            }
            return Ok((buffer.len() >= length).then_some(length));
        }
    }
    if buffer.len() >= 5 {
        return Err(Fault::VariableInteger);
    }
    Ok(None)
}

/// Says whether a first byte can begin a connection. Tells strangers of other protocols, whose bytes may
/// claim any length, without waiting for the rest.
pub(in crate::broker) const fn begins_connection(first: u8) -> bool {
    first == kind::CONNECT << 4
}

/// A whole frame, taken apart as far as every packet has the same shape.
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) body: Fields<'a>,
    /// Remaining Length takes no more bytes than it needs.
    minimal: bool,
}

impl<'a> Frame<'a> {
    /// Takes exactly one frame, as [`complete`] has measured it.
    pub(super) fn open(frame: &'a [u8]) -> Result<Self, Fault> {
        let length = complete(frame, usize::MAX)?.ok_or(Fault::Short)?;
        if frame.len() > length {
            return Err(Fault::Leftover);
        }
        let mut body = Fields(frame);
        let first = body.byte()?;
        let mut last = body.byte()?;
        let mut minimal = true;
        while last & 0x80 != 0 {
            last = body.byte()?;
            minimal = last != 0;
        }
        Ok(Self {
            kind: first >> 4,
            flags: first & 0x0F,
            body,
            minimal,
        })
    }

    /// MQTT 3.1.1 section 2.2.3 lets Remaining Length be padded, MQTT 5 does not (MQTT-1.5.5-1).
    pub(super) const fn require_minimal_length(&self) -> Result<(), Fault> {
        if self.minimal {
            Ok(())
        } else {
            Err(Fault::VariableInteger)
        }
    }

    pub(super) const fn require_flags(&self, wanted: u8) -> Result<(), Fault> {
        if self.flags == wanted {
            Ok(())
        } else {
            Err(Fault::Flags)
        }
    }
}

/// Reads fields off the front of a packet body.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        let (byte, rest) = self.0.split_first().ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(*byte)
    }

    pub(super) fn two_bytes(&mut self) -> Result<u16, Fault> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    pub(super) fn four_bytes(&mut self) -> Result<u32, Fault> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// MQTT 5 section 1.5.5, at most 268,435,455.
    pub(super) fn variable(&mut self) -> Result<u32, Fault> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                let padded = byte == 0 && shift > 0;
                return if padded {
                    Err(Fault::VariableInteger)
                } else {
                    Ok(value)
                };
            }
        }
        Err(Fault::VariableInteger)
    }

    pub(super) fn packet_id(&mut self) -> Result<NonZeroU16, Fault> {
        NonZeroU16::new(self.two_bytes()?).ok_or(Fault::PacketId)
    }

    pub(super) fn binary(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.two_bytes()?;
        self.take(usize::from(length))
    }

    /// A text whose U+0000 the caller looks for.
    pub(super) fn utf8(&mut self) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.binary()?).map_err(|_| Fault::Text)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Fault> {
        let text = self.utf8()?;
        if text.contains('\0') {
            return Err(Fault::Text);
        }
        Ok(text)
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// A part of `length` bytes to read on its own.
    pub(super) fn part(&mut self, length: u32) -> Result<Self, Fault> {
        let length = usize::try_from(length).map_err(|_| Fault::Short)?;
        self.take(length).map(Self)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) const fn end(&self) -> Result<(), Fault> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Fault::Leftover)
        }
    }
}
