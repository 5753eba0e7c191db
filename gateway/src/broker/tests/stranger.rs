//! The other side of TLS and WebSocket: clients' handshakes, and a certificate for the bench.

use std::sync::{Arc, OnceLock};

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::Bench;

/// Any stream of bytes.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// For `localhost`, made once.
fn certificate() -> &'static (CertificateDer<'static>, Vec<u8>) {
    static MADE: OnceLock<(CertificateDer<'static>, Vec<u8>)> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.der().clone(), made.signing_key.serialize_der())
    })
}

pub(super) fn server() -> Arc<ServerConfig> {
    let (certificate, key) = certificate();
    let key = PrivateKeyDer::try_from(key.clone()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key);
    Arc::new(config.unwrap())
}

/// Trusts this certificate only.
pub(super) fn connector(trusted: &CertificateDer<'static>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn upgraded<S: Stream>(stream: S) -> WebSocketStream<S> {
    let mut request = "ws://localhost/mqtt".into_client_request().unwrap();
    let offer = HeaderValue::from_static("mqtt");
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", offer);
    client_async(request, stream).await.unwrap().0
}

impl Bench {
    pub(super) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(super) async fn tls(&self) -> TlsStream<TcpStream> {
        self.secured(self.doors.tls[0]).await
    }

    async fn secured(&self, door: std::net::SocketAddr) -> TlsStream<TcpStream> {
        let socket = TcpStream::connect(door).await.unwrap();
        let connector = connector(&certificate().0);
        let name = "localhost".try_into().unwrap();
        connector.connect(name, socket).await.unwrap()
    }

    pub(super) async fn websocket(&self) -> WebSocketStream<TcpStream> {
        upgraded(TcpStream::connect(self.doors.websocket[0]).await.unwrap()).await
    }

    pub(super) async fn websocket_tls(&self) -> WebSocketStream<TlsStream<TcpStream>> {
        upgraded(self.secured(self.doors.websocket_tls[0]).await).await
    }
}
