//! A coordinator that does what the test says, over a real WebSocket: it sees the frames themselves.

use actix_codec::Framed;
use actix_http::ws::{Codec, Frame, Message, hash_key};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use outpost::messages::wire::{AuthOk, Capabilities, Extensions, FromAgent, FromCoordinator};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::waiting::within;

/// Waits for an agent.
pub(crate) struct Scripted {
    listener: TcpListener,
    pub(crate) url: String,
}

/// An agent's connection.
pub(crate) struct Line(Framed<TcpStream, Codec>);

impl Scripted {
    pub(crate) async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("ws://{}/", listener.local_addr().expect("an address"));
        Self { listener, url }
    }

    /// Lets the next agent in, whoever it is.
    pub(crate) async fn admit(&self) -> Line {
        let (mut stream, _) = within("an agent", self.listener.accept()).await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("an upgrade", stream.read_u8()).await.expect("a request"));
        }
        let head = String::from_utf8(head).expect("text");
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
        };
        let accept = hash_key(head.lines().find_map(field).expect("a key").as_bytes());
        let accept = str::from_utf8(&accept).expect("text");
        let reply = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        stream.write_all(reply.as_bytes()).await.expect("an open connection");
        let mut line = Line(Framed::new(stream, Codec::new().max_size(1 << 20)));
        line.send(&FromCoordinator::AuthChallenge {
            nonce: STANDARD.encode(rand::random::<[u8; 32]>()),
            extensions: Extensions::NONE,
        })
        .await;
        assert!(matches!(line.frame().await, FromAgent::AuthResponse(_)));
        line.send(&FromCoordinator::AuthOk(AuthOk::default())).await;
        line
    }
}

impl Line {
    pub(crate) async fn send(&mut self, frame: &FromCoordinator) {
        let text = serde_json::to_string(frame).expect("a frame");
        within("a write", self.0.send(Message::Text(text.into()))).await.expect("an open connection");
    }

    /// The next frame; pings are answered.
    pub(crate) async fn frame(&mut self) -> FromAgent {
        loop {
            match within("a frame", self.0.next()).await.expect("an open connection").expect("a frame") {
                Frame::Text(text) => return serde_json::from_slice(&text).expect("a frame of the protocol"),
                Frame::Ping(payload) => {
                    within("a write", self.0.send(Message::Pong(payload))).await.expect("an open connection");
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// The next capabilities that name a model.
    pub(crate) async fn offer(&mut self) -> Capabilities {
        loop {
            match self.frame().await {
                FromAgent::Capabilities(offer) if !offer.models.is_empty() => return offer,
                FromAgent::Capabilities(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}
