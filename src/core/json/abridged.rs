//! Reads a JSON object that is too long to be kept, as it is received, and keeps a few of its members. Used by the scans of
//! a response.

use memchr::memchr2;

/// Which members are kept. No name has an escape, or more bytes than [`KEY`].
#[derive(Clone, Copy)]
pub(crate) struct Selection {
    /// Members that are kept, of the object and of one within it.
    pub(crate) kept: &'static [&'static [u8]],
    /// Objects within it that are entered.
    pub(crate) entered: &'static [&'static [u8]],
}

/// The longest key that is compared, in bytes.
const KEY: usize = 16;
/// The most bytes that are kept. A member beyond that is left out.
const LIMIT: usize = 64 << 10;

/// Abridges one object, however it is cut into pieces. It checks only as much of the grammar as it needs.
pub(crate) struct Abridged {
    selection: Selection,
    /// The kept part: the text of an object without its end.
    kept: Vec<u8>,
    /// Whether the position is in an object within the object.
    is_within: bool,
    /// The key of the current member, without its quotes.
    key: Vec<u8>,
    place: Place,
    value: Value,
}

/// The position of the next byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    BeforeObject,
    BeforeKey,
    InKey,
    /// After a backslash.
    InKeyEscaped,
    BeforeColon,
    BeforeValue,
    InValue,
    /// After the object.
    Over,
    /// It is not an object.
    Broken,
}

/// The value of the current member.
#[derive(Clone, Copy, Default)]
struct Value {
    /// Where in the kept part its member begins, if it is kept.
    kept_from: Option<usize>,
    /// The number of open containers in it.
    depth: u64,
    in_string: bool,
    escaped: bool,
}

impl Abridged {
    /// Before the first byte.
    pub(crate) fn new(selection: Selection) -> Self {
        Self {
            selection,
            kept: Vec::new(),
            is_within: false,
            key: Vec::new(),
            place: Place::BeforeObject,
            value: Value::default(),
        }
    }

    /// Handles the next piece of the text.
    pub(crate) fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while !rest.is_empty() {
            let taken = match self.place {
                Place::InValue => self.pass_value(rest),
                Place::Broken => return,
                _ => rest.first().map_or(0, |&byte| self.step(byte)),
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
    }

    /// The text has ended: the kept object, if the text was a complete object.
    pub(crate) fn finish(mut self) -> Option<Vec<u8>> {
        if self.place != Place::Over {
            return None;
        }
        self.kept.push(b'}');
        Some(self.kept)
    }

    /// Handles a byte that is not in a value. Returns the number of handled bytes.
    fn step(&mut self, byte: u8) -> usize {
        let is_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.place = match (self.place, byte) {
            (Place::InKey, b'"') => Place::BeforeColon,
            (Place::InKey, b'\\') => Place::InKeyEscaped,
            (Place::InKey, byte) => {
                // A key that is longer than all kept ones stays longer.
                if self.key.len() <= KEY {
                    self.key.push(byte);
                }
                Place::InKey
            }
            // None of the kept keys has an escape.
            (Place::InKeyEscaped, _) => {
                self.key.resize(KEY + 1, b'\\');
                Place::InKey
            }
            (place, _) if is_space => place,
            (Place::BeforeObject, b'{') => {
                self.kept.push(b'{');
                Place::BeforeKey
            }
            (Place::BeforeKey, b',') => Place::BeforeKey,
            (Place::BeforeKey, b'"') => {
                self.key.clear();
                Place::InKey
            }
            (Place::BeforeKey, b'}') if self.is_within => {
                self.kept.push(b'}');
                self.is_within = false;
                Place::BeforeKey
            }
            (Place::BeforeKey, b'}') => Place::Over,
            (Place::BeforeColon, b':') => Place::BeforeValue,
            (Place::BeforeValue, byte) => return self.begin_value(byte),
            _ => Place::Broken,
        };
        1
    }

    /// Decides how a value that begins with this byte is handled. Returns the number of handled bytes.
    fn begin_value(&mut self, byte: u8) -> usize {
        let from = self.kept.len();
        let is_entered = byte == b'{' && !self.is_within && self.selection.entered.contains(&&*self.key);
        if is_entered && self.begin_member() {
            self.kept.push(b'{');
            self.is_within = true;
            self.place = Place::BeforeKey;
            return 1;
        }
        let is_kept = self.selection.kept.contains(&&*self.key) && self.begin_member();
        self.value = Value { kept_from: is_kept.then_some(from), ..Value::default() };
        self.place = Place::InValue;
        0
    }

    /// Writes the key of a member, if there is room for it.
    fn begin_member(&mut self) -> bool {
        if self.kept.len() + KEY + 8 > LIMIT {
            return false;
        }
        if self.kept.last() != Some(&b'{') {
            self.kept.push(b',');
        }
        self.kept.push(b'"');
        self.kept.extend_from_slice(&self.key);
        self.kept.extend_from_slice(b"\":");
        true
    }

    /// Skips the value, up to its end or that of the piece. Returns the number of handled bytes.
    fn pass_value(&mut self, piece: &[u8]) -> usize {
        let mut at = 0;
        while let Some(&byte) = piece.get(at) {
            let value = &mut self.value;
            if value.in_string {
                if value.escaped {
                    value.escaped = false;
                } else {
                    // Most of a text is neither.
                    let rest = piece.get(at..).unwrap_or_default();
                    let Some(next) = memchr2(b'"', b'\\', rest) else { break };
                    at += next;
                    let is_quote = piece.get(at) == Some(&b'"');
                    value.escaped = !is_quote;
                    value.in_string = !is_quote;
                    if is_quote && value.depth == 0 {
                        return self.end_value(piece, at + 1);
                    }
                }
                at += 1;
                continue;
            }
            match byte {
                b'"' => value.in_string = true,
                b'{' | b'[' => value.depth += 1,
                b'}' | b']' if value.depth > 0 => {
                    value.depth -= 1;
                    if value.depth == 0 {
                        return self.end_value(piece, at + 1);
                    }
                }
                // A number or a word ends before the next byte.
                b',' | b'}' | b']' if value.depth == 0 => return self.end_value(piece, at),
                _ => {}
            }
            at += 1;
        }
        self.keep(piece);
        piece.len()
    }

    fn end_value(&mut self, piece: &[u8], end: usize) -> usize {
        self.keep(piece.get(..end).unwrap_or_default());
        self.place = Place::BeforeKey;
        end
    }

    /// Keeps more of the current value, if it is kept. One that is too long is left out with its key.
    fn keep(&mut self, more: &[u8]) {
        let Some(from) = self.value.kept_from else { return };
        if self.kept.len() + more.len() + 2 > LIMIT {
            self.kept.truncate(from);
            self.value.kept_from = None;
        } else {
            self.kept.extend_from_slice(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const KEPT: &[&[u8]] = &[b"type", b"status", b"error", b"usage", b"object"];
    const ENTERED: &[&[u8]] = &[b"response", b"message"];
    const SELECTION: Selection = Selection { kept: KEPT, entered: ENTERED };

    fn abridged(pieces: &[&[u8]]) -> Option<Value> {
        let mut abridged = Abridged::new(SELECTION);
        pieces.iter().for_each(|piece| abridged.feed(piece));
        abridged.finish().map(|kept| serde_json::from_slice(&kept).unwrap())
    }

    /// The same for a parsed value.
    fn by_parsing(text: &[u8]) -> Option<Value> {
        let Value::Object(mut object) = serde_json::from_slice(text).ok()? else { return None };
        let is_in = |keys: &[&[u8]], key: &str| keys.contains(&key.as_bytes());
        object.retain(|key, value| is_in(KEPT, key) || is_in(ENTERED, key) && value.is_object());
        for key in ["response", "message"] {
            if let Some(Value::Object(inner)) = object.get_mut(key) {
                inner.retain(|key, _| is_in(KEPT, key));
            }
        }
        Some(Value::Object(object))
    }

    #[test]
    fn the_members_that_report_an_end_are_kept() {
        let text = br#" { "x" : [{"usage":1}, "}\"\\", {}] ,"type":"t","response" : {"metadata":{"usage":"y"},
            "usage":{"a":[1,{"b":"\"}"}]},"status":"x", "error":null , "more":[ ] },"usage": -1.5e3 ,"object":true}"#;
        let expected = json!({"type": "t", "response": {"usage": {"a": [1, {"b": "\"}"}]}, "status": "x", "error": null},
            "usage": -1500.0, "object": true});
        for at in 0..text.len() {
            let (left, right) = text.split_at(at);
            assert_eq!(abridged(&[left, right]).unwrap(), expected, "cut at {at}");
        }
        assert_eq!(abridged(&[text, b" \n "]), by_parsing(text));
    }

    #[test]
    fn a_text_that_is_not_a_complete_object_returns_none() {
        for text in
            ["", "[]", "x", "{", "{\"a\"", "{\"a\":1", "{\"a\":\"}", "{\"response\":{\"usage\":1}", "{} x", "{1}"]
        {
            assert_eq!(abridged(&[text.as_bytes()]), None, "{text}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let long = "x".repeat(LIMIT);
        let text = format!(r#"{{"error":"{long}","usage":{{"a":1}},"{long}":1,"us\u0061ge":2}}"#);
        assert_eq!(abridged(&[text.as_bytes()]), Some(json!({"usage": {"a": 1}})));
        let mut endless = Abridged::new(SELECTION);
        endless.feed(b"{");
        for _ in 0..100_000 {
            endless.feed(br#""usage":{"a":1},"error":[[[[],"#);
            endless.feed(br#"[]]]],"#);
        }
        assert!(endless.kept.capacity() <= 2 * LIMIT && endless.key.capacity() <= 64);
        let mut deep = Abridged::new(SELECTION);
        deep.feed(br#"{"x":"#);
        (0..1_000).for_each(|_| deep.feed(&[b'['; 1000]));
        (0..1_000).for_each(|_| deep.feed(&[b']'; 1000]));
        deep.feed(br#","usage":7}"#);
        assert_eq!(deep.finish().unwrap(), br#"{"usage":7}"#);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            r#"[a-z"\\{}\[\],: é]{0,6}"#.prop_map(Value::from)
        ];
        let key = || prop::sample::select(&["usage", "error", "response", "message", "x", "type"][..]);
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(key().prop_map(str::to_owned), inner, 0..4)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn however_it_is_cut_what_is_left_is_what_a_parser_finds(
            value in value(),
            pretty in any::<bool>(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect();
            prop_assert_eq!(abridged(&pieces), by_parsing(&text));
        }
    }
}
