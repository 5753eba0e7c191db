//! The two halves of a stream with their buffers.
//!
//! Owns bytes in and bytes out; knows no packet. Grows its input only by bytes that have really arrived.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::report::CloseReason;

/// Room made before each read, in bytes.
const READ_CHUNK: usize = 4 * 1024;
/// Most bytes taken by one read: what is read is worked off in one go, and others wait for the thread.
const READ_LIMIT: u64 = 16 * 1024;
/// An input buffer that grew beyond this for a large packet is given back once empty.
const KEPT_INPUT: usize = 16 * 1024;
/// How long a closing connection waits for the peer to take the last bytes and close too.
const LINGER: Duration = Duration::from_secs(1);

/// See the module's head.
pub(super) struct Line<R, W> {
    pub(super) reader: R,
    pub(super) writer: W,
    pub(super) input: BytesMut,
    pub(super) output: BytesMut,
    /// What was written has left the layers between us and the socket, which may hold bytes back.
    pub(super) flushed: bool,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Line<R, W> {
    pub(super) fn new(reader: R, writer: W) -> Self {
        Self {
            reader,
            writer,
            input: BytesMut::new(),
            output: BytesMut::new(),
            flushed: true,
        }
    }

    /// Whether the peer is still to get something.
    pub(super) fn owes(&self) -> bool {
        !self.output.is_empty() || !self.flushed
    }

    /// Waits for more input. Safe to cancel.
    pub(super) async fn fill(&mut self) -> Result<(), CloseReason> {
        fill(&mut self.reader, &mut self.input).await
    }

    /// Sends what is left, tells the peer that no more comes, and waits for its close: a socket closed with
    /// unread input is reset, and a reset can take our last bytes with it. Bounded by [`LINGER`].
    pub(super) async fn finish(&mut self) {
        let finish = async {
            self.writer.write_all(&self.output).await?;
            self.writer.shutdown().await?;
            loop {
                self.input.clear();
                if self.reader.read_buf(&mut self.input).await? == 0 {
                    return Ok::<(), io::Error>(());
                }
            }
        };
        // Whether the peer heard us changes nothing any more.
        let _ = tokio::time::timeout(LINGER, finish).await;
    }
}

/// Reads once into `input`. Safe to cancel.
pub(super) async fn fill<R: AsyncRead + Unpin>(
    reader: &mut R,
    input: &mut BytesMut,
) -> Result<(), CloseReason> {
    if input.is_empty() && input.capacity() > KEPT_INPUT {
        *input = BytesMut::new();
    }
    input.reserve(READ_CHUNK);
    match reader.take(READ_LIMIT).read_buf(input).await {
        Ok(0) => Err(CloseReason::PeerClosed),
        Ok(_) => Ok(()),
        Err(error) => Err(reason_of(&error)),
    }
}

/// Writes once out of `output`; once that is empty, sees to it that nothing is held back. Safe to cancel.
pub(super) async fn drain<W: AsyncWrite + Unpin>(
    writer: &mut W,
    output: &mut BytesMut,
    flushed: &mut bool,
) -> Result<(), CloseReason> {
    *flushed = false;
    if !output.is_empty() {
        match writer.write_buf(output).await {
            Ok(0) => return Err(CloseReason::Socket),
            Ok(_) => {}
            Err(error) => return Err(reason_of(&error)),
        }
    }
    if output.is_empty() {
        let done = writer.flush().await;
        done.map_err(|error| reason_of(&error))?;
        *flushed = true;
    }
    Ok(())
}

/// What a failed read or write of a stream means, be it TCP, TLS or WebSocket.
fn reason_of(error: &io::Error) -> CloseReason {
    let kind = error.kind();
    if kind == io::ErrorKind::UnexpectedEof {
        // Gone without TLS's or WebSocket's own farewell.
        CloseReason::PeerClosed
    } else if kind == io::ErrorKind::InvalidData {
        CloseReason::Framing
    } else if kind == io::ErrorKind::FileTooLarge {
        CloseReason::Oversized
    } else {
        CloseReason::Socket
    }
}
