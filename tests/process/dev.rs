//! `outpost dev`: both ends in one process, with nothing configured.

use std::net::{SocketAddr, TcpStream};

use outpost::internals::auto::usual_ports;
use rustix::process::Signal;

use crate::support::{Home, Setup, backend, entry, finish, request, token, within};

/// The echo stands in only where this host has no inference server, which a test can't arrange.
fn has_servers() -> bool {
    let found = usual_ports().into_iter().find(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok());
    if let Some(port) = found {
        eprintln!("not tested: something listens on port {port}, where inference servers usually do");
    }
    found.is_some()
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_prompt_is_answered_by_the_echo() {
    if has_servers() {
        return;
    }
    let ended = Setup::new(&["dev", "--listen", "127.0.0.1:0", "--prompt", "hi there"]).finish().await;
    ended.assert_code(0);
    assert_eq!(ended.stdout, "This is outpost's built-in echo, not a model. You said: hi there\n");
    assert_eq!(ended.stderr, "");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_prompt_goes_to_the_backend_that_is_configured() {
    let backend = backend("m").await;
    let mut process = Setup::new(&["dev", "--listen", "127.0.0.1:0", "--prompt", "hi there"])
        .env("OUTPOST_BACKENDS", entry(&backend))
        .start();
    let request = backend.request().await;
    assert_eq!(request.json()["messages"][0]["content"], "hi there");
    request.head();
    request.piece(token("one\n"));
    process.printed("one").await;
    request.piece(token("two\u{1b}[31m"));
    finish(&request);
    let ended = process.finish().await;
    ended.assert_code(0);
    assert_eq!(ended.stdout, "one\ntwo[31m\n");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_prompt_that_fails_is_an_error() {
    let backend = backend("m").await;
    let process = Setup::new(&["dev", "--listen", "127.0.0.1:0", "--prompt", "hi"])
        .env("OUTPOST_BACKENDS", entry(&backend))
        .start();
    backend.request().await.respond(500, "{}");
    let ended = process.finish().await;
    ended.assert_code(1);
    assert!(ended.stderr.starts_with("outpost: the coordinator answered 5"), "{}", ended.stderr);
}

/// The words of a shell's line with nothing but single and double quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word = String::new();
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), _) if letter == open => quote = None,
            (None, ' ') => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            _ => word.push(letter),
        }
    }
    words.push(word);
    words
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_curl_command_that_it_prints_works() {
    let backend = backend("it's a \"model\" of é").await;
    let mut process = Setup::new(&["dev", "--listen", "127.0.0.1:0"]).env("OUTPOST_BACKENDS", entry(&backend)).start();
    let line = process.printed("curl -N ").await;
    let words = words(&line);
    let (addr, path) = words[0].strip_prefix("http://").unwrap().split_once('/').unwrap();
    let addr: SocketAddr = addr.parse().unwrap();
    let after = |flag: &str| words[words.iter().position(|word| word == flag).unwrap() + 1].clone();
    let (headers, body) = (format!("{}\r\n", after("-H")), after("-d"));
    let first = format!("POST /{path}");
    let asking = tokio::spawn(async move { request(addr, &first, &headers, &body).await });
    let request = backend.request().await;
    assert_eq!(request.json()["messages"][0]["content"], "Say hello.");
    assert_eq!(request.json()["model"], "it's a \"model\" of é");
    request.head();
    request.piece(token("hello"));
    finish(&request);
    let answer = asking.await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("text/event-stream"), "{}", answer.head);
    assert!(answer.body.contains(r#""content":"hello""#) && answer.body.ends_with("data: [DONE]\n\n"));
    process.signal(Signal::INT);
    process.finish().await.assert_code(0);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn no_other_agent_can_join() {
    let (backend, strange, home) = (backend("own").await, backend("strange").await, Home::new());
    let mut process = Setup::new(&["dev", "--listen", "127.0.0.1:0"]).env("OUTPOST_BACKENDS", entry(&backend)).start();
    let line = process.printed("curl -N ").await;
    let addr: SocketAddr = line.split("http://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    let mut stranger = Setup::new(&["run"])
        .env("OUTPOST_COORDINATOR_URL", format!("ws://{addr}/agent"))
        .env("OUTPOST_IDENTITY_PATH", home.key())
        .env("OUTPOST_BACKENDS", entry(&strange))
        .env("OUTPOST_STATUS_ADDR", "off")
        .start();
    stranger.logged("the coordinator refuses this agent").await;
    let models = request(addr, "GET /v1/models", "", "").await.body;
    assert!(models.contains("own") && !models.contains("strange"), "{models}");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn it_prints_where_its_status_page_is() {
    let backend = backend("m").await;
    let mut process = Setup::new(&["dev", "--listen", "127.0.0.1:0"])
        .env("OUTPOST_BACKENDS", entry(&backend))
        .env("OUTPOST_STATUS_ADDR", "127.0.0.1:0")
        .start();
    let line = process.printed("page ").await;
    let url = words(&line).into_iter().find_map(|word| word.strip_prefix("http://").map(str::to_owned)).unwrap();
    let addr: SocketAddr = url.strip_suffix('/').unwrap().parse().unwrap();
    let status = request(addr, "GET /status", "", "").await;
    assert_eq!(status.json()["backends"]["openai"]["models"][0], "m");
    let ready = async { while request(addr, "GET /readyz", "", "").await.status != 200 {} };
    within("readiness", ready).await;
    process.signal(Signal::INT);
    process.finish().await.assert_code(0);
    assert!(TcpStream::connect(addr).is_err(), "the page ends with the process");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn without_a_status_page_it_prints_no_address_of_one() {
    let backend = backend("m").await;
    let mut process = Setup::new(&["dev", "--listen", "127.0.0.1:0"])
        .env("OUTPOST_BACKENDS", entry(&backend))
        .env("OUTPOST_STATUS_ADDR", "off")
        .start();
    process.printed("Ctrl-C").await;
    process.signal(Signal::INT);
    let ended = process.finish().await;
    ended.assert_code(0);
    assert!(!ended.stdout.contains("page      http"), "{}", ended.stdout);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_configured_status_address_that_is_in_use_is_an_error() {
    let backend = backend("m").await;
    let setup = Setup::new(&["dev", "--listen", "127.0.0.1:0"])
        .env("OUTPOST_BACKENDS", entry(&backend))
        .env("OUTPOST_STATUS_ADDR", backend.addr().to_string());
    setup.finish().await.assert_code(1);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_prompt_needs_no_status_page() {
    let backend = backend("m").await;
    let process = Setup::new(&["dev", "--listen", "127.0.0.1:0", "--prompt", "hi"])
        .env("OUTPOST_BACKENDS", entry(&backend))
        .env("OUTPOST_STATUS_ADDR", backend.addr().to_string())
        .start();
    let request = backend.request().await;
    request.head();
    finish(&request);
    process.finish().await.assert_code(0);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn its_agent_proves_its_key_to_its_coordinator_by_name() {
    for listen in ["127.0.0.1:0", "0.0.0.0:0"] {
        let backend = backend("m").await;
        let mut process = Setup::new(&["dev", "--listen", listen, "--prompt", "hi"])
            .env("OUTPOST_BACKENDS", entry(&backend))
            .env("OUTPOST_REQUIRE_AUTH2", "true")
            .env("OUTPOST_COORDINATOR_API_KEY", "key-1")
            .start();
        let request = backend.request().await;
        request.head();
        request.piece(token("hello\n"));
        process.printed("hello").await;
        finish(&request);
        process.finish().await.assert_code(0);
    }
}
