//! Removes the events of a stream that contain the backend's API key. Used for the responses of a backend that has a key
//! and whose events are sent as received.
//!
//! A long key is searched for in every event, because a model does not know it. A short one is usually a placeholder such
//! as `lm-studio`, which may occur in an answer; it is searched for in errors only. So each event is held until its end
//! shows what it is; clients can't use a part of it anyway. The result depends only on the bytes, not on how they are cut
//! into pieces.

use std::sync::Arc;

use memchr::memchr2;

use super::key_trace::KeyTrace;

/// The most bytes of one event that are held. A longer event is sent in parts, and only a long key is searched for in it,
/// except in its last part.
const HELD: usize = 1 << 20;
/// The largest buffer that is kept while it is empty.
const KEPT_BUFFER: usize = 4 << 10;

/// Filters one stream.
pub(crate) struct KeyFilter {
    key: Arc<KeyTrace>,
    ends: EventEnds,
    /// The held part of the current event.
    held: Vec<u8>,
    /// Nothing more is sent.
    is_closed: bool,
    has_cut_answer: bool,
}

impl KeyFilter {
    /// A filter for one stream.
    pub(crate) fn new(key: Arc<KeyTrace>) -> Self {
        Self { key, ends: EventEnds::default(), held: Vec::new(), is_closed: false, has_cut_answer: false }
    }

    /// Handles the next bytes and calls `send` with those that may be sent. `may_be_error` is called with every byte, in
    /// pieces of at most one event each, and returns whether the event of the last piece is an error, or follows the end.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        mut may_be_error: impl FnMut(&[u8]) -> bool,
        mut send: impl FnMut(&[u8]),
    ) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = self.ends.next_in(rest);
            let (piece, tail) = rest.split_at(end.unwrap_or(rest.len()));
            let is_suspect = may_be_error(piece);
            if !self.is_closed {
                self.take(piece, end.map(|_| is_suspect), &mut send);
            }
            rest = tail;
        }
    }

    /// Whether an event that may not be an error was removed.
    pub(crate) fn has_cut_answer(&self) -> bool {
        self.has_cut_answer
    }

    /// The stream has ended: calls `send` with the held bytes, an event without its end. Unless the response is complete,
    /// that event may be an error that is cut off within the key.
    pub(crate) fn finish(self, is_complete: bool, mut send: impl FnMut(&[u8])) {
        if is_complete && !self.held.is_empty() && !self.key.is_in(&self.held) {
            send(&self.held);
        }
    }

    /// Handles the next piece of an event. `ended`: if this piece is the last one of the event, whether the event is
    /// suspect.
    fn take(&mut self, piece: &[u8], ended: Option<bool>, send: &mut impl FnMut(&[u8])) {
        if self.held.is_empty() && ended == Some(false) && piece.len() <= HELD {
            return if self.is_found_in(piece, false) { self.close(true) } else { send(piece) };
        }
        self.held.extend_from_slice(piece);
        let mut sent = 0;
        while let (true, Some(part)) = (self.held.len() - sent > HELD, self.held.get(sent..sent + HELD)) {
            if self.is_found_in(part, false) {
                return self.close(true);
            }
            // The key may begin in this part and end in the next one.
            let searched = HELD - self.key.longest().min(HELD / 2);
            send(part.get(..searched).unwrap_or_default());
            sent += searched;
        }
        let left = self.held.get(sent..).unwrap_or_default();
        match ended {
            None => {
                self.held.drain(..sent);
            }
            Some(is_suspect) if self.is_found_in(left, is_suspect) => self.close(!is_suspect),
            Some(_) => {
                send(left);
                self.held.clear();
                if self.held.capacity() > KEPT_BUFFER {
                    self.held = Vec::new();
                }
            }
        }
    }

    fn is_found_in(&self, part: &[u8], is_suspect: bool) -> bool {
        (is_suspect || self.key.is_rare()) && self.key.is_in(part)
    }

    fn close(&mut self, cuts_answer: bool) {
        self.has_cut_answer = cuts_answer;
        self.is_closed = true;
        self.held = Vec::new();
    }
}

/// Finds the blank lines that end the events of a stream, however it is cut into pieces.
struct EventEnds {
    at_line_start: bool,
    /// The last byte was a CR: a line feed that follows belongs to that line end.
    after_cr: bool,
    /// The last line was blank.
    is_blank: bool,
}

impl Default for EventEnds {
    fn default() -> Self {
        Self { at_line_start: true, after_cr: false, is_blank: false }
    }
}

impl EventEnds {
    /// The number of bytes up to the first end of an event. `None` if there is no end in them.
    fn next_in(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(text) = memchr2(b'\n', b'\r', bytes.get(at..)?) {
            let is_line_feed = bytes.get(at + text) == Some(&b'\n');
            at += text + 1;
            if text == 0 && is_line_feed && self.after_cr {
                self.after_cr = false;
            } else {
                self.is_blank = text == 0 && self.at_line_start;
                self.at_line_start = true;
                self.after_cr = !is_line_feed;
            }
            if self.is_blank {
                return Some(at);
            }
        }
        if at < bytes.len() {
            self.at_line_start = false;
            self.after_cr = false;
            self.is_blank = false;
        }
        None
    }
}

#[cfg(test)]
mod tests;
