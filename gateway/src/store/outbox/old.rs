//! What is put on the disk under the numbers of another epoch: the closing of its holes, and an epoch that ran in
//! memory (D4).

use domain::kind::Lane;

use super::super::row::{Adopted, Ledger, Row, Stream};
use super::shed::damaged;
use super::{Effect, Outbox, Ticket};
use crate::clock::Received;

impl Outbox {
    /// Takes over an epoch that ran in memory, under its own numbers.
    pub(super) fn adopt(&mut self, adopted: Adopted, effects: &mut Vec<Effect>) {
        let epoch = adopted.epoch;
        effects.push(Effect::Epoch(epoch, adopted.boot));
        for (lane, ledger) in Lane::ALL.into_iter().zip(adopted.ledgers) {
            let stream = Stream { lane, epoch };
            let (rows, bytes) = (ledger.rows, ledger.bytes);
            *self.touch(stream) = Ledger {
                rows: 0,
                bytes: 0,
                ..ledger
            };
            self.add(stream, rows, bytes);
        }
        effects.push(Effect::Append(adopted.rows));
    }

    pub(super) fn fill(
        &mut self,
        ticket: Ticket,
        stream: Stream,
        holes: &[(u64, u64)],
        at: Received,
    ) -> Vec<Effect> {
        self.before();
        self.waiting.push(ticket);
        let rows: Vec<Row> = holes
            .iter()
            .map(|(from, to)| damaged(stream, *from, *to, at))
            .collect();
        let cost = rows.iter().map(|row| row.body.cost()).sum();
        self.add(stream, rows.len() as u64, cost);
        self.filled += 1;
        vec![Effect::Append(rows)]
    }
}
