//! One conversation with one box, from its hello to its end.
//!
//! Tasks: a reader that sorts frames into lanes, one worker a lane (so that a bulk batch never delays
//! a life-safety one, while each lane keeps its order), a keeper that watches key and Config, and the
//! only writer of the socket. All queues are bounded.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use domain::digest::Sha256;
use domain::id::EpochId;
use domain::kind::Lane;
use domain::time::Age;
use domain::wire::{BATCH_MAX, Batch, Down, Hello, Receipt, Refused, Up, Welcome, read_body};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{counted, keeper};
use crate::boxes::{Entry, Standing, Work};
use crate::http::Api;
use crate::ingest::{BoxIdentity, IngestError};
use crate::metrics::Counted;
use crate::stop::Stop;
use crate::tls::Peer;

/// Longest wait for the hello; a slower box is cut.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// How often the box is pinged, which keeps the line open through NAT and balancers.
const PING_EVERY: Duration = Duration::from_secs(15);
/// Silence, pongs included, after which the line counts as dead.
const DEAD_AFTER: Duration = Duration::from_secs(45);
/// Longest write of one frame; a line that takes longer counts as dead.
const WRITE_MAX: Duration = Duration::from_secs(30);
/// Batches of one lane waiting; at it the box's further frames are not read until one is done.
const LANE_QUEUE: usize = 16;
/// Frames waiting to be written; at it whoever adds one waits.
const OUT_QUEUE: usize = 32;
/// Longest wait for receipts still to be written when a conversation ends.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Longest text of a box in a line of the log, in characters.
const SHOWN_MAX: usize = 64;

type Sink = SplitSink<WebSocket, Message>;
type Source = SplitStream<WebSocket>;

/// What the writer is to do.
pub enum Out {
    /// Say something.
    Say(Down),
    /// Say why, then end.
    End(Refused),
}

/// Says no and closes.
pub async fn refuse(socket: WebSocket, why: Refused) {
    let (mut sink, _) = socket.split();
    end(&mut sink, why).await;
}

async fn end(sink: &mut Sink, why: Refused) {
    let _ = say(sink, &Down::Refused { why }).await;
    let _ = timeout(WRITE_MAX, sink.close()).await;
}

async fn say(sink: &mut Sink, down: &Down) -> Result<(), Gone> {
    let text = serde_json::to_string(down).map_err(|_| Gone)?;
    send(sink, Message::Text(text.into())).await
}

/// The line is dead.
struct Gone;

async fn send(sink: &mut Sink, message: Message) -> Result<(), Gone> {
    match timeout(WRITE_MAX, sink.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Gone),
    }
}

/// Holds the conversation with a box whose key is good.
pub async fn hold(api: Api, peer: Peer, identity: BoxIdentity, socket: WebSocket) {
    let (mut sink, mut source) = socket.split();
    let (hello, welcome) = match greet(&api, &identity, &mut source).await {
        Ok(greeted) => greeted,
        Err(why) => {
            api.metrics.count(counted(why));
            tracing::warn!(gateway = %identity.gateway, %why, "a box is refused");
            return end(&mut sink, why).await;
        }
    };
    let held = held_before(&welcome);
    if say(&mut sink, &Down::Welcome(welcome)).await.is_err() {
        return;
    }
    let (entry, mut replaced) = api.boxes.connected(identity.centre, identity.gateway);
    entry.heard();
    tracing::info!(gateway = %identity.gateway, peer = %peer.address, program = ?shown(&hello.program), "a box is connected");
    let (out, outgoing) = mpsc::channel(OUT_QUEUE);
    let mut writer = tokio::spawn(write(sink, outgoing));
    let keeper = peer.key.map(|key: Sha256| {
        let keeper = keeper::keep(
            api.clone(),
            identity,
            key,
            hello.config_version,
            out.clone(),
        );
        tokio::spawn(keeper).abort_handle()
    });
    let lanes = Lanes::open(&api, identity, &entry.standing(), &held, &out);
    let mut stop = api.stop.clone();
    let why = tokio::select! {
        ended = read(source, lanes, &entry) => {
            if let Err(why) = ended {
                let _ = out.send(Out::End(why)).await;
            }
            "the box or the line ended it"
        }
        () = replaced.wait() => "a newer connection took its place",
        () = stop.told() => "the process ends",
        _ = &mut writer => "the line is dead or the box was refused",
    };
    if let Some(keeper) = keeper {
        keeper.abort();
    }
    // The lanes are closed: what they hold is still stored, receipted and told, unless a newer connection
    // took the place; then the writer ends.
    drop(out);
    if !writer.is_finished() && timeout(DRAIN_MAX, &mut writer).await.is_err() {
        writer.abort();
    }
    tracing::info!(gateway = %identity.gateway, why, "a box is gone");
}

/// As much of a box's own words as a line of the log has room for.
fn shown(words: &str) -> String {
    words.chars().take(SHOWN_MAX).collect()
}

/// The hello and its answer, or why there will be no conversation.
async fn greet(
    api: &Api,
    identity: &BoxIdentity,
    source: &mut Source,
) -> Result<(Hello, Welcome), Refused> {
    let Ok(Some(Ok(Message::Text(text)))) = timeout(HELLO_WITHIN, source.next()).await else {
        return Err(Refused::BrokenFrame);
    };
    let Ok(Up::Hello(hello)) = serde_json::from_str(&text) else {
        return Err(Refused::BrokenFrame);
    };
    let _turn = api.boxes.turn(identity.gateway, Work::Hello).await;
    let welcomed = api.ingest.welcome(identity, &hello).await;
    let welcome = welcomed.map_err(|error| refusal(identity, error))?;
    Ok((hello, welcome))
}

fn refusal(identity: &BoxIdentity, error: IngestError) -> Refused {
    match error {
        IngestError::Refused(why) => why,
        IngestError::Engine(error) => {
            tracing::error!(%error, gateway = %identity.gateway, "records cannot be stored");
            Refused::Unavailable
        }
    }
}

/// Sorts frames into lanes until the box or the line ends, or a frame is broken.
async fn read(mut source: Source, lanes: Lanes, entry: &Entry) -> Result<(), Refused> {
    loop {
        let message = match timeout(DEAD_AFTER, source.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => {
                tracing::debug!(%error, "a box's frame cannot be taken");
                return Err(Refused::BrokenFrame);
            }
            Ok(None) | Err(_) => return Ok(()),
        };
        entry.heard();
        match message {
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(Up::Batch(batch)) if batch.records.len() <= BATCH_MAX => {
                    lanes.put(batch).await;
                }
                Ok(Up::Batch(_) | Up::Hello(_)) | Err(_) => return Err(Refused::BrokenFrame),
            },
            Message::Binary(_) => return Err(Refused::BrokenFrame),
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(_) => return Ok(()),
        }
    }
}

/// The only writer of the socket.
async fn write(mut sink: Sink, mut outgoing: mpsc::Receiver<Out>) {
    let mut ping = interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let sent = tokio::select! {
            out = outgoing.recv() => match out {
                Some(Out::Say(down)) => say(&mut sink, &down).await,
                Some(Out::End(why)) => return end(&mut sink, why).await,
                None => {
                    let _ = timeout(WRITE_MAX, sink.close()).await;
                    return;
                }
            },
            _ = ping.tick() => send(&mut sink, Message::Ping(Vec::new().into())).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// What was held of each lane before a batch, to tell what was sent again.
type Held = HashMap<(EpochId, Lane), u64>;

fn held_before(welcome: &Welcome) -> Held {
    let through = |receipt: &Receipt| ((receipt.epoch, receipt.lane), receipt.through_seq);
    welcome.receipts.iter().map(through).collect()
}

/// The queues of the lanes.
struct Lanes([mpsc::Sender<Batch>; Lane::ALL.len()]);

impl Lanes {
    fn open(
        api: &Api,
        identity: BoxIdentity,
        standing: &Standing,
        held: &Held,
        out: &mpsc::Sender<Out>,
    ) -> Self {
        Self(Lane::ALL.map(|lane| {
            let (put, batches) = mpsc::channel(LANE_QUEUE);
            let own = held.iter().filter(|((_, of), _)| *of == lane);
            let held = own.map(|(key, seq)| (*key, *seq)).collect();
            let worker = Worker {
                api: api.clone(),
                identity,
                standing: standing.clone(),
                work: Work::Batches(lane),
                held,
                out: out.clone(),
                _busy: api.stop.clone(),
            };
            tokio::spawn(worker.run(batches));
            put
        }))
    }

    async fn put(&self, batch: Batch) {
        let Self([life_safety, supervisory, telemetry]) = self;
        let lane = match batch.lane {
            Lane::LifeSafety => life_safety,
            Lane::Supervisory => supervisory,
            Lane::Telemetry => telemetry,
        };
        // A worker that ended has told the writer to end the conversation.
        let _ = lane.send(batch).await;
    }
}

/// Takes one lane's batches to ingest, one after the other.
struct Worker {
    api: Api,
    identity: BoxIdentity,
    standing: Standing,
    work: Work,
    held: Held,
    out: mpsc::Sender<Out>,
    _busy: Stop,
}

impl Worker {
    async fn run(mut self, mut batches: mpsc::Receiver<Batch>) {
        while let Some(batch) = batches.recv().await {
            let turn = self.api.boxes.turn(self.identity.gateway, self.work).await;
            // What waits on a replaced line comes again on the one that took its place.
            if self.standing.is_over() {
                return;
            }
            let out = match self.take(batch).await {
                Ok(receipt) => Out::Say(Down::Receipt(receipt)),
                Err(error) => {
                    let why = refusal(&self.identity, error);
                    self.api.metrics.count(counted(why));
                    Out::End(why)
                }
            };
            drop(turn);
            let over = matches!(out, Out::End(_));
            // With the line gone the rest comes again on the next one.
            if self.out.send(out).await.is_err() || over {
                return;
            }
        }
    }

    async fn take(&mut self, batch: Batch) -> Result<Receipt, IngestError> {
        let metrics = &self.api.metrics;
        let key = (batch.epoch, batch.lane);
        let held = self.held.get(&key).copied().unwrap_or(0);
        let records = u64::try_from(batch.records.len()).unwrap_or(u64::MAX);
        let again = batch.records.iter().filter(|record| record.seq <= held);
        let again = u64::try_from(again.count()).unwrap_or(u64::MAX);
        let unreadable = unreadable(&batch);
        let waiting = metrics.arrived(oldest(&batch), self.api.clock.monotonic());
        let receipt = self.api.ingest.batch(&self.identity, batch).await?;
        drop(waiting);
        metrics.count(Counted::Batches);
        metrics.count_many(Counted::Records, records);
        metrics.count_many(Counted::Replays, again);
        metrics.count_many(Counted::Unreadable, unreadable);
        if !receipt.ranges.is_empty() {
            metrics.count(Counted::Gaps);
        }
        self.held.insert(key, receipt.through_seq);
        Ok(receipt)
    }
}

fn oldest(batch: &Batch) -> Duration {
    let age = |age| match age {
        Age::Known(ms) | Age::AtLeast(ms) => Duration::from_millis(ms),
    };
    let ages = batch.records.iter().map(|record| age(record.age));
    ages.max().unwrap_or_default()
}

/// Life-safety records that nobody here can read. The other lanes are not worth a second reading.
fn unreadable(batch: &Batch) -> u64 {
    if batch.lane != Lane::LifeSafety {
        return 0;
    }
    let bodies = batch.records.iter().map(|record| read_body(&record.body));
    u64::try_from(bodies.filter(Result::is_err).count()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_cannot_write_lines_of_its_own_into_the_log() {
        let forged = format!("1.0\n2026-01-01 INFO all is well {}", "x".repeat(100));
        let logged = format!("{:?}", shown(&forged));
        assert!(
            !logged.contains('\n') && logged.len() <= SHOWN_MAX + 3,
            "{logged}"
        );
    }
}
