//! `outpost dev`: both ends in one process, with nothing configured.

use std::net::{SocketAddr, TcpStream};

use outpost::backends::auto::usual_ports;
use rustix::process::Signal;

use crate::support::{Backend, Home, Setup, request, token, within};

/// The echo stands in only where this host has no inference server, which a test can't arrange.
fn has_servers() -> bool {
    let found = usual_ports().into_iter().find(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok());
    if let Some(port) = found {
        eprintln!("not tested: something listens on port {port}, where inference servers usually do");
    }
    found.is_some()
}

#[tokio::test]
async fn a_prompt_is_answered_by_the_echo() {
    if has_servers() {
        return;
    }
    let ended = Setup::new(&["dev", "--listen", "127.0.0.1:0", "--prompt", "hi there"]).finish().await;
    ended.assert_code(0);
    assert_eq!(ended.stdout, "This is outpost's built-in echo, not a model. You said: hi there\n");
    assert_eq!(ended.stderr, "");
}

#[tokio::test]
async fn a_prompt_goes_to_the_backend_that_is_configured() {
    let mut backend = Backend::start("m").await;
    let mut process = Setup::new(&["dev", "--listen", "127.0.0.1:0", "--prompt", "hi there"])
        .env("OUTPOST_BACKENDS", backend.entry())
        .start();
    let mut exchange = backend.request().await;
    assert_eq!(exchange.json()["messages"][0]["content"], "hi there");
    exchange.open_stream().await;
    exchange.send(token("one\n")).await;
    process.printed("one").await;
    exchange.send(token("two\u{1b}[31m")).await;
    exchange.finish().await;
    let ended = process.finish().await;
    ended.assert_code(0);
    assert_eq!(ended.stdout, "one\ntwo[31m\n");
}

#[tokio::test]
async fn a_prompt_that_fails_is_an_error() {
    let mut backend = Backend::start("m").await;
    let process = Setup::new(&["dev", "--listen", "127.0.0.1:0", "--prompt", "hi"])
        .env("OUTPOST_BACKENDS", backend.entry())
        .start();
    backend.request().await.answer("500 Internal Server Error", "{}").await;
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

#[tokio::test]
async fn the_line_for_curl_that_it_prints_works() {
    let mut backend = Backend::start("it's a \"model\" of é").await;
    let mut process = Setup::new(&["dev", "--listen", "127.0.0.1:0"]).env("OUTPOST_BACKENDS", backend.entry()).start();
    let line = process.printed("curl -N ").await;
    let words = words(&line);
    let (addr, path) = words[0].strip_prefix("http://").unwrap().split_once('/').unwrap();
    let addr: SocketAddr = addr.parse().unwrap();
    let after = |flag: &str| words[words.iter().position(|word| word == flag).unwrap() + 1].clone();
    let (headers, body) = (format!("{}\r\n", after("-H")), after("-d"));
    let first = format!("POST /{path}");
    let asking = tokio::spawn(async move { request(addr, &first, &headers, &body).await });
    let mut exchange = backend.request().await;
    assert_eq!(exchange.json()["messages"][0]["content"], "Say hello.");
    assert_eq!(exchange.json()["model"], "it's a \"model\" of é");
    exchange.open_stream().await;
    exchange.send(token("hello")).await;
    exchange.finish().await;
    let answer = asking.await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("text/event-stream"), "{}", answer.head);
    assert!(answer.body.contains(r#""content":"hello""#) && answer.body.ends_with("data: [DONE]\n\n"));
    process.signal(Signal::INT);
    process.finish().await.assert_code(0);
}

#[tokio::test]
async fn no_other_agent_can_join() {
    let (backend, home) = (Backend::start("own").await, Home::new());
    let mut process = Setup::new(&["dev", "--listen", "127.0.0.1:0"]).env("OUTPOST_BACKENDS", backend.entry()).start();
    let line = process.printed("curl -N ").await;
    let addr: SocketAddr = line.split("http://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    let mut stranger = Setup::new(&["run"])
        .env("OUTPOST_COORDINATOR_URL", format!("ws://{addr}/agent"))
        .env("OUTPOST_IDENTITY_PATH", home.key())
        .env("OUTPOST_BACKENDS", Backend::start("strange").await.entry())
        .env("OUTPOST_STATUS_ADDR", "off")
        .start();
    stranger.logged("the coordinator refuses this agent").await;
    let models = request(addr, "GET /v1/models", "", "").await.body;
    assert!(models.contains("own") && !models.contains("strange"), "{models}");
}

#[tokio::test]
async fn it_prints_where_its_status_page_is() {
    let backend = Backend::start("m").await;
    let mut process = Setup::new(&["dev", "--listen", "127.0.0.1:0"])
        .env("OUTPOST_BACKENDS", backend.entry())
        .env("OUTPOST_STATUS_ADDR", "127.0.0.1:0")
        .start();
    let line = process.printed("status ").await;
    let url = words(&line).into_iter().find_map(|word| word.strip_prefix("http://").map(str::to_owned)).unwrap();
    let (addr, path) = url.split_once('/').unwrap();
    let addr: SocketAddr = addr.parse().unwrap();
    let status = request(addr, &format!("GET /{path}"), "", "").await;
    assert_eq!(status.json()["backends"]["openai"]["models"][0], "m");
    let ready = async { while request(addr, "GET /readyz", "", "").await.status != 200 {} };
    within("readiness", ready).await;
    process.signal(Signal::INT);
    process.finish().await.assert_code(0);
    assert!(TcpStream::connect(addr).is_err(), "the page ends with the process");
}

#[tokio::test]
async fn without_a_status_page_it_prints_no_address_of_one() {
    let backend = Backend::start("m").await;
    let mut process = Setup::new(&["dev", "--listen", "127.0.0.1:0"])
        .env("OUTPOST_BACKENDS", backend.entry())
        .env("OUTPOST_STATUS_ADDR", "off")
        .start();
    process.printed("Ctrl-C").await;
    process.signal(Signal::INT);
    let ended = process.finish().await;
    ended.assert_code(0);
    assert!(!ended.stdout.contains("/status"), "{}", ended.stdout);
}

#[tokio::test]
async fn a_status_address_that_the_operator_named_and_another_has_ends_it() {
    let backend = Backend::start("m").await;
    let setup = Setup::new(&["dev", "--listen", "127.0.0.1:0"])
        .env("OUTPOST_BACKENDS", backend.entry())
        .env("OUTPOST_STATUS_ADDR", backend.addr().to_string());
    setup.finish().await.assert_code(1);
}

#[tokio::test]
async fn a_prompt_needs_no_status_page() {
    let mut backend = Backend::start("m").await;
    let process = Setup::new(&["dev", "--listen", "127.0.0.1:0", "--prompt", "hi"])
        .env("OUTPOST_BACKENDS", backend.entry())
        .env("OUTPOST_STATUS_ADDR", backend.addr().to_string())
        .start();
    let mut exchange = backend.request().await;
    exchange.open_stream().await;
    exchange.finish().await;
    process.finish().await.assert_code(0);
}
