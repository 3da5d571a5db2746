//! The members of a JSON object, found and not parsed.
//!
//! For text that was validated when its frame was read: only the borders of keys and values are looked for, at the speed
//! of memory. What is broken at the top level is noticed; what is broken inside a value is passed on as it is.

/// The text does not have the shape of one JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It starts like no object.
    #[error("no JSON object")]
    NotAnObject,
    /// It breaks off, or goes on where it should end.
    #[error("not the text of one JSON object")]
    Broken,
}

/// Calls `on_member` with each key, in its quotes, and its value, as they are spelled and in order.
pub fn walk<'a>(json: &'a [u8], mut on_member: impl FnMut(&'a [u8], &'a [u8])) -> Result<(), Malformed> {
    let mut cursor = Cursor { json, at: 0 };
    if cursor.next_token() != Some(b'{') {
        return Err(Malformed::NotAnObject);
    }
    cursor.at += 1;
    if cursor.next_token() == Some(b'}') {
        cursor.at += 1;
        return cursor.end();
    }
    loop {
        if cursor.next_token() != Some(b'"') {
            return Err(Malformed::Broken);
        }
        let key = cursor.take(Cursor::skip_string)?;
        cursor.expect(b':')?;
        cursor.next_token();
        let value = cursor.take(Cursor::skip_value)?;
        on_member(key, value);
        match cursor.next_token() {
            Some(b',') => {
                cursor.at += 1;
                cursor.next_token();
            }
            Some(b'}') => {
                cursor.at += 1;
                return cursor.end();
            }
            _ => return Err(Malformed::Broken),
        }
    }
}

struct Cursor<'a> {
    json: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    /// Skips white space. The byte it stops at.
    fn next_token(&mut self) -> Option<u8> {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.peek()
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.next_token() != Some(byte) {
            return Err(Malformed::Broken);
        }
        self.at += 1;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Malformed> {
        self.next_token().map_or(Ok(()), |_| Err(Malformed::Broken))
    }

    /// What `skip` skips.
    fn take(&mut self, skip: impl FnOnce(&mut Self) -> Option<()>) -> Result<&'a [u8], Malformed> {
        let from = self.at;
        skip(self).ok_or(Malformed::Broken)?;
        self.json.get(from..self.at).ok_or(Malformed::Broken)
    }

    fn skip_value(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.skip_string(),
            b'{' | b'[' => self.skip_container(),
            b',' | b'}' | b']' | b':' => None,
            _ => {
                while !matches!(self.peek()?, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r') {
                    self.at += 1;
                }
                Some(())
            }
        }
    }

    fn skip_string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            let rest = self.json.get(self.at..)?;
            self.at += memchr::memchr2(b'"', b'\\', rest)?;
            if self.peek()? == b'"' {
                self.at += 1;
                return Some(());
            }
            // An escape and what it escapes: the digits of a longer one are no quotes.
            self.at += 2;
        }
    }

    fn skip_container(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(json: &str) -> Result<Vec<(&str, &str)>, Malformed> {
        let mut found = Vec::new();
        walk(json.as_bytes(), |key, value| {
            found.push((std::str::from_utf8(key).unwrap(), std::str::from_utf8(value).unwrap()));
        })?;
        Ok(found)
    }

    #[test]
    fn members_are_found_as_they_are_spelled() {
        let json = "\n{ \"a\" : [1, {\"b\":\"]}\"}] ,\"c\\\"\":\"\\\\\",\"d\":-1e5\t,\"e\":null}\r\n";
        let expected =
            [(r#""a""#, r#"[1, {"b":"]}"}]"#), (r#""c\"""#, r#""\\""#), (r#""d""#, "-1e5"), (r#""e""#, "null")];
        assert_eq!(members(json).unwrap(), expected);
        assert_eq!(members("{ }").unwrap(), []);
    }

    proptest! {
        #[test]
        fn any_text_is_walked_without_a_panic(json in "[\\[\\]{}\",:\\\\ a1]{0,40}") {
            let _ = members(&json);
        }

        #[test]
        fn an_object_cut_short_or_gone_on_is_broken(cut in 1_usize..60) {
            let json = r#"{"a":{"b":[1,"\"}",{}]},"c":"d\\","e":[[]],"f":true,"g":1.5}"#;
            let (head, tail) = json.split_at(cut.min(json.len() - 1));
            prop_assert_eq!(members(head), Err(Malformed::Broken));
            let gone_on = format!("{json}{tail}");
            prop_assert_eq!(members(&gone_on), Err(Malformed::Broken));
        }
    }
}
