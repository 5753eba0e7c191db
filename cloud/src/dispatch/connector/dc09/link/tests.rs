//! One path against a receiver that does what real ones do.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use domain::time::Timestamp;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::super::double::{Act, Double, Heard, acks, nak, nobody, polls_acked, word};
use super::super::envelope::enclose;
use super::super::frame::{Content, Frame};
use super::*;

/// Long enough that only a broken program waits for it.
const LONG: Duration = Duration::from_secs(3_600);
/// Short enough to wait for where silence is the subject.
const SHORT: Duration = Duration::from_millis(60);

/// A frame as the engine would have committed it.
fn panic_frame(number: u16) -> Message {
    let body = format!("\"SIA-DCS\"{number:04}R1L0#1234[#1234|Nri1/PA007]_08:15:30,11-22-2026");
    Message::committed(&enclose(&body).unwrap()).unwrap()
}

fn clock() -> Clock {
    // 08:15:30, 22 November 2026.
    Clock::manual(Timestamp::from_micros(1_795_335_330_000_000))
}

fn path_to(address: &str, reply_within: Duration, poll_every: Duration) -> Path {
    let poll = Message::poll(
        &"1".parse().unwrap(),
        &"0".parse().unwrap(),
        &"1234".parse().unwrap(),
    );
    Path {
        receiver: ReceiverId(Uuid::from_u128(1)),
        target: Target::Primary,
        address: address.to_owned(),
        poll: poll.unwrap(),
        poll_every,
        reply_within,
    }
}

fn link_to(address: &str, reply_within: Duration, poll_every: Duration) -> Link {
    let path = path_to(address, reply_within, poll_every);
    Link::open(path, clock(), Entropy::seeded(1))
}

async fn until(link: &Link, what: impl FnMut(&PathState) -> bool) {
    link.state.clone().wait_for(what).await.unwrap();
}

/// What becomes of a panic when the receiver does `manner`.
async fn outcome(
    reply_within: Duration,
    manner: impl Fn(&Frame) -> Vec<Act> + Send + Sync + 'static,
) -> Outcome {
    let double = Double::listen(polls_acked(manner)).await;
    let link = link_to(&double.address, reply_within, LONG);
    link.send(panic_frame(7)).await
}

#[tokio::test]
async fn an_acknowledgement_is_handed_up_as_it_came() {
    let mut double = Double::listen(acks).await;
    let link = link_to(&double.address, LONG, LONG);
    let sent = panic_frame(7);
    let outcome = link.send(sent.clone()).await;
    let frame = double.frame().await;
    assert_eq!(frame.encode().unwrap(), sent.bytes());
    let reply = word("ACK", &frame);
    assert_eq!(outcome, Outcome::Received { reply });
    assert!(link.state().is_up());
}

#[tokio::test]
async fn each_word_of_refusal_has_its_own_outcome() {
    let refused = |why| Outcome::Refused { why };
    let say = |bytes: Vec<u8>| move |_: &Frame| vec![Act::Say(bytes.clone())];
    let by_45_s = outcome(LONG, say(nak("_08:16:15,11-22-2026"))).await;
    assert_eq!(
        by_45_s,
        Outcome::Nak {
            clock_offset_micros: 45_000_000
        }
    );
    let untold = Outcome::Nak {
        clock_offset_micros: 0,
    };
    assert_eq!(outcome(LONG, say(nak(""))).await, untold);
    let bare = outcome(LONG, say(b"\"NAK\"".to_vec())).await;
    assert_eq!(bare, refused(RefusedBy::UnknownAccount));
    let duh = outcome(LONG, |frame| vec![Act::Say(word("DUH", frame))]).await;
    assert_eq!(duh, refused(RefusedBy::Duh));
    let unread = outcome(LONG, say(b"\n\r".to_vec())).await;
    assert_eq!(unread, Outcome::Unanswered);
}

#[tokio::test]
async fn what_is_no_answer_to_this_message_leaves_it_unanswered() {
    let other_number = |frame: &Frame| {
        let number = frame.number + 1;
        vec![Act::Say(word(
            "ACK",
            &Frame {
                number,
                ..frame.clone()
            },
        ))]
    };
    let other_account = |frame: &Frame| {
        let account = "4321".parse().unwrap();
        vec![Act::Say(word(
            "ACK",
            &Frame {
                account,
                ..frame.clone()
            },
        ))]
    };
    let garbled = |frame: &Frame| {
        let mut bytes = word("ACK", frame);
        bytes[14] ^= 1;
        vec![Act::Say(bytes)]
    };
    assert_eq!(outcome(SHORT, |_| Vec::new()).await, Outcome::Unanswered);
    assert_eq!(outcome(SHORT, other_number).await, Outcome::Unanswered);
    assert_eq!(outcome(SHORT, other_account).await, Outcome::Unanswered);
    assert_eq!(outcome(SHORT, garbled).await, Outcome::Unanswered);
    let flood = |_: &Frame| vec![Act::Say(vec![b'\n'; 100_000])];
    assert_eq!(outcome(SHORT, flood).await, Outcome::Unanswered);
    assert_eq!(
        outcome(LONG, |_| vec![Act::Close]).await,
        Outcome::Unanswered
    );
}

#[tokio::test]
async fn an_answer_in_pieces_or_among_others_is_found() {
    let split = outcome(LONG, |frame| {
        let bytes = word("ACK", frame);
        let (first, rest) = bytes.split_at(11);
        vec![Act::Say(first.to_vec()), Act::Say(rest.to_vec())]
    });
    assert!(matches!(split.await, Outcome::Received { .. }));
    let glued = outcome(LONG, |frame| {
        let number = frame.number - 1;
        let mut bytes = b"rubbish\r".to_vec();
        bytes.extend(word(
            "ACK",
            &Frame {
                number,
                ..frame.clone()
            },
        ));
        bytes.extend(word("ACK", frame));
        vec![Act::Say(bytes)]
    });
    assert!(matches!(glued.await, Outcome::Received { .. }));
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_sent() {
    let (address, _kept_free) = nobody();
    let link = link_to(&address, LONG, LONG);
    assert_eq!(link.send(panic_frame(7)).await, NO_CONNECTION);
    assert!(link.state().is_silent());
}

/// A keeper with an open connection, and the receiver's end of it.
async fn keeper_and_receiver() -> (Keeper, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let wire = connect(&address).await.unwrap();
    let (receiver, _) = listener.accept().await.unwrap();
    let keeper = Keeper {
        path: path_to(&address, LONG, LONG),
        clock: clock(),
        entropy: Entropy::seeded(1),
        state: watch::channel(PathState::Unproven {
            since: clock().now(),
        })
        .0,
        wire: Some(wire),
        failures: 0,
        poll_due: Box::pin(sleep(LONG)),
        connect_due: Box::pin(sleep(LONG)),
    };
    (keeper, receiver)
}

#[tokio::test]
async fn a_late_acknowledgement_answers_the_retry_without_a_second_frame() {
    let (mut keeper, mut receiver) = keeper_and_receiver().await;
    let message = panic_frame(7);
    let late = word("ACK", &Frame::decode(message.bytes()).unwrap());
    receiver.write_all(&late).await.unwrap();
    let wire = keeper.wire.as_mut().unwrap();
    wire.in_doubt = true;
    assert!(wire.read().await);
    let outcome = keeper.deliver(&message).await;
    assert_eq!(outcome, Outcome::Received { reply: late });
    drop(keeper);
    let mut arrived = Vec::new();
    receiver.read_to_end(&mut arrived).await.unwrap();
    assert_eq!(arrived, Vec::<u8>::new());
}

#[tokio::test]
async fn a_late_acknowledgement_of_another_message_answers_nothing() {
    let (mut keeper, mut receiver) = keeper_and_receiver().await;
    let late = word("ACK", &Frame::decode(panic_frame(7).bytes()).unwrap());
    receiver.write_all(&late).await.unwrap();
    assert!(keeper.wire.as_mut().unwrap().read().await);
    let message = panic_frame(8);
    let answer = word("ACK", &Frame::decode(message.bytes()).unwrap());
    let expected = answer.clone();
    let receive = async {
        let mut frame = vec![0; message.bytes().len()];
        receiver.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame, message.bytes());
        receiver.write_all(&answer).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(keeper.deliver(&message), receive);
    assert_eq!(outcome, Outcome::Received { reply: expected });
}

#[tokio::test]
async fn a_refusal_that_names_no_message_is_not_pinned_on_the_next() {
    let (mut keeper, mut receiver) = keeper_and_receiver().await;
    keeper.wire.as_mut().unwrap().in_doubt = true;
    let message = panic_frame(8);
    let answer = word("ACK", &Frame::decode(message.bytes()).unwrap());
    let receive = async {
        let mut frame = vec![0; message.bytes().len()];
        receiver.read_exact(&mut frame).await.unwrap();
        // What the receiver had to say about the one before comes first.
        receiver.write_all(b"\"NAK\"\n\r").await.unwrap();
        receiver.write_all(&answer).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(keeper.deliver(&message), receive);
    assert!(matches!(outcome, Outcome::Received { .. }), "{outcome:?}");
    assert!(!keeper.wire.unwrap().in_doubt);
}

#[tokio::test]
async fn a_connection_silent_twice_is_replaced() {
    let mut double = Double::listen(polls_acked(|_| Vec::new())).await;
    let link = link_to(&double.address, SHORT, LONG);
    for _ in 0..3 {
        assert_eq!(link.send(panic_frame(7)).await, Outcome::Unanswered);
    }
    let mut heard = Vec::new();
    while heard.last() != Some(&Heard::Connected(2)) {
        heard.push(double.heard().await);
    }
    let frames = heard
        .iter()
        .filter(|heard| matches!(heard, Heard::Frame(_)));
    assert_eq!(frames.count(), 2);
}

#[tokio::test]
async fn a_connection_the_receiver_closed_meanwhile_costs_nothing() {
    let (mut keeper, receiver) = keeper_and_receiver().await;
    let double = Double::listen(acks).await;
    keeper.path.address.clone_from(&double.address);
    drop(receiver);
    // The end is in the socket; nothing has read it yet.
    keeper
        .wire
        .as_ref()
        .unwrap()
        .stream
        .readable()
        .await
        .unwrap();
    let outcome = keeper.deliver(&panic_frame(7)).await;
    assert!(matches!(outcome, Outcome::Received { .. }), "{outcome:?}");
}

#[tokio::test]
async fn after_a_close_the_next_message_goes_over_a_new_connection() {
    let seen = AtomicU32::new(0);
    let mut double = Double::listen(polls_acked(move |frame| {
        match seen.fetch_add(1, Ordering::Relaxed) {
            0 => vec![Act::Close],
            _ => vec![Act::Say(word("ACK", frame)), Act::Close],
        }
    }))
    .await;
    let link = link_to(&double.address, LONG, LONG);
    assert_eq!(link.send(panic_frame(7)).await, Outcome::Unanswered);
    let first = double.frame().await;
    // A receiver that closes after each answer is normal.
    for _ in 0..3 {
        let again = link.send(panic_frame(7)).await;
        assert!(matches!(again, Outcome::Received { .. }), "{again:?}");
        assert_eq!(double.frame().await, first);
    }
}

#[tokio::test]
async fn polls_prove_the_path_and_their_silence_shows() {
    let answer = Arc::new(AtomicU32::new(1));
    let switch = answer.clone();
    let mut double = Double::listen(move |frame| match switch.load(Ordering::SeqCst) {
        1 => acks(frame),
        2 => vec![Act::Say(b"\"NAK\"".to_vec())],
        _ => Vec::new(),
    })
    .await;
    let link = link_to(&double.address, SHORT, SHORT);
    let poll = double.polled().await;
    assert_eq!(
        poll.encode().unwrap(),
        b"\nED620015\"NULL\"0000R1L0#1234[]\r"
    );
    until(&link, |state| state.is_up()).await;
    answer.store(2, Ordering::SeqCst);
    until(&link, |state| matches!(state, PathState::Refusing { .. })).await;
    answer.store(3, Ordering::SeqCst);
    until(&link, |state| state.is_silent()).await;
    assert!(matches!(
        link.state(),
        PathState::Silent {
            last_reply_at: Some(_),
            ..
        }
    ));
    answer.store(1, Ordering::SeqCst);
    until(&link, |state| state.is_up()).await;
}

#[tokio::test]
async fn a_silent_receiver_is_asked_again_before_the_next_poll_is_due() {
    let polls = AtomicU32::new(0);
    let double = Double::listen(move |frame| match polls.fetch_add(1, Ordering::Relaxed) {
        0 => Vec::new(),
        _ => acks(frame),
    })
    .await;
    let link = link_to(&double.address, SHORT, LONG);
    until(&link, |state| state.is_silent()).await;
    until(&link, |state| state.is_up()).await;
}

#[tokio::test]
async fn an_order_does_not_wait_for_a_poll_that_gets_no_answer() {
    let mut double = Double::listen(|frame| match frame.content {
        Content::Poll => Vec::new(),
        Content::Event(_) => acks(frame),
    })
    .await;
    let link = link_to(&double.address, LONG, LONG);
    double.polled().await;
    let outcome = link.send(panic_frame(7)).await;
    assert!(matches!(outcome, Outcome::Received { .. }), "{outcome:?}");
    // One message at a time on a connection: the order went over a fresh one.
    assert_eq!(double.heard().await, Heard::Connected(2));
    assert!(matches!(double.heard().await, Heard::Frame(_)));
}

#[tokio::test]
async fn a_receiver_that_comes_late_is_found() {
    let (address, socket) = nobody();
    let link = link_to(&address, LONG, LONG);
    until(&link, |state| state.is_silent()).await;
    let listener = socket.listen(1).unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut poll = [0; 31];
    stream.read_exact(&mut poll).await.unwrap();
    let frame = Frame::decode(&poll).unwrap();
    stream.write_all(&word("ACK", &frame)).await.unwrap();
    until(&link, |state| state.is_up()).await;
}
