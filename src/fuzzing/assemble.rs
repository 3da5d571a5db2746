//! Streams that become one body, and that body a stream again.

use serde::de::IgnoredAny;

use super::input::Input;
use crate::core::formats::assemble::{AssembleError, Assembly};
use crate::core::formats::disassemble::disassemble;
use crate::messages::endpoint::Endpoint;
use crate::messages::wire::Tokens;

type Assembled = Result<(Vec<u8>, Tokens), AssembleError>;

pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let endpoint = input.one_of(&Endpoint::ALL);
    let limit = input.one_of(&[1 << 20, 1 << 20, 300, 1000]);
    let cut = input.cut();
    let stream = input.rest();
    let whole = assembled(endpoint, limit, &[stream]);
    assert_eq!(assembled(endpoint, limit, &cut.pieces(stream)), whole);
    let Ok((body, _)) = whole else { return };
    assert!(body.len() <= 4 * limit + 1024, "what is kept is bounded");
    assert!(body.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(&body).is_ok());
    if let Ok(stream) = disassemble(endpoint, &body) {
        comes_to_itself(endpoint, &assembled(endpoint, usize::MAX >> 1, &[&stream]));
    }
}

pub(super) fn assembled(endpoint: Endpoint, limit: usize, pieces: &[&[u8]]) -> Assembled {
    let mut assembly = Assembly::new(endpoint, limit);
    let mut first = None;
    for piece in pieces {
        if let Err(error) = assembly.feed(piece) {
            assert_eq!(first.get_or_insert_with(|| error.clone()), &error, "an error stays the same");
        }
    }
    let whole = assembly.finish().map(|whole| (whole.body, whole.tokens));
    if let Some(error) = first {
        assert_eq!(whole, Err(error));
    }
    whole
}

/// A body that was made a stream loses nothing the next time.
fn comes_to_itself(endpoint: Endpoint, assembled_again: &Assembled) {
    let (body, _) = assembled_again.as_ref().unwrap();
    let stream = disassemble(endpoint, body).unwrap();
    assert_eq!(&assembled(endpoint, usize::MAX >> 1, &[&stream]), assembled_again);
}
