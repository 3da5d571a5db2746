//! A request before it is sent: its head as it will be written. Knows headers as text, not what they mean; made by `api`.

use std::sync::Arc;

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use zeroize::Zeroizing;

use super::error::HttpError;
use super::exchange::{Response, exchange};
use super::origin::Origin;
use super::upload::Upload;
use crate::core::formats::request::body_len;

/// What can't stand in a request's first line.
const NOT_IN_A_PATH: &AsciiSet = &CONTROLS.add(b' ');

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
    head: Zeroizing<Vec<u8>>,
}

impl Request {
    /// A request for a path in parts, which may have a query.
    pub(crate) fn new(origin: &Arc<Origin>, method: Method, path: &[&str]) -> Self {
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
        Self { origin: Arc::clone(origin), head }
            .header("host", &[origin.authority()])
            .header("connection", &["close"])
            .header("accept-encoding", &["identity"])
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
        let Self { origin, head } = self;
        let upload = Upload::new(Bytes::from_owner(head), body);
        // Boxed: it is large, and gone while the answer is waited for.
        let stream = Box::pin(async move { origin.connect().await }).await?;
        exchange(stream, upload).await
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
        let request = Request::new(&Arc::new(Origin::local(1)), Method::Get, &["/a b\r\nx:", " y?é"])
            .header("good", &["a ", "b"])
            .header("bad", &["a", "\r\ninjected: b"])
            .header("bad", &["é"]);
        assert_eq!(
            request.head(),
            "GET /a%20b%0D%0Ax:%20y?%C3%A9 HTTP/1.1\r\nhost: 127.0.0.1:1\r\nconnection: close\r\naccept-encoding: identity\r\ngood: a b\r\n"
        );
    }
}
