//! A walk over JSON text that checks its grammar and reports where each part begins and ends.

use std::ops::ControlFlow;

use super::string::closing_quote;

/// The most containers inside each other.
const DEEPEST: usize = 1024;

/// The text does not have the shape of one JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not begin with an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// It is not JSON, is incomplete, or has text after its end.
    #[error("not the text of one JSON object")]
    Broken,
    /// A value in it nests deeper than 1024.
    #[error("nested deeper than {DEEPEST}")]
    TooDeep,
}

/// Calls `on_member` with each key, in its quotes, and its value, as they are spelled and in order. It does not check that
/// the text is UTF-8.
pub(crate) fn walk<'a>(json: &'a [u8], mut on_member: impl FnMut(&'a [u8], &'a [u8])) -> Result<(), Malformed> {
    let mut scanner = Scanner::new(json);
    scanner.object(|scanner, key| {
        on_member(key, scanner.value()?);
        Ok(())
    })?;
    scanner.end()
}

/// A place in a JSON text.
pub struct Scanner<'a> {
    json: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The start of a text.
    pub fn new(json: &'a [u8]) -> Self {
        Self { json, at: 0 }
    }

    /// Passes white space. Returns the byte after it.
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            match self.json.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// How many bytes have been passed.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Passes the object that follows. Calls `on_member` with each key, in its quotes, and with the scanner before the value,
    /// which `on_member` must pass.
    pub fn object(
        &mut self,
        mut on_member: impl FnMut(&mut Self, &'a [u8]) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if self.peek() != Some(b'{') {
            return Err(Malformed::NotAnObject);
        }
        self.at += 1;
        if self.passes(b'}') {
            return Ok(());
        }
        loop {
            let key = self.key()?;
            on_member(self, key)?;
            if self.passes(b'}') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    /// Passes the list that follows. Calls `on_element` with each element, as it is spelled. `on_element` can end the walk
    /// early.
    pub fn list(&mut self, mut on_element: impl FnMut(&'a [u8]) -> ControlFlow<()>) -> Result<(), Malformed> {
        self.expect(b'[')?;
        if self.passes(b']') {
            return Ok(());
        }
        loop {
            if on_element(self.value()?).is_break() || self.passes(b']') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    /// Passes the value that follows. Returns it as it is spelled.
    pub fn value(&mut self) -> Result<&'a [u8], Malformed> {
        self.peek();
        let from = self.at;
        self.pass_value()?;
        self.json.get(from..self.at).ok_or(Malformed::Broken)
    }

    /// Checks that only white space follows.
    pub fn end(&mut self) -> Result<(), Malformed> {
        self.peek().map_or(Ok(()), |_| Err(Malformed::Broken))
    }

    fn pass_value(&mut self) -> Result<(), Malformed> {
        let mut open = Nesting::default();
        loop {
            match self.peek().ok_or(Malformed::Broken)? {
                b'"' => self.pass_string()?,
                b'{' => {
                    self.at += 1;
                    if !self.passes(b'}') {
                        open.push(Container::Object)?;
                        self.key()?;
                        continue;
                    }
                }
                b'[' => {
                    self.at += 1;
                    if !self.passes(b']') {
                        open.push(Container::Array)?;
                        continue;
                    }
                }
                b't' => self.pass_word(b"true")?,
                b'f' => self.pass_word(b"false")?,
                b'n' => self.pass_word(b"null")?,
                _ => self.pass_number()?,
            }
            // A value has ended, and with it the containers that end here.
            loop {
                let Some(container) = open.innermost() else { return Ok(()) };
                if self.passes(container.closing()) {
                    open.pop();
                    continue;
                }
                self.expect(b',')?;
                if container == Container::Object {
                    self.key()?;
                }
                break;
            }
        }
    }

    /// Passes a key and its colon. Returns the key, in its quotes.
    fn key(&mut self) -> Result<&'a [u8], Malformed> {
        if self.peek() != Some(b'"') {
            return Err(Malformed::Broken);
        }
        let from = self.at;
        self.pass_string()?;
        let key = self.json.get(from..self.at).ok_or(Malformed::Broken)?;
        self.expect(b':')?;
        Ok(key)
    }

    fn passes(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.passes(byte) { Ok(()) } else { Err(Malformed::Broken) }
    }

    fn pass_string(&mut self) -> Result<(), Malformed> {
        self.at = closing_quote(self.json, self.at + 1).ok_or(Malformed::Broken)? + 1;
        Ok(())
    }

    fn pass_word(&mut self, word: &[u8]) -> Result<(), Malformed> {
        if !self.json.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(Malformed::Broken);
        }
        self.at += word.len();
        Ok(())
    }

    fn pass_number(&mut self) -> Result<(), Malformed> {
        self.at += usize::from(self.here() == Some(b'-'));
        if self.here() == Some(b'0') {
            self.at += 1;
        } else {
            self.pass_digits()?;
        }
        if self.here() == Some(b'.') {
            self.at += 1;
            self.pass_digits()?;
        }
        if matches!(self.here(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.here(), Some(b'+' | b'-')));
            self.pass_digits()?;
        }
        Ok(())
    }

    fn pass_digits(&mut self) -> Result<(), Malformed> {
        let from = self.at;
        while self.here().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > from { Ok(()) } else { Err(Malformed::Broken) }
    }

    fn here(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Array,
    Object,
}

impl Container {
    fn closing(self) -> u8 {
        match self {
            Self::Array => b']',
            Self::Object => b'}',
        }
    }
}

/// The open containers, one bit for each.
#[derive(Default)]
struct Nesting {
    objects: [u64; DEEPEST / 64],
    depth: usize,
}

impl Nesting {
    fn push(&mut self, container: Container) -> Result<(), Malformed> {
        let word = self.objects.get_mut(self.depth / 64).ok_or(Malformed::TooDeep)?;
        let bit = 1 << (self.depth % 64);
        match container {
            Container::Array => *word &= !bit,
            Container::Object => *word |= bit,
        }
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn innermost(&self) -> Option<Container> {
        let last = self.depth.checked_sub(1)?;
        let word = self.objects.get(last / 64)?;
        Some(if word >> (last % 64) & 1 == 1 { Container::Object } else { Container::Array })
    }
}

#[cfg(test)]
mod tests;
