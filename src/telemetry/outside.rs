//! Text from outside, made safe for a log line.

use std::fmt;

/// The most characters of it that are shown.
const SHOWN: usize = 200;

/// Shows text that a peer wrote, fit to stand between quotes: control characters, quotes and direction marks escaped,
/// bounded in length.
#[derive(Clone, Copy, Debug)]
pub struct Outside<'a>(pub &'a str);

impl fmt::Display for Outside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for c in chars.by_ref().take(SHOWN) {
            if matches!(c, '"' | '\\') {
                write!(f, "\\{c}")?;
            } else if c.is_alphanumeric() || c.is_ascii_graphic() || c == ' ' {
                write!(f, "{c}")?;
            } else {
                write!(f, "{}", c.escape_unicode())?;
            }
        }
        if chars.next().is_some() { f.write_str("…") } else { Ok(()) }
    }
}

/// The most letters that a label has.
const LABEL: usize = 64;

/// Shows text that a peer wrote where a word of the protocol belongs, if it is one. Anything else may be of somebody's
/// prompt, and only its length is shown.
#[derive(Clone, Copy, Debug)]
pub struct Label<'a>(pub &'a str);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if (1..=LABEL).contains(&self.0.len()) && self.0.bytes().all(allowed) {
            f.write_str(self.0)
        } else {
            write!(f, "({} bytes that are no name)", self.0.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_can_not_forge_a_line_or_drive_a_terminal() {
        assert_eq!(Outside("a\nb\x1b[31m\u{202e}x").to_string(), "a\\u{a}b\\u{1b}[31m\\u{202e}x");
        assert_eq!(Outside(r#"a" cause="b\"#).to_string(), r#"a\" cause=\"b\\"#);
        assert_eq!(Outside(&"x".repeat(500)).to_string().chars().count(), SHOWN + 1);
    }

    #[test]
    fn only_a_word_is_shown_as_a_label() {
        assert_eq!(Label("config_update.v2").to_string(), "config_update.v2");
        assert_eq!(Label("tell me a secret").to_string(), "(16 bytes that are no name)");
        assert_eq!(Label("").to_string(), "(0 bytes that are no name)");
        assert_eq!(Label(&"x".repeat(65)).to_string(), "(65 bytes that are no name)");
    }
}
