//! The head of a response, read from pieces as they come: its status, the few headers that are used, and how its
//! body is framed (RFC 9112, 6.3). No I/O; driven by `exchange`.

use bytes::Bytes;

use super::chunked::Chunked;
use super::error::{HttpBodyError, HttpError};
use super::framing::Framing;

/// The longest head, in bytes.
const HEAD: usize = 64 * 1024;
/// Most headers in it.
const HEADERS: usize = 128;
/// The most interim responses (`1xx`).
const INTERIM: u32 = 16;

/// The content of a head.
pub(super) struct Head {
    pub(super) status: u16,
    /// `Content-Type` without its parameters, in lower case; empty where there is none.
    pub(super) content_type: String,
    /// `Server` in lower case; empty where there is none.
    pub(super) server: String,
    /// How the body comes, or why it can't be read.
    pub(super) framing: Result<Framing, HttpBodyError>,
    /// Whether the server takes another request on this connection.
    pub(super) keeps_alive: bool,
}

/// Reads one head. Keeps bytes only while the head is not whole.
#[derive(Default)]
pub(super) struct HeadReader {
    held: Vec<u8>,
    interim: u32,
    has_read: bool,
}

impl HeadReader {
    /// Whether any byte of a response arrived.
    pub(super) fn has_read(&self) -> bool {
        self.has_read
    }

    /// Takes the next piece: the head, once it is whole, and what of the body came with it. Interim responses
    /// are skipped. An error is final.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<Option<(Head, Bytes)>, HttpError> {
        self.has_read = true;
        if self.held.is_empty() {
            let (head, rest) = self.take(piece)?;
            return Ok(self.hold_or_give(head, rest));
        }
        self.held.extend_from_slice(piece);
        // A head is parsed when a line of it ends, so that a byte at a time costs no more than a line at a time.
        if !piece.contains(&b'\n') && self.held.len() <= HEAD {
            return Ok(None);
        }
        let held = std::mem::take(&mut self.held);
        let (head, rest) = self.take(&held)?;
        Ok(self.hold_or_give(head, rest))
    }

    fn hold_or_give(&mut self, head: Option<Head>, rest: &[u8]) -> Option<(Head, Bytes)> {
        if head.is_none() {
            self.held = rest.to_vec();
        }
        head.map(|head| (head, Bytes::copy_from_slice(rest)))
    }

    /// The final head, if it is there, and what follows all that is whole.
    fn take<'a>(&mut self, mut bytes: &'a [u8]) -> Result<(Option<Head>, &'a [u8]), HttpError> {
        loop {
            // Nothing else begins like this, and other protocols may never end a line.
            if bytes.first().is_some_and(|byte| *byte != b'H') {
                return Err(HttpError::Garbled);
            }
            let mut headers = [httparse::EMPTY_HEADER; HEADERS];
            let mut response = httparse::Response::new(&mut headers);
            let parsed = response.parse(bytes).map_err(|_| HttpError::Garbled)?;
            let (httparse::Status::Complete(length), Some(status)) = (parsed, response.code) else {
                return if bytes.len() > HEAD { Err(HttpError::Garbled) } else { Ok((None, bytes)) };
            };
            let rest = bytes.get(length..).unwrap_or_default();
            match status {
                _ if length > HEAD => return Err(HttpError::Garbled),
                // Another protocol, which was not requested.
                101 => return Err(HttpError::Garbled),
                100..=199 if self.interim < INTERIM => self.interim += 1,
                200..=999 => return Ok((Some(Head::new(status, response.version, response.headers)?), rest)),
                _ => return Err(HttpError::Garbled),
            }
            bytes = rest;
        }
    }
}

impl Head {
    fn new(status: u16, version: Option<u8>, headers: &[httparse::Header<'_>]) -> Result<Self, HttpError> {
        let content_type = text(headers, "content-type");
        let content_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let server = text(headers, "server").to_ascii_lowercase();
        let framing = framing(status, headers)?;
        let framing = if is_encoded(headers) { Err(HttpBodyError::Encoded) } else { Ok(framing) };
        let keeps_alive = version == Some(1) && !closes(headers);
        Ok(Self { status, content_type, server, framing, keeps_alive })
    }
}

fn all<'a>(headers: &'a [httparse::Header<'_>], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// The first value of that name, if it is ASCII.
fn text<'a>(headers: &'a [httparse::Header<'_>], name: &'static str) -> &'a str {
    let value = all(headers, name).next().filter(|value| value.is_ascii());
    value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
}

/// A body that says in two ways where it ends may be read in two ways: that is refused, as is a way that is not known.
fn framing(status: u16, headers: &[httparse::Header<'_>]) -> Result<Framing, HttpError> {
    let mut codings = all(headers, "transfer-encoding");
    let mut lengths = all(headers, "content-length");
    let framing = match (codings.next(), lengths.next(), codings.next().or(lengths.next())) {
        (None, None, _) => Framing::UntilClose,
        (Some(coding), None, None) if coding.trim_ascii().eq_ignore_ascii_case(b"chunked") => {
            Framing::Chunked(Chunked::new())
        }
        (None, Some(length), None) => Framing::Length(number(length).ok_or(HttpError::Garbled)?),
        _ => return Err(HttpError::Garbled),
    };
    Ok(if matches!(status, 204 | 304) { Framing::Length(0) } else { framing })
}

/// A number of digits alone: no sign and no list.
fn number(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value.trim_ascii()).ok()?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

fn closes(headers: &[httparse::Header<'_>]) -> bool {
    let mut options = all(headers, "connection").flat_map(|value| value.split(|byte| *byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

fn is_encoded(headers: &[httparse::Header<'_>]) -> bool {
    all(headers, "content-encoding").any(|value| {
        let value = value.trim_ascii();
        !value.is_empty() && !value.eq_ignore_ascii_case(b"identity")
    })
}

#[cfg(test)]
mod tests;
