//! Requests going into a dispatcher's hands and coming back, within one transaction.

use std::time::Duration;

use domain::time::Timestamp;

use super::{EngineError, Work};
use crate::dispatch::job::{Input, Job, Step};
use crate::dispatch::store::{self, Candidate};
use crate::dispatch::{Claimed, Framer, Outcome, Target, Targets};
use crate::incident::decide::{Command, decide};
use crate::incident::{Case, Entry, store as cases};

/// Takes a candidate in hand, if it is still due under the lock.
pub(super) async fn take(
    work: &mut Work,
    candidate: &Candidate,
    lease: Duration,
    targets: Targets,
    frame: &Framer,
) -> Result<Option<Claimed>, EngineError> {
    let now = work.now();
    let (tx, scope) = work.parts();
    let found = cases::of_centre(tx, scope, candidate.incident).await?;
    let Some((case, job)) = found.as_ref().and_then(|case| {
        let job = case.jobs.iter().find(|job| job.id == candidate.dispatch)?;
        Some((case, job))
    }) else {
        return Ok(None);
    };
    let number = match job.number {
        Some(number) => number,
        None => store::next_number(tx, job.receiver).await?,
    };
    let input = Input::Claim {
        number,
        targets,
        lease_until: now.after(lease),
    };
    let dispatch = job.id;
    let entries = decide(case, &Command::Progress { dispatch, input }, now)?;
    let Some(claimed) = claimed(work, case, job, &entries, frame).await? else {
        return Ok(None);
    };
    let (tx, scope) = work.parts();
    store::begin_attempt(tx, scope, &claimed, now).await?;
    work.carry_out(&case.after(&entries), &entries).await?;
    Ok(Some(claimed))
}

async fn claimed(
    work: &mut Work,
    case: &Case,
    job: &Job,
    entries: &[Entry],
    frame: &Framer,
) -> Result<Option<Claimed>, EngineError> {
    let Some((attempt, number, target)) = entries.iter().find_map(begun) else {
        return Ok(None);
    };
    let Some(account) = case.plan.account_at(job.receiver) else {
        return Ok(None);
    };
    let order = job.order(case.centre, case.id, case.hazard, account.to_owned());
    let now = work.now();
    let (tx, scope) = work.parts();
    let stored = store::last_frame(tx, scope, job.id).await?;
    let frame = match (stored, job.fresh_time) {
        (Some(stored), None) => stored,
        (_, offset) => frame(&order, number, receiver_time(now, offset.unwrap_or(0))),
    };
    Ok(Some(Claimed {
        order,
        attempt,
        number,
        frame,
        target,
    }))
}

fn begun(entry: &Entry) -> Option<(u32, u16, Target)> {
    if let Entry::Dispatch { step, .. } = entry
        && let Step::Begun {
            attempt,
            number,
            target,
            ..
        } = step
    {
        Some((*attempt, *number, *target))
    } else {
        None
    }
}

/// Now, by a clock that is ahead of ours by an offset in microseconds.
fn receiver_time(now: Timestamp, offset: i64) -> Timestamp {
    Timestamp::from_micros(now.micros().saturating_add(offset))
}

/// Takes an attempt's end into account.
pub(super) async fn back(
    work: &mut Work,
    claimed: &Claimed,
    outcome: Outcome,
    chance: [u8; 4],
) -> Result<(), EngineError> {
    let now = work.now();
    let (order, attempt) = (&claimed.order, claimed.attempt);
    let (tx, scope) = work.parts();
    store::end_attempt(tx, scope, order.dispatch, attempt, &outcome, now).await?;
    let Some(case) = cases::of_centre(tx, scope, order.incident).await? else {
        return Ok(());
    };
    let command = Command::Progress {
        dispatch: order.dispatch,
        input: Input::Ended {
            attempt,
            outcome,
            chance: u32::from_be_bytes(chance),
        },
    };
    let entries = decide(&case, &command, now)?;
    work.carry_out(&case.after(&entries), &entries).await?;
    Ok(())
}
