//! Promises kept towards programs we did not write, and towards the system underneath.
#![allow(clippy::unwrap_used, clippy::panic)]

mod bridge;
mod dc09;
mod devices;
mod diskless;
mod mqtt;
mod puback;
mod receivers;
