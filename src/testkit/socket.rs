//! The server's part of a WebSocket upgrade, for scripted coordinators over TCP.

use std::io;

use actix_http::ws::hash_key;
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::transport::websocket::link::Upgraded;

/// The longest head of an upgrade request, in bytes.
const MAX_HEAD: usize = 64 << 10;

/// Reads an upgrade request and accepts it. Whatever follows the request is read as frames.
///
/// # Errors
/// If the connection ends first, or the request is not an upgrade.
pub async fn accept_websocket(mut stream: TcpStream) -> io::Result<Upgraded> {
    let mut leftover = BytesMut::new();
    let end = loop {
        if let Some(at) = leftover.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at + 4;
        }
        if leftover.len() > MAX_HEAD || stream.read_buf(&mut leftover).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = leftover.split_to(end);
    let head = std::str::from_utf8(&head).map_err(|_| io::ErrorKind::InvalidData)?;
    let key = head.lines().filter_map(|line| line.split_once(':'));
    let key = key.filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")).map(|(_, key)| key.trim()).next();
    let accept = hash_key(key.ok_or(io::ErrorKind::InvalidData)?.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {}\r\n\r\n",
        String::from_utf8_lossy(&accept)
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(Upgraded { stream: Box::new(stream), leftover })
}
