//! A browser as small as it can be: one request a connection, cookies kept.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    pub cookies: Vec<(String, String)>,
    /// Sent with every request.
    pub touches: bool,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }
}

impl Client {
    pub fn new(address: SocketAddr, certificate: CertificateDer<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            address,
            tls: Arc::new(tls),
            cookies: Vec::new(),
            touches: true,
        }
    }

    pub async fn log_in(&mut self, name: &str, pin: &str) -> Answer {
        let body = json!({"name": name, "pin": pin});
        self.post("/api/session", &body.to_string()).await
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "sec-fetch-site: same-origin\r\n", "")
            .await
    }

    pub async fn post(&mut self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, "sec-fetch-site: same-origin\r\n", body)
            .await
    }

    pub async fn ask(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let cookies: Vec<_> = self
            .cookies
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        let touch = if self.touches {
            "x-antuo-touch: 1\r\n"
        } else {
            ""
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncookie: {}\r\n\
             {touch}{headers}content-length: {}\r\n\r\n{body}",
            cookies.join("; "),
            body.len()
        );
        let socket = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let socket = connector.connect(name, socket).await.unwrap();
        let answer = talk(socket, &request).await;
        for line in answer.head.lines() {
            let Some(set) = line.strip_prefix("set-cookie: ") else {
                continue;
            };
            assert!(set.contains("Secure; HttpOnly; SameSite=Strict"), "{set}");
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            assert!(name.starts_with("__Host-"));
            self.cookies.retain(|(key, _)| key != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
        answer
    }
}

/// Plain HTTP.
pub async fn plain(address: SocketAddr, path: &str, host: &str) -> Answer {
    let socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    talk(socket, &request).await
}

async fn talk(mut socket: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Answer {
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // A server that closes without a farewell of TLS has still said all it had to say.
    let _ = socket.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    }
}
