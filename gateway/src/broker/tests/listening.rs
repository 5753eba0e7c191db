//! Binding and accepting.

use super::*;

async fn bound(listen: &[SocketAddr]) -> Result<Bound, BindError> {
    bind(Settings {
        doors: Doors {
            tcp: listen.to_vec(),
            ..Doors::default()
        },
        tls: None,
        limits: Limits::default(),
    })
    .await
}

/// Serves for as long as the returned sender lives.
fn run(bound: Bound) -> (watch::Sender<bool>, JoinHandle<()>) {
    let (shutdown, stop) = watch::channel(false);
    let (_, access) = watch::channel(Arc::new(town()));
    let (intake, notices) = (mpsc::channel(1).0, mpsc::channel(1).0);
    let served = serve(
        bound,
        access,
        intake,
        memory(KEPT),
        notices,
        Arc::default(),
        stop,
    );
    (shutdown, tokio::spawn(served))
}

async fn log_in(address: SocketAddr, client_id: &str) -> Raw {
    let mut raw = Raw(TcpStream::connect(address).await.unwrap());
    raw.send(&Connect::new("btn", client_id).bytes()).await;
    raw.expect(&CONNACK_OK).await;
    raw
}

#[tokio::test]
async fn every_listener_serves_the_same_clients() {
    let any = "127.0.0.1:0".parse().unwrap();
    let bound = bound(&[any, any]).await.unwrap();
    let addresses = bound.addresses().tcp.clone();
    assert!(addresses.len() == 2 && addresses[0] != addresses[1]);
    assert!(addresses.iter().all(|address| address.port() != 0));
    let (_running, _task) = run(bound);
    let mut one = log_in(addresses[0], "c").await;
    let mut two = log_in(addresses[1], "d").await;
    one.ping().await;
    two.ping().await;
    log_in(addresses[1], "c").await.ping().await;
    one.expect_close().await; // taken over across listeners
}

#[tokio::test]
async fn what_cannot_be_bound_is_named() {
    let first = bound(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
    let taken = first.addresses().tcp[0];
    let second = bound(&["127.0.0.1:0".parse().unwrap(), taken]).await;
    match second {
        Err(BindError::Listen { address, .. }) => assert_eq!(address, taken),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("bound twice"),
    }
}

/// The sockets of the former life are in TIME-WAIT: the broker closed them first.
#[tokio::test]
async fn a_restart_binds_the_same_port_at_once() {
    let bound_first = bound(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
    let address = bound_first.addresses().tcp[0];
    let (shutdown, served) = run(bound_first);
    let mut clients = Vec::new();
    for number in 0..10 {
        clients.push(log_in(address, &number.to_string()).await);
    }
    shutdown.send_replace(true);
    for raw in &mut clients {
        raw.expect_close().await;
    }
    drop(clients);
    timeout(HANG, served).await.unwrap().unwrap();
    let again = bound(&[address]).await.unwrap();
    let (_running, _task) = run(again);
    log_in(address, "c").await.ping().await;
}
