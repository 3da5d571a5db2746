//! The operator's pause: what the coordinator sees of it, who can order it, and that it survives a restart.

use std::os::unix::fs::PermissionsExt;

use outpost::testkit::{CoordinatorLink, ScriptedBackend, ScriptedCoordinator};
use rustix::process::Signal;

use crate::support::{HELLO, Home, Outpost, Setup, agent, backend, coordinator, entry, finish, request, within};

struct Scene {
    coordinator: ScriptedCoordinator,
    backend: ScriptedBackend,
    home: Home,
    process: Outpost,
    link: CoordinatorLink,
    addr: std::net::SocketAddr,
}

async fn scene() -> Scene {
    let (mut coordinator, home, backend) = (coordinator().await, Home::new(), backend("m").await);
    let mut process = agent(&coordinator, &home, &entry(&backend)).start();
    let addr = process.status_addr().await;
    let link = coordinator.serving("m").await;
    Scene { coordinator, backend, home, process, link, addr }
}

/// A command of the operator.
fn command(scene: &Scene, arguments: &[&str]) -> Setup {
    Setup::new(arguments)
        .env("OUTPOST_IDENTITY_PATH", scene.home.key())
        .env("OUTPOST_STATUS_ADDR", scene.addr.to_string())
}

async fn says(scene: &Scene, words: &str) {
    let said = async {
        while !request(scene.addr, "GET /status", "", "").await.json()["state"]["text"]
            .as_str()
            .unwrap()
            .contains(words)
        {}
    };
    within(words, said).await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_pause_offers_nothing_lets_jobs_finish_and_survives_a_restart() {
    let mut scene = scene().await;
    let running = scene.link.job("m", HELLO);
    let at_work = scene.backend.request().await;
    at_work.head();
    command(&scene, &["pause"]).finish().await.assert_code(0);
    assert_eq!(scene.link.offered().await, Vec::<String>::new());
    let refused = scene.link.job("m", HELLO);
    assert_eq!(scene.link.outcome_of(refused).await.error().message, "the agent is paused by its operator");
    says(&scene, "Paused by you: nothing is offered").await;
    finish(&at_work);
    scene.link.outcome_of(running).await.done();

    scene.process.signal(Signal::TERM);
    scene.process.finish().await.assert_code(0);
    scene.process = agent(&scene.coordinator, &scene.home, &entry(&scene.backend)).start();
    scene.addr = scene.process.status_addr().await;
    scene.link = scene.coordinator.welcome().await;
    assert_eq!(scene.link.offered().await, Vec::<String>::new());
    says(&scene, "Paused by you").await;
    command(&scene, &["resume"]).finish().await.assert_code(0);
    scene.link.until_offered("m").await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_pause_ends_by_itself_at_its_time() {
    let mut scene = scene().await;
    command(&scene, &["pause", "1s"]).finish().await.assert_code(0);
    assert_eq!(scene.link.offered().await, Vec::<String>::new());
    scene.link.until_offered("m").await;
    says(&scene, "Ready").await;
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn orders_need_the_token_which_only_the_user_of_the_agent_can_read() {
    let scene = scene().await;
    let file = scene.home.key().with_file_name("identity.key.token");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let token = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    let json = "content-type: application/json\r\n";
    let post = async |headers: String, body: &str| request(scene.addr, "POST /orders", &headers, body).await.status;
    let pause = r#"{"pause":{"seconds":null}}"#;
    assert_eq!(post(json.to_owned(), pause).await, 401);
    assert_eq!(post(format!("{json}authorization: Bearer x{token}\r\n"), pause).await, 401);
    let own = format!("{json}authorization: Bearer {token}\r\n");
    assert_eq!(post(format!("{own}origin: http://evil.example\r\n"), pause).await, 401);
    for nonsense in ["", "{}", "\"stop\"", r#"{"pause":{"seconds":-1}}"#, r#"{"pause":{"seconds":1e99}}"#] {
        assert_eq!(post(own.clone(), nonsense).await, 400, "{nonsense}");
    }
    assert_eq!(post(own.clone(), &format!("\"{}\"", "x".repeat(5000))).await, 413);
    says(&scene, "Ready").await;
    assert_eq!(post(own.clone(), r#"{"pause":{"seconds":18446744073709551615}}"#).await, 204);
    says(&scene, "Paused by you for another 3650 days").await;
    assert_eq!(post(own, r#""resume""#).await, 204);
    says(&scene, "Ready").await;
    assert!(!scene.process.log().contains(&token), "the token is in the log");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn without_an_agent_there_is_advice() {
    let home = Home::new();
    let shown = Setup::new(&["pause"]).env("OUTPOST_IDENTITY_PATH", home.key()).finish().await;
    shown.assert_code(1);
    assert!(shown.stderr.contains("no token in") && shown.stderr.contains("is the agent running"), "{}", shown.stderr);
}
