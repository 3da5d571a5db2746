//! Which servers the client trusts, and what it sends in a TLS handshake.

use std::sync::Arc;

use outpost::testkit::DialError;
use rustls::{CertificateError, ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::authority::{Authority, Identity};
use super::server::{Hello, Server, connector, dial, left, refusal, secure, untrusting, upgrade, within};

/// Dials this host, and expects that the handshake fails on both sides.
async fn refused(host: &str, server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> DialError {
    let listening = Server::start().await;
    let connector = connector(&listening.url("wss", host), client);
    let (dialled, served) = dial(&connector, async {
        let (mut stream, _) = secure(listening.tcp().await, server).await?;
        // A client of TLS 1.3 judges the server after the server has said all that it has to say.
        stream.read_u8().await
    })
    .await;
    assert!(served.is_err());
    refusal(dialled)
}

fn invalid(why: CertificateError) -> DialError {
    DialError::Tls(rustls::Error::InvalidCertificate(why))
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_of_the_operators_authority_is_reached_by_its_name_over_http_1_1() {
    let authority = Authority::new();
    let server = Server::start().await;
    let config = authority.issue("localhost").server();
    let connector = connector(&server.url("wss", "localhost"), authority.trusted());
    let (dialled, (hello, request)) = dial(&connector, async {
        let (mut stream, hello) = secure(server.tcp().await, config).await.unwrap();
        (hello, upgrade(&mut stream, b"").await)
    })
    .await;
    assert!(dialled.is_ok());
    let expected = Hello { server_name: Some("localhost".to_owned()), protocols: vec!["http/1.1".to_owned()] };
    assert_eq!(hello, expected);
    assert!(request.head.starts_with("GET /agent HTTP/1.1\r\n"));
    assert_eq!(request.header("host"), Some(format!("localhost:{}", server.addr.port()).as_str()));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_that_has_only_tls_1_2_is_reached() {
    let authority = Authority::new();
    let server = Server::start().await;
    let config = authority.issue("localhost").server_of(&[&rustls::version::TLS12], &[]);
    let connector = connector(&server.url("wss", "localhost"), authority.trusted());
    let (dialled, _) = dial(&connector, async {
        let (mut stream, _) = secure(server.tcp().await, config).await.unwrap();
        upgrade(&mut stream, b"").await
    })
    .await;
    assert!(dialled.is_ok());
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_may_be_dialled_by_its_address() {
    let authority = Authority::new();
    let server = Server::start().await;
    let config = authority.issue("127.0.0.1").server();
    let connector = connector(&server.url("wss", "127.0.0.1"), authority.trusted());
    let (dialled, hello) = dial(&connector, async {
        let (mut stream, hello) = secure(server.tcp().await, config).await.unwrap();
        upgrade(&mut stream, b"").await;
        hello
    })
    .await;
    assert!(dialled.is_ok());
    assert_eq!(hello.server_name, None);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_ipv6_address_is_verified_as_an_address() {
    // A machine may have no IPv6.
    let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else { return };
    let url = format!("wss://[::1]:{}/agent", listener.local_addr().unwrap().port());
    let authority = Authority::new();
    for (name, is_accepted) in [("::1", true), ("::2", false)] {
        let config = authority.issue(name).server();
        let (dialled, _) = dial(&connector(&url, authority.trusted()), async {
            let (stream, _) = within("connection", listener.accept()).await.unwrap();
            if let Ok((mut stream, _)) = secure(stream, config).await {
                upgrade(&mut stream, b"").await;
            }
        })
        .await;
        assert_eq!(dialled.is_ok(), is_accepted, "{name}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_that_likes_http_2_better_gets_http_1_1() {
    let authority = Authority::new();
    let server = Server::start().await;
    let config = authority.issue("localhost").server_of(rustls::ALL_VERSIONS, &["h2", "http/1.1"]);
    let connector = connector(&server.url("wss", "localhost"), authority.trusted());
    let (dialled, agreed) = dial(&connector, async {
        let (mut stream, _) = secure(server.tcp().await, config).await.unwrap();
        upgrade(&mut stream, b"").await;
        stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
    })
    .await;
    assert!(dialled.is_ok());
    assert_eq!(agreed.as_deref(), Some(&b"http/1.1"[..]));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_that_has_only_http_2_is_refused() {
    let authority = Authority::new();
    let config = authority.issue("localhost").server_of(rustls::ALL_VERSIONS, &["h2"]);
    let error = refused("localhost", config, authority.trusted()).await;
    let alert = rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol);
    assert_eq!(error, DialError::Tls(alert));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let (known, unknown) = (Authority::new(), Authority::new());
    let server = unknown.issue("localhost").server();
    for client in [untrusting(), known.trusted()] {
        // Authorities of one name and different keys: the signature is what fails.
        let error = refused("localhost", server.clone(), client).await;
        assert!(matches!(error, DialError::Tls(_)), "{error:?}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_certificate_that_signs_itself_is_refused() {
    let server = Identity::self_signed("localhost").server();
    let error = refused("localhost", server, Authority::new().trusted()).await;
    assert_eq!(error, invalid(CertificateError::UnknownIssuer));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_certificate_for_another_host_is_refused_and_its_names_are_not_repeated() {
    let authority = Authority::new();
    let server = authority.issue("other.example").server();
    let error = refused("localhost", server, authority.trusted()).await;
    assert_eq!(error, invalid(CertificateError::NotValidForName));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_certificate_for_a_name_does_not_hold_for_its_address() {
    let authority = Authority::new();
    let server = authority.issue("localhost").server();
    let error = refused("127.0.0.1", server, authority.trusted()).await;
    assert_eq!(error, invalid(CertificateError::NotValidForName));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_certificate_out_of_its_time_is_refused() {
    let authority = Authority::new();
    let expired = authority.issue_with("localhost", |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let early = authority.issue_with("localhost", |params| params.not_before = rcgen::date_time_ymd(3000, 1, 1));
    for identity in [expired, early] {
        let error = refused("localhost", identity.server(), authority.trusted()).await;
        assert!(matches!(error, DialError::Tls(_)), "{error:?}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_server_without_tls_is_refused() {
    let server = Server::start().await;
    let connector = connector(&server.url("wss", "localhost"), untrusting());
    let (dialled, ()) = dial(&connector, async {
        let mut stream = server.tcp().await;
        let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        left(&mut stream).await;
    })
    .await;
    let error = refusal(dialled);
    assert!(matches!(error, DialError::Tls(_)), "{error:?}");
}
