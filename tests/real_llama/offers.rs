//! What the agent finds in a server and tells its coordinator.

use outpost::messages::endpoint::Endpoint;
use outpost::messages::ids::{JobId, ModelId};
use outpost::messages::members::Members;
use outpost::messages::wire::{ErrorCode, FromAgent, FromCoordinator, JobDone, JobError, JobFrame, JobTarget};
use outpost::testkit::Snapshot;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{Answer, CHAT, MODEL, endless_chat, greedy_chat};
use crate::client::Api;
use crate::fleet::Fleet;
use crate::llama::Llama;
use crate::process::Process;
use crate::scripted::Scripted;
use crate::waiting::eventually;

/// What the server says of its slots.
#[derive(Deserialize)]
struct Props {
    total_slots: u32,
    default_generation_settings: Settings,
}

#[derive(Deserialize)]
struct Settings {
    n_ctx: u64,
}

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn clients_see_the_model_with_the_context_of_one_slot() {
    let llama = Llama::given().await;
    let props: Props = llama.api.get("/props").await;
    let fleet = Fleet::beside(&llama).await;

    let models = fleet.models().await;
    assert_eq!(models[0]["id"], MODEL);
    assert_eq!(models[0]["context_window"], props.default_generation_settings.n_ctx);
    let agents: Vec<Value> = fleet.api.get("/api/agents").await;
    assert_eq!(agents.len(), 1);
    assert_eq!(agents[0]["models"], json!([MODEL]));
    let status = fleet.status().await;
    let backend = &status.backends["llamacpp"];
    assert!(backend.up && status.is_ready());
    assert_eq!(backend.kind.as_deref(), Some("llamacpp"));
    assert_eq!(backend.models, [ModelId::from(MODEL)]);
}

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn the_wire_carries_the_slots_the_tokens_and_the_refusals() {
    let llama = Llama::given().await;
    let props: Props = llama.api.get("/props").await;
    let coordinator = Scripted::listen().await;
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Process::start(
        &["run"],
        [
            ("OUTPOST_COORDINATOR_URL", coordinator.url.as_str()),
            ("OUTPOST_IDENTITY_PATH", dir.path().join("identity.key").to_str().unwrap()),
            ("OUTPOST_STATUS_ADDR", "127.0.0.1:0"),
            ("OUTPOST_BACKENDS", &format!("llamacpp={}", llama.url)),
        ],
    );
    let status = Api::new(format!("http://{}", agent.address("status page addr=http://").await));
    let mut line = coordinator.admit().await;
    let offer = line.offer().await;
    assert_eq!(offer.models.len(), 1);
    let model = &offer.models[0];
    assert_eq!(model.model_id.as_str(), MODEL);
    assert_eq!(model.backend, "llamacpp");
    assert_eq!(model.max_concurrent, props.total_slots);
    assert_eq!(model.context_window, Some(props.default_generation_settings.n_ctx));

    // A job's tokens are those that the server counts.
    let request = greedy_chat("Name three colours.", 12);
    let direct = Answer::of_chat(&llama.api.post(CHAT, &request).await.body);
    let counted = job(&request);
    line.send(&FromCoordinator::Job(counted.clone())).await;
    let tokens = loop {
        match line.frame().await {
            FromAgent::JobChunk(chunk) => assert_eq!(chunk.job_id, counted.job_id),
            FromAgent::JobDone(JobDone { job_id, tokens, .. }) if job_id == counted.job_id => break tokens,
            other => panic!("unexpected {other:?}"),
        }
    };
    assert_eq!(direct.tokens, Some((tokens.input, tokens.output)));
    assert_eq!((tokens.input, tokens.output), (tokens.input_tokens, tokens.output_tokens));

    // The slot is free when the agent says so itself, which is a moment after its last frame.
    eventually("a free slot", async || (status.get::<Snapshot>("/status").await.in_flight == 0).then_some(())).await;

    // One job more than there are slots is refused, though the server itself would queue it.
    let jobs: Vec<_> = (0..=props.total_slots).map(|_| job(&endless_chat())).collect();
    for job in &jobs {
        line.send(&FromCoordinator::Job(job.clone())).await;
    }
    let refused = loop {
        match line.frame().await {
            FromAgent::JobChunk(_) => {}
            FromAgent::JobError(JobError { job_id, error_code, .. }) => break (job_id, error_code),
            other => panic!("unexpected {other:?}"),
        }
    };
    assert_eq!(refused, (jobs.last().unwrap().job_id, ErrorCode::OutOfCapacity));
    llama.until_busy(props.total_slots as usize).await;
    for job in &jobs {
        line.send(&FromCoordinator::JobCancel { job_id: job.job_id }).await;
    }
    llama.until_idle().await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn auto_finds_a_server_at_its_usual_port() {
    let Some(_llama) = Llama::start_on(8080, &[]) else {
        println!("not tested: somebody listens on port 8080");
        return;
    };
    let fleet = Fleet::start("auto", &[]).await;
    let status = fleet.until_status("the server found", |status| status.backends.contains_key("llamacpp")).await;
    assert_eq!(status.backends["llamacpp"].models, [ModelId::from(MODEL)]);
    eventually("its model", async || fleet.models().await.into_iter().find(|model| model["id"] == MODEL)).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn embeddings_are_offered_where_the_server_makes_them_and_chat_everywhere() {
    let embed = json!({"model": MODEL, "input": "a cat"});
    for (options, embeds) in [
        (&[][..], false),
        (&["--embeddings", "--pooling", "none"], false),
        (&["--embeddings", "--pooling", "mean"], true),
    ] {
        let llama = Llama::start(options);
        let fleet = Fleet::beside(&llama).await;
        let answer = fleet.api.post("/v1/embeddings", &embed).await;
        if embeds {
            assert_eq!(answer.status, 200);
        } else {
            assert_eq!((answer.status, &answer.body["error"]["code"]), (404, &"endpoint_not_supported".into()));
        }
        assert_eq!(fleet.api.post(CHAT, &greedy_chat("Name three colours.", 8)).await.status, 200, "{options:?}");
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
#[ignore = "needs a llama.cpp server: scripts/real-model.sh"]
async fn a_server_with_a_key_is_offered_to_whoever_has_it() {
    const KEY: &str = "canary-key-5f2a";
    let llama = Llama::start(&["--api-key", KEY]);
    let backends = format!("llamacpp={}", llama.url);

    let without = Fleet::start(&backends, &[]).await;
    let status = without.until_status("a look", |status| status.backends.contains_key("llamacpp")).await;
    let backend = &status.backends["llamacpp"];
    assert!(!backend.up);
    assert_eq!(backend.cause.as_deref(), Some("the server refuses the API key or wants one"));
    without.until_status("capabilities", |status| status.connected_since.is_some()).await;
    assert_eq!(without.models().await, Vec::<Value>::new());
    drop(without);

    let with = Fleet::start(&backends, &[("OUTPOST_BACKEND_LLAMACPP_API_KEY", KEY)]).await;
    with.until_offered(1).await;
    let request = greedy_chat("Name three colours.", 8);
    let direct = llama.api.clone().with_key(KEY).post(CHAT, &request).await;
    let answer = with.api.post(CHAT, &request).await;
    assert_eq!((direct.status, answer.status), (200, 200));
    assert_eq!(Answer::of_chat(&answer.body), Answer::of_chat(&direct.body));
    assert!(!with.agent.log().contains(KEY));
}

fn job(request: &Value) -> JobFrame {
    JobFrame {
        members: Members::default(),
        job_id: JobId::random(),
        model_id: ModelId::from(MODEL),
        request: request.to_string().into(),
        endpoint: Endpoint::ChatCompletions,
        deadline: std::time::Duration::from_secs(60),
        target: JobTarget::BASE,
    }
}
