//! The places of an object's members, recorded while its text is scanned, so that it is not scanned again.

use std::borrow::Cow;
use std::ops::Range;

use super::scanner::{Malformed, Scanner, walk};
use crate::messages::members::{Member, Members};

/// The most members whose places are recorded. An object with more is scanned again, which costs time and no memory.
const MOST: usize = 64;

impl Members {
    /// Passes the object that follows in `json`, the text of the scanner, and records the places of its members.
    pub fn note(scanner: &mut Scanner<'_>, json: &[u8]) -> Result<Self, Malformed> {
        scanner.peek();
        let start = scanner.position();
        let range = |part: &[u8]| {
            // Keys and values are parts of the text.
            let from = part.as_ptr().addr().saturating_sub(json.as_ptr().addr()).saturating_sub(start);
            from..from + part.len()
        };
        let (mut members, mut all) = (Vec::new(), true);
        scanner.object(|scanner, key| {
            let value = scanner.value()?;
            all &= members.len() < MOST;
            if all {
                members.push(Member { key: range(key), value: range(value) });
            }
            Ok(())
        })?;
        Ok(Self(all.then(|| members.into())))
    }

    /// Calls `on_member` with each key, in its quotes, and its value, as they are spelled and in order. `object` is the
    /// text of the object whose members these are.
    pub fn walk<'a>(&self, object: &'a [u8], mut on_member: impl FnMut(&'a [u8], &'a [u8])) -> Result<(), Malformed> {
        let Some(members) = &self.0 else { return walk(object, on_member) };
        for Member { key, value } in members {
            let part = |range: &Range<usize>| object.get(range.clone()).ok_or(Malformed::Broken);
            on_member(part(key)?, part(value)?);
        }
        Ok(())
    }
}

/// A key, given in its quotes, with its escapes decoded. The name is empty if they can't be decoded, as with half a
/// surrogate pair: no relevant member has such a key.
pub(crate) fn name_of(key: &[u8]) -> Cow<'_, [u8]> {
    if key.contains(&b'\\') {
        serde_json::from_slice::<String>(key).unwrap_or_default().into_bytes().into()
    } else {
        key.get(1..key.len().saturating_sub(1)).unwrap_or_default().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(json: &[u8]) -> Members {
        let mut noted = Members::default();
        let mut scanner = Scanner::new(json);
        let walked = scanner.object(|scanner, _| {
            noted = Members::note(scanner, json)?;
            Ok(())
        });
        assert_eq!((walked, scanner.end()), (Ok(()), Ok(())));
        noted
    }

    fn seen(members: &Members, object: &str) -> Vec<(String, String)> {
        let text = |part: &[u8]| String::from_utf8(part.to_vec()).unwrap();
        let mut seen = Vec::new();
        members.walk(object.as_bytes(), |key, value| seen.push((text(key), text(value)))).unwrap();
        seen
    }

    #[test]
    fn recorded_members_are_those_that_a_walk_finds() {
        let many: Vec<String> = (0..MOST + 1).map(|i| format!("\"{i}\":{i}")).collect();
        let many = format!("{{{}}}", many.join(","));
        for object in ["{}", r#"{ "a" : [1, {"b": 2}] , "c":"\"" }"#, &many] {
            let members = noted(format!("{{\"request\": {object} }}").as_bytes());
            assert_eq!(members.0.is_some(), object.len() < many.len());
            assert_eq!(seen(&members, object), seen(&Members::default(), object));
        }
    }
}
