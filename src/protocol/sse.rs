//! A splitter of server-sent events: bytes go in as they arrive, whole events come out.
//!
//! It follows the event stream format of the HTML standard, but for two points: an event that the end of the body cuts
//! off from its blank line is delivered too, and events, like lines, have a bound. It knows nothing of JSON. Whoever
//! reads a response body drives it: one splitter a body, [`SseSplitter::feed`] for each piece, [`SseSplitter::finish`]
//! at its end.

use memchr::memchr2;

/// The longest line and the longest event that are delivered, in bytes, where nothing asks for another bound.
pub const EVENT_LIMIT: usize = 1 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// One event. It has no `Debug`: its data is somebody's completion.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    /// What its last `event` line says, empty where there is none.
    pub name: &'a [u8],
    /// Its `data` lines, joined by line feeds.
    pub data: &'a [u8],
    /// One before it, if not the last one, was too long and is missing.
    pub follows_gap: bool,
}

/// Splits a body into events, however it is cut into pieces.
///
/// What it keeps is bounded by the limit: an unfinished line, and the name and the data of an unfinished event. An
/// event that lies whole in one piece and has one line of data is delivered as a slice of that piece.
pub struct SseSplitter {
    limit: usize,
    /// The line that the last piece left unfinished.
    line: Vec<u8>,
    /// The unfinished line is a comment or too long: its bytes are dropped, up to its end.
    skipping: bool,
    /// The last byte was a CR: a line feed that comes next is the rest of that line's end.
    after_cr: bool,
    /// No line has ended yet: the next one may begin with a byte order mark.
    at_start: bool,
    name: Vec<u8>,
    data: Vec<u8>,
    /// The event has a data line, perhaps an empty one.
    has_data: bool,
    /// The event is too long: it is dropped, up to its end.
    spoiled: bool,
    oversized: u64,
}

impl SseSplitter {
    /// A splitter for one body that delivers no line and no event longer than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            skipping: false,
            after_cr: false,
            at_start: true,
            name: Vec::new(),
            data: Vec::new(),
            has_data: false,
            spoiled: false,
            oversized: 0,
        }
    }

    /// Events that were dropped because they, or one of their lines, are longer than the limit.
    pub fn oversized(&self) -> u64 {
        self.oversized
    }

    /// Takes the next piece of the body and delivers the events that end in it.
    pub fn feed(&mut self, bytes: &[u8], mut on_event: impl FnMut(Event<'_>)) {
        let mut rest = bytes;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        // The data of the current event while it is one line of this piece: not copied unless the piece ends first.
        let mut held = None;
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            let (line, tail) = rest.split_at(end);
            self.end_line(line, &mut held, &mut on_event);
            rest = match tail {
                [b'\r', b'\n', tail @ ..] | [_, tail @ ..] => tail,
                [] => tail,
            };
            self.after_cr = rest.is_empty() && tail == b"\r";
        }
        if let Some(held) = held {
            self.data.extend_from_slice(held);
        }
        self.keep_unfinished(rest);
    }

    /// The body has ended: delivers the event that no blank line closed.
    pub fn finish(&mut self, mut on_event: impl FnMut(Event<'_>)) {
        let mut held = None;
        if !self.line.is_empty() {
            self.end_line(&[], &mut held, &mut on_event);
        }
        self.end_event(&mut held, &mut on_event);
    }

    /// Keeps the start of a line whose end has not come yet, or drops it where it will not be needed.
    fn keep_unfinished(&mut self, start: &[u8]) {
        if self.skipping {
            return;
        }
        let is_comment = self.line.first().or(start.first()) == Some(&b':');
        let is_too_long = self.line.len() + start.len() > self.limit;
        if is_comment || is_too_long {
            self.skipping = true;
            self.line.clear();
            if !is_comment {
                self.spoil();
            }
        } else {
            self.line.extend_from_slice(start);
        }
    }

    /// A line has ended whose last bytes are `ending`; what came before them was kept.
    fn end_line<'a>(&mut self, ending: &'a [u8], held: &mut Option<&'a [u8]>, on_event: &mut impl FnMut(Event<'_>)) {
        if std::mem::take(&mut self.skipping) {
            self.at_start = false;
        } else if self.line.is_empty() {
            if let Some(data) = self.field(ending, held, on_event) {
                if self.has_data {
                    self.add_data(data, held);
                } else if self.fits(data.len()) {
                    *held = Some(data);
                    self.has_data = true;
                }
            }
        } else if self.line.len() + ending.len() > self.limit {
            self.at_start = false;
            self.line.clear();
            *held = None;
            self.spoil();
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(ending);
            if let Some(data) = self.field(&line, held, on_event) {
                self.add_data(data, held);
            }
            line.clear();
            self.line = line;
        }
    }

    /// Acts on a whole line. Gives back the value of a `data` line.
    fn field<'l>(
        &mut self,
        line: &'l [u8],
        held: &mut Option<&[u8]>,
        on_event: &mut impl FnMut(Event<'_>),
    ) -> Option<&'l [u8]> {
        let may_be_marked = std::mem::take(&mut self.at_start);
        if line.first() == Some(&b':') {
            return None;
        }
        if line.len() > self.limit {
            *held = None;
            self.spoil();
            return None;
        }
        let line = line.strip_prefix(BYTE_ORDER_MARK).filter(|_| may_be_marked).unwrap_or(line);
        if line.is_empty() {
            self.end_event(held, on_event);
            return None;
        }
        if self.spoiled {
            return None;
        }
        if let Some(value) = value_of(line, b"data") {
            return Some(value);
        }
        if let Some(value) = value_of(line, b"event") {
            self.name.clear();
            let data = held.map_or(self.data.len(), <[u8]>::len);
            if value.len() + data > self.limit {
                *held = None;
                self.spoil();
            } else {
                self.name.extend_from_slice(value);
            }
        }
        None
    }

    /// Appends a data line to those that the event has.
    fn add_data(&mut self, line: &[u8], held: &mut Option<&[u8]>) {
        if let Some(first) = held.take() {
            self.data.extend_from_slice(first);
        }
        if self.fits(line.len() + usize::from(self.has_data)) {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(line);
            self.has_data = true;
        }
    }

    /// Whether the event may grow by so many bytes. One that may not is dropped.
    fn fits(&mut self, more: usize) -> bool {
        let fits = self.name.len() + self.data.len() + more <= self.limit;
        if !fits {
            self.spoil();
        }
        fits
    }

    fn spoil(&mut self) {
        if !std::mem::replace(&mut self.spoiled, true) {
            self.oversized += 1;
        }
        self.name.clear();
        self.data.clear();
        self.has_data = false;
    }

    /// A blank line, or the end of the body. An event without data is none.
    fn end_event(&mut self, held: &mut Option<&[u8]>, on_event: &mut impl FnMut(Event<'_>)) {
        if self.has_data && !self.spoiled {
            let (data, follows_gap) = (held.unwrap_or(&self.data), self.oversized > 0);
            on_event(Event { name: &self.name, data, follows_gap });
        }
        *held = None;
        self.name.clear();
        self.data.clear();
        self.has_data = false;
        self.spoiled = false;
    }
}

/// The value of a line `field: value`, without the one space that may precede it.
fn value_of<'a>(line: &'a [u8], field: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(field)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
