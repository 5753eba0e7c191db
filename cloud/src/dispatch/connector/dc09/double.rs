//! A receiver for tests that answers as it is told. Reads frames with the strict decoder and tells
//! the test what it heard.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc};

use super::envelope::enclose;
use super::frame::{Content, Frame};

/// What the double does about a frame.
pub enum Act {
    /// Writes these bytes at once.
    Say(Vec<u8>),
    /// Does nothing more until the test says so.
    Wait(Arc<Notify>),
    /// Closes the connection.
    Close,
}

/// What the double notices.
#[derive(PartialEq, Eq, Debug)]
pub enum Heard {
    /// A connection, from 1.
    Connected(u32),
    /// A frame.
    Frame(Frame),
}

/// Tells what is to be done about a frame.
pub type Manner = dyn Fn(&Frame) -> Vec<Act> + Send + Sync;

/// The receiver.
pub struct Double {
    /// Where it listens.
    pub address: String,
    heard: mpsc::UnboundedReceiver<Heard>,
}

impl Double {
    /// Listens on a port of the system's choice.
    pub async fn listen(manner: impl Fn(&Frame) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tell, heard) = mpsc::unbounded_channel();
        let manner: Arc<Manner> = Arc::new(manner);
        tokio::spawn(async move {
            for connection in 1.. {
                let (stream, _) = listener.accept().await.unwrap();
                let _ = tell.send(Heard::Connected(connection));
                tokio::spawn(serve(stream, manner.clone(), tell.clone()));
            }
        });
        Self { address, heard }
    }

    /// The next thing noticed that is no poll.
    pub async fn heard(&mut self) -> Heard {
        loop {
            match self.heard.recv().await.unwrap() {
                Heard::Frame(frame) if frame.content == Content::Poll => {}
                heard @ (Heard::Frame(_) | Heard::Connected(_)) => return heard,
            }
        }
    }

    /// The next frame that is no poll.
    pub async fn frame(&mut self) -> Frame {
        loop {
            match self.heard().await {
                Heard::Frame(frame) => return frame,
                Heard::Connected(_) => {}
            }
        }
    }

    /// The next poll.
    pub async fn polled(&mut self) -> Frame {
        loop {
            match self.heard.recv().await.unwrap() {
                Heard::Frame(frame) if frame.content == Content::Poll => return frame,
                Heard::Frame(_) | Heard::Connected(_) => {}
            }
        }
    }
}

async fn serve(mut stream: TcpStream, manner: Arc<Manner>, tell: mpsc::UnboundedSender<Heard>) {
    stream.set_nodelay(true).unwrap();
    let mut held = Vec::new();
    while stream.read_buf(&mut held).await.is_ok_and(|n| n > 0) {
        while let Some(end) = held.iter().position(|byte| *byte == b'\r') {
            let bytes: Vec<u8> = held.drain(..=end).collect();
            let frame = Frame::decode(&bytes).unwrap();
            let acts = manner(&frame);
            let _ = tell.send(Heard::Frame(frame));
            for act in acts {
                match act {
                    Act::Say(bytes) => {
                        let _ = stream.write_all(&bytes).await;
                    }
                    Act::Wait(gate) => gate.notified().await,
                    Act::Close => return,
                }
            }
        }
    }
}

/// `ACK`, `DUH` or `RSP` for a frame.
pub fn word(word: &str, frame: &Frame) -> Vec<u8> {
    let Frame {
        number,
        receiver,
        line,
        account,
        ..
    } = frame;
    enclose(&format!(
        "\"{word}\"{number:04}R{receiver}L{line}#{account}[]"
    ))
    .unwrap()
}

/// `NAK` with a time, `_08:15:30,11-22-2026`, or without any.
pub fn nak(time: &str) -> Vec<u8> {
    enclose(&format!("\"NAK\"0000R1L0A0[]{time}")).unwrap()
}

/// Acknowledges polls and does `otherwise` for events.
pub fn polls_acked(
    otherwise: impl Fn(&Frame) -> Vec<Act> + Send + Sync + 'static,
) -> impl Fn(&Frame) -> Vec<Act> + Send + Sync + 'static {
    move |frame| match frame.content {
        Content::Poll => vec![Act::Say(word("ACK", frame))],
        Content::Event(_) => otherwise(frame),
    }
}

/// Acknowledges everything.
pub fn acks(frame: &Frame) -> Vec<Act> {
    vec![Act::Say(word("ACK", frame))]
}

/// An address where nobody listens until the socket is told to.
pub fn nobody() -> (String, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (socket.local_addr().unwrap().to_string(), socket)
}
