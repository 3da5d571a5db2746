//! A backend over TLS: which certificates are trusted, which protocol is spoken, and what its end proves.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use futures_util::StreamExt;
use outpost::internals::HttpBackendFactory;
use outpost::messages::endpoint::Endpoint;
use outpost::messages::ids::{BackendId, JobId};
use outpost::testkit::{
    BackendFactory, BackendKind, BackendRequest, BackendResponse, BodyError, SendError, client_config,
};

use super::server::within;

/// How a connection ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// With TLS's own end.
    InOrder,
    /// With that of TCP alone.
    Cut,
}

/// A server that answers one request.
struct TlsServer {
    url: url::Url,
    authority: tempfile::NamedTempFile,
    /// The protocol agreed on and the request's body, or nothing where the handshake failed.
    agreed: JoinHandle<Option<(Vec<u8>, Vec<u8>)>>,
}

/// Listens at the host's address with a certificate for `subject`.
fn start(host: &str, subject: &str, answer: Vec<u8>, end: End) -> TlsServer {
    let made = rcgen::generate_simple_self_signed([subject.to_owned()]).unwrap();
    let mut authority = tempfile::NamedTempFile::new().unwrap();
    authority.write_all(made.cert.pem().as_bytes()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = TcpListener::bind(if host == "[::1]" { "[::1]:0" } else { "127.0.0.1:0" }).unwrap();
    let url = format!("https://{host}:{}", listener.local_addr().unwrap().port()).parse().unwrap();
    let agreed = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut tls = rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::new(config)).unwrap(), stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tls.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        tls.read_exact(&mut body).ok()?;
        tls.write_all(&answer).ok()?;
        if end == End::InOrder {
            tls.conn.send_close_notify();
        }
        tls.flush().ok()?;
        Some((tls.conn.alpn_protocol()?.to_vec(), body))
    });
    TlsServer { url, authority, agreed }
}

async fn send(server: &TlsServer, body: Bytes) -> Result<BackendResponse, SendError> {
    let config = client_config(Some(server.authority.path())).unwrap();
    send_with(server, body, config).await
}

async fn send_with(
    server: &TlsServer,
    body: Bytes,
    config: Arc<rustls::ClientConfig>,
) -> Result<BackendResponse, SendError> {
    let backend =
        HttpBackendFactory::new(BackendId::from("test"), BackendKind::GENERIC, &server.url, None, config).open();
    let request = BackendRequest { job: JobId::random(), endpoint: Endpoint::ChatCompletions, body: vec![body] };
    within(backend.send(request)).await
}

async fn status(server: &TlsServer) -> Result<u16, SendError> {
    send(server, Bytes::from_static(b"{}")).await.map(|response| response.status)
}

fn no_content(host: &str, subject: &str) -> TlsServer {
    start(host, subject, b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), End::InOrder)
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_certificate_of_the_operators_authority_is_trusted_and_http_1_1_is_spoken() {
    let server = no_content("localhost", "localhost");
    assert_eq!(status(&server).await, Ok(204));
    assert_eq!(server.agreed.join().unwrap(), Some((b"http/1.1".to_vec(), b"{}".to_vec())));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let server = no_content("localhost", "localhost");
    let sent = send_with(&server, Bytes::from_static(b"{}"), client_config(None).unwrap()).await;
    assert_eq!(sent.err(), Some(SendError::Unreachable));
    assert_eq!(server.agreed.join().unwrap(), None);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_address_is_verified_as_an_address() {
    for (host, address) in [("[::1]", "::1"), ("127.0.0.1", "127.0.0.1")] {
        assert_eq!(status(&no_content(host, address)).await, Ok(204), "{host}");
    }
    for (host, another) in [("[::1]", "127.0.0.1"), ("127.0.0.1", "::1"), ("[::1]", "localhost")] {
        assert_eq!(status(&no_content(host, another)).await, Err(SendError::Unreachable), "{host}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn long_bodies_pass_both_ways() {
    let sent = Bytes::from((0..300_000_u32).map(|i| (i % 251) as u8).collect::<Vec<_>>());
    let answer = [b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n", &sent[..]].concat();
    let server = start("localhost", "localhost", answer, End::Cut);
    let mut response = send(&server, sent.clone()).await.unwrap();
    let mut got = Vec::new();
    while let Some(bytes) = within(response.body.next()).await {
        got.extend_from_slice(&bytes.unwrap());
    }
    assert!(got == sent, "the answer has other bytes");
    assert!(server.agreed.join().unwrap().unwrap().1 == sent, "the request has other bytes");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_body_that_only_the_close_delimits_is_whole_where_tls_says_so() {
    for (end, expected) in [(End::InOrder, None), (End::Cut, Some(Err(BodyError::Broken)))] {
        let server = start("localhost", "localhost", b"HTTP/1.1 200 OK\r\n\r\nbody".to_vec(), end);
        let mut response = send(&server, Bytes::from_static(b"{}")).await.unwrap();
        let mut got = Vec::new();
        let last = loop {
            match within(response.body.next()).await {
                Some(Ok(bytes)) => got.extend_from_slice(&bytes),
                last => break last,
            }
        };
        assert_eq!((&got[..], last), (&b"body"[..], expected));
    }
}
