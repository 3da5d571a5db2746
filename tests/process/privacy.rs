//! Prompts, answers, keys and codes leave a process for whom they are meant, and for nobody else: not for the log at
//! any level, nor for the pages, nor for the command line's output.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use outpost::transport::websocket::codec::Frame;
use serde_json::json;

use crate::support::{Backend, Coordinator, Home, Outpost, Setup, agent, job_with, request, token, within};

/// Texts that must not be seen, each of its own, by where they were put. Whoever adds one asks for it by name.
#[derive(Default)]
struct Canaries(BTreeMap<&'static str, String>);

impl Canaries {
    fn put(&mut self, place: &'static str) -> String {
        // Letters only, so that no escaping hides it.
        let letters: String = (0..20).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect();
        let canary = format!("canary{letters}");
        self.0.insert(place, canary.clone());
        canary
    }

    #[track_caller]
    fn assert_unseen(&self, where_seen: &str, text: &str) {
        assert!(!text.is_empty(), "{where_seen} says nothing at all");
        for (place, canary) in &self.0 {
            // In base64 its letters may begin at any of three places.
            let encoded = (6..9).map(|start| STANDARD.encode(&canary[start..start + 12]));
            for form in encoded.chain([canary.clone()]) {
                if let Some(line) = text.lines().find(|line| line.contains(&form)) {
                    panic!("what was put into the {place} is in {where_seen}:\n{line}");
                }
            }
        }
    }
}

/// Waits until the process has dealt with one more frame that is of no use.
async fn skipped(process: &mut Outpost, status: std::net::SocketAddr, count: u64) {
    within("skipped frame", async {
        while request(status, "GET /status", "", "").await.json()["frames_skipped"] != count {}
    })
    .await;
    process.logged("frame skipped").await;
}

#[tokio::test]
async fn nothing_private_is_seen_in_the_log_at_trace_nor_on_the_pages() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let mut canaries = Canaries::default();
    let mut backend = Backend::with_messages("m").await;
    let (code, key) = (canaries.put("enrollment code"), canaries.put("API key"));
    let url = format!("{}?token={}", coordinator.url(), canaries.put("coordinator's URL"));
    let mut process = agent(&coordinator, &home, &backend.entry())
        .env("OUTPOST_COORDINATOR_URL", url)
        .env("OUTPOST_LOG", "trace")
        .env("OUTPOST_ENROLLMENT_CODE", &code)
        .env("OUTPOST_BACKEND_OPENAI_API_KEY", &key)
        .start();
    let status = process.status_addr().await;

    // A refusal that quotes the code.
    let mut session = coordinator.accept().await;
    let answer = session.challenge().await;
    assert_eq!(answer["enrollment_code"], code.as_str());
    session.send(&json!({"type": "auth_failed", "reason": format!("no such code: {code}")}).to_string()).await;
    process.logged("the coordinator refuses this agent").await;
    drop(session);

    let mut session = coordinator.serving("m").await;
    // A job that ends well, with a secret in every corner of it.
    let prompt = canaries.put("prompt");
    let body = json!({
        "messages": [{"role": "user", "content": prompt}], "user": canaries.put("user's name"), "model": "x",
        canaries.put("name of a member"): 1, "stream_options": {"include_usage": false, "x": canaries.put("options")}
    });
    let (id, frame) = job_with("m", &body.to_string());
    session.send(&frame).await;
    let mut exchange = backend.request().await;
    assert!(exchange.header("authorization").unwrap().contains(&key));
    let header = canaries.put("header of a response");
    let head = format!(
        "HTTP/1.1 200 {header}\r\nserver: {header}\r\nconnection: close\r\ncontent-type: text/event-stream\r\n"
    );
    exchange.raw(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).await;
    let completion = canaries.put("completion");
    exchange.send(format!(": {completion}\n")).await;
    exchange.send(token(&completion)).await;
    exchange.finish().await;
    let (bytes, end) = session.rest(id).await;
    end.done();
    assert!(String::from_utf8(bytes).unwrap().contains(&completion));

    // Errors that quote.
    let quoted = format!("{} {prompt} {key}", canaries.put("error's message"));
    let error = json!({"error": {"message": quoted, "type": "server_error", "param": quoted}}).to_string();
    for status in ["400 Bad Request", "401 Unauthorized", "404 Not Found", "500 Internal Server Error"] {
        let (id, frame) = job_with("m", &body.to_string());
        session.send(&frame).await;
        backend.request().await.answer(status, &error).await;
        let failed = session.rest(id).await.1.failed();
        canaries.assert_unseen("a job_error", &failed.message);
    }
    for piece in [format!("data: {error}\n\n"), token(&completion), format!("{completion} is no event")] {
        let (id, frame) = job_with("m", &body.to_string());
        session.send(&frame).await;
        let mut exchange = backend.request().await;
        exchange.open_stream().await;
        exchange.send(piece).await;
        exchange.raw(b"0\r\n\r\n").await;
        let failed = session.rest(id).await.1.failed();
        canaries.assert_unseen("a job_error", &failed.message);
    }
    // One that ends well, or the backend would be kept from jobs for failing so many.
    let (id, frame) = job_with("m", &body.to_string());
    session.send(&frame).await;
    let mut exchange = backend.request().await;
    exchange.open_stream().await;
    exchange.finish().await;
    session.rest(id).await.1.done();
    // Not HTTP at all.
    let (id, frame) = job_with("m", &body.to_string());
    session.send(&frame).await;
    backend.request().await.raw(format!("{}\r\n\r\n", canaries.put("answer that is no HTTP")).as_bytes()).await;
    session.rest(id).await.1.failed();

    // Frames of no use.
    let broken = canaries.put("frame that is no JSON");
    let unknown = canaries.put("frame of an unknown type");
    let kind = canaries.put("type of a frame");
    let binary = canaries.put("binary frame");
    let malformed = canaries.put("malformed job");
    let wrong = canaries.put("frame with a wrong type of field");
    session.send(&format!("{{\"type\":\"job\",\"request\":\"{broken}")).await;
    session.send(&json!({"type": "news", "text": unknown}).to_string()).await;
    session.send(&json!({"type": format!("say {kind}\nto everybody")}).to_string()).await;
    session.send(&json!({"type": "auth_failed", "reason": wrong}).to_string()).await;
    session
        .send(&json!({"type": "job", "job_id": wrong, "model_id": wrong, "request": {"x": wrong}}).to_string())
        .await;
    session.send_frame(&Frame::Binary(Bytes::from(binary))).await;
    let id = uuid::Uuid::new_v4();
    session.send(&json!({"type": "job", "job_id": id, "model_id": "m", "request": [malformed]}).to_string()).await;
    session.rest(id.to_string().parse().unwrap()).await.1.failed();
    skipped(&mut process, status, 4).await;

    // The private key, as it is on the disk.
    let pem = std::fs::read_to_string(home.key()).unwrap();
    let secret = pem.lines().nth(1).unwrap();
    assert!(secret.len() > 40, "it holds the key");
    // Its first 22 letters say what kind of key it is.
    canaries.0.insert("private key", secret[24..].to_owned());

    for path in ["/status", "/metrics", "/readyz"] {
        let page = request(status, &format!("GET {path}"), "", "").await;
        canaries.assert_unseen(path, &page.body);
    }
    let told = Setup::new(&["status", "--json"]).env("OUTPOST_STATUS_ADDR", status.to_string()).finish().await;
    canaries.assert_unseen("outpost status", &told.stdout);
    drop(session);
    process.logged("disconnected").await;
    process.signal(rustix::process::Signal::TERM);
    let ended = process.finish().await;
    ended.assert_code(0);
    assert!(ended.stderr.contains("TRACE") || ended.stderr.contains("DEBUG"), "the log is as loud as it can be");
    assert_eq!(ended.stdout, "");
    canaries.assert_unseen("the log", &ended.stderr);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn secrets_that_come_by_file_are_no_part_of_the_environment_nor_of_the_command_line() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("code");
    std::fs::write(&path, "canary-code\n").unwrap();
    let process = agent(&coordinator, &home, crate::support::NOBODY).env("OUTPOST_ENROLLMENT_CODE_FILE", &path).start();
    let mut session = coordinator.accept().await;
    assert_eq!(session.challenge().await["enrollment_code"], "canary-code");
    for file in ["environ", "cmdline"] {
        let content = std::fs::read(format!("/proc/{}/{file}", process.pid.as_raw_nonzero())).unwrap();
        assert!(!String::from_utf8_lossy(&content).contains("canary"), "{file}");
    }
}
