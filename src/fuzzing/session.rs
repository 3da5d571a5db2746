//! A session between the router and a coordinator, with a link that is cut wherever the input wants.

use super::input::Input;
use crate::core::scheduling::router::tests::sessions;

/// The least bytes that choose a step.
const STEP: usize = 6;
const MOST_STEPS: usize = 300;

pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let steps = (input.len() / STEP).min(MOST_STEPS);
    sessions::play(&mut input, steps);
}
