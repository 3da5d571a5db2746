//! Whether the other end of a connection still lives.
//!
//! Two things show it: bytes that come, and bytes that go after the stream was full, since the peer must have taken some
//! for that. Bytes that go into a stream with room show nothing: they may lie in a buffer of a peer that hangs, as each
//! heartbeat would. But a peer that reads slowly must read them before it sees our ping. So they give it time: 4 s for each
//! 64 KiB since it was heard, up to 8 MiB, which is more than systems buffer by default.
//!
//! Driven by the pump. Bytes that the peer's system does not even acknowledge are the transport's to notice.

use std::time::{Duration, Instant};

/// Without a sign of life for so long, and with nothing much to read, the peer is dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(45);
/// Bytes that a peer may take [`READING_TIME`] for.
const BLOCK: u64 = 64 * 1024;
/// How long the slowest peer takes to read a [`BLOCK`] that waits in buffers.
const READING_TIME: Duration = Duration::from_secs(4);
/// Blocks that buffers between us and the peer may hold.
const MAX_BLOCKS: u64 = 128;

/// What is known of the peer's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// When it last gave a sign of life.
    seen: Instant,
    /// Bytes that went since it was heard: it may still have to read them.
    unread: u64,
}

impl Liveness {
    /// It lives now.
    pub fn new(now: Instant) -> Self {
        Self { seen: now, unread: 0 }
    }

    /// Bytes came.
    pub fn heard(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// The stream took bytes at once.
    pub fn sent(&mut self, bytes: usize) {
        self.unread = self.unread.saturating_add(bytes as u64);
    }

    /// The stream took bytes that had waited for room in it: the peer has taken others.
    pub fn made_room(&mut self, bytes: usize, now: Instant) {
        self.sent(bytes);
        self.seen = now;
    }

    /// When the peer will be dead, if nothing happens until then.
    pub fn dead_at(&self) -> Instant {
        let blocks = u32::try_from((self.unread / BLOCK).min(MAX_BLOCKS)).unwrap_or(u32::MAX);
        self.seen + DEAD_AFTER + READING_TIME.saturating_mul(blocks)
    }

    /// Whether the peer is dead.
    pub fn is_dead(&self, now: Instant) -> bool {
        now >= self.dead_at()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_peer_that_says_nothing_and_has_little_to_read_is_dead_after_45_seconds() {
        let start = start();
        let mut liveness = Liveness::new(start);
        for second in 1..45 {
            // Pings and heartbeats, at a generous size.
            liveness.sent(500);
            assert!(!liveness.is_dead(start + SECOND * second));
        }
        assert!(liveness.is_dead(start + DEAD_AFTER));
    }

    #[test]
    fn what_it_has_to_read_gives_it_time_up_to_a_bound() {
        let start = start();
        for (bytes, seconds) in [(65_535, 45), (65_536, 49), (1 << 20, 45 + 64), (8 << 20, 557), (usize::MAX, 557)] {
            let mut liveness = Liveness::new(start);
            liveness.sent(bytes);
            assert_eq!(liveness.dead_at() - start, SECOND * seconds, "{bytes}");
            liveness.heard(start + SECOND);
            assert_eq!(liveness.dead_at() - start, SECOND * 46, "what it answered to was read");
        }
    }

    /// A peer that reads so many bytes a second behind buffers of so many bytes, and answers pings, which come every 20 s.
    /// It is sent so many bytes a second for so long, then nothing. Whether it is taken for alive until it has read all.
    fn survives(read: usize, buffers: usize, send: usize, seconds: usize) -> bool {
        let start = start();
        let mut liveness = Liveness::new(start);
        // Bytes sent and bytes read so far, and where in them the pings are.
        let (mut sent, mut done, mut pings) = (0, 0, VecDeque::new());
        for second in 1_usize.. {
            let now = start + SECOND * u32::try_from(second).unwrap();
            if liveness.is_dead(now) {
                return false;
            }
            done = sent.min(done + read);
            if pings.pop_front_if(|at| *at <= done).is_some() {
                liveness.heard(now);
            }
            let (wanted, room) = (if second <= seconds { send } else { 0 }, buffers - (sent - done));
            match wanted.min(room) {
                0 => {}
                took if took < wanted => liveness.made_room(took, now),
                took => liveness.sent(took),
            }
            sent += wanted.min(room);
            if second % 20 == 0 {
                pings.push_back(sent);
            }
            if second > seconds && done == sent && pings.is_empty() {
                return true;
            }
        }
        false
    }

    #[test]
    fn a_peer_that_reads_64_kb_a_second_survives_ten_minutes_of_any_speed() {
        for send in [1_000, 63_000, 65_000, 100_000, 160_000, 500_000, 5_000_000, 100_000_000] {
            assert!(survives(64_000, 6 << 20, send, 600), "{send} bytes a second");
        }
    }

    #[test]
    fn a_peer_that_reads_a_kilobyte_a_second_survives_as_long_as_it_is_sent_more() {
        assert!(survives(1_024, 64 << 10, 100_000, 3_600));
        assert!(survives(1_024, 32 << 10, 2_000, 3_600));
    }

    proptest! {
        #[test]
        fn a_peer_that_hangs_is_dead_when_buffers_are_full_or_after_ten_minutes(buffers in 0_usize..16 << 20, send in 0_usize..5_000_000) {
            let start = start();
            let (mut liveness, mut sent) = (Liveness::new(start), 0);
            for second in 1..558 {
                let took = send.min(buffers - sent);
                liveness.sent(took);
                sent += took;
                // Pings and heartbeats find room all the same.
                liveness.sent(40);
                if liveness.is_dead(start + SECOND * second) {
                    let blocks = u32::try_from((sent as u64 + 40 * 558) / BLOCK).unwrap();
                    prop_assert!(SECOND * second <= DEAD_AFTER + READING_TIME * (blocks + 1));
                    return Ok(());
                }
            }
            prop_assert!(false, "it is never noticed");
        }
    }
}
