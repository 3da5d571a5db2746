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
//! A few seeds run with the other tests, many by `scripts/simulation.sh`, which also repeats one exactly.

mod backend;
mod client;
mod faults;
mod network;
mod order;
mod system;

use std::ops::Range;

use outpost::testkit::System;

use crate::system::Totals;

/// Runs one seed after the other, each with so many jobs.
fn run(seeds: Range<u64>, jobs: u64) -> Totals {
    let mut totals = Totals::default();
    for seed in seeds {
        // On a thread of its own, so that it does not depend on the seeds before it.
        let one = std::thread::spawn(move || {
            let (result, totals) = std::sync::mpsc::channel();
            System::new().block_on(async move { drop(result.send(system::run(seed, jobs).await)) });
            totals.recv().expect("the totals of a seed that ended")
        });
        let Ok(one) = one.join() else { panic!("seed {seed} failed; scripts/simulation.sh {seed} {jobs} repeats it") };
        totals.add(&one);
    }
    totals
}

#[test]
fn nothing_is_lost_or_doubled_whatever_fails() {
    let totals = run(0..8, 120);
    assert!(totals.cuts > 20 && totals.handovers > 2 && totals.kills > 2, "little happened: {totals:?}");
}

#[test]
#[ignore = "scripts/simulation.sh runs it"]
fn many() {
    // With RUST_LOG=debug the coordinators' log.
    env_logger::Builder::from_default_env()
        .format(|out, record| {
            use std::io::Write;
            let mut fields = Vec::new();
            struct Fields<'a>(&'a mut Vec<String>);
            impl<'kvs> log::kv::VisitSource<'kvs> for Fields<'_> {
                fn visit_pair(
                    &mut self,
                    key: log::kv::Key<'kvs>,
                    value: log::kv::Value<'kvs>,
                ) -> Result<(), log::kv::Error> {
                    self.0.push(format!("{key}={value}"));
                    Ok(())
                }
            }
            let _ = record.key_values().visit(&mut Fields(&mut fields));
            writeln!(out, "{} {} {}", record.target(), record.args(), fields.join(" "))
        })
        .init();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (first, seeds, jobs) = (number("FIRST_SEED"), number("SEEDS"), number("JOBS"));
    let first = first.unwrap_or(0);
    println!("{}", run(first..first + seeds.unwrap_or(1), jobs.unwrap_or(1000)));
}
