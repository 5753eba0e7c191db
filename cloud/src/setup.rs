//! The commands that prepare a deployment: `init`, `import`, `provision`.

pub mod import;
pub mod init;
pub mod provision;

use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;

use crate::config::Database;
use crate::db::{Db, DbError};

/// Opens the store the settings name.
///
/// # Errors
/// When it cannot be opened.
pub async fn open(database: &Database) -> Result<Db, DbError> {
    match database {
        Database::Sqlite(file) => Db::sqlite(file).await,
        Database::Postgres(url) => Db::postgres(PgConnectOptions::from_str(url)?).await,
    }
}
