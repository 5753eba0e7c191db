//! tmp
#![allow(dead_code)]
mod addresses;
mod api;
mod audit;
mod clock;
mod count;
mod dc09;
mod device;
mod devices;
mod feed;
mod ledger;
mod make_town;
mod play;
mod process;
mod publisher;
mod receiver;
mod relay;
mod report;
mod site;
mod sse;
mod town;
mod traffic;
mod view;
mod window;
fn main() {}
