//! Serves one listener: HTTP/1.1 with a deadline for what a peer has to send.
//!
//! A connection whose next request head is not whole in time is closed, kept-alive ones included. Once
//! the request is read the deadline is over: streams and WebSockets last as long as they like. The
//! deadline of a body is its reader's (`http/given.rs`).

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::stop::Stop;
use crate::tls::{Listening, Peer, Socket};

/// Longest wait for a request's head, from the end of the request before or the connection's beginning.
pub const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// Serves until the process is to end, then until every connection has.
pub async fn serve(mut listening: Listening, router: Router, head_within: Duration, stop: Stop) {
    let mut open = JoinSet::new();
    let mut told = stop.clone();
    loop {
        tokio::select! {
            (socket, peer) = listening.accept() => {
                open.spawn(talk(socket, peer, router.clone(), head_within, stop.clone()));
            }
            Some(_) = open.join_next() => {}
            () = told.told() => break,
        }
    }
    drop(listening);
    while open.join_next().await.is_some() {}
}

async fn talk(socket: Socket, peer: Peer, router: Router, head_within: Duration, mut stop: Stop) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_within)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.told() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, peer = %peer.address, "a connection ended badly");
    }
}

#[cfg(test)]
mod tests;
