//! What goes wrong, and when.

use std::rc::Rc;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use tokio::time::{Instant, sleep};

use crate::network::LinkState;
use crate::system::World;

/// Has something go wrong every few seconds, until all jobs have ended. `kills`: processes are killed, too.
pub(crate) async fn happen(world: Rc<World>, mut chance: Xoshiro256PlusPlus, kills: bool) {
    while !world.is_over() {
        sleep(Duration::from_millis(chance.random_range(100..3000))).await;
        let agent = chance.random_range(0..world.uplinks.len());
        match chance.random_range(0..if kills { 20 } else { 17 }) {
            0..6 => break_connection(&world, agent, &mut chance),
            6 | 7 => be_silent(&world, agent, &mut chance),
            8..11 => {
                let delay = if chance.random() { 0 } else { chance.random_range(1..600) };
                world.uplinks[agent].delay.set(Duration::from_millis(delay));
            }
            11 => {
                let out = Duration::from_millis(chance.random_range(500..20_000));
                world.uplinks[agent].out_until.set(Some(Instant::now() + out));
                break_connection(&world, agent, &mut chance);
            }
            12 | 13 => {
                let backend = world.backends.choose(&mut chance).expect("a backend").clone();
                let time = Duration::from_millis(chance.random_range(1..6000));
                actix_rt::spawn(async move {
                    backend.set_down(true);
                    sleep(time).await;
                    backend.set_down(false);
                });
            }
            14 | 15 => {
                // A job is lost with a coordinator that stops while its agent has no connection: the balancer does not lead the
                // agent back there. Without kills, nothing may be lost.
                while !kills && !world.is_calm() {
                    sleep(Duration::from_secs(1)).await;
                }
                world.hand_over(chance.random_range(0..2), span(&mut chance, 4000));
                while !kills && world.is_handing_over() {
                    sleep(Duration::from_secs(1)).await;
                }
            }
            16 => world.restart_agent(agent, false),
            17 | 18 => {
                world.kill_coordinator(chance.random_range(0..2), Duration::from_millis(chance.random_range(0..4000)))
            }
            _ => world.restart_agent(agent, true),
        }
    }
}

fn span(chance: &mut impl Rng, longest: u64) -> Duration {
    Duration::from_millis(chance.random_range(0..longest))
}

/// Cuts a connection. Either end may notice later.
fn break_connection(world: &Rc<World>, agent: usize, chance: &mut impl Rng) {
    let Some(link) = world.uplinks[agent].links().pop() else { return };
    world.count(|totals| totals.cuts += 1);
    excuse_in_handover(world);
    let first = *[LinkState::Cut, LinkState::Cut, LinkState::AgentGone, LinkState::CoordinatorGone]
        .choose(chance)
        .expect("a state");
    let later = span(chance, 50_000);
    world.note_trouble(later);
    world.note(format!("connection of {agent}: {first:?}, cut after {later:?}"));
    link.set(first);
    actix_rt::spawn(async move {
        sleep(later).await;
        link.set(LinkState::Cut);
    });
}

/// Lets nothing through for a while, which may be longer than what the ends wait for.
fn be_silent(world: &Rc<World>, agent: usize, chance: &mut impl Rng) {
    let Some(link) = world.uplinks[agent].links().pop() else { return };
    world.count(|totals| totals.silences += 1);
    excuse_in_handover(world);
    let time = span(chance, 90_000);
    // The ends wait for a sign of life.
    world.note_trouble(time + Duration::from_secs(60));
    world.note(format!("connection of {agent}: silent for {time:?}"));
    link.set(LinkState::Silent);
    let world = Rc::clone(world);
    actix_rt::spawn(async move {
        sleep(time).await;
        link.set(if time > Duration::from_secs(60) || world.is_over() { LinkState::Cut } else { LinkState::Flows });
    });
}

/// With a connection to a coordinator that stops, its jobs are lost. Without kills there is no fault during a handover.
fn excuse_in_handover(world: &World) {
    if world.is_handing_over() {
        world.excuse();
    }
}
