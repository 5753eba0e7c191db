//! The box of a centre: takes its devices' messages in and forwards what they mean.

pub mod broker;
