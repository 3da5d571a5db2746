//! What the coordinator's `/metrics` reports: agents, jobs by outcome and cause, refused, retried and waiting requests, and
//! durations.

use outpost::messages::endpoint::Endpoint;
use outpost::messages::wire::{ErrorCode, FromCoordinator};
use outpost::testkit::{ScriptedAgent, Secret};

use super::fixture::{Answer, Coordinator, posting, soon, without_queue};

const CHAT: &str = "/v1/chat/completions";
const REQUEST: &str = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
const DONE: &str = "data: [DONE]\n\n";

/// The values of `/metrics`, by name and labels.
struct Metrics(Vec<(String, f64)>);

impl Metrics {
    async fn read(coordinator: &Coordinator) -> Self {
        let answer = Answer::of(coordinator.get("/metrics"), "").await;
        assert_eq!((answer.status, answer.content_type.starts_with("text/plain; version=0.0.4")), (200, true));
        let samples = answer.body.lines().filter(|line| !line.starts_with('#'));
        let parse = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.strip_prefix("outpost_coordinator_").unwrap().to_owned(), value.parse().unwrap())
        };
        Self(samples.map(parse).collect())
    }

    fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    }

    fn jobs(&self, outcome: &str, cause: &str) -> Option<f64> {
        self.get(&format!("jobs_total{{outcome=\"{outcome}\",cause=\"{cause}\"}}"))
    }

    /// Jobs that ended, over all outcomes.
    fn all_jobs(&self) -> f64 {
        self.0.iter().filter(|(name, _)| name.starts_with("jobs_total{")).map(|(_, value)| value).sum()
    }

    fn waits(&self, outcome: &str) -> Option<f64> {
        self.get(&format!("waits_total{{outcome=\"{outcome}\"}}"))
    }

    fn refused(&self, cause: &str) -> Option<f64> {
        self.get(&format!("requests_refused_total{{cause=\"{cause}\"}}"))
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_is_in_flight_until_it_ends_and_then_counts_with_its_tokens_and_durations() {
    let coordinator = Coordinator::start().await;
    let before = Metrics::read(&coordinator).await;
    assert_eq!((before.get("agents"), before.all_jobs()), (Some(0.0), 0.0));
    let version = format!("build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(before.get(&version), Some(1.0));
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let response = coordinator.asking(CHAT, REQUEST);
    let job = agent.job().await;
    let during = Metrics::read(&coordinator).await;
    assert_eq!((during.get("agents"), during.get("jobs_in_flight")), (Some(1.0), Some(1.0)));
    agent.chunk(job.job_id, DONE).await;
    agent.done(job.job_id).await;
    assert_eq!(soon(response).await.unwrap().status, 200);
    let after = Metrics::read(&coordinator).await;
    assert_eq!(
        (after.get("jobs_in_flight"), after.jobs("done", "none"), after.all_jobs()),
        (Some(0.0), Some(1.0), 1.0)
    );
    // The fixture's agent reports 1 and 2 tokens.
    assert_eq!(after.get("tokens_total{kind=\"input\"}"), Some(1.0));
    assert_eq!(after.get("tokens_total{kind=\"output\"}"), Some(2.0));
    assert_eq!(after.get(&format!("job_first_byte_seconds_count{{endpoint=\"{CHAT}\"}}")), Some(1.0));
    let bucket = format!("job_duration_seconds_bucket{{endpoint=\"{CHAT}\",outcome=\"done\",le=\"+Inf\"}}");
    assert_eq!(after.get(&bucket), Some(1.0));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_failed_job_counts_under_the_cause_that_its_agent_reports() {
    let coordinator = Coordinator::start_with(without_queue).await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    for code in ErrorCode::ALL {
        let response = coordinator.asking(CHAT, REQUEST);
        let job = agent.job().await;
        agent.fail(job.job_id, code).await;
        soon(response).await.unwrap();
        // An agent that was full has slots again with its next offer.
        agent.offer(&["m"], 1).await;
    }
    let metrics = Metrics::read(&coordinator).await;
    for code in ErrorCode::ALL {
        assert_eq!(metrics.jobs("failed", code.as_str()), Some(1.0), "{code}");
    }
    assert_eq!(metrics.get(&format!("job_first_byte_seconds_count{{endpoint=\"{CHAT}\"}}")), None);
    // A failed job is not a refused request.
    assert_eq!(metrics.refused("out_of_capacity"), Some(0.0));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_whose_agent_disconnects_counts_as_failed() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let response = posting(coordinator.addr(), CHAT, REQUEST);
    let job = agent.job().await;
    agent.chunk(job.job_id, "data: 1\n\n").await;
    agent.settle().await;
    drop(agent);
    assert!(soon(response).await.unwrap().contains("upstream_error"));
    let metrics = Metrics::read(&coordinator).await;
    assert_eq!((metrics.jobs("failed", "agent_lost"), metrics.get("agents")), (Some(1.0), Some(0.0)));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_job_whose_client_disconnects_counts_as_cancelled() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let response = coordinator.asking(CHAT, REQUEST);
    let job = agent.job().await;
    response.abort();
    assert_eq!(agent.frame().await, FromCoordinator::JobCancel { job_id: job.job_id });
    let metrics = Metrics::read(&coordinator).await;
    assert_eq!((metrics.jobs("cancelled", "client_gone"), metrics.get("jobs_in_flight")), (Some(1.0), Some(0.0)));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn an_answer_that_the_coordinator_can_not_read_counts_as_cancelled() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join_at(coordinator.agent_url(), 1, &[Endpoint::ChatCompletions]).await;
    let response = coordinator.asking(CHAT, r#"{"model":"m"}"#);
    let job = agent.job().await;
    agent.begin(job.job_id, 200, "text/html", "<html>").await;
    assert_eq!(soon(response).await.unwrap().status, 502);
    assert_eq!(Metrics::read(&coordinator).await.jobs("cancelled", "unreadable_answer"), Some(1.0));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_request_that_waits_is_in_a_gauge_and_then_counts_with_its_outcome_and_time() {
    let coordinator = Coordinator::start_with(|config| config.queue_length = 1).await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 0).await;
    let waiting = coordinator.asking(CHAT, REQUEST);
    coordinator.until_waiting(1).await;
    assert_eq!(coordinator.ask(CHAT, REQUEST).await.status, 429);
    let during = Metrics::read(&coordinator).await;
    assert_eq!((during.get("requests_waiting"), during.waits("queue_full")), (Some(1.0), Some(1.0)));
    assert_eq!(during.refused("out_of_capacity"), Some(1.0));
    agent.send_offer(&["m"], 1, None).await;
    let job = agent.job().await;
    agent.chunk(job.job_id, DONE).await;
    agent.done(job.job_id).await;
    assert_eq!(soon(waiting).await.unwrap().status, 200);
    agent.offer(&["m"], 0).await;
    let leaving = coordinator.asking(CHAT, REQUEST);
    coordinator.until_waiting(1).await;
    leaving.abort();
    coordinator.until_waiting(0).await;
    let after = Metrics::read(&coordinator).await;
    for (outcome, count) in [("served", 1.0), ("client_gone", 1.0), ("timed_out", 0.0), ("displaced", 0.0)] {
        assert_eq!(after.waits(outcome), Some(count), "{outcome}");
    }
    assert_eq!(after.get("wait_seconds_count{outcome=\"served\"}"), Some(1.0));
    assert_eq!(after.get("wait_seconds_count{outcome=\"queue_full\"}"), None);
    assert_eq!(after.get("requests_waiting"), Some(0.0));
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_retry_counts_under_the_cause_of_the_failure_before_it() {
    let coordinator = Coordinator::start().await;
    let mut first = ScriptedAgent::join(coordinator.agent_url(), 1, &["m"], 1).await;
    let mut second = ScriptedAgent::join(coordinator.agent_url(), 2, &["m"], 1).await;
    let response = coordinator.asking(CHAT, REQUEST);
    let job = first.job().await;
    first.fail(job.job_id, ErrorCode::BackendUnreachable).await;
    let job = second.job().await;
    second.fail(job.job_id, ErrorCode::Internal).await;
    assert_eq!(soon(response).await.unwrap().status, 502);
    let metrics = Metrics::read(&coordinator).await;
    assert_eq!(metrics.get("retries_total{cause=\"backend_unreachable\"}"), Some(1.0));
    // There was no third agent.
    assert_eq!(metrics.get("retries_total{cause=\"internal\"}"), Some(0.0));
    assert_eq!(metrics.get("retries_total{cause=\"backend_timeout\"}"), None);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_refused_request_counts_under_the_code_of_its_error_body() {
    let coordinator = Coordinator::start_with(|config| {
        config.max_job_message = 2000;
        without_queue(config);
    })
    .await;
    let mut agent = ScriptedAgent::join_at(coordinator.agent_url(), 1, &[Endpoint::ChatCompletions]).await;
    agent.offer_at(&["m"], 0, Some([Endpoint::ChatCompletions].into_iter().collect())).await;
    for (path, body) in [
        (CHAT, "7".to_owned()),
        (CHAT, r#"{"model":"other"}"#.into()),
        ("/v1/messages", REQUEST.into()),
        (CHAT, REQUEST.into()),
        (CHAT, "x".repeat(3000)),
        ("/v1/other", REQUEST.into()),
    ] {
        let answer = coordinator.ask(path, &body).await;
        // Anthropic's error bodies have no code.
        let code = answer.json()["error"]["code"].as_str().unwrap_or("endpoint_not_supported").to_owned();
        assert_eq!(Metrics::read(&coordinator).await.refused(&code), Some(1.0), "{code}");
    }
    assert_eq!(Metrics::read(&coordinator).await.all_jobs(), 0.0);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn models_and_agents_have_no_series_of_their_own() {
    let coordinator = Coordinator::start().await;
    let mut agent = ScriptedAgent::join(coordinator.agent_url(), 1, &["private-model"], 1).await;
    let response = coordinator.asking(CHAT, r#"{"model":"private-model","stream":true}"#);
    let job = agent.job().await;
    agent.chunk(job.job_id, DONE).await;
    agent.done(job.job_id).await;
    soon(response).await.unwrap();
    let answer = Answer::of(coordinator.get("/metrics"), "").await;
    assert!(!answer.body.contains("private-model") && !answer.body.contains("agent-"), "{}", answer.body);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn metrics_need_the_api_key_where_there_is_one() {
    let coordinator = Coordinator::start_with(|config| config.api_key = Some(Secret::new("sk-1"))).await;
    assert_eq!(Answer::of(coordinator.get("/metrics"), "").await.status, 401);
    assert_eq!(Answer::of(coordinator.get("/metrics").bearer_auth("sk-2"), "").await.status, 401);
    let answer = Answer::of(coordinator.get("/metrics").bearer_auth("sk-1"), "").await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("outpost_coordinator_requests_refused_total{cause=\"invalid_api_key\"} 2\n"));
    let open = Coordinator::start().await;
    assert_eq!(Answer::of(open.get("/metrics").insert_header(("host", "evil.example")), "").await.status, 403);
}
