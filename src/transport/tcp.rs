//! TCP to the coordinator and to the backends: every address of a name, through a proxy where one is configured, and a
//! socket set up for small frames that must not wait.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::sleep;

use super::stream::{DialError, ProxyFault};
use crate::messages::secret::Secret;

/// How long an address has before the next one is tried in parallel (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);
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

/// Where a client of this host reaches what listens on `addr`. Without the scope of an IPv6 address, which no URL has.
pub(crate) fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// Connects to whichever address of the host answers first; each has a head start before the next. The caller bounds the whole.
pub(crate) async fn connect(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let addresses: Vec<SocketAddr> =
        lookup_host((host, port)).await.map_err(|error| DialError::Resolve(host.to_owned(), error.kind()))?.collect();
    race(addresses, DialError::Resolve(host.to_owned(), io::ErrorKind::NotFound)).await
}

/// The first connection of these addresses, or the last failure: `last` where there is no address at all.
async fn race(addresses: Vec<SocketAddr>, mut last: DialError) -> Result<TcpStream, DialError> {
    let mut next = interleaved(addresses).into_iter();
    let mut attempts = FuturesUnordered::new();
    loop {
        match next.next() {
            Some(address) => attempts.push(TcpStream::connect(address)),
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        tokio::select! {
            Some(attempted) = attempts.next() => match attempted {
                Ok(stream) => {
                    set_up(&stream).map_err(|error| DialError::Connect(error.kind()))?;
                    return Ok(stream);
                }
                Err(error) => last = DialError::Connect(error.kind()),
            },
            () = sleep(STAGGER), if next.len() > 0 => {}
        }
    }
}

/// The addresses with the families in turns, the resolver's first one first (RFC 8305): where one family is broken, the
/// other's turn comes at once.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut second = second.into_iter();
    let mut mixed: Vec<SocketAddr> =
        first.into_iter().flat_map(|address| [Some(address), second.next()]).flatten().collect();
    mixed.extend(second);
    mixed
}

/// Connects to the host through a proxy.
pub(crate) async fn connect_by_proxy(proxy: &ProxyTarget, host: &str, port: u16) -> Result<TcpStream, DialError> {
    let mut stream = connect(&proxy.host, proxy.port).await?;
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(authorization) = &proxy.authorization {
        request.push_str("Proxy-Authorization: ");
        request.push_str(authorization.reveal());
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    let broken = |error: io::Error| DialError::Proxy(ProxyFault::Broken(error.kind()));
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    read_answer(&mut stream).await.map_err(DialError::Proxy)?;
    Ok(stream)
}

/// Reads a proxy's answer, and nothing of what follows it: that belongs to the tunnel.
pub(crate) async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), ProxyFault> {
    let mut head = Vec::with_capacity(512);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_PROXY_HEAD {
            return Err(ProxyFault::Endless);
        }
        head.push(stream.read_u8().await.map_err(|error| ProxyFault::Broken(error.kind()))?);
    }
    match status(&head) {
        Some(200..=299) => Ok(()),
        Some(status) => Err(ProxyFault::Status(status)),
        None => Err(ProxyFault::NotHttp),
    }
}

fn status(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    let mut words = line.split(' ');
    words.next()?.starts_with("HTTP/1.").then_some(())?;
    let status = words.next()?;
    (status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit())).then(|| status.parse().ok())?
}

/// Has the system end a connection whose peer acknowledges nothing for so long, or takes nothing. Not for a backend: one that
/// takes nothing of a long request for a while may be busy.
pub(crate) fn end_when_unacknowledged(stream: &TcpStream, limit: Duration) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    SockRef::from(stream).set_tcp_user_timeout(Some(limit))?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (stream, limit);
    Ok(())
}

/// Sends small frames at once, notices a dead peer, and keeps little unsent in the kernel.
pub(crate) fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)),
    )?;
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "macos"))]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_take_turns() {
        let addresses = |list: [&str; 5]| list.map(|text| text.parse::<SocketAddr>().unwrap()).to_vec();
        let found = addresses(["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"]);
        let mixed = addresses(["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"]);
        assert_eq!(interleaved(found), mixed);
        let found = addresses(["1.0.0.1:1", "[::1]:1", "[::2]:1", "[::3]:1", "[::4]:1"]);
        assert_eq!(interleaved(found.clone()), found);
    }

    #[tokio::test]
    async fn a_proxy_makes_a_connection_by_a_status_of_three_digits() {
        for (status, answer) in [
            ("200", Ok(())),
            ("299", Ok(())),
            ("407", Err(ProxyFault::Status(407))),
            ("0200", Err(ProxyFault::NotHttp)),
            ("+200", Err(ProxyFault::NotHttp)),
            ("20", Err(ProxyFault::NotHttp)),
        ] {
            let head = format!("HTTP/1.1 {status} x\r\n\r\ntunnel");
            let mut stream = head.as_bytes();
            assert_eq!((read_answer(&mut stream).await, stream), (answer, &b"tunnel"[..]), "{status}");
        }
    }

    #[test]
    fn what_listens_everywhere_is_reached_on_this_host() {
        for (listens, reached) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("10.0.0.1:1", "10.0.0.1:1"),
            ("[fe80::1%3]:1", "[fe80::1]:1"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), reached);
        }
    }

    fn closed_port() -> SocketAddr {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn a_dead_address_does_not_hide_a_living_one() {
        let living = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = living.local_addr().unwrap();
        let dead_v6 = SocketAddr::new("::1".parse().unwrap(), address.port());
        for addresses in [vec![dead_v6, address], vec![closed_port(), address], vec![address, dead_v6]] {
            let stream = race(addresses, DialError::TimedOut).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), address);
        }
    }

    #[tokio::test]
    async fn where_every_address_is_dead_the_cause_is_theirs() {
        let dead = race(vec![closed_port(), closed_port()], DialError::TimedOut).await;
        assert_eq!(dead.unwrap_err(), DialError::Connect(io::ErrorKind::ConnectionRefused));
        assert_eq!(race(Vec::new(), DialError::TimedOut).await.unwrap_err(), DialError::TimedOut);
    }

    #[tokio::test]
    async fn a_connection_sends_small_frames_at_once_and_notices_a_dead_peer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = connect("127.0.0.1", listener.local_addr().unwrap().port()).await.unwrap();
        assert!(stream.nodelay().unwrap());
        assert!(SockRef::from(&stream).keepalive().unwrap());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn bytes_that_nobody_acknowledges_end_a_connection_only_where_that_is_wanted() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = connect("127.0.0.1", listener.local_addr().unwrap().port()).await.unwrap();
        assert_eq!(SockRef::from(&stream).tcp_user_timeout().unwrap(), None);
        end_when_unacknowledged(&stream, Duration::from_secs(45)).unwrap();
        assert_eq!(SockRef::from(&stream).tcp_user_timeout().unwrap(), Some(Duration::from_secs(45)));
    }
}
