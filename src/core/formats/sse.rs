//! A parser of server-sent events: it takes bytes as they are received, and returns whole events.
//!
//! It follows the event stream format of the HTML standard, with two exceptions: an event without its blank line at the end
//! of the body is delivered too, and events, like lines, have a bound. The data of an event over the bound can be delivered
//! in pieces. It does not parse JSON. Used by every reader of a response body: one splitter for a body,
//! [`SseSplitter::feed`] for each piece, [`SseSplitter::finish`] at its end.

use memchr::memchr2;

/// The longest line and the longest event that are delivered, in bytes, if no other bound is set.
pub(crate) const EVENT_LIMIT: usize = 1 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// One event. It has no `Debug`: its data is a completion.
#[derive(Clone, Copy)]
pub(crate) struct Event<'a> {
    /// The value of its last `event` line, empty if there is none.
    pub name: &'a [u8],
    /// Its `data` lines, joined by line feeds.
    pub data: &'a [u8],
    /// An earlier event was too long and is missing.
    pub follows_gap: bool,
}

/// A part of a body.
pub(crate) enum Part<'a> {
    /// A whole event.
    Event(Event<'a>),
    /// The next bytes of the data of an event that is longer than the limit.
    Long(&'a [u8]),
    /// The end of such an event, with its name.
    LongEnd(&'a [u8]),
}

/// Splits a body into events, however it is cut into pieces.
///
/// It keeps an unfinished line, and the name and the data of an unfinished event, bounded by the limit. An event that is in
/// one piece and has one line of data is delivered as a slice of that piece.
pub(crate) struct SseSplitter {
    limit: usize,
    /// The unfinished line of the last piece.
    line: Vec<u8>,
    /// How the rest of the unfinished line is handled, if that is decided.
    rest: Option<Rest>,
    /// The last byte was a CR: a line feed that follows belongs to that line end.
    after_cr: bool,
    /// No line has ended yet: the first one may begin with a byte order mark.
    at_start: bool,
    name: Vec<u8>,
    data: Vec<u8>,
    /// The event has a data line, which may be empty.
    has_data: bool,
    /// The event is too long: its data is passed on as it is received, and not kept.
    spoiled: bool,
    oversized: u64,
}

/// How the rest of a line is handled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// It is dropped: the line is a comment, or too long and not data.
    Dropped,
    /// It is the data of an event that is too long.
    Data,
}

impl SseSplitter {
    /// A splitter for one body that delivers no line and no event longer than `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            rest: None,
            after_cr: false,
            at_start: true,
            name: Vec::new(),
            data: Vec::new(),
            has_data: false,
            spoiled: false,
            oversized: 0,
        }
    }

    /// The number of events that are longer than the limit, or have such a line.
    pub(crate) fn oversized(&self) -> u64 {
        self.oversized
    }

    /// Handles the next piece of the body and delivers the events that end in it, without those that are too long.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut on_event: impl FnMut(Event<'_>)) {
        self.feed_parts(bytes, |part| {
            if let Part::Event(event) = part {
                on_event(event);
            }
        });
    }

    /// The body has ended: delivers the event without a blank line, unless it is too long.
    pub(crate) fn finish(&mut self, mut on_event: impl FnMut(Event<'_>)) {
        self.finish_parts(|part| {
            if let Part::Event(event) = part {
                on_event(event);
            }
        });
    }

    /// Handles the next piece of the body and delivers its parts. If the limit is below the 9 bytes that identify a data
    /// line, the data of a line that is too long may be missing.
    pub(crate) fn feed_parts(&mut self, bytes: &[u8], mut on_part: impl FnMut(Part<'_>)) {
        let mut rest = bytes;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        // The data of the current event while it is one line of this piece: not copied unless the piece ends first.
        let mut held = None;
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            let (line, tail) = rest.split_at(end);
            self.end_line(line, &mut held, &mut on_part);
            rest = match tail {
                [b'\r', b'\n', tail @ ..] | [_, tail @ ..] => tail,
                [] => tail,
            };
            self.after_cr = rest.is_empty() && tail == b"\r";
        }
        if let Some(held) = held {
            self.data.extend_from_slice(held);
        }
        self.keep_unfinished(rest, &mut on_part);
    }

    /// The body has ended: delivers the event without a blank line.
    pub(crate) fn finish_parts(&mut self, mut on_part: impl FnMut(Part<'_>)) {
        let mut held = None;
        if !self.line.is_empty() {
            self.end_line(&[], &mut held, &mut on_part);
        }
        self.end_event(&mut held, &mut on_part);
    }

    /// Keeps the start of an unfinished line, unless it is known how the line is handled.
    fn keep_unfinished(&mut self, start: &[u8], on_part: &mut impl FnMut(Part<'_>)) {
        match self.rest {
            Some(Rest::Dropped) => return,
            Some(Rest::Data) => return on_part(Part::Long(start)),
            None => {}
        }
        let is_comment = self.line.first().or(start.first()) == Some(&b':');
        if is_comment {
            self.line.clear();
            self.rest = Some(Rest::Dropped);
        } else if self.line.len() + start.len() > self.limit {
            let line = std::mem::take(&mut self.line);
            self.rest = Some(self.begin_long_line(&line, start, &mut None, on_part));
        } else {
            self.line.extend_from_slice(start);
        }
    }

    /// A line has ended with the bytes `ending`; the bytes before them were kept.
    fn end_line<'a>(&mut self, ending: &'a [u8], held: &mut Option<&'a [u8]>, on_part: &mut impl FnMut(Part<'_>)) {
        if let Some(rest) = self.rest.take() {
            self.at_start = false;
            if rest == Rest::Data {
                on_part(Part::Long(ending));
            }
        } else if self.line.is_empty() {
            if let Some(data) = self.field(ending, held, on_part) {
                if self.has_data {
                    self.add_data(data, held, on_part);
                } else if self.fits(data.len(), held, on_part) {
                    *held = Some(data);
                    self.has_data = true;
                } else {
                    on_part(Part::Long(data));
                }
            }
        } else if self.line.len() + ending.len() > self.limit {
            let line = std::mem::take(&mut self.line);
            self.begin_long_line(&line, ending, held, on_part);
            self.at_start = false;
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(ending);
            let data = self.field(&line, held, on_part).map(<[u8]>::len);
            if let Some(data) = data {
                let before = line.len() - data;
                if !self.has_data && self.fits(data, held, on_part) {
                    // Such a line may be long: it is not copied.
                    line.drain(..before);
                    std::mem::swap(&mut self.data, &mut line);
                    self.has_data = true;
                } else {
                    self.add_data(line.get(before..).unwrap_or_default(), held, on_part);
                }
            }
            line.clear();
            self.line = line;
            self.give_back();
        }
    }

    /// Handles a whole line. Returns the value of a `data` line.
    fn field<'l>(
        &mut self,
        line: &'l [u8],
        held: &mut Option<&[u8]>,
        on_part: &mut impl FnMut(Part<'_>),
    ) -> Option<&'l [u8]> {
        let may_be_marked = std::mem::take(&mut self.at_start);
        if line.first() == Some(&b':') {
            return None;
        }
        if line.len() > self.limit {
            self.at_start = may_be_marked;
            self.begin_long_line(line, &[], held, on_part);
            self.at_start = false;
            return None;
        }
        let line = line.strip_prefix(BYTE_ORDER_MARK).filter(|_| may_be_marked).unwrap_or(line);
        if line.is_empty() {
            self.end_event(held, on_part);
            return None;
        }
        if let Some(value) = value_of(line, b"data") {
            if !self.spoiled {
                return Some(value);
            }
            on_part(Part::Long(b"\n"));
            on_part(Part::Long(value));
        } else if let (false, Some(value)) = (self.spoiled, value_of(line, b"event")) {
            self.name.clear();
            let data = held.map_or(self.data.len(), <[u8]>::len);
            if value.len() + data > self.limit {
                self.spoil(held, on_part);
            } else {
                self.name.extend_from_slice(value);
            }
        }
        None
    }

    /// A line with so many bytes so far is longer than the limit, and so is its event. Decides how its rest is handled.
    fn begin_long_line(
        &mut self,
        line: &[u8],
        more: &[u8],
        held: &mut Option<&[u8]>,
        on_part: &mut impl FnMut(Part<'_>),
    ) -> Rest {
        if self.spoiled {
            on_part(Part::Long(b"\n"));
        }
        self.spoil(held, on_part);
        // The field's name may be cut in two.
        let start: Vec<u8> = line.iter().chain(more).copied().take(START).collect();
        let start =
            start.strip_prefix(BYTE_ORDER_MARK).filter(|_| self.at_start).map_or((0, &*start), |rest| (3, rest));
        let value = match start {
            (mark, [b'd', b'a', b't', b'a', b':', b' ', ..]) => mark + 6,
            (mark, [b'd', b'a', b't', b'a', b':', ..]) => mark + 5,
            _ => return Rest::Dropped,
        };
        on_part(Part::Long(line.get(value.min(line.len())..).unwrap_or_default()));
        on_part(Part::Long(more.get(value.saturating_sub(line.len())..).unwrap_or_default()));
        Rest::Data
    }

    /// Appends a data line to the event's lines.
    fn add_data(&mut self, line: &[u8], held: &mut Option<&[u8]>, on_part: &mut impl FnMut(Part<'_>)) {
        if let Some(first) = held.take() {
            self.data.extend_from_slice(first);
        }
        if self.fits(line.len() + usize::from(self.has_data), held, on_part) {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(line);
            self.has_data = true;
        } else {
            on_part(Part::Long(line));
        }
    }

    /// Whether the event may grow by so many bytes. If not, it is not kept.
    fn fits(&mut self, more: usize, held: &mut Option<&[u8]>, on_part: &mut impl FnMut(Part<'_>)) -> bool {
        let fits = self.name.len() + self.data.len() + more <= self.limit;
        if !fits {
            self.spoil(held, on_part);
        }
        fits
    }

    /// Passes on the kept data of the event, and keeps no more. Between two lines it adds white space, for a reader of the
    /// data as one value.
    fn spoil(&mut self, held: &mut Option<&[u8]>, on_part: &mut impl FnMut(Part<'_>)) {
        if !std::mem::replace(&mut self.spoiled, true) {
            self.oversized += 1;
        }
        if self.has_data {
            on_part(Part::Long(held.unwrap_or(&self.data)));
            on_part(Part::Long(b"\n"));
        }
        *held = None;
        self.data = Vec::new();
        self.has_data = false;
    }

    /// A blank line, or the end of the body. There is no event without data.
    fn end_event(&mut self, held: &mut Option<&[u8]>, on_part: &mut impl FnMut(Part<'_>)) {
        if self.spoiled {
            on_part(Part::LongEnd(&self.name));
        } else if self.has_data {
            let (data, follows_gap) = (held.unwrap_or(&self.data), self.oversized > 0);
            on_part(Part::Event(Event { name: &self.name, data, follows_gap }));
        }
        *held = None;
        self.name.clear();
        self.data.clear();
        self.has_data = false;
        self.spoiled = false;
        self.rest = None;
        self.give_back();
    }

    /// Releases the buffers of a long event when they are empty.
    fn give_back(&mut self) {
        for buffer in [&mut self.line, &mut self.data] {
            if buffer.is_empty() && buffer.capacity() > EVENT_LIMIT {
                *buffer = Vec::new();
            }
        }
    }
}

/// Bytes at the start of a line that identify it as data: a byte order mark, the field, a colon and a space.
const START: usize = 9;

/// The value of a line `field: value`, without the optional space before it.
fn value_of<'a>(line: &'a [u8], field: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(field)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod standard;
#[cfg(test)]
mod tests;
