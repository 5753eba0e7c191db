//! PLACEHOLDER of helper `box`, replaced by helper `site`'s files.
/// One message as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Signal<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Body.
    pub payload: &'a [u8],
    /// A broker's retained replay.
    pub retained: bool,
    /// Who said it.
    pub username: &'a str,
}
