//! Box PINs: which digits are good enough for the page of a box.
//!
//! A box lets nobody try many, so the few that a stranger tries first are refused here. Never keeps one.

/// Fewest digits.
pub const PIN_MIN: usize = 6;
/// Most digits.
pub const PIN_MAX: usize = 12;
/// Fewest different digits.
const DIFFERENT_MIN: usize = 3;
/// What strangers try first beyond runs and repeats: rows of the keypad, numbers everyone knows.
const COMMON: &[&str] = &[
    "112233",
    "159357",
    "147258",
    "258369",
    "147369",
    "159753",
    "789456",
    "456123",
    "789123",
    "131452",
    "201314",
    "110119",
    "119120",
    "110120",
    "102030",
    "147852",
    "142536",
    "5201314",
    "1314520",
    "12345679",
    "147258369",
    "11223344",
];

/// Why digits are no PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PinFault {
    /// Too short, too long, or not digits.
    #[error("must be a text of {PIN_MIN} to {PIN_MAX} digits")]
    NotDigits,
    /// What strangers try first.
    #[error(
        "must not be easily guessed: no runs such as 123456, no repeats such as 121212, at least 3 different digits"
    )]
    Guessable,
}

/// Whether these digits may be a PIN.
///
/// # Errors
/// Says what would be right.
pub fn check_pin(pin: &str) -> Result<(), PinFault> {
    let digits = pin.as_bytes();
    let is_long = (PIN_MIN..=PIN_MAX).contains(&digits.len());
    if !is_long || !digits.iter().all(u8::is_ascii_digit) {
        return Err(PinFault::NotDigits);
    }
    let different = (b'0'..=b'9').filter(|d| digits.contains(d)).count();
    let guessable = different < DIFFERENT_MIN
        || is_run(digits, 1)
        || is_run(digits, 9)
        || is_repeat(digits)
        || COMMON.contains(&pin);
    if guessable {
        return Err(PinFault::Guessable);
    }
    Ok(())
}

/// Each digit is the one before plus `step`, 9 followed by 0.
fn is_run(digits: &[u8], step: u8) -> bool {
    let follows = |pair: &[u8]| (pair[0] - b'0' + step) % 10 == pair[1] - b'0';
    digits.windows(2).all(follows)
}

/// A shorter group, said again and again.
fn is_repeat(digits: &[u8]) -> bool {
    let said_again = |n: usize| digits.iter().zip(&digits[n..]).all(|(a, b)| a == b);
    (1..=digits.len() / 2).any(said_again)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_long_and_guessable_ones_are_refused() {
        for pin in [
            "",
            "12345",
            "4938171234567",
            "49381a",
            "４９３８１７",
            "493 817",
        ] {
            assert_eq!(check_pin(pin), Err(PinFault::NotDigits), "{pin}");
        }
        for pin in [
            "000000",
            "111111",
            "123456",
            "654321",
            "012345",
            "890123",
            "210987",
            "121212",
            "123123",
            "1231231",
            "112112",
            "110119",
            "122112",
            "1234567890",
        ] {
            assert_eq!(check_pin(pin), Err(PinFault::Guessable), "{pin}");
        }
        for pin in ["493817", "102938", "493817493816"] {
            assert_eq!(check_pin(pin), Ok(()), "{pin}");
        }
    }
}
