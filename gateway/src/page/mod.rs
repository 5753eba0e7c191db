//! The box's own page, in its centre's network: how the box is, who is inside, what devices say (D10).
//!
//! HTTPS with the box's certificate and a log-in of its own; works without the internet. Shows, and changes
//! nothing yet. Whatever it does, the alarm path waits for none of it: it asks the intake at most once a
//! second and reads the store on a connection of its own.

mod attempts;
mod door;
mod http;
mod look;
mod pin;
mod session;
mod view;
mod words;

use std::net::SocketAddr;
use std::sync::Arc;

use ambient::{Entropy, NoEntropy};
use domain::config::Config;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::clock::BoxClock;
use crate::intake::Ask;
use crate::seal::BoxKey;
use crate::signal_log::SignalLog;
use crate::status::Shown;
use crate::store::Reader;
use http::Page;
use look::{Line, Looks};
use pin::Pins;

/// Doors that are open and not yet served.
#[derive(Debug)]
pub struct Bound {
    /// Where the page is.
    pub page: Vec<TcpListener>,
    /// Plain HTTP that leads there.
    pub redirect: Vec<TcpListener>,
}

impl Bound {
    /// Opens the doors.
    ///
    /// # Errors
    /// Names the address that cannot be had.
    pub async fn bind(
        page: &[SocketAddr],
        redirect: &[SocketAddr],
    ) -> Result<Self, (SocketAddr, std::io::Error)> {
        Ok(Self {
            page: bind_all(page).await?,
            redirect: bind_all(redirect).await?,
        })
    }

    /// The addresses of the page, then those that lead to it.
    #[must_use]
    pub fn addresses(&self) -> [Vec<SocketAddr>; 2] {
        [&self.page, &self.redirect]
            .map(|doors| doors.iter().flat_map(TcpListener::local_addr).collect())
    }
}

async fn bind_all(wanted: &[SocketAddr]) -> Result<Vec<TcpListener>, (SocketAddr, std::io::Error)> {
    let mut bound = Vec::with_capacity(wanted.len());
    for &address in wanted {
        let listener = TcpListener::bind(address).await;
        bound.push(listener.map_err(|error| (address, error))?);
    }
    Ok(bound)
}

/// What the page works with.
pub struct Parts {
    /// Its certificate.
    pub tls: Arc<ServerConfig>,
    /// How the box is.
    pub shown: Shown,
    /// The Config in force.
    pub config: watch::Receiver<Option<Arc<Config>>>,
    /// What devices say.
    pub signals: SignalLog,
    /// The way to the intake.
    pub asks: mpsc::Sender<Ask>,
    /// A connection to the store of its own.
    pub reader: Reader,
    /// The time.
    pub clock: BoxClock,
    /// For tokens.
    pub entropy: Entropy,
    /// Seals the marks of known devices.
    pub box_key: BoxKey,
}

/// Serves until told to stop.
///
/// # Errors
/// When there is no randomness for the hash that unknown names are checked against.
pub async fn serve(
    bound: Bound,
    parts: Parts,
    stop: watch::Receiver<bool>,
) -> Result<(), NoEntropy> {
    let Parts {
        tls,
        shown,
        config,
        signals,
        asks,
        reader,
        clock,
        entropy,
        box_key,
    } = parts;
    let line = watch::Sender::new(Line::new(&clock));
    let followed = line.subscribe();
    let following = tokio::spawn(look::follow(shown.link.clone(), clock.clone(), line));
    let pins = Pins::new(&entropy)?;
    let afloat = shown.afloat.clone();
    let page = Arc::new(Page {
        shown,
        config,
        signals,
        looks: Looks::new(asks, reader, afloat, clock.clone()),
        line: followed,
        clock,
        entropy,
        box_key,
        pins,
        sessions: Default::default(),
        attempts: Default::default(),
    });
    let [addresses, _] = bound.addresses();
    let port = addresses.first().map_or(443, SocketAddr::port);
    let mut doors = JoinSet::new();
    for listener in bound.page {
        let tls = TlsAcceptor::from(Arc::clone(&tls));
        let router = http::router(Arc::clone(&page));
        doors.spawn(door::serve(listener, Some(tls), router, stop.clone()));
    }
    for listener in bound.redirect {
        let router = http::redirect(Arc::clone(&page), port);
        doors.spawn(door::serve(listener, None, router, stop.clone()));
    }
    while doors.join_next().await.is_some() {}
    following.abort();
    if let Some(page) = Arc::into_inner(page) {
        page.looks.end().await;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
