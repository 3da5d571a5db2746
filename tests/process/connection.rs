//! The connection to the coordinator as the network sees it: given up in time, made again, set up for small frames.

use std::net::SocketAddr;

use bytes::BytesMut;
use futures_util::future::join_all;
use outpost::internals::{Role, encode};
use outpost::messages::wire::Extension;
use outpost::testkit::{DialFault, Frame, HttpRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{HELLO, Home, NO_BACKEND, agent, backend, coordinator, entry, finish, reset, token, within};

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_answer_that_is_not_a_websocket_is_a_failure_with_its_cause_and_tried_again() {
    let endless = format!("HTTP/1.1 101 Switching Protocols\r\n{}", "x-filler: 0123456789\r\n".repeat(20_000));
    let wrong_key = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                     sec-websocket-accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n";
    let answers = [
        ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "it answers 401"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n<html></html>", "the server answers 200"),
        ("HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n", "it answers 503"),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n", "accept key"),
        (wrong_key, "accept key"),
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n", "the upgrade failed"),
        (&endless, "connection failed"),
        ("", "connection failed"),
    ];
    join_all(answers.map(|(answer, cause)| async move {
        let (mut coordinator, home) = (coordinator().await, Home::new());
        coordinator.fail_dials([DialFault::Answers(answer.to_owned().into())]);
        let mut process = agent(&coordinator, &home, NO_BACKEND).start();
        process.logged(cause).await;
        coordinator.welcome().await.ping(b"settled").await;
        assert_eq!(process.log().matches("failures=1 ").count(), 1, "{}", process.log());
    }))
    .await;
}

/// The scripted coordinator sends nothing in the segment of its upgrade, so the test does it itself.
#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_challenge_that_arrives_with_the_upgrade_is_not_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/agent", listener.local_addr().unwrap());
    let (coordinator, home) = (coordinator().await, Home::new());
    let _process = agent(&coordinator, &home, NO_BACKEND).env("OUTPOST_COORDINATOR_URL", url).start();
    let mut stream = within("connection", listener.accept()).await.unwrap().0;
    let (request, _) = HttpRequest::read_head(&mut stream).await.unwrap();
    let mut answer = BytesMut::from(request.accept_websocket().unwrap().as_str());
    let challenge = r#"{"type":"auth_challenge","nonce":"AAAAAAAAAAAAAAAAAAAAAA=="}"#;
    encode(&mut answer, Role::Server, &Frame::Text(challenge.into()));
    stream.write_all(&answer).await.unwrap();
    // Its answer to the challenge: a masked text frame.
    assert_eq!(within("frame", stream.read_u8()).await.unwrap(), 0x81);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_connection_that_is_lost_is_made_again_with_all_that_is_on_offer() {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    let backend = backend("m").await;
    let mut process = agent(&coordinator, &home, &entry(&backend)).start();
    reset(coordinator.serving("m").await);
    process.logged("disconnected generation=1 kind=Unexpected").await;
    let mut link = coordinator.serving("m").await;
    let job = link.job("m", HELLO);
    let request = backend.request().await;
    request.head();
    finish(&request);
    link.outcome_of(job).await.done();
}

/// Whether the process's socket to this address has TCP_NODELAY set, for each such socket.
#[cfg(target_os = "linux")]
fn nodelay(process: &crate::support::Outpost, peer: SocketAddr) -> Vec<bool> {
    use std::os::fd::RawFd;

    use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

    let handle = pidfd_open(process.pid, PidfdFlags::empty()).unwrap();
    let entries = std::fs::read_dir(format!("/proc/{}/fd", process.pid.as_raw_nonzero())).unwrap();
    let numbers = entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse::<RawFd>().unwrap());
    // One that was closed meanwhile is not one of these.
    let sockets = numbers.filter_map(|number| pidfd_getfd(&handle, number, PidfdGetfdFlags::empty()).ok());
    let nodelay = |socket: std::os::fd::OwnedFd| {
        let socket = socket2::SockRef::from(&socket);
        (socket.peer_addr().ok()?.as_socket()? == peer).then(|| socket.tcp_nodelay().unwrap())
    };
    sockets.filter_map(nodelay).collect()
}

#[cfg(target_os = "linux")]
#[actix_rt::test(system = "outpost::testkit::System")]
async fn small_frames_wait_neither_for_the_coordinator_nor_for_a_backend() {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    let backend = backend("m").await;
    let process = agent(&coordinator, &home, &entry(&backend)).start();
    let mut link = coordinator.serving("m").await;
    let job = link.job("m", HELLO);
    let request = backend.request().await;
    request.head();
    request.piece(token("one"));
    link.chunk_of(job).await;
    assert_eq!(nodelay(&process, coordinator.addr()), [true]);
    assert_eq!(nodelay(&process, backend.addr()), [true]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_that_requires_auth2_gives_a_coordinator_without_it_no_signature() {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    let mut process = agent(&coordinator, &home, NO_BACKEND).env("OUTPOST_REQUIRE_AUTH2", "true").start();
    let mut link = coordinator.next_connection().await;
    link.challenge();
    process.logged("does not offer the extension auth2, and OUTPOST_REQUIRE_AUTH2 is set").await;
    link.ended().await;
    assert!(link.unread_messages().is_empty());
    coordinator.offer([Extension::Auth2].into_iter().collect());
    // Verifies that the signature names the address in the URL.
    let _link = coordinator.welcome().await;
    process.logged("extensions=auth2").await;
}
