//! ANSI/SIA DC-09 frames as a receiver reads and answers them: TCP stream to frames, checks, replies, and what the
//! data block says. Written from the facts of the standard alone. Plain frames only; an encrypted one is recognised,
//! not opened. Never: decides what to answer (`receiver`).

use crate::clock::Civil;
use thiserror::Error;

/// Longest run of bytes kept while waiting for the end of a frame. Beyond it the connection is given up: the body of
/// a legal frame has at most 0xFFF bytes, and ours never come near that.
pub const MAX_BUFFERED: usize = 4096;

const LF: u8 = 0x0A;
const CR: u8 = 0x0D;

/// Why bytes between LF and CR are no frame. A receiver stays silent on all of these.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("more than {MAX_BUFFERED} bytes without an end of frame")]
    TooLong,
    #[error("frame is not ASCII or has no header")]
    NoHeader,
    #[error("CRC says {said:04X}, body has {is:04X}")]
    Crc { said: u16, is: u16 },
    #[error("length says {said}, body has {is}")]
    Length { said: usize, is: usize },
    #[error("body breaks off or goes on at its {0}")]
    Shape(&'static str),
}

/// One frame whose CRC and length hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Token between the quotes without a star: `SIA-DCS`, `ADM-CID`, `NULL`, `ACK`, ...
    pub id: String,
    /// A star stood before the token; `data` then is the hex text as it came.
    pub encrypted: bool,
    /// Sequence number, 0 to 9999.
    pub number: u16,
    /// Receiver number (`R`), hex text, where the sender gave one.
    pub receiver: Option<String>,
    /// Line prefix (`L`), hex text, where the sender gave one.
    pub line: Option<String>,
    /// Account in the header (`#`); absent in a NAK (`A0`).
    pub account: Option<String>,
    /// Text of the first bracket.
    pub data: String,
    /// Text of the further brackets.
    pub extended: Vec<String>,
    /// Time of sending, Unix seconds.
    pub sent: Option<i64>,
}

/// CRC-16/ARC: polynomial 0x8005 reflected, start 0, no final xor.
pub fn crc16(body: &[u8]) -> u16 {
    body.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                crc >> 1 ^ 0xA001
            } else {
                crc >> 1
            }
        })
    })
}

/// The bytes of a frame around `body`.
pub fn wrap(body: &str) -> Vec<u8> {
    format!(
        "\n{:04X}0{:03X}{body}\r",
        crc16(body.as_bytes()),
        body.len()
    )
    .into_bytes()
}

/// `HH:MM:SS,MM-DD-YYYY` of Unix seconds.
pub fn stamp(unix: i64) -> String {
    let at = Civil::of(unix);
    format!(
        "{:02}:{:02}:{:02},{:02}-{:02}-{:04}",
        at.hour, at.minute, at.second, at.month, at.day, at.year
    )
}

/// "Taken": the numbers of `frame` sent back (`ACK`), or "taken whole, cannot be processed" (`DUH`).
pub fn echo(token: &str, frame: &Frame) -> Vec<u8> {
    let part = |mark: &str, text: &Option<String>| {
        text.as_ref()
            .map_or(String::new(), |text| format!("{mark}{text}"))
    };
    let receiver = part("R", &frame.receiver);
    let line = part("L", &frame.line);
    let account = part("#", &frame.account);
    wrap(&format!(
        "\"{token}\"{:04}{receiver}{line}{account}[]",
        frame.number
    ))
}

/// "Your clock is wrong": carries the receiver's own clock.
pub fn nak(unix: i64) -> Vec<u8> {
    wrap(&format!("\"NAK\"0000R0L0A0[]_{}", stamp(unix)))
}

/// Collects the bytes of one connection and cuts them into frames.
#[derive(Debug, Default)]
pub struct Stream {
    buffered: Vec<u8>,
}

impl Stream {
    /// Takes bytes as they came; yields every frame that is complete now. Bytes outside LF..CR are skipped, an LF
    /// inside a frame starts it anew. After `TooLong` nothing is kept.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Result<Frame, FrameError>> {
        let mut frames = Vec::new();
        for byte in bytes {
            match *byte {
                LF => {
                    self.buffered.clear();
                    self.buffered.push(LF);
                }
                CR if self.buffered.first() == Some(&LF) => {
                    frames.push(parse(&self.buffered[1..]));
                    self.buffered.clear();
                }
                other if self.buffered.first() == Some(&LF) => self.buffered.push(other),
                _outside => {}
            }
            if self.buffered.len() > MAX_BUFFERED {
                self.buffered.clear();
                frames.push(Err(FrameError::TooLong));
            }
        }
        frames
    }
}

/// Reads the bytes between LF and CR.
pub fn parse(bytes: &[u8]) -> Result<Frame, FrameError> {
    let text = std::str::from_utf8(bytes)
        .ok()
        .filter(|text| text.is_ascii())
        .ok_or(FrameError::NoHeader)?;
    let (header, body) = text.split_at_checked(8).ok_or(FrameError::NoHeader)?;
    let said_crc = u16::from_str_radix(&header[..4], 16).map_err(|_| FrameError::NoHeader)?;
    let said_len = usize::from_str_radix(&header[4..], 16).map_err(|_| FrameError::NoHeader)?;
    let crc = crc16(body.as_bytes());
    if said_crc != crc {
        return Err(FrameError::Crc {
            said: said_crc,
            is: crc,
        });
    }
    if said_len != body.len() {
        return Err(FrameError::Length {
            said: said_len,
            is: body.len(),
        });
    }
    parse_body(body)
}

fn parse_body(body: &str) -> Result<Frame, FrameError> {
    let quoted = body.strip_prefix('"').ok_or(FrameError::Shape("id"))?;
    let (token, rest) = quoted.split_once('"').ok_or(FrameError::Shape("id"))?;
    let (id, encrypted) = token
        .strip_prefix('*')
        .map_or((token, false), |id| (id, true));
    let (digits, rest) = rest
        .split_at_checked(4)
        .ok_or(FrameError::Shape("number"))?;
    let number = digits
        .parse::<u16>()
        .map_err(|_| FrameError::Shape("number"))?;
    let (head, rest) = rest.split_once('[').ok_or(FrameError::Shape("bracket"))?;
    let (receiver, head) = hex_after(head, 'R');
    let (line, head) = hex_after(head, 'L');
    let (account, head) = hex_after(head, '#');
    if !matches!(head, "" | "A0") {
        return Err(FrameError::Shape("account"));
    }
    let mut frame = Frame {
        id: id.to_owned(),
        encrypted,
        number,
        receiver,
        line,
        account,
        data: rest.to_owned(),
        extended: Vec::new(),
        sent: None,
    };
    if encrypted {
        return Ok(frame);
    }
    let (data, mut rest) = rest.split_once(']').ok_or(FrameError::Shape("data"))?;
    frame.data = data.to_owned();
    while let Some(block) = rest.strip_prefix('[') {
        let (text, after) = block
            .split_once(']')
            .ok_or(FrameError::Shape("extended data"))?;
        frame.extended.push(text.to_owned());
        rest = after;
    }
    if let Some(text) = rest.strip_prefix('_') {
        frame.sent = Some(parse_stamp(text).ok_or(FrameError::Shape("time"))?);
    } else if !rest.is_empty() {
        return Err(FrameError::Shape("end"));
    }
    Ok(frame)
}

/// The hex text after `mark`, and what follows it.
fn hex_after(text: &str, mark: char) -> (Option<String>, &str) {
    let Some(after) = text.strip_prefix(mark) else {
        return (None, text);
    };
    let end = after
        .find(|c: char| !c.is_ascii_hexdigit())
        .unwrap_or(after.len());
    (Some(after[..end].to_owned()), &after[end..])
}

fn parse_stamp(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let civil = Civil {
        hour: number(0..2)?,
        minute: number(3..5)?,
        second: number(6..8)?,
        month: number(9..11)?,
        day: number(12..14)?,
        year: number(15..19)?,
    };
    let unix = civil.unix()?;
    (stamp(unix) == text).then_some(unix)
}

/// What a message tells an agency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Somebody pressed a button: PA, HA; Contact-ID 120 to 123.
    Panic,
    /// Fire in any form: FA, KA, GA; Contact-ID 110 to 118, 151.
    Fire,
    /// What was told before is called off: BC, FC; Contact-ID 406.
    Cancel,
    /// Anything else: restorals, troubles, tests.
    Other,
}

/// A data block that could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// What it means.
    pub meaning: Meaning,
    /// The zone named, where one is.
    pub zone: Option<u16>,
}

/// Reads the first bracket of a SIA-DCS or ADM-CID frame: `#acct|Nri1/PA007`, `#acct|1120 01 007`. `None` when it is
/// neither.
pub fn report(data: &str) -> Option<Report> {
    let block = data.split_once('|').map_or(data, |(_, block)| block);
    contact_id(block).or_else(|| dc03(block))
}

fn contact_id(block: &str) -> Option<Report> {
    let mut parts = block.split(' ');
    let (code, _partition, zone) = (parts.next()?, parts.next()?, parts.next()?);
    let code = code.parse::<u16>().ok().filter(|_| code.len() == 4)?;
    let meaning = match code {
        1120..=1123 => Meaning::Panic,
        1110..=1118 | 1151 => Meaning::Fire,
        1406 => Meaning::Cancel,
        _other => Meaning::Other,
    };
    Some(Report {
        meaning,
        zone: zone.get(..3).and_then(|zone| zone.parse().ok()),
    })
}

fn dc03(block: &str) -> Option<Report> {
    let event = block
        .strip_prefix('N')
        .or_else(|| block.strip_prefix('O'))?;
    let plain = event.split('^').next().unwrap_or(event);
    let address = plain.rsplit('/').next().unwrap_or(plain);
    let meaning = match address.get(..2)? {
        "PA" | "HA" => Meaning::Panic,
        "FA" | "KA" | "GA" => Meaning::Fire,
        "BC" | "FC" => Meaning::Cancel,
        _other => Meaning::Other,
    };
    Some(Report {
        meaning,
        zone: address.get(2..).and_then(|zone| zone.parse().ok()),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn vectors() -> Vec<Value> {
        let file = include_str!("../../tests/fixtures/dc09.json");
        let all: Value = serde_json::from_str(file).unwrap();
        all["vectors"].as_array().unwrap().clone()
    }

    #[test]
    fn crc_has_the_published_check_value() {
        assert_eq!(crc16(b"123456789"), 0xBB3D);
    }

    #[test]
    fn every_vector_is_read_or_refused_as_it_says() {
        for vector in vectors() {
            let name = vector["name"].as_str().unwrap();
            let text = vector["text"].as_str().unwrap();
            let frames = Stream::default().push(text.as_bytes());
            assert_eq!(frames.len(), 1, "{name}");
            match (
                vector["crc_ok"].as_bool().unwrap(),
                vector["length_ok"].as_bool().unwrap(),
            ) {
                (true, true) => {
                    let frame = frames[0]
                        .as_ref()
                        .unwrap_or_else(|error| panic!("{name}: {error}"));
                    let body = &text[9..text.len() - 1];
                    assert_eq!(wrap(body), text.as_bytes(), "{name}");
                    assert_eq!(frame.encrypted, body.starts_with("\"*"), "{name}");
                    assert!(body.contains(&format!("\"{:04}", frame.number)), "{name}");
                    assert_eq!(frame.account.is_none(), body.contains("A0["), "{name}");
                    assert_eq!(frame.sent.is_some(), body.contains("]_"), "{name}");
                }
                (false, _) => assert!(matches!(frames[0], Err(FrameError::Crc { .. })), "{name}"),
                (true, false) => assert!(
                    matches!(frames[0], Err(FrameError::Length { .. })),
                    "{name}"
                ),
            }
        }
    }

    #[test]
    fn our_ack_is_the_one_a_known_receiver_sends() {
        let (mut compared, mut plain) = (0, 0);
        for vector in vectors() {
            let Some(known) = vector["replies"]["iobroker.sia-2.0.4"].as_str() else {
                continue;
            };
            let frame = Stream::default()
                .push(vector["text"].as_str().unwrap().as_bytes())
                .remove(0);
            let Ok(frame) = frame else { continue };
            plain += usize::from(!frame.encrypted);
            if known.contains("\"ACK\"") {
                assert_eq!(String::from_utf8(echo("ACK", &frame)).unwrap(), known);
                compared += 1;
            }
        }
        assert!(compared >= 40, "only {compared} of {plain} compared");
    }

    #[test]
    fn a_frame_cut_anywhere_and_two_in_one_are_the_same_frames() {
        let one = wrap("\"SIA-DCS\"0003R1L0#1234[#1234|Nri1/PA007]_08:15:30,11-22-2026");
        let two = wrap("\"NULL\"0000R1L0#1234[]");
        let both = [one, two].concat();
        for cut in 0..both.len() {
            let mut stream = Stream::default();
            let mut frames = stream.push(&both[..cut]);
            frames.extend(stream.push(&both[cut..]));
            let ids: Vec<String> = frames.into_iter().map(|frame| frame.unwrap().id).collect();
            assert_eq!(ids, ["SIA-DCS", "NULL"], "cut at {cut}");
        }
    }

    #[test]
    fn rubbish_is_skipped_and_an_endless_frame_is_given_up() {
        let mut stream = Stream::default();
        assert!(stream.push(b"rubbish\r\r without a start").is_empty());
        let mut endless = vec![b'\n'];
        endless.resize(2 * MAX_BUFFERED, b'x');
        assert_eq!(stream.push(&endless), [Err(FrameError::TooLong)]);
        assert!(stream.push(&wrap("\"NULL\"0000R1L0#1234[]"))[0].is_ok());
        let mut twice = b"\nB12B003C\"SIA-D".to_vec();
        twice.extend(wrap("\"NULL\"0000R1L0#1234[]"));
        assert!(
            Stream::default().push(&twice)[0].is_ok(),
            "a new LF starts anew"
        );
    }

    #[test]
    fn bodies_that_break_off_are_refused_without_panic() {
        let body = "\"SIA-DCS\"0016R1L0#1234[#1234|Nri1/FA001][RNap room 2]_08:15:30,11-22-2026";
        for end in 0..body.len() {
            let frame = Stream::default().push(&wrap(&body[..end])).remove(0);
            let whole = frame.is_ok();
            assert_eq!(whole, body[..end].ends_with(']'), "{}", &body[..end]);
        }
        assert!(
            Stream::default().push(&wrap("\"NULL\"0000R1L0#1234[]_25:15:30,11-22-2026"))[0]
                .is_err()
        );
    }

    #[test]
    fn data_blocks_say_what_they_mean() {
        let cases = [
            ("#1234|Nri1/PA007", Meaning::Panic, Some(7)),
            (
                "#1234|Nti08:15/ri1/FA023^Nap room^",
                Meaning::Fire,
                Some(23),
            ),
            ("#1234|1120 01 007", Meaning::Panic, Some(7)),
            ("#1234|1111 01 002", Meaning::Fire, Some(2)),
            ("#1234|Nri1/BC007", Meaning::Cancel, Some(7)),
            ("#1234|1406 01 007", Meaning::Cancel, Some(7)),
            ("#1234|3110 01 001", Meaning::Other, Some(1)),
            ("#1234|Nri1/PH007", Meaning::Other, Some(7)),
            ("#1234|NAT", Meaning::Other, None),
        ];
        for (data, meaning, zone) in cases {
            assert_eq!(report(data), Some(Report { meaning, zone }), "{data}");
        }
        assert_eq!(report("#1234|?"), None);
        assert_eq!(report(""), None);
    }

    #[test]
    fn nak_carries_our_clock() {
        let known = "\n73330025\"NAK\"0000R0L0A0[]_01:51:24,11-22-2026\r";
        let vector = vectors()
            .into_iter()
            .find(|vector| vector["name"] == "neg-bad-crc")
            .unwrap();
        assert_eq!(
            vector["replies"]["iobroker.sia-2.0.4"], known,
            "vector file changed"
        );
        let at = parse_stamp("01:51:24,11-22-2026").unwrap();
        assert_eq!(String::from_utf8(nak(at)).unwrap(), known);
    }
}
