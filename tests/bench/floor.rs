//! What the machine itself can do, measured in the same run: the floor under the box's figures.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, QueryBuilder, Sqlite, SqliteConnection};

use crate::stopwatch::{Figures, Stopwatch, per_second};
use crate::{few, row};

/// Commits and syncs measured.
const TIMES: usize = 500;
/// Rows of one commit: what the box's writer takes of doors.
const ROWS: usize = 100;
/// Bytes of a row, as of a door's event.
const BODY: usize = 400;

/// Raw syncs and raw SQLite commits on the disk of `folder`.
pub async fn measure(folder: &Path) -> Result<()> {
    sync(&folder.join("raw-sync"))?;
    let mut connection = SqliteConnectOptions::new()
        .filename(folder.join("raw.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await?;
    let table = "create table record (seq integer primary key, body blob not null) strict";
    sqlx::raw_sql(table).execute(&mut connection).await?;
    for rows in [1, ROWS] {
        let mut took = Figures::default();
        let watch = Stopwatch::start();
        for _ in 0..few(TIMES) {
            let one = Stopwatch::start();
            commit(&mut connection, rows).await?;
            took.add(one.elapsed());
        }
        let rate = per_second(few(TIMES) * rows, watch.elapsed());
        row(&format!("raw SQLite, rows committed by {rows}"), &rate);
        row(&format!("raw SQLite, commit of {rows}, p50"), &took.at(50));
    }
    Ok(connection.close().await?)
}

async fn commit(connection: &mut SqliteConnection, rows: usize) -> Result<()> {
    let body = vec![b'x'; BODY];
    let mut query = QueryBuilder::<Sqlite>::new("insert into record (body) ");
    query.push_values(0..rows, |mut tuple, _| {
        tuple.push_bind(body.clone());
    });
    query.build().execute(connection).await?;
    Ok(())
}

fn sync(file: &Path) -> Result<()> {
    let mut file = File::create(file)?;
    let page = [0_u8; 4096];
    let mut took = Figures::default();
    for _ in 0..few(TIMES) {
        let one = Stopwatch::start();
        file.write_all(&page)?;
        file.sync_data()?;
        took.add(one.elapsed());
    }
    row("raw append of 4 KiB and fdatasync, p50", &took.at(50));
    Ok(())
}
