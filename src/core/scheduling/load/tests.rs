//! The window, compared with a naive one that keeps everything, and its edge cases.

use proptest::prelude::*;

use super::*;

#[expect(clippy::disallowed_methods, reason = "any instant does as the start of a test's own time")]
fn epoch() -> Instant {
    Instant::now()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn done(duration_ms: u64, output: u64) -> Ended {
    Ended { duration: ms(duration_ms), tokens: Tokens::new(7, output), error: None }
}

fn failed(duration_ms: u64, code: ErrorCode) -> Ended {
    Ended { duration: ms(duration_ms), tokens: Tokens::default(), error: Some(code) }
}

/// A window in which all of these ended at once.
fn window(now: Instant, ends: &[Ended]) -> LoadWindow {
    let mut window = LoadWindow::default();
    for ended in ends {
        window.record(now, UNIX_EPOCH, ended);
    }
    window
}

/// How many ends the window counts.
fn counted(window: &mut LoadWindow, now: Instant) -> u64 {
    window.advance(now);
    window.total(|bucket| bucket.ended)
}

#[test]
fn before_any_end_all_figures_are_zero() {
    let mut window = LoadWindow::default();
    assert_eq!(window.heartbeat(epoch(), 3), Heartbeat { queue_depth: 3, ..Heartbeat::default() });
    assert_eq!(counted(&mut window, epoch()), 0);
}

#[test]
fn percentiles_use_the_nearest_rank() {
    let now = epoch();
    for (count, p50, p95) in [(1, 1, 1), (2, 1, 2), (3, 2, 3), (10, 5, 10), (19, 10, 19), (20, 10, 19), (100, 50, 95)] {
        let ends: Vec<Ended> = (1..=count).rev().map(|n| done(n, 0)).collect();
        let figures = window(now, &ends).heartbeat(now, 0);
        assert_eq!((figures.p50_latency_ms, figures.p95_latency_ms), (p50, p95), "{count}");
    }
}

#[test]
fn latency_counts_all_ends_and_the_rate_those_with_output() {
    let now = epoch();
    let ends = [done(500, 10), done(2000, 20), done(1000, 0), failed(9000, ErrorCode::BackendTimeout)];
    let figures = window(now, &ends).heartbeat(now, 0);
    assert_eq!((figures.p50_latency_ms, figures.p95_latency_ms), (1000, 9000));
    assert_eq!(figures.tokens_per_sec_p50, 10.0);
    assert_eq!(figures.error_rate_60s, 0.25);
}

#[test]
fn an_end_leaves_the_window_at_sixty_seconds_exactly() {
    let (now, nano) = (epoch(), Duration::from_nanos(1));
    let mut window = window(now, &[done(5, 3)]);
    // In the same second as the first one, and half a second later.
    window.record(now + ms(500), UNIX_EPOCH, &done(9, 4));
    assert_eq!(counted(&mut window, now + WINDOW - nano), 2);
    assert_eq!(counted(&mut window, now + WINDOW), 1);
    assert_eq!(window.heartbeat(now + WINDOW, 0).p50_latency_ms, 9);
    assert_eq!(counted(&mut window, now + WINDOW + ms(500) - nano), 1);
    assert_eq!(window.heartbeat(now + WINDOW + ms(500), 0), Heartbeat::default());
    assert!(window.buckets.is_empty());
}

#[test]
fn the_last_error_stays_until_the_next_one() {
    let now = epoch();
    let at = UNIX_EPOCH + Duration::from_secs(1_795_442_400) + ms(999);
    let mut window = LoadWindow::default();
    window.record(now, at, &failed(1, ErrorCode::BackendTimeout));
    window.record(now, at + WINDOW, &done(1, 1));
    let late = window.heartbeat(now + WINDOW * 100, 0);
    assert_eq!(late.last_error_at.as_deref(), Some("2026-11-23T14:00:00Z"));
    assert_eq!((late.last_error_code, late.error_rate_60s), (Some(ErrorCode::BackendTimeout), 0.0));
    window.record(now + WINDOW * 100, at + WINDOW, &failed(1, ErrorCode::Internal));
    let later = window.heartbeat(now + WINDOW * 100, 0);
    assert_eq!(later.last_error_at.as_deref(), Some("2026-11-23T14:01:00Z"));
    assert_eq!((later.last_error_code, later.error_rate_60s), (Some(ErrorCode::Internal), 1.0));
}

#[test]
fn a_wrong_wall_clock_is_limited_to_representable_times() {
    for (at, text) in [
        (UNIX_EPOCH - Duration::from_secs(1), "1970-01-01T00:00:00Z"),
        (UNIX_EPOCH, "1970-01-01T00:00:00Z"),
        (UNIX_EPOCH + LAST_SECOND + ms(999), "9999-12-31T23:59:59Z"),
        (UNIX_EPOCH + LAST_SECOND * 2, "9999-12-31T23:59:59Z"),
    ] {
        assert_eq!(rfc3339(at), text);
    }
}

#[test]
fn all_figures_are_finite() {
    let now = epoch();
    let tokens = Tokens::new(u64::MAX, u64::MAX);
    let ends = [Duration::ZERO, Duration::MAX].map(|duration| Ended { duration, tokens, error: None });
    for ended in ends {
        let figures = window(now, &[ended, ended]).heartbeat(now, u64::MAX);
        assert!(figures.tokens_per_sec_p50.is_finite() && figures.tokens_per_sec_p50 >= 0.0);
    }
    let one = window(now, &[Ended { duration: Duration::ZERO, ..done(0, 5) }]).heartbeat(now, 0);
    assert_eq!((one.tokens_per_sec_p50, one.p50_latency_ms), (5000.0, 0));
}

#[test]
fn an_earlier_time_counts_as_the_latest_one() {
    let now = epoch() + WINDOW;
    let mut window = window(now, &[done(1, 1)]);
    window.record(now - WINDOW, UNIX_EPOCH, &done(1, 1));
    assert_eq!(counted(&mut window, now - WINDOW), 2);
    assert_eq!(counted(&mut window, now + WINDOW - Duration::from_nanos(1)), 2);
    assert_eq!(counted(&mut window, now + WINDOW), 0);
}

#[test]
fn with_many_ends_counts_are_exact_and_memory_is_bounded() {
    let (start, each) = (epoch(), 2000);
    let mut window = LoadWindow::default();
    // Every second end is slow, so that a sample of every second end would contain none or only slow ones.
    let ends = [done(10, 1), failed(90, ErrorCode::Internal), done(20, 1), done(80, 1), done(20, 1), done(20, 1)];
    for n in 0..90 * each {
        let now = start + Duration::from_secs(1) * (n / each) + Duration::from_secs(1) / each * (n % each);
        window.record(now, UNIX_EPOCH, &ends[n as usize % ends.len()]);
    }
    assert!(window.buckets.len() <= 61);
    assert!(
        window.buckets.iter().all(|bucket| bucket.sample.len() == SAMPLE && bucket.sample.capacity() <= 2 * SAMPLE)
    );
    let now = start + Duration::from_secs(90);
    assert_eq!(counted(&mut window, now), 60 * u64::from(each));
    let figures = window.heartbeat(now, 0);
    assert_eq!(figures.error_rate_60s, 1.0 / 6.0);
    assert_eq!((figures.p50_latency_ms, figures.p95_latency_ms), (20, 90));
    assert_eq!(figures.tokens_per_sec_p50, 50.0);
}

#[test]
fn a_second_with_many_ends_has_more_weight() {
    let now = epoch();
    let mut window = window(now, &[done(10, 0); 10_000]);
    for _ in 0..200 {
        window.record(now + SPAN, UNIX_EPOCH, &done(500, 0));
    }
    // 456 ends are kept, 200 of them slow; of all ends 2 % are.
    assert_eq!(window.heartbeat(now + SPAN, 0).p95_latency_ms, 10);
}

#[test]
fn the_sample_of_a_busy_second_favours_neither_its_first_ends_nor_its_last() {
    let now = epoch();
    for (first, then, p50) in [(10, 500, 10), (500, 10, 500)] {
        let ends = [vec![done(first, 0); 7_000], vec![done(then, 0); 3_000]].concat();
        assert_eq!(window(now, &ends).heartbeat(now, 0).p50_latency_ms, p50);
    }
}

/// The same figures from a list of all ends and their times.
fn naive(all: &[(Instant, Ended)], now: Instant) -> Heartbeat {
    let within: Vec<&Ended> = all.iter().filter(|(at, _)| now - *at < WINDOW).map(|(_, ended)| ended).collect();
    fn percentile<V: Copy + Default>(sorted: &[V], p: usize) -> V {
        (sorted.len() * p).div_ceil(100).checked_sub(1).map_or(V::default(), |rank| sorted[rank])
    }
    let mut latencies: Vec<u64> = within.iter().map(|ended| ended.duration.as_millis() as u64).collect();
    latencies.sort_unstable();
    let mut rates: Vec<f64> = within
        .iter()
        .filter(|ended| ended.tokens.output > 0)
        .map(|ended| ended.tokens.output as f64 / ended.duration.as_secs_f64().max(0.001))
        .collect();
    rates.sort_unstable_by(f64::total_cmp);
    let errors = within.iter().filter(|ended| ended.error.is_some()).count();
    let last_error_code = all.iter().rev().find_map(|(_, ended)| ended.error);
    Heartbeat {
        queue_depth: 0,
        tokens_per_sec_p50: percentile(&rates, 50),
        p50_latency_ms: percentile(&latencies, 50),
        p95_latency_ms: percentile(&latencies, 95),
        error_rate_60s: if within.is_empty() { 0.0 } else { errors as f64 / within.len() as f64 },
        last_error_at: last_error_code.map(|_| "1970-01-01T00:00:00Z".to_owned()),
        last_error_code,
    }
}

fn any_end() -> impl Strategy<Value = Ended> {
    let error = prop::option::weighted(0.2, prop::sample::select(ErrorCode::ALL.to_vec()));
    (0u64..5_000_000, 0u64..100, 0u64..3, error).prop_map(|(micros, input, output, error)| Ended {
        duration: Duration::from_micros(micros),
        tokens: Tokens::new(input, output),
        error,
    })
}

proptest! {
    #[test]
    fn below_the_bound_the_figures_are_exact(
        ends in prop::collection::vec((prop_oneof![3 => Just(0u64), 5 => 0..400u64, 3 => 0..20_000u64], any_end()), 0..120),
    ) {
        let (mut now, mut window, mut all) = (epoch(), LoadWindow::default(), Vec::new());
        for (gap, ended) in ends {
            now += ms(gap);
            window.record(now, UNIX_EPOCH, &ended);
            all.push((now, ended));
            prop_assert_eq!(window.heartbeat(now, 0), naive(&all, now));
            let within = all.iter().filter(|(at, _)| now - *at < WINDOW).count();
            prop_assert_eq!(counted(&mut window, now), within as u64);
            prop_assert!(window.buckets.len() <= 61);
        }
    }
}
