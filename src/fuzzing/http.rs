//! Responses of backends, and the answers of proxies, from the bytes of a connection.

use futures_util::FutureExt;

use super::input::{Cut, Input};
use crate::transport::http::scripted::{Read, respond};
use crate::transport::http::{HttpBodyError, HttpError};
use crate::transport::tcp::read_answer;

/// The longest answer of a proxy.
const PROXY_HEAD: usize = 8 * 1024;

pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let is_proxy = input.byte() % 4 == 3;
    let cut = input.cut();
    let bytes = input.rest();
    if is_proxy { answers(bytes) } else { responds(bytes, cut) }
}

fn responds(bytes: &[u8], cut: Cut) {
    let whole = respond(&[bytes]);
    let in_pieces = respond(&cut.pieces(bytes));
    // In pieces, the last line of a head that breaks off may not have been read.
    assert!(in_pieces == whole || (in_pieces, &whole) == (Err(HttpError::Broke), &Err(HttpError::Garbled)));
    match whole {
        Err(error) => assert!(error == HttpError::Garbled || error == HttpError::Broke),
        Ok(Read { status, content_type, server, body, error }) => {
            assert!((200..1000).contains(&status) && body.len() < bytes.len());
            for text in [&content_type, &server] {
                assert!(text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'\n'));
            }
            if error.is_none() && !matches!(status, 204 | 304) {
                comes_through(&body, cut);
            }
            assert!(error != Some(HttpBodyError::Encoded) || body.is_empty());
        }
    }
}

/// A body comes through in each framing, whatever it is.
fn comes_through(body: &[u8], cut: Cut) {
    let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in cut.pieces(body) {
        chunked.extend(format!("{:x}\r\n", piece.len()).bytes());
        chunked.extend(piece);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    let mut counted = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    counted.extend(body);
    for response in [chunked, counted] {
        let read = respond(&cut.pieces(&response)).unwrap();
        assert_eq!((&read.body[..], read.error), (body, None));
        // A byte less is not the whole body.
        let cut_off = respond(&[&response[..response.len() - 1]]).map(|read| read.error);
        assert!(cut_off == Ok(Some(HttpBodyError::Broken)) || body.is_empty());
    }
}

/// Of a proxy's answer the head is read, and nothing of the tunnel.
fn answers(bytes: &[u8]) {
    let mut stream = bytes;
    let answer = read_answer(&mut stream).now_or_never().expect("all bytes are there");
    let read = bytes.len() - stream.len();
    let end = memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4).filter(|end| *end <= PROXY_HEAD);
    assert_eq!(read, end.unwrap_or(bytes.len().min(PROXY_HEAD)));
    if answer.is_ok() {
        let line = bytes.split(|byte| *byte == b'\r').next().unwrap();
        let mut words = line.split(|byte| *byte == b' ');
        assert!(words.next().unwrap().starts_with(b"HTTP/1."));
        let status = words.next().unwrap();
        assert!(status.len() == 3 && status[0] == b'2' && status.iter().all(u8::is_ascii_digit));
    }
}
