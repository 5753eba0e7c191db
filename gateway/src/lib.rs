//! The box of a centre: takes its devices' messages in, decides, keeps, and forwards what they mean.
//!
//! Floors, imports pointing down only: `app` and `config` wire; `doctor` looks on; `intake`, `uplink`, `bridge`,
//! `control`, `forwarding`, `status` and `page` are the drivers, each owning one conversation; `broker` speaks
//! MQTT; `adapter`, `decode`, `site` and
//! `hub` decide, purely; `store` keeps.

pub mod adapter;
pub mod app;
pub mod bridge;
pub mod broker;
pub mod clock;
pub mod config;
pub mod control;
pub mod decode;
pub mod doctor;
pub mod forwarding;
pub mod gauges;
pub mod hub;
pub mod identity;
pub mod intake;
pub mod lan;
pub mod page;
pub mod seal;
pub mod signal_log;
pub mod site;
pub mod status;
pub mod store;
pub mod uplink;

use std::error::Error;

/// An error with everything beneath it, for a log line.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(below) = source {
        let below_text = below.to_string();
        if !text.ends_with(&below_text) {
            text.push_str(": ");
            text.push_str(&below_text);
        }
        source = below.source();
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
mod testing;
