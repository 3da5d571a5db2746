//! A backend over TLS: which certificates are trusted and which protocol is spoken.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use outpost::backends::client::HttpBackendFactory;
use outpost::backends::{BackendFactory, BackendRequest, SendError};
use outpost::messages::endpoint::Endpoint;
use outpost::messages::ids::{BackendId, JobId};
use outpost::transport::tls;

use super::server::within;

/// Serves one connection: gives back the protocol agreed on, or nothing where the handshake failed.
struct TlsServer {
    url: url::Url,
    authority: tempfile::NamedTempFile,
    agreed: JoinHandle<Option<Vec<u8>>>,
}

fn start() -> TlsServer {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
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
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port()).parse().unwrap();
    let agreed = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut tls = rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::new(config)).unwrap(), stream);
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n{}") {
            let mut byte = [0];
            tls.read_exact(&mut byte).ok()?;
            request.push(byte[0]);
        }
        tls.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?;
        tls.flush().ok()?;
        tls.conn.alpn_protocol().map(<[u8]>::to_vec)
    });
    TlsServer { url, authority, agreed }
}

async fn ask(server: &TlsServer, config: Arc<rustls::ClientConfig>) -> Result<u16, SendError> {
    let backend = HttpBackendFactory::new(BackendId::from("test"), &server.url, None, config).open();
    let request = BackendRequest {
        job: JobId::random(),
        endpoint: Endpoint::ChatCompletions,
        body: vec![Bytes::from_static(b"{}")],
    };
    within(backend.send(request)).await.map(|response| response.status)
}

#[actix_rt::test]
async fn a_certificate_of_the_operators_authority_is_trusted_and_http_1_1_is_spoken() {
    let server = start();
    let config = tls::client_config(Some(server.authority.path())).unwrap();
    assert_eq!(ask(&server, config).await, Ok(204));
    assert_eq!(server.agreed.join().unwrap(), Some(b"http/1.1".to_vec()));
}

#[actix_rt::test]
async fn a_certificate_of_nobody_known_is_refused() {
    let server = start();
    assert_eq!(ask(&server, tls::client_config(None).unwrap()).await, Err(SendError::Unreachable));
    assert_eq!(server.agreed.join().unwrap(), None);
}
