//! Capacity in virtual time: single rules, and a simulated server.

use proptest::prelude::*;

use super::*;

#[expect(clippy::disallowed_methods, reason = "any instant does as the start of a test's own time")]
fn epoch() -> Instant {
    Instant::now()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A poll that takes no time.
fn report(capacity: &mut Capacity, busy: u32, ours: u32, now: Instant) {
    capacity.on_ask(now);
    capacity.on_report(busy, ours, now);
}

#[test]
fn a_backend_without_reports_has_room_up_to_its_limit() {
    let now = epoch();
    let mut capacity = Capacity::new(4, None);
    assert_eq!([0, 3, 4, 9].map(|ours| capacity.free(ours, now)), [4, 1, 0, 0]);
    capacity.on_cancel(now);
    assert_eq!((capacity.free(3, now), capacity.lingering(now), capacity.next_poll(now)), (1, 0, None));
    capacity.resize(2, None);
    assert_eq!((capacity.free(0, now), capacity.load(1, now), capacity.load(3, now)), (2, 500, 1500));
}

#[test]
fn foreign_load_is_subtracted_from_the_servers_slots_and_not_from_the_configured_limit() {
    let now = epoch();
    for (limit, slots, busy, ours, free) in [
        (4, Some(4), 3, 1, 1),
        (2, Some(4), 3, 1, 1),
        (2, Some(4), 4, 1, 0),
        (6, Some(4), 4, 2, 2),
        (4, None, 3, 1, 3),
        (4, Some(4), 1, 3, 1),
        (4, Some(4), 99, 0, 0),
    ] {
        let mut capacity = Capacity::new(limit, slots);
        report(&mut capacity, busy, ours, now);
        assert_eq!(capacity.free(ours, now), free, "{limit} {slots:?} {busy} {ours}");
    }
}

#[test]
fn foreign_load_expires_without_further_reports() {
    let now = epoch();
    let mut capacity = Capacity::new(4, Some(4));
    report(&mut capacity, 4, 0, now);
    assert_eq!((capacity.usable(now), capacity.load(0, now)), (0, 1000));
    assert_eq!(capacity.usable(now + BELIEVED - ms(1)), 0);
    assert_eq!((capacity.usable(now + BELIEVED), capacity.next_poll(now + BELIEVED)), (4, None));
}

#[test]
fn a_report_that_crosses_the_end_of_a_job_takes_no_slot_from_us() {
    let now = epoch();
    let mut capacity = Capacity::new(4, Some(4));
    capacity.on_ask(now);
    // Both were active when the server took the count.
    capacity.on_end(now + ms(5));
    capacity.on_cancel(now + ms(6));
    capacity.on_report(2, 0, now + ms(10));
    assert_eq!((capacity.foreign(now), capacity.lingering(now)), (0, 1));
    // A job that starts then is not yet active.
    report(&mut capacity, 0, 1, now + ms(1000));
    assert_eq!(capacity.foreign(now + ms(1000)), 0);
    // A probe that was not announced may have begun earlier.
    capacity.on_end(now + ms(3000));
    capacity.on_report(1, 0, now + ms(4900));
    assert_eq!(capacity.foreign(now + ms(4900)), 0);
    capacity.on_report(1, 0, now + ms(5300));
    assert_eq!(capacity.foreign(now + ms(5300)), 1);
}

#[test]
fn the_slot_of_a_cancelled_job_is_used_until_a_report_shows_it_idle() {
    let now = epoch();
    let mut capacity = Capacity::new(2, Some(2));
    report(&mut capacity, 2, 2, now);
    capacity.on_cancel(now + ms(10));
    capacity.on_cancel(now + ms(20));
    assert_eq!(capacity.free(0, now + ms(30)), 0);
    report(&mut capacity, 1, 0, now + ms(1500));
    assert_eq!((capacity.free(0, now + ms(1500)), capacity.lingering(now + ms(1500))), (1, 1));
    report(&mut capacity, 0, 0, now + ms(3000));
    assert_eq!((capacity.free(0, now + ms(3000)), capacity.lingering(now + ms(3000))), (2, 0));
}

#[test]
fn without_a_report_a_slot_lingers_for_its_bound() {
    let now = epoch();
    let mut capacity = Capacity::new(2, Some(2));
    report(&mut capacity, 1, 1, now);
    capacity.on_cancel(now);
    assert_eq!(capacity.free(0, now + LINGERS - ms(1)), 1);
    assert_eq!(capacity.free(0, now + LINGERS), 2);
}

#[test]
fn a_slot_that_is_reported_active_counts_as_foreign_after_its_bound() {
    let now = epoch();
    let mut capacity = Capacity::new(2, Some(2));
    report(&mut capacity, 1, 1, now);
    capacity.on_cancel(now + ms(1));
    report(&mut capacity, 1, 0, now + ms(1500));
    for (at, usable, lingering) in [(ms(1500), 2, 1), (LINGERS, 2, 1), (LINGERS + ms(1), 1, 0)] {
        let at = now + at;
        assert_eq!((capacity.free(0, at), capacity.usable(at), capacity.lingering(at)), (1, usable, lingering));
    }
    report(&mut capacity, 0, 0, now + ms(7000));
    assert_eq!(capacity.free(0, now + ms(7000)), 2);
}

#[test]
fn a_cancel_does_not_change_the_foreign_load() {
    let now = epoch();
    let mut capacity = Capacity::new(4, Some(4));
    report(&mut capacity, 3, 1, now);
    capacity.on_cancel(now + ms(10));
    report(&mut capacity, 2, 0, now + ms(1600));
    assert_eq!((capacity.foreign(now + ms(1600)), capacity.lingering(now + ms(1600))), (2, 0));
}

#[test]
fn polls_are_rare_until_a_slot_lingers_and_always_at_least_a_second_apart() {
    let now = epoch();
    let mut capacity = Capacity::new(2, Some(2));
    report(&mut capacity, 1, 1, now);
    assert_eq!(capacity.next_poll(now), Some(now + LAZY));
    capacity.on_cancel(now + ms(100));
    assert_eq!(capacity.next_poll(now + ms(100)), Some(now + POLL));
    // A report that does not arrive is requested again, no sooner.
    capacity.on_ask(now + POLL);
    assert_eq!(capacity.next_poll(now + POLL), Some(now + 2 * POLL));
    report(&mut capacity, 0, 0, now + 2 * POLL);
    assert_eq!(capacity.next_poll(now + 2 * POLL), Some(now + 2 * POLL + LAZY));
    // Long after the last poll, a poll follows a cancel soon, however many cancels there are.
    let late = now + 2 * POLL + ms(5000);
    for n in 0..20 {
        capacity.on_cancel(late + ms(n * 10));
    }
    assert_eq!(capacity.next_poll(late + ms(200)), Some(late + AFTER_CANCEL));
}

#[test]
fn memory_is_bounded() {
    let now = epoch();
    let mut capacity = Capacity::new(2, Some(2));
    for n in 0..100_000 {
        capacity.on_end(now + ms(n));
        capacity.on_cancel(now + ms(n));
    }
    assert!(capacity.ended.len() <= REMEMBERED && capacity.cancelled.len() <= REMEMBERED);
}

#[derive(Clone, Debug)]
enum Step {
    Start,
    End,
    Cancel {
        lingers: u64,
    },
    Foreign(u32),
    Wait(u64),
    /// A poll that takes so long.
    Poll {
        takes: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Start),
        3 => Just(Step::End),
        3 => (0u64..8000).prop_map(|lingers| Step::Cancel { lingers }),
        2 => (0u32..5).prop_map(Step::Foreign),
        4 => (0u64..3000).prop_map(Step::Wait),
        5 => (0u64..1000).prop_map(|takes| Step::Poll { takes }),
    ]
}

proptest! {
    /// A simulated server of 8 slots. It knows its requests of other clients and of cancelled jobs.
    #[test]
    fn the_estimate_never_exceeds_the_load_and_converges_to_it(
        steps in prop::collection::vec(step(), 0..60), foreign_at_end in 0u32..5,
    ) {
        let mut now = epoch();
        let mut capacity = Capacity::new(8, Some(8));
        report(&mut capacity, 0, 0, now);
        let (mut ours, mut foreign, mut most_others) = (0u32, 0u32, 0u32);
        let mut lingering: Vec<Instant> = Vec::new();
        for step in steps {
            match step {
                Step::Start if capacity.free(ours, now) > 0 => ours += 1,
                Step::End if ours > 0 => {
                    ours -= 1;
                    capacity.on_end(now);
                }
                Step::Cancel { lingers } if ours > 0 => {
                    ours -= 1;
                    lingering.push(now + ms(lingers));
                    capacity.on_cancel(now);
                }
                Step::Foreign(n) => foreign = n,
                Step::Wait(wait) => now += ms(wait),
                Step::Poll { takes } => {
                    capacity.on_ask(now);
                    let held = u32::try_from(lingering.iter().filter(|until| **until > now).count()).unwrap();
                    let busy = (ours + foreign + held).min(8);
                    most_others = most_others.max(foreign + held);
                    now += ms(takes);
                    capacity.on_report(busy, ours, now);
                }
                Step::Start | Step::End | Step::Cancel { .. } => {}
            }
            prop_assert!(capacity.foreign(now) <= most_others, "slots of ours taken for others'");
            prop_assert!(ours <= 8);
            prop_assert!(capacity.lingering(now) == 0 || capacity.next_poll(now).is_some());
        }
        now += LINGERS + ms(8000);
        report(&mut capacity, (ours + foreign_at_end).min(8), ours, now);
        prop_assert_eq!(capacity.foreign(now), foreign_at_end.min(8 - ours));
        prop_assert_eq!(capacity.lingering(now), 0);
    }
}
