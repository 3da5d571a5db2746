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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_can_not_forge_a_line_or_drive_a_terminal() {
        assert_eq!(Outside("a\nb\x1b[31m\u{202e}x").to_string(), "a\\u{a}b\\u{1b}[31m\\u{202e}x");
        assert_eq!(Outside(r#"a" cause="b\"#).to_string(), r#"a\" cause=\"b\\"#);
        assert_eq!(Outside(&"x".repeat(500)).to_string().chars().count(), SHOWN + 1);
    }
}
