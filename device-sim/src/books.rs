//! Ledgers read back and put together: what became of each message, what the streams showed, what the receivers took.

use crate::clock::Micros;
use crate::ledger::{Deed, LedgerError, Line, Received, Sent};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use uuid::Uuid;

/// A message and what became of it on its way to the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub sent: Sent,
    pub puback_at: Option<Micros>,
    /// How often it was handed over.
    pub copies: u32,
}

/// A line of a parent's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub child: Uuid,
    pub state: String,
    pub at: Micros,
}

/// All ledgers of a play, read back and put together.
#[derive(Debug, Default)]
pub struct Books {
    /// In the order of the files.
    pub entries: Vec<Entry>,
    pub seen: Vec<Seen>,
    /// By time.
    pub received: Vec<Received>,
    /// Receivers whose ledgers are here, also those that took nothing.
    pub receivers: BTreeSet<String>,
    index: BTreeMap<String, usize>,
}

impl Books {
    /// Reads every file. A last line without its end (the writer was killed in it) is passed over.
    pub fn read(paths: &[PathBuf]) -> Result<Books, LedgerError> {
        let mut books = Books::default();
        for path in paths {
            let text = std::fs::read_to_string(path).map_err(|source| LedgerError::File {
                path: path.clone(),
                source,
            })?;
            let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
            for (index, line) in whole.lines().enumerate() {
                books.add(line).map_err(|source| LedgerError::Line {
                    path: path.clone(),
                    number: index + 1,
                    source,
                })?;
            }
        }
        books.tell_changes();
        books.received.sort_by_key(|message| message.at);
        books.seen.sort_by_key(|seen| seen.at);
        Ok(books)
    }

    /// Turns told levels into changes. Some of these messages may have been lost on the way, which can only make the
    /// changes that arrived fewer.
    fn tell_changes(&mut self) {
        let mut told: Vec<&mut Sent> = self
            .entries
            .iter_mut()
            .map(|entry| &mut entry.sent)
            .collect();
        told.sort_by_key(|sent| sent.at);
        let mut last: BTreeMap<(Uuid, String, String), bool> = BTreeMap::new();
        for sent in told {
            let Deed::Level { raised } = sent.deed else {
                continue;
            };
            let point = (sent.centre, sent.device.clone(), sent.point.clone());
            if last.insert(point, raised).unwrap_or(false) != raised {
                sent.deed = if raised {
                    Deed::AlarmRaised
                } else {
                    Deed::AlarmCleared
                };
            }
        }
    }

    fn add(&mut self, line: &str) -> Result<(), serde_json::Error> {
        let value: serde_json::Value = serde_json::from_str(line)?;
        if value.get("t").is_none() {
            let message: Received = serde_json::from_value(value)?;
            self.receivers.insert(message.receiver.clone());
            self.received.push(message);
            return Ok(());
        }
        match serde_json::from_value(value)? {
            Line::Devices { run: _ } => {}
            Line::Receiver { receiver } => {
                self.receivers.insert(receiver);
            }
            Line::Sent(sent) => {
                self.index.insert(sent.id.clone(), self.entries.len());
                self.entries.push(Entry {
                    sent,
                    puback_at: None,
                    copies: 1,
                });
            }
            Line::Again { id, at: _ } => self.change(&id, |entry| entry.copies += 1),
            Line::Puback { id, at } => self.change(&id, |entry| {
                entry.puback_at.get_or_insert(at);
            }),
            Line::Seen { child, state, at } => self.seen.push(Seen { child, state, at }),
        }
        Ok(())
    }

    fn change(&mut self, id: &str, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self
            .index
            .get(id)
            .and_then(|index| self.entries.get_mut(*index))
        {
            change(entry);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::ledger::DeviceLedger;
    use crate::ledger::tests::{Scratch, sent};

    #[test]
    fn told_levels_become_changes_when_all_is_known() {
        let scratch = Scratch::new("levels");
        let path = scratch.0.join("devices.jsonl");
        let ledger = DeviceLedger::open(&path, "r").unwrap();
        for (at, raised) in [false, true, true, false, false, true]
            .into_iter()
            .enumerate()
        {
            let message = sent(&at.to_string(), Deed::Level { raised });
            ledger.handed(Sent {
                qos: 0,
                at: Micros(at as i64),
                ..message
            });
        }
        let books = Books::read(&[path]).unwrap();
        let deeds: Vec<Deed> = books
            .entries
            .into_iter()
            .map(|entry| entry.sent.deed)
            .collect();
        let level = |raised| Deed::Level { raised };
        let (raised, cleared) = (Deed::AlarmRaised, Deed::AlarmCleared);
        assert_eq!(
            deeds,
            [
                level(false),
                raised.clone(),
                level(true),
                cleared,
                level(false),
                raised
            ]
        );
    }

    #[test]
    fn a_damaged_line_is_named_by_file_and_number() {
        let scratch = Scratch::new("damaged");
        let path = scratch.0.join("devices.jsonl");
        std::fs::write(&path, "{\"t\":\"devices\",\"run\":\"r\"}\nrubbish\n").unwrap();
        let error = Books::read(&[path]).unwrap_err().to_string();
        assert!(error.contains("devices.jsonl, line 2"), "{error}");
    }
}
