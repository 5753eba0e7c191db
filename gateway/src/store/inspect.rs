//! What is looked for beside the work, once a start: holes that only the box can close, and damage.
//!
//! Runs on a reading connection, so that listeners need not wait for it.

use std::fs::File;

use super::{ReadError, Reader, Store, rescue};
use crate::clock::BoxClock;

/// Holes closed in one transaction. Beyond: the rest in the next one.
const HOLES: usize = 500;

/// Closes the holes of old epochs with `damaged` tombstones (D4), then has SQLite check the whole file. A
/// file found damaged goes on being used, is shown, and is set aside at the next start.
///
/// # Errors
/// See [`ReadError`]; what could not be looked at is tried again at the next start.
pub async fn inspect(store: &Store, mut reader: Reader, clock: &BoxClock) -> Result<(), ReadError> {
    let sound = match look(store, &mut reader, clock).await {
        Err(ReadError::Database(error)) if rescue::says_damage(&error) => false,
        Err(ReadError::Nonsense(_)) => false,
        other => other?,
    };
    if !sound {
        tracing::error!("the store is damaged; it will be set aside at the next start");
        if let Err(error) = File::create(rescue::marker(&store.path)) {
            tracing::error!(%error, "the damage could not be noted for the next start");
        }
        store
            .standing
            .send_modify(|standing| standing.damaged = true);
    }
    reader.close().await;
    Ok(())
}

async fn look(store: &Store, reader: &mut Reader, clock: &BoxClock) -> Result<bool, ReadError> {
    close_holes(store, reader, clock).await?;
    reader.is_sound().await
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
