//! A WebSocket as the stream of bytes MQTT runs on (section 6 of both standards).
//!
//! Packets may span messages and messages hold several packets (MQTT-6.0.0-2), so a message is bytes and no
//! more. Only binary ones (MQTT-6.0.0-1). Knows no packet.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::{Sink, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Room for what is read at once, taken for each connection; more arrives in several reads.
const READ_BUFFER: usize = 4 * 1024;
/// Bytes of the largest message we send; more goes out in several.
const SENT: usize = 16 * 1024;

/// The bounds of one WebSocket: a message of `message_bytes`, whole or in fragments. Beyond: the read fails
/// with [`io::ErrorKind::FileTooLarge`].
pub(super) fn config(message_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(message_bytes))
        .max_frame_size(Some(message_bytes))
}

/// What a stranger may make us hold: a message is kept whole before anyone sees it, so its bytes are counted
/// below the WebSocket, the upgrade's included, until the client has logged in. Beyond: the read fails with
/// [`io::ErrorKind::FileTooLarge`].
pub(super) struct Doorstep<S> {
    stream: S,
    left: usize,
    logged_in: Arc<AtomicBool>,
}

impl<S> Doorstep<S> {
    pub(super) fn new(stream: S, bytes: usize, logged_in: Arc<AtomicBool>) -> Self {
        Self {
            stream,
            left: bytes,
            logged_in,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Doorstep<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.logged_in.load(Ordering::Relaxed) {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        let room = self.left.min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        self.left -= read;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Doorstep<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// See the module's head. What breaks WebSocket's rules fails the read with [`io::ErrorKind::InvalidData`].
pub(super) struct Frames<S> {
    socket: WebSocketStream<S>,
    /// What is not yet read of the last message.
    rest: Bytes,
}

impl<S> Frames<S> {
    pub(super) fn new(socket: WebSocketStream<S>) -> Self {
        Self {
            socket,
            rest: Bytes::new(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Frames<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.rest.is_empty() {
            match ready!(Pin::new(&mut this.socket).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => this.rest = bytes,
                // Pings are answered below us, by the next read or write.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_))) => {}
                Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                    let fault = io::Error::new(io::ErrorKind::InvalidData, "not a binary frame");
                    return Poll::Ready(Err(fault));
                }
                Some(Err(error)) => return Poll::Ready(Err(fault(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = this.rest.len().min(buffer.remaining());
        buffer.put_slice(&this.rest[..length]);
        this.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        ready!(socket.as_mut().poll_ready(context)).map_err(fault)?;
        let length = bytes.len().min(SENT);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..length]));
        socket.start_send(message).map_err(fault)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(context);
        flushed.map_err(fault)
    }

    /// Says that we close, then that no more comes.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_close(context)).map_err(fault)?;
        Pin::new(self.socket.get_mut()).poll_shutdown(context)
    }
}

fn fault(error: Error) -> io::Error {
    if let Error::Io(error) = error {
        return error;
    }
    let kind = if let Error::Capacity(_) = error {
        io::ErrorKind::FileTooLarge
    } else if let Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) = error {
        io::ErrorKind::UnexpectedEof
    } else {
        io::ErrorKind::InvalidData
    };
    io::Error::new(kind, error)
}
