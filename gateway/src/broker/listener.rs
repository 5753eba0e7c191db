//! Listening sockets, and who may stand at the door: bind, accept, limits before log-in, shutdown.
//!
//! Owns the listeners, the count of sockets per address and the queue of those not logged in. Reads no byte
//! of any connection.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::access::Access;
use super::entrance::{Entrance, enter};
use super::report::{CloseReason, Counters, Notice, Refusal, Reporter, add, subtract};
use super::session::Sessions;
use super::{Doors, Limits, Memory, Settings, Work};

/// Connections the kernel keeps for us between two accepts. Beyond: the kernel lets them wait or time out.
const BACKLOG: u32 = 1024;
/// Pause after a failed accept. The usual cause, no file descriptor left, does not pass faster.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the broker cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A TLS listener without a certificate to show.
    #[error("{0} is to speak TLS, and there is no certificate")]
    NoCertificate(SocketAddr),
    /// The system refused one of the addresses.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address as configured.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Open listeners, not served yet. Connections already wait in the kernel's backlog.
pub struct Bound {
    listeners: Vec<(TcpListener, Entrance)>,
    addresses: Doors,
    limits: Limits,
}

impl Bound {
    /// The addresses bound, in the order of the settings, with real ports.
    #[must_use]
    pub fn addresses(&self) -> &Doors {
        &self.addresses
    }
}

/// Opens every listener, or none. Without an address nobody can connect: the box then hears bridges only.
///
/// # Errors
/// [`BindError`] names the address that failed.
pub async fn bind(settings: Settings) -> Result<Bound, BindError> {
    let Settings { doors, tls, limits } = settings;
    let (mut listeners, mut addresses) = (Vec::new(), Doors::default());
    let acceptor = tls.map(TlsAcceptor::from);
    let secured = |address| acceptor.clone().ok_or(BindError::NoCertificate(address));
    for address in doors.tcp {
        let bound = listen(address, Entrance::Tcp, &mut listeners)?;
        addresses.tcp.push(bound);
    }
    for address in doors.tls {
        let entrance = Entrance::Tls(secured(address)?);
        addresses
            .tls
            .push(listen(address, entrance, &mut listeners)?);
    }
    for address in doors.websocket {
        let bound = listen(address, Entrance::WebSocket, &mut listeners)?;
        addresses.websocket.push(bound);
    }
    for address in doors.websocket_tls {
        let entrance = Entrance::WebSocketTls(secured(address)?);
        let bound = listen(address, entrance, &mut listeners)?;
        addresses.websocket_tls.push(bound);
    }
    Ok(Bound {
        listeners,
        addresses,
        limits,
    })
}

/// Opens one listener and tells its address with the real port.
fn listen(
    address: SocketAddr,
    entrance: Entrance,
    listeners: &mut Vec<(TcpListener, Entrance)>,
) -> Result<SocketAddr, BindError> {
    let (listener, bound) =
        open(address).map_err(|source| BindError::Listen { address, source })?;
    listeners.push((listener, entrance));
    Ok(bound)
}

fn open(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A box that restarts under load has sockets of its former life in TIME-WAIT.
    socket.set_reuseaddr(true)?;
    // Inherited by accepted sockets: finds dead peers of clients that turned the MQTT keep-alive off.
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// What all connections share.
pub(super) struct House {
    pub(super) limits: Limits,
    pub(super) access: watch::Receiver<Arc<Access>>,
    pub(super) intake: mpsc::Sender<Work>,
    pub(super) reporter: Arc<Reporter>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) shutdown: watch::Receiver<bool>,
}

impl House {
    pub(super) fn new(
        limits: Limits,
        access: watch::Receiver<Arc<Access>>,
        intake: mpsc::Sender<Work>,
        reporter: Arc<Reporter>,
        memory: Memory,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        let sessions = Sessions::new(
            memory,
            access.clone(),
            intake.clone(),
            Arc::clone(&reporter),
        );
        Self {
            limits,
            access,
            intake,
            reporter,
            sessions: Arc::new(sessions),
            shutdown,
        }
    }
}

/// Serves until `shutdown` turns true or its sender is gone; then stops accepting, lets pending publishes be
/// committed and acknowledged within [`Limits::shutdown_grace`], and closes.
///
/// `memory`: what the broker remembers from before. `intake`: a full channel stops the reading, connection by connection; a closed one ends connections.
/// `notices`: a full channel loses notices, see [`Counters::notices_lost`]. `access`: replace it whole;
/// connections whose credential vanished or changed are closed.
pub async fn serve(
    bound: Bound,
    access: watch::Receiver<Arc<Access>>,
    intake: mpsc::Sender<Work>,
    memory: Memory,
    notices: mpsc::Sender<Notice>,
    counters: Arc<Counters>,
    mut shutdown: watch::Receiver<bool>,
) {
    let reporter = Arc::new(Reporter::new(Arc::clone(&counters), notices));
    let stop = shutdown.clone();
    let house = Arc::new(House::new(
        bound.limits,
        access,
        intake,
        reporter,
        memory,
        stop,
    ));
    let door = Arc::new(Door::new(&house));
    let mut listeners = Listeners(bound.listeners);
    let mut tasks = JoinSet::new();
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut aging = pin!(age(Arc::clone(&house.sessions)));
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut shutdown) => break,
            _ = second.tick() => house.reporter.renew(),
            () = &mut aging => {}
            Some(ended) = tasks.join_next() => note_panic(&ended, &counters),
            accepted = listeners.accept() => match accepted {
                Ok(accepted) => receive(accepted, &door, &house, &mut tasks),
                Err(error) => {
                    add(&counters.accept_errors);
                    tracing::warn!(%error, "accepting an MQTT connection failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listeners);
    finish(tasks, house.limits.shutdown_grace, &counters).await;
}

/// Lets time act on sessions. A task of the listener's, so that a full intake delays no accept.
async fn age(sessions: Arc<Sessions>) {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        second.tick().await;
        sessions.tick().await;
    }
}

/// Returns once the broker is to stop: told so, or nobody is left to tell it. Safe to cancel.
pub(super) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

fn receive(
    (socket, peer, entrance): Accepted,
    door: &Arc<Door>,
    house: &Arc<House>,
    tasks: &mut JoinSet<()>,
) {
    add(&house.reporter.counters.accepted);
    let Some(admitted) = door.admit(peer.ip().to_canonical()) else {
        house.reporter.refused(None, Refusal::AddressFull);
        return;
    };
    // Acknowledgements are small and wanted at once. An error shows up at the first read as well.
    let _ = socket.set_nodelay(true);
    tasks.spawn(enter(socket, entrance, admitted, Arc::clone(house)));
}

/// Waits for the connections to end by themselves, then cuts the rest.
async fn finish(mut tasks: JoinSet<()>, grace: Duration, counters: &Counters) {
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            note_panic(&ended, counters);
        }
    };
    if timeout(grace, all).await.is_err() {
        for _ in 0..tasks.len() {
            counters.count_close(CloseReason::Shutdown);
        }
        tasks.shutdown().await;
    }
}

/// A task catches its own panics; this is for one on its last steps.
fn note_panic(ended: &Result<(), JoinError>, counters: &Counters) {
    if ended.is_err() {
        counters.count_close(CloseReason::Panicked);
        tracing::error!("a connection task panicked while it closed");
    }
}

/// A new socket, whose it is, and what is spoken on it.
type Accepted = (TcpStream, SocketAddr, Entrance);

struct Listeners(Vec<(TcpListener, Entrance)>);

impl Listeners {
    async fn accept(&mut self) -> io::Result<Accepted> {
        // The listener served last is asked last, so that a flood on one does not shut out the others.
        let (index, accepted) = poll_fn(|context| self.poll(context)).await;
        let served = self.0.remove(index);
        let entrance = served.1.clone();
        self.0.push(served);
        accepted.map(|(socket, peer)| (socket, peer, entrance))
    }

    fn poll(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<(usize, io::Result<(TcpStream, SocketAddr)>)> {
        for (index, (listener, _)) in self.0.iter().enumerate() {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready((index, accepted));
            }
        }
        Poll::Pending
    }
}

/// Counts sockets per address, and evicts the oldest that has not logged in when those are too many. A flood
/// from one address is held by the first, and idle sockets from many by the second: who logs in at once is
/// never the oldest for long.
pub(super) struct Door {
    queue: Mutex<Queue>,
    unidentified: usize,
    per_address: usize,
    reporter: Arc<Reporter>,
}

#[derive(Default)]
struct Queue {
    per_address: HashMap<IpAddr, usize>,
    /// By order of arrival. Dropping the sender evicts.
    unidentified: BTreeMap<u64, (IpAddr, oneshot::Sender<Infallible>)>,
    arrivals: u64,
}

impl Queue {
    /// Makes room at the cost of the address that takes most of it, so that a host that opens sockets and says
    /// nothing puts out its own.
    fn evict(&mut self) {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for (address, _) in self.unidentified.values() {
            *counts.entry(*address).or_default() += 1;
        }
        let most = counts.values().max().copied();
        let greedy = |address: &IpAddr| counts.get(address).copied() == most;
        let oldest = self
            .unidentified
            .iter()
            .find(|(_, (address, _))| greedy(address));
        if let Some(arrival) = oldest.map(|(arrival, _)| *arrival) {
            self.unidentified.remove(&arrival);
        }
    }
}

impl Door {
    pub(super) fn new(house: &House) -> Self {
        Self {
            queue: Mutex::default(),
            unidentified: house.limits.unidentified,
            per_address: house.limits.per_address,
            reporter: Arc::clone(&house.reporter),
        }
    }

    /// Takes a socket in, or not if its address has too many.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Admitted> {
        let mut queue = self.lock();
        let count = queue.per_address.entry(address).or_default();
        if *count >= self.per_address {
            return None;
        }
        *count += 1;
        while queue.unidentified.len() >= self.unidentified.max(1) {
            queue.evict();
        }
        queue.arrivals += 1;
        let arrival = queue.arrivals;
        let (place, evicted) = oneshot::channel();
        queue.unidentified.insert(arrival, (address, place));
        add(&self.reporter.counters.open);
        Some(Admitted {
            door: Arc::clone(self),
            address,
            arrival,
            evicted,
            logged_in: Arc::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic under the lock leaves counts that are still whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket's place at the door. Dropped with the socket.
pub(super) struct Admitted {
    door: Arc<Door>,
    address: IpAddr,
    arrival: u64,
    evicted: oneshot::Receiver<Infallible>,
    logged_in: Arc<AtomicBool>,
}

impl Admitted {
    /// Turns true once it is [`Self::identified`].
    pub(super) fn logged_in(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.logged_in)
    }

    /// Returns when the place was given to a newcomer. Not to be awaited again, nor after
    /// [`Self::identified`].
    pub(super) async fn evicted(&mut self) {
        let _ = (&mut self.evicted).await;
    }

    /// Leaves the queue of those not logged in. False: too late, evicted.
    pub(super) fn identified(&self) -> bool {
        let mut queue = self.door.lock();
        let in_time = queue.unidentified.remove(&self.arrival).is_some();
        self.logged_in.store(in_time, Ordering::Relaxed);
        in_time
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut queue = self.door.lock();
        queue.unidentified.remove(&self.arrival);
        if let Some(count) = queue.per_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                queue.per_address.remove(&self.address);
            }
        }
        drop(queue);
        subtract(&self.door.reporter.counters.open);
    }
}
