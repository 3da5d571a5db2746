//! How long a dial may take. The socket part happens in real time; once only silence is left to wait for, the clock is
//! the test's.

use std::pin::pin;
use std::time::Duration;

use outpost::testkit::{Connector, DialError, ProxyTarget};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::server::{Server, connector, connector_by, read_request, refusal, untrusting};

/// What a dial may take as a whole.
const DIAL: Duration = Duration::from_secs(10);
/// A step of the test's clock.
const STEP: Duration = Duration::from_secs(1);

/// Dials, and once `until_silence` has seen all that the client says by itself, lets time pass: with one of `bytes` a
/// second, for as long as there are some. Gives back the end, and when it came.
async fn time_passes<F>(
    connector: impl Connector,
    server: &Server,
    until_silence: impl FnOnce(TcpStream) -> F,
    bytes: &[u8],
) -> (DialError, Duration)
where
    F: Future<Output = TcpStream>,
{
    let start = Instant::now();
    let mut dialling = pin!(connector.dial());
    let mut stream = tokio::select! {
        _ = &mut dialling => panic!("the dial ended in spite of the silence"),
        stream = async { until_silence(server.tcp().await).await } => stream,
    };
    tokio::time::pause();
    let mut bytes = bytes.iter();
    while start.elapsed() < DIAL * 3 {
        if let Some(byte) = bytes.next() {
            stream.write_all(&[*byte]).await.unwrap();
        }
        if let Ok(dialled) = timeout(STEP, &mut dialling).await {
            return (refusal(dialled), start.elapsed());
        }
    }
    panic!("the dial has no limit");
}

fn assert_given_up((error, after): (DialError, Duration)) {
    assert_eq!(error, DialError::TimedOut);
    // A timer is good to a millisecond, and the two clocks began one after the other.
    assert!(DIAL - STEP < after && after < DIAL + STEP, "{after:?}");
}

/// Reads one TLS record: the client's hello.
async fn hello(mut stream: TcpStream) -> TcpStream {
    let mut header = [0; 5];
    stream.read_exact(&mut header).await.unwrap();
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    stream.read_exact(&mut body).await.unwrap();
    stream
}

async fn head(mut stream: TcpStream) -> TcpStream {
    read_request(&mut stream).await;
    stream
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_that_never_speaks_tls_is_given_up() {
    let server = Server::start().await;
    let connector = connector(&server.url("wss", "127.0.0.1"), untrusting());
    assert_given_up(time_passes(connector, &server, hello, b"").await);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_slow_handshake_is_given_up_as_a_whole() {
    let server = Server::start().await;
    let connector = connector(&server.url("wss", "127.0.0.1"), untrusting());
    // A record of 16 KiB that begins like the server's hello, and never gets far.
    let mut record = [0; 30];
    record[..9].copy_from_slice(&[0x16, 3, 3, 0x40, 0, 2, 0, 0x3f, 0xfc]);
    assert_given_up(time_passes(connector, &server, hello, &record).await);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_that_never_answers_the_upgrade_is_given_up() {
    let server = Server::start().await;
    let connector = connector(&server.plain_url(), untrusting());
    assert_given_up(time_passes(connector, &server, head, b"").await);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_slow_response_is_given_up_as_a_whole() {
    let server = Server::start().await;
    let connector = connector(&server.plain_url(), untrusting());
    assert_given_up(time_passes(connector, &server, head, b"HTTP/1.1 101 Switching Protocols\r\n").await);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_silent_or_slow_proxy_is_given_up() {
    let proxy = Server::start().await;
    let target = ProxyTarget { host: "127.0.0.1".to_owned(), port: proxy.addr.port(), authorization: None };
    let connector = connector_by(target, "wss://coordinator.invalid/agent", untrusting());
    assert_given_up(time_passes(connector, &proxy, head, b"HTTP/1.1 200 Connection established").await);
}
