//! From an accepted socket to a stream of MQTT bytes: through TLS, a WebSocket upgrade, both, or neither.
//!
//! Owns the two handshakes. Reads no byte of MQTT; how long a stranger may take is for [`super::visit`].

use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};

use super::Limits;
use super::connection::attend;
use super::frames::{self, Doorstep, Frames};
use super::listener::{Admitted, House};
use super::report::{CloseReason, Refusal};
use super::visit::{Visit, ended};

/// The path of the WebSocket listeners.
pub const WEBSOCKET_PATH: &str = "/mqtt";
/// The subprotocol a client must offer (MQTT-6.0.0-3) and is answered (MQTT-6.0.0-4).
const SUBPROTOCOL: &str = "mqtt";

/// What is spoken below MQTT on a listener.
#[derive(Clone)]
pub(super) enum Entrance {
    Tcp,
    Tls(TlsAcceptor),
    WebSocket,
    WebSocketTls(TlsAcceptor),
}

/// Carries one accepted socket to its end.
pub(super) async fn enter(
    socket: TcpStream,
    entrance: Entrance,
    admitted: Admitted,
    house: Arc<House>,
) {
    let mut visit = Visit::new(admitted, house);
    match entrance {
        Entrance::Tcp => {
            let (reader, writer) = socket.into_split();
            attend(reader, writer, visit).await;
        }
        Entrance::Tls(acceptor) => {
            if let Some(stream) = shake(&mut visit, tls(&acceptor, socket)).await {
                speak(stream, visit).await;
            }
        }
        Entrance::WebSocket => {
            let (limits, logged_in) = (visit.house.limits, visit.admitted.logged_in());
            let upgraded = upgrade(socket, limits, logged_in);
            if let Some(stream) = shake(&mut visit, upgraded).await {
                speak(stream, visit).await;
            }
        }
        Entrance::WebSocketTls(acceptor) => {
            let (limits, logged_in) = (visit.house.limits, visit.admitted.logged_in());
            let upgraded = async {
                let stream = tls(&acceptor, socket).await?;
                upgrade(stream, limits, logged_in).await
            };
            if let Some(stream) = shake(&mut visit, upgraded).await {
                speak(stream, visit).await;
            }
        }
    }
}

async fn speak<S: AsyncRead + AsyncWrite>(stream: S, visit: Visit) {
    let (reader, writer) = split(stream);
    attend(reader, writer, visit).await;
}

/// Why a handshake came to nothing.
enum Unshaken {
    /// The peer went away.
    Gone,
    /// It said something else, or did not want us.
    Refused(Refusal),
}

/// Lets a handshake run within the visit; on failure all is counted and over.
async fn shake<S>(
    visit: &mut Visit,
    handshake: impl Future<Output = Result<S, Unshaken>>,
) -> Option<S> {
    let house = Arc::clone(&visit.house);
    let handshake = handshake.map(|shaken| {
        shaken.map_err(|unshaken| match unshaken {
            Unshaken::Gone => CloseReason::PeerClosed,
            Unshaken::Refused(why) => {
                house.reporter.refused(None, why);
                CloseReason::Refused
            }
        })
    });
    let shaken = AssertUnwindSafe(visit.step(handshake)).catch_unwind();
    match shaken.await.unwrap_or(Err(CloseReason::Panicked)) {
        Ok(stream) => Some(stream),
        Err(reason) => {
            ended(&visit.house, reason);
            None
        }
    }
}

async fn tls(acceptor: &TlsAcceptor, socket: TcpStream) -> Result<TlsStream<TcpStream>, Unshaken> {
    acceptor.accept(socket).await.map_err(|error| {
        tracing::debug!(%error, "no TLS handshake");
        // As which rustls passes on its own complaints; all else is the socket's.
        if error.kind() == io::ErrorKind::InvalidData {
            Unshaken::Refused(Refusal::Tls)
        } else {
            Unshaken::Gone
        }
    })
}

async fn upgrade<S>(
    stream: S,
    limits: Limits,
    logged_in: Arc<AtomicBool>,
) -> Result<Frames<Doorstep<S>>, Unshaken>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = Doorstep::new(stream, limits.connect_bytes, logged_in);
    let config = frames::config(limits.packet_bytes);
    let upgraded = accept_hdr_async_with_config(stream, answer, Some(config)).await;
    upgraded.map(Frames::new).map_err(|error| {
        tracing::debug!(%error, "no WebSocket upgrade");
        let gone = if let Error::Io(error) = &error {
            error.kind() != io::ErrorKind::FileTooLarge
        } else {
            matches!(error, Error::Protocol(ProtocolError::HandshakeIncomplete))
        };
        if gone {
            Unshaken::Gone
        } else {
            Unshaken::Refused(Refusal::WebSocket)
        }
    })
}

/// Any origin may ask: whoever connects has to log in, and no browser adds a secret of MQTT by itself.
#[expect(clippy::result_large_err, reason = "the crate's own types")]
fn answer(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    if request.uri().path() != WEBSOCKET_PATH {
        return Err(refusal(StatusCode::NOT_FOUND, "MQTT is at /mqtt\n"));
    }
    let offers = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL);
    let mut offered = offers
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    if !offered.any(|name| name.trim() == SUBPROTOCOL) {
        let text = "offer the WebSocket subprotocol mqtt\n";
        return Err(refusal(StatusCode::BAD_REQUEST, text));
    }
    let chosen = HeaderValue::from_static(SUBPROTOCOL);
    response
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, chosen);
    Ok(response)
}

fn refusal(status: StatusCode, text: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(text.to_owned()));
    *response.status_mut() = status;
    response
}
