//! A request before it is sent: its head as it will be written. Knows headers as text, not what they mean; made by `api`.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::error::HttpError;
use super::exchange::{NoResponse, Response, exchange};
use super::idle::IdleConnections;
use super::origin::Origin;
use super::upload::Upload;
use crate::core::formats::request::body_len;

/// What can't stand in a request's first line.
const NOT_IN_A_PATH: &AsciiSet = &CONTROLS.add(b' ');

/// The longest body that is sent on a connection used before, in bytes: it is held until the response starts, since it may
/// have to be sent again. A new connection costs little next to the work on a longer one.
const RESENDABLE: usize = 64 * 1024;

/// How soon a reused connection must break to be taken for one that the server had closed as idle. Later the server has most
/// likely worked on the request.
const RESENT_WITHIN: Duration = Duration::from_secs(1);

/// Room for a head with a key, in bytes: one that grows leaves copies of the key behind.
const HEAD: usize = 1024;

/// What is done with the path.
#[derive(Clone, Copy)]
pub(crate) enum Method {
    /// Reads it.
    Get,
    /// Asks what reading it would be answered, without the body: for those who want the status alone.
    Head,
    /// Sends a body to it.
    Post,
}

/// A request to one server. Has no Debug, since its head may hold a key; the head is wiped when it is dropped.
pub(crate) struct Request {
    origin: Arc<Origin>,
    /// `None`: the request has a connection of its own.
    idle: Option<Rc<IdleConnections>>,
    head: Zeroizing<Vec<u8>>,
}

impl Request {
    /// A request for a path in parts, which may have a query. `idle` are connections to this origin that it may use, and
    /// where its own goes afterwards.
    pub(crate) fn new(origin: &Arc<Origin>, idle: Option<&Rc<IdleConnections>>, method: Method, path: &[&str]) -> Self {
        let method = match method {
            Method::Get => "GET ",
            Method::Head => "HEAD ",
            Method::Post => "POST ",
        };
        let mut head = Zeroizing::new(Vec::with_capacity(HEAD));
        head.extend_from_slice(method.as_bytes());
        let path = path.iter().flat_map(|part| utf8_percent_encode(part, NOT_IN_A_PATH));
        path.for_each(|part| head.extend_from_slice(part.as_bytes()));
        head.extend_from_slice(b" HTTP/1.1\r\n");
        let request =
            Self { origin: Arc::clone(origin), idle: idle.cloned(), head }.header("host", &[origin.authority()]);
        let request = if idle.is_some() { request } else { request.header("connection", &["close"]) };
        request.header("accept-encoding", &["identity"])
    }

    /// Adds a header whose value is these parts, one after the other. A value that can't stand in a header is left out
    /// with its name.
    pub(crate) fn header(mut self, name: &'static str, value: &[&str]) -> Self {
        if value.iter().all(|part| part.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))) {
            self.head.extend_from_slice(name.as_bytes());
            self.head.extend_from_slice(b": ");
            value.iter().for_each(|part| self.head.extend_from_slice(part.as_bytes()));
            self.head.extend_from_slice(b"\r\n");
        }
        self
    }

    /// Sends it without a body and waits for the head of the response.
    pub(crate) async fn send(self) -> Result<Response, HttpError> {
        self.perform(Vec::new()).await
    }

    /// Sends it with a body in pieces, which are neither joined nor copied, and waits for the head of the response.
    pub(crate) async fn send_body(self, body: Vec<Bytes>) -> Result<Response, HttpError> {
        let length = body_len(&body).to_string();
        self.header("content-length", &[&length]).perform(body).await
    }

    async fn perform(mut self, body: Vec<Bytes>) -> Result<Response, HttpError> {
        self.head.extend_from_slice(b"\r\n");
        let Self { origin, idle, head } = self;
        let head = Bytes::from_owner(head);
        let idle = idle.filter(|_| body_len(&body) <= RESENDABLE);
        let mut silent = None;
        if let Some(connection) = idle.as_ref().and_then(|idle| idle.take()) {
            let (upload, begun) = (Upload::new(head.clone(), body.clone()), Instant::now());
            match exchange(connection, upload, idle.clone()).await {
                // The server closed an idle connection, as it may at any time. It did not answer the request.
                Err(NoResponse::Silent(error)) if begun.elapsed() < RESENT_WITHIN => silent = Some(error),
                exchanged => return exchanged.map_err(HttpError::from),
            }
        }
        // Boxed: it is large, and gone while the response is waited for.
        let connected = Box::pin(async move { origin.connect().await }).await;
        // A server that is gone after it received the request most likely failed because of it.
        let connection = connected.map_err(|error| silent.unwrap_or(error))?;
        exchange(connection, Upload::new(head, body), idle).await.map_err(HttpError::from)
    }

    #[cfg(test)]
    pub(crate) fn head(&self) -> &str {
        std::str::from_utf8(&self.head).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_breaks_out_of_its_line() {
        let request = Request::new(&Arc::new(Origin::local(1)), None, Method::Get, &["/a b\r\nx:", " y?é"])
            .header("good", &["a ", "b"])
            .header("bad", &["a", "\r\ninjected: b"])
            .header("bad", &["é"]);
        assert_eq!(
            request.head(),
            "GET /a%20b%0D%0Ax:%20y?%C3%A9 HTTP/1.1\r\nhost: 127.0.0.1:1\r\nconnection: close\r\naccept-encoding: identity\r\ngood: a b\r\n"
        );
    }
}
