//! Serves one listener of the page: HTTP/1.1, over TLS or not, with a place for each connection and a
//! deadline for what a browser has to send.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

/// Connections at once of one listener. Beyond: closed at once.
pub const CONNECTIONS: usize = 64;
/// Of them from one address. Beyond: closed at once.
pub const PER_ADDRESS: usize = 12;
/// Longest wait for TLS, and for the head of a request. Beyond: closed.
pub const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Longest life of a connection; a browser opens another. Beyond: closed, so that one that does not read
/// what it asked for keeps no place for ever.
pub const CONNECTION_LASTS: Duration = Duration::from_secs(120);
/// Largest head of a request, in bytes. Beyond: refused.
const HEAD_BYTES: usize = 16 * 1024;
/// Pause after a failed accept, such as with no file left to open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who holds how many places.
type Places = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// A place; given back when dropped.
struct Place(Places, IpAddr);

impl Place {
    fn take(places: &Places, from: IpAddr) -> Option<Self> {
        let mut taken = places.lock().unwrap_or_else(PoisonError::into_inner);
        let in_all: usize = taken.values().sum();
        let own = taken.entry(from).or_default();
        if in_all >= CONNECTIONS || *own >= PER_ADDRESS {
            if *own == 0 {
                taken.remove(&from);
            }
            return None;
        }
        *own += 1;
        drop(taken);
        Some(Self(Arc::clone(places), from))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.1) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.1);
            }
        }
    }
}

/// Serves until told to stop; what is being answered is answered.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let places = Places::default();
    let mut open = JoinSet::new();
    let stopped = stop.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, from)) => {
                    let Some(place) = Place::take(&places, from.ip().to_canonical()) else {
                        continue;
                    };
                    let talk = talk(socket, from, tls.clone(), router.clone(), stopped.clone());
                    open.spawn(async move {
                        let _held = place;
                        talk.await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the page cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = open.join_next() => {}
            () = told(&mut stop) => break,
        }
    }
    drop(listener);
    let last = async { while open.join_next().await.is_some() {} };
    // Whoever is not done by then is cut off when the set is dropped.
    let _ = timeout(HEAD_WITHIN, last).await;
}

async fn talk(
    socket: TcpStream,
    from: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: watch::Receiver<bool>,
) {
    match tls {
        None => answer(socket, from, router, stop).await,
        Some(tls) => match timeout(HEAD_WITHIN, tls.accept(socket)).await {
            Ok(Ok(socket)) => answer(socket, from, router, stop).await,
            Ok(Err(error)) => tracing::debug!(%error, %from, "no TLS with a browser"),
            Err(_) => tracing::debug!(%from, "no TLS with a browser in time"),
        },
    }
}

async fn answer<S>(socket: S, from: SocketAddr, router: Router, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = over(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            match timeout(HEAD_WITHIN, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %from, "a connection of the page ended badly");
    }
}

/// Returns when the connection has had its time, or all shall end.
async fn over(stop: &mut watch::Receiver<bool>) {
    let _ = timeout(CONNECTION_LASTS, told(stop)).await;
}

async fn told(stop: &mut watch::Receiver<bool>) {
    // An error means that whoever could say stop is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}
