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

use outpost::testkit::System;

use crate::system::Totals;

/// Runs a seed with so many jobs, on a thread of its own: it does not depend on the seeds before it.
fn run(seed: u64, jobs: u64) -> Totals {
    let (result, totals) = std::sync::mpsc::channel();
    let one = thread::spawn(move || {
        System::new().block_on(async move { drop(result.send(system::run(seed, jobs).await)) });
    });
    assert!(one.join().is_ok(), "seed {seed} failed; SEED={seed} scripts/simulation.sh 1 {jobs} looks at it alone");
    totals.recv().expect("the totals of a seed that ended")
}

#[test]
fn nothing_is_lost_or_doubled_whatever_fails() {
    let totals: Vec<Totals> = (0..8).map(|seed| run(seed, 120)).collect();
    let sum = |of: fn(&Totals) -> u64| totals.iter().map(of).sum::<u64>();
    let (cuts, handovers, kills) = (sum(|it| it.cuts), sum(|it| it.handovers), sum(|it| it.kills));
    assert!(cuts > 20 && handovers > 2 && kills > 2, "little happened: {totals:?}");
}

#[test]
#[ignore = "scripts/simulation.sh runs it"]
fn seed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number("SEED").expect("a seed in SEED");
    println!("seed={seed} {}", run(seed, number("JOBS").unwrap_or(1000)));
}
