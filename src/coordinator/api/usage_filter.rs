//! Removes the usage event from an OpenAI stream whose client did not request it.
//!
//! Agents always request usage from their backends, because `job_done` reports it. The usage event has no choices, and many
//! clients that did not request it fail on that. All other bytes pass unchanged, at the latest when their event is complete.

use memchr::{memchr, memmem};
use serde::de::IgnoredAny;

use crate::core::formats::openai::Completion;
use crate::core::json::object;

/// A longer event is passed on as it arrives. No usage event is that long.
const MAX_HELD: usize = 64 << 10;

/// The state between two parts of a stream.
#[derive(Default)]
pub(crate) struct UsageFilter {
    /// The bytes of the current event that were not passed on.
    held: Vec<u8>,
    /// Where in `held` the current line starts.
    line: usize,
    /// Whether a part of the current event was passed on.
    passing: bool,
}

impl UsageFilter {
    /// Reads a part of the stream and returns the bytes that may be passed on now, perhaps none.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end + 1);
            self.held.extend_from_slice(line);
            rest = after;
            let blank = matches!(self.held.get(self.line..), Some(b"\n" | b"\r\n"));
            self.line = self.held.len();
            if blank {
                if self.passing || !is_usage_only(&self.held) {
                    out.append(&mut self.held);
                }
                self.held.clear();
                self.line = 0;
                self.passing = false;
            }
        }
        self.held.extend_from_slice(rest);
        if self.passing || self.held.len() > MAX_HELD {
            // The start of the current line is kept, to recognize a blank line.
            let keep = self.held.len().saturating_sub(self.line).min(2);
            let unfinished = self.held.split_off(self.held.len() - keep);
            out.append(&mut self.held);
            self.line = 0;
            self.held = unfinished;
            self.passing = true;
        }
        out
    }

    /// The rest of a stream that ended within an event.
    pub(crate) fn finish(self) -> Vec<u8> {
        if !self.passing && is_usage_only(&self.held) { Vec::new() } else { self.held }
    }
}

fn is_usage_only(event: &[u8]) -> bool {
    if memmem::find(event, b"\"usage\"").is_none() {
        return false;
    }
    let mut data = event.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data:"));
    let (Some(data), None) = (data.next(), data.next()) else { return false };
    object::<Completion<'_, IgnoredAny, IgnoredAny>>(data)
        .is_some_and(|chunk| chunk.usage.is_some() && chunk.choices.is_some_and(|choices| choices.is_empty()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USAGE: &str = "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}";

    fn filtered(stream: &str, cut: usize) -> String {
        let mut filter = UsageFilter::default();
        let mut out = Vec::new();
        for piece in stream.as_bytes().chunks(cut) {
            out.extend(filter.feed(piece));
        }
        out.extend(filter.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_is_passed_on_when_it_is_complete() {
        let mut filter = UsageFilter::default();
        assert_eq!(filter.feed(b"data: 1\n\ndata:"), b"data: 1\n\n");
        assert_eq!(filter.feed(b" 2\n"), b"");
        assert_eq!(filter.feed(b"\n"), b"data: 2\n\n");
    }

    #[test]
    fn other_events_without_choices_stay() {
        for event in [
            "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
            "data: {\"choices\":[],\"usage\":null}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\"\"}}],\"usage\":{\"prompt_tokens\":1}}\n\n",
            ": \"usage\"\n\n",
        ] {
            assert_eq!(filtered(event, 7), event);
        }
    }

    proptest! {
        #[test]
        fn nothing_else_is_changed_however_the_stream_is_cut(
            texts in prop::collection::vec("[a-z \"\\\\]{0,40}", 0..6),
            long in prop_oneof![Just(0_usize), Just(MAX_HELD + 1)],
            newline in prop_oneof![Just("\n"), Just("\r\n")],
            cut in 1_usize..200,
        ) {
            let mut want = String::new();
            for text in &texts {
                want += &format!("event: x{newline}data: {text}{newline}{newline}");
            }
            want += &format!(": {}{newline}{newline}", "l".repeat(long));
            let done = format!("data: [DONE]{newline}{newline}");
            let stream = format!("{want}{USAGE}{newline}{newline}{done}");
            prop_assert_eq!(filtered(&stream, cut), format!("{want}{done}"));
        }
    }
}
