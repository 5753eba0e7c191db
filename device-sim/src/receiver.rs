//! A DC-09 receiver: the simulated police, fire service or monitoring centre, with a main and a backup listener that
//! share one memory, and faults that can be switched while it runs.
//!
//! Owns: the conversations and the receiver's ledger, written before the answer. Plain frames only: an encrypted one
//! is answered DUH. Never: judges whether a message was due (`count`).

mod judge;

pub use judge::Faults;

use crate::books::Books;
use crate::clock::Clock;
use crate::dc09::{Frame, FrameError, Stream};
use crate::feed::Feed;
use crate::ledger::{LedgerError, Line, LineFile, Received};
use judge::{Memory, Verdict, judge};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A running receiver. Ends with the runtime.
#[derive(Debug, Clone)]
pub struct DcReceiver {
    desk: Arc<Desk>,
    main: Arc<Mutex<Faults>>,
    backup: Arc<Mutex<Faults>>,
}

#[derive(Debug)]
struct Desk {
    name: String,
    clock: Clock,
    books: Mutex<(Memory, Option<LineFile>)>,
    taken: Feed<Received>,
    /// Also printed, one line each.
    print: bool,
}

impl DcReceiver {
    /// Opens the receiver called `name`; what an earlier run took is remembered, if there is a ledger.
    pub fn open(
        name: &str,
        ledger: Option<&Path>,
        clock: Clock,
        print: bool,
    ) -> Result<DcReceiver, LedgerError> {
        let mut memory = Memory::default();
        let mut file = None;
        if let Some(path) = ledger {
            let before = if path.exists() {
                Books::read(&[path.to_owned()])?
            } else {
                Books::default()
            };
            for message in before.received {
                memory.note(&message.account, message.number, &message.data, message.at);
            }
            let mut opened = LineFile::append_to(path)?;
            opened.write(&Line::Receiver {
                receiver: name.to_owned(),
            })?;
            file = Some(opened);
        }
        let books = Mutex::new((memory, file));
        let desk = Desk {
            name: name.to_owned(),
            clock,
            books,
            taken: Feed::default(),
            print,
        };
        Ok(DcReceiver {
            desk: Arc::new(desk),
            main: Arc::default(),
            backup: Arc::default(),
        })
    }

    /// Listens on its main address for ever; gives the address back.
    pub async fn listen(&self, address: &str) -> std::io::Result<SocketAddr> {
        self.serve(address, Arc::clone(&self.main)).await
    }

    /// Listens on a backup address as well.
    pub async fn listen_as_backup(&self, address: &str) -> std::io::Result<SocketAddr> {
        self.serve(address, Arc::clone(&self.backup)).await
    }

    /// Switches the faults of the main listener.
    pub fn set_faults(&self, faults: Faults) {
        *self.main.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// Switches the faults of the backup listener.
    pub fn set_backup_faults(&self, faults: Faults) {
        *self.backup.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// Every message taken, also repeats.
    pub fn taken(&self) -> &Feed<Received> {
        &self.desk.taken
    }

    async fn serve(
        &self,
        address: &str,
        faults: Arc<Mutex<Faults>>,
    ) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        let desk = Arc::clone(&self.desk);
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((socket, _peer)) => {
                        tokio::spawn(converse(Arc::clone(&desk), Arc::clone(&faults), socket));
                    }
                    Err(error) => {
                        tracing::warn!(receiver = desk.name, %error, "not accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(bound)
    }
}

async fn converse(desk: Arc<Desk>, faults: Arc<Mutex<Faults>>, mut socket: TcpStream) {
    if let Err(error) = answer_frames(&desk, &faults, &mut socket).await {
        tracing::debug!(receiver = desk.name, %error, "connection ended");
    }
}

async fn answer_frames(
    desk: &Desk,
    faults: &Mutex<Faults>,
    socket: &mut TcpStream,
) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut stream = Stream::default();
    let mut bytes = [0; 1024];
    loop {
        let read = socket.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        for frame in stream.push(&bytes[..read]) {
            match frame {
                Ok(frame) => {
                    let now = *faults.lock().unwrap_or_else(PoisonError::into_inner);
                    if answer(desk, &now, socket, &frame).await?.close {
                        return Ok(());
                    }
                }
                Err(FrameError::TooLong) => return Ok(()),
                Err(error) => tracing::warn!(receiver = desk.name, %error, "frame not answered"),
            }
        }
    }
}

async fn answer(
    desk: &Desk,
    faults: &Faults,
    socket: &mut TcpStream,
    frame: &Frame,
) -> std::io::Result<Verdict> {
    tokio::time::sleep(faults.delay).await;
    let verdict = judge(frame, faults, desk.clock.now().seconds());
    let taken = if verdict.take {
        Some(desk.take(frame).map_err(std::io::Error::other)?)
    } else {
        None
    };
    if let Some(bytes) = &verdict.answer {
        socket.write_all(bytes).await?;
    }
    if let Some(message) = taken {
        desk.taken.push(message);
    }
    Ok(verdict)
}

impl Desk {
    /// Puts a message into the books.
    fn take(&self, frame: &Frame) -> Result<Received, LedgerError> {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.clock.now();
        let account = frame.account.clone().unwrap_or_default();
        let message = Received {
            receiver: self.name.clone(),
            repeat: books.0.note(&account, frame.number, &frame.data, at),
            account,
            number: frame.number,
            id: frame.id.clone(),
            data: frame.data.clone(),
            at,
        };
        if let Some(file) = &mut books.1 {
            file.write(&message)?;
        }
        if self.print {
            crate::report::print_json(&message);
        }
        Ok(message)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::judge::Manner;
    use super::*;
    use crate::dc09;
    use crate::ledger::tests::Scratch;

    async fn ask(at: SocketAddr, bytes: &[u8]) -> Vec<u8> {
        let mut socket = TcpStream::connect(at).await.unwrap();
        socket.write_all(&bytes[..5]).await.unwrap();
        socket.write_all(&bytes[5..]).await.unwrap();
        let mut answer = vec![0; 200];
        let read = socket.read(&mut answer).await.unwrap();
        answer.truncate(read);
        answer
    }

    #[tokio::test]
    async fn over_real_sockets_main_and_backup_share_one_memory_and_outlive_a_restart() {
        let scratch = Scratch::new("receiver");
        let path = scratch.0.join("police.jsonl");
        let clock = Clock::start();
        let body = format!(
            "\"SIA-DCS\"0003R1L0#1234[#1234|Nri1/PA007]_{}",
            dc09::stamp(clock.now().seconds())
        );
        let (ack, bytes) = (dc09::wrap("\"ACK\"0003R1L0#1234[]"), dc09::wrap(&body));

        let receiver = DcReceiver::open("police", Some(&path), clock, false).unwrap();
        let main = receiver.listen("127.0.0.1:0").await.unwrap();
        let backup = receiver.listen_as_backup("127.0.0.1:0").await.unwrap();
        receiver.set_faults(Faults {
            manner: Manner::Close,
            ..Faults::default()
        });
        assert!(ask(main, &bytes).await.is_empty());
        assert_eq!(ask(backup, &bytes).await, ack);
        let again = DcReceiver::open("police", Some(&path), clock, false).unwrap();
        assert_eq!(
            ask(again.listen("127.0.0.1:0").await.unwrap(), &bytes).await,
            ack
        );

        let books = Books::read(&[path]).unwrap();
        let marks: Vec<bool> = books
            .received
            .iter()
            .map(|message| message.repeat)
            .collect();
        assert_eq!(marks, [false, true, true]);
        assert_eq!(
            receiver.taken().count(|message| message.account == "1234"),
            2
        );
        assert_eq!(books.receivers.len(), 1);
    }
}
