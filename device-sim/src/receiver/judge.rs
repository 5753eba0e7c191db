//! What is answered to a frame, and what counts as the same message come again. Pure.

use crate::clock::Micros;
use crate::dc09::{self, Frame};
use std::collections::VecDeque;
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

/// A message may be this much older than the receiver's clock; else NAK. (DC-09 as receivers in the field apply it.)
const MAX_AGE_S: i64 = 40;

/// A message may be this much ahead of the receiver's clock; else NAK.
const MAX_AHEAD_S: i64 = 20;

/// The same (account, number, data) within this time is the same message come again. Later it is a new one: numbers
/// go round after 9999.
const REPEAT_WITHIN: Duration = Duration::from_secs(300);

/// Most messages remembered for [`REPEAT_WITHIN`]; the oldest is forgotten first.
const REMEMBERED: usize = 10_000;

/// How a listener answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manner {
    /// As the standard says.
    #[default]
    Proper,
    /// Takes the message and says nothing.
    Mute,
    /// Takes nothing, answers NAK.
    Nak,
    /// Takes nothing, answers DUH.
    Duh,
    /// Takes the message and closes the connection instead of answering.
    Close,
    /// Takes the message and answers rubbish.
    Garbled,
}

/// All faults of one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    pub manner: Manner,
    /// Each answer waits this long.
    pub delay: Duration,
    /// Seconds the receiver's clock is ahead.
    pub skew_s: i64,
}

/// A fault nobody knows.
#[derive(Debug, Error)]
#[error("unknown fault {0}: one of mute, nak, duh, close, garbled, delay=MS, skew=S")]
pub struct UnknownFault(String);

impl FromStr for Faults {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Faults, UnknownFault> {
        let mut faults = Faults::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            let unknown = || UnknownFault(word.to_owned());
            match word.split_once('=') {
                None => {
                    faults.manner = match word {
                        "mute" => Manner::Mute,
                        "nak" => Manner::Nak,
                        "duh" => Manner::Duh,
                        "close" => Manner::Close,
                        "garbled" => Manner::Garbled,
                        _other => return Err(unknown()),
                    }
                }
                Some(("delay", ms)) => {
                    faults.delay = Duration::from_millis(ms.parse().map_err(|_| unknown())?)
                }
                Some(("skew", seconds)) => {
                    faults.skew_s = seconds.parse().map_err(|_| unknown())?
                }
                Some(_) => return Err(unknown()),
            }
        }
        Ok(faults)
    }
}

/// What is done with a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The message is taken: it goes into the ledger first.
    pub(super) take: bool,
    /// Bytes of the answer, if any.
    pub(super) answer: Option<Vec<u8>>,
    pub(super) close: bool,
}

/// Decides about a frame. Pure.
pub(super) fn judge(frame: &Frame, faults: &Faults, unix: i64) -> Verdict {
    let unix = unix + faults.skew_s;
    let refuse = |answer| Verdict {
        take: false,
        answer: Some(answer),
        close: false,
    };
    let known =
        matches!(frame.id.as_str(), "SIA-DCS" | "ADM-CID" | "NULL") && frame.account.is_some();
    if faults.manner == Manner::Nak {
        return refuse(dc09::nak(unix));
    }
    if frame.encrypted || !known || faults.manner == Manner::Duh {
        return refuse(dc09::echo("DUH", frame));
    }
    if frame
        .sent
        .is_some_and(|sent| unix - sent > MAX_AGE_S || sent - unix > MAX_AHEAD_S)
    {
        return refuse(dc09::nak(unix));
    }
    let ack = dc09::echo("ACK", frame);
    let (answer, close) = match faults.manner {
        Manner::Mute => (None, false),
        Manner::Close => (None, true),
        Manner::Garbled => (Some(ack.iter().map(|byte| byte ^ 0x11).collect()), false),
        Manner::Proper | Manner::Nak | Manner::Duh => (Some(ack), false),
    };
    Verdict {
        take: frame.id != "NULL",
        answer,
        close,
    }
}

/// What was taken lately, for the mark "repeat". Pure.
#[derive(Debug, Default)]
pub(super) struct Memory {
    lately: VecDeque<(String, u16, String, Micros)>,
}

impl Memory {
    /// Notes a message; true when it came before.
    pub(super) fn note(&mut self, account: &str, number: u16, data: &str, at: Micros) -> bool {
        while self
            .lately
            .front()
            .is_some_and(|(.., then)| then.plus(REPEAT_WITHIN) < at)
        {
            self.lately.pop_front();
        }
        let same = |(a, n, d, _): &(String, u16, String, Micros)| {
            a == account && *n == number && d == data
        };
        if self.lately.iter().any(same) {
            return true;
        }
        self.lately
            .push_back((account.to_owned(), number, data.to_owned(), at));
        if self.lately.len() > REMEMBERED {
            self.lately.pop_front();
        }
        false
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_335_330;

    fn frame(body: &str) -> Frame {
        dc09::parse(&dc09::wrap(body)[1..][..body.len() + 8]).unwrap()
    }

    fn panic_sent_at(unix: i64) -> Frame {
        frame(&format!(
            "\"SIA-DCS\"0003R1L0#1234[#1234|Nri1/PA007]_{}",
            dc09::stamp(unix)
        ))
    }

    fn text(verdict: &Verdict) -> String {
        String::from_utf8_lossy(verdict.answer.as_deref().unwrap_or_default()).into_owned()
    }

    #[test]
    fn the_time_window_is_kept() {
        for (age, taken) in [
            (0, true),
            (40, true),
            (41, false),
            (-20, true),
            (-21, false),
        ] {
            let verdict = judge(&panic_sent_at(NOW - age), &Faults::default(), NOW);
            assert_eq!(verdict.take, taken, "age {age}");
            assert_eq!(text(&verdict).contains("\"NAK\""), !taken, "age {age}");
        }
        let skewed = judge(
            &panic_sent_at(NOW),
            &Faults {
                skew_s: 100,
                ..Faults::default()
            },
            NOW,
        );
        assert!(
            text(&skewed).contains(&dc09::stamp(NOW + 100)),
            "NAK carries the receiver's own clock"
        );
    }

    #[test]
    fn each_manner_answers_in_its_way() {
        let judged = |manner| {
            judge(
                &panic_sent_at(NOW),
                &Faults {
                    manner,
                    ..Faults::default()
                },
                NOW,
            )
        };
        let proper = judged(Manner::Proper);
        assert!(proper.take && text(&proper).contains("\"ACK\"0003R1L0#1234[]"));
        assert_eq!(
            judged(Manner::Mute),
            Verdict {
                take: true,
                answer: None,
                close: false
            }
        );
        assert_eq!(
            judged(Manner::Close),
            Verdict {
                take: true,
                answer: None,
                close: true
            }
        );
        assert!(!judged(Manner::Nak).take && text(&judged(Manner::Nak)).contains("NAK"));
        assert!(!judged(Manner::Duh).take && text(&judged(Manner::Duh)).contains("DUH"));
        assert!(judged(Manner::Garbled).take && !text(&judged(Manner::Garbled)).contains("ACK"));
    }

    #[test]
    fn polls_are_answered_and_not_written_down() {
        let verdict = judge(&frame("\"NULL\"0000R1L0#1234[]"), &Faults::default(), NOW);
        assert!(!verdict.take && text(&verdict).contains("\"ACK\"0000"));
        let unknown = judge(
            &frame("\"HENG-BO\"0000R1L0#1234[]"),
            &Faults::default(),
            NOW,
        );
        assert!(text(&unknown).contains("DUH"));
    }

    #[test]
    fn a_repeat_is_told_by_account_number_and_data_for_a_while() {
        let mut memory = Memory::default();
        assert!(!memory.note("1234", 1, "x", Micros(0)));
        assert!(memory.note("1234", 1, "x", Micros(1)));
        assert!(!memory.note("1234", 2, "x", Micros(1)));
        assert!(!memory.note("1235", 1, "x", Micros(1)));
        assert!(!memory.note("1234", 1, "y", Micros(1)));
        assert!(!memory.note(
            "1234",
            1,
            "x",
            Micros(0).plus(REPEAT_WITHIN).plus(Duration::from_secs(1))
        ));
    }

    #[test]
    fn faults_are_read_from_words() {
        let faults: Faults = "mute,delay=500,skew=-60".parse().unwrap();
        assert_eq!(
            faults,
            Faults {
                manner: Manner::Mute,
                delay: Duration::from_millis(500),
                skew_s: -60
            }
        );
        assert!("loud".parse::<Faults>().is_err() && "delay=x".parse::<Faults>().is_err());
    }
}
