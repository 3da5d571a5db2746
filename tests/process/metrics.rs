//! `docs/metrics.md` names each metric that running processes have, with its labels and what it says, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::support::{HELLO, Home, Setup, agent, backend, coordinator, entry, finish, request, within};

const STREAM: &str = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;

/// A table of the metrics of a page, in the order of the page.
fn table(page: &str) -> String {
    let mut names = Vec::new();
    let (mut helps, mut kinds, mut labels) =
        (BTreeMap::new(), BTreeMap::new(), BTreeMap::<&str, BTreeSet<&str>>::new());
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            names.push(name);
            helps.insert(name, help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kinds.insert(name, kind);
        } else {
            let sample = line.split(['{', ' ']).next().unwrap();
            let parts = ["_bucket", "_sum", "_count"];
            let whole = |end: &&str| sample.strip_suffix(*end).filter(|name| kinds.get(name) == Some(&"histogram"));
            let name = parts.iter().find_map(whole).unwrap_or(sample);
            let inside =
                line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(inside, _)| inside);
            let found = inside.split("\",").filter_map(|pair| pair.split_once('=')).map(|(label, _)| label);
            labels.entry(name).or_default().extend(found.filter(|label| *label != "le"));
        }
    }
    let mut table = String::from("| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n");
    for name in names {
        let labels = labels.get(name).unwrap_or_else(|| panic!("{name} has no sample: its labels are not known"));
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(table, "| `{name}` | {} | {} | {} |", kinds[name], labels.join(", "), helps[name]).unwrap();
    }
    table
}

/// Compares the table behind this heading, or writes it where the environment says so.
#[track_caller]
fn assert_documented(heading: &str, page: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (before, rest) = document.split_once(&format!("## {heading}\n")).unwrap();
    let (introduction, after) = rest
        .split_once("| metric |")
        .map(|(introduction, table)| {
            let lines =
                table.split_inclusive('\n').skip_while(|line| line.starts_with('|') || line.starts_with(" type"));
            (introduction, lines.collect::<String>())
        })
        .unwrap();
    let expected = format!("{before}## {heading}\n{introduction}{}{after}", table(page));
    if std::env::var_os("UPDATE_EXAMPLES").is_some() {
        return std::fs::write(path, &expected).unwrap();
    }
    let advice = "UPDATE_EXAMPLES=1 cargo test --test process metrics -- --test-threads 1";
    assert!(document == expected, "docs/metrics.md is out of date: {advice}");
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_metrics_of_an_agent_are_documented() {
    let (mut coordinator, home, backend) = (coordinator().await, Home::new(), backend("m").await);
    let mut process = agent(&coordinator, &home, &entry(&backend)).start();
    let addr = process.status_addr().await;
    let mut link = coordinator.serving("m").await;
    let done = link.job("m", HELLO);
    let at_work = backend.request().await;
    at_work.head();
    finish(&at_work);
    link.outcome_of(done).await.done();
    let failed = link.job("m", HELLO);
    let at_work = backend.request().await;
    at_work.head();
    at_work.end();
    link.outcome_of(failed).await.error();
    let refused = link.job("another", HELLO);
    link.outcome_of(refused).await.error();
    let counted = async {
        loop {
            let page = request(addr, "GET /metrics", "", "").await.body;
            if page.contains("outpost_jobs_failed_total{") && page.contains("outpost_jobs_refused_total{") {
                return page;
            }
        }
    };
    assert_documented("An agent", &within("metrics of these jobs", counted).await);
}

#[actix_rt::test(system = "outpost::testkit::System")]
async fn the_metrics_of_a_coordinator_are_documented() {
    let mut coordinator = Setup::coordinator().start();
    let addr: SocketAddr = coordinator.coordinator_addr().await;
    let (home, backend) = (Home::new(), backend("m").await);
    let _agent = Setup::new(&["run"])
        .env("OUTPOST_COORDINATOR_URL", format!("ws://{addr}/agent"))
        .env("OUTPOST_IDENTITY_PATH", home.key())
        .env("OUTPOST_BACKENDS", entry(&backend))
        .env("OUTPOST_STATUS_ADDR", "off")
        .env("OUTPOST_MAX_CONCURRENT", "1")
        .start();
    coordinator.event_with("slots").await;
    let ask = || {
        tokio::spawn(async move {
            request(addr, "POST /v1/chat/completions", "content-type: application/json\r\n", STREAM).await
        })
    };
    // The second one waits for the slot of the first.
    let first = ask();
    let at_work = backend.request().await;
    let second = ask();
    let waits = async { while !request(addr, "GET /metrics", "", "").await.body.contains("requests_waiting 1") {} };
    within("a request that waits", waits).await;
    at_work.head();
    finish(&at_work);
    let at_work = backend.request().await;
    at_work.head();
    finish(&at_work);
    for asked in [first, second] {
        assert_eq!(within("answer", asked).await.unwrap().status, 200);
    }
    assert_documented("A coordinator", &request(addr, "GET /metrics", "", "").await.body);
}
