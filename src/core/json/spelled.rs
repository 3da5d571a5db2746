//! The text of a JSON string, read from its spelling, without a copy. Used by the policy for requests.

/// The bytes of a JSON string with this spelling between its quotes, with its escapes decoded.
///
/// An escape for a character outside ASCII gives one byte that is not ASCII, which is enough for comparisons with ASCII
/// text.
#[derive(Clone)]
pub(crate) struct Spelled<'a>(&'a [u8]);

/// The byte for an escaped character outside ASCII.
const OUTSIDE_ASCII: u8 = 0xff;

impl<'a> Spelled<'a> {
    pub(crate) fn new(spelling: &'a [u8]) -> Self {
        Self(spelling)
    }

    /// Skips bytes up to the next `byte`, which may be escaped. It is found at memory speed if there are no escapes.
    pub(crate) fn skip_to(&mut self, byte: u8) {
        while let Some(at) = memchr::memchr2(byte, b'\\', self.0) {
            self.0 = self.0.get(at..).unwrap_or_default();
            let mut after = self.clone();
            match after.next() {
                Some(found) if found == byte => return,
                Some(_) => *self = after,
                None => break,
            }
        }
        self.0 = &[];
    }
}

impl Iterator for Spelled<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        if *first != b'\\' {
            return Some(*first);
        }
        let (escape, rest) = rest.split_first()?;
        self.0 = rest;
        Some(match escape {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 8,
            b'f' => 12,
            b'u' => {
                let (digits, rest) = rest.split_at_checked(4)?;
                self.0 = rest;
                let code = std::str::from_utf8(digits).ok().and_then(|digits| u16::from_str_radix(digits, 16).ok());
                code.and_then(|code| u8::try_from(code).ok()).filter(u8::is_ascii).unwrap_or(OUTSIDE_ASCII)
            }
            other => *other,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_decoded() {
        let read = |spelling: &'static str| Spelled::new(spelling.as_bytes()).collect::<Vec<u8>>();
        assert_eq!(read(r#"a\"\\\/\b\f\n\r\t\u0041"#), b"a\"\\/\x08\x0c\n\r\tA");
        assert_eq!(read(r"\u00e9x\ud83d\ude00"), [OUTSIDE_ASCII, b'x', OUTSIDE_ASCII, OUTSIDE_ASCII]);
        assert_eq!(read(r"x\"), b"x");
        assert_eq!(read(r"x\u12"), b"x");
    }

    proptest! {
        #[test]
        fn a_string_reads_as_the_parser_reads_it(spelling in r#"([!a\x00-\x7f&&[^"\\\x00-\x1f\x7f]]|\\["\\/bfnrt]|\\u00[0-7][0-9a-fA-F]){0,40}"#) {
            let parsed: String = serde_json::from_str(&format!("\"{spelling}\"")).unwrap();
            let read: Vec<u8> = Spelled::new(spelling.as_bytes()).collect();
            prop_assert_eq!(&read, parsed.as_bytes());
            let mut skipped = Spelled::new(spelling.as_bytes());
            skipped.skip_to(b'!');
            let rest = parsed.find('!').map_or("", |at| &parsed[at..]);
            prop_assert_eq!(skipped.collect::<Vec<u8>>(), rest.as_bytes());
        }
    }
}
