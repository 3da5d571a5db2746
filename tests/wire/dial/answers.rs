//! What the server answers to the upgrade.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use outpost::testkit::{DialError, HttpRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::authority::Authority;
use super::server::{Server, accepted_with, connector, dial, refusal, secure, untrusting, upgrade, within};

/// Dials a server that answers with this, and then says no more.
async fn answered(answer: impl FnOnce(&HttpRequest) -> String) -> DialError {
    let server = Server::start().await;
    let connector = connector(&server.plain_url(), untrusting());
    let (dialled, _open) = dial(&connector, async {
        let (mut stream, request) = server.request().await;
        stream.write_all(answer(&request).as_bytes()).await.unwrap();
        stream
    })
    .await;
    refusal(dialled)
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_request_is_an_upgrade_to_a_websocket_of_version_13() {
    let server = Server::start().await;
    let url = format!("{}?region=eu", server.plain_url());
    let connector = connector(&url, untrusting());
    let (dialled, request) = dial(&connector, async { upgrade(&mut server.tcp().await, b"").await }).await;
    assert!(dialled.is_ok());
    assert!(request.head.starts_with("GET /agent?region=eu HTTP/1.1\r\n"));
    assert_eq!(request.header("host"), Some(server.addr.to_string().as_str()));
    assert_eq!(request.header("sec-websocket-version"), Some("13"));
    assert!(request.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")));
    assert!(request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn another_status_is_a_refusal_that_names_it() {
    for status in [200, 204, 400, 404, 426, 500] {
        let answer = format!("HTTP/1.1 {status} Whatever\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(answered(|_| answer).await, DialError::Refused(status));
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_refusal_tells_wrong_credentials_from_a_wait() {
    let head = |status: u16, lines: &str| format!("HTTP/1.1 {status} tattle\r\n{lines}content-length: 0\r\n\r\n");
    for status in [401, 403] {
        assert_eq!(answered(|_| head(status, "retry-after: 7\r\n")).await, DialError::NotAdmitted(status));
    }
    for status in [429, 503] {
        for (lines, seconds) in [("", None), ("Retry-After: 7\r\n", Some(7)), ("retry-after: tattle\r\n", None)] {
            let retry_after = seconds.map(Duration::from_secs);
            assert_eq!(answered(|_| head(status, lines)).await, DialError::Busy { status, retry_after });
        }
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_web_page_is_a_refusal() {
    let page = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 46\r\n\r\n\
                <!doctype html><title>Sign in</title><h1>Hello";
    assert_eq!(answered(|_| page.to_owned()).await, DialError::Refused(200));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_redirect_is_an_error_of_its_own_and_not_followed() {
    for status in [301, 302, 307, 308] {
        let elsewhere = Server::start().await;
        let location = elsewhere.url("http", "127.0.0.1");
        let answer = format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(answered(|_| answer).await, DialError::Redirected(status));
        elsewhere.assert_untouched();
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_response_with_a_wrong_accept_key_is_not_an_upgrade() {
    let wrong = answered(|_| accepted_with("sec-websocket-accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n"));
    let missing = answered(|_| accepted_with(""));
    let answers = tokio::join!(wrong, missing);
    assert!(matches!(answers, (DialError::Upgrade(_), DialError::Upgrade(_))), "{answers:?}");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_response_without_the_headers_of_an_upgrade_is_not_one() {
    for lines in ["connection: upgrade\r\n", "upgrade: websocket\r\n", "upgrade: h2c\r\nconnection: upgrade\r\n"] {
        let error = answered(|request| {
            let accepted = request.accept_websocket().unwrap();
            let of_the_upgrade = "upgrade: websocket\r\nconnection: upgrade\r\n";
            assert!(accepted.contains(of_the_upgrade));
            accepted.replace(of_the_upgrade, lines)
        })
        .await;
        assert!(matches!(error, DialError::Upgrade(_)), "{lines}: {error:?}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn bytes_that_are_not_http_are_not_an_upgrade() {
    for bytes in ["SSH-2.0-OpenSSH_9.9\r\n\r\n", "\u{15}\u{3}\u{1}\0\u{2}\u{2}F", "HTTP/1.1 abc\r\n\r\n"] {
        let error = answered(|_| bytes.to_owned()).await;
        assert!(matches!(error, DialError::Upgrade(_)), "{bytes:?}: {error:?}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn nothing_that_the_server_writes_is_in_the_error() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nupgrade: tattle\r\nconnection: tattle\r\n\r\n";
    for answer in [answer, "tattle\r\n\r\n", "HTTP/1.1 401 tattle\r\ncontent-length: 6\r\n\r\ntattle"] {
        let error = answered(|_| answer.to_owned()).await;
        assert!(!format!("{error} {error:?}").contains("tattle"), "{error:?}");
    }
}

/// Dials a server that goes on with its answer for as long as it is read; gives back how much of it was taken.
async fn endless(piece: &[u8]) -> (DialError, usize) {
    let server = Server::start().await;
    let connector = connector(&server.plain_url(), untrusting());
    let (dialled, sent) = dial(&connector, async {
        let (mut stream, _) = server.request().await;
        let mut sent = 0;
        let mut next: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nx-first: ";
        while within("room for bytes, or an end", stream.write_all(next)).await.is_ok() {
            sent += next.len();
            next = piece;
        }
        sent
    })
    .await;
    (refusal(dialled), sent)
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_answer_without_an_end_is_not_read_for_ever() {
    let (line, lines) = (vec![b'a'; 4096], b"\r\nx-more: 1".repeat(400));
    for piece in [line, lines] {
        let (error, sent) = endless(&piece).await;
        assert!(matches!(error, DialError::Upgrade(_)), "{error:?}");
        // What the kernel holds for both sides is counted as well.
        assert!(sent < 32 << 20, "{sent} bytes were taken");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_connection_that_ends_before_the_response_is_an_error() {
    for sent in ["", "HTTP/1.1 101 Switching"] {
        let server = Server::start().await;
        let connector = connector(&server.plain_url(), untrusting());
        let (dialled, ()) = dial(&connector, async {
            let (mut stream, _) = server.request().await;
            stream.write_all(sent.as_bytes()).await.unwrap();
        })
        .await;
        let error = refusal(dialled);
        assert!(matches!(error, DialError::Connect(_)), "{sent:?}: {error:?}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_connection_that_is_reset_before_the_response_is_an_error() {
    let server = Server::start().await;
    let connector = connector(&server.plain_url(), untrusting());
    let (dialled, ()) = dial(&connector, async {
        let (stream, _) = server.request().await;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    assert_eq!(refusal(dialled), DialError::Connect(io::ErrorKind::ConnectionReset));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn bytes_right_behind_the_answer_are_left_over_and_none_is_lost() {
    let server = Server::start().await;
    let connector = connector(&server.plain_url(), untrusting());
    let (dialled, mut stream) = dial(&connector, async {
        let mut stream = server.tcp().await;
        upgrade(&mut stream, b"\x81\x05first").await;
        stream
    })
    .await;
    let mut upgraded = dialled.ok().unwrap();
    assert_eq!(upgraded.leftover, &b"\x81\x05first"[..]);
    stream.write_all(b"second").await.unwrap();
    let mut later = [0; 6];
    within("bytes", upgraded.stream.read_exact(&mut later)).await.unwrap();
    assert_eq!(&later, b"second");
    upgraded.stream.write_all(b"third").await.unwrap();
    upgraded.stream.flush().await.unwrap();
    let mut back = [0; 5];
    within("bytes", stream.read_exact(&mut back)).await.unwrap();
    assert_eq!(&back, b"third");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn over_tls_too_a_long_greeting_behind_the_answer_arrives_whole() {
    let authority = Authority::new();
    let server = Server::start().await;
    let config = authority.issue("localhost").server();
    let connector = connector(&server.url("wss", "localhost"), authority.trusted());
    let greeting: Vec<u8> = (0..60_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    let (dialled, _open) = dial(&connector, async {
        let (mut stream, _) = secure(server.tcp().await, config).await.unwrap();
        upgrade(&mut stream, &greeting).await;
        stream
    })
    .await;
    let mut upgraded = dialled.ok().unwrap();
    let mut arrived = std::mem::replace(&mut upgraded.leftover, BytesMut::new());
    assert!(!arrived.is_empty());
    while arrived.len() < greeting.len() {
        assert_ne!(within("bytes", upgraded.stream.read_buf(&mut arrived)).await.unwrap(), 0);
    }
    assert_eq!(arrived, greeting);
}
