//! A model check of sessions: every state that the agent's router and the coordinator's session can get into together, while
//! connections between them are cut at any point. Both ends are the code that runs; only their drivers are the model's.

mod agent;
mod checker;
mod client;
mod coordinator;
mod link;
mod world;

use checker::visit;
use world::Bounds;

fn bounds(text: &str) -> Bounds {
    let mut b = Bounds::LEAST;
    for part in text.split_whitespace() {
        let (k, v) = part.split_once('=').unwrap();
        let v: u8 = v.parse().unwrap();
        match k {
            "jobs" => b.jobs = v,
            "slots" => b.slots = v.into(),
            "bytes" => b.bytes = v.into(),
            "room" => b.room = v.into(),
            "cuts" => b.cuts = v,
            "cancels" => b.cancels = v,
            "handovers" => b.handovers = v,
            "ticks" => b.ticks = v,
            "failures" => b.failures = v,
            "stops" => b.stops = v,
            "resumes" => b.resumes = v > 0,
            "reports" => b.reports = v > 0,
            _ => panic!("{k}"),
        }
    }
    b
}

#[test]
fn least() {
    #[allow(clippy::disallowed_methods)]
    let start = std::time::Instant::now();
    let visited = visit(bounds(&std::env::var("B").unwrap_or_default()));
    println!("{visited:?} {:?}", start.elapsed());
}
