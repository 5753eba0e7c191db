//! The box: everything between a device's message and a record on its way to the cloud.

pub mod adapter;
pub mod decode;
pub mod site;
