//! The ledger of ended jobs, and `outpost usage`, which sums it up.

use outpost::testkit::{CoordinatorLink, ScriptedBackend};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{HELLO, Home, Setup, agent, backend, coordinator, entry, finish, within};

/// `outpost usage` for the agent with this identity.
fn usage(home: &Home, arguments: &[&str]) -> Setup {
    Setup::new(&[&["usage"], arguments].concat()).env("OUTPOST_IDENTITY_PATH", home.key())
}

/// The sum over all jobs.
async fn total(home: &Home) -> Value {
    let shown = usage(home, &["--json"]).finish().await;
    shown.assert_code(0);
    serde_json::from_str::<Value>(&shown.stdout).unwrap()["total"].clone()
}

/// Works one job: 3 tokens in, 5 out.
async fn work(link: &mut CoordinatorLink, backend: &ScriptedBackend) {
    let job = link.job("m", HELLO);
    let request = backend.request().await;
    request.head();
    finish(&request);
    link.outcome_of(job).await.done();
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn every_job_that_ended_before_a_stop_is_in_the_ledger() {
    let (mut coordinator, home, backend) = (coordinator().await, Home::new(), backend("m").await);
    let process = agent(&coordinator, &home, &format!("big@{}", entry(&backend))).start();
    let mut link = coordinator.serving("m").await;
    for _ in 0..3 {
        work(&mut link, &backend).await;
    }
    let cancelled = link.job("m", HELLO);
    backend.request().await;
    link.cancel_and_silence(cancelled).await;
    process.signal(Signal::TERM);
    process.finish().await.assert_code(0);

    let shown = usage(&home, &["--by", "backend", "--csv"]).finish().await;
    let expected = "backend,jobs,done,failed,cancelled,input_tokens,cached_tokens,output_tokens,earned_usd\n\
        \"big\",4,3,0,1,9,0,15,0.000015750\n";
    assert_eq!(shown.stdout, expected);
    let shown = usage(&home, &[]).finish().await;
    assert!(shown.stdout.starts_with("model  jobs  done  failed  cancelled"), "{}", shown.stdout);
    let of_no_time = usage(&home, &["--since", "0s"]).finish().await;
    assert_eq!(of_no_time.stdout, "no job ended in this time\n");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_killed_agent_loses_no_row_that_was_seen_and_goes_on_with_the_file() {
    let (mut coordinator, home, backend) = (coordinator().await, Home::new(), backend("m").await);
    let mut expected = 0;
    for _ in 0..5 {
        let process = agent(&coordinator, &home, &entry(&backend)).start();
        let mut link = coordinator.serving("m").await;
        for _ in 0..3 {
            work(&mut link, &backend).await;
        }
        expected += 3;
        let seen = async { while total(&home).await["done"] != expected {} };
        within("rows of all jobs", seen).await;
        // The kill may fall into a write.
        work(&mut link, &backend).await;
        process.signal(Signal::KILL);
        process.finish().await;
        let now = total(&home).await["done"].as_u64().unwrap();
        assert!(now == expected || now == expected + 1, "{now} of {expected}");
        expected = now;
    }
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn a_ledger_that_can_not_be_written_is_reported_and_stops_no_job() {
    let (mut coordinator, home, backend) = (coordinator().await, Home::new(), backend("m").await);
    let mut process =
        agent(&coordinator, &home, &entry(&backend)).env("OUTPOST_LEDGER_PATH", "/proc/none/ledger").start();
    let mut link = coordinator.serving("m").await;
    process.logged("the ledger can't be written").await;
    work(&mut link, &backend).await;
    process.signal(Signal::TERM);
    process.finish().await.assert_code(0);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn without_a_ledger_there_is_advice() {
    let home = Home::new();
    let shown = usage(&home, &[]).finish().await;
    shown.assert_code(1);
    assert!(shown.stderr.contains("there is no ledger at") && shown.stderr.contains("has the agent run"));
    let shown = usage(&home, &[]).env("OUTPOST_LEDGER_PATH", "off").finish().await;
    assert!(shown.stderr.contains("OUTPOST_LEDGER_PATH is off"), "{}", shown.stderr);
}
