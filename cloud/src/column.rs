//! How values rest in columns that both databases share. Knows no table.

use domain::digest::Sha256;

use crate::db::DbError;

/// A device's own text as a text column can hold it: PostgreSQL takes no zero byte. The record's
/// bytes keep it as it came.
#[must_use]
pub fn storable(text: &str) -> String {
    text.replace('\0', "")
}

/// A stored digest.
///
/// # Errors
/// When it is not 32 bytes.
pub fn digest(bytes: Vec<u8>, what: &'static str) -> Result<Sha256, DbError> {
    let length = bytes.len();
    <[u8; 32]>::try_from(bytes)
        .map(Sha256)
        .map_err(|_| DbError::corrupt(what)(format!("{length} bytes for a digest")))
}

/// A number as a column holds it. Chains and lanes never grow past `i64`: ingest refuses such.
#[must_use]
pub fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// A stored value, if it can be read. Otherwise it counts as not there and is logged: for what the
/// next report sets right, so that one bad row keeps no alarm waiting.
pub fn readable<T, E: std::fmt::Display>(read: Result<T, E>, what: &'static str) -> Option<T> {
    read.inspect_err(|error| tracing::error!(what, %error, "a stored value cannot be read"))
        .ok()
}
