//! Finds the events of a stream that have to be parsed, by words in them. Used by the scan of usage, which sees every byte of
//! every response.

use memchr::memchr_iter;
use memchr::memmem::Finder;

/// From this length on, in bytes, the data is searched once for quotes instead of once for each word.
const LONG: usize = 1024;

/// Words of JSON with the quote that each begins with. Within generated text that quote would be escaped.
pub(super) struct Marks<const N: usize> {
    words: [Finder<'static>; N],
}

impl<const N: usize> Marks<N> {
    /// The marks of these words, each of which begins with a quote.
    pub(super) fn new(words: [&'static str; N]) -> Self {
        debug_assert!(words.iter().all(|word| word.starts_with('"')));
        Self { words: words.map(Finder::new) }
    }

    /// Whether any of the words is in the data.
    pub(super) fn is_any_in(&self, data: &[u8]) -> bool {
        if data.len() < LONG {
            return self.words.iter().any(|word| word.find(data).is_some());
        }
        memchr_iter(b'"', data)
            .filter_map(|at| data.get(at..))
            .any(|rest| self.words.iter().any(|word| rest.starts_with(word.needle())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_wherever_it_is_in_short_and_in_long_data() {
        let marks = Marks::new(["\"usage\"", "\"error\""]);
        for len in [0, 1, 100, LONG - 8, LONG, 5 * LONG] {
            let text = "x\\\"".repeat(len / 3);
            for word in ["\"usage\"", "\"error\""] {
                for data in [format!("{word}{text}"), format!("{text}{word}"), format!("{text}{word}{text}")] {
                    assert!(marks.is_any_in(data.as_bytes()), "{word} in {} bytes", data.len());
                }
            }
            for none in [format!("{text}\"usag"), format!("{text} usage\""), format!("\"error{text}")] {
                assert!(!marks.is_any_in(none.as_bytes()), "{} bytes", none.len());
            }
        }
    }
}
