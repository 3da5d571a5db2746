//! Names and addresses.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use outpost::testkit::{Connector, DialError};
use tokio::net::TcpListener;

use super::server::{Server, connector, dial, left, refusal, untrusting, upgrade, within};

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_closed_port_is_a_refused_connection() {
    let gone = Server::start().await;
    let url = gone.plain_url();
    drop(gone);
    let (dialled, ()) = dial(&connector(&url, untrusting()), async {}).await;
    assert_eq!(refusal(dialled), DialError::Connect(io::ErrorKind::ConnectionRefused));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_name_without_an_address_is_an_error_of_its_own() {
    let connector = connector("wss://nonexistent.invalid/agent", untrusting());
    assert_eq!(connector.target(), "nonexistent.invalid:443");
    let (dialled, ()) = dial(&connector, async {}).await;
    let error = refusal(dialled);
    assert!(matches!(&error, DialError::Resolve(name, _) if name == "nonexistent.invalid"), "{error:?}");
}

/// Where `localhost` has one address only, this shows no more than that it is dialled.
#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_last_of_several_addresses_is_found() {
    let mut addresses: Vec<SocketAddr> = ("localhost", 0).to_socket_addrs().unwrap().collect();
    let listener = TcpListener::bind(addresses.pop().unwrap()).await.unwrap();
    let url = format!("ws://localhost:{}/agent", listener.local_addr().unwrap().port());
    let (dialled, _) = dial(&connector(&url, untrusting()), async {
        let mut stream = within("connection", listener.accept()).await.unwrap().0;
        upgrade(&mut stream, b"").await
    })
    .await;
    assert!(dialled.is_ok());
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_connector_dials_again_with_a_new_connection_and_a_new_key() {
    let server = Server::start().await;
    let connector = connector(&server.plain_url(), untrusting());
    let mut keys = Vec::new();
    for _ in 0..2 {
        let (dialled, request) = dial(&connector, async { upgrade(&mut server.tcp().await, b"").await }).await;
        assert!(dialled.is_ok());
        keys.push(request.header("sec-websocket-key").unwrap().to_owned());
    }
    assert_ne!(keys[0], keys[1]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_dial_that_is_dropped_leaves_no_connection_behind() {
    let server = Server::start().await;
    let connector = connector(&server.plain_url(), untrusting());
    let mut stream = tokio::select! {
        _ = connector.dial() => panic!("the dial ended by itself"),
        (stream, _) = server.request() => stream,
    };
    left(&mut stream).await;
}
