#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::WebSocketUpgrade;
use axum::extract::ws::{Message, WebSocket};
use axum::routing::get;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite;

use super::*;
use crate::metrics::Metrics;
use crate::stop::{Stopper, stop};
use crate::tls::PLACES_EACH;

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(Message::Text(text))) = socket.recv().await {
        let _ = socket.send(Message::Text(text)).await;
    }
}

/// A server whose `/late` answers once it is notified.
struct Served {
    address: SocketAddr,
    late: Arc<Notify>,
    _stopper: Stopper,
}

async fn served(head_within: Duration, trusted_proxy: bool) -> Served {
    let late = Arc::new(Notify::new());
    let notified = Arc::clone(&late);
    let router = Router::new()
        .route(
            "/echo",
            get(async |up: WebSocketUpgrade| up.on_upgrade(echo)),
        )
        .route(
            "/late",
            get(async move || {
                notified.notified().await;
                "late"
            }),
        );
    let any = "127.0.0.1:0".parse().unwrap();
    let listening = Listening::for_browsers(any, None, trusted_proxy, Metrics::default())
        .await
        .unwrap();
    let address = listening.address();
    let (stopper, stop) = stop();
    tokio::spawn(serve(listening, router, head_within, stop));
    Served {
        address,
        late,
        _stopper: stopper,
    }
}

/// What comes until the other end closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn who_sends_no_request_is_cut_and_who_has_sent_one_is_not() {
    let served = served(Duration::from_millis(200), false).await;
    let mut waiting = TcpStream::connect(served.address).await.unwrap();
    let request = b"GET /late HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    waiting.write_all(request).await.unwrap();
    let url = format!("ws://{}/echo", served.address);
    let tcp = TcpStream::connect(served.address).await.unwrap();
    let (mut line, _) = tokio_tungstenite::client_async(url, tcp).await.unwrap();

    let mut silent = TcpStream::connect(served.address).await.unwrap();
    let mut slow = TcpStream::connect(served.address).await.unwrap();
    slow.write_all(b"GET /late HTTP/1.1\r\nhost:")
        .await
        .unwrap();
    rest(&mut silent).await;
    rest(&mut slow).await;

    served.late.notify_one();
    assert!(rest(&mut waiting).await.ends_with("late"));
    line.send(tungstenite::Message::text("here")).await.unwrap();
    let back = line.next().await.unwrap().unwrap();
    assert_eq!(back.into_text().unwrap().as_str(), "here");
}

/// From another address of this machine.
async fn from_elsewhere(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

async fn answered(mut stream: TcpStream) -> bool {
    let request = b"GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let _ = stream.write_all(request).await;
    rest(&mut stream).await.starts_with("HTTP/1.1 404")
}

#[tokio::test]
async fn one_address_cannot_take_every_place_unless_it_is_our_proxy() {
    for trusted_proxy in [false, true] {
        let served = served(Duration::from_secs(600), trusted_proxy).await;
        let mut all = Vec::new();
        for _ in 0..PLACES_EACH {
            all.push(TcpStream::connect(served.address).await.unwrap());
        }
        let further = TcpStream::connect(served.address).await.unwrap();
        assert_eq!(answered(further).await, trusted_proxy);
        assert!(answered(from_elsewhere(served.address).await).await);
    }
}
