//! A server's place: how it is named, reached and, over TLS, verified. Not a path on it; driven by `request`.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::{Host, Url};

use super::super::stream::Stream;
use super::super::tcp;
use super::error::HttpError;

/// Bounds finding and reaching the server (DNS and TCP over all its addresses), and once more the TLS handshake.
const CONNECT: Duration = Duration::from_secs(5);

/// A connection to a server, over TLS or not.
pub(super) trait Connection: Stream {
    /// Its socket.
    fn tcp(&self) -> &TcpStream;
}

impl Connection for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Connection for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Scheme, host and port. Shared by all threads.
pub(crate) struct Origin {
    /// A name or an address, without brackets.
    host: String,
    port: u16,
    /// The value of the header `Host`.
    authority: String,
    tls: Option<Tls>,
}

struct Tls {
    /// What the certificate must be for. `None`: no certificate can be for such a host.
    name: Option<ServerName<'static>>,
    config: Arc<ClientConfig>,
}

impl Origin {
    /// That of an `http` or `https` URL; the rest of the URL is ignored.
    pub(crate) fn new(url: &Url, tls: Arc<ClientConfig>) -> Self {
        let (host, name) = match url.host() {
            Some(Host::Domain(domain)) => (domain.to_owned(), ServerName::try_from(domain.to_owned()).ok()),
            Some(Host::Ipv4(address)) => (address.to_string(), Some(ServerName::IpAddress(address.into()))),
            Some(Host::Ipv6(address)) => (address.to_string(), Some(ServerName::IpAddress(address.into()))),
            None => (String::new(), None),
        };
        let in_url = url.host_str().unwrap_or_default();
        let authority = url.port().map_or_else(|| in_url.to_owned(), |port| format!("{in_url}:{port}"));
        let tls = (url.scheme() == "https").then_some(Tls { name, config: tls });
        Self { host, port: url.port_or_known_default().unwrap_or_default(), authority, tls }
    }

    /// A port of this host, without TLS.
    pub(crate) fn local(port: u16) -> Self {
        Self { host: "127.0.0.1".to_owned(), port, authority: format!("127.0.0.1:{port}"), tls: None }
    }

    /// Host and port as the header `Host` has them: no port where it is the scheme's own.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// A new connection, with TCP_NODELAY set: the last piece of a body must not wait for an ACK of the one before.
    pub(super) async fn connect(&self) -> Result<Box<dyn Connection>, HttpError> {
        let connecting = timeout(CONNECT, tcp::connect(&self.host, self.port)).await;
        let tcp = connecting.map_err(|_| HttpError::Unreachable)?.map_err(|_| HttpError::Unreachable)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(tcp)) };
        let name = tls.name.clone().ok_or(HttpError::Unreachable)?;
        let handshake = TlsConnector::from(Arc::clone(&tls.config)).connect(name, tcp);
        let shaken = timeout(CONNECT, handshake).await;
        Ok(Box::new(shaken.map_err(|_| HttpError::Unreachable)?.map_err(|_| HttpError::Unreachable)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Origin {
        Origin::new(&url.parse().unwrap(), crate::transport::tls::client_config(None).unwrap())
    }

    #[test]
    fn an_address_is_verified_as_an_address_and_named_with_its_brackets() {
        let v6 = origin("https://[::1]:8443/x");
        assert_eq!((v6.host.as_str(), v6.port, v6.authority()), ("::1", 8443, "[::1]:8443"));
        assert!(matches!(v6.tls.unwrap().name, Some(ServerName::IpAddress(rustls::pki_types::IpAddr::V6(_)))));
        let v4 = origin("https://127.0.0.1");
        assert_eq!((v4.host.as_str(), v4.port, v4.authority()), ("127.0.0.1", 443, "127.0.0.1"));
        assert!(matches!(v4.tls.unwrap().name, Some(ServerName::IpAddress(rustls::pki_types::IpAddr::V4(_)))));
    }

    #[test]
    fn a_name_is_verified_as_a_name_and_plain_http_not_at_all() {
        let tls = origin("https://user:pass@host.example:443/").tls.unwrap();
        assert!(matches!(tls.name, Some(ServerName::DnsName(_))));
        let plain = origin("http://host.example:80/");
        assert!(plain.tls.is_none());
        assert_eq!((plain.port, plain.authority()), (80, "host.example"));
    }
}
