//! The JSON toolkit, compared with `serde_json`.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::input::Input;
use crate::core::json::{
    Abridged, Malformed, Members, Scanner, Selection, Spelled, Token, Tokens, name_of, salvage, walk, with_member,
};

type Member<'a> = (&'a [u8], &'a [u8]);

pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let cut = input.cut();
    let text = input.rest();
    let members = members(text);
    is_for_the_parser_to_say(text, members.as_ref().map(Vec::len));
    salvages(text, members.as_deref().ok());
    abridges(text, &cut.pieces(text));
    if let Ok(members) = members {
        are_noted(text, &members);
        has_the_tokens(text);
        takes_one_more(text, &cut.pieces(text));
    }
}

fn members(text: &[u8]) -> Result<Vec<Member<'_>>, Malformed> {
    let mut found = Vec::new();
    walk(text, |key, value| found.push((key, value))).map(|()| found)
}

fn is_object(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

/// Valid is what is valid for `serde_json`, and the members are those that it finds.
fn is_for_the_parser_to_say(text: &[u8], found: Result<usize, &Malformed>) {
    if found == Err(&Malformed::TooDeep) {
        return;
    }
    assert_eq!(found.is_ok(), is_object(text));
    if let (Ok(_), Ok(text)) = (found, std::str::from_utf8(text)) {
        let mut theirs = Vec::new();
        serde_json::Deserializer::from_str(text).deserialize_map(RawMembers(&mut theirs)).unwrap();
        assert_eq!(members(text.as_bytes()).unwrap(), theirs);
    }
}

struct RawMembers<'m, 'a>(&'m mut Vec<Member<'a>>);

impl<'de> Visitor<'de> for RawMembers<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            self.0.push((key.get().as_bytes(), value.get().as_bytes()));
        }
        Ok(())
    }
}

/// Of a valid text, the members that are texts are salvaged; of the start of a text, what was salvaged up to there.
fn salvages(text: &[u8], members: Option<&[Member<'_>]>) {
    let salvaged = |text| {
        let mut found = Vec::new();
        salvage(text, |key, value| found.push((key, value)));
        found
    };
    let whole = salvaged(text);
    if let Some(members) = members {
        let texts: Vec<_> = members.iter().filter(|(_, value)| value.starts_with(b"\"")).copied().collect();
        assert_eq!(whole, texts);
    }
    let half = salvaged(&text[..text.len() / 2]);
    assert_eq!(half, whole[..half.len()]);
}

const KEPT: &[&[u8]] = &[b"type", b"error", b"usage"];
const ENTERED: &[&[u8]] = &[b"response", b"message"];

/// What is kept does not depend on the pieces, and is what a parser finds.
fn abridges(text: &[u8], pieces: &[&[u8]]) {
    let abridged = |pieces: &[&[u8]]| {
        let mut abridged = Abridged::new(Selection { kept: KEPT, entered: ENTERED });
        pieces.iter().for_each(|piece| abridged.feed(piece));
        abridged.finish()
    };
    let whole = abridged(&[text]);
    assert_eq!(whole, abridged(pieces));
    assert!(whole.as_ref().is_none_or(|kept| kept.len() <= text.len() + 2));
    if let Ok(Value::Object(mut object)) = serde_json::from_slice(text)
        && is_plain(text)
    {
        let is_in = |names: &[&[u8]], key: &str| names.contains(&key.as_bytes());
        object.retain(|key, value| is_in(KEPT, key) || is_in(ENTERED, key) && value.is_object());
        for inner in ["response", "message"].iter().map(|name| object.remove(*name).map(|value| (*name, value))).collect::<Vec<_>>().into_iter().flatten() {
            let (name, Value::Object(mut inner)) = inner else { panic!("only objects are entered") };
            inner.retain(|key, _| is_in(KEPT, key));
            object.insert(name.to_owned(), inner.into());
        }
        assert_eq!(serde_json::from_slice::<Value>(&whole.unwrap()).unwrap(), Value::Object(object));
    }
}

/// Whether a name means the same to every parser: none occurs twice in an object, and none has an escape.
fn is_plain(text: &[u8]) -> bool {
    let mut open = vec![HashSet::new()];
    Tokens::of(text).map_while(Result::ok).all(|token| {
        match token {
            Token::Open => open.push(HashSet::new()),
            Token::Close => drop(open.pop()),
            Token::Key(key) => return !key.contains(&b'\\') && open.last_mut().is_some_and(|names| names.insert(key)),
            Token::Text(_) => {}
        }
        true
    })
}

/// The places of the members that were recorded are those of the members.
fn are_noted(text: &[u8], members: &[Member<'_>]) {
    let object = text.trim_ascii_start();
    let mut scanner = Scanner::new(object);
    let noted = Members::note(&mut scanner, object).unwrap();
    scanner.end().unwrap();
    let mut walked = Vec::new();
    noted.walk(object, |key, value| walked.push((key, value))).unwrap();
    assert_eq!(walked, members);
    for (key, _) in members {
        let name = serde_json::from_slice::<String>(key).unwrap_or_default();
        assert!(*name_of(key) == *name.as_bytes() || std::str::from_utf8(key).is_err());
    }
}

/// The tokens are what a parser visits.
fn has_the_tokens(text: &[u8]) {
    let mut theirs = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    // The parser of the comparison takes less depth, and no half of a surrogate pair.
    if (Visits(&mut theirs)).deserialize(&mut deserializer).is_err() {
        return;
    }
    let mut theirs = theirs.into_iter();
    for token in Tokens::of(text) {
        match (token.unwrap(), theirs.next().unwrap()) {
            (Token::Open, Visit::Open) | (Token::Close, Visit::Close) => {}
            (Token::Key(key), Visit::Key(theirs)) => assert_eq!(key, theirs.as_bytes()),
            (Token::Text(spelling), Visit::Text(theirs)) => {
                let spelled = [b"\"", spelling, b"\""].concat();
                assert_eq!(serde_json::from_slice::<String>(&spelled).unwrap(), theirs);
                spells(spelling, &theirs);
            }
            _ => panic!("another token"),
        }
    }
    assert!(theirs.next().is_none());
}

/// The decoded bytes of a spelling are those of its text.
fn spells(spelling: &[u8], text: &str) {
    let decoded: Vec<u8> = Spelled::new(spelling).collect();
    if text.is_ascii() {
        assert_eq!(decoded, text.as_bytes());
        let mut rest = Spelled::new(spelling);
        rest.skip_to(b'!');
        let expected = text.find('!').map_or("", |at| &text[at..]);
        assert_eq!(rest.collect::<Vec<u8>>(), expected.as_bytes());
    }
}

enum Visit<'a> {
    Open,
    Close,
    Key(&'a str),
    Text(String),
}

struct Visits<'v, 'a>(&'v mut Vec<Visit<'a>>);

impl<'de> DeserializeSeed<'de> for Visits<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Visits<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.push(Visit::Text(text.to_owned()));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.0.push(Visit::Open);
        while list.next_element_seed(Visits(self.0))?.is_some() {}
        self.0.push(Visit::Close);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.push(Visit::Open);
        while let Some(key) = map.next_key::<&RawValue>()? {
            self.0.push(Visit::Key(key.get()));
            map.next_value_seed(Visits(self.0))?;
        }
        self.0.push(Visit::Close);
        Ok(())
    }
}

/// A body takes one more member at its end, whatever pieces it is in.
fn takes_one_more(text: &[u8], pieces: &[&[u8]]) {
    let before = members(text).unwrap().len();
    let body = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
    let Ok(body) = with_member(body, "rid", "a\"b") else {
        assert!(!text.ends_with(b"}"));
        return;
    };
    let body = body.concat();
    let after = members(&body).unwrap();
    assert_eq!(after.last(), Some(&(&b"\"rid\""[..], &b"\"a\\\"b\""[..])));
    assert_eq!(after.len(), before + 1);
}
