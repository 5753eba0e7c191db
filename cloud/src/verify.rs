//! Checks a centre's chain and what it vouches for, and says the first broken place in words (G8).
//!
//! Recomputes everything from the stored bytes: digests, hashes, numbers, the head, the root of every
//! batch and the digest of every record. Changes nothing.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use domain::digest::{SUITE, Sha256};
use domain::id::CentreId;
use domain::time::Timestamp;
use uuid::Uuid;

use crate::access::Scope;
use crate::column::{digest, number};
use crate::db::{Db, DbError, Tx};
use crate::incident::journal::{GENESIS, Header, Refs, Said, merkle_root, read_body};
use crate::sql;

/// Entries read at once.
const PAGE: i64 = 500;

/// What a check found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Whose chain.
    pub centre: CentreId,
    /// Entries checked.
    pub entries: u64,
    /// Of those, erased ones: their digest stands in the chain.
    pub erased: BTreeMap<String, u64>,
    /// Records vouched for by an entry or a batch.
    pub records: u64,
    /// Records not chained yet: those of the last minute.
    pub unchained: u64,
    /// The first broken place; none when all is well.
    pub broken: Option<Broken>,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "centre {}: {} entries, {} records vouched for, {} not chained yet",
            self.centre, self.entries, self.records, self.unchained
        )?;
        for (rule, count) in &self.erased {
            write!(f, ", {count} erased under {rule}")?;
        }
        match &self.broken {
            Some(broken) => write!(f, "; BROKEN: {broken}"),
            None => f.write_str("; the chain holds"),
        }
    }
}

/// The first place where the store does not say what it once said.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Broken {
    /// A number is missing or twice.
    #[error("entry {expected} is missing: {found} follows")]
    Number {
        /// The number that should be there.
        expected: u64,
        /// The one that is.
        found: u64,
    },
    /// The suite is unknown.
    #[error("entry {0} names a digest suite this program does not know")]
    Suite(u64),
    /// Salt or body were changed.
    #[error("entry {0}: body does not fit its digest")]
    Body(u64),
    /// Body or salt are gone without an erasure.
    #[error("entry {0}: body or salt is gone and no rule is named that erased it")]
    Gone(u64),
    /// Header, digest or an earlier entry were changed.
    #[error("entry {0}: hash does not follow from the entry before it")]
    Hash(u64),
    /// The entry cannot be read.
    #[error("entry {seq} cannot be read: {why}")]
    Unreadable {
        /// Which.
        seq: u64,
        /// Why.
        why: String,
    },
    /// The row for the case names another one than the header.
    #[error("entry {0}: its case column differs from its header")]
    Case(u64),
    /// The head names another end.
    #[error("the chain ends at entry {last}, its head says {head}")]
    Head {
        /// The last entry there is.
        last: u64,
        /// What the head says.
        head: u64,
    },
    /// The head's hash is another.
    #[error("the head's hash is not that of the last entry")]
    HeadHash,
    /// Records under a batch were changed, added or removed.
    #[error("batch in entry {0}: its records do not give its root")]
    Root(u64),
    /// The record of an alarm was changed or removed.
    #[error("entry {0}: the record it was read from is gone or was changed")]
    Record(u64),
    /// Records claim an entry that does not vouch for them.
    #[error("records claim to be chained by entry {0}, which does not vouch for them")]
    Claim(i64),
}

/// Checks one centre's chain, or every chain.
///
/// # Errors
/// When the store fails; what is broken is in the verdicts.
pub async fn verify(db: &Db, centre: Option<CentreId>) -> Result<Vec<Verdict>, DbError> {
    let mut tx = db.read().await?;
    if let Tx::Postgres(tx) = &mut tx {
        // One look at the store as of now, or entries written meanwhile would seem to be broken.
        sqlx::query("set transaction isolation level repeatable read")
            .execute(&mut **tx)
            .await?;
    }
    let rows = sql!(
        &mut tx,
        fetch_all as (Uuid,),
        "select id from centre where $1 is null or id = $1 order by id",
        centre.map(|centre| centre.0)
    )?;
    let mut verdicts = Vec::new();
    for (centre,) in rows {
        verdicts.push(verify_centre(&mut tx, CentreId(centre)).await?);
    }
    Ok(verdicts)
}

async fn verify_centre(tx: &mut Tx, centre: CentreId) -> Result<Verdict, DbError> {
    let mut check = Check {
        scope: Scope::worker(centre),
        last: GENESIS,
        vouching: BTreeSet::new(),
        verdict: Verdict {
            centre,
            entries: 0,
            erased: BTreeMap::new(),
            records: 0,
            unchained: 0,
            broken: None,
        },
    };
    match check.whole(tx).await {
        Ok(()) => {}
        Err(Fault::Broken(broken)) => check.verdict.broken = Some(broken),
        Err(Fault::Db(error)) => return Err(error),
    }
    Ok(check.verdict)
}

/// Why a check ends early.
enum Fault {
    Broken(Broken),
    Db(DbError),
}

impl From<Broken> for Fault {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<DbError> for Fault {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    at: i64,
    v: i64,
    kind: String,
    refs: String,
    incident: Option<Uuid>,
    suite: String,
    salt: Option<Vec<u8>>,
    body: Option<Vec<u8>>,
    body_digest: Vec<u8>,
    hash: Vec<u8>,
    erased_under: Option<String>,
}

struct Check {
    scope: Scope,
    last: Sha256,
    /// Entries that vouch for records, or may have before they were erased.
    vouching: BTreeSet<i64>,
    verdict: Verdict,
}

impl Check {
    async fn whole(&mut self, tx: &mut Tx) -> Result<(), Fault> {
        loop {
            let rows = sql!(
                tx,
                fetch_all as Row,
                "select seq, at, v, kind, refs, incident, suite, salt, body, body_digest, hash,
                   erased_under
                 from journal where centre = $1 and seq > $2 order by seq limit $3",
                self.scope.own_centre(),
                number(self.verdict.entries),
                PAGE
            )?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                self.entry(tx, &row).await?;
            }
        }
        self.head(tx).await?;
        self.claims(tx).await
    }

    async fn entry(&mut self, tx: &mut Tx, row: &Row) -> Result<(), Fault> {
        let expected = self.verdict.entries + 1;
        let seq = u64::try_from(row.seq).unwrap_or(0);
        if seq != expected {
            let found = seq;
            return Err(Broken::Number { expected, found }.into());
        }
        if row.suite != SUITE {
            return Err(Broken::Suite(seq).into());
        }
        let body_digest = digest(row.body_digest.clone(), "journal.body_digest")?;
        let v = u32::try_from(row.v).map_err(DbError::corrupt("journal.v"))?;
        let header = Header {
            centre: self.verdict.centre,
            seq,
            at: Timestamp::from_micros(row.at),
            v,
            kind: &row.kind,
            refs: &row.refs,
            suite: &row.suite,
        };
        let hash = header.hash(self.last, body_digest);
        if hash.0[..] != row.hash[..] {
            return Err(Broken::Hash(seq).into());
        }
        let refs: Refs = serde_json::from_str(&row.refs).map_err(|why| unreadable(seq, &why))?;
        if refs.incident.map(|incident| incident.0) != row.incident {
            return Err(Broken::Case(seq).into());
        }
        match (&row.salt, &row.body, &row.erased_under) {
            (Some(salt), Some(body), _) => {
                if Sha256::of(&[salt, body]) != body_digest {
                    return Err(Broken::Body(seq).into());
                }
                let said = read_body(&row.kind, v, &row.refs, body)
                    .map_err(|why| unreadable(seq, &why))?;
                self.vouched(tx, seq, &said).await?;
            }
            (None, None, Some(rule)) => {
                *self.verdict.erased.entry(rule.clone()).or_default() += 1;
                self.vouching.insert(row.seq);
            }
            (_, _, _) => return Err(Broken::Gone(seq).into()),
        }
        self.verdict.entries = seq;
        self.last = hash;
        Ok(())
    }

    /// Checks the records an entry vouches for.
    async fn vouched(&mut self, tx: &mut Tx, seq: u64, said: &Said) -> Result<(), Fault> {
        let (expected, broken) = match said {
            Said::Batch(batch) => ((batch.count, batch.root), Broken::Root(seq)),
            Said::Case(_, entry) => match entry.fact().and_then(|fact| fact.record) {
                Some(record) => ((1, merkle_root(&[record])), Broken::Record(seq)),
                None => return Ok(()),
            },
            Said::Command(turn) => match turn.record() {
                Some(record) => ((1, merkle_root(&[record])), Broken::Record(seq)),
                None => return Ok(()),
            },
        };
        let mut rows = sql!(
            tx,
            fetch_all as (Uuid, Uuid, i64, Vec<u8>, Vec<u8>),
            "select gateway, epoch, seq, salt, body from record
             where centre = $1 and chained = $2",
            self.scope.own_centre(),
            number(seq)
        )?;
        rows.sort_unstable_by_key(|(gateway, epoch, seq, _, _)| (*gateway, *epoch, *seq));
        let digests: Vec<Sha256> = (rows.iter())
            .map(|(_, _, _, salt, body)| Sha256::of(&[salt, body]))
            .collect();
        if (digests.len() as u64, merkle_root(&digests)) != expected {
            return Err(broken.into());
        }
        self.vouching.insert(number(seq));
        self.verdict.records += expected.0;
        Ok(())
    }

    async fn head(&self, tx: &mut Tx) -> Result<(), Fault> {
        let row = sql!(
            tx,
            fetch_optional as (i64, Vec<u8>),
            "select seq, hash from journal_head where centre = $1",
            self.scope.own_centre()
        )?;
        let (head, hash) = row.unwrap_or((0, GENESIS.0.to_vec()));
        let head = u64::try_from(head).unwrap_or(0);
        let last = self.verdict.entries;
        if head != last {
            return Err(Broken::Head { last, head }.into());
        }
        if hash[..] != self.last.0[..] {
            return Err(Broken::HeadHash.into());
        }
        Ok(())
    }

    /// Every record is vouched for by the entry it claims, or waits for its batch.
    async fn claims(&mut self, tx: &mut Tx) -> Result<(), Fault> {
        let rows = sql!(
            tx,
            fetch_all as (Option<i64>, i64),
            "select chained, count(*) from record where centre = $1 group by chained order by 1",
            self.scope.own_centre()
        )?;
        for (chained, count) in rows {
            match chained {
                Some(entry) if self.vouching.contains(&entry) => {}
                Some(entry) => return Err(Broken::Claim(entry).into()),
                None => {
                    self.verdict.unchained =
                        u64::try_from(count).map_err(DbError::corrupt("count"))?;
                }
            }
        }
        Ok(())
    }
}

fn unreadable(seq: u64, why: &dyn std::fmt::Display) -> Broken {
    Broken::Unreadable {
        seq,
        why: why.to_string(),
    }
}
