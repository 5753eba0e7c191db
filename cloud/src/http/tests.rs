#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod boxes;
mod commands;
mod family;
mod matrix;
mod operator;
mod press;
mod session;
mod sse;
