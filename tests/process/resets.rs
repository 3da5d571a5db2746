//! A hundred resets, each in a phase of its own, leave nothing behind: no descriptor, no job, no backend at work.

#![cfg(target_os = "linux")]

use futures_util::future::join_all;
use outpost::testkit::{DialFault, ScriptedBackend, ScriptedCoordinator};
use rand::RngExt;
use rand::seq::IndexedRandom;

use crate::support::{HELLO, Home, Outpost, agent, backend, coordinator, entry, finish, request, reset, token, within};

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
    coordinator: ScriptedCoordinator,
    backend: ScriptedBackend,
    process: Outpost,
    status: std::net::SocketAddr,
    _home: Home,
}

impl Scene {
    async fn set() -> Self {
        let (coordinator, home) = (coordinator().await, Home::new());
        let backend = backend("m").await;
        let mut process = agent(&coordinator, &home, &entry(&backend)).start();
        let status = process.status_addr().await;
        Self { coordinator, backend, process, status, _home: home }
    }

    async fn snapshot(&self) -> serde_json::Value {
        request(self.status, "GET /status", "", "").await.json()
    }

    /// Open descriptors, without the connection of the last request for the status.
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
            Phase::BeforeUpgrade => self.coordinator.fail_dials([DialFault::Refused]),
            Phase::InUpgrade => {
                self.coordinator.fail_dials([DialFault::Answers("HTTP/1.1 101 Switching Pro".into())]);
            }
            Phase::BeforeChallenge => reset(self.coordinator.next_connection().await),
            Phase::BeforeVerdict => {
                let mut link = self.coordinator.next_connection().await;
                link.challenge();
                link.expect_auth().await;
                reset(link);
            }
            Phase::BeforeOffer => {
                let link = self.coordinator.welcome().await;
                link.flushed().await;
                reset(link);
            }
            Phase::InFrame => {
                let link = self.coordinator.serving("m").await;
                let frame = [&[0x81, 126, 4, 0][..], &[b' '; 1024]].concat();
                let cut = rand::rng().random_range(1..frame.len());
                link.send_raw_bytes(&frame[..cut]);
                link.flushed().await;
                reset(link);
            }
            Phase::WithJobs => {
                let mut link = self.coordinator.serving("m").await;
                let jobs = [0; JOBS].map(|_| link.job("m", HELLO));
                let mut requests = [self.backend.request().await, self.backend.request().await];
                for request in &requests {
                    request.head();
                    request.piece(token("one"));
                }
                link.chunk_of(jobs[0]).await;
                reset(link);
                for request in &mut requests {
                    request.dropped().await;
                }
                return JOBS;
            }
            Phase::InJob => {
                let link = self.coordinator.serving("m").await;
                link.job("m", HELLO);
                let mut request = self.backend.request().await;
                reset(link);
                request.dropped().await;
                return 1;
            }
        }
        0
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_hundred_resets_leave_nothing_behind() {
    join_all((0..AGENTS).map(|_| async {
        let mut scene = Scene::set().await;
        let mut link = scene.coordinator.serving("m").await;
        // All that is made once is made before anything is counted.
        let jobs = [0; JOBS].map(|_| link.job("m", HELLO));
        for request in [scene.backend.request().await, scene.backend.request().await] {
            request.respond(500, "{}");
        }
        for job in jobs {
            link.outcome_of(job).await.error();
        }
        let before = scene.idle_descriptors().await;
        reset(link);

        let phases: Vec<Phase> = (1..RESETS)
            .map(|number| if number % 2 == 0 { AFTER_AUTH_OK } else { BEFORE_AUTH_OK })
            .map(|phases| *phases.choose(&mut rand::rng()).unwrap())
            .collect();
        let mut lost = 0;
        for phase in &phases {
            lost += scene.reset_in(*phase).await;
        }

        let mut link = scene.coordinator.serving("m").await;
        link.ping(b"settled").await;
        let snapshot = scene.snapshot().await;
        assert_eq!((&snapshot["in_flight"], &snapshot["jobs"]["cancelled"]), (&0.into(), &lost.into()), "{phases:?}");
        assert_eq!(snapshot["actors_replaced"], 0, "{phases:?}");
        let settled = async {
            while scene.descriptors() > before {
                scene.snapshot().await;
            }
        };
        within(&format!("return to {before} descriptors after {phases:?}"), settled).await;
        let job = link.job("m", HELLO);
        let request = scene.backend.request().await;
        request.head();
        finish(&request);
        link.outcome_of(job).await.done();
    }))
    .await;
}
