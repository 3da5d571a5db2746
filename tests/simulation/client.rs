//! A client: asks for a job until it has the response, as the usual packages do, and checks it to the byte.

use std::rc::Rc;
use std::time::Duration;

use outpost::testkit::{Killed, MemoryResponse};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::order::Order;
use crate::system::World;

/// Tries of one job. Each is a second or more after the last.
const MOST_TRIES: u32 = 120;

/// How the event of an error begins.
const ERROR: &[u8] = br#"data: {"error":"#;

/// How a try ended.
enum End {
    Whole,
    /// The client wanted no more.
    Left,
    /// No response, or an error in its place: to be tried again after this time.
    Again(Duration, String),
    /// The response has begun, and broke off or ended with an error.
    Failed(String),
}

/// Works one job to its end.
pub(crate) async fn work(world: &Rc<World>, job: u64, mut chance: Xoshiro256PlusPlus) {
    let mut order = Order::random(job, &mut chance);
    let leaves = chance.random_bool(0.03);
    let is_slow = chance.random_bool(0.05);
    let begin = Instant::now();
    let mut errors = Vec::new();
    loop {
        let end = attempt(world, &order, leaves, is_slow, &mut chance, begin).await;
        let is_excused = |world: &World| world.journal().failed.contains(&job) || world.was_killed_since(begin);
        match end {
            End::Whole | End::Left => {
                let runs = world.journal().begun.get(&(job, order.attempt)).copied().unwrap_or(0);
                // A job whose agent loses its connection before the response has begun goes to another agent.
                let may_move = runs > 1 && world.was_troubled_since(begin);
                let is_right = runs == 1 || may_move || matches!(end, End::Left) || is_excused(world);
                assert!(is_right, "job {job} ran {runs} times\n{}", world.history());
                return world.count(|totals| match end {
                    End::Whole => totals.whole += 1,
                    _ => totals.left += 1,
                });
            }
            End::Failed(cause) => {
                assert!(is_excused(world), "{order:?} failed without a cause: {cause}\n{}", world.history());
                return world.count(|totals| totals.failed += 1);
            }
            End::Again(wait, cause) => {
                errors.push(cause);
                assert!(order.attempt < MOST_TRIES, "job {job} got no response: {errors:?}\n{}", world.history());
                order.attempt += 1;
                world.count(|totals| totals.retries += 1);
                sleep(wait).await;
            }
        }
    }
}

async fn attempt(
    world: &World,
    order: &Order,
    leaves: bool,
    is_slow: bool,
    chance: &mut impl Rng,
    begin: Instant,
) -> End {
    let second = Duration::from_secs(1);
    let Some(coordinator) = world.balancer.for_client() else { return End::Again(second, "no coordinator".into()) };
    let response = coordinator.post("/v1/chat/completions", order.request());
    let patience =
        if leaves { Duration::from_millis(chance.random_range(0..3000)) } else { Duration::from_secs(100_000) };
    let Ok(response) = tokio::time::timeout(patience, response).await else { return End::Left };
    let response = match response {
        Ok(response) => response,
        Err(Killed) => return End::Again(second, "killed".into()),
    };
    let (status, retry_after) = (response.status, response.retry_after.map_or(second, Duration::from_secs));
    let leaves_after = if leaves { chance.random_range(0..10) } else { usize::MAX };
    let pause = if is_slow { Duration::from_millis(chance.random_range(10..500)) } else { Duration::ZERO };
    let read = read(response, leaves_after, pause).await;
    if status != 200 {
        let body = read.map_or_else(|_| String::new(), |(body, _)| String::from_utf8_lossy(&body).into_owned());
        assert!(matches!(status, 404 | 429 | 500 | 502 | 503 | 504), "{status}: {body}");
        if !matches!(status, 404 | 429 | 503) {
            // An agent is lost three times before a response has begun, or a fault of the job's own.
            let is_lost = body.contains("the connection to the agent was lost") && world.was_troubled_since(begin);
            let is_excused = world.journal().failed.contains(&order.job) || world.was_killed_since(begin);
            assert!(is_lost || is_excused, "{status} without a cause: {body}\n{}", world.history());
            world.count(|totals| totals.given_up += u64::from(is_lost && !is_excused));
        }
        return End::Again(retry_after, format!("{status} {body}"));
    }
    let (body, is_left) = match read {
        Ok(read) => read,
        Err(body) => {
            check_beginning(order, &body);
            return End::Failed(format!(
                "the body broke off: {}",
                String::from_utf8_lossy(&body[body.len().saturating_sub(300)..])
            ));
        }
    };
    if is_left {
        check_beginning(order, &body);
        return End::Left;
    }
    if !order.streams {
        let body: Value = serde_json::from_slice(&body).expect("a JSON body");
        assert_eq!(body, order.whole(), "job {}", order.job);
        return End::Whole;
    }
    if without_comments(&body) == order.stream() {
        return End::Whole;
    }
    check_beginning(order, &body);
    End::Failed(String::from_utf8_lossy(&body[body.len().saturating_sub(300)..]).into_owned())
}

/// Reads a body. With whether the client left before its end; an error if it broke off.
async fn read(mut response: MemoryResponse, leaves_after: usize, pause: Duration) -> Result<(Vec<u8>, bool), Vec<u8>> {
    let mut body = Vec::new();
    for _ in 0..leaves_after {
        match response.next().await {
            None => return Ok((body, false)),
            Some(Ok(piece)) => body.extend_from_slice(&piece),
            Some(Err(Killed)) => return Err(body),
        }
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
    Ok((body, true))
}

/// Checks that what came, but for a last event with an error, is the beginning of the response.
fn check_beginning(order: &Order, body: &[u8]) {
    if !order.streams {
        return;
    }
    let (body, whole) = (without_comments(body), order.stream());
    let error = body.windows(ERROR.len()).rposition(|part| part == ERROR);
    // An event that is not complete ends before the error's.
    let response = error.map_or(&body[..], |at| body[..at].trim_ascii_end());
    let same = response.iter().zip(&whole).take_while(|(left, right)| left == right).count();
    let rest = String::from_utf8_lossy(&response[same..]);
    assert!(rest.is_empty(), "job {}: wrong bytes at {same} of {}: {rest:.300}", order.job, whole.len());
}

/// A stream without the comments that a coordinator puts between events while an agent is away.
fn without_comments(stream: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(stream).expect("text");
    let blocks = text.split_inclusive("\n\n").filter(|block| !block.starts_with(':'));
    blocks.collect::<String>().into_bytes()
}
