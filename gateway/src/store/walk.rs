//! Taking over the rows of one stream of a damaged file: from both ends to the damage, then whatever lies between.
//!
//! A row is found by its number through the tree's inner pages, so rows behind a damaged page can be read from the
//! middle, where a walk along the pages would have ended. What only damaged or missing inner pages lead to is not
//! found, nor the one row that stands in an inner page between two damaged leaves.

use std::collections::VecDeque;
use std::time::Duration;

use ambient::Clock;
use sqlx::SqliteConnection;

use super::rescue::says_damage;

/// Rows taken over at once; next to a damaged page one.
const CHUNK: i64 = 500;
/// Reads of one stream that may meet damage. Beyond: what is left between is given up and counted as damaged, so
/// that one stream does not use up the time of the others.
const MISSES: usize = 10_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl Direction {
    /// Takes over rows between two numbers, both left out.
    const fn sql(self) -> &'static str {
        match self {
            Self::Up => {
                "insert or ignore into main.record select * from damaged.record
                 where lane = ? and epoch = ? and seq > ? and seq < ? order by seq limit ?
                 returning seq"
            }
            Self::Down => {
                "insert or ignore into main.record select * from damaged.record
                 where lane = ? and epoch = ? and seq > ? and seq < ? order by seq desc limit ?
                 returning seq"
            }
        }
    }
}

/// Numbers between which nothing was taken over yet, both left out.
#[derive(Clone, Copy)]
struct Gap {
    low: i64,
    high: i64,
}

struct Walk<'a> {
    into: &'a mut SqliteConnection,
    stream: (i64, i64),
    clock: &'a Clock,
    until: Duration,
    misses: usize,
    rows: usize,
}

/// Takes over what reads of a stream, and says how many rows.
pub(super) async fn copy_rows(
    into: &mut SqliteConnection,
    stream: (i64, i64),
    clock: &Clock,
    until: Duration,
) -> Result<usize, sqlx::Error> {
    let mut walk = Walk {
        into,
        stream,
        clock,
        until,
        misses: 0,
        rows: 0,
    };
    let whole = Gap {
        low: 0,
        high: i64::MAX,
    };
    let mut gaps: VecDeque<Gap> = walk.walk_both_ends(whole).await?.into_iter().collect();
    // The wide ones first: the more rows may lie in them.
    while let Some(gap) = gaps.pop_front() {
        gaps.extend(walk.walk_the_middle(gap).await?);
    }
    Ok(walk.rows)
}

impl Walk<'_> {
    fn is_over(&self) -> bool {
        self.misses >= MISSES || self.clock.monotonic() >= self.until
    }

    async fn walk_both_ends(&mut self, gap: Gap) -> Result<Option<Gap>, sqlx::Error> {
        let Some(low) = self.go(Direction::Up, gap).await? else {
            return Ok(None);
        };
        let rest = Gap { low, ..gap };
        let high = self.go(Direction::Down, rest).await?;
        Ok(high.map(|high| Gap { high, ..rest }))
    }

    /// What is left on both sides of the middle.
    async fn walk_the_middle(&mut self, gap: Gap) -> Result<Vec<Gap>, sqlx::Error> {
        let mut left = Vec::new();
        let middle = gap.low + (gap.high - gap.low) / 2;
        if middle == gap.low || self.is_over() {
            return Ok(left);
        }
        let below = Gap {
            high: middle,
            ..gap
        };
        let above = Gap {
            low: middle - 1,
            ..gap
        };
        if let Some(high) = self.go(Direction::Down, below).await? {
            left.push(Gap { high, ..below });
        }
        if let Some(low) = self.go(Direction::Up, above).await? {
            let low = low.max(middle);
            left.push(Gap { low, ..above });
        }
        Ok(left)
    }

    /// Walks until there is no row any more, or to the damage: then the number reached.
    async fn go(&mut self, direction: Direction, gap: Gap) -> Result<Option<i64>, sqlx::Error> {
        let Gap { mut low, mut high } = gap;
        let mut chunk = 1;
        while !self.is_over() {
            let copied: Result<Vec<i64>, _> = sqlx::query_scalar(direction.sql())
                .bind(self.stream.0)
                .bind(self.stream.1)
                .bind(low)
                .bind(high)
                .bind(chunk)
                .fetch_all(&mut *self.into)
                .await;
            match copied {
                Ok(seqs) if seqs.is_empty() => return Ok(None),
                Ok(seqs) => {
                    self.rows += seqs.len();
                    chunk = (chunk * 10).min(CHUNK);
                    match direction {
                        Direction::Up => low = seqs.iter().copied().fold(low, i64::max),
                        Direction::Down => high = seqs.iter().copied().fold(high, i64::min),
                    }
                }
                Err(error) if says_damage(&error) => {
                    self.misses += 1;
                    if chunk == 1 {
                        break;
                    }
                    chunk = 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some(match direction {
            Direction::Up => low,
            Direction::Down => high,
        }))
    }
}
