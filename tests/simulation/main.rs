//! Whole systems in one virtual time: agents, coordinators behind a balancer, inference servers and clients, while connections
//! are cut and everything is restarted at moments that a seed chooses.
//!
//! Of all jobs none is lost, none is answered twice, and every byte is right:
//!
//! - a job whose response its backend did not break off, and in whose time no process was killed, ends with the whole response,
//!   and ran once at the backends;
//! - any other job ends, too: whole, or with an error behind a right beginning;
//! - at the end nothing is in flight at any coordinator, agent or backend.
//!
//! A few seeds run with the other tests, many by `scripts/simulation.sh`, with which a seed that fails fails again.
#![expect(clippy::disallowed_methods, reason = "tasks end with the system of their seed")]

mod backend;
mod client;
mod faults;
mod network;
mod order;
mod system;

use std::thread;
use std::time::Duration;

use outpost::testkit::System;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use tokio::time::sleep;

use crate::order::Order;
use crate::system::{Totals, World};

/// Runs a seed with so many jobs, on a thread of its own: it does not depend on the seeds before it.
fn run(seed: u64, jobs: u64) -> Totals {
    let (result, totals) = std::sync::mpsc::channel();
    let one = thread::spawn(move || {
        System::new().block_on(async move { drop(result.send(system::run(seed, jobs).await)) });
    });
    assert!(one.join().is_ok(), "seed {seed} failed; SEED={seed} scripts/simulation.sh 1 {jobs} runs it alone");
    totals.recv().expect("the totals of a seed that ended")
}

#[test]
fn nothing_is_lost_or_doubled_whatever_fails() {
    let totals: Vec<Totals> = thread::scope(|scope| {
        let seeds: Vec<_> = (0..8).map(|seed| scope.spawn(move || run(seed, 120))).collect();
        seeds.into_iter().map(|seed| seed.join().expect("a seed that holds")).collect()
    });
    let sum = |of: fn(&Totals) -> u64| totals.iter().map(of).sum::<u64>();
    let (cuts, handovers, kills) = (sum(|it| it.cuts), sum(|it| it.handovers), sum(|it| it.kills));
    assert!(cuts > 20 && handovers > 2 && kills > 2, "little happened: {totals:?}");
}

#[test]
fn a_coordinator_that_stops_waits_for_a_client_that_reads_slowly() {
    System::new().block_on(async {
        let order = Order { job: 0, attempt: 0, streams: true, events: 20, gap: 0, size: 10, fault: None };
        let world = World::start(Xoshiro256PlusPlus::seed_from_u64(0)).await;
        // All agents are at the first one.
        world.balancer.is_ready.borrow_mut()[1] = false;
        sleep(Duration::from_secs(1)).await;
        let coordinator = world.balancer.for_client().expect("a coordinator");
        let mut response = coordinator.post("/v1/chat/completions", order.request()).await.expect("a response");
        world.balancer.is_ready.borrow_mut()[1] = true;
        world.hand_over(0, Duration::ZERO);
        let mut body = Vec::new();
        while let Some(piece) = response.next().await {
            body.extend_from_slice(&piece.expect("the coordinator waits"));
            sleep(Duration::from_secs(3)).await;
        }
        assert_eq!(body, order.stream());
        drop(response);
        world.finish().await;
    });
}

#[test]
#[ignore = "scripts/simulation.sh runs it"]
fn seed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number("SEED").expect("a seed in SEED");
    println!("seed={seed} {}", run(seed, number("JOBS").unwrap_or(1000)));
}
