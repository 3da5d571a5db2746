//! Frames that wait to be written, encoded once into the very bytes that go over the wire.

use super::codec::{Frame, Opcode, Role, encode, write_payload};

/// Frames in order, and how much of them the stream has taken.
#[derive(Debug)]
pub struct FrameBuffer {
    role: Role,
    bytes: Vec<u8>,
    /// Bytes that the stream has taken.
    taken: usize,
}

/// Space kept while nothing waits.
const KEPT: usize = 64 * 1024;

impl FrameBuffer {
    /// Empty. `role` says whether frames are masked.
    pub fn new(role: Role) -> Self {
        Self { role, bytes: Vec::new(), taken: 0 }
    }

    /// Appends a frame.
    pub fn push(&mut self, frame: &Frame) {
        encode(&mut self.bytes, self.role, frame);
    }

    /// Appends a text frame whose payload has exactly `len` bytes, which `fill` appends.
    pub fn text(&mut self, len: usize, fill: impl FnOnce(&mut Vec<u8>)) {
        write_payload(&mut self.bytes, self.role, Opcode::Text, len, fill);
    }

    /// Appends a binary frame whose payload has exactly `len` bytes, which `fill` appends.
    pub fn binary(&mut self, len: usize, fill: impl FnOnce(&mut Vec<u8>)) {
        write_payload(&mut self.bytes, self.role, Opcode::Binary, len, fill);
    }

    /// Bytes that the stream has not taken.
    pub fn waiting(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    /// The stream took the first `count` bytes of those that wait.
    pub(super) fn advance(&mut self, count: usize) {
        self.taken += count;
        if self.taken >= self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
            self.taken = 0;
        }
    }
}
