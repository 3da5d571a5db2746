//! Clocks and samples.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the program started: the stamp that an event carries.
pub fn now() -> u64 {
    u64::try_from(START.elapsed().as_nanos()).unwrap()
}

/// How the stamp stands in an event: 16 digits after this.
pub const MARK: &[u8] = b"\"t\":\"";
/// Digits of a stamp.
pub const DIGITS: usize = 16;

/// Finds the stamps in a stream of bytes, whole or split, and records how old they are.
#[derive(Default)]
pub struct Stamps {
    tail: Vec<u8>,
    pub ages: Vec<u64>,
}

impl Stamps {
    pub fn feed(&mut self, bytes: &[u8]) {
        let now = now();
        self.tail.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(found) = memchr::memmem::find(&self.tail[at..], MARK) {
            let from = at + found + MARK.len();
            let Some(digits) = self.tail.get(from..from + DIGITS) else { break };
            let stamp: u64 = std::str::from_utf8(digits).unwrap().parse().unwrap();
            self.ages.push(now.saturating_sub(stamp));
            at = from + DIGITS;
        }
        let keep = self.tail.len().saturating_sub(MARK.len() + DIGITS).max(at);
        self.tail.drain(..keep);
    }
}

/// The value below which `share` of the samples lie.
pub fn percentile(samples: &mut [u64], share: f64) -> f64 {
    if samples.is_empty() {
        return f64::NAN;
    }
    samples.sort_unstable();
    let rank = (share * samples.len() as f64).ceil() as usize;
    samples[rank.clamp(1, samples.len()) - 1] as f64
}

pub fn ms(nanos: f64) -> f64 {
    nanos / 1e6
}

pub fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
