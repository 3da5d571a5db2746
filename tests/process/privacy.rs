//! Prompts, completions, keys and codes are sent to their recipients only. They are not in the log at any level, on the
//! pages, or in the command line's output.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use outpost::messages::endpoint::{Endpoint, Endpoints};
use outpost::messages::ids::JobId;
use outpost::testkit::{Frame, Reply};
use serde_json::json;

use crate::support::{
    Home, Outpost, Setup, agent, backend_with, coordinator, entry, finish, last_events, request, token, within,
};

/// Texts that must not be seen, each a different one, by the place where they were put.
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

#[actix_rt::test(system = "outpost::testkit::System")]
async fn nothing_private_is_seen_in_the_log_at_trace_nor_on_the_pages() {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    let mut canaries = Canaries::default();
    let backend = backend_with("m", Endpoints::CHAT.with(Endpoint::Messages)).await;
    let (code, key) = (canaries.put("enrollment code"), canaries.put("API key"));
    let url = format!("{}?token={}", coordinator.url(), canaries.put("coordinator's URL"));
    let mut process = agent(&coordinator, &home, &entry(&backend))
        .env("OUTPOST_COORDINATOR_URL", url)
        .env("OUTPOST_LOG", "trace")
        .env("OUTPOST_ENROLLMENT_CODE", &code)
        .env("OUTPOST_BACKEND_OPENAI_API_KEY", &key)
        .start();
    let status = process.status_addr().await;

    // A refusal that quotes the code.
    let mut link = coordinator.next_connection().await;
    link.challenge();
    assert_eq!(link.expect_auth().await.enrollment_code, Some(code.clone()));
    link.send_text(json!({"type": "auth_failed", "reason": format!("no such code: {code}")}).to_string());
    process.logged("the coordinator refuses this agent").await;
    drop(link);

    let mut link = coordinator.serving("m").await;
    // A job that ends well, with a secret in every corner of it.
    let prompt = canaries.put("prompt");
    let body = json!({
        "messages": [{"role": "user", "content": prompt}], "user": canaries.put("user's name"), "model": "x",
        canaries.put("name of a member"): 1, "stream_options": {"include_usage": false, "x": canaries.put("options")}
    });
    let body = body.to_string();
    let (header, completion) = (canaries.put("header of a response"), canaries.put("completion"));
    let head = format!(
        "HTTP/1.1 200 {header}\r\nserver: {header}\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n"
    );
    let comment = format!(": {completion}\n");
    let response = [head.as_bytes(), comment.as_bytes(), &token(&completion), &last_events()].concat();
    backend.reply([Reply::Raw(response.into())]);
    let job = link.job("m", &body);
    assert!(backend.request().await.header("authorization").unwrap().contains(&key));
    let trace = link.outcome_of(job).await;
    trace.done();
    assert!(String::from_utf8(trace.bytes).unwrap().contains(&completion));

    // Errors that quote.
    let quoted = format!("{} {prompt} {key}", canaries.put("error's message"));
    let error = json!({"error": {"message": quoted, "type": "server_error", "param": quoted}}).to_string();
    let error = Bytes::from(error);
    backend.reply([400, 401, 404, 500].map(|status| Reply::Status(status, error.clone())));
    let event = Bytes::from([b"data: ", &error[..], b"\n\n"].concat());
    let not_an_event = Bytes::from(format!("{completion} is not an event"));
    backend.reply([event, token(&completion), not_an_event].map(|piece| Reply::Stream(vec![piece])));
    for _ in 0..7 {
        let job = link.job("m", &body);
        backend.request().await;
        canaries.assert_unseen("a job_error", &link.outcome_of(job).await.error().message);
    }
    // One that ends well, or so many failures would open the backend's circuit breaker.
    let job = link.job("m", &body);
    let served = backend.request().await;
    served.head();
    finish(&served);
    link.outcome_of(job).await.done();
    // Not HTTP at all.
    let garbage = format!("{}\r\n\r\n", canaries.put("response that is not HTTP"));
    backend.reply([Reply::Raw(garbage.into())]);
    let job = link.job("m", &body);
    link.outcome_of(job).await.error();

    // Frames of no use.
    let broken = canaries.put("frame that is not JSON");
    let unknown = canaries.put("frame of an unknown type");
    let kind = canaries.put("type of a frame");
    let binary = canaries.put("binary frame");
    let malformed = canaries.put("malformed job");
    let wrong = canaries.put("frame with a wrong type of field");
    link.send_text(format!("{{\"type\":\"job\",\"request\":\"{broken}"));
    link.send_text(json!({"type": "news", "text": unknown}).to_string());
    link.send_text(json!({"type": format!("say {kind}\nto everybody")}).to_string());
    link.send_text(json!({"type": "auth_failed", "reason": wrong}).to_string());
    link.send_text(json!({"type": "job", "job_id": wrong, "model_id": wrong, "request": {"x": wrong}}).to_string());
    link.send_frame(&Frame::Binary(Bytes::from(binary)));
    let job = JobId::random();
    link.send_text(json!({"type": "job", "job_id": job, "model_id": "m", "request": [malformed]}).to_string());
    link.outcome_of(job).await.error();
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
    let shown = Setup::new(&["status", "--json"]).env("OUTPOST_STATUS_ADDR", status.to_string()).finish().await;
    canaries.assert_unseen("outpost status", &shown.stdout);
    drop(link);
    process.logged("disconnected").await;
    process.signal(rustix::process::Signal::TERM);
    let ended = process.finish().await;
    ended.assert_code(0);
    assert!(ended.stderr.contains("TRACE") || ended.stderr.contains("DEBUG"), "the log is as loud as it can be");
    assert_eq!(ended.stdout, "");
    canaries.assert_unseen("the log", &ended.stderr);
}

#[cfg(target_os = "linux")]
#[actix_rt::test(system = "outpost::testkit::System")]
async fn secrets_from_files_are_not_in_the_environment_or_on_the_command_line() {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("code");
    std::fs::write(&path, "canary-code\n").unwrap();
    let process =
        agent(&coordinator, &home, crate::support::NO_BACKEND).env("OUTPOST_ENROLLMENT_CODE_FILE", &path).start();
    let mut link = coordinator.next_connection().await;
    link.challenge();
    assert_eq!(link.expect_auth().await.enrollment_code.as_deref(), Some("canary-code"));
    for file in ["environ", "cmdline"] {
        let content = std::fs::read(format!("/proc/{}/{file}", process.pid.as_raw_nonzero())).unwrap();
        assert!(!String::from_utf8_lossy(&content).contains("canary"), "{file}");
    }
}
