//! Untrusted text, made safe for a log line or a terminal. Everything that shows such text escapes it here: the log, the
//! commands, and the report of a wrong configuration.

use std::fmt;

/// The most characters of it that are shown.
const SHOWN: usize = 200;

/// Shows text that a peer wrote, fit to stand between quotes: control characters, quotes and direction marks escaped,
/// bounded in length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Untrusted<'a>(pub &'a str);

impl Untrusted<'_> {
    /// The same text without any escapes, bounded in length: for a form that has its own.
    pub(crate) fn shortened(text: &str) -> String {
        let mut chars = text.chars();
        let mut shown: String = chars.by_ref().take(SHOWN).collect();
        if chars.next().is_some() {
            shown.push('…');
        }
        shown
    }
}

impl fmt::Display for Untrusted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for c in chars.by_ref().take(SHOWN) {
            if matches!(c, '"' | '\\') {
                write!(f, "\\{c}")?;
            } else if is_harmless(c) {
                write!(f, "{c}")?;
            } else {
                write!(f, "{}", c.escape_unicode())?;
            }
        }
        if chars.next().is_some() { f.write_str("…") } else { Ok(()) }
    }
}

/// Shows JSON text with every character in its strings escaped that could drive a terminal, or end single quotes in a
/// shell's line. It is the same JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UntrustedJson<'a>(pub &'a str);

impl fmt::Display for UntrustedJson<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            // A line break is between values: in a string it is escaped already.
            if c != '\'' && (is_harmless(c) || c == '\n') {
                write!(f, "{c}")?;
            } else {
                // Such characters are only in strings, where any character may be escaped.
                c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(f, "\\u{unit:04x}"))?;
            }
        }
        Ok(())
    }
}

fn is_harmless(c: char) -> bool {
    c.is_alphanumeric() || c.is_ascii_graphic() || c == ' '
}

/// The most letters that a label has.
const LABEL: usize = 64;

/// Shows text that a peer wrote where a word of the protocol belongs, if it is one. Anything else may be part of a
/// prompt, so only its length is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label<'a>(pub &'a str);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if (1..=LABEL).contains(&self.0.len()) && self.0.bytes().all(allowed) {
            f.write_str(self.0)
        } else {
            write!(f, "({} bytes that are not a name)", self.0.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_text_can_not_forge_a_line_or_drive_a_terminal() {
        assert_eq!(Untrusted("a\nb\x1b[31m\u{202e}x").to_string(), "a\\u{a}b\\u{1b}[31m\\u{202e}x");
        assert_eq!(Untrusted(r#"a" cause="b\"#).to_string(), r#"a\" cause=\"b\\"#);
        assert_eq!(Untrusted(&"x".repeat(500)).to_string().chars().count(), SHOWN + 1);
    }

    #[test]
    fn escaped_json_is_the_same_json_without_what_drives_a_terminal_or_ends_quotes() {
        let value = "a\u{9b}31m\u{202e}\u{7f}\u{1b}'\"\\\né漢\u{1f600}";
        let json = serde_json::to_string_pretty(&[value]).unwrap();
        let escaped = UntrustedJson(&json).to_string();
        assert_eq!(serde_json::from_str::<[String; 1]>(&escaped).unwrap(), [value]);
        assert!(escaped.chars().all(|c| c != '\'' && (is_harmless(c) || c == '\n')), "{escaped}");
        assert!(escaped.contains("é漢\\ud83d\\ude00"), "{escaped}");
    }

    #[test]
    fn only_a_word_is_shown_as_a_label() {
        assert_eq!(Label("config_update.v2").to_string(), "config_update.v2");
        assert_eq!(Label("tell me a secret").to_string(), "(16 bytes that are not a name)");
        assert_eq!(Label("").to_string(), "(0 bytes that are not a name)");
        assert_eq!(Label(&"x".repeat(65)).to_string(), "(65 bytes that are not a name)");
    }
}
