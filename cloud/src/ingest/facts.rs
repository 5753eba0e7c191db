//! Facts of sessions and bypasses: what begins and ends the cloud's half, and who may begin it.

use domain::command::{Act, Command, Heard};
use domain::event::{Detail, Event};
use domain::id::{CommandId, GatewayId, PersonId};
use domain::time::Timestamp;

use crate::absence::{Absence, Service, What, store};
use crate::access::Scope;
use crate::commands;
use crate::db::{DbError, Tx};

/// Whose word at the box begins a session or bypass that the cloud did not ask for itself.
const MAY_BEGIN: [&str; 4] = ["director", "installer", "operator", "shift_lead"];

/// Takes a fact into account. One that is no begin and no end of an absence changes nothing.
pub async fn take(
    tx: &mut Tx,
    scope: &Scope,
    gateway: GatewayId,
    service: &mut Service,
    event: &Event,
    now: Timestamp,
) -> Result<(), DbError> {
    let (id, by, what) = match &event.detail {
        Detail::TestBegun { command, by, test } => (*command, *by, What::Test(test.clone())),
        Detail::Bypassed {
            command,
            by,
            bypass,
        } => (*command, *by, What::Bypass(bypass.clone())),
        Detail::Ended { session, .. } => {
            service.end(*session, now);
            return Ok(());
        }
        Detail::None
        | Detail::Movement { .. }
        | Detail::Pending { .. }
        | Detail::Correction { .. }
        | Detail::Access { .. }
        | Detail::Unread { .. }
        | Detail::Started { .. }
        | Detail::Config { .. }
        | Detail::Counted { .. }
        | Detail::Act { .. }
        | Detail::Released { .. }
        | Detail::Unfit { .. }
        | Detail::Silent { .. } => return Ok(()),
    };
    // Epochs drain side by side, so an end may come before its begin.
    if store::is_known(tx, scope, gateway, id).await? {
        return Ok(());
    }
    service.begin(Absence {
        id,
        gateway,
        by,
        recognised: is_ours(tx, scope, gateway, id, by, &what, now).await?,
        begun_at: now,
        until_at: now.after(what.span()),
        what,
        heard: Heard::default(),
    });
    Ok(())
}

/// Whether the cloud's half holds: it asked for just that itself, or somebody with the right did at the box.
async fn is_ours(
    tx: &mut Tx,
    scope: &Scope,
    gateway: GatewayId,
    id: CommandId,
    by: PersonId,
    what: &What,
    now: Timestamp,
) -> Result<bool, DbError> {
    if let Some(given) = commands::store::find(tx, scope, gateway, id).await? {
        let asked = match given.act {
            Act::TestBegin(test) => Some(What::Test(test)),
            Act::Bypass(bypass) => Some(What::Bypass(bypass)),
            Act::Acknowledge { .. }
            | Act::Reset { .. }
            | Act::TestEnd { .. }
            | Act::Expected { .. }
            | Act::EndBypass { .. }
            | Act::Release { .. } => None,
        };
        return Ok(given.by == by && asked.as_ref() == Some(what));
    }
    let by_itself = Command {
        id,
        by,
        expires_at: now,
        act: match what {
            What::Test(test) => Act::TestBegin(test.clone()),
            What::Bypass(bypass) => Act::Bypass(bypass.clone()),
        },
    };
    if by_itself.check().is_err() {
        return Ok(false);
    }
    let rights = commands::store::rights_of(tx, scope, by, now).await?;
    Ok(rights.iter().any(|role| MAY_BEGIN.contains(&role.as_str())))
}
