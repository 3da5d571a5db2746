//! Random sequences: larger worlds than can be visited as a whole, with long responses, and with nonsense. The fuzzer makes
//! sequences too, of its inputs.

use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

use super::world::{Action, Bounds, World};
use crate::messages::wire::Taken;

const BOUNDS: Bounds = Bounds {
    jobs: 24,
    slots: 3,
    excess: 1,
    bytes: 40,
    room: 12,
    cuts: 24,
    late: 24,
    cancels: 12,
    handovers: 12,
    restarts: 2,
    ticks: 12,
    failures: 12,
    stops: 0,
    acks: 255,
    resumes: true,
    is_coarse: false,
    reports: false,
};

/// Does one of the actions, more often ordinary work than anything else.
fn step(world: &mut World, chance: &mut impl Rng) {
    let wants_work = chance.random_bool(0.9);
    let of_kind: Vec<Action> =
        world.actions().into_iter().filter(|it| (it.is_work() || *it == Action::Send) == wants_work).collect();
    if let Some(action) = of_kind.choose(chance) {
        world.act(*action);
    }
    world.check();
    if chance.random_bool(0.02) {
        let (job, _) = *world.coordinator.clients.choose(chance).expect("a client");
        let taken = if chance.random() { Taken::Bytes(u64::MAX) } else { Taken::Bytes(0) };
        world.links.iter().for_each(|link| world.agent.router.acknowledged(link.generation, job, taken));
    }
}

/// Lets everything that was begun come to its end.
fn finish(world: &mut World, chance: &mut impl Rng) {
    for _ in 0..100_000 {
        let work: Vec<Action> = world.actions().into_iter().filter(|action| action.is_work()).collect();
        match work.choose(chance) {
            Some(action) => world.act(*action),
            None => break,
        };
    }
    assert!(world.is_quiet(), "KEPT: something is kept for ever");
}

/// Plays a sequence of so many steps, and lets everything come to its end.
pub(crate) fn play(chance: &mut impl Rng, steps: usize) {
    let (resumes, stops) = (chance.random_bool(0.75), u8::from(chance.random_bool(0.125)));
    let mut world = World::new(Bounds { resumes, stops, ..BOUNDS });
    (0..steps).for_each(|_| step(&mut world, chance));
    finish(&mut world, chance);
}

#[test]
#[expect(clippy::print_stdout, reason = "shown if it fails")]
fn whatever_is_cut_each_client_gets_every_byte_once_and_one_end() {
    use rand::SeedableRng;

    for seed in 0..500 {
        println!("seed {seed}");
        play(&mut rand::rngs::Xoshiro256PlusPlus::seed_from_u64(seed), 300);
    }
}
