//! tmp
#![allow(dead_code)]
mod addresses;
mod clock;
mod count;
mod dc09;
mod device;
mod feed;
mod ledger;
mod make_town;
mod play;
mod publisher;
mod receiver;
mod relay;
mod report;
mod site;
mod sse;
mod town;
mod view;
mod window;
fn main() {}
