//! The budget in virtual time: single rules, and every possible window.

use proptest::prelude::*;

use super::*;

#[expect(clippy::disallowed_methods, reason = "any instant does as the start of a test's own time")]
fn epoch() -> Instant {
    Instant::now()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn an_estimate_counts_until_it_is_replaced_by_the_used_tokens() {
    let now = epoch();
    let mut budget = TokenBudget::new(100);
    let job = budget.reserve(60, 0, now).unwrap();
    assert_eq!(budget.reserve(41, 0, now), Err(Spent));
    assert_eq!(budget.reserve(41, 0, now + 2 * WINDOW), Err(Spent), "it runs still");
    budget.settle(job, Some(10), now);
    assert_eq!(budget.reserve(91, 0, now), Err(Spent));
    assert!(budget.reserve(90, 0, now).is_ok());
    assert_eq!(budget.counted(now), 100);
}

#[test]
fn used_tokens_count_for_a_minute_from_the_end_of_the_job_on() {
    let now = epoch();
    let mut budget = TokenBudget::new(100);
    let job = budget.reserve(100, 0, now).unwrap();
    budget.settle(job, Some(100), now + ms(5000));
    assert_eq!(budget.reserve(1, 0, now + ms(64_999)), Err(Spent));
    assert!(budget.reserve(100, 0, now + ms(65_000)).is_ok());
}

#[test]
fn a_job_that_never_ran_used_nothing_and_one_without_a_report_used_its_estimate() {
    let now = epoch();
    let mut budget = TokenBudget::new(100);
    let job = budget.reserve(100, 0, now).unwrap();
    budget.settle(job, Some(0), now);
    assert_eq!(budget.counted(now), 0);
    let job = budget.reserve(70, 0, now).unwrap();
    budget.settle(job, None, now);
    assert_eq!(budget.counted(now), 70);
}

#[test]
fn a_reservation_is_released_once() {
    let now = epoch();
    let mut budget = TokenBudget::new(100);
    let job = budget.reserve(60, 0, now).unwrap();
    budget.settle(job, Some(20), now);
    budget.settle(job, Some(20), now);
    assert_eq!(budget.counted(now), 20);
}

#[test]
fn a_job_larger_than_the_budget_runs_alone() {
    let now = epoch();
    let mut budget = TokenBudget::new(100);
    let small = budget.reserve(0, 0, now).unwrap();
    assert_eq!(budget.reserve(101, 0, now), Err(Spent), "another job runs");
    budget.settle(small, Some(1), now);
    assert_eq!(budget.reserve(101, 0, now + ms(59_999)), Err(Spent), "another has just run");
    let large = budget.reserve(101, 0, now + WINDOW).unwrap();
    assert_eq!(budget.reserve(0, 0, now + WINDOW), Err(Spent));
    budget.settle(large, Some(u64::MAX), now + WINDOW);
    assert_eq!(budget.reserve(1, 0, now + 2 * WINDOW - ms(1)), Err(Spent));
    assert!(budget.reserve(100, 0, now + 2 * WINDOW).is_ok());
}

#[test]
fn one_answer_reserves_an_eighth_of_the_budget_at_most() {
    let now = epoch();
    let mut budget = TokenBudget::new(800);
    for _ in 0..8 {
        assert!(budget.reserve(0, u64::MAX, now).is_ok());
    }
    assert_eq!((budget.reserve(1, 0, now), budget.reserved()), (Err(Spent), 800));
}

#[test]
fn memory_is_bounded_however_many_jobs_settle() {
    let now = epoch();
    let mut budget = TokenBudget::new(u64::MAX);
    for n in 0..200_000 {
        let job = budget.reserve(1, 0, now + ms(n)).unwrap();
        budget.settle(job, Some(1), now + ms(n));
        assert!(budget.used.len() <= 62 && budget.reserved.is_empty());
    }
}

/// A job as the checker knows it. Times in milliseconds; the second is `None` while it runs.
struct Job {
    reservation: Reservation,
    estimate: u64,
    used: u64,
    from: u64,
    to: Option<u64>,
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Reserve(u64),
    /// Ends the nth job, which used so many thousandths of its estimate.
    Settle(prop::sample::Index, u64),
    Release(prop::sample::Index),
}

fn step(most: u64) -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => prop_oneof![0u64..3000, 0u64..70_000].prop_map(Step::Wait),
        8 => prop_oneof![9 => 0u64..60, 1 => 0u64..150].prop_map(Step::Reserve),
        6 => (index(), 0..=most).prop_map(|(job, thousandths)| Step::Settle(job, thousandths)),
        1 => index().prop_map(Step::Release),
    ]
}

/// Runs the steps. Returns the jobs that were admitted and ran.
fn play(budget: u64, steps: Vec<Step>) -> Vec<Job> {
    let start = epoch();
    let mut tokens = TokenBudget::new(budget);
    let (mut now, mut jobs): (u64, Vec<Job>) = (0, Vec::new());
    for step in steps {
        match step {
            Step::Wait(wait) => now += wait,
            Step::Reserve(estimate) => {
                if let Ok(reservation) = tokens.reserve(estimate, 0, start + ms(now)) {
                    jobs.push(Job { reservation, estimate, used: estimate, from: now, to: None });
                }
            }
            Step::Settle(nth, thousandths) => {
                let mut running: Vec<&mut Job> = jobs.iter_mut().filter(|job| job.to.is_none()).collect();
                if running.is_empty() {
                    continue;
                }
                let nth = nth.index(running.len());
                let job = &mut running[nth];
                job.used = job.estimate * thousandths / 1000;
                job.to = Some(now);
                tokens.settle(job.reservation, Some(job.used), start + ms(now));
            }
            Step::Release(nth) => {
                let running: Vec<usize> = (0..jobs.len()).filter(|n| jobs[*n].to.is_none()).collect();
                if !running.is_empty() {
                    let job = jobs.remove(running[nth.index(running.len())]);
                    tokens.settle(job.reservation, Some(0), start + ms(now));
                }
            }
        }
    }
    jobs
}

/// Jobs that may have used tokens in the window of 60 s that begins then.
fn in_window(jobs: &[Job], begin: u64) -> impl Iterator<Item = &Job> {
    jobs.iter().filter(move |job| job.from < begin + 60_000 && job.to.is_none_or(|to| to >= begin))
}

/// Every relevant window: its set of jobs changes only when its end meets a start or its begin passes an end.
fn windows(jobs: &[Job]) -> impl Iterator<Item = u64> {
    jobs.iter().flat_map(|job| [Some(job.from), job.from.checked_sub(59_999), job.to]).flatten()
}

proptest! {
    #[test]
    fn no_window_exceeds_the_budget_except_for_one_job_larger_than_it(
        budget in 0u64..120, steps in prop::collection::vec(step(1000), 0..80),
    ) {
        let jobs = play(budget, steps);
        for begin in windows(&jobs) {
            let sum: u64 = in_window(&jobs, begin).map(|job| job.used).sum();
            let alone = in_window(&jobs, begin).filter(|job| job.used > 0).count() == 1;
            prop_assert!(sum <= budget || alone, "{} of {} in the window from {}", sum, budget, begin);
        }
    }

    #[test]
    fn only_tokens_beyond_estimates_exceed_the_budget(
        budget in 0u64..120, steps in prop::collection::vec(step(3000), 0..80),
    ) {
        let jobs = play(budget, steps);
        for begin in windows(&jobs) {
            let sum: u64 = in_window(&jobs, begin).map(|job| job.used).sum();
            let beyond: u64 = in_window(&jobs, begin).map(|job| job.used.saturating_sub(job.estimate)).sum();
            let alone = in_window(&jobs, begin).filter(|job| job.used > 0).count() == 1;
            prop_assert!(sum <= budget + beyond || alone, "{} of {} and {} from {}", sum, budget, beyond, begin);
        }
    }

    #[test]
    fn a_minute_after_the_last_job_the_whole_budget_is_free(
        budget in 1u64..120, steps in prop::collection::vec(step(3000), 0..80),
    ) {
        let start = epoch();
        let mut tokens = TokenBudget::new(budget);
        let (mut now, mut last) = (0, 0);
        for step in steps {
            match step {
                Step::Wait(wait) => now += wait,
                Step::Reserve(estimate) => {
                    if let Ok(job) = tokens.reserve(estimate, 0, start + ms(now)) {
                        tokens.settle(job, Some(estimate), start + ms(now));
                        last = now;
                    }
                }
                Step::Settle(..) | Step::Release(_) => {}
            }
        }
        prop_assert!(tokens.clone().counted(start + ms(now)) <= u128::from(budget.max(149)));
        prop_assert_eq!(tokens.counted(start + ms(last + 60_000)), 0);
    }
}
