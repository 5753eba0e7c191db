//! The language the box and the cloud share: what a signal means, how a point's alarm, a child's
//! presence and a silence are judged, and what the two say to each other.
//!
//! Owns: words, types, pure state machines. Never does: I/O, async, SQL, HTTP, reading a clock or
//! drawing chance. Every decision takes `now` as an argument.

pub mod alarm;
pub mod backoff;
pub mod command;
pub mod config;
pub mod digest;
pub mod event;
pub mod id;
pub mod kind;
pub mod passage;
pub mod presence;
pub mod supervision;
pub mod time;
pub mod wire;
