//! What the MQTT server remembers, as it rests: sealed under the box key, since a payload may hold a PIN.
//!
//! Knows no meaning of a row.

use ambient::Entropy;

use crate::hub::{Change, Hub, Limits};
use crate::seal::{BoxKey, SealError};
use crate::store::row::SealedRow;

/// What a row is sealed for: it opens under its own key only.
fn purpose(key: &str) -> String {
    format!("antuo mqtt {key}")
}

/// Seals a row.
///
/// # Errors
/// See [`SealError`].
pub(super) fn seal(
    change: Change,
    box_key: &BoxKey,
    entropy: &Entropy,
) -> Result<SealedRow, SealError> {
    let Change { key, body } = change;
    let seal = |body: String| box_key.seal(&purpose(&key), body.as_bytes(), entropy);
    let sealed = body.map(seal).transpose()?;
    Ok(SealedRow { key, sealed })
}

/// What the MQTT server remembers from before. A row that does not open is left out and told.
#[must_use]
pub fn remembered(rows: &[SealedRow], box_key: &BoxKey, limits: Limits) -> Hub {
    let mut opened = Vec::with_capacity(rows.len());
    let mut unreadable = 0_usize;
    for SealedRow { key, sealed } in rows {
        let body = box_key.open(&purpose(key), sealed.as_deref().unwrap_or_default());
        match body.map(String::from_utf8) {
            Ok(Ok(body)) => opened.push((key.clone(), body)),
            Ok(Err(_)) | Err(_) => unreadable += 1,
        }
    }
    let (hub, useless) = Hub::restore(limits, &opened);
    if unreadable + useless > 0 {
        tracing::error!(
            unreadable,
            useless,
            "rows of the MQTT server's memory are lost"
        );
    }
    hub
}
