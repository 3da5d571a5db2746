//! The same work four times: straight to the backend, through the hop, through outpost, and through outpost with `resume`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use outpost::messages::wire::{Extension, Extensions};

use crate::agent::Agent;
use crate::backend::{self, Plan};
use crate::coordinator::{self, Coordinator, Outcome, Session};
use crate::floor;
use crate::hop::Hop;
use crate::process::Process;
use crate::report::Figure;

/// The four ways to a backend.
pub struct Rig {
    pub outpost: Way,
    /// With `resume` agreed on as well.
    resume: Way,
    hop: Hop,
    backend: SocketAddr,
    serving: tokio::task::JoinHandle<()>,
}

/// An agent and its connection.
pub struct Way {
    pub agent: Agent,
    session: Session,
}

/// What one way brought, and the processor time and the most memory of the process between.
pub struct Run {
    pub outcome: Outcome,
    pub elapsed: Duration,
    pub cpu: Duration,
    pub peak: f64,
}

/// The runs of the four ways.
pub struct Four {
    floor: Run,
    hop: Run,
    pub outpost: Run,
    resume: Run,
}

impl Way {
    async fn start(offered: Extensions, backend: SocketAddr, max_concurrent: usize) -> Self {
        let coordinator = Coordinator::bind().await;
        let agent = Agent::start(coordinator.addr(), &format!("openai=http://{backend}"), max_concurrent);
        let mut session = coordinator.accept(offered).await;
        session.offered().await;
        Self { agent, session }
    }

    async fn measured(&mut self, jobs: usize, at_once: usize, request: &str) -> Run {
        measured(Some(&self.agent.process), coordinator::run(&mut self.session, jobs, at_once, request)).await
    }
}

impl Rig {
    pub async fn start(plan: Plan, max_concurrent: usize) -> Self {
        Self::offering(&[], plan, max_concurrent).await
    }

    /// With coordinators that offer these extensions.
    pub async fn offering(offered: &[Extension], plan: Plan, max_concurrent: usize) -> Self {
        let (backend, serving) = backend::start(plan).await;
        let hop = Hop::start(backend);
        let offered = offered.iter().copied();
        let outpost = Way::start(offered.clone().collect(), backend, max_concurrent).await;
        let resume = Way::start(offered.chain([Extension::Resume]).collect(), backend, max_concurrent).await;
        Self { outpost, resume, hop, backend, serving }
    }

    /// Runs `jobs` jobs each way, `at_once` at a time.
    pub async fn four(&mut self, jobs: usize, at_once: usize, request: &str) -> Four {
        let backend = self.backend;
        let floor = measured(None, floor::run(backend, jobs, at_once, request)).await;
        let hop = measured(Some(&self.hop.process), floor::run(self.hop.addr, jobs, at_once, request)).await;
        let outpost = self.outpost.measured(jobs, at_once, request).await;
        let resume = self.resume.measured(jobs, at_once, request).await;
        Four { floor, hop, outpost, resume }
    }

    /// Runs jobs through all processes without measuring: what a process does once is done after it.
    pub async fn warm_up(&mut self, jobs: usize, at_once: usize, request: &str) {
        floor::run(self.hop.addr, jobs, at_once, request).await;
        for way in [&mut self.outpost, &mut self.resume] {
            coordinator::run(&mut way.session, jobs, at_once, request).await;
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn measured(between: Option<&Process>, work: impl Future<Output = Outcome>) -> Run {
    if let Some(process) = between {
        process.reset_peak();
    }
    let cpu = || between.map_or(Duration::ZERO, Process::cpu);
    let (before, started) = (cpu(), Instant::now());
    let outcome = work.await;
    let (elapsed, cpu) = (started.elapsed(), cpu() - before);
    assert_eq!(outcome.failed, 0, "jobs failed");
    Run { outcome, elapsed, cpu, peak: between.map_or(f64::NAN, Process::peak) }
}

impl Four {
    /// A figure of each way.
    pub fn figure(&mut self, name: &'static str, unit: &'static str, of: impl Fn(&mut Run) -> f64) -> Figure {
        let mut figure = self.of_processes(name, unit, &of);
        figure.floor = Some(of(&mut self.floor));
        figure
    }

    /// A figure of the processes, so that the floor has none.
    pub fn of_processes(&mut self, name: &'static str, unit: &'static str, of: impl Fn(&mut Run) -> f64) -> Figure {
        Figure {
            hop: Some(of(&mut self.hop)),
            resume: Some(of(&mut self.resume)),
            ..Figure::new(name, unit, of(&mut self.outpost))
        }
    }
}
