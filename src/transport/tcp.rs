//! TCP to the coordinator: every address of its name, through a proxy where one is configured, and a socket set up for
//! small frames that must not wait.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::link::DialError;
use crate::messages::secret::Secret;

/// How long one address may take when there are others to try.
const PER_ADDRESS: Duration = Duration::from_secs(3);
/// Bytes that the kernel may hold unsent: what a pong waits behind on a slow link.
const UNSENT: u32 = 64 * 1024;
/// The longest answer of a proxy.
const MAX_PROXY_HEAD: usize = 8 * 1024;

/// A CONNECT proxy.
#[derive(Clone, Debug)]
pub struct ProxyTarget {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<Secret>,
}

/// Connects to the first address of the host that answers. The caller bounds the whole.
pub async fn connect(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let addresses: Vec<SocketAddr> =
        lookup_host((host, port)).await.map_err(|error| DialError::Resolve(host.to_owned(), error.kind()))?.collect();
    let mut last = DialError::Resolve(host.to_owned(), io::ErrorKind::NotFound);
    for (index, address) in addresses.iter().enumerate() {
        let attempt = TcpStream::connect(address);
        let attempted =
            if index + 1 == addresses.len() { Ok(attempt.await) } else { timeout(PER_ADDRESS, attempt).await };
        match attempted {
            Ok(Ok(stream)) => {
                set_up(&stream).map_err(|error| DialError::Connect(error.kind()))?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = DialError::Connect(error.kind()),
            Err(_) => last = DialError::TimedOut,
        }
    }
    Err(last)
}

/// Connects to the host through a proxy.
pub async fn connect_by_proxy(proxy: &ProxyTarget, host: &str, port: u16) -> Result<TcpStream, DialError> {
    let mut stream = connect(&proxy.host, proxy.port).await?;
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(authorization) = &proxy.authorization {
        request.push_str("Proxy-Authorization: ");
        request.push_str(authorization.reveal());
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    let broken = |error: io::Error| DialError::Proxy(error.kind().to_string());
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut head = Vec::with_capacity(512);
    // One byte at a time: what follows the head belongs to the tunnel.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_PROXY_HEAD {
            return Err(DialError::Proxy("its answer has no end".to_owned()));
        }
        head.push(stream.read_u8().await.map_err(broken)?);
    }
    match status(&head) {
        Some(200..=299) => Ok(stream),
        Some(status) => Err(DialError::Proxy(format!("it answers {status}"))),
        None => Err(DialError::Proxy("its answer is no HTTP".to_owned())),
    }
}

fn status(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    let mut words = line.split(' ');
    words.next()?.starts_with("HTTP/1.").then_some(())?;
    words.next()?.parse().ok()
}

fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)),
    )?;
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "macos"))]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    Ok(())
}
