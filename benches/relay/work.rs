//! The works: what is asked of the agent, and which figures are taken.

use std::time::{Duration, Instant};

use outpost::messages::wire::{Extension, Extensions};
use tokio::time::sleep;

use crate::agent::Agent;
use crate::backend::{self, Phase, Plan};
use crate::coordinator::{Coordinator, Outcome};
use crate::measure::{ms, percentile, seconds};
use crate::references::{Four, Rig, Run};
use crate::report::Figure;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// 16 streams of 50 events a second.
    Paced,
    /// 8 streams at full speed, events of about 120 bytes.
    Small,
    /// 4 streams at full speed, events of 16 KB.
    Large,
    /// The same as binary frames.
    Binary,
    /// 8 streams at full speed, events of 4 KB: how evenly they share it.
    Fair,
    /// Short jobs of 5 events, 16 at a time.
    Jobs,
    /// 4,096 slow streams at once.
    Many,
    /// Requests of 8 MB, 2 at a time.
    Prompt,
    /// Nothing.
    Idle,
    /// From the start of the process to capabilities.
    Start,
}

const REQUEST: &str = r#"{"model":"bench","messages":[{"role":"user","content":"go"}],"stream":true}"#;

impl Work {
    pub const ALL: [Self; 10] = [
        Self::Paced,
        Self::Small,
        Self::Large,
        Self::Binary,
        Self::Fair,
        Self::Jobs,
        Self::Many,
        Self::Prompt,
        Self::Idle,
        Self::Start,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Paced => "paced",
            Self::Small => "small",
            Self::Large => "large",
            Self::Binary => "binary",
            Self::Fair => "fair",
            Self::Jobs => "jobs",
            Self::Many => "many",
            Self::Prompt => "prompt",
            Self::Idle => "idle",
            Self::Start => "start",
        }
    }

    pub async fn run(self) -> Vec<Figure> {
        match self {
            Self::Paced => paced().await,
            Self::Small => full_speed(8, 150_000, 40, &[]).await,
            Self::Large => full_speed(4, 12_000, 16 * 1024, &[]).await,
            Self::Binary => full_speed(4, 12_000, 16 * 1024, &[Extension::Binary]).await,
            Self::Fair => fair().await,
            Self::Jobs => jobs().await,
            Self::Many => many().await,
            Self::Prompt => prompt().await,
            Self::Idle => idle().await,
            Self::Start => start().await,
        }
    }
}

fn latencies(four: &mut Four, names: [&'static str; 2], samples: fn(&mut Outcome) -> &mut Vec<u64>) -> [Figure; 2] {
    [(names[0], 0.5), (names[1], 0.99)]
        .map(|(name, share)| four.figure(name, "ms", |run: &mut Run| ms(percentile(samples(&mut run.outcome), share))))
}

async fn paced() -> Vec<Figure> {
    let plan = Plan { events: 200, text: 40, every: Some(Duration::from_millis(20)), phase: Phase::Together };
    let mut four = Rig::start(plan, 16).await.four(16, 16, REQUEST).await;
    let mut figures = Vec::from(latencies(&mut four, ["p50", "p99"], |outcome| &mut outcome.ages));
    figures.push(four.of_processes("cpu/event", "µs", |run| seconds(run.cpu) * 1e6 / (16.0 * 200.0)));
    figures
}

async fn full_speed(streams: usize, events: usize, text: usize, offered: &[Extension]) -> Vec<Figure> {
    let mut rig = Rig::offering(offered, Plan::rush(events, text), streams).await;
    let total = (streams * events) as f64;
    rig.warm_up(streams, streams, REQUEST).await;
    let mut four = rig.four(streams, streams, REQUEST).await;
    // The bodies are the same each way. Only the agent's come without the framing of HTTP.
    let megabytes = four.outpost.outcome.bytes as f64 / 1e6;
    vec![
        four.of_processes("cpu/event", "µs", |run| seconds(run.cpu) * 1e6 / total),
        four.figure("events/s", "k", |run| total / seconds(run.elapsed) / 1e3),
        four.figure("throughput", "MB/s", |run| megabytes / seconds(run.elapsed)),
        four.of_processes("peak", "MiB", |run| run.peak),
    ]
}

async fn fair() -> Vec<Figure> {
    const STREAMS: usize = 8;
    let mut rig = Rig::start(Plan::rush(4_000, 4 * 1024), STREAMS).await;
    rig.warm_up(STREAMS, STREAMS, REQUEST).await;
    let mut four = rig.four(STREAMS, STREAMS, REQUEST).await;
    vec![four.figure("least share of a fair one", "", |run| run.outcome.least_share)]
}

async fn jobs() -> Vec<Figure> {
    const JOBS: usize = 20_000;
    let mut rig = Rig::start(Plan::rush(5, 40), 16).await;
    rig.warm_up(200, 16, REQUEST).await;
    let mut four = rig.four(JOBS, 16, REQUEST).await;
    let first_byte = |run: &mut Run| ms(percentile(&mut run.outcome.first_bytes, 0.5));
    vec![
        four.figure("jobs/s", "", |run| JOBS as f64 / seconds(run.elapsed)),
        four.figure("first byte p50", "ms", first_byte),
        four.of_processes("cpu/job", "µs", |run| seconds(run.cpu) * 1e6 / JOBS as f64),
    ]
}

async fn many() -> Vec<Figure> {
    const STREAMS: usize = 4_096;
    let plan = Plan { events: 3, text: 40, every: Some(Duration::from_secs(2)), phase: Phase::Spread };
    let mut four = Rig::start(plan, STREAMS).await.four(STREAMS, STREAMS, REQUEST).await;
    let lost = |run: &mut Run| (STREAMS * 3 - run.outcome.ages.len()) as f64;
    let mut figures = vec![four.figure("lost", "events", lost), four.of_processes("peak", "MiB", |run| run.peak)];
    figures.extend(latencies(&mut four, ["p50", "p99"], |outcome| &mut outcome.ages));
    figures
}

async fn prompt() -> Vec<Figure> {
    const JOBS: usize = 40;
    let mut rig = Rig::start(Plan::rush(5, 40), 2).await;
    // Lines of text, as prompts have them.
    let line = r#"The quick brown fox jumps over the lazy dog, and \"why\" is a question for tomorrow.\n"#;
    let text = line.repeat(8_000_000 / line.len());
    let request = format!(r#"{{"model":"bench","messages":[{{"role":"user","content":"{text}"}}],"stream":true}}"#);
    let mut four = rig.four(JOBS, 2, &request).await;
    vec![
        four.of_processes("cpu/job", "ms", |run| seconds(run.cpu) * 1e3 / JOBS as f64),
        four.figure("jobs/s", "", |run| JOBS as f64 / seconds(run.elapsed)),
        four.of_processes("peak", "MiB", |run| run.peak),
    ]
}

async fn idle() -> Vec<Figure> {
    const FOR: Duration = Duration::from_secs(4);
    let rig = Rig::start(Plan::rush(1, 1), 8).await;
    sleep(Duration::from_millis(500)).await;
    let before = rig.outpost.agent.process.wakeups();
    sleep(FOR).await;
    let wakeups = (rig.outpost.agent.process.wakeups() - before) / seconds(FOR);
    vec![Figure::new("resident", "MiB", rig.outpost.agent.process.resident()), Figure::new("wake-ups", "/s", wakeups)]
}

async fn start() -> Vec<Figure> {
    let (backend, serving) = backend::start(Plan::rush(1, 1)).await;
    let (hole, holding) = backend::hole().await;
    let mut figures = Vec::new();
    // A restart: the identity is there. Making one waits for the disk.
    let home = tempfile::tempdir().unwrap();
    for (name, backends) in [
        ("to capabilities", format!("openai=http://{backend}")),
        ("with one that hangs", format!("openai=http://{backend},vllm=http://{hole}")),
    ] {
        let mut samples = Vec::new();
        for _ in 0..5 {
            let coordinator = Coordinator::bind().await;
            let started = Instant::now();
            let agent = Agent::start_at(home.path(), coordinator.addr(), &backends, 8);
            let mut session = coordinator.accept(Extensions::NONE).await;
            session.offered().await;
            samples.push(u64::try_from(started.elapsed().as_nanos()).unwrap());
            drop(agent);
        }
        figures.push(Figure::new(name, "ms", ms(percentile(&mut samples, 0.5))));
    }
    serving.abort();
    holding.abort();
    figures
}
