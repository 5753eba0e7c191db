//! The smallest MQTT 3.1.1 client that can keep a window of QoS 1 publishes under way.
//!
//! A benchmark's own, so that the figure is the box's and not a client library's.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// A connected device.
pub struct Client {
    stream: TcpStream,
    next: u16,
}

impl Client {
    /// Connects under the log-in's name.
    pub async fn log_in(at: SocketAddr, username: &str, secret: &str) -> Result<Self> {
        Self::log_in_as(at, username, secret, username).await
    }

    /// Connects under a client id of its own.
    pub async fn log_in_as(at: SocketAddr, username: &str, secret: &str, id: &str) -> Result<Self> {
        Self::greet(TcpStream::connect(at).await?, username, secret, id).await
    }

    /// The same from an address of this machine: the box counts connections by address.
    pub async fn log_in_from(
        from: IpAddr,
        at: SocketAddr,
        username: &str,
        secret: &str,
        id: &str,
    ) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from, 0))?;
        Self::greet(socket.connect(at).await?, username, secret, id).await
    }

    async fn greet(mut stream: TcpStream, username: &str, secret: &str, id: &str) -> Result<Self> {
        stream.set_nodelay(true)?;
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0b1100_0010, 0, 0];
        for text in [id, username, secret] {
            push_text(&mut body, text)?;
        }
        stream.write_all(&packet(0x10, &body)?).await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        ensure!(answer == [0x20, 2, 0, 0], "log-in refused: {answer:?}");
        Ok(Self { stream, next: 1 })
    }

    /// Publishes at QoS 1 and waits for the PUBACK.
    pub async fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<()> {
        self.publish_windowed(topic, [payload.to_vec()], 1).await
    }

    /// Publishes all, keeping at most `window` without their PUBACK.
    pub async fn publish_windowed(
        &mut self,
        topic: &str,
        payloads: impl IntoIterator<Item = Vec<u8>>,
        window: usize,
    ) -> Result<()> {
        let mut under_way = 0;
        let mut out = Vec::new();
        for payload in payloads {
            out.extend(self.frame(topic, &payload)?);
            under_way += 1;
            if under_way == window {
                self.stream.write_all(&out).await?;
                out.clear();
                under_way -= self.acknowledged(under_way).await?;
            }
        }
        self.stream.write_all(&out).await?;
        while under_way > 0 {
            under_way -= self.acknowledged(under_way).await?;
        }
        Ok(())
    }

    fn frame(&mut self, topic: &str, payload: &[u8]) -> Result<Vec<u8>> {
        let mut body = Vec::with_capacity(topic.len() + payload.len() + 4);
        push_text(&mut body, topic)?;
        body.extend(self.next.to_be_bytes());
        body.extend(payload);
        self.next = self.next.checked_add(1).unwrap_or(1);
        packet(0x32, &body)
    }

    /// Reads whole PUBACKs: at least one, at most as many as are out.
    async fn acknowledged(&mut self, most: usize) -> Result<usize> {
        let mut buffer = [0; 4 * 64];
        let room = buffer.len().min(most * 4);
        let mut got = self.stream.read(&mut buffer[..room]).await?;
        ensure!(got > 0, "the box closed the connection");
        while !got.is_multiple_of(4) {
            got += self.stream.read(&mut buffer[got..room]).await?;
        }
        ensure!(
            buffer[..got].chunks(4).all(|c| c[0] == 0x40),
            "not a PUBACK"
        );
        Ok(got / 4)
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) -> Result<()> {
    let length = u16::try_from(text.len()).context("a text of MQTT has at most 65,535 bytes")?;
    out.extend(length.to_be_bytes());
    out.extend(text.as_bytes());
    Ok(())
}

fn packet(first: u8, body: &[u8]) -> Result<Vec<u8>> {
    let mut out = vec![first];
    let mut rest = body.len();
    loop {
        let digit = u8::try_from(rest % 128)?;
        rest /= 128;
        out.push(if rest > 0 { digit | 128 } else { digit });
        if rest == 0 {
            break;
        }
    }
    out.extend(body);
    Ok(out)
}
