//! A server without the Messages API: a proxy that has everything of the one behind it but that.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What it says of the path that it hides.
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Runs until it is dropped.
pub(crate) struct WithoutMessages {
    pub(crate) url: String,
    task: JoinHandle<()>,
}

impl WithoutMessages {
    /// Before the server at this address. It looks at a connection's first request only, and the agent's have one each.
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let task = actix_rt::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                actix_rt::spawn(pass(client, server));
            }
        });
        Self { url, task }
    }
}

impl Drop for WithoutMessages {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr) {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        match client.read_u8().await {
            Ok(byte) => line.push(byte),
            Err(_) => return,
        }
    }
    let hidden = memchr::memmem::find(&line, b" /v1/messages").is_some();
    // Whoever goes away ends it, and an end is all that the other side can see of that.
    if hidden {
        let _ = client.write_all(NOT_FOUND).await;
        let _ = client.shutdown().await;
        let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
    } else if let Ok(mut server) = TcpStream::connect(server).await
        && server.write_all(&line).await.is_ok()
    {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
