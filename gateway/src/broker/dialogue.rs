//! One logged-in client's packets: what each asks for, and the answers once they may leave.
//!
//! Owns the window of answers that wait for a commit, and the client's topic aliases. Hands requests on and
//! answers them; never decides what a message means. Holds no lock across a wait.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::mpsc;

use super::access::Credential;
use super::codec::{
    self, Arrival, Delivery, Incoming, Message, PublishAnswer, Qos, Reason, ReleaseAnswer,
    Subscribe, Unsubscribed, Version,
};
use super::listener::House;
use super::report::{CloseReason, Refusal, add};
use super::seat::{Request, Seat, Submitted};
use super::window::Window;
use super::{Ack, Origin, Publish, Settled, TOPIC_ALIASES, Work};
use crate::hub::{Granted, Leaving, Outgoing, Send, Subscription, bare};

/// Answers in the window beyond which nothing of others is put into it: it goes out when some have left.
const ANSWERS: usize = 64;

/// What leaves when its commit is done.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nothing: QoS 0.
    Nothing,
    /// Of a QoS 1 message.
    Puback(NonZeroU16, PublishAnswer),
    /// Of a QoS 2 message.
    Pubrec(NonZeroU16, PublishAnswer),
    /// Of a PUBREC.
    Pubrel(NonZeroU16, ReleaseAnswer),
    /// Of a PUBREL.
    Pubcomp(NonZeroU16, ReleaseAnswer),
    /// Of a SUBSCRIBE, with the filters asked for.
    Suback(NonZeroU16, Vec<String>, Vec<Option<Granted>>),
    /// Of an UNSUBSCRIBE.
    Unsuback(NonZeroU16, Vec<Unsubscribed>),
    /// A message of somebody else.
    Send(Send),
}

/// See the module's head.
pub(super) struct Dialogue<'a> {
    house: &'a House,
    seat: &'a Seat,
    version: Version,
    credential: &'a Credential,
    /// Bytes of the largest packet the client takes.
    limit: Option<u32>,
    /// The session of its CONNECT ends with the connection (MQTT 5 section 3.14.2.2.2).
    fleeting: bool,
    window: Window<Answer>,
    settle: mpsc::UnboundedSender<Settled>,
    /// Taken in, but the intake had no room yet.
    waiting: Option<(u64, Request)>,
    aliases: HashMap<NonZeroU16, Arc<str>>,
    /// Publishes outside the credential's topics.
    strays: u64,
    /// How the client said that it leaves.
    pub(super) leaving: Leaving,
    /// What a fault of the client's is called, for its DISCONNECT.
    pub(super) fault: Option<Reason>,
}

impl<'a> Dialogue<'a> {
    pub(super) fn new(
        house: &'a House,
        seat: &'a Seat,
        credential: &'a Credential,
        version: Version,
        limit: Option<u32>,
        fleeting: bool,
        settle: mpsc::UnboundedSender<Settled>,
    ) -> Self {
        Self {
            house,
            seat,
            version,
            credential,
            limit,
            fleeting,
            window: Window::default(),
            settle,
            waiting: None,
            aliases: HashMap::new(),
            strays: 0,
            leaving: Leaving::Lost,
            fault: None,
        }
    }

    /// Whether a request waits for room in the intake.
    pub(super) const fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Answers that wait for a commit.
    pub(super) fn pending(&self) -> usize {
        self.window.len()
    }

    /// Takes one whole frame.
    pub(super) fn take(&mut self, frame: &[u8], output: &mut BytesMut) -> Result<(), CloseReason> {
        let incoming = codec::read(self.version, frame, self.house.limits.topic);
        let incoming = incoming.map_err(|fault| {
            self.fault = Some(fault.reason());
            CloseReason::from(fault)
        })?;
        match incoming {
            Incoming::Publish(arrival) => self.publish(arrival),
            Incoming::Puback { id, .. } => {
                self.seat.acknowledged(id, Qos::AtLeastOnce);
                Ok(())
            }
            Incoming::Pubcomp { id } | Incoming::Pubrec { id, refused: true } => {
                self.seat.acknowledged(id, Qos::ExactlyOnce);
                Ok(())
            }
            Incoming::Pubrec { id, refused: false } => {
                let answer = Answer::Pubrel(id, ReleaseAnswer::Success);
                self.request(answer, Request::Received(id))
            }
            Incoming::Pubrel { id } => {
                let answer = Answer::Pubcomp(id, ReleaseAnswer::Success);
                self.request(answer, Request::Release(id))
            }
            Incoming::Subscribe(subscribe) => self.subscribe(subscribe),
            Incoming::Unsubscribe { id, filters } => {
                let answer = Answer::Unsuback(id, Vec::new());
                self.request(answer, Request::Unsubscribe(filters))
            }
            Incoming::Ping => {
                codec::pingresp(output);
                Ok(())
            }
            Incoming::Disconnect {
                with_will,
                session_expiry,
            } => self.disconnect(with_will, session_expiry),
            Incoming::Auth => Err(self.wrong(Reason::ProtocolError)),
        }
    }

    fn wrong(&mut self, reason: Reason) -> CloseReason {
        self.fault = Some(reason);
        CloseReason::Protocol
    }

    fn disconnect(&mut self, with_will: bool, expiry: Option<u32>) -> Result<(), CloseReason> {
        if self.fleeting && expiry.is_some_and(|seconds| seconds > 0) {
            return Err(self.wrong(Reason::ProtocolError));
        }
        self.leaving = if with_will {
            Leaving::WithWill { expiry }
        } else {
            Leaving::Properly { expiry }
        };
        Err(CloseReason::Disconnect)
    }

    fn publish(&mut self, arrival: Arrival) -> Result<(), CloseReason> {
        let message = self.with_topic(arrival.message, arrival.alias)?;
        let permitted = self.credential.may_publish(&message.topic);
        let answer = if permitted {
            PublishAnswer::Success
        } else {
            PublishAnswer::NotAuthorized
        };
        let exactly_once = arrival.id.filter(|_| message.qos == Qos::ExactlyOnce);
        if let Some(id) = exactly_once {
            if self.is_on_its_way(id) {
                return Ok(());
            }
            if self.seat.is_known(id) {
                self.answer_now(Answer::Pubrec(id, PublishAnswer::Success));
                return Ok(());
            }
        }
        let answer = match (arrival.id, message.qos) {
            (None, _) | (_, Qos::AtMostOnce) => Answer::Nothing,
            (Some(id), Qos::AtLeastOnce) => Answer::Puback(id, answer),
            (Some(id), Qos::ExactlyOnce) => Answer::Pubrec(id, answer),
        };
        if !permitted {
            self.answer_now(answer);
            self.count_stray();
            return Ok(());
        }
        let publish = Publish {
            username: Arc::clone(self.seat.username()),
            reserved: self.credential.reserved,
            message,
            dup: arrival.dup,
            origin: Origin::Live,
            ack: Ack::detached(),
            route: Some(self.seat.route(exactly_once)),
        };
        self.request(answer, Request::Publish(Box::new(publish)))
    }

    /// The message under its whole topic. An alias is taken with its topic, and stands for it afterwards
    /// (MQTT 5 section 3.3.2.3.4).
    fn with_topic(
        &mut self,
        mut message: Message,
        alias: Option<NonZeroU16>,
    ) -> Result<Message, CloseReason> {
        let Some(alias) = alias else {
            return Ok(message);
        };
        if alias.get() > TOPIC_ALIASES {
            return Err(self.wrong(Reason::TopicAliasInvalid));
        }
        if message.topic.is_empty() {
            let Some(topic) = self.aliases.get(&alias) else {
                return Err(self.wrong(Reason::TopicAliasInvalid));
            };
            message.topic = Arc::clone(topic);
        } else {
            self.aliases.insert(alias, Arc::clone(&message.topic));
        }
        Ok(message)
    }

    /// Whether a QoS 2 message with this id waits for its commit: the repeat is answered with it.
    fn is_on_its_way(&self, id: NonZeroU16) -> bool {
        let same = |answer: &Answer| matches!(answer, Answer::Pubrec(waiting, _) if *waiting == id);
        self.window.iter().any(same)
    }

    fn subscribe(&mut self, subscribe: Subscribe) -> Result<(), CloseReason> {
        let (mut names, mut wanted) = (Vec::new(), Vec::new());
        for filter in subscribe.filters {
            let permitted = self.credential.may_subscribe(bare(&filter.filter));
            if !permitted {
                self.house
                    .reporter
                    .counters
                    .count_refusal(Refusal::NotPermitted);
            }
            names.push(filter.filter.clone());
            let asked = Subscription {
                qos: filter.qos,
                no_local: filter.no_local,
                retain_as_published: filter.retain_as_published,
                retain_handling: filter.retain_handling,
                identifier: subscribe.identifier,
            };
            wanted.push(permitted.then_some((filter.filter, asked)));
        }
        let answer = Answer::Suback(subscribe.id, names, Vec::new());
        self.request(answer, Request::Subscribe(wanted))
    }

    fn answer_now(&mut self, answer: Answer) {
        let ticket = self.window.open(answer);
        self.window.settle(ticket);
    }

    /// Asks the intake for something that is answered so once it is committed.
    fn request(&mut self, answer: Answer, request: Request) -> Result<(), CloseReason> {
        let ticket = self.window.open(answer);
        self.waiting = Some((ticket, request));
        match self.house.intake.try_reserve() {
            Ok(room) => self.hand_over(room),
            Err(mpsc::error::TrySendError::Full(())) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(())) => Err(CloseReason::IntakeClosed),
        }
    }

    /// Hands over what waits.
    pub(super) fn hand_over(&mut self, room: mpsc::Permit<'_, Work>) -> Result<(), CloseReason> {
        let Some((ticket, request)) = self.waiting.take() else {
            return Ok(());
        };
        let ack = Ack::routed(self.settle.clone(), ticket);
        let submitted = self.seat.submit(room, request, ack);
        let submitted = submitted.map_err(|_| CloseReason::TakenOver)?;
        let Some(answer) = self.window.answer(ticket) else {
            return Ok(());
        };
        match (answer, submitted) {
            (Answer::Suback(_, _, granted), Submitted::Subscribed(outcome)) => *granted = outcome,
            (Answer::Unsuback(_, answers), Submitted::Unsubscribed(there)) => {
                *answers = there.into_iter().map(unsubscribed).collect();
            }
            (Answer::Pubrel(_, answer) | Answer::Pubcomp(_, answer), Submitted::Known(false)) => {
                *answer = ReleaseAnswer::PacketIdNotFound
            }
            (
                Answer::Nothing
                | Answer::Puback(..)
                | Answer::Pubrec(..)
                | Answer::Pubrel(..)
                | Answer::Pubcomp(..)
                | Answer::Suback(..)
                | Answer::Unsuback(..)
                | Answer::Send(_),
                _,
            ) => {}
        }
        Ok(())
    }

    /// Takes one commit report into account.
    pub(super) fn settle(&mut self, settled: &Settled) -> Result<(), CloseReason> {
        let expected = self.window.answer(settled.ticket);
        if !settled.committed && !matches!(expected, None | Some(Answer::Nothing)) {
            return Err(CloseReason::CommitFailed);
        }
        self.window.settle(settled.ticket);
        Ok(())
    }

    /// Writes every answer that is due.
    pub(super) fn answer(&mut self, output: &mut BytesMut) {
        while let Some(answer) = self.window.next() {
            self.write(answer, output);
        }
    }

    fn write(&mut self, answer: Answer, output: &mut BytesMut) {
        let version = self.version;
        match answer {
            Answer::Nothing => {}
            Answer::Puback(id, answer) => {
                codec::puback(output, version, id, answer);
                add(&self.house.reporter.counters.pubacks);
            }
            Answer::Pubrec(id, answer) => {
                codec::pubrec(output, version, id, answer);
                add(&self.house.reporter.counters.pubacks);
            }
            Answer::Pubrel(id, answer) => codec::pubrel(output, version, id, answer),
            Answer::Pubcomp(id, answer) => codec::pubcomp(output, version, id, answer),
            Answer::Suback(id, filters, granted) => self.suback(id, &filters, &granted, output),
            Answer::Unsuback(id, answers) => {
                // A client whose limit its own request's answer exceeds gets none.
                let _ = codec::unsuback(output, version, id, &answers, self.limit);
            }
            Answer::Send(send) => self.send(send, output),
        }
    }

    fn suback(
        &mut self,
        id: NonZeroU16,
        filters: &[String],
        granted: &[Option<Granted>],
        output: &mut BytesMut,
    ) {
        let codes: Vec<_> = granted.iter().map(code_of).collect();
        let _ = codec::suback(output, self.version, id, &codes, self.limit);
        for (filter, granted) in filters.iter().zip(granted) {
            if let Some(Granted::Yes { greet: true, .. }) = granted {
                self.seat.greet(filter);
            }
        }
    }

    /// Sends what others published, as far as it may leave; stops while a request waits, or `output` is full.
    pub(super) fn send_onward(&mut self, output: &mut BytesMut) -> Result<(), CloseReason> {
        while self.waiting.is_none()
            && self.window.len() < ANSWERS
            && output.len() < self.house.limits.output_bytes
        {
            let Some(Outgoing { send, changes }) = self.seat.next() else {
                return Ok(());
            };
            if !changes.is_empty() {
                self.request(Answer::Send(send), Request::Store(changes))?;
            } else if self
                .window
                .iter()
                .any(|answer| matches!(answer, Answer::Send(_)))
            {
                // Behind the one that is being stored, so that messages keep their order.
                self.answer_now(Answer::Send(send));
            } else {
                self.send(send, output);
            }
        }
        Ok(())
    }

    fn send(&mut self, send: Send, output: &mut BytesMut) {
        let (item, id, dup, expiry) = match send {
            Send::Release(id) => {
                codec::pubrel(output, self.version, id, ReleaseAnswer::Success);
                return;
            }
            Send::Publish {
                item,
                id,
                dup,
                expiry,
            } => (item, id, dup, expiry),
        };
        let delivery = match (id, item.qos) {
            (None, _) | (_, Qos::AtMostOnce) => Delivery::AtMostOnce,
            (Some(id), Qos::AtLeastOnce) => Delivery::AtLeastOnce { id, dup },
            (Some(id), Qos::ExactlyOnce) => Delivery::ExactlyOnce { id, dup },
        };
        let outgoing = codec::Outgoing {
            message: &item.message,
            delivery,
            retain: item.retain,
            subscription_ids: &item.identifiers,
            expiry,
            alias: None,
        };
        let counters = &self.house.reporter.counters;
        match codec::publish(output, self.version, &outgoing, self.limit) {
            Ok(()) => add(&counters.sent),
            Err(codec::TooLarge) => {
                // As if it had been sent (MQTT-3.1.2-25).
                add(&counters.too_large);
                if let Some(id) = id {
                    self.seat.acknowledged(id, item.qos);
                }
            }
        }
    }

    /// Tells of the 1st, 2nd, 4th, 8th... stray publish of a connection; counts each.
    fn count_stray(&mut self) {
        self.strays += 1;
        let reporter = &self.house.reporter;
        reporter.counters.count_refusal(Refusal::NotPermitted);
        if self.strays.is_power_of_two() {
            let username = Some(self.credential.username.as_str());
            reporter.notify_refusal(username, Refusal::NotPermitted);
        }
    }
}

const fn unsubscribed(there: bool) -> Unsubscribed {
    if there {
        Unsubscribed::Success
    } else {
        Unsubscribed::NoSubscriptionExisted
    }
}

const fn code_of(granted: &Option<Granted>) -> codec::Granted {
    match granted {
        Some(Granted::Yes { qos, .. }) => codec::Granted::Qos(*qos),
        Some(Granted::TooMany) => codec::Granted::QuotaExceeded,
        None => codec::Granted::NotAuthorized,
    }
}
