//! What is looked for beside the work, once a start: holes that only the box can close, and damage.
//!
//! Runs on a reading connection, so that listeners need not wait for it.

use super::{ReadError, Reader, Store};
use crate::clock::BoxClock;

/// Holes closed in one transaction. Beyond: the rest in the next one.
const HOLES: usize = 500;

/// Closes the holes of old epochs with `damaged` tombstones (D4), then has SQLite check the whole file. Damage
/// is reported as any reader reports it.
///
/// # Errors
/// See [`ReadError`]; what could not be looked at is tried again at the next start.
pub async fn inspect(store: &Store, mut reader: Reader, clock: &BoxClock) -> Result<(), ReadError> {
    let closed = close_holes(store, &mut reader, clock).await;
    let checked = match closed {
        Ok(()) => reader.check().await,
        Err(error) => Err(error),
    };
    reader.close().await;
    checked
}

async fn close_holes(
    store: &Store,
    reader: &mut Reader,
    clock: &BoxClock,
) -> Result<(), ReadError> {
    let holes = reader.holes(store.epoch).await?;
    let of_one_stream = holes.chunk_by(|a, b| a.0 == b.0);
    for chunk in of_one_stream.flat_map(|holes| holes.chunks(HOLES)) {
        let Some((stream, from, _)) = chunk.first().copied() else {
            continue;
        };
        let spans: Vec<_> = chunk.iter().map(|(_, from, to)| (*from, *to)).collect();
        tracing::error!(lane = %stream.lane, epoch = %stream.epoch, from, holes = spans.len(), "numbers are missing");
        let at = (&clock.now()).into();
        if store.close_holes(stream, spans, at).await.is_err() {
            tracing::error!("the holes could not be closed; the next start tries again");
        }
    }
    Ok(())
}
