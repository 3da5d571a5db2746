//! Where a request refers to media, and whether the request contains them.
//!
//! A backend fetches a URL from the operator's network, with the backend's rights. Some backends also open paths on their
//! own disk. So every value at a place for media must be a `data:` URL or base64 text. Texts that mention a URL are not
//! affected: only the key decides how a value is read.
//!
//! The walk is iterative, keeps two bytes for each open container, and scans texts at memory speed. It reads JSON whose
//! grammar was checked.

use super::PolicyError;
use super::names::folded;
use crate::core::json::{Spelled, Token, Tokens};

/// Whether a request may refer to media that the backend fetches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RemoteMedia {
    /// Only media that the request contains.
    #[default]
    Refused,
    /// The operator allows it.
    Allowed,
}

/// What is checked in a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct MediaRules {
    /// Whether the values of media keys must be part of the request.
    pub(super) keys: bool,
    /// Whether images in the Markdown of texts must be, too: TGI fetches them.
    pub(super) markdown: bool,
}

/// How the value of a key is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyClass {
    /// Not relevant.
    Other,
    /// A part of the model's input, which is joined with the next part.
    Text,
    /// A text in it refers to media.
    Media,
    /// It contains a part with audio, whose `data` is media.
    Audio,
    /// It is a serialized tensor.
    Tensor,
    /// It names the type of an item.
    Type,
    /// The id of a file that is kept at the backend.
    FileId,
    /// Output of a model or a tool, which is not media whatever its keys are.
    Quoted,
}

/// Checks the value of a top-level member; `name` is the result of `names::folded`.
pub(super) fn check(name: &[u8], value: &[u8], rules: MediaRules) -> Result<(), PolicyError> {
    // Without a text there is no name.
    if memchr::memchr(b'"', value).is_none() {
        return Ok(());
    }
    let top = class_of(name, KeyClass::Other);
    // At the top level these contain the conversation.
    let top = if top == KeyClass::Quoted || name == b"prompt" { KeyClass::Text } else { top };
    Walk { rules, markdown: Markdown::default() }.pass(value, top)
}

struct Walk {
    rules: MediaRules,
    markdown: Markdown,
}

impl Walk {
    fn pass(mut self, json: &[u8], top: KeyClass) -> Result<(), PolicyError> {
        // The classes of the open containers, and of the key whose value follows. An element has the class of its list.
        let (mut open, mut class) = (Vec::new(), top);
        for token in Tokens::of(json) {
            match token.map_err(|_| PolicyError::NotAnObject)? {
                Token::Open => open.push(class),
                Token::Close => class = open.pop().unwrap_or(top),
                Token::Key(key) => class = class_of(&folded(key), open.last().copied().unwrap_or(top)),
                Token::Text(text) => self.text(text, class)?,
            }
        }
        Ok(())
    }

    /// Handles a text value, as spelled between its quotes.
    fn text(&mut self, text: &[u8], class: KeyClass) -> Result<(), PolicyError> {
        match class {
            KeyClass::Media | KeyClass::Audio if self.rules.keys && !is_contained(text) => {
                return Err(PolicyError::RemoteMedia);
            }
            KeyClass::Tensor => return Err(PolicyError::Tensor),
            KeyClass::Type if is(text, b"item_reference") => return Err(PolicyError::Stored("item_reference")),
            KeyClass::FileId if !text.is_empty() => return Err(PolicyError::Stored("file_id")),
            _ => {}
        }
        if self.rules.markdown {
            // Parts of the model's input are joined; a text between them, such as a part's type, is not one of them.
            let mut alone = Markdown::default();
            let reader = if class == KeyClass::Text { &mut self.markdown } else { &mut alone };
            if reader.reads(text) {
                return Err(PolicyError::RemoteMedia);
            }
        }
        Ok(())
    }
}

/// How the value of a key is read, given the class of the enclosing key.
fn class_of(name: &[u8], around: KeyClass) -> KeyClass {
    match name {
        _ if around == KeyClass::Quoted => KeyClass::Quoted,
        _ if around == KeyClass::Tensor => KeyClass::Tensor,
        b"input" | b"arguments" | b"annotations" | b"citations" => KeyClass::Quoted,
        b"text" | b"content" => KeyClass::Text,
        b"type" => KeyClass::Type,
        _ if name.ends_with(b"_embeds") => KeyClass::Tensor,
        b"file_id" => KeyClass::FileId,
        b"input_audio" => KeyClass::Audio,
        b"data" if around == KeyClass::Audio => KeyClass::Media,
        b"image" | b"images" | b"video" | b"videos" | b"audio" | b"audios" | b"file" | b"files" | b"media"
        | b"path" | b"input_image" | b"input_video" | b"file_data" => KeyClass::Media,
        _ if name.ends_with(b"url") || name.ends_with(b"uri") => KeyClass::Media,
        _ => KeyClass::Other,
    }
}

/// Whether a string for media contains them: as a `data:` URL, or as base64.
fn is_contained(text: &[u8]) -> bool {
    is_data_url(text) || is_base64(text)
}

fn is_data_url(text: &[u8]) -> bool {
    let scheme = Spelled::new(text).skip_while(u8::is_ascii_whitespace).take(5);
    scheme.map(|byte| byte.to_ascii_lowercase()).eq(*b"data:")
}

/// Base64 does not begin with a slash, as a path does, except for a JPEG.
fn is_base64(text: &[u8]) -> bool {
    let is_digit = |byte: u8| {
        byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
    };
    let trimmed = || Spelled::new(text).skip_while(u8::is_ascii_whitespace);
    let begins = |with: &[u8]| trimmed().take(with.len()).eq(with.iter().copied());
    (!begins(b"/") || begins(b"/9j/")) && trimmed().all(is_digit)
}

/// Whether a string is this word.
fn is(text: &[u8], word: &[u8]) -> bool {
    Spelled::new(text).eq(word.iter().copied())
}

/// Finds an image of Markdown at an `http` or `https` URL, in consecutive strings. TGI reads no other scheme except
/// `data:`, and both only in lower case.
#[derive(Default)]
struct Markdown {
    /// How many bytes of the image's beginning were just read.
    read: usize,
}

impl Markdown {
    const IMAGE: &[u8] = b"![](http";

    /// Handles the next string. Returns whether it completes the beginning of an image.
    fn reads(&mut self, text: &[u8]) -> bool {
        let mut rest = Spelled::new(text);
        loop {
            if self.read == 0 {
                rest.skip_to(b'!');
            }
            let Some(byte) = rest.next() else { return false };
            // Its first byte occurs nowhere else in it, so that after a mismatch only this byte can be a new start.
            self.read = match Self::IMAGE.get(self.read) {
                Some(expected) if *expected == byte => self.read + 1,
                _ => usize::from(byte == b'!'),
            };
            if self.read == Self::IMAGE.len() {
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests;
