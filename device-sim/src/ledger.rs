//! The simulator's own books: what was handed to whom, what was acknowledged, what a receiver took, what a parent's
//! stream showed. One JSON object a line, appended as it happens, so the file is whole even if the writer is killed.
//!
//! Owns: the line formats and the writing. Never: reads back (`books`) or judges (`count`).

use crate::clock::Micros;
use crate::town::Passage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;
use uuid::Uuid;

/// What a message stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "deed", rename_all = "snake_case")]
pub enum Deed {
    /// A panic button was pressed.
    Press,
    /// A level point went into alarm.
    AlarmRaised,
    /// A level point came out of alarm.
    AlarmCleared,
    /// A card was granted at a reader; the children its holder may bring or fetch.
    Tap {
        holder: Uuid,
        children: Vec<Uuid>,
        passage: Passage,
    },
    /// A bridge told the level of a detector, new or not. Reading the books turns those that are new into
    /// `AlarmRaised` or `AlarmCleared`: only then is it known what was handed over before.
    Level { raised: bool },
    /// Doors, batteries, refused cards: no view of the API shows them one by one.
    Background,
    /// Damaged on purpose: must do no harm.
    Damaged,
}

/// A message handed to the socket for the first time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The device's own id of the message; unique over all messages of all runs. A QoS 0 message of a bridge carries
    /// no id on the wire: then it is known to this ledger only.
    pub id: String,
    pub centre: Uuid,
    pub device: String,
    pub point: String,
    pub kind: String,
    #[serde(flatten)]
    pub deed: Deed,
    pub qos: u8,
    /// The path was broken on purpose, so its time is no figure of the product.
    pub excluded: bool,
    pub at: Micros,
}

/// A message as a receiver took it: the published line of `antuo-sim receiver`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    pub receiver: String,
    pub account: String,
    pub number: u16,
    /// `SIA-DCS`, `ADM-CID`, ...
    pub id: String,
    pub data: String,
    /// The instant before the reply was written (or withheld).
    pub at: Micros,
    /// The same (account, number, data) came before, within a few minutes.
    pub repeat: bool,
}

/// A line that is not a receiver's message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum Line {
    /// Head of a ledger of devices.
    Devices {
        run: String,
    },
    /// Head of a ledger of a receiver.
    Receiver {
        receiver: String,
    },
    Sent(Sent),
    /// The same message handed over once more: a resend after a lost connection, or a duplicate on purpose.
    Again {
        id: String,
        at: Micros,
    },
    Puback {
        id: String,
        at: Micros,
    },
    /// A parent's stream showed this child in this state.
    Seen {
        child: Uuid,
        state: String,
        at: Micros,
    },
}

/// Why books could not be kept or read.
#[derive(Debug, Error)]
pub enum LedgerError {
    #[error("ledger {path}: {source}")]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("ledger {path}, line {number}: not a ledger line: {source}")]
    Line {
        path: PathBuf,
        number: usize,
        source: serde_json::Error,
    },
}

/// An append-only file of lines. A line is written by one call, before the caller goes on.
#[derive(Debug)]
pub struct LineFile {
    path: PathBuf,
    file: File,
}

impl LineFile {
    /// Opens or makes the file.
    pub fn append_to(path: &Path) -> Result<LineFile, LedgerError> {
        let open = || {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            OpenOptions::new().create(true).append(true).open(path)
        };
        let file = open().map_err(|source| LedgerError::File {
            path: path.to_owned(),
            source,
        })?;
        Ok(LineFile {
            path: path.to_owned(),
            file,
        })
    }

    /// Appends one line.
    pub fn write(&mut self, line: &impl Serialize) -> Result<(), LedgerError> {
        let write = || {
            let mut text = serde_json::to_vec(line)?;
            text.push(b'\n');
            (&self.file).write_all(&text)
        };
        write().map_err(|source| LedgerError::File {
            path: self.path.clone(),
            source,
        })
    }
}

/// The devices' ledger while they play: shared by all publishers of a run.
#[derive(Debug, Clone)]
pub struct DeviceLedger(Arc<Mutex<Open>>);

#[derive(Debug)]
struct Open {
    file: LineFile,
    /// Every id handed over so far.
    known: BTreeSet<String>,
    /// Handed over at QoS 1 and not acknowledged, by id.
    outstanding: BTreeSet<String>,
    /// The first failure to write; reported at the end, for a play without books proves nothing.
    failed: Option<LedgerError>,
}

impl DeviceLedger {
    /// Opens the ledger and writes its head.
    pub fn open(path: &Path, run: &str) -> Result<DeviceLedger, LedgerError> {
        let mut file = LineFile::append_to(path)?;
        file.write(&Line::Devices {
            run: run.to_owned(),
        })?;
        Ok(DeviceLedger(Arc::new(Mutex::new(Open {
            file,
            known: BTreeSet::new(),
            outstanding: BTreeSet::new(),
            failed: None,
        }))))
    }

    /// Notes a message before it goes to the socket; an id handed over before is noted as a further copy.
    pub fn handed(&self, sent: Sent) {
        self.with(|open| {
            if !open.known.insert(sent.id.clone()) {
                return open.write(&Line::Again {
                    id: sent.id,
                    at: sent.at,
                });
            }
            if sent.qos > 0 {
                open.outstanding.insert(sent.id.clone());
            }
            open.write(&Line::Sent(sent));
        });
    }

    /// Notes a PUBACK.
    pub fn puback(&self, id: &str, at: Micros) {
        self.with(|open| {
            open.outstanding.remove(id);
            open.write(&Line::Puback {
                id: id.to_owned(),
                at,
            });
        });
    }

    /// Notes what a parent's stream showed.
    pub fn seen(&self, child: Uuid, state: &str, at: Micros) {
        self.with(|open| {
            open.write(&Line::Seen {
                child,
                state: state.to_owned(),
                at,
            })
        });
    }

    /// True once this id has its PUBACK (at QoS 0: once it was handed over).
    pub fn is_done(&self, id: &str) -> bool {
        self.with(|open| open.known.contains(id) && !open.outstanding.contains(id))
    }

    /// The first failure to write, once.
    pub fn failure(&self) -> Option<LedgerError> {
        self.with(|open| open.failed.take())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Open) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Open {
    fn write(&mut self, line: &Line) {
        if let Err(error) = self.file.write(line) {
            tracing::error!(%error, "ledger not written");
            self.failed.get_or_insert(error);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub mod tests {
    use super::*;
    use crate::books::Books;

    /// A scratch folder under the build folder, removed when dropped.
    pub struct Scratch(pub PathBuf);

    impl Scratch {
        pub fn new(name: &str) -> Scratch {
            let path =
                std::env::temp_dir().join(format!("antuo-sim-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _gone = std::fs::remove_dir_all(&self.0);
        }
    }

    pub fn sent(id: &str, deed: Deed) -> Sent {
        Sent {
            id: id.to_owned(),
            centre: Uuid::nil(),
            device: "btn-hall".to_owned(),
            point: "button".to_owned(),
            kind: "alarm.pressed".to_owned(),
            deed,
            qos: 1,
            excluded: false,
            at: Micros(1),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let scratch = Scratch::new("ledger");
        let path = scratch.0.join("deep/devices.jsonl");
        let ledger = DeviceLedger::open(&path, "r1").unwrap();
        let tap = Deed::Tap {
            holder: Uuid::nil(),
            children: vec![Uuid::nil()],
            passage: Passage::In,
        };
        ledger.handed(sent("a", Deed::Press));
        ledger.handed(sent("b", tap.clone()));
        assert!(!ledger.is_done("a") && !ledger.is_done("never handed over"));
        ledger.handed(sent("a", Deed::Press));
        ledger.puback("a", Micros(3));
        ledger.puback("a", Micros(4));
        ledger.seen(Uuid::nil(), "present", Micros(5));
        assert!(ledger.is_done("a") && !ledger.is_done("b"));
        let other = scratch.0.join("police.jsonl");
        let mut receiver = LineFile::append_to(&other).unwrap();
        receiver
            .write(&Line::Receiver {
                receiver: "police".to_owned(),
            })
            .unwrap();
        std::fs::OpenOptions::new()
            .append(true)
            .open(&other)
            .unwrap()
            .write_all(b"{\"receiver\":\"po")
            .unwrap();

        let books = Books::read(&[path, other]).unwrap();
        assert_eq!(books.entries.len(), 2);
        assert_eq!(
            (books.entries[0].puback_at, books.entries[0].copies),
            (Some(Micros(3)), 2)
        );
        assert_eq!(
            (books.entries[1].puback_at, &books.entries[1].sent.deed),
            (None, &tap)
        );
        assert_eq!(books.seen.len(), 1);
        assert!(books.received.is_empty() && books.receivers.contains("police"));
    }
}
