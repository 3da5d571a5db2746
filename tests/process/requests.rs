//! Whom the agent talks to: the configured backend and coordinator, and nobody that they, or the environment, name.

use outpost::messages::wire::ErrorCode;
use tokio::net::TcpListener;

use crate::support::{Backend, Coordinator, Home, agent, read_head};

/// A port at which nobody must call.
struct Trap(TcpListener);

impl Trap {
    async fn set() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    /// Connections wait in the queue of a socket until they are taken, so none before this is missed.
    async fn assert_untouched(&self) {
        tokio::select! {
            biased;
            caller = self.0.accept() => {
                panic!("called: {}", read_head(&mut caller.unwrap().0).await);
            }
            () = std::future::ready(()) => {}
        }
    }
}

#[tokio::test]
async fn no_proxy_of_the_environment_is_used_for_a_backend_nor_for_this_host() {
    let (coordinator, home, trap) = (Coordinator::start().await, Home::new(), Trap::set().await);
    let mut backend = Backend::start("m").await;
    let mut setup = agent(&coordinator, &home, &backend.entry()).env("OUTPOST_BACKEND_OPENAI_API_KEY", "key-1");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        setup = setup.env(name, trap.url()).env(&name.to_lowercase(), trap.url());
    }
    let _process = setup.start();
    let mut session = coordinator.serving("m").await;
    let id = session.start_job("m").await;
    let mut exchange = backend.request().await;
    assert_eq!(exchange.header("authorization"), Some("Bearer key-1"));
    assert_eq!(exchange.header("host"), Some(backend.addr().to_string().as_str()));
    exchange.open_stream().await;
    exchange.finish().await;
    session.rest(id).await.1.done();
    trap.assert_untouched().await;
}

#[tokio::test]
async fn a_redirect_of_a_backend_is_an_error_and_not_followed() {
    let (coordinator, home, trap) = (Coordinator::start().await, Home::new(), Trap::set().await);
    let mut backend = Backend::start("m").await;
    let _process = agent(&coordinator, &home, &backend.entry()).start();
    let mut session = coordinator.serving("m").await;
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let id = session.start_job("m").await;
        let mut exchange = backend.request().await;
        let location = format!("{}/v1/chat/completions", trap.url());
        exchange
            .raw(format!("HTTP/1.1 {status}\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n").as_bytes())
            .await;
        let (bytes, end) = session.rest(id).await;
        assert!(bytes.is_empty());
        end.assert_code(ErrorCode::Internal);
        exchange.closed().await;
    }
    assert!(backend.is_idle());
    trap.assert_untouched().await;
}

#[tokio::test]
async fn a_redirect_of_the_coordinator_is_a_failure_and_not_followed() {
    let (coordinator, home, trap) = (Coordinator::start().await, Home::new(), Trap::set().await);
    let mut process = agent(&coordinator, &home, crate::support::NOBODY).start();
    let mut stream = coordinator.tcp().await;
    read_head(&mut stream).await;
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: {}/agent\r\ncontent-length: 0\r\n\r\n", trap.url());
    tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
    process.logged("the server redirects (302)").await;
    coordinator.join().await.settle().await;
    trap.assert_untouched().await;
}

#[tokio::test]
async fn a_backend_that_refuses_the_key_is_reported_without_its_words() {
    let (coordinator, home) = (Coordinator::start().await, Home::new());
    let mut backend = Backend::start("m").await;
    let setup = agent(&coordinator, &home, &backend.entry());
    let _process = setup.env("OUTPOST_BACKEND_OPENAI_API_KEY", "sk-canary").start();
    let mut session = coordinator.serving("m").await;
    let id = session.start_job("m").await;
    let mut exchange = backend.request().await;
    let body = r#"{"error":{"message":"Incorrect API key: sk-canary","type":"auth","code":"invalid_api_key"}}"#;
    exchange.answer("401 Unauthorized", body).await;
    let error = session.rest(id).await.1.failed();
    assert_eq!(error.error_code, ErrorCode::AuthRejectedByBackend);
    assert!(!error.message.contains("canary"), "{}", error.message);
}
