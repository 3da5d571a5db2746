//! Finds the API key of a backend in a text, in every encoding that a server may use. Used before the text of an error is
//! sent to the coordinator, because servers echo request headers in their errors. It reveals nothing of the key except
//! whether a text contains it.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use memchr::{memchr, memmem};
use zeroize::Zeroizing;

use crate::messages::secret::Secret;

/// A shorter key is a placeholder.
const SHORTEST: usize = 4;
/// The shortest part of a key's base64 that is searched for.
const SHORTEST_BASE64: usize = 8;
/// How often a text is decoded: JSON may be nested in JSON.
const DECODED: u32 = 3;
/// A key of fewer characters, such as `lm-studio` or `test`, may occur in a long text by chance.
const SHORTEST_RARE: usize = 16;
/// The most bytes of a character of the key in the encodings that are searched for.
const LONGEST_CHARACTER: usize = 16;

/// The patterns of a key in a text. It shows none of them, and they are erased from memory on drop.
pub struct KeyTrace {
    /// The key, and the part of its base64 that is the same at every position in a longer text.
    spellings: Vec<Zeroizing<Vec<u8>>>,
    length: usize,
}

impl KeyTrace {
    /// The patterns of this key. `None` if it is too short to be a key.
    pub fn of(key: &Secret) -> Option<Self> {
        let key = key.reveal().as_bytes();
        if key.len() < SHORTEST {
            return None;
        }
        let mut spellings = vec![Zeroizing::new(key.to_vec())];
        // The text before the key, and how many characters contain bits of that.
        for (before, from) in [(&b""[..], 0), (b".", 2), (b"..", 3)] {
            let text = Zeroizing::new([before, key].concat());
            let all = Zeroizing::new(STANDARD_NO_PAD.encode(&*text));
            // A last character that is not filled by the key's bits contains bits of the following text.
            let to = text.len() * 8 / 6;
            let Some(inner) = all.as_bytes().get(from..to).filter(|inner| inner.len() >= SHORTEST_BASE64) else {
                continue;
            };
            let in_urls: Vec<u8> = inner.iter().map(|byte| in_url(*byte)).collect();
            if in_urls != inner {
                spellings.push(Zeroizing::new(in_urls));
            }
            spellings.push(Zeroizing::new(inner.to_vec()));
        }
        Some(Self { spellings, length: key.len() })
    }

    /// Whether the key is in a text: unchanged, in base64, or escaped for JSON or a URL, also several times.
    pub fn is_in(&self, text: &[u8]) -> bool {
        self.is_in_decoded(text, DECODED)
    }

    /// Whether a text that contains the key contains it because it quotes it, and not by chance.
    pub fn is_rare(&self) -> bool {
        self.length >= SHORTEST_RARE
    }

    /// The most bytes of the key in a text.
    pub(super) fn longest(&self) -> usize {
        self.length.saturating_mul(LONGEST_CHARACTER)
    }

    fn is_in_decoded(&self, text: &[u8], more: u32) -> bool {
        if self.spellings.iter().any(|spelling| memmem::find(text, spelling).is_some()) {
            return true;
        }
        let is_behind = |decoded: Cow<'_, [u8]>| match decoded {
            Cow::Owned(decoded) => self.is_in_decoded(&Zeroizing::new(decoded), more - 1),
            Cow::Borrowed(_) => false,
        };
        more > 0 && (is_behind(without_backslashes(text)) || is_behind(percent_encoding::percent_decode(text).into()))
    }
}

fn in_url(byte: u8) -> u8 {
    match byte {
        b'+' => b'-',
        b'/' => b'_',
        other => other,
    }
}

/// A text without the escapes of JSON and most languages. A key is ASCII, so other characters do not matter.
fn without_backslashes(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr(b'\\', text) else { return Cow::Borrowed(text) };
    let (plain, mut rest) = text.split_at(first);
    // The caller erases it from memory.
    let mut decoded = Vec::with_capacity(text.len());
    decoded.extend_from_slice(plain);
    while let Some((&byte, tail)) = rest.split_first() {
        let (byte, taken) = match (byte, tail) {
            (b'\\', [b'u', digits @ ..]) => coded(digits, 4).map_or((byte, 0), |byte| (byte, 5)),
            (b'\\', [b'x', digits @ ..]) => coded(digits, 2).map_or((byte, 0), |byte| (byte, 3)),
            (b'\\', [escaped, ..]) => (*escaped, 1),
            _ => (byte, 0),
        };
        decoded.push(byte);
        rest = tail.get(taken..).unwrap_or_default();
    }
    Cow::Owned(decoded)
}

/// The byte that these hexadecimal digits represent.
fn coded(digits: &[u8], count: usize) -> Option<u8> {
    let digits = std::str::from_utf8(digits.get(..count)?).ok()?;
    u8::from_str_radix(digits.trim_start_matches('0'), 16).ok()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    use super::*;

    const KEY: &str = "sk-CANARY/0?x+\"y~end";

    fn trace() -> KeyTrace {
        KeyTrace::of(&Secret::new(KEY)).unwrap()
    }

    fn json(text: &str) -> String {
        serde_json::to_string(text).unwrap()
    }

    fn in_url(text: &str) -> String {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    }

    #[test]
    fn a_key_is_found_in_every_encoding() {
        let every = KEY.bytes().map(|byte| format!("\\u{byte:04x}")).collect::<String>();
        let python = KEY.bytes().map(|byte| format!("\\x{byte:02X}")).collect::<String>();
        for spelled in [
            KEY.to_owned(),
            json(KEY),
            json(&json(KEY)),
            json(KEY).replace('/', "\\/"),
            in_url(KEY),
            in_url(KEY).to_lowercase().replace("canary", "CANARY"),
            in_url(&json(KEY)),
            json(&in_url(&json(KEY))),
            every,
            python,
            json(&STANDARD.encode(format!("user:{KEY}"))),
        ] {
            assert!(trace().is_in(format!("headers: {{'authorization': 'Bearer {spelled}'}}").as_bytes()), "{spelled}");
        }
        for before in ["", "a", "ab", "Bearer ", "user:", "Authorization: Bearer "] {
            for behind in ["", "z", "\r\n", "\r\nhost: x"] {
                let text = format!("{before}{KEY}{behind}");
                assert!(trace().is_in(STANDARD.encode(&text).as_bytes()), "{text}");
                assert!(trace().is_in(URL_SAFE.encode(&text).as_bytes()), "{text}");
            }
        }
    }

    #[test]
    fn other_texts_do_not_hold_it() {
        let almost = &KEY[..KEY.len() - 1];
        for text in
            ["", "\\", "\\u", "\\u12", "%", "%4", "\\x4", almost, &json(almost), &STANDARD.encode("sk-CANARZ/0?x+")]
        {
            assert!(!trace().is_in(text.as_bytes()), "{text}");
        }
        assert!(KeyTrace::of(&Secret::new("abc")).is_none(), "a placeholder");
        let short = KeyTrace::of(&Secret::new("test")).unwrap();
        assert!(short.is_in(b"a test") && !short.is_in(b"dGVz"));
    }
}
