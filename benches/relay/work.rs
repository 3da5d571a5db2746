//! The works: what is asked of the agent, and which figures are taken.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use outpost::messages::wire::{Extension, Extensions};
use tokio::time::sleep;

use crate::agent::Agent;
use crate::backend::{self, Phase, Plan};
use crate::coordinator::{self, Coordinator, Outcome, Session};
use crate::measure::{ms, percentile, seconds};
use crate::{floor, report::Figure};

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

struct Rig {
    agent: Agent,
    session: Session,
    backend: SocketAddr,
    serving: tokio::task::JoinHandle<()>,
}

impl Rig {
    async fn start(plan: Plan, max_concurrent: usize) -> Self {
        Self::offering(Extensions::NONE, plan, max_concurrent).await
    }

    /// With a coordinator that offers extensions.
    async fn offering(offered: Extensions, plan: Plan, max_concurrent: usize) -> Self {
        let (backend, serving) = backend::start(plan).await;
        let coordinator = Coordinator::bind().await;
        let agent = Agent::start(coordinator.addr(), &format!("openai=http://{backend}"), max_concurrent);
        let mut session = coordinator.accept(offered).await;
        session.offered().await;
        Self { agent, session, backend, serving }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A run through the agent, and the processor time it cost.
struct Run {
    outcome: Outcome,
    elapsed: Duration,
    cpu: Duration,
}

const REQUEST: &str = r#"{"model":"bench","messages":[{"role":"user","content":"go"}],"stream":true}"#;

impl Work {
    pub const ALL: [Self; 9] = [
        Self::Paced,
        Self::Small,
        Self::Large,
        Self::Binary,
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
            Self::Small => full_speed(8, 20_000, 40, Extensions::NONE).await,
            Self::Large => full_speed(4, 3_000, 16 * 1024, Extensions::NONE).await,
            Self::Binary => full_speed(4, 3_000, 16 * 1024, Extensions::from_iter([Extension::Binary])).await,
            Self::Jobs => jobs().await,
            Self::Many => many().await,
            Self::Prompt => prompt().await,
            Self::Idle => idle().await,
            Self::Start => start().await,
        }
    }
}

async fn through(rig: &mut Rig, jobs: usize, at_once: usize, request: &str) -> Run {
    let (before, started) = (rig.agent.cpu(), Instant::now());
    let outcome = coordinator::run(&mut rig.session, jobs, at_once, request).await;
    let (elapsed, cpu) = (started.elapsed(), rig.agent.cpu() - before);
    assert_eq!(outcome.failed, 0, "jobs failed");
    Run { outcome, elapsed, cpu }
}

fn latencies(name: [&'static str; 2], samples: &mut [u64]) -> [Figure; 2] {
    [
        Figure::new(name[0], "ms", ms(percentile(samples, 0.5))),
        Figure::new(name[1], "ms", ms(percentile(samples, 0.99))),
    ]
}

async fn paced() -> Vec<Figure> {
    let plan = Plan { events: 200, text: 40, every: Some(Duration::from_millis(20)), phase: Phase::Together };
    let mut rig = Rig::start(plan, 16).await;
    let mut direct = floor::run(rig.backend, 16, 16, REQUEST).await;
    let mut run = through(&mut rig, 16, 16, REQUEST).await;
    let mut figures = Vec::from(latencies(["p50", "p99"], &mut run.outcome.ages));
    figures.extend(latencies(["floor p50", "floor p99"], &mut direct.ages));
    figures
}

async fn full_speed(streams: usize, events: usize, text: usize, offered: Extensions) -> Vec<Figure> {
    let mut rig = Rig::offering(offered, Plan::rush(events, text), streams).await;
    let total = (streams * events) as f64;
    let started = Instant::now();
    floor::run(rig.backend, streams, streams, REQUEST).await;
    let direct = started.elapsed();
    through(&mut rig, streams, streams, REQUEST).await;
    rig.agent.reset_peak();
    let run = through(&mut rig, streams, streams, REQUEST).await;
    let megabytes = run.outcome.bytes as f64 / 1e6;
    vec![
        Figure::new("cpu/event", "µs", seconds(run.cpu) * 1e6 / total),
        Figure::new("events/s", "k", total / seconds(run.elapsed) / 1e3),
        Figure::new("throughput", "MB/s", megabytes / seconds(run.elapsed)),
        Figure::new("peak", "MiB", rig.agent.peak()),
        Figure::new("floor events/s", "k", total / seconds(direct) / 1e3),
    ]
}

async fn jobs() -> Vec<Figure> {
    const JOBS: usize = 4_000;
    let mut rig = Rig::start(Plan::rush(5, 40), 16).await;
    let started = Instant::now();
    let mut direct = floor::run(rig.backend, JOBS, 16, REQUEST).await;
    let floor_rate = JOBS as f64 / seconds(started.elapsed());
    through(&mut rig, 200, 16, REQUEST).await;
    let mut run = through(&mut rig, JOBS, 16, REQUEST).await;
    vec![
        Figure::new("jobs/s", "", JOBS as f64 / seconds(run.elapsed)),
        Figure::new("first byte p50", "ms", ms(percentile(&mut run.outcome.first_bytes, 0.5))),
        Figure::new("cpu/job", "µs", seconds(run.cpu) * 1e6 / JOBS as f64),
        Figure::new("floor jobs/s", "", floor_rate),
        Figure::new("floor first byte p50", "ms", ms(percentile(&mut direct.first_bytes, 0.5))),
    ]
}

async fn many() -> Vec<Figure> {
    const STREAMS: usize = 4_096;
    let plan = Plan { events: 3, text: 40, every: Some(Duration::from_secs(2)), phase: Phase::Spread };
    let mut rig = Rig::start(plan, STREAMS).await;
    let mut direct = floor::run(rig.backend, STREAMS, STREAMS, REQUEST).await;
    let mut run = through(&mut rig, STREAMS, STREAMS, REQUEST).await;
    let lost = STREAMS * 3 - run.outcome.ages.len();
    let mut figures = vec![Figure::new("lost", "events", lost as f64), Figure::new("peak", "MiB", rig.agent.peak())];
    figures.extend(latencies(["p50", "p99"], &mut run.outcome.ages));
    figures.extend(latencies(["floor p50", "floor p99"], &mut direct.ages));
    figures
}

async fn prompt() -> Vec<Figure> {
    const JOBS: usize = 40;
    let mut rig = Rig::start(Plan::rush(5, 40), 2).await;
    // Lines of text, as prompts have them.
    let line = r#"The quick brown fox jumps over the lazy dog, and \"why\" is a question for tomorrow.\n"#;
    let text = line.repeat(8_000_000 / line.len());
    let request = format!(r#"{{"model":"bench","messages":[{{"role":"user","content":"{text}"}}],"stream":true}}"#);
    let run = through(&mut rig, JOBS, 2, &request).await;
    vec![
        Figure::new("cpu/job", "ms", seconds(run.cpu) * 1e3 / JOBS as f64),
        Figure::new("jobs/s", "", JOBS as f64 / seconds(run.elapsed)),
        Figure::new("peak", "MiB", rig.agent.peak()),
    ]
}

async fn idle() -> Vec<Figure> {
    const FOR: Duration = Duration::from_secs(4);
    let rig = Rig::start(Plan::rush(1, 1), 8).await;
    sleep(Duration::from_millis(500)).await;
    let before = rig.agent.wakeups();
    sleep(FOR).await;
    let wakeups = (rig.agent.wakeups() - before) / seconds(FOR);
    vec![Figure::new("resident", "MiB", rig.agent.resident()), Figure::new("wake-ups", "/s", wakeups)]
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
