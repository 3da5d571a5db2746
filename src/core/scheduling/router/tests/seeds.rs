//! Ten thousand random sequences, and which of their steps a failure needs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use super::sequences::Sequence;

const SEQUENCES: u64 = 10_000;
const INPUTS: usize = 200;

impl Sequence {
    fn of_seed(seed: u64) -> Self {
        Self::of(&mut Xoshiro256PlusPlus::seed_from_u64(seed), INPUTS)
    }

    fn fails(&self) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.play())).is_err()
    }

    /// Leaves out steps that are not needed for the failure.
    fn shrink(mut self) -> Self {
        let mut size = self.steps.len();
        while size > 0 {
            let mut from = 0;
            while from < self.steps.len() {
                let mut less = self.steps.clone();
                less.drain(from..(from + size).min(self.steps.len()));
                let less = Self { servers: self.servers.clone(), budget: self.budget, steps: less };
                if less.fails() { self = less } else { from += size }
            }
            size /= 2;
        }
        self
    }
}

/// Runs every fourth seed. A failing one is printed with the steps that it needs.
fn play_every_fourth(first: u64) {
    for seed in (first..SEQUENCES).step_by(4) {
        let sequence = Sequence::of_seed(seed);
        if sequence.fails() {
            let Sequence { servers, budget, steps } = sequence.shrink();
            let failure = catch_unwind(AssertUnwindSafe(|| {
                Sequence { servers: servers.clone(), budget, steps: steps.clone() }.play();
            }));
            let failure = failure.expect_err("it fails");
            let text = failure.downcast_ref::<String>().map(String::as_str).or(failure.downcast_ref::<&str>().copied());
            panic!("seed {seed}: {text:?}\nbudget {budget:?}\n{servers:#?}\n{steps:#?}");
        }
    }
}

// Four tests, so that they run in parallel.

#[test]
fn the_invariants_hold_and_the_router_recovers_in_the_first_quarter_of_the_sequences() {
    play_every_fourth(0);
}

#[test]
fn the_invariants_hold_and_the_router_recovers_in_the_second_quarter_of_the_sequences() {
    play_every_fourth(1);
}

#[test]
fn the_invariants_hold_and_the_router_recovers_in_the_third_quarter_of_the_sequences() {
    play_every_fourth(2);
}

#[test]
fn the_invariants_hold_and_the_router_recovers_in_the_fourth_quarter_of_the_sequences() {
    play_every_fourth(3);
}
