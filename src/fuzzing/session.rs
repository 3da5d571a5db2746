//! A session of an agent with a coordinator: what happens, and when a connection is cut, is chosen by the input.

use super::input::Input;
use crate::coordinator::random_sessions::play;

/// The least bytes that choose a step.
const STEP: usize = 6;
const MOST_STEPS: usize = 300;

pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let steps = (input.len() / STEP).min(MOST_STEPS);
    play(&mut input, steps);
}
