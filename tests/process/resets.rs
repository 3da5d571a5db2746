//! A hundred resets, each in a phase of its own, leave nothing behind: no descriptor, no job, no backend at work.

#![cfg(target_os = "linux")]

use futures_util::future::join_all;
use rand::RngExt;
use rand::seq::IndexedRandom;
use tokio::io::AsyncWriteExt;

use crate::support::{Backend, Coordinator, Home, Outpost, agent, job, read_head, request, reset, token, within};

/// Agents at once: the waits between tries then cost the test little.
const AGENTS: usize = 20;
/// Resets of each agent's connections. A failure follows an end after `auth_ok`, so that no wait is long.
const RESETS: usize = 5;
/// Jobs at once.
const JOBS: usize = 2;

#[derive(Clone, Copy, Debug)]
enum Phase {
    BeforeUpgrade,
    InUpgrade,
    BeforeChallenge,
    BeforeVerdict,
    BeforeOffer,
    InFrame,
    WithJobs,
    InJob,
}

const BEFORE_AUTH_OK: [Phase; 4] =
    [Phase::BeforeUpgrade, Phase::InUpgrade, Phase::BeforeChallenge, Phase::BeforeVerdict];
const AFTER_AUTH_OK: [Phase; 4] = [Phase::BeforeOffer, Phase::InFrame, Phase::WithJobs, Phase::InJob];

struct Scene {
    coordinator: Coordinator,
    backend: Backend,
    process: Outpost,
    status: std::net::SocketAddr,
    _home: Home,
}

impl Scene {
    async fn set() -> Self {
        let (coordinator, home) = (Coordinator::start().await, Home::new());
        let backend = Backend::start("m").await;
        let mut process = agent(&coordinator, &home, &backend.entry()).start();
        let status = process.status_addr().await;
        Self { coordinator, backend, process, status, _home: home }
    }

    async fn snapshot(&self) -> serde_json::Value {
        request(self.status, "GET /status", "", "").await.json()
    }

    /// Open descriptors, the connection of the last question aside.
    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.pid.as_raw_nonzero())).unwrap().count()
    }

    /// The fewest seen while it idles.
    async fn idle_descriptors(&self) -> usize {
        let mut fewest = usize::MAX;
        for _ in 0..10 {
            self.snapshot().await;
            fewest = fewest.min(self.descriptors());
        }
        fewest
    }

    /// Takes the next connection to this phase and resets it. Returns how many jobs were lost.
    async fn reset_in(&mut self, phase: Phase) -> usize {
        match phase {
            Phase::BeforeUpgrade => reset(self.coordinator.tcp().await),
            Phase::InUpgrade => {
                let mut stream = self.coordinator.tcp().await;
                read_head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 101 Switching Pro").await.unwrap();
                reset(stream);
            }
            Phase::BeforeChallenge => self.coordinator.accept().await.reset(),
            Phase::BeforeVerdict => {
                let mut session = self.coordinator.accept().await;
                session.challenge().await;
                session.reset();
            }
            Phase::BeforeOffer => self.coordinator.join().await.reset(),
            Phase::InFrame => {
                let mut session = self.coordinator.serving("m").await;
                let frame = [&[0x81, 126, 4, 0][..], &[b' '; 1024]].concat();
                let cut = rand::rng().random_range(1..frame.len());
                session.send_raw(&frame[..cut]).await;
                session.reset();
            }
            Phase::WithJobs => {
                let mut session = self.coordinator.serving("m").await;
                for _ in 0..JOBS {
                    session.send(&job("m").1).await;
                }
                let mut exchanges = [self.backend.request().await, self.backend.request().await];
                for exchange in &mut exchanges {
                    exchange.open_stream().await;
                    exchange.send(token("one")).await;
                }
                session.message().await;
                session.reset();
                for exchange in &mut exchanges {
                    exchange.closed().await;
                }
                return JOBS;
            }
            Phase::InJob => {
                let mut session = self.coordinator.serving("m").await;
                session.send(&job("m").1).await;
                let mut exchange = self.backend.request().await;
                session.reset();
                exchange.closed().await;
                return 1;
            }
        }
        0
    }
}

#[tokio::test]
async fn a_hundred_resets_leave_nothing_behind() {
    join_all((0..AGENTS).map(|_| async {
        let mut scene = Scene::set().await;
        let mut session = scene.coordinator.serving("m").await;
        // All that is made once is made before anything is counted.
        for _ in 0..JOBS {
            session.send(&job("m").1).await;
        }
        for mut exchange in [scene.backend.request().await, scene.backend.request().await] {
            exchange.answer("500 Internal Server Error", "{}").await;
            session.message().await;
        }
        let before = scene.idle_descriptors().await;
        session.reset();

        let phases: Vec<Phase> = (1..RESETS)
            .map(|number| if number % 2 == 0 { AFTER_AUTH_OK } else { BEFORE_AUTH_OK })
            .map(|phases| *phases.choose(&mut rand::rng()).unwrap())
            .collect();
        let mut lost = 0;
        for phase in &phases {
            lost += scene.reset_in(*phase).await;
        }

        let mut session = scene.coordinator.serving("m").await;
        session.settle().await;
        let snapshot = scene.snapshot().await;
        assert_eq!((&snapshot["in_flight"], &snapshot["jobs"]["cancelled"]), (&0.into(), &lost.into()), "{phases:?}");
        assert_eq!(snapshot["actors_replaced"], 0, "{phases:?}");
        let settled = async {
            while scene.descriptors() > before {
                scene.snapshot().await;
            }
        };
        within(&format!("return to {before} descriptors after {phases:?}"), settled).await;
        let id = session.start_job("m").await;
        let mut exchange = scene.backend.request().await;
        exchange.open_stream().await;
        exchange.finish().await;
        session.rest(id).await.1.done();
    }))
    .await;
}
