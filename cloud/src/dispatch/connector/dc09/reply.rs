//! What receivers answer, read as leniently as real ones demand.
//!
//! Owns reassembly of a receiver's byte stream into replies. Tolerates: no LF or CR around a bare
//! word, checksums in lower case or as two raw bytes, a wrong length field, a missing `R`, a missing
//! or present time, anything before, between and after. Never takes a reply whose checksum is wrong,
//! never keeps more than [`HELD_MAX`] bytes. Pure.

use super::envelope::{Stamp, crc};

/// Bytes held while a reply is incomplete; when no reply is found in so many they are thrown away.
pub const HELD_MAX: usize = 4096;

const LF: u8 = b'\n';
const CR: u8 = b'\r';
/// The smallest frame around a body: LF, 4 digits of checksum, 4 of length.
const HEAD: usize = 9;
/// The same with the checksum as two raw bytes.
const RAW_HEAD: usize = 7;

/// A receiver's word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// Taken (`ACK`, or `RSP` with something for us beside it).
    Ack,
    /// Not taken: by its clock the message is too old or ahead, or it does not know the account.
    Nak,
    /// Arrived whole, but it cannot do anything with it.
    Duh,
    /// LF CR and nothing between: it could not read what it got.
    Unread,
}

/// One reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// What it says.
    pub word: Word,
    /// The number of the message it answers; none in a bare word.
    pub number: Option<u16>,
    /// The account of the message it answers, upper case, as far as given.
    pub account: Option<String>,
    /// The receiver's clock, as far as given.
    pub time: Option<Stamp>,
    /// The bytes as they came.
    pub bytes: Vec<u8>,
}

impl Reply {
    fn bare(word: Word, bytes: &[u8]) -> Self {
        Self {
            word,
            number: None,
            account: None,
            time: None,
            bytes: bytes.to_vec(),
        }
    }
}

/// A receiver's byte stream.
#[derive(Default, Debug)]
pub struct Replies {
    held: Vec<u8>,
}

/// What stands at the beginning of the held bytes.
enum Found {
    /// So many bytes are one reply.
    Whole(usize, Reply),
    /// So many bytes are nothing.
    Junk(usize),
    /// More bytes are needed to tell.
    Incomplete,
}

impl Replies {
    /// Takes bytes as they arrive.
    pub fn feed(&mut self, bytes: &[u8]) {
        let start = bytes.len().saturating_sub(HELD_MAX);
        let bytes = &bytes[start..];
        if self.held.len() + bytes.len() > HELD_MAX {
            self.held.clear();
        }
        self.held.extend_from_slice(bytes);
    }

    /// The next whole reply, if one has arrived.
    pub fn next_reply(&mut self) -> Option<Reply> {
        loop {
            match look(&self.held) {
                Found::Whole(length, reply) => {
                    self.held.drain(..length);
                    return Some(reply);
                }
                Found::Junk(length) => {
                    self.held.drain(..length);
                }
                Found::Incomplete => return None,
            }
        }
    }
}

fn look(held: &[u8]) -> Found {
    match held.first() {
        None => Found::Incomplete,
        Some(&LF) => look_enclosed(held),
        Some(b'"') => look_bare(held),
        Some(_) => Found::Junk(
            held.iter()
                .position(|byte| matches!(*byte, LF | b'"'))
                .unwrap_or(held.len()),
        ),
    }
}

/// A word without a frame around it.
fn look_bare(held: &[u8]) -> Found {
    for (text, word) in [("\"NAK\"", Word::Nak), ("\"DUH\"", Word::Duh)] {
        let text = text.as_bytes();
        if held.starts_with(text) {
            return Found::Whole(text.len(), Reply::bare(word, text));
        }
        if text.starts_with(held) {
            return Found::Incomplete;
        }
    }
    Found::Junk(1)
}

/// From LF on.
fn look_enclosed(held: &[u8]) -> Found {
    let Some(quote) = quote_of(held) else {
        return if held.get(1) == Some(&CR) {
            Found::Whole(2, Reply::bare(Word::Unread, &held[..2]))
        } else if held.len() <= HEAD && held.iter().skip(1).all(|byte| *byte != LF) {
            Found::Incomplete
        } else {
            Found::Junk(1)
        };
    };
    let Some(end) = held[quote..].iter().position(|byte| *byte == CR) else {
        return Found::Incomplete;
    };
    let end = quote + end;
    match body_of(held, quote, end).and_then(|body| read(body, &held[..=end])) {
        Some(reply) => Found::Whole(end + 1, reply),
        None => Found::Junk(quote),
    }
}

/// Where the body begins: behind eight hex digits, or behind two raw bytes and four hex digits.
fn quote_of(held: &[u8]) -> Option<usize> {
    let hex = |range: std::ops::Range<usize>| {
        held.get(range)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if held.get(HEAD) == Some(&b'"') && hex(1..HEAD) {
        Some(HEAD)
    } else if held.get(RAW_HEAD) == Some(&b'"') && hex(3..RAW_HEAD) {
        Some(RAW_HEAD)
    } else {
        None
    }
}

/// The bytes the checksum covers: as many as the length says, else up to CR.
fn body_of(held: &[u8], quote: usize, end: usize) -> Option<&[u8]> {
    let ascii = |range: std::ops::Range<usize>| {
        let digits = std::str::from_utf8(held.get(range)?).ok()?;
        u16::from_str_radix(digits, 16).ok()
    };
    let sum = if quote == HEAD {
        ascii(1..5)?
    } else {
        u16::from_be_bytes([held[1], held[2]])
    };
    let length = usize::from(ascii(quote - 4..quote)?);
    let counted = held[quote..end].get(..length);
    counted
        .into_iter()
        .chain(Some(&held[quote..end]))
        .find(|body| crc(body) == sum)
}

/// Reads `"ACK"0001R1L0#1234[]_08:15:30,11-22-2026`.
fn read(body: &[u8], bytes: &[u8]) -> Option<Reply> {
    let text = String::from_utf8_lossy(body);
    let (word, rest) = text.strip_prefix('"')?.split_once('"')?;
    let word = match word {
        "ACK" | "RSP" => Word::Ack,
        "NAK" => Word::Nak,
        "DUH" => Word::Duh,
        _ => return None,
    };
    let (head, tail) = rest.split_once('[').unwrap_or((rest, ""));
    let number = head
        .get(..4)
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok());
    let account = head
        .split_once('#')
        .map(|(_, account)| account.trim().to_ascii_uppercase());
    let time = tail
        .rsplit_once('_')
        .and_then(|(_, time)| time.get(..19)?.parse().ok());
    Some(Reply {
        word,
        number,
        account,
        time,
        bytes: bytes.to_vec(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::super::envelope::enclose;
    use super::*;

    fn all(bytes: &[u8]) -> Vec<Reply> {
        let mut replies = Replies::default();
        replies.feed(bytes);
        std::iter::from_fn(|| replies.next_reply()).collect()
    }

    fn one(bytes: &[u8]) -> Reply {
        let mut found = all(bytes);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    fn is_ack_of(reply: &Reply, number: u16, account: &str) {
        assert_eq!(reply.word, Word::Ack);
        assert_eq!(reply.number, Some(number));
        assert_eq!(reply.account.as_deref(), Some(account));
    }

    #[test]
    fn replies_that_real_receivers_gave() {
        is_ack_of(&one(b"\n1EB60014\"ACK\"0001R1L0#1234[]\r"), 1, "1234");
        let dated = one(b"\n6E5B0028\"ACK\"0001R1L0#1234[]_01:51:22,11-22-2026\r");
        is_ack_of(&dated, 1, "1234");
        assert_eq!(dated.time, Some("01:51:22,11-22-2026".parse().unwrap()));
        is_ack_of(
            &one(b"\nF0550030\"ACK\"0000R1234L6789#000000[]_17:27:09,12-09-2015\r"),
            0,
            "000000",
        );
        let nak = one(b"\n30FD0025\"NAK\"0000R1L0A0[]_01:58:26,11-22-2026\r");
        assert_eq!((nak.word, nak.number), (Word::Nak, Some(0)));
        assert_eq!(nak.time, Some("01:58:26,11-22-2026".parse().unwrap()));
        let duh = one(b"\nEE9C0014\"DUH\"0073R1L0#1234[]\r");
        assert_eq!((duh.word, duh.number), (Word::Duh, Some(73)));
        let bare = one(b"\"NAK\"");
        assert_eq!((bare.word, bare.number, bare.time), (Word::Nak, None, None));
        assert_eq!(one(b"\n\r").word, Word::Unread);
        let twice = b"\n73330025\"NAK\"0000R0L0A0[]_01:51:24,11-22-2026\r".repeat(2);
        assert_eq!(all(&twice).len(), 2);
    }

    #[test]
    fn every_published_plain_reply_is_read() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/dc09.json");
        let text = std::fs::read_to_string(file).unwrap();
        let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut read = [0; 3];
        for vector in vectors["vectors"].as_array().unwrap() {
            let sent = vector["text"].as_str().unwrap();
            let number = sent.split('"').nth(2).and_then(|rest| rest.get(..4));
            let answers = vector["replies"].as_object().into_iter().flatten();
            for (who, answer) in
                answers.filter(|(_, answer)| !answer.as_str().unwrap().contains("\"*"))
            {
                let answer = answer.as_str().unwrap();
                let found = all(answer.as_bytes());
                let expected = answer.matches("\"ACK\"").count()
                    + answer.matches("\"NAK\"").count()
                    + answer.matches("\"DUH\"").count()
                    + usize::from(answer == "\n\r");
                assert_eq!(found.len(), expected, "{who}: {answer:?}");
                for reply in found {
                    match reply.word {
                        Word::Ack | Word::Duh => {
                            let echoed = reply.number.map(|number| format!("{number:04}"));
                            assert_eq!(echoed.as_deref(), number, "{who}: {answer:?}");
                            read[usize::from(reply.word == Word::Duh)] += 1;
                        }
                        Word::Nak | Word::Unread => read[2] += 1,
                    }
                }
            }
        }
        assert_eq!(read, [131, 1, 10]);
    }

    #[test]
    fn odd_spellings_are_taken() {
        is_ack_of(&one(b"\n1eb60014\"ACK\"0001R1L0#1234[]\r"), 1, "1234");
        let missing_r = enclose("\"ACK\"0001L0#1234[]").unwrap();
        is_ack_of(&one(&missing_r), 1, "1234");
        let rsp = enclose("\"RSP\"0001R1L0#1234[][Kabc]").unwrap();
        is_ack_of(&one(&rsp), 1, "1234");
        // Two raw bytes of checksum, which may look like LF, CR or a quote.
        for number in 1..=9999_u16 {
            let body = format!("\"ACK\"{number:04}R1L0#1234[]");
            let mut raw = vec![LF];
            raw.extend_from_slice(&crc(body.as_bytes()).to_be_bytes());
            raw.extend_from_slice(format!("{:04X}{body}\r", body.len()).as_bytes());
            is_ack_of(&one(&raw), number, "1234");
        }
        // A wrong length under a right checksum, and bytes between the counted body and CR.
        is_ack_of(&one(b"\n1EB60001\"ACK\"0001R1L0#1234[]\r"), 1, "1234");
        is_ack_of(
            &one(b"\n1EB60014\"ACK\"0001R1L0#1234[]\0\0\r\r\n"),
            1,
            "1234",
        );
    }

    #[test]
    fn a_wrong_checksum_or_an_unknown_word_is_no_reply() {
        for bad in [
            &b"\n1EB70014\"ACK\"0001R1L0#1234[]\r"[..],
            b"\n1EB60014\"ACK\"0002R1L0#1234[]\r",
            b"\"ACK\"",
            b"ACK\r\n",
        ] {
            assert_eq!(all(bad), []);
        }
        let polled = enclose("\"NULL\"0001R1L0#1234[]").unwrap();
        assert_eq!(all(&polled), []);
    }

    #[test]
    fn a_good_reply_behind_rubbish_is_found() {
        let mut bytes = b"HTTP/1.1 400\r\n\r\n\n0000\"ACK\"\r".to_vec();
        bytes.extend_from_slice(b"\n1EB60014\"ACK\"0001R1L0#1234[]\r");
        let found = all(&bytes);
        is_ack_of(found.last().unwrap(), 1, "1234");
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(cuts in prop::collection::vec(1_usize..12, 0..40)) {
            let bytes = b"\n1EB60014\"ACK\"0001R1L0#1234[]\r\"NAK\"\n30FD0025\"NAK\"0000R1L0A0[]_01:58:26,11-22-2026\r";
            let mut replies = Replies::default();
            let mut words = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.into_iter().chain([bytes.len()]) {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                replies.feed(now);
                words.extend(std::iter::from_fn(|| replies.next_reply()).map(|reply| reply.word));
                rest = later;
            }
            prop_assert_eq!(words, [Word::Ack, Word::Nak, Word::Nak]);
        }

        #[test]
        fn garbage_neither_panics_nor_piles_up_nor_passes_for_an_ack(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..20),
        ) {
            let mut replies = Replies::default();
            for piece in pieces {
                replies.feed(&piece);
                prop_assert!(replies.held.len() <= HELD_MAX);
                while let Some(reply) = replies.next_reply() {
                    prop_assert!(reply.word != Word::Ack, "{:?}", reply);
                }
            }
        }

        #[test]
        fn bytes_of_the_alphabet_of_frames_do_not_panic(text in "[\n\r\"ACKNDUH0-9A-F\\[\\]#_RL:,-]{0,200}") {
            let _ = all(text.as_bytes());
        }
    }
}
