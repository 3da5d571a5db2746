//! WebSocket frames (RFC 6455), both roles, strict and bounded.
//!
//! Reading: [`FrameReader`] refuses a frame by its header, before its body is buffered; puts fragments together; and
//! treats every violation as final. Writing: [`encode`] appends one whole frame to a buffer.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Space kept for reading while no large frame is under way.
const READ_BUFFER: usize = 16 * 1024;
/// Messages below this are copied out of the read buffer, so that a small one does not keep a large buffer alive.
const COPY_BELOW: usize = 4 * 1024;
/// Fragments of one message.
const MAX_FRAGMENTS: u32 = 65_536;
/// The longest payload of a control frame.
const MAX_CONTROL: usize = 125;

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Masks what it sends.
    Client,
    /// Wants what it receives masked.
    Server,
}

/// A message or a control frame, whole.
#[derive(Clone, PartialEq, Eq)]
pub enum Frame {
    /// Text. Not checked to be UTF-8: its parser does that.
    Text(Bytes),
    /// Bytes.
    Binary(Bytes),
    /// To be answered with a pong of the same payload.
    Ping(Bytes),
    /// The answer to a ping.
    Pong(Bytes),
    /// The peer's last frame.
    Close {
        /// Its code, if it has one.
        code: Option<u16>,
        /// Its reason, at most 123 bytes.
        reason: String,
    },
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(bytes) => write!(f, "Text({} bytes)", bytes.len()),
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
            Self::Ping(_) => f.write_str("Ping"),
            Self::Pong(_) => f.write_str("Pong"),
            Self::Close { code, reason } => write!(f, "Close({code:?}, {reason:?})"),
        }
    }
}

/// What the peer did that WebSocket does not allow. Final: the connection can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.as_str())]
pub enum Violation {
    /// Reserved bits are set, and no extension was agreed.
    ReservedBits,
    /// An opcode that does not exist.
    Opcode,
    /// Masked by a server, or not masked by a client.
    Masking,
    /// A length not written in its shortest form, or with its highest bit set.
    Length,
    /// A control frame that is fragmented or longer than 125 bytes.
    Control,
    /// A continuation of nothing, a new message inside an unfinished one, or too many pieces.
    Fragments,
    /// A close frame whose payload is malformed.
    Close,
    /// A message longer than the limit, known by its header.
    TooLarge,
}

impl Violation {
    /// What it is, in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved bits are set",
            Self::Opcode => "unknown opcode",
            Self::Masking => "wrong masking",
            Self::Length => "malformed length",
            Self::Control => "malformed control frame",
            Self::Fragments => "fragments out of order",
            Self::Close => "malformed close frame",
            Self::TooLarge => "message over the limit",
        }
    }
}

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        [Self::Continuation, Self::Text, Self::Binary, Self::Close, Self::Ping, Self::Pong]
            .into_iter()
            .find(|opcode| *opcode as u8 == bits)
    }

    fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

struct Header {
    fin: bool,
    opcode: Opcode,
    mask: Option<[u8; 4]>,
    /// Of the header itself.
    size: usize,
    /// Of the payload.
    len: usize,
}

/// A message under way.
struct Partial {
    opcode: Opcode,
    bytes: BytesMut,
    fragments: u32,
}

/// Turns received bytes into frames. Bytes go in through [`FrameReader::space`], frames come out of
/// [`FrameReader::pop`]; after an error it may not be called again.
pub struct FrameReader {
    role: Role,
    max_message: usize,
    buf: BytesMut,
    partial: Option<Partial>,
}

impl FrameReader {
    /// A reader for one end, of messages up to `max_message` bytes. `leftover` was read before.
    pub fn new(role: Role, max_message: usize, leftover: BytesMut) -> Self {
        Self { role, max_message, buf: leftover, partial: None }
    }

    /// Where to put the next bytes read: always has room, and room for all of a large frame once its header is here.
    pub fn space(&mut self) -> &mut BytesMut {
        let wanted = match self.header() {
            Ok(Some(header)) => (header.size + header.len).saturating_sub(self.buf.len()),
            _ => 0,
        };
        if self.buf.capacity() - self.buf.len() < wanted.max(READ_BUFFER / 4) {
            self.buf.reserve(wanted.max(READ_BUFFER));
        }
        &mut self.buf
    }

    /// The next frame that is whole, if there is one.
    pub fn pop(&mut self) -> Result<Option<Frame>, Violation> {
        while let Some(header) = self.header()? {
            if self.buf.len() < header.size + header.len {
                return Ok(None);
            }
            self.buf.advance(header.size);
            let mut payload = self.take(header.len);
            if let Some(key) = header.mask {
                apply_mask(&mut payload, key);
            }
            if let Some(frame) = self.accept(&header, payload)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    fn take(&mut self, len: usize) -> BytesMut {
        if len < COPY_BELOW {
            let copy = BytesMut::from(&self.buf[..len]);
            self.buf.advance(len);
            return copy;
        }
        let payload = self.buf.split_to(len);
        if len > READ_BUFFER {
            // The large allocation goes with the payload; what came after it starts a small buffer.
            self.buf = BytesMut::from(&self.buf[..]);
        }
        payload
    }

    /// Reads the header at the front of the buffer and judges it.
    fn header(&self) -> Result<Option<Header>, Violation> {
        let [first, second, rest @ ..] = &self.buf[..] else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Violation::ReservedBits);
        }
        let opcode = Opcode::from_bits(first & 0x0f).ok_or(Violation::Opcode)?;
        let fin = first & 0x80 != 0;
        let masked = second & 0x80 != 0;
        if masked != (self.role == Role::Server) {
            return Err(Violation::Masking);
        }
        let (len, extra) = match second & 0x7f {
            126 => match rest.first_chunk::<2>() {
                None => return Ok(None),
                Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 2),
            },
            127 => match rest.first_chunk::<8>() {
                None => return Ok(None),
                Some(bytes) => (u64::from_be_bytes(*bytes), 8),
            },
            short => (u64::from(short), 0),
        };
        let shortest = match extra {
            2 => len >= 126,
            8 => len > u64::from(u16::MAX) && len >> 63 == 0,
            _ => true,
        };
        if !shortest {
            return Err(Violation::Length);
        }
        if opcode.is_control() && (!fin || len > MAX_CONTROL as u64) {
            return Err(Violation::Control);
        }
        let before = self.partial.as_ref().map_or(0, |partial| partial.bytes.len());
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if !opcode.is_control() && len > self.max_message.saturating_sub(before) {
            return Err(Violation::TooLarge);
        }
        let mask = match (masked, rest.get(extra..).and_then(<[u8]>::first_chunk::<4>)) {
            (false, _) => None,
            (true, Some(key)) => Some(*key),
            (true, None) => return Ok(None),
        };
        let size = 2 + extra + mask.map_or(0, |key| key.len());
        Ok(Some(Header { fin, opcode, mask, size, len }))
    }

    fn accept(&mut self, header: &Header, payload: BytesMut) -> Result<Option<Frame>, Violation> {
        let whole = |opcode, bytes: BytesMut| match opcode {
            Opcode::Text => Frame::Text(bytes.freeze()),
            _ => Frame::Binary(bytes.freeze()),
        };
        match (header.opcode, self.partial.take()) {
            (Opcode::Continuation, Some(mut partial)) => {
                partial.fragments += 1;
                if partial.fragments > MAX_FRAGMENTS {
                    return Err(Violation::Fragments);
                }
                partial.bytes.extend_from_slice(&payload);
                if header.fin {
                    return Ok(Some(whole(partial.opcode, partial.bytes)));
                }
                self.partial = Some(partial);
                Ok(None)
            }
            (Opcode::Text | Opcode::Binary, None) if header.fin => Ok(Some(whole(header.opcode, payload))),
            (Opcode::Text | Opcode::Binary, None) => {
                self.partial = Some(Partial { opcode: header.opcode, bytes: payload, fragments: 1 });
                Ok(None)
            }
            (Opcode::Continuation, None) | (Opcode::Text | Opcode::Binary, Some(_)) => Err(Violation::Fragments),
            (control, partial) => {
                self.partial = partial;
                Ok(Some(match control {
                    Opcode::Ping => Frame::Ping(payload.freeze()),
                    Opcode::Pong => Frame::Pong(payload.freeze()),
                    _ => close_frame(&payload)?,
                }))
            }
        }
    }
}

fn close_frame(payload: &[u8]) -> Result<Frame, Violation> {
    match payload {
        [] => Ok(Frame::Close { code: None, reason: String::new() }),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(Violation::Close);
            }
            let reason = std::str::from_utf8(reason).map_err(|_| Violation::Close)?.to_owned();
            Ok(Frame::Close { code: Some(code), reason })
        }
        [_] => Err(Violation::Close),
    }
}

/// Appends one whole frame to `out`, masked where the role asks for it.
pub fn encode<B: BufMut + AsMut<[u8]>>(out: &mut B, role: Role, frame: &Frame) {
    let (opcode, payload): (_, &[u8]) = match frame {
        Frame::Text(payload) => (Opcode::Text, payload),
        Frame::Binary(payload) => (Opcode::Binary, payload),
        Frame::Ping(payload) => (Opcode::Ping, payload),
        Frame::Pong(payload) => (Opcode::Pong, payload),
        Frame::Close { code: None, .. } => (Opcode::Close, &[]),
        Frame::Close { code: Some(code), reason } => {
            let reason = reason.as_bytes().get(..MAX_CONTROL - 2).unwrap_or(reason.as_bytes());
            return write_payload(out, role, Opcode::Close, 2 + reason.len(), |out| {
                out.put_slice(&code.to_be_bytes());
                out.put_slice(reason);
            });
        }
    };
    write_payload(out, role, opcode, payload.len(), |out| out.put_slice(payload));
}

/// Appends a frame in place: `len` is the payload's exact length, `fill` appends it.
pub(super) fn write_payload<B: BufMut + AsMut<[u8]>>(
    out: &mut B,
    role: Role,
    opcode: Opcode,
    len: usize,
    fill: impl FnOnce(&mut B),
) {
    let key = write_header(out, role, opcode, len);
    let at = out.as_mut().len();
    fill(out);
    debug_assert_eq!(out.as_mut().len() - at, len, "the payload has the length that its header states");
    if let (Some(key), Some(body)) = (key, out.as_mut().get_mut(at..)) {
        apply_mask(body, key);
    }
}

/// Appends a header and the key of the mask, if there is one.
fn write_header(out: &mut impl BufMut, role: Role, opcode: Opcode, len: usize) -> Option<[u8; 4]> {
    let masked = if role == Role::Client { 0x80 } else { 0 };
    out.put_u8(0x80 | opcode as u8);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short), _) if short < 126 => out.put_u8(masked | short),
        (_, Ok(medium)) => {
            out.put_u8(masked | 126);
            out.put_u16(medium);
        }
        _ => {
            out.put_u8(masked | 127);
            out.put_u64(len as u64);
        }
    }
    (role == Role::Client).then(|| {
        let key = rand::random::<[u8; 4]>();
        out.put_slice(&key);
        key
    })
}

/// XORs with the repeated key, eight bytes at a time.
fn apply_mask(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests;
