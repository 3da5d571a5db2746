//! The agent connects to the configured backend and coordinator, and to no host that they, or the environment, name.

use bytes::Bytes;
use outpost::messages::wire::ErrorCode;
use outpost::testkit::{DialFault, HttpRequest, Reply};
use tokio::net::TcpListener;

use crate::support::{HELLO, Home, agent, backend, coordinator, entry, finish};

/// A port to which the agent must not connect.
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
                let request = HttpRequest::read_head(&mut caller.unwrap().0).await;
                panic!("called: {:?}", request.map(|(request, _)| request.head));
            }
            () = std::future::ready(()) => {}
        }
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn no_proxy_of_the_environment_is_used_for_a_backend_nor_for_this_host() {
    let (mut coordinator, home, trap) = (coordinator().await, Home::new(), Trap::set().await);
    let backend = backend("m").await;
    let mut setup = agent(&coordinator, &home, &entry(&backend)).env("OUTPOST_BACKEND_OPENAI_API_KEY", "key-1");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        setup = setup.env(name, trap.url()).env(&name.to_lowercase(), trap.url());
    }
    let _process = setup.start();
    let mut link = coordinator.serving("m").await;
    let job = link.job("m", HELLO);
    let request = backend.request().await;
    assert_eq!(request.header("authorization"), Some("Bearer key-1"));
    assert_eq!(request.header("host"), Some(backend.addr().to_string().as_str()));
    request.head();
    finish(&request);
    link.outcome_of(job).await.done();
    trap.assert_untouched().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_redirect_of_a_backend_is_an_error_and_not_followed() {
    let (mut coordinator, home, trap) = (coordinator().await, Home::new(), Trap::set().await);
    let backend = backend("m").await;
    let _process = agent(&coordinator, &home, &entry(&backend)).start();
    let mut link = coordinator.serving("m").await;
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let location = format!("{}/v1/chat/completions", trap.url());
        let redirect = format!("HTTP/1.1 {status}\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        backend.reply([Reply::Raw(Bytes::from(redirect))]);
        let job = link.job("m", HELLO);
        backend.request().await;
        let trace = link.outcome_of(job).await;
        assert!(trace.bytes.is_empty());
        assert_eq!(trace.code(), ErrorCode::Internal);
    }
    assert!(backend.is_idle());
    trap.assert_untouched().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_redirect_of_the_coordinator_is_a_failure_and_not_followed() {
    let (mut coordinator, home, trap) = (coordinator().await, Home::new(), Trap::set().await);
    let redirect = format!("HTTP/1.1 302 Found\r\nlocation: {}/agent\r\ncontent-length: 0\r\n\r\n", trap.url());
    coordinator.fail_dials([DialFault::Answers(redirect.into())]);
    let mut process = agent(&coordinator, &home, crate::support::NO_BACKEND).start();
    process.logged("the server redirects (302)").await;
    coordinator.welcome().await.ping(b"settled").await;
    trap.assert_untouched().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_backend_that_refuses_the_key_is_reported_without_its_message() {
    let (mut coordinator, home) = (coordinator().await, Home::new());
    let backend = backend("m").await;
    let setup = agent(&coordinator, &home, &entry(&backend));
    let _process = setup.env("OUTPOST_BACKEND_OPENAI_API_KEY", "sk-canary").start();
    let mut link = coordinator.serving("m").await;
    let body = r#"{"error":{"message":"Incorrect API key: sk-canary","type":"auth","code":"invalid_api_key"}}"#;
    backend.reply([Reply::Status(401, Bytes::from_static(body.as_bytes()))]);
    let job = link.job("m", HELLO);
    let trace = link.outcome_of(job).await;
    assert_eq!(trace.code(), ErrorCode::AuthRejectedByBackend);
    assert!(!trace.error().message.contains("canary"), "{}", trace.error().message);
}
