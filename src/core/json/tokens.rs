//! The containers, keys and texts of JSON whose grammar was checked before. Numbers and words are skipped, and texts at memory
//! speed. Used by the policy for requests.

use super::scanner::Malformed;

/// A part of a JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// An object or a list begins.
    Open,
    /// It ends.
    Close,
    /// A key, with its quotes. Its value follows.
    Key(&'a [u8]),
    /// A text, as it is spelled between its quotes.
    Text(&'a [u8]),
}

/// Iterates over the tokens. It keeps one byte for each open container.
pub(crate) struct Tokens<'a> {
    json: &'a [u8],
    at: usize,
    /// Whether each open container is an object.
    open: Vec<bool>,
    /// Whether the next string is a key.
    is_key: bool,
}

impl<'a> Tokens<'a> {
    /// The tokens of a value.
    pub(crate) fn of(json: &'a [u8]) -> Self {
        Self { json, at: 0, open: Vec::new(), is_key: false }
    }

    /// The string whose content begins at `from`.
    fn string(&mut self, from: usize) -> Result<Token<'a>, Malformed> {
        let text = spelling_at(self.json, from).ok_or(Malformed::Broken)?;
        let end = from + text.len();
        self.at = end + 1;
        if !std::mem::take(&mut self.is_key) {
            return Ok(Token::Text(text));
        }
        self.json.get(from - 1..=end).map(Token::Key).ok_or(Malformed::Broken)
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Result<Token<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(byte) = self.json.get(self.at) {
            self.at += 1;
            match byte {
                b'{' | b'[' => {
                    self.is_key = *byte == b'{';
                    self.open.push(self.is_key);
                    return Some(Ok(Token::Open));
                }
                b'}' | b']' => {
                    self.open.pop();
                    self.is_key = false;
                    return Some(Ok(Token::Close));
                }
                b',' => self.is_key = self.open.last().is_some_and(|is_object| *is_object),
                b'"' => return Some(self.string(self.at)),
                _ => {}
            }
        }
        None
    }
}

/// The content of the string that begins at `from`, after its opening quote, as it is spelled.
fn spelling_at(json: &[u8], from: usize) -> Option<&[u8]> {
    let rest = json.get(from..)?;
    memchr::memchr_iter(b'"', rest).find_map(|quote| {
        let text = rest.get(..quote)?;
        let backslashes = text.iter().rev().take_while(|byte| **byte == b'\\').count();
        (backslashes % 2 == 0).then_some(text)
    })
}

#[cfg(test)]
mod tests {
    use super::Token::{Close, Key, Open, Text};
    use super::*;

    fn tokens(json: &str) -> Result<Vec<Token<'_>>, Malformed> {
        Tokens::of(json.as_bytes()).collect()
    }

    #[test]
    fn keys_are_told_from_texts() {
        let json = r#"{"a" : ["b", {}, "c\\\"", -1.5], "d\"": {"e": "", "f": null}} "#;
        let expected = [
            Open,
            Key(br#""a""#),
            Open,
            Text(b"b"),
            Open,
            Close,
            Text(br#"c\\\""#),
            Close,
            Key(br#""d\"""#),
            Open,
            Key(br#""e""#),
            Text(b""),
            Key(br#""f""#),
            Close,
            Close,
        ];
        assert_eq!(tokens(json).unwrap(), expected);
        assert_eq!(tokens(r#""a""#).unwrap(), [Text(b"a")]);
        assert_eq!(tokens("[true, 7]").unwrap(), [Open, Close]);
    }

    #[test]
    fn a_string_without_an_end_is_an_error() {
        for json in [r#"{"a"#, r#"["a\""#, r#"["a\\\""#] {
            assert_eq!(tokens(json), Err(Malformed::Broken), "{json}");
        }
    }
}
