//! What SIGKILL leaves of an agent and of a coordinator. `scripts/kill.py` does it a thousand times.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use outpost::testkit::ScriptedBackend;
use rand::RngExt;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Home, NO_BACKEND, Outpost, Setup, backend, entry, finish, request, token, within};

const KILLS: usize = 20;
const STREAM: &str = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;

fn agent_of(coordinator: SocketAddr, home: &Home, backends: &str) -> Outpost {
    Setup::new(&["run"])
        .env("OUTPOST_COORDINATOR_URL", format!("ws://{coordinator}/agent"))
        .env("OUTPOST_IDENTITY_PATH", home.key())
        .env("OUTPOST_BACKENDS", backends)
        .env("OUTPOST_STATUS_ADDR", "127.0.0.1:0")
        .start()
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_that_is_killed_at_any_moment_has_its_identity_at_the_next_start() {
    let mut coordinator = Setup::coordinator().start();
    let addr = coordinator.coordinator_addr().await;
    join_all((0..KILLS).map(|_| async {
        let home = Home::new();
        let first = agent_of(addr, &home, NO_BACKEND);
        // Not a wait: the moment of the kill is to be any.
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..100))).await;
        first.signal(Signal::KILL);
        let first = first.finish().await;
        let key = std::fs::read_to_string(home.key()).ok();

        let mut second = agent_of(addr, &home, NO_BACKEND);
        let rest = second.logged("connected generation=1 provider_id=").await;
        let provider = rest.split(' ').next().unwrap();
        let word = if key.is_some() { "identity loaded" } else { "identity created" };
        assert!(second.log().contains(word), "{key:?} was there: {}", second.log());
        assert!(key.is_none() || key == std::fs::read_to_string(home.key()).ok());
        let pubkey = |log: &str| log.split_once("pubkey=").map(|(_, rest)| rest.lines().next().unwrap().to_owned());
        assert!(key.is_none() || pubkey(&first.stderr).is_none_or(|shown| Some(shown) == pubkey(&second.log())));
        second.logged("capabilities sent").await;
        assert_eq!(std::fs::read_to_string(home.provider()).unwrap(), format!("{provider}\n"));
        assert_eq!(home.files(), ["identity.key", "identity.key.provider"]);
    }))
    .await;
}

/// A coordinator at this address, which is that of one that was killed.
async fn coordinator_at(addr: SocketAddr) -> Outpost {
    let mut process = Setup::new(&["coordinator", "--listen", &addr.to_string()]).start();
    process.logged("coordinator listening").await;
    process
}

/// Posts a request, and has the agent's backend begin its response. Then all that came to the client is its first piece.
async fn begin(addr: SocketAddr, backend: &ScriptedBackend) -> (TcpStream, outpost::testkit::Request) {
    let mut client = TcpStream::connect(addr).await.unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let ask = format!("{head}content-length: {}\r\n\r\n{STREAM}", STREAM.len());
    client.write_all(ask.as_bytes()).await.unwrap();
    let request = backend.request().await;
    request.head();
    request.piece(token("one"));
    (client, request)
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_coordinator_that_is_killed_ends_its_streams_incomplete_and_gets_its_agent_back() {
    let mut coordinator = Setup::coordinator().start();
    let addr = coordinator.coordinator_addr().await;
    let (home, backend) = (Home::new(), backend("m").await);
    let mut agent = agent_of(addr, &home, &entry(&backend));
    let status = agent.status_addr().await;
    coordinator.event_with("slots").await;
    let (mut client, mut running) = begin(addr, &backend).await;
    let mut seen = Vec::new();
    while !seen.ends_with(b"\n\n\r\n") {
        within("first piece", client.read_buf(&mut seen)).await.unwrap();
    }
    coordinator.signal(Signal::KILL);
    coordinator.finish().await;
    // Whether the end is a reset or not, the last chunk of the body is missing.
    let _ = within("end of the stream", client.read_to_end(&mut seen)).await;
    let seen = String::from_utf8(seen).unwrap();
    assert!(seen.starts_with("HTTP/1.1 200") && !seen.ends_with("0\r\n\r\n"), "{seen}");

    let mut second = coordinator_at(addr).await;
    // It has no memory of the job, so the agent drops it.
    running.dropped().await;
    agent.logged("connected generation=2").await;
    second.logged("offer received").await;
    let asking = tokio::spawn(async move {
        request(addr, "POST /v1/chat/completions", "content-type: application/json\r\n", STREAM).await
    });
    let next = backend.request().await;
    next.head();
    finish(&next);
    assert_eq!(within("answer", asking).await.unwrap().status, 200);
    // The client may have its answer before the agent has counted it.
    let settled = async {
        loop {
            let snapshot = request(status, "GET /status", "", "").await.json();
            if snapshot["in_flight"] == 0 {
                return snapshot;
            }
        }
    };
    assert_eq!(within("end of all jobs", settled).await["jobs"]["cancelled"], 1);
}
