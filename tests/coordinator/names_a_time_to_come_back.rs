//! Every response with status 429 or 503 has `Retry-After`, on every path. The fixture checks it for all other tests too.

use outpost::messages::endpoint::Endpoint;
use outpost::messages::wire::ErrorCode;
use outpost::testkit::{ScriptedAgent, TIMEOUT};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fixture::{Answer, Coordinator, soon};

const CHAT: &str = "/v1/chat/completions";
const REQUEST: &str = r#"{"model":"m","stream":true}"#;

/// What is refused while the coordinator stops.
const PATHS: [(&str, &str); 4] = [("POST", CHAT), ("POST", "/v1/messages"), ("GET", "/agent"), ("GET", "/")];

/// A connection that a client keeps.
struct Kept(TcpStream);

impl Kept {
    async fn open(coordinator: &Coordinator) -> Self {
        Self(soon(TcpStream::connect(coordinator.addr())).await.unwrap())
    }

    /// The status of the response to a request, and its `Retry-After`.
    async fn ask(&mut self, method: &str, path: &str, body: &str) -> (u16, Option<String>) {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.0.write_all((head + body).as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(self.0.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let header = |name: &str| {
            let mut values = head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            values.next().map(str::to_owned)
        };
        let length: usize = header("content-length").unwrap().parse().unwrap();
        soon(self.0.read_exact(&mut vec![0; length])).await.unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), header("retry-after"))
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_coordinator_that_stops_says_so_on_every_path() {
    let coordinator = Coordinator::start_with(|config| config.stop_grace = TIMEOUT).await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 2).await;
    let mut kept = Kept::open(&coordinator).await;
    assert_eq!(kept.ask("GET", "/healthz", "").await, (200, None));
    let mut others = Vec::new();
    for _ in PATHS {
        let mut other = Kept::open(&coordinator).await;
        assert_eq!(other.ask("GET", "/healthz", "").await, (200, None));
        others.push(other);
    }
    let asking = coordinator.asking(CHAT, REQUEST);
    let job = agent.job().await.job_id;
    let handle = coordinator.handle().clone();
    let stopping = actix_rt::spawn(async move { handle.stop().await });
    let soon_after = Some("1".to_owned());
    let stops = async { while kept.ask("GET", "/healthz", "").await != (503, soon_after.clone()) {} };
    soon(stops).await;
    // Each response is the last one on its connection.
    for ((method, path), mut kept) in PATHS.into_iter().zip(others) {
        let body = if method == "POST" { REQUEST } else { "" };
        assert_eq!(kept.ask(method, path, body).await, (503, soon_after.clone()), "{path}");
    }
    agent.chunk(job, "data: [DONE]\n\n").await;
    agent.done(job).await;
    assert_eq!(soon(asking).await.unwrap().status, 200);
    agent.closed().await;
    soon(stopping).await.unwrap();
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_agent_that_finds_too_many_in_the_handshake_is_told_when_to_come_back() {
    let coordinator = Coordinator::start_with(|config| config.max_in_handshake = 0).await;
    let answer = Answer::of(coordinator.get("/agent"), "").await;
    assert_eq!((answer.status, answer.retry_after.as_deref()), (503, Some("5")));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_backend_that_has_too_many_requests_is_one_to_come_back_to() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join_at(coordinator.agent_url(), 1, &Endpoint::ALL).await;
    let asking = coordinator.asking(CHAT, REQUEST);
    let job = agent.job().await.job_id;
    agent.begin(job, 429, "application/json", r#"{"error":{"message":"slow down"}}"#).await;
    agent.fail(job, ErrorCode::Internal).await;
    let answer = soon(asking).await.unwrap();
    assert_eq!((answer.status, answer.retry_after.as_deref()), (429, Some("1")));
    assert_eq!(answer.json()["error"]["message"], "slow down");
}
