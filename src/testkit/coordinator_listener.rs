//! A scripted coordinator over TCP: takes connections, and has the dials fail that the test wants to fail.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::http::HttpRequest;
use super::socket::accept_websocket;
use super::wire::{DialFault, Line, Network, Opened};
use crate::transport::stream::DialError;

/// Takes the connections of a listener until the coordinator is gone.
pub(super) async fn accept_all(listener: TcpListener, network: Rc<Network>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let fault = network.next_fault();
        connections.spawn_local(accept(stream, fault, Rc::clone(&network)));
        while connections.try_join_next().is_some() {}
    }
}

async fn accept(mut stream: TcpStream, fault: Option<DialFault>, network: Rc<Network>) {
    let response = match fault {
        None => {
            let Ok(socket) = socket2::SockRef::from(&stream).try_clone() else { return };
            // A request that is not an upgrade is dropped.
            let Ok(upgraded) = accept_websocket(stream).await else { return };
            // The coordinator may be gone.
            let _ = network.opened.send(Opened { upgraded, line: Line::Tcp(socket) });
            return;
        }
        Some(DialFault::Hangs) => return until_closed(&mut stream).await,
        Some(DialFault::Fails(error)) => response(&error),
        Some(DialFault::Answers(bytes)) => Some(bytes),
        Some(DialFault::Refused | DialFault::Panics) => None,
    };
    match response {
        Some(bytes) => {
            // The agent may have closed the connection.
            let _ = HttpRequest::read_head(&mut stream).await;
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            until_closed(&mut stream).await;
        }
        None => drop(socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))),
    }
}

/// The response that causes an error.
fn response(error: &DialError) -> Option<Bytes> {
    let (status, retry_after) = match error {
        DialError::Refused(status) | DialError::NotAdmitted(status) | DialError::Redirected(status) => (*status, None),
        DialError::Busy { status, retry_after } => (*status, *retry_after),
        _ => return None,
    };
    let retry_after = retry_after.map(|wait| format!("retry-after: {}\r\n", wait.as_secs())).unwrap_or_default();
    Some(format!("HTTP/1.1 {status} Scripted\r\n{retry_after}content-length: 0\r\n\r\n").into())
}

/// Waits until the agent has closed the connection.
async fn until_closed(stream: &mut TcpStream) {
    while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
}
