//! What a vendor's key or word can be about, before anybody asks at which point.
//!
//! The common tongue of the families: each translates its own words into these, and `place` finds
//! the point. Knows no vendor.

/// What a key or an entity is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sense {
    /// Smoke.
    Smoke,
    /// On its way to an alarm.
    Prealarm,
    /// Heat.
    Heat,
    /// Combustible gas.
    Gas,
    /// Carbon monoxide.
    Co,
    /// Water.
    Water,
    /// A call for help held as a level.
    Panic,
    /// Whatever the device is enrolled for: the key itself does not say (R5).
    Role,
    /// A door or window stands open.
    Door,
    /// A door was forced.
    Forced,
    /// A lock is open.
    Unlocked,
    /// A lock is jammed.
    Jammed,
    /// The device was opened or moved.
    Tamper,
    /// The battery is low.
    Battery,
    /// The device is faulty.
    Fault,
    /// The device says that it is being tested.
    Test,
    /// Its sounder was silenced; clears nothing (R7).
    Silenced,
    /// Somebody where nobody should be.
    Intrusion,
    /// The device cannot be reached.
    Away,
}

/// What a value says about a sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// There.
    Active,
    /// Explicitly not there.
    Clear,
}

/// A vendor's table: each word, and what it says.
pub type Words = &'static [(&'static str, &'static [(Sense, Word)])];
