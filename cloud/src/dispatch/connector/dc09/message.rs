//! A message in hand, and whether a reply answers it.
//!
//! Owns the match of number and account. Pure.

use super::envelope::{Account, Prefix};
use super::frame::{Content, Frame};
use super::reply::{Reply, Word};

/// Bytes to send and what their answer must name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    bytes: Vec<u8>,
    number: u16,
    account: String,
}

impl Message {
    /// A frame as committed; none when the bytes are no frame of ours.
    #[must_use]
    pub fn committed(bytes: &[u8]) -> Option<Self> {
        let frame = Frame::decode(bytes).ok()?;
        Some(Self {
            bytes: bytes.to_vec(),
            number: frame.number,
            account: frame.account.to_string(),
        })
    }

    /// A poll: number 0000, no time, since a receiver that minds our clock would refuse it.
    #[must_use]
    pub fn poll(receiver: &Prefix, line: &Prefix, account: &Account) -> Option<Self> {
        let frame = Frame {
            number: 0,
            receiver: receiver.clone(),
            line: line.clone(),
            account: account.clone(),
            content: Content::Poll,
            time: None,
        };
        Self::committed(&frame.encode().ok()?)
    }

    /// What goes over the wire.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether `reply` answers this message. A reply that names no message can only be taken for it
    /// when no other is still unanswered on the connection (`alone`).
    #[must_use]
    pub fn is_answered_by(&self, reply: &Reply, alone: bool) -> bool {
        let named = reply.number == Some(self.number);
        match reply.word {
            Word::Ack | Word::Duh => {
                let same = |account: &String| *account == self.account;
                named && reply.account.as_ref().is_none_or(same)
            }
            Word::Nak | Word::Unread => named || (alone && reply.number.unwrap_or(0) == 0),
        }
    }
}
