//! The breaker in virtual time.

use proptest::prelude::*;

use super::*;

#[expect(clippy::disallowed_methods, reason = "any instant does as the start of a test's own time")]
fn start() -> Instant {
    Instant::now()
}

/// Sends a job with this outcome at once. Returns whether it was let through.
fn job(breaker: &mut Breaker, verdict: Verdict, now: Instant) -> bool {
    let token = breaker.begin(now);
    if let Some(token) = token {
        breaker.report(token, verdict, now);
    }
    token.is_some()
}

/// A breaker that was just opened by faults.
fn opened(now: Instant) -> Breaker {
    let mut breaker = Breaker::new(0);
    for _ in 0..OPENS_AT {
        assert!(job(&mut breaker, Verdict::Fault, now));
    }
    breaker
}

#[test]
fn a_hundred_client_errors_in_a_row_do_not_open_it() {
    let now = start();
    let mut breaker = Breaker::new(0);
    for _ in 0..100 {
        assert!(job(&mut breaker, Verdict::Neutral, now));
    }
    assert_eq!(breaker, Breaker::new(0));
}

#[test]
fn faults_in_a_row_open_it_and_a_success_between_them_resets_the_count() {
    let now = start();
    let mut breaker = Breaker::new(0);
    for _ in 0..10 {
        for _ in 1..OPENS_AT {
            assert!(job(&mut breaker, Verdict::Fault, now));
        }
        assert!(job(&mut breaker, Verdict::Success, now));
    }
    assert_eq!(breaker.state(now), State::Closed);
    assert_eq!(opened(now).state(now), State::Open { until: now + COOL_DOWN });
    assert!(!job(&mut opened(now), Verdict::Success, now));
}

#[test]
fn client_errors_between_faults_do_not_reset_the_count() {
    let now = start();
    let mut breaker = Breaker::new(0);
    for _ in 0..OPENS_AT {
        assert!(job(&mut breaker, Verdict::Neutral, now));
        assert!(job(&mut breaker, Verdict::Fault, now));
    }
    assert!(!breaker.admits(now));
}

#[test]
fn while_half_open_one_trial_at_a_time_decides() {
    let now = start();
    let then = now + COOL_DOWN;
    let mut breaker = opened(now);
    assert_eq!(breaker.state(then - Duration::from_nanos(1)), State::Open { until: then });
    assert_eq!(breaker.state(then), State::HalfOpen);
    let trial = breaker.begin(then).unwrap();
    assert_eq!((breaker.state(then), breaker.begin(then)), (State::Trying, None));

    let mut failed = breaker.clone();
    failed.report(trial, Verdict::Fault, then);
    assert_eq!(failed.state(then), State::Open { until: then + 2 * COOL_DOWN });

    breaker.report(trial, Verdict::Success, then);
    assert_eq!(breaker.state(then), State::Closed);
}

#[test]
fn a_trial_without_a_result_leaves_it_half_open() {
    let now = start();
    let mut breaker = opened(now);
    for n in 1..100 {
        assert!(job(&mut breaker, Verdict::Neutral, now + n * COOL_DOWN));
        assert_eq!(breaker.state(now + n * COOL_DOWN), State::HalfOpen);
    }
}

#[test]
fn a_trial_that_never_reports_is_followed_by_another() {
    let now = start();
    let mut breaker = opened(now);
    let lost = breaker.begin(now + COOL_DOWN).unwrap();
    let later = now + COOL_DOWN + TRIAL;
    assert!(!breaker.admits(later - Duration::from_nanos(1)));
    let trial = breaker.begin(later).unwrap();
    breaker.report(lost, Verdict::Fault, later);
    assert_eq!(breaker.state(later), State::Trying, "a late fault of the lost one decides nothing");
    breaker.report(trial, Verdict::Success, later);
    assert_eq!(breaker.state(later), State::Closed);
}

#[test]
fn the_success_of_any_trial_of_the_episode_closes_it_however_late() {
    let now = start();
    let mut breaker = opened(now);
    // Each job takes longer than the wait for the next trial.
    let tokens: Vec<BreakerToken> = (0..5).map(|nth| breaker.begin(now + COOL_DOWN + nth * TRIAL).unwrap()).collect();
    let late = now + COOL_DOWN + 5 * TRIAL;
    breaker.report(tokens[0], Verdict::Success, late);
    assert_eq!(breaker.state(late), State::Closed);
    breaker.report(tokens[4], Verdict::Fault, late);
    assert_eq!(breaker, Breaker { episode: 2, trial: 5, ..Breaker::new(0) }, "the episode is over");
}

#[test]
fn jobs_that_fail_together_open_it_once() {
    let now = start();
    let mut breaker = Breaker::new(0);
    let tokens: Vec<BreakerToken> = (0..50).map(|_| breaker.begin(now).unwrap()).collect();
    for token in &tokens {
        breaker.report(*token, Verdict::Fault, now);
    }
    assert_eq!(breaker.state(now), State::Open { until: now + COOL_DOWN });
    let trial = breaker.begin(now + COOL_DOWN).unwrap();
    breaker.report(tokens[0], Verdict::Fault, now + COOL_DOWN);
    breaker.report(tokens[1], Verdict::Success, now + COOL_DOWN);
    assert_eq!(breaker.state(now + COOL_DOWN), State::Trying);
    breaker.report(trial, Verdict::Success, now + COOL_DOWN);
    breaker.report(tokens[2], Verdict::Fault, now + COOL_DOWN);
    assert_eq!(breaker, Breaker { episode: 2, trial: 1, ..Breaker::new(0) });
}

#[test]
fn the_cool_down_doubles_up_to_its_bound_and_starts_anew_after_a_success() {
    let mut now = start();
    let mut breaker = opened(now);
    let mut waits = Vec::new();
    while let State::Open { until } = breaker.state(now) {
        waits.push((until - now).as_secs());
        now = until;
        let verdict = if waits.len() < 8 { Verdict::Fault } else { Verdict::Success };
        assert!(job(&mut breaker, verdict, now));
    }
    assert_eq!(waits, [4, 8, 16, 30, 30, 30, 30, 30]);
    for _ in 0..OPENS_AT {
        assert!(job(&mut breaker, Verdict::Fault, now));
    }
    assert_eq!(breaker.state(now), State::Open { until: now + COOL_DOWN });
}

proptest! {
    #[test]
    fn it_always_lets_a_job_through_within_its_bounds(
        steps in prop::collection::vec((0u64..20_000, 0u8..5, any::<prop::sample::Index>()), 0..200),
    ) {
        let mut now = start();
        let mut breaker = Breaker::new(0);
        let mut tokens = Vec::new();
        for (wait, what, which) in steps {
            now += Duration::from_millis(wait);
            let verdict = [Verdict::Success, Verdict::Fault, Verdict::Neutral].get(usize::from(what)).copied();
            match verdict {
                // Outcomes arrive in any order, more than once, or never.
                Some(verdict) if !tokens.is_empty() => breaker.report(*which.get(&tokens), verdict, now),
                _ => {
                    let admits = breaker.admits(now);
                    let token = breaker.begin(now);
                    prop_assert_eq!(token.is_some(), admits);
                    tokens.extend(token);
                }
            }
            prop_assert!(breaker.admits(now + LONGEST.max(TRIAL)));
        }
    }
}
