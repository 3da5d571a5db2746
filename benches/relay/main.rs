//! The relay path from outside: the built binary between a mock coordinator and a mock backend, against two references in
//! the same run. The floor is a client that reads the backend directly. The hop is the same client behind a process of one
//! thread that only copies bytes. CPU and memory are those of the process between. Each work runs a second time with `resume`
//! agreed on and all bytes acknowledged.
//!
//! `cargo bench --bench relay [-- WORK…] [--rounds N] [--json] [--svg PATH]`

#![allow(clippy::disallowed_methods, reason = "a program of its own, with its own runtime and the real clock")]

mod agent;
mod backend;
mod coordinator;
mod floor;
mod hop;
mod measure;
mod process;
mod references;
mod report;
mod work;

use std::process::ExitCode;

use report::{Row, Style};
use work::Work;

fn main() -> ExitCode {
    let mut rounds = 3_usize;
    let mut style = Style::default();
    let mut chosen = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            // What cargo passes to every benchmark.
            "--bench" => {}
            hop::ARGUMENT => {
                hop::main(words.next().and_then(|addr| addr.parse().ok()).unwrap());
                return ExitCode::SUCCESS;
            }
            "--json" => style.json = true,
            "--svg" => style.svg = words.next().map(Into::into),
            "--rounds" => rounds = words.next().and_then(|count| count.parse().ok()).unwrap_or(rounds),
            name => match Work::ALL.into_iter().find(|work| work.name() == name) {
                Some(work) => chosen.push(work),
                None => {
                    let names: Vec<_> = Work::ALL.iter().map(|work| work.name()).collect();
                    eprintln!("relay: no work named {name}; there are: {}", names.join(", "));
                    return ExitCode::from(64);
                }
            },
        }
    }
    if chosen.is_empty() {
        chosen.extend(Work::ALL);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut rows: Vec<Row> = Vec::new();
    for work in chosen {
        let mut found = Vec::new();
        for round in 1..=rounds {
            eprintln!("{} round {round} of {rounds}", work.name());
            // On a worker as its peers are: the main thread would be woken by one, which takes longer.
            found.push(runtime.block_on(runtime.spawn(work.run())).unwrap());
        }
        rows.push(Row::median(work.name(), found));
    }
    report::print(&rows, &style);
    ExitCode::SUCCESS
}
