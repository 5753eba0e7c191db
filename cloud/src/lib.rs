//! The cloud: takes records from boxes, judges them, tells agencies and people.
//!
//! Imports point down: `app` (wiring) -> `http` -> drivers (`ingest`, `dispatcher`, `ticker`, `chainer`,
//! `live`) -> `engine` -> capabilities (`incident`, `commands`, `absence`, `dispatch`, `presence`,
//! `centre`, `access`) -> `db`, `column` and the `domain` crate.

pub mod absence;
pub mod access;
pub mod app;
pub mod board;
pub mod boxes;
pub mod centre;
pub mod chainer;
pub mod column;
pub mod commands;
pub mod config;
pub mod db;
pub mod dispatch;
pub mod dispatcher;
pub mod engine;
pub mod family;
pub mod health;
pub mod http;
pub mod incident;
pub mod ingest;
pub mod keys;
pub mod live;
pub mod metrics;
pub mod presence;
pub mod process;
pub mod quota;
pub mod server;
pub mod setup;
pub mod stop;
pub mod ticker;
pub mod tls;
pub mod verify;
pub mod wake;

#[cfg(test)]
pub(crate) mod trial;
