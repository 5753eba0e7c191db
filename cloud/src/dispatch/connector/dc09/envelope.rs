//! What every SIA DC-09 message consists of: LF, checksum, length, body, CR; accounts, prefixes, time.
//!
//! Owns the outermost bytes (SIA DC-09 clause 5.5). Pure; knows nothing of events and replies.

use std::fmt;
use std::str::FromStr;

use domain::time::Timestamp;

/// Longest body (from the opening quote to the byte before CR): what three hex digits can count.
/// A longer one is refused when it is made.
pub const BODY_MAX: usize = 0x0FFF;

const LF: u8 = b'\n';
const CR: u8 = b'\r';

/// CRC-16/ARC: polynomial 0x8005 reflected, start 0, no final xor. The table is generated, because
/// the one printed in the older DC-07 has a wrong entry.
const CRC_TABLE: [u16; 256] = {
    let mut table = [0_u16; 256];
    let mut index = 0;
    while index < table.len() {
        let mut crc = index as u16;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0xA001 * (crc & 1));
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

/// The checksum of a body.
#[must_use]
pub fn crc(body: &[u8]) -> u16 {
    body.iter().fold(0, |crc, byte| {
        CRC_TABLE[usize::from((crc as u8) ^ byte)] ^ (crc >> 8)
    })
}

/// Why bytes are no frame of ours, or a frame cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// An account is 3 to 16 hex digits.
    #[error("an account is 3 to 16 hex digits")]
    Account,
    /// A receiver number or line is 1 to 6 hex digits.
    #[error("a receiver number or line is 1 to 6 hex digits")]
    Prefix,
    /// A sequence number has four digits.
    #[error("a sequence number is 0 to 9999")]
    Number,
    /// The body is longer than its length field can say.
    #[error("the body is longer than {BODY_MAX} bytes")]
    TooLong,
    /// LF, checksum, length and CR do not stand where they must.
    #[error("not enclosed as a frame")]
    Envelope,
    /// The checksum differs.
    #[error("wrong checksum")]
    Crc,
    /// The length differs.
    #[error("wrong length")]
    Length,
    /// Token, number, receiver, line or account cannot be read.
    #[error("unreadable header")]
    Header,
    /// The data block or an extended block cannot be read.
    #[error("unreadable data")]
    Data,
    /// The time cannot be read.
    #[error("unreadable time")]
    Time,
}

/// A transmitter's or protected object's account: 3 to 16 hex digits, upper case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account(String);

/// Receiver number (`R`) or account prefix (`L`): 1 to 6 hex digits, upper case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prefix(String);

fn hex_word(text: &str, lengths: std::ops::RangeInclusive<usize>) -> Option<String> {
    (lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| text.to_ascii_uppercase())
}

impl FromStr for Account {
    type Err = FrameError;
    fn from_str(text: &str) -> Result<Self, FrameError> {
        hex_word(text, 3..=16).map(Self).ok_or(FrameError::Account)
    }
}

impl FromStr for Prefix {
    type Err = FrameError;
    fn from_str(text: &str) -> Result<Self, FrameError> {
        hex_word(text, 1..=6).map(Self).ok_or(FrameError::Prefix)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A second in UTC, written `HH:MM:SS,MM-DD-YYYY`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Stamp {
    second: i64,
}

impl Stamp {
    /// 0001-01-01T00:00:00Z: earlier instants are written as this one.
    const FIRST: i64 = -62_135_596_800;
    /// 9999-12-30T00:00:00Z: later instants are written as this one.
    const LAST: i64 = 253_402_128_000;

    /// The second an instant lies in.
    #[must_use]
    pub fn at(instant: Timestamp) -> Self {
        let second = instant.micros().div_euclid(1_000_000);
        Self {
            second: second.clamp(Self::FIRST, Self::LAST),
        }
    }

    /// Its first instant.
    #[must_use]
    pub fn instant(self) -> Timestamp {
        Timestamp::from_micros(self.second.saturating_mul(1_000_000))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = jiff::Timestamp::from_second(self.second).map_err(|_| fmt::Error)?;
        let utc = instant.to_zoned(jiff::tz::TimeZone::UTC);
        write!(
            f,
            "{:02}:{:02}:{:02},{:02}-{:02}-{:04}",
            utc.hour(),
            utc.minute(),
            utc.second(),
            utc.month(),
            utc.day(),
            utc.year()
        )
    }
}

impl FromStr for Stamp {
    type Err = FrameError;
    fn from_str(text: &str) -> Result<Self, FrameError> {
        let bytes = text.as_bytes();
        let shape = b"00:00:00,00-00-0000";
        let fits = bytes.len() == shape.len()
            && bytes.iter().zip(shape).all(|(byte, want)| match want {
                b'0' => byte.is_ascii_digit(),
                mark => byte == mark,
            });
        if !fits {
            return Err(FrameError::Time);
        }
        let part = |at: usize, len: usize| {
            let digits = &bytes[at..at + len];
            digits
                .iter()
                .fold(0_i16, |sum, digit| sum * 10 + i16::from(digit - b'0'))
        };
        let small = |at| i8::try_from(part(at, 2)).map_err(|_| FrameError::Time);
        let civil = jiff::civil::DateTime::new(
            part(15, 4),
            small(9)?,
            small(12)?,
            small(0)?,
            small(3)?,
            small(6)?,
            0,
        )
        .map_err(|_| FrameError::Time)?;
        let zoned = civil
            .to_zoned(jiff::tz::TimeZone::UTC)
            .map_err(|_| FrameError::Time)?;
        Ok(Self {
            second: zoned.timestamp().as_second(),
        })
    }
}

/// LF, checksum, length, body, CR.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn enclose(body: &str) -> Result<Vec<u8>, FrameError> {
    if body.len() > BODY_MAX {
        return Err(FrameError::TooLong);
    }
    let sum = crc(body.as_bytes());
    Ok(format!("\n{sum:04X}{:04X}{body}\r", body.len()).into_bytes())
}

/// The body of a frame whose checksum and length are right.
pub fn opened(bytes: &[u8]) -> Result<&str, FrameError> {
    let inner = bytes
        .strip_prefix(&[LF])
        .and_then(|rest| rest.strip_suffix(&[CR]))
        .ok_or(FrameError::Envelope)?;
    let text = std::str::from_utf8(inner).map_err(|_| FrameError::Envelope)?;
    let (sum, rest) = text.split_at_checked(4).ok_or(FrameError::Envelope)?;
    let (length, body) = rest.split_at_checked(4).ok_or(FrameError::Envelope)?;
    if sum != format!("{:04X}", crc(body.as_bytes())) {
        return Err(FrameError::Crc);
    }
    if body.len() > BODY_MAX || length != format!("{:04X}", body.len()) {
        return Err(FrameError::Length);
    }
    Ok(body)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_checksum_has_its_check_value() {
        assert_eq!(crc(b"123456789"), 0xBB3D);
        // The 101st entry, misprinted in DC-07.
        assert_eq!(CRC_TABLE[100], 0xEB01);
    }

    #[test]
    fn what_does_not_fit_the_length_field_is_not_sent() {
        assert_eq!(enclose(&"x".repeat(BODY_MAX + 1)), Err(FrameError::TooLong));
        assert!(enclose(&"x".repeat(BODY_MAX)).is_ok());
    }

    #[test]
    fn accounts_and_prefixes_are_hex_of_the_right_length() {
        for bad in ["12", "12345678901234567", "12G4", "", "1234]"] {
            assert_eq!(bad.parse::<Account>(), Err(FrameError::Account), "{bad}");
        }
        assert_eq!("a1b2".parse::<Account>().unwrap().to_string(), "A1B2");
        for bad in ["", "1234567", "x"] {
            assert_eq!(bad.parse::<Prefix>(), Err(FrameError::Prefix), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_stamp_is_the_second_of_its_instant(
            micros in -62_135_596_800_000_000..253_402_128_000_000_000_i64,
        ) {
            let instant = Timestamp::from_micros(micros);
            let stamp = Stamp::at(instant);
            prop_assert_eq!(stamp.to_string().parse::<Stamp>(), Ok(stamp));
            prop_assert!(instant.since(stamp.instant()) < std::time::Duration::from_secs(1));
        }

        #[test]
        fn no_instant_is_too_far_to_be_written(micros in any::<i64>()) {
            let stamp = Stamp::at(Timestamp::from_micros(micros));
            prop_assert_eq!(stamp.to_string().parse::<Stamp>(), Ok(stamp));
        }
    }
}
