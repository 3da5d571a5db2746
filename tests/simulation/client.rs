//! A client: asks for a job until it has the response, as the usual packages do, and checks it to the byte.

use std::time::Duration;

use outpost::testkit::{Killed, MemoryResponse};
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::order::Order;
use crate::system::World;

/// Tries of one job. Each is a second or more after the last.
const MOST_TRIES: u32 = 300;

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

/// A client with its one job.
struct Client<'a> {
    world: &'a World,
    order: Order,
    begin: Instant,
    /// It does not wait for the end.
    leaves: bool,
    is_slow: bool,
    chance: Xoshiro256PlusPlus,
}

/// Works one job to its end.
pub(crate) async fn work(world: &World, job: u64, mut chance: Xoshiro256PlusPlus) {
    let order = Order::random(job, &mut chance);
    let (leaves, is_slow) = (chance.random_bool(0.03), chance.random_bool(0.05));
    let mut client = Client { world, order, begin: Instant::now(), leaves, is_slow, chance };
    let mut errors = Vec::new();
    loop {
        match client.attempt().await {
            End::Whole => {
                client.check_runs();
                return world.count(|totals| totals.whole += 1);
            }
            End::Left => return world.count(|totals| totals.left += 1),
            End::Failed(cause) => {
                assert!(client.is_excused(), "job {job} failed without a cause: {cause}\n{}", world.history());
                return world.count(|totals| totals.failed += 1);
            }
            End::Again(wait, cause) => {
                errors.push(cause);
                let tries = client.order.attempt;
                assert!(tries < MOST_TRIES, "job {job} got no response: {errors:?}\n{}", world.history());
                client.order.attempt += 1;
                world.count(|totals| totals.retries += 1);
                sleep(wait).await;
            }
        }
    }
}

impl Client<'_> {
    /// Whether the job's backend failed it, or something was killed in its time.
    fn is_excused(&self) -> bool {
        self.world.journal().failed.contains(&self.order.job) || self.world.was_killed_since(self.begin)
    }

    /// A job that ended well ran once at the backends.
    fn check_runs(&self) {
        let Order { job, attempt, .. } = self.order;
        let runs = self.world.journal().begun.get(&(job, attempt)).copied().unwrap_or(0);
        // A job whose agent loses its connection before the response has begun goes to another agent.
        let may_move = runs > 1 && self.world.was_troubled_since(self.begin);
        assert!(runs == 1 || may_move || self.is_excused(), "job {job} ran {runs} times\n{}", self.world.history());
    }

    async fn attempt(&mut self) -> End {
        let second = Duration::from_secs(1);
        let Some(coordinator) = self.world.balancer.for_client() else {
            return End::Again(second, "no coordinator".into());
        };
        let patience =
            Duration::from_millis(if self.leaves { self.chance.random_range(0..3000) } else { u64::MAX >> 20 });
        let response = coordinator.post("/v1/chat/completions", self.order.request());
        let response = match timeout(patience, response).await {
            Ok(Ok(response)) => response,
            Ok(Err(Killed)) => return End::Again(second, "killed".into()),
            Err(_) => return End::Left,
        };
        if response.status != 200 {
            return self.refused(response).await;
        }
        let pieces = if self.leaves { self.chance.random_range(0..10) } else { usize::MAX };
        let pause = if self.is_slow { self.chance.random_range(10..500) } else { 0 };
        match read(response, pieces, Duration::from_millis(pause)).await {
            Ok((body, false)) => self.complete(&body),
            Ok((body, true)) => {
                check_beginning(&self.order, &body);
                End::Left
            }
            Err(body) => {
                check_beginning(&self.order, &body);
                End::Failed(format!("the body broke off: {}", end_of(&body)))
            }
        }
    }

    async fn refused(&self, response: MemoryResponse) -> End {
        let (status, wait) = (response.status, response.retry_after.unwrap_or(1));
        let body = read(response, usize::MAX, Duration::ZERO).await.map_or_else(|body| body, |(body, _)| body);
        let body = String::from_utf8_lossy(&body).into_owned();
        if !matches!(status, 404 | 429 | 503) {
            assert!(matches!(status, 500 | 502 | 504), "{status}: {body}");
            // The coordinator gives up after three lost agents.
            let is_lost =
                body.contains("connection to the agent was lost") && self.world.was_troubled_since(self.begin);
            assert!(is_lost || self.is_excused(), "{status} without a cause: {body}\n{}", self.world.history());
            self.world.count(|totals| totals.given_up += u64::from(!self.is_excused()));
        }
        End::Again(Duration::from_secs(wait), format!("{status} {body}"))
    }

    /// Checks a body that came to its end.
    fn complete(&self, body: &[u8]) -> End {
        if !self.order.streams {
            let body: Value = serde_json::from_slice(body).expect("a JSON body");
            assert_eq!(body, self.order.whole(), "job {}", self.order.job);
            return End::Whole;
        }
        if without_comments(body) == self.order.stream() {
            return End::Whole;
        }
        check_beginning(&self.order, body);
        End::Failed(end_of(body))
    }
}

fn end_of(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[body.len().saturating_sub(300)..]).into_owned()
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
