//! One WebSocket over TLS: opened, written, read, closed. Decides nothing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use domain::wire::{Down, FRAME_MAX, Up};
use futures_util::{SinkExt as _, StreamExt as _};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::machine::{Input, Trouble};

/// Longest time to a standing WebSocket. Beyond: unreachable.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// Longest write of one frame. Beyond: the line is dead.
const WRITE_WITHIN: Duration = Duration::from_secs(20);
/// Longest wait for a close to be written. Beyond: it is cut.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// Bytes read from the socket at once.
const READ_BUFFER: usize = 16 * 1024;

/// Where the cloud is and how to know it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Host and port.
    pub address: String,
    /// The name its certificate must carry.
    pub server_name: ServerName<'static>,
    /// Our side of TLS.
    pub tls: Arc<ClientConfig>,
}

/// A standing connection.
pub(super) struct Line(WebSocketStream<TlsStream<TcpStream>>);

impl Line {
    pub(super) async fn open(peer: &Peer) -> Result<Self, Trouble> {
        let opened = timeout(OPEN_WITHIN, Self::try_open(peer)).await;
        opened.unwrap_or(Err(Trouble::Unreachable))
    }

    async fn try_open(peer: &Peer) -> Result<Self, Trouble> {
        let unreachable = |_: io::Error| Trouble::Unreachable;
        let tcp = TcpStream::connect(&peer.address)
            .await
            .map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        let connector = TlsConnector::from(Arc::clone(&peer.tls));
        let tls = connector.connect(peer.server_name.clone(), tcp).await;
        let tls = tls.map_err(|error| of_tls(&error))?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(FRAME_MAX))
            .max_frame_size(Some(FRAME_MAX));
        let host = peer.server_name.to_str();
        let url = if host.contains(':') {
            format!("wss://[{host}]/v1/uplink")
        } else {
            format!("wss://{host}/v1/uplink")
        };
        match client_async_with_config(url, tls, Some(config)).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(error) => Err(Trouble::NoAgreement(error.to_string())),
        }
    }

    pub(super) async fn say(&mut self, frame: &Up) -> Result<(), Trouble> {
        let text = serde_json::to_string(frame).map_err(|_| Trouble::Store)?;
        self.write(Message::text(text)).await
    }

    pub(super) async fn ping(&mut self) -> Result<(), Trouble> {
        self.write(Message::Ping(Vec::new().into())).await
    }

    async fn write(&mut self, message: Message) -> Result<(), Trouble> {
        match timeout(WRITE_WITHIN, self.0.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Trouble::Closed),
        }
    }

    /// The next frame. May be dropped while it waits without losing any.
    pub(super) async fn hear(&mut self) -> Result<Input, Trouble> {
        match self.0.next().await {
            Some(Ok(Message::Text(text))) => {
                let frame: Result<Down, _> = serde_json::from_str(&text);
                frame.map(Input::Frame).map_err(|_| Trouble::BrokenFrame)
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(Input::Heard),
            Some(Ok(Message::Binary(_) | Message::Frame(_))) => Err(Trouble::BrokenFrame),
            Some(Err(Error::Capacity(_) | Error::Utf8(_))) => Err(Trouble::BrokenFrame),
            Some(Ok(Message::Close(_)) | Err(_)) | None => Err(Trouble::Closed),
        }
    }

    pub(super) async fn close(mut self) {
        // A close that cannot be written is a cut.
        let _ = timeout(CLOSE_WITHIN, self.0.close(None)).await;
    }
}

/// Whether the cloud is not to be trusted, or just not to be talked to.
fn of_tls(error: &io::Error) -> Trouble {
    let tls = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(why)) => Trouble::NotTrusted(why.to_string()),
        Some(other) => Trouble::NoAgreement(other.to_string()),
        None => Trouble::Unreachable,
    }
}
