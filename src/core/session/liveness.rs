//! Whether the peer of a connection is alive.
//!
//! Two things show it: received bytes, and bytes that the stream takes after it was full, because then the peer must have
//! read some. Bytes that a stream with room takes show nothing: they may stay in a buffer, as heartbeats do if the peer
//! hangs. But a slow peer has to read them before it reaches our ping. So they extend the timeout: by 4 s for each 64 KiB
//! sent since the last received byte, up to 8 MiB, which is more than systems buffer by default.
//!
//! Used by the pump. The transport detects bytes that the peer's system does not acknowledge.

use std::time::{Duration, Instant};

/// After this time without a sign of life, and with little to read, the peer is dead.
pub(crate) const DEAD_AFTER: Duration = Duration::from_secs(45);
/// Bytes that a peer may take [`READING_TIME`] to read.
const BLOCK: u64 = 64 * 1024;
/// How long the slowest peer takes to read a [`BLOCK`] from the buffers.
const READING_TIME: Duration = Duration::from_secs(4);
/// Blocks that the buffers between us and the peer may hold.
const MAX_BLOCKS: u64 = 128;

/// The signs of life of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Liveness {
    /// When it last showed a sign of life.
    seen: Instant,
    /// Bytes sent since the last received byte: the peer may still have to read them.
    unread: u64,
}

impl Liveness {
    /// Alive at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self { seen: now, unread: 0 }
    }

    /// Bytes were received.
    pub(crate) fn heard(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// The stream took bytes at once.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.unread = self.unread.saturating_add(bytes as u64);
    }

    /// The stream took bytes that had waited for room: the peer has read others.
    pub(crate) fn made_room(&mut self, bytes: usize, now: Instant) {
        self.sent(bytes);
        self.seen = now;
    }

    /// When the peer will be dead, if nothing happens until then.
    pub(crate) fn dead_at(&self) -> Instant {
        let blocks = u32::try_from((self.unread / BLOCK).min(MAX_BLOCKS)).unwrap_or(u32::MAX);
        self.seen + DEAD_AFTER + READING_TIME.saturating_mul(blocks)
    }

    /// Whether the peer is dead.
    pub(crate) fn is_dead(&self, now: Instant) -> bool {
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
            // Pings and heartbeats, with a generous size.
            liveness.sent(500);
            assert!(!liveness.is_dead(start + SECOND * second));
        }
        assert!(liveness.is_dead(start + DEAD_AFTER));
    }

    #[test]
    fn unread_bytes_extend_the_timeout_up_to_a_bound() {
        let start = start();
        for (bytes, seconds) in [(65_535, 45), (65_536, 49), (1 << 20, 45 + 64), (8 << 20, 557), (usize::MAX, 557)] {
            let mut liveness = Liveness::new(start);
            liveness.sent(bytes);
            assert_eq!(liveness.dead_at() - start, SECOND * seconds, "{bytes}");
            liveness.heard(start + SECOND);
            assert_eq!(liveness.dead_at() - start, SECOND * 46, "bytes before an answered ping were read");
        }
    }

    /// A peer that reads so many bytes a second from buffers of so many bytes, and answers pings, which arrive every 20 s.
    /// It is sent so many bytes a second for so long, then nothing. Returns whether it counts as alive until it has read
    /// everything.
    fn survives(read: usize, buffers: usize, send: usize, seconds: usize) -> bool {
        let start = start();
        let mut liveness = Liveness::new(start);
        // Bytes sent and bytes read so far, and the positions of the pings in them.
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
    fn a_peer_that_reads_a_kilobyte_a_second_counts_as_alive_while_it_is_sent_more() {
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
                // Pings and heartbeats still fit.
                liveness.sent(40);
                if liveness.is_dead(start + SECOND * second) {
                    let blocks = u32::try_from((sent as u64 + 40 * 558) / BLOCK).unwrap();
                    prop_assert!(SECOND * second <= DEAD_AFTER + READING_TIME * (blocks + 1));
                    return Ok(());
                }
            }
            prop_assert!(false, "its death is never detected");
        }
    }
}
