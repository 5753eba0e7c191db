//! SIA DC-09 messages as we send them: events in SIA-DCS coding and supervision polls, in plain text.
//!
//! Owns header and data block (SIA DC-09 clause 5.5, DC-03 codes). Pure; never touches a socket or a
//! clock. What comes back from a receiver is read leniently in [`super::reply`]; here a byte out of
//! place is an error.

use std::fmt;

use super::code::Code;
use super::envelope::{Account, FrameError, Prefix, Stamp, enclose, opened};

/// Highest sequence number; 0001 follows it (DC-09 clause 5.5.1.4).
pub const NUMBER_MAX: u16 = 9999;

/// A message to a receiver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// 0001 to 9999; polls carry 0000. A retransmission keeps its number.
    pub number: u16,
    /// `R`: always sent, since receivers echo nonsense when it is missing.
    pub receiver: Prefix,
    /// `L`.
    pub line: Prefix,
    /// Whose transmitter speaks.
    pub account: Account,
    /// What is said.
    pub content: Content,
    /// When it is sent; receivers refuse what is older than 40 s or more than 20 s ahead.
    pub time: Option<Stamp>,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// Nothing but "I am here" (`NULL`).
    Poll,
    /// An event (`SIA-DCS`).
    Event(Event),
}

/// An event in SIA DC-03 coding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Which protected object.
    pub object: Account,
    /// What happened there.
    pub code: Code,
    /// Where in it; none for the whole object.
    pub place: Option<Place>,
    /// Extended blocks in their order.
    pub extended: Vec<Extended>,
}

/// A place inside the protected object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Area (`ri`).
    pub area: u16,
    /// Zone, written with at least three digits.
    pub zone: u16,
}

/// One extended block: a letter and its text, free of brackets and control characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extended {
    letter: char,
    text: String,
}

impl Extended {
    /// Block `H`: when the event occurred, which may be long before it is sent.
    #[must_use]
    pub fn occurred(at: Stamp) -> Self {
        Self {
            letter: 'H',
            text: at.to_string(),
        }
    }
}

impl Frame {
    /// The bytes for the wire.
    ///
    /// # Errors
    /// [`FrameError::Number`] and [`FrameError::TooLong`].
    pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
        if self.number > NUMBER_MAX {
            return Err(FrameError::Number);
        }
        enclose(&self.body())
    }

    fn body(&self) -> String {
        let token = match self.content {
            Content::Poll => "NULL",
            Content::Event(_) => "SIA-DCS",
        };
        let mut body = format!(
            "\"{token}\"{:04}R{}L{}#{}[",
            self.number, self.receiver, self.line, self.account
        );
        match &self.content {
            Content::Poll => body.push(']'),
            Content::Event(event) => body.push_str(&event.to_string()),
        }
        if let Some(time) = self.time {
            body.push_str(&format!("_{time}"));
        }
        body
    }

    /// Reads a frame that [`Frame::encode`] made.
    ///
    /// # Errors
    /// Names the first part that does not fit.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let text = opened(bytes)?;
        let (token, rest) = text
            .strip_prefix('"')
            .and_then(|rest| rest.split_once('"'))
            .ok_or(FrameError::Header)?;
        let (head, rest) = rest.split_once('[').ok_or(FrameError::Header)?;
        let (number, rest_of_head) = head.split_at_checked(4).ok_or(FrameError::Header)?;
        let (receiver, tail) = rest_of_head
            .strip_prefix('R')
            .and_then(|rest| rest.split_once('L'))
            .ok_or(FrameError::Header)?;
        let (line, account) = tail.split_once('#').ok_or(FrameError::Header)?;
        let (blocks, time) = rest.rsplit_once(']').ok_or(FrameError::Data)?;
        let content = match token {
            "NULL" if blocks.is_empty() => Content::Poll,
            "SIA-DCS" => Content::Event(Event::read(blocks)?),
            _ => return Err(FrameError::Header),
        };
        let frame = Self {
            number: digits(number).ok_or(FrameError::Header)?,
            receiver: receiver.parse()?,
            line: line.parse()?,
            account: account.parse()?,
            content,
            time: read_time(time)?,
        };
        // Whatever was read must be what it is written as (no lower case, no second spelling).
        if frame.body() == text {
            Ok(frame)
        } else {
            Err(FrameError::Header)
        }
    }
}

impl fmt::Display for Event {
    /// The data block without its opening bracket, and the extended blocks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}|N", self.object)?;
        match self.place {
            Some(place) => write!(f, "ri{}/{}{:03}]", place.area, self.code, place.zone)?,
            None => write!(f, "{}]", self.code)?,
        }
        for block in &self.extended {
            write!(f, "[{}{}]", block.letter, block.text)?;
        }
        Ok(())
    }
}

impl Event {
    /// Reads the blocks between the first `[` and the last `]`.
    fn read(blocks: &str) -> Result<Self, FrameError> {
        let mut blocks = blocks.split("][");
        let data = blocks.next().ok_or(FrameError::Data)?;
        let (object, said) = data
            .strip_prefix('#')
            .and_then(|data| data.split_once("|N"))
            .ok_or(FrameError::Data)?;
        let (area, coded) = match said.strip_prefix("ri") {
            Some(rest) => {
                let (area, coded) = rest.split_once('/').ok_or(FrameError::Data)?;
                (Some(digits(area).ok_or(FrameError::Data)?), coded)
            }
            None => (None, said),
        };
        let (code, zone) = coded.split_at_checked(2).ok_or(FrameError::Data)?;
        let place = match area {
            Some(area) => Some(Place {
                area,
                zone: digits(zone).ok_or(FrameError::Data)?,
            }),
            None if zone.is_empty() => None,
            None => return Err(FrameError::Data),
        };
        Ok(Self {
            object: object.parse()?,
            code: code.parse()?,
            place,
            extended: blocks.map(Extended::read).collect::<Result<_, _>>()?,
        })
    }
}

impl Extended {
    fn read(block: &str) -> Result<Self, FrameError> {
        let mut chars = block.chars();
        let letter = chars.next().filter(char::is_ascii_uppercase);
        let text = chars.as_str();
        let plain = |c: char| !c.is_control() && c != '[' && c != ']';
        match letter {
            Some(letter) if text.chars().all(plain) => Ok(Self {
                letter,
                text: text.to_owned(),
            }),
            Some(_) | None => Err(FrameError::Data),
        }
    }
}

fn read_time(text: &str) -> Result<Option<Stamp>, FrameError> {
    match text.strip_prefix('_') {
        Some(time) => time.parse().map(Some),
        None if text.is_empty() => Ok(None),
        None => Err(FrameError::Time),
    }
}

fn digits(text: &str) -> Option<u16> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The vectors this connector speaks: SIA-DCS and polls, plain, with `R`.
    fn in_scope(name: &str) -> bool {
        name.starts_with("sia-") || matches!(name, "null-plain" | "null-plain-ts" | "wire-cn-null")
    }

    #[test]
    fn the_published_frames_come_out_byte_for_byte() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/dc09.json");
        let text = std::fs::read_to_string(file).unwrap();
        let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut seen = 0;
        for vector in vectors["vectors"].as_array().unwrap() {
            let name = vector["name"].as_str().unwrap();
            if !in_scope(name) {
                continue;
            }
            let wire = vector["text"].as_str().unwrap().as_bytes();
            let frame = Frame::decode(wire).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert_eq!(frame.encode().unwrap(), wire, "{name}");
            if let Some(code) = vector["pysiaalarm_parsed_as"]["code"].as_str() {
                let said = match &frame.content {
                    Content::Poll => "RP".to_owned(),
                    Content::Event(event) => event.code.to_string(),
                };
                assert_eq!(said, code, "{name}");
            }
            seen += 1;
        }
        assert_eq!(seen, 19);
    }

    fn fire() -> Frame {
        Frame {
            number: 16,
            receiver: "1".parse().unwrap(),
            line: "0".parse().unwrap(),
            account: "1234".parse().unwrap(),
            content: Content::Event(Event {
                object: "1234".parse().unwrap(),
                code: "FA".parse().unwrap(),
                place: Some(Place { area: 1, zone: 1 }),
                extended: vec![Extended::occurred("08:15:29,11-22-2026".parse().unwrap())],
            }),
            time: Some("08:15:30,11-22-2026".parse().unwrap()),
        }
    }

    #[test]
    fn a_fire_is_built_as_published() {
        let text = String::from_utf8(fire().encode().unwrap()).unwrap();
        assert_eq!(
            &text[5..],
            "0052\"SIA-DCS\"0016R1L0#1234[#1234|Nri1/FA001][H08:15:29,11-22-2026]_08:15:30,11-22-2026\r"
        );
    }

    #[test]
    fn a_number_has_four_digits() {
        let number = NUMBER_MAX + 1;
        let frame = Frame { number, ..fire() };
        assert_eq!(frame.encode(), Err(FrameError::Number));
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let good = fire().encode().unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Frame::decode(&bad).is_err(), "byte {at}");
        }
        let wrong_length =
            b"\nB2E90001\"SIA-DCS\"0071R1L0#1234[#1234|Nri1/FA001]_08:15:30,11-22-2026\r";
        assert_eq!(Frame::decode(wrong_length), Err(FrameError::Length));
        let without_r = b"\nEAC0003A\"SIA-DCS\"1663L0#0000[#0000|Nri1/NL501]_12:40:58,12-22-2021\r";
        assert_eq!(Frame::decode(without_r), Err(FrameError::Header));
    }

    prop_compose! {
        fn any_stamp()(second in -62_000_000_000..253_000_000_000_i64) -> Stamp {
            Stamp::at(domain::time::Timestamp::from_micros(second * 1_000_000))
        }
    }

    fn any_content() -> impl Strategy<Value = Content> {
        let place = (0..1000_u16, any::<u16>()).prop_map(|(area, zone)| Place { area, zone });
        let block = ("[A-Z]", "[ -Z^-~]{0,40}").prop_map(|(letter, text)| Extended {
            letter: letter.chars().next().unwrap(),
            text,
        });
        let event = (
            "[0-9A-F]{3,16}",
            "[A-Z]{2}",
            prop::option::of(place),
            prop::collection::vec(block, 0..4),
        );
        prop_oneof![
            Just(Content::Poll),
            event.prop_map(|(object, code, place, extended)| Content::Event(Event {
                object: object.parse().unwrap(),
                code: code.parse().unwrap(),
                place,
                extended,
            }))
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            number in 0..=NUMBER_MAX,
            prefixes in ("[0-9A-F]{1,6}", "[0-9A-F]{1,6}"),
            account in "[0-9A-F]{3,16}",
            content in any_content(),
            time in prop::option::of(any_stamp()),
        ) {
            let frame = Frame {
                number,
                receiver: prefixes.0.parse().unwrap(),
                line: prefixes.1.parse().unwrap(),
                account: account.parse().unwrap(),
                content,
                time,
            };
            prop_assert_eq!(Frame::decode(&frame.encode().unwrap()), Ok(frame));
        }

        #[test]
        fn garbage_is_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Frame::decode(&bytes).is_err());
        }

        #[test]
        fn an_enclosed_text_is_read_only_as_it_would_be_written(text in "\"(SIA-DCS|NULL)\"[0-9]{3,5}R?[0-9A-F]{0,7}L[0-9]{0,3}#?[0-9A-F]{0,5}\\[[#0-9|NriFA/\\]\\[_:,-]{0,40}") {
            let wire = enclose(&text).unwrap();
            if let Ok(frame) = Frame::decode(&wire) {
                prop_assert_eq!(frame.encode().unwrap(), wire);
            }
        }
    }
}
