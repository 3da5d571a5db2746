//! The way through a CONNECT proxy.

use std::io;

use outpost::testkit::{DialError, ProxyTarget, Secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::authority::Authority;
use super::server::{Server, connector_by, dial, read_request, refusal, secure, untrusting, upgrade, within};

/// A name that no resolver has: only the proxy is asked for it.
const FAR: &str = "coordinator.invalid";
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

fn target(proxy: &Server) -> ProxyTarget {
    ProxyTarget { host: "127.0.0.1".to_owned(), port: proxy.addr.port(), authorization: None }
}

/// Dials by way of a proxy that answers with this.
async fn answered(answer: &[u8]) -> DialError {
    let proxy = Server::start().await;
    let connector = connector_by(target(&proxy), &format!("ws://{FAR}:8080/agent"), untrusting());
    let (dialled, _open) = dial(&connector, async {
        let (mut stream, _) = proxy.request().await;
        stream.write_all(answer).await.unwrap();
        stream
    })
    .await;
    refusal(dialled)
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn tls_goes_through_to_the_target_and_its_name() {
    let authority = Authority::new();
    let proxy = Server::start().await;
    let config = authority.issue(FAR).server();
    let way = ProxyTarget { authorization: Some(Secret::new("Basic dXNlcjpwYXNz")), ..target(&proxy) };
    let connector = connector_by(way, &format!("wss://{FAR}/agent"), authority.trusted());
    let (dialled, (asked, hello, request)) = dial(&connector, async {
        let (mut stream, asked) = proxy.request().await;
        stream.write_all(ESTABLISHED).await.unwrap();
        let (mut stream, hello) = secure(stream, config).await.unwrap();
        let request = upgrade(&mut stream, b"").await;
        (asked, hello, request)
    })
    .await;
    assert!(dialled.is_ok());
    let expected =
        format!("CONNECT {FAR}:443 HTTP/1.1\r\nHost: {FAR}:443\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n");
    assert_eq!(asked.head, expected);
    assert_eq!(hello.server_name.as_deref(), Some(FAR));
    assert_eq!(request.header("host"), Some(FAR));
    assert_eq!(request.header("proxy-authorization"), None);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_proxy_cannot_stand_in_for_the_target() {
    let authority = Authority::new();
    let proxy = Server::start().await;
    let config = authority.issue("127.0.0.1").server();
    let connector = connector_by(target(&proxy), &format!("wss://{FAR}/agent"), authority.trusted());
    let (dialled, _) = dial(&connector, async {
        let (mut stream, _) = proxy.request().await;
        stream.write_all(ESTABLISHED).await.unwrap();
        let (mut stream, _) = secure(stream, config).await?;
        stream.read_u8().await
    })
    .await;
    let error = refusal(dialled);
    assert!(matches!(error, DialError::Tls(_)), "{error:?}");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_target_is_named_with_its_port_and_an_ipv6_address_in_brackets() {
    for (url, authority) in [
        ("ws://coordinator.invalid/agent", "coordinator.invalid:80"),
        ("ws://coordinator.invalid:8080/agent", "coordinator.invalid:8080"),
        ("ws://192.0.2.1:8080/agent", "192.0.2.1:8080"),
        ("ws://[2001:db8::1]:8080/agent", "[2001:db8::1]:8080"),
    ] {
        let proxy = Server::start().await;
        let connector = connector_by(target(&proxy), url, untrusting());
        let (dialled, asked) = dial(&connector, async {
            let (mut stream, asked) = proxy.request().await;
            stream.write_all(ESTABLISHED).await.unwrap();
            upgrade(&mut stream, b"").await;
            asked
        })
        .await;
        assert!(dialled.is_ok());
        assert_eq!(asked.head, format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_answer_in_pieces_is_put_together() {
    let proxy = Server::start().await;
    let connector = connector_by(target(&proxy), &format!("ws://{FAR}/agent"), untrusting());
    let (dialled, _) = dial(&connector, async {
        let (mut stream, _) = proxy.request().await;
        stream.set_nodelay(true).unwrap();
        for piece in ["HTTP/1.", "1 20", "0 OK\r\nvia: 1.1 some", "body\r\n\r", "\n"] {
            stream.write_all(piece.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
        }
        upgrade(&mut stream, b"").await
    })
    .await;
    assert!(dialled.is_ok());
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn what_comes_right_behind_the_proxys_answer_belongs_to_the_tunnel() {
    let behind = [ESTABLISHED, b"HTTP/1.1 418 I'm a teapot\r\ncontent-length: 0\r\n\r\n"].concat();
    assert_eq!(answered(&behind).await, DialError::Refused(418));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_proxy_that_refuses_is_the_proxys_error() {
    for status in [100, 302, 400, 403, 407, 502, 503] {
        let answer = format!("HTTP/1.1 {status} No\r\nproxy-authenticate: Basic\r\n\r\n");
        let error = answered(answer.as_bytes()).await;
        assert!(matches!(error, DialError::Proxy(_)), "{status}: {error:?}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_proxy_that_does_not_speak_http_is_the_proxys_error() {
    let answers: [&[u8]; 5] =
        [b"SSH-2.0-x\r\n\r\n", b"\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 ok\r\n\r\n", b"\xff\xfe 200 \x00\r\n\r\n"];
    for answer in answers {
        let error = answered(answer).await;
        assert!(matches!(error, DialError::Proxy(_)), "{answer:?}: {error:?}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn nothing_that_the_proxy_or_the_operator_wrote_is_in_the_error() {
    let proxy = Server::start().await;
    let way = ProxyTarget { authorization: Some(Secret::new("Basic tattle")), ..target(&proxy) };
    assert!(!format!("{way:?}").contains("tattle"));
    let connector = connector_by(way, &format!("ws://{FAR}/agent"), untrusting());
    let (dialled, _open) = dial(&connector, async {
        let (mut stream, _) = proxy.request().await;
        stream.write_all(b"HTTP/1.1 407 tattle\r\nx-tattle: tattle\r\n\r\n").await.unwrap();
        stream
    })
    .await;
    let error = refusal(dialled);
    assert!(!format!("{error} {error:?}").contains("tattle"), "{error:?}");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_proxys_answer_without_an_end_is_not_read_for_ever() {
    let proxy = Server::start().await;
    let connector = connector_by(target(&proxy), &format!("ws://{FAR}/agent"), untrusting());
    let (dialled, sent) = dial(&connector, async {
        let (mut stream, _) = proxy.request().await;
        let mut sent = 0;
        let piece = [b'a'; 4096];
        while within("room for bytes, or an end", stream.write_all(&piece)).await.is_ok() {
            sent += piece.len();
        }
        sent
    })
    .await;
    let error = refusal(dialled);
    assert!(matches!(error, DialError::Proxy(_)), "{error:?}");
    // What the kernel holds for both sides is counted as well.
    assert!(sent < 32 << 20, "{sent} bytes were taken");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_proxy_that_hangs_up_is_the_proxys_error() {
    let proxy = Server::start().await;
    let connector = connector_by(target(&proxy), &format!("ws://{FAR}/agent"), untrusting());
    let (dialled, ()) = dial(&connector, async {
        let mut stream = proxy.tcp().await;
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 Conn").await.unwrap();
    })
    .await;
    let error = refusal(dialled);
    assert!(matches!(error, DialError::Proxy(_)), "{error:?}");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_proxy_that_is_not_there_is_a_refused_connection() {
    let gone = Server::start().await;
    let way = target(&gone);
    drop(gone);
    let connector = connector_by(way, &format!("ws://{FAR}/agent"), untrusting());
    let (dialled, ()) = dial(&connector, async {}).await;
    assert_eq!(refusal(dialled), DialError::Connect(io::ErrorKind::ConnectionRefused));
}
