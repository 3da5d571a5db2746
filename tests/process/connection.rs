//! The connection to the coordinator as the network sees it: given up in time, made again, set up for small frames.

use std::net::SocketAddr;

use bytes::BytesMut;
use futures_util::future::join_all;
use outpost::transport::websocket::codec::{Frame, Role, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Backend, Coordinator, Home, NOBODY, agent, read_head, token, within};

#[tokio::test]
async fn a_coordinator_that_never_answers_the_upgrade_is_given_up_and_tried_again() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let mut process = agent(&coordinator, &home, NOBODY).start();
    let mut silent = coordinator.tcp().await;
    read_head(&mut silent).await;
    let left = within("end of the connection", silent.read(&mut [0; 1])).await;
    assert!(!left.is_ok_and(|read| read > 0));
    process.logged("cause=\"no answer in time\"").await;
    coordinator.join().await.settle().await;
}

#[tokio::test]
async fn an_answer_that_is_no_websocket_is_a_failure_with_its_cause_and_tried_again() {
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
        let (coordinator, home) = (Coordinator::start().await, Home::new());
        let mut process = agent(&coordinator, &home, NOBODY).start();
        let mut stream = coordinator.tcp().await;
        read_head(&mut stream).await;
        // The agent may leave before it has read all of it.
        let _ = stream.write_all(answer.as_bytes()).await;
        if answer.is_empty() {
            drop(stream);
        }
        process.logged(cause).await;
        coordinator.join().await.settle().await;
        assert_eq!(process.log().matches("failures=1 ").count(), 1, "{}", process.log());
    }))
    .await;
}

#[tokio::test]
async fn a_challenge_right_behind_the_upgrade_is_not_lost() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let _process = agent(&coordinator, &home, NOBODY).start();
    let mut stream = coordinator.tcp().await;
    let head = read_head(&mut stream).await;
    let key = head.lines().find(|line| line.to_lowercase().starts_with("sec-websocket-key"));
    let accept = actix_http::ws::hash_key(key.unwrap().split_once(':').unwrap().1.trim().as_bytes());
    let mut answer = BytesMut::from(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: ",
    );
    answer.extend_from_slice(&accept);
    answer.extend_from_slice(b"\r\n\r\n");
    let challenge = r#"{"type":"auth_challenge","nonce":"AAAAAAAAAAAAAAAAAAAAAA=="}"#;
    encode(&mut answer, Role::Server, &Frame::Text(challenge.into()));
    stream.write_all(&answer).await.unwrap();
    // Its answer to the challenge: a masked text frame.
    assert_eq!(within("frame", stream.read_u8()).await.unwrap(), 0x81);
}

#[tokio::test]
async fn a_connection_that_is_lost_is_made_again_with_all_that_is_on_offer() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let mut backend = Backend::start("m").await;
    let mut process = agent(&coordinator, &home, &backend.entry()).start();
    coordinator.serving("m").await.reset();
    process.logged("disconnected generation=1 kind=Unexpected").await;
    let mut session = coordinator.serving("m").await;
    let id = session.start_job("m").await;
    let mut exchange = backend.request().await;
    exchange.open_stream().await;
    exchange.finish().await;
    session.rest(id).await.1.done();
}

/// Whether the process's socket to this address has TCP_NODELAY set, for each such socket.
#[cfg(target_os = "linux")]
fn nodelay(process: &crate::support::Outpost, peer: SocketAddr) -> Vec<bool> {
    use std::os::fd::RawFd;

    use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

    let handle = pidfd_open(process.pid, PidfdFlags::empty()).unwrap();
    let entries = std::fs::read_dir(format!("/proc/{}/fd", process.pid.as_raw_nonzero())).unwrap();
    let numbers = entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse::<RawFd>().unwrap());
    // One that was closed meanwhile is none of those looked for.
    let sockets = numbers.filter_map(|number| pidfd_getfd(&handle, number, PidfdGetfdFlags::empty()).ok());
    let nodelay = |socket: std::os::fd::OwnedFd| {
        let socket = socket2::SockRef::from(&socket);
        (socket.peer_addr().ok()?.as_socket()? == peer).then(|| socket.tcp_nodelay().unwrap())
    };
    sockets.filter_map(nodelay).collect()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn small_frames_do_not_wait_neither_to_the_coordinator_nor_to_a_backend() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let mut backend = Backend::start("m").await;
    let process = agent(&coordinator, &home, &backend.entry()).start();
    let mut session = coordinator.serving("m").await;
    let id = session.start_job("m").await;
    let mut exchange = backend.request().await;
    exchange.open_stream().await;
    exchange.send(token("one")).await;
    session.chunk(id).await;
    assert_eq!(nodelay(&process, coordinator.addr()), [true]);
    assert_eq!(nodelay(&process, backend.addr()), [true]);
}
