//! The two listeners: browsers (plain on loopback, or TLS) and boxes (mutual TLS).
//!
//! Owns handshakes and their limits and tells handlers by which key a peer came. Never decides
//! whether that key is still good: the row does, not the certificate's dates (D10).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use domain::digest::Sha256;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::Certificate;
use crate::keys::{KeyError, KeyFiles, fingerprint_of};
use crate::metrics::{Counted, Metrics};
use crate::quota::{Place, Quota, whose};

/// Longest handshake; a slower peer is cut.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Connections of one listener, on the boxes' without handshakes; at it a further one is closed at once.
const PLACES: usize = 8_192;
/// Connections of one address (see [`whose`]), on the boxes' listener handshakes only; at it a further one
/// is closed at once.
pub const PLACES_EACH: usize = 256;
/// Handshakes on the boxes' listener. Apart from boxes let in, so that strangers take no box's place.
const HANDSHAKES: usize = 1_024;
/// Connections by one box's key; more than a box that reconnects can have dying at one time.
const PLACES_A_KEY: usize = 16;
/// Open files for every place of both listeners and for all else (store, receivers, logs).
pub const FILES_WANTED: u64 = 2 * PLACES as u64 + HANDSHAKES as u64 + 512;
/// Accepted connections waiting for the server loop; at it handshakes wait.
const ARRIVALS: usize = 64;
/// Pause after the system refused to accept (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Where from.
    pub address: SocketAddr,
    /// Digest of the public key it proved to hold, on the boxes' listener.
    pub key: Option<Sha256>,
}

/// An open listener.
pub struct Listening {
    address: SocketAddr,
    arrivals: mpsc::Receiver<(Socket, Peer)>,
    task: AbortHandle,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// The system's complaint.
        source: io::Error,
    },
    /// A certificate or key file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Certificate and key do not go together.
    #[error("certificate and key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

impl Listening {
    /// For browsers: TLS with a certificate, plain without. A trusted proxy on this machine may have as
    /// many connections as there are.
    ///
    /// # Errors
    /// When the address or the certificate cannot be used.
    pub async fn for_browsers(
        address: SocketAddr,
        certificate: Option<&Certificate>,
        trusted_proxy: bool,
        metrics: Metrics,
    ) -> Result<Self, ListenError> {
        let acceptor = match certificate {
            Some(certificate) => {
                let (chain, key) = pair(&certificate.chain, &certificate.key)?;
                let config = ServerConfig::builder()
                    .with_no_client_auth()
                    .with_single_cert(chain, key)?;
                Some(acceptor(config))
            }
            None => None,
        };
        let places = Places::for_browsers(trusted_proxy);
        Self::open(address, acceptor, places, metrics).await
    }

    /// For boxes: only a peer whose certificate our CA signed gets through.
    ///
    /// # Errors
    /// When the address or a key file cannot be used.
    pub async fn for_boxes(
        address: SocketAddr,
        files: &KeyFiles,
        metrics: Metrics,
    ) -> Result<Self, ListenError> {
        let (chain, key) = pair(&files.boxes_certificate, &files.boxes_key)?;
        let config = ServerConfig::builder()
            .with_client_cert_verifier(Arc::new(OurBoxes::new(&files.ca)?))
            .with_single_cert(chain, key)?;
        Self::open(
            address,
            Some(acceptor(config)),
            Places::for_boxes(),
            metrics,
        )
        .await
    }

    async fn open(
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        places: Places,
        metrics: Metrics,
    ) -> Result<Self, ListenError> {
        let bind = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = bind
            .await
            .map_err(|source| ListenError::Bind { address, source })?;
        let (arrived, arrivals) = mpsc::channel(ARRIVALS);
        let entrance = Entrance {
            tls,
            places,
            arrived,
            metrics,
        };
        let task = tokio::spawn(accept(listener, entrance)).abort_handle();
        Ok(Self {
            address,
            arrivals,
            task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection past its handshake.
    pub async fn accept(&mut self) -> (Socket, Peer) {
        match self.arrivals.recv().await {
            Some(arrival) => arrival,
            // The accepting task ends only with us.
            None => std::future::pending().await,
        }
    }
}

/// Who may have how many connections.
#[derive(Clone)]
struct Places {
    arriving: Quota<IpAddr>,
    /// Of peers let in by their key, which then give their first place back.
    admitted: Option<Quota<Sha256>>,
    trusted_proxy: bool,
}

/// A connection's place.
enum Held {
    Address(#[expect(dead_code, reason = "given back when dropped")] Place<IpAddr>),
    Key(#[expect(dead_code, reason = "given back when dropped")] Place<Sha256>),
}

impl Places {
    fn for_browsers(trusted_proxy: bool) -> Self {
        Self {
            arriving: Quota::new(PLACES, PLACES_EACH),
            admitted: None,
            trusted_proxy,
        }
    }

    fn for_boxes() -> Self {
        Self {
            arriving: Quota::new(HANDSHAKES, PLACES_EACH),
            admitted: Some(Quota::new(PLACES, PLACES_A_KEY)),
            trusted_proxy: false,
        }
    }

    fn arrive(&self, address: IpAddr) -> Option<Place<IpAddr>> {
        let ours = self.trusted_proxy && address.to_canonical().is_loopback();
        self.arriving.take((!ours).then(|| whose(address)))
    }

    fn admit(&self, arrived: Place<IpAddr>, key: Option<Sha256>) -> Option<Held> {
        match &self.admitted {
            Some(admitted) => admitted.take(key).map(Held::Key),
            None => Some(Held::Address(arrived)),
        }
    }
}

/// What happens to whoever connects.
#[derive(Clone)]
struct Entrance {
    tls: Option<TlsAcceptor>,
    places: Places,
    arrived: mpsc::Sender<(Socket, Peer)>,
    metrics: Metrics,
}

async fn accept(listener: TcpListener, entrance: Entrance) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = entrance.places.arrive(address.ip()) else {
            entrance.full(address);
            continue;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a peer went away at once");
            continue;
        }
        tokio::spawn(entrance.clone().enter(stream, address, place));
    }
}

impl Entrance {
    fn full(&self, address: SocketAddr) {
        self.metrics.count(Counted::NoPlace);
        tracing::debug!(peer = %address, "a connection is closed: its places are taken");
    }

    async fn enter(self, stream: TcpStream, address: SocketAddr, place: Place<IpAddr>) {
        let shaken = handshake(stream, address, self.tls.clone(), &self.metrics).await;
        let Some((transport, key)) = shaken else {
            return;
        };
        let Some(held) = self.places.admit(place, key) else {
            return self.full(address);
        };
        let socket = Socket {
            transport,
            _place: held,
        };
        let _ = self.arrived.send((socket, Peer { address, key })).await;
    }
}

async fn handshake(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    metrics: &Metrics,
) -> Option<(Transport, Option<Sha256>)> {
    let Some(tls) = tls else {
        return Some((Transport::Plain(stream), None));
    };
    match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates();
            let key = certificates.and_then(|chain| fingerprint_of(chain.first()?));
            Some((Transport::Tls(Box::new(stream)), key))
        }
        Ok(Err(error)) => {
            let counted = named(&error);
            metrics.count(counted);
            tracing::info!(peer = %address, refused = ?counted, %error, "handshake refused");
            None
        }
        Err(_) => {
            metrics.count(Counted::BrokenHandshake);
            tracing::info!(peer = %address, "handshake took too long");
            None
        }
    }
}

fn named(error: &io::Error) -> Counted {
    let inner = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    let bad_key = inner.is_some_and(|error| {
        *error == rustls::Error::NoCertificatesPresented
            || matches!(error, rustls::Error::InvalidCertificate(_))
    });
    if bad_key {
        Counted::BadClientKey
    } else {
        Counted::BrokenHandshake
    }
}

fn acceptor(mut config: ServerConfig) -> TlsAcceptor {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn pair(chain: &Path, key: &Path) -> Result<Pair, KeyError> {
    let unreadable = |path: &Path, wanted| KeyError::Unreadable {
        path: path.to_owned(),
        wanted,
    };
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|_| unreadable(chain, "a certificate chain (PEM)"))?;
    let key_der =
        PrivateKeyDer::from_pem_file(key).map_err(|_| unreadable(key, "a private key (PEM)"))?;
    Ok((certificates, key_der))
}

/// Lets in whoever our CA signed for, whatever the date.
#[derive(Debug)]
struct OurBoxes(Arc<dyn ClientCertVerifier>);

impl OurBoxes {
    fn new(ca: &Path) -> Result<Self, KeyError> {
        let unreadable = || KeyError::Unreadable {
            path: ca.to_owned(),
            wanted: "a CA certificate (PEM)",
        };
        let certificate = CertificateDer::from_pem_file(ca).map_err(|_| unreadable())?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate).map_err(|_| unreadable())?;
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
        Ok(Self(verifier.map_err(|_| unreadable())?))
    }
}

impl ClientCertVerifier for OurBoxes {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    /// Checks as of the certificate's own first day, so that no clock can shut a box out.
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let bad = || rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
        let (_, parsed) = x509_parser::parse_x509_certificate(end_entity).map_err(|_| bad())?;
        let first = parsed.validity().not_before.timestamp();
        let first = u64::try_from(first).map_err(|_| bad())?;
        let then = UnixTime::since_unix_epoch(Duration::from_secs(first));
        self.0.verify_client_cert(end_entity, intermediates, then)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// A connection and its place among those of the listener.
pub struct Socket {
    transport: Transport,
    _place: Held,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Runs the same call on either transport.
macro_rules! on_either {
    ($socket:expr, $io:ident => $call:expr) => {
        match &mut $socket.get_mut().transport {
            Transport::Plain(stream) => {
                let $io = Pin::new(stream);
                $call
            }
            Transport::Tls(stream) => {
                let $io = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_either!(self, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_either!(self, io => io.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, io => io.poll_shutdown(cx))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(n: usize) -> IpAddr {
        let bits = 0x0a00_0000 + u32::try_from(n).unwrap();
        IpAddr::V4(std::net::Ipv4Addr::from_bits(bits))
    }

    fn key(n: usize) -> Option<Sha256> {
        Some(Sha256::of(&[&n.to_be_bytes()]))
    }

    #[test]
    fn strangers_take_no_place_of_a_box_and_one_box_not_those_of_others() {
        let places = Places::for_boxes();
        let enter = |key| places.admit(places.arrive(address(0)).unwrap(), key);
        let _behind_one_address = (0..2 * PLACES_EACH)
            .map(|n| enter(key(n)).unwrap())
            .collect::<Vec<_>>();
        let _own = [(); PLACES_A_KEY - 1].map(|()| enter(key(0)).unwrap());
        assert!(enter(key(0)).is_none());
        let arriving = places.arrive(address(0)).unwrap();
        let strangers = (1..HANDSHAKES).map(|n| places.arrive(address(n)).unwrap());
        let strangers = strangers.collect::<Vec<_>>();
        assert!(places.arrive(address(HANDSHAKES)).is_none());
        assert!(places.admit(arriving, key(9_999)).is_some());
        drop(strangers);
        let _each = [(); PLACES_EACH].map(|()| places.arrive(address(1)).unwrap());
        assert!(places.arrive(address(1)).is_none());
        assert!(places.arrive(address(2)).is_some());
    }
}
