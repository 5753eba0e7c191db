//! A TCP relay that stands for the network between a box and the cloud, and can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A running relay. Cut: every connection through it is closed, and a new one is closed as soon as it comes.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    open: Arc<watch::Sender<bool>>,
}

impl Relay {
    /// Relays from a free loopback port to `target`, for ever.
    pub async fn to(target: String) -> std::io::Result<Relay> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let open = Arc::new(watch::Sender::new(true));
        let state = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((near, _peer)) = listener.accept().await {
                if *state.borrow() {
                    tokio::spawn(carry(near, target.clone(), state.subscribe()));
                }
            }
        });
        Ok(Relay { address, open })
    }

    /// Where the box is to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Pulls the cable.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Puts it back.
    pub fn restore(&self) {
        self.open.send_replace(true);
    }
}

async fn carry(mut near: TcpStream, target: String, mut open: watch::Receiver<bool>) {
    let both = async {
        let mut far = TcpStream::connect(&target).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        tokio::io::copy_bidirectional(&mut near, &mut far).await
    };
    tokio::select! {
        ended = both => if let Err(error) = ended { tracing::debug!(%error, "relayed connection ended") },
        _cut = open.wait_for(|open| !open) => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn echoes(address: SocketAddr) -> bool {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        socket.write_all(b"x").await.is_ok()
            && socket.read_exact(&mut byte).await.is_ok()
            && byte == *b"x"
    }

    #[tokio::test]
    async fn a_cut_closes_what_is_open_and_restoring_lets_through_again() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = server.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = server.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = socket.split();
                    let _ended = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        let relay = Relay::to(target).await.unwrap();
        assert!(echoes(relay.address()).await);
        let mut held = TcpStream::connect(relay.address()).await.unwrap();
        held.write_all(b"x").await.unwrap();
        held.read_exact(&mut [0]).await.unwrap();
        relay.cut();
        assert!(
            !matches!(held.read(&mut [0]).await, Ok(1)),
            "closed by the cut"
        );
        assert!(!echoes(relay.address()).await);
        relay.restore();
        assert!(echoes(relay.address()).await);
    }
}
