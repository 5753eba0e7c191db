//! The cloud: takes records from boxes, judges them, tells agencies and people.
//!
//! Imports point down: `app` (wiring) -> `http` -> drivers (`ingest`, `dispatcher`, `ticker`,
//! `live`) -> `engine` -> capabilities (`incident`, `dispatch`, `presence`, `centre`, `access`) ->
//! `db`, `column` and the `domain` crate.

pub mod access;
pub mod column;
pub mod db;
pub mod dispatch;
pub mod engine;
pub mod incident;
pub mod ingest;
pub mod live;
pub mod presence;
pub mod ticker;
pub mod verify;
