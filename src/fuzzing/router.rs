//! The router's state machine in a simulated world: its servers, and what happens, are chosen by the input.

use super::input::Input;
use crate::core::scheduling::router::tests::sequences::Sequence;

/// The least bytes that choose a step.
const STEP: usize = 6;
const MOST_STEPS: usize = 300;

pub fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let steps = (input.len() / STEP).min(MOST_STEPS);
    Sequence::of(&mut input, steps).play();
}
