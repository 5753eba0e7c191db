//! The append-only, hash-chained record of a centre (D9).
//!
//! Owns the lock of a centre, the bytes that are hashed and how an entry is written and read. Never
//! holds a name or a payload; persons occur only inside the erasable body, as ids.
//!
//! Entry, version 1, suite `s1`, all integers big-endian:
//! ```text
//! header = "antuo-journal" | u8 len, suite | centre (16 bytes) | u64 seq | i64 at | u32 v
//!        | u16 len, kind | u32 len, refs
//! body_digest = SHA-256(salt (32 bytes) | body)
//! hash = SHA-256(previous hash (32 bytes; zeros before entry 1) | header | body_digest)
//! ```
//! `refs` and `body` are JSON, hashed as the bytes once written. Erasure removes salt and body and
//! keeps `body_digest`, so the chain stands.

use domain::digest::{SUITE, Sha256};
use domain::id::{
    CentreId, CommandId, DeviceId, DispatchId, IncidentId, PersonId, PointId, ZoneId,
};
use domain::kind::Lane;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Case, Entry};
use crate::column::{digest, number};
use crate::commands::Turn;
use crate::db::{DbError, Tx};
use crate::sql;

/// The entry version this program writes. Readers take every version ever shipped.
pub const JOURNAL_V: u32 = 1;
/// The hash before the first entry of a chain.
pub const GENESIS: Sha256 = Sha256([0; 32]);
/// The kind word of a [`Batch`].
pub const BATCH: &str = "batch";

/// What an entry says.
#[derive(Clone, PartialEq, Debug)]
pub enum Said {
    /// Something happened to a case.
    Case(IncidentId, Box<Entry>),
    /// Records were chained together.
    Batch(Batch),
    /// Something happened to a command to a box, or to what one began.
    Command(Box<Turn>),
}

/// A root over the records of a lane committed in a stretch of time (D3).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Batch {
    /// Whose.
    pub lane: Lane,
    /// Committed at or after.
    pub from: Timestamp,
    /// Committed before.
    pub to: Timestamp,
    /// How many records.
    pub count: u64,
    /// Merkle root over their digests, in the order (gateway, epoch, seq).
    pub root: Sha256,
}

/// What an entry's header names: cases, devices, places; never persons.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Refs {
    /// The case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<IncidentId>,
    /// The device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// Its point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<PointId>,
    /// The zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneId>,
    /// The request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatch: Option<DispatchId>,
    /// The lane of a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    /// The command to a box.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandId>,
}

impl Said {
    /// The kind word of the header.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Case(_, entry) => entry.kind(),
            Self::Batch(_) => BATCH,
            Self::Command(turn) => turn.kind(),
        }
    }

    /// What the header names.
    #[must_use]
    pub fn refs(&self) -> Refs {
        match self {
            Self::Case(incident, entry) => {
                let source = entry.fact().and_then(|fact| fact.source.as_ref());
                Refs {
                    incident: Some(*incident),
                    device: source.map(|key| key.device.clone()),
                    point: source.map(|key| key.point.clone()),
                    zone: entry.fact().and_then(|fact| fact.zone.clone()),
                    dispatch: entry.dispatch(),
                    lane: None,
                    command: None,
                }
            }
            Self::Command(turn) => Refs {
                device: turn.point().map(|key| key.device.clone()),
                point: turn.point().map(|key| key.point.clone()),
                command: Some(turn.command()),
                ..Refs::default()
            },
            Self::Batch(batch) => Refs {
                lane: Some(batch.lane),
                ..Refs::default()
            },
        }
    }

    fn persons(&self) -> Vec<PersonId> {
        match self {
            Self::Case(_, entry) => entry.persons(),
            Self::Batch(_) => Vec::new(),
            Self::Command(turn) => turn.persons(),
        }
    }

    fn body(&self) -> Result<Vec<u8>, serde_json::Error> {
        match self {
            Self::Case(_, entry) => serde_json::to_vec(entry),
            Self::Batch(batch) => serde_json::to_vec(batch),
            Self::Command(turn) => serde_json::to_vec(turn),
        }
    }
}

/// The fields of a header, as they are hashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<'a> {
    /// Whose chain.
    pub centre: CentreId,
    /// Number in the chain, from 1.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Entry version.
    pub v: u32,
    /// Kind word.
    pub kind: &'a str,
    /// [`Refs`] as written.
    pub refs: &'a str,
    /// Digest suite.
    pub suite: &'a str,
}

impl Header<'_> {
    /// The bytes that are hashed; see the module's head.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"antuo-journal".to_vec();
        out.push(u8::try_from(self.suite.len()).unwrap_or(u8::MAX));
        out.extend(self.suite.as_bytes());
        out.extend(self.centre.0.as_bytes());
        out.extend(self.seq.to_be_bytes());
        out.extend(self.at.micros().to_be_bytes());
        out.extend(self.v.to_be_bytes());
        out.extend(
            u16::try_from(self.kind.len())
                .unwrap_or(u16::MAX)
                .to_be_bytes(),
        );
        out.extend(self.kind.as_bytes());
        out.extend(
            u32::try_from(self.refs.len())
                .unwrap_or(u32::MAX)
                .to_be_bytes(),
        );
        out.extend(self.refs.as_bytes());
        out
    }

    /// The hash of the entry after `previous`.
    #[must_use]
    pub fn hash(&self, previous: Sha256, body_digest: Sha256) -> Sha256 {
        Sha256::of(&[&previous.0, &self.bytes(), &body_digest.0])
    }
}

/// What an entry's body says, read from any version ever shipped.
///
/// # Errors
/// When version or body is unknown.
pub fn read_body(kind: &str, v: u32, refs: &str, body: &[u8]) -> Result<Said, DbError> {
    if v != JOURNAL_V {
        return Err(DbError::corrupt("journal.v")(format!(
            "unknown version {v}"
        )));
    }
    if kind == BATCH {
        let batch = serde_json::from_slice(body).map_err(DbError::corrupt("journal.body"))?;
        return Ok(Said::Batch(batch));
    }
    if Turn::is_kind(kind) {
        let turn = serde_json::from_slice(body).map_err(DbError::corrupt("journal.body"))?;
        return Ok(Said::Command(Box::new(turn)));
    }
    let refs: Refs = serde_json::from_str(refs).map_err(DbError::corrupt("journal.refs"))?;
    let incident = refs
        .incident
        .ok_or_else(|| DbError::corrupt("journal.refs")("names no case"))?;
    let entry = serde_json::from_slice(body).map_err(DbError::corrupt("journal.body"))?;
    Ok(Said::Case(incident, Box::new(entry)))
}

/// The Merkle root of digests in their order: leaves are the digests, a node is
/// SHA-256(0x01 | left | right), an odd one out moves up unchanged, and no digest at all is the hash
/// of nothing.
#[must_use]
pub fn merkle_root(digests: &[Sha256]) -> Sha256 {
    let mut level = digests.to_vec();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .filter_map(|pair| {
                let (left, rest) = pair.split_first()?;
                Some(match rest.first() {
                    Some(right) => Sha256::of(&[&[1], &left.0, &right.0]),
                    None => *left,
                })
            })
            .collect();
    }
    level.first().copied().unwrap_or_else(|| Sha256::of(&[]))
}

/// A centre's chain under its lock, until the transaction ends.
pub struct Chain {
    centre: CentreId,
    seq: u64,
    hash: Sha256,
}

impl Chain {
    /// Takes the centre's lock: nobody else writes its cases or chain until the transaction ends.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn lock(tx: &mut Tx, centre: CentreId) -> Result<Self, DbError> {
        // An update takes the row's lock on PostgreSQL; on SQLite the transaction holds everything.
        const TAKE: &str =
            "update journal_head set seq = seq where centre = $1 returning seq, hash";
        let held = sql!(tx, fetch_optional as (i64, Vec<u8>), TAKE, centre.0)?;
        let (seq, hash) = match held {
            Some(head) => head,
            None => {
                sql!(
                    tx,
                    execute,
                    "insert into journal_head (centre, seq, hash) values ($1, 0, $2)
                     on conflict do nothing",
                    centre.0,
                    GENESIS.0.to_vec()
                )?;
                sql!(tx, fetch_one as (i64, Vec<u8>), TAKE, centre.0)?
            }
        };
        Ok(Self {
            centre,
            seq: u64::try_from(seq).map_err(DbError::corrupt("journal_head.seq"))?,
            hash: digest(hash, "journal_head.hash")?,
        })
    }

    /// The number the next entry will have.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.seq + 1
    }

    /// Appends an entry and gives its number. The head row is written by [`Chain::save`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn append(
        &mut self,
        tx: &mut Tx,
        at: Timestamp,
        said: &Said,
        salt: [u8; 32],
    ) -> Result<u64, DbError> {
        let body = said.body().map_err(DbError::corrupt("journal.body"))?;
        let refs = said.refs();
        let written = serde_json::to_string(&refs).map_err(DbError::corrupt("journal.refs"))?;
        let header = Header {
            centre: self.centre,
            seq: self.next(),
            at,
            v: JOURNAL_V,
            kind: said.kind(),
            refs: &written,
            suite: SUITE,
        };
        let body_digest = Sha256::of(&[&salt, &body]);
        let hash = header.hash(self.hash, body_digest);
        sql!(
            tx,
            execute,
            "insert into journal
             (centre, seq, at, v, kind, refs, incident, suite, salt, body, body_digest, hash)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            self.centre.0,
            number(header.seq),
            at.micros(),
            i64::from(header.v),
            header.kind,
            written.clone(),
            refs.incident.map(|incident| incident.0),
            header.suite,
            salt.to_vec(),
            body.clone(),
            body_digest.0.to_vec(),
            hash.0.to_vec()
        )?;
        for person in said.persons() {
            sql!(
                tx,
                execute,
                "insert into journal_person (person, centre, seq) values ($1, $2, $3)
                 on conflict do nothing",
                person.0,
                self.centre.0,
                number(header.seq)
            )?;
        }
        (self.seq, self.hash) = (header.seq, hash);
        Ok(self.seq)
    }

    /// Writes the head; to be called before the commit.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn save(&self, tx: &mut Tx) -> Result<(), DbError> {
        sql!(
            tx,
            execute,
            "update journal_head set seq = $2, hash = $3 where centre = $1",
            self.centre.0,
            number(self.seq),
            self.hash.0.to_vec()
        )?;
        Ok(())
    }
}

/// An entry as it stands in the store.
#[derive(Clone, PartialEq, Debug)]
pub struct Kept {
    /// Number in the chain.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What it says; none once erased.
    pub said: Option<Said>,
}

/// Entries of a case after a number, oldest first.
///
/// # Errors
/// When the store fails or an entry cannot be read.
pub async fn of_case(
    tx: &mut Tx,
    centre: CentreId,
    incident: IncidentId,
    after: u64,
    limit: u32,
) -> Result<Vec<Kept>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as Row,
        "select seq, at, v, kind, refs, body from journal
         where centre = $1 and incident = $2 and seq > $3 order by seq limit $4",
        centre.0,
        incident.0,
        number(after),
        i64::from(limit)
    )?;
    rows.into_iter().map(kept).collect()
}

/// The newest entries of a case somebody may see, oldest first. One that cannot be read is left out
/// and logged: the story of a case must not hide the case.
///
/// # Errors
/// When the store fails.
pub async fn tail_of_case(tx: &mut Tx, case: &Case, limit: u32) -> Result<Vec<Kept>, DbError> {
    let rows = sql!(
        tx,
        fetch_all as Row,
        "select seq, at, v, kind, refs, body from journal
         where centre = $1 and incident = $2 order by seq desc limit $3",
        case.centre.0,
        case.id.0,
        i64::from(limit)
    )?;
    let shown = rows.into_iter().rev().filter_map(|row| {
        kept(row)
            .inspect_err(
                |error| tracing::error!(incident = %case.id, %error, "an entry is not shown"),
            )
            .ok()
    });
    Ok(shown.collect())
}

type Row = (i64, i64, i64, String, String, Option<Vec<u8>>);

fn kept((seq, at, v, kind, refs, body): Row) -> Result<Kept, DbError> {
    let v = u32::try_from(v).map_err(DbError::corrupt("journal.v"))?;
    let said = body
        .map(|body| read_body(&kind, v, &refs, &body))
        .transpose()?;
    Ok(Kept {
        seq: u64::try_from(seq).map_err(DbError::corrupt("journal.seq"))?,
        at: Timestamp::from_micros(at),
        said,
    })
}
