//! The server's part of a WebSocket upgrade, for scripted coordinators over TCP.

use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::http::HttpRequest;
use crate::transport::websocket::link::Upgraded;

/// Reads an upgrade request and accepts it. The bytes after the request are read as frames.
///
/// # Errors
/// If the connection ends first, or the request is not an upgrade.
pub async fn accept_websocket(mut stream: TcpStream) -> io::Result<Upgraded> {
    let (request, leftover) = HttpRequest::read_head(&mut stream).await.ok_or(io::ErrorKind::UnexpectedEof)?;
    let response = request.accept_websocket().ok_or(io::ErrorKind::InvalidData)?;
    stream.write_all(response.as_bytes()).await?;
    Ok(Upgraded { stream: Box::new(stream), leftover })
}
