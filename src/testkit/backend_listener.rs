//! A scripted backend over TCP: the script that it plays in memory, as an HTTP/1.1 server of kind `openai`.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::WriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::backend::{ScriptedBackend, Shared};
use super::http::HttpRequest;
use super::reply::Reply;
use super::request::Running;
use crate::backends::{BackendResponse, SendError};
use crate::messages::discovery::{BackendReport, ProbeError};
use crate::messages::endpoint::Endpoint;

impl ScriptedBackend {
    /// Listens on a free port of this host, until the last clone of the backend is dropped. Needs an actix system, or a
    /// `LocalSet`.
    ///
    /// The server lists the models with their contexts, refuses empty requests, so that a probe finds the endpoints that
    /// the report names, and closes each connection after one response. Slots, load and prices are not reported. Where
    /// the client code would panic in memory, the connection ends instead.
    ///
    /// # Errors
    /// If there is no such port.
    pub async fn listen(&self) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let mut listening = self.0.listening.lock().unwrap_or_else(PoisonError::into_inner);
        listening.addr = Some(addr);
        listening.accepting.spawn_local(accept_all(listener, Arc::downgrade(&self.0)));
        Ok(addr)
    }

    /// Where it listens. Panics if it does not.
    pub fn addr(&self) -> SocketAddr {
        let listening = self.0.listening.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(addr) = listening.addr else { panic!("the backend does not listen: call `listen` first") };
        addr
    }
}

async fn accept_all(listener: TcpListener, backend: Weak<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn_local(serve(stream, Weak::clone(&backend)));
        while connections.try_join_next().is_some() {}
    }
}

/// How a connection ends.
enum Closing {
    /// After the whole of what was to be written.
    Close,
    /// So that the client sees a reset.
    Reset,
}

/// Serves one request.
async fn serve(mut stream: TcpStream, backend: Weak<Shared>) {
    // A piece is sent as it is written.
    let _ = stream.set_nodelay(true);
    let Some(request) = HttpRequest::read(&mut stream).await else { return };
    let Some(backend) = backend.upgrade() else { return };
    let (mut from_client, mut to_client) = stream.split();
    let end = tokio::select! {
        end = respond(request, backend, &mut to_client) => end,
        () = closed(&mut from_client) => return,
    };
    match end {
        Closing::Close => {
            // The client may have closed the connection too.
            let _ = to_client.shutdown().await;
            closed(&mut from_client).await;
        }
        Closing::Reset => drop(socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))),
    }
}

/// Waits until the client has closed the connection.
async fn closed(stream: &mut (impl AsyncReadExt + Unpin)) {
    while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
}

async fn respond(request: HttpRequest, backend: Arc<Shared>, stream: &mut WriteHalf<'_>) -> Closing {
    if request.line == "GET /v1/models" {
        return match backend.probe().await {
            Ok(found) => write_json(stream, 200, &models(&found.report)).await,
            Err(ProbeError::Unreachable) => Closing::Reset,
            Err(ProbeError::Unauthorized) => write_json(stream, 401, &json!({})).await,
            Err(ProbeError::NotReady) => write_json(stream, 503, &json!({})).await,
            Err(ProbeError::Unexpected(_)) => write_json(stream, 200, &json!({})).await,
            Err(ProbeError::TimedOut) => std::future::pending().await,
        };
    }
    let Some(endpoint) = request.line.strip_prefix("POST ").and_then(Endpoint::of_path) else {
        return write_json(stream, 404, &json!({})).await;
    };
    // A probe of the endpoint.
    if request.body == b"{}" {
        let status = if backend.has(endpoint) { 400 } else { 404 };
        return write_json(stream, status, &json!({})).await;
    }
    let (running, reply) = backend.take(endpoint, &request.head, request.body.into());
    drop(backend);
    match Running::wait(reply).await {
        Reply::Raw(bytes) => {
            let end = write(stream, &bytes).await;
            running.finish();
            end
        }
        reply => match running.answer(reply).await {
            Ok(response) => write_response(stream, response).await,
            Err(SendError::Garbled) => write(stream, b"not HTTP\r\n\r\n").await,
            Err(SendError::Unreachable | SendError::Broke) => Closing::Reset,
        },
    }
}

/// The list of models.
fn models(report: &BackendReport) -> Value {
    let model = |model: &crate::messages::discovery::ModelReport| {
        let mut entry = json!({"id": model.id, "object": "model"});
        if let Some(context) = model.context_window {
            entry["max_model_len"] = context.into();
        }
        entry
    };
    json!({"object": "list", "data": report.models.iter().map(model).collect::<Vec<_>>()})
}

async fn write_json(stream: &mut WriteHalf<'_>, status: u16, body: &Value) -> Closing {
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Scripted\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    write(stream, (head + &body).as_bytes()).await
}

/// Writes the head and each piece of the body in a chunk of its own.
async fn write_response(stream: &mut WriteHalf<'_>, response: BackendResponse) -> Closing {
    let BackendResponse { status, content_type, mut body } = response;
    let head = format!(
        "HTTP/1.1 {status} Scripted\r\nconnection: close\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    if let Closing::Reset = write(stream, head.as_bytes()).await {
        return Closing::Reset;
    }
    let mut chunk = BytesMut::new();
    while let Some(piece) = body.next().await {
        let Ok(piece) = piece else { return Closing::Reset };
        // An empty chunk would end the body.
        if piece.is_empty() {
            continue;
        }
        chunk.put_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        chunk.put_slice(&piece);
        chunk.put_slice(b"\r\n");
        if let Closing::Reset = write(stream, &chunk).await {
            return Closing::Reset;
        }
        chunk.clear();
    }
    write(stream, b"0\r\n\r\n").await
}

async fn write(stream: &mut WriteHalf<'_>, bytes: &[u8]) -> Closing {
    match stream.write_all(bytes).await {
        Ok(()) => Closing::Close,
        Err(_) => Closing::Reset,
    }
}
