//! The ledger against a naive model, and its edges by name.

use std::cell::Cell;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// Work that counts its cancels: one for each drop.
struct Work(Rc<Cell<u64>>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

fn job(n: u8) -> JobId {
    JobId::from(uuid::Uuid::from_u128(n.into()))
}

fn backend(n: u8) -> BackendId {
    BackendId::from(format!("b{n}"))
}

const FIRST: Generation = Generation(1);
const SECOND: Generation = Generation(2);

/// Admits with a grip that is nothing.
fn admit(ledger: &mut Ledger<()>, n: u8, generation: Generation, on: u8, limit: u32) -> Result<Ticket, Refused> {
    ledger.admit(job(n), generation, &backend(on), limit, |_| ()).map(|entry| entry.ticket)
}

#[test]
fn a_refused_job_is_never_started() {
    let mut ledger = Ledger::new(2);
    let started = Cell::new(0);
    let mut ask = |n, generation, on, limit| {
        let grip = |_| started.set(started.get() + 1);
        ledger.admit(job(n), generation, &backend(on), limit, grip).map(|entry| entry.job)
    };
    assert_eq!(ask(1, FIRST, 1, 0), Err(Refused::BackendFull));
    assert_eq!(ask(1, FIRST, 1, 1), Ok(job(1)));
    assert_eq!(ask(2, FIRST, 1, 1), Err(Refused::BackendFull));
    assert_eq!(ask(2, FIRST, 2, 1), Ok(job(2)));
    assert_eq!(ask(3, FIRST, 3, 1), Err(Refused::AgentFull));
    assert_eq!(started.get(), 2);
}

#[test]
fn an_id_that_runs_is_a_duplicate_in_any_generation_even_when_all_is_full() {
    let mut ledger = Ledger::new(1);
    assert!(admit(&mut ledger, 1, FIRST, 1, 1).is_ok());
    assert_eq!(admit(&mut ledger, 1, FIRST, 1, 1), Err(Refused::Duplicate));
    assert_eq!(admit(&mut ledger, 1, SECOND, 2, 9), Err(Refused::Duplicate));
    assert_eq!(ledger.in_flight(), 1);
}

#[test]
fn an_id_may_come_again_after_its_end_with_a_ticket_of_its_own() {
    let mut ledger = Ledger::new(1);
    let old = admit(&mut ledger, 1, FIRST, 1, 1).unwrap();
    assert!(ledger.cancel(job(1), FIRST).is_some());
    let new = admit(&mut ledger, 1, FIRST, 1, 1).unwrap();
    assert_ne!(old, new);
    assert!(ledger.end(old).is_none(), "a stale end must not end the new admission");
    assert_eq!(ledger.in_flight(), 1);
}

#[test]
fn a_cancel_of_another_connection_has_no_effect() {
    let mut ledger = Ledger::new(1);
    assert!(admit(&mut ledger, 1, FIRST, 1, 1).is_ok());
    assert!(ledger.cancel(job(1), SECOND).is_none());
    assert!(ledger.cancel(job(2), FIRST).is_none());
    assert!(ledger.cancel(job(1), FIRST).is_some());
    assert!(ledger.cancel(job(1), FIRST).is_none());
}

#[test]
fn a_job_moves_to_a_backend_with_room_and_frees_its_slot() {
    let mut ledger = Ledger::new(9);
    let one = admit(&mut ledger, 1, FIRST, 1, 1).unwrap();
    let two = admit(&mut ledger, 2, FIRST, 2, 1).unwrap();
    assert_eq!(ledger.move_to(one, &backend(2), 1), Err(Unmoved::BackendFull));
    assert_eq!(ledger.move_to(one, &backend(1), 0), Ok(()), "it has its slot there");
    assert_eq!(ledger.move_to(one, &backend(3), 1), Ok(()));
    assert_eq!(ledger.move_to(two, &backend(1), 1), Ok(()));
    assert_eq!([1, 2, 3].map(|n| ledger.on_backend(&backend(n))), [1, 0, 1]);
    assert!(ledger.end(one).is_some_and(|entry| entry.backend == backend(3)));
    assert_eq!(ledger.move_to(one, &backend(2), 9), Err(Unmoved::Ended));
    assert_eq!(ledger.check(), Ok(()));
}

#[test]
fn what_a_connection_or_a_backend_leaves_behind_comes_out_in_order_of_admission() {
    let mut ledger = Ledger::new(9);
    for (n, generation, on) in [(9, FIRST, 1), (3, SECOND, 2), (7, FIRST, 2), (1, SECOND, 1), (5, FIRST, 1)] {
        assert!(admit(&mut ledger, n, generation, on, 9).is_ok());
    }
    let jobs = |gone: Vec<Entry<()>>| gone.into_iter().map(|entry| entry.job).collect::<Vec<_>>();
    assert_eq!(jobs(ledger.end_generation(FIRST)), [job(9), job(7), job(5)]);
    assert_eq!(jobs(ledger.end_backend(&backend(1))), [job(1)]);
    assert_eq!(jobs(ledger.end_all()), [job(3)]);
    assert_eq!((ledger.in_flight(), ledger.on_backend(&backend(1)), ledger.check()), (0, 0, Ok(())));
}

#[test]
fn a_grip_that_panics_admits_nothing() {
    let mut ledger: Ledger<()> = Ledger::new(1);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        ledger.admit(job(1), FIRST, &backend(1), 1, |_| panic!("no start")).is_ok()
    }));
    assert!(outcome.is_err());
    assert_eq!((ledger.in_flight(), ledger.check()), (0, Ok(())));
    assert!(admit(&mut ledger, 1, FIRST, 1, 1).is_ok());
}

#[test]
fn a_cancel_just_as_the_job_ends_frees_the_slot_once_ten_thousand_times_in_both_orders() {
    let drops = Rc::new(Cell::new(0));
    let mut ledger = Ledger::new(2);
    let stays = ledger.admit(job(0), FIRST, &backend(1), 2, |_| Work(Rc::clone(&drops))).map(|entry| entry.ticket);
    for round in 1..=20_000_u64 {
        let entry = ledger.admit(job(1), FIRST, &backend(1), 2, |_| Work(Rc::clone(&drops))).map(|entry| entry.ticket);
        let Ok(ticket) = entry else { panic!("round {round}: {entry:?}") };
        assert_eq!(ledger.in_flight(), 2);
        let (first, second) = if round % 2 == 0 {
            (ledger.end(ticket), ledger.cancel(job(1), FIRST))
        } else {
            (ledger.cancel(job(1), FIRST), ledger.end(ticket))
        };
        assert!(first.is_some_and(|entry| entry.ticket == ticket) && second.is_none());
        assert_eq!((ledger.in_flight(), ledger.on_backend(&backend(1)), drops.get()), (1, 1, round));
        assert_eq!(ledger.check(), Ok(()));
    }
    assert!(ledger.end(stays.unwrap()).is_some());
    assert_eq!((ledger.in_flight(), ledger.on_backend(&backend(1)), drops.get()), (0, 0, 20_001));
}

#[test]
fn the_check_sees_each_invariant_broken() {
    let whole = || {
        let mut ledger = Ledger::new(2);
        assert!(admit(&mut ledger, 1, FIRST, 1, 9).is_ok() && admit(&mut ledger, 2, FIRST, 2, 9).is_ok());
        ledger
    };
    type Break = fn(&mut Ledger<()>);
    let breaks: [(Break, Broken); 8] = [
        (|ledger| _ = ledger.by_job.remove(&job(1)), Broken::JobOnce),
        (|ledger| _ = ledger.by_job.insert(job(1), Ticket(1)), Broken::JobOnce),
        (|ledger| _ = ledger.by_backend.insert(backend(1), 2), Broken::BackendCount),
        (
            |ledger| {
                let counts = [(backend(1), 2), (backend(2), 0)];
                ledger.by_backend.extend(counts);
            },
            Broken::BackendCount,
        ),
        (|ledger| ledger.max_total = 1, Broken::TooMany),
        (|ledger| ledger.entries.values_mut().for_each(|entry| entry.ticket = Ticket(9)), Broken::TicketOnce),
        (|ledger| (ledger.next_ticket, ledger.removed) = (1, u64::MAX), Broken::Conservation),
        (|ledger| ledger.removed = 1, Broken::Conservation),
    ];
    for (break_it, broken) in breaks {
        let mut ledger = whole();
        assert_eq!(ledger.check(), Ok(()));
        break_it(&mut ledger);
        assert_eq!(ledger.check(), Err(broken));
    }
}

#[derive(Clone, Debug)]
enum Op {
    Admit {
        job: u8,
        generation: u64,
        backend: u8,
        limit: u32,
    },
    /// Ends the nth admission ever made, which may have ended long ago.
    End(usize),
    EndUnknown(u64),
    Cancel {
        job: u8,
        generation: u64,
    },
    /// Moves the nth admission ever made.
    Move {
        nth: usize,
        backend: u8,
        limit: u32,
    },
    EndGeneration(u64),
    EndBackend(u8),
    EndAll,
}

fn op() -> impl Strategy<Value = Op> {
    let (job, generation, on) = (0u8..12, 1u64..4, 0u8..4);
    prop_oneof![
        12 => (job.clone(), generation.clone(), on.clone(), 0u32..5)
            .prop_map(|(job, generation, backend, limit)| Op::Admit { job, generation, backend, limit }),
        6 => (0usize..64).prop_map(Op::End),
        1 => any::<u64>().prop_map(Op::EndUnknown),
        6 => (0usize..64, on.clone(), 0u32..5).prop_map(|(nth, backend, limit)| Op::Move { nth, backend, limit }),
        4 => (job, generation.clone()).prop_map(|(job, generation)| Op::Cancel { job, generation }),
        1 => generation.prop_map(Op::EndGeneration),
        1 => on.prop_map(Op::EndBackend),
        1 => Just(Op::EndAll),
    ]
}

/// What the ledger should hold: job, generation, backend, ticket.
type Model = Vec<(u8, u64, u8, Ticket)>;

/// Takes out of the model what `gone` says, as jobs.
fn drain(model: &mut Model, gone: impl Fn(&(u8, u64, u8, Ticket)) -> bool) -> Vec<JobId> {
    let out = model.iter().filter(|entry| gone(entry)).map(|entry| job(entry.0)).collect();
    model.retain(|entry| !gone(entry));
    out
}

proptest! {
    #[test]
    fn any_sequence_of_events_leaves_what_a_naive_account_says(
        max_total in 0u32..8, ops in prop::collection::vec(op(), 0..200),
    ) {
        let drops = Rc::new(Cell::new(0));
        let mut ledger = Ledger::new(max_total);
        let (mut model, mut issued): (Model, Vec<Ticket>) = Default::default();
        for op in ops {
            let gone: Vec<JobId> = match op {
                Op::Admit { job: n, generation, backend: on, limit } => {
                    let want = if model.iter().any(|entry| entry.0 == n) {
                        Err(Refused::Duplicate)
                    } else if model.len() >= max_total as usize {
                        Err(Refused::AgentFull)
                    } else if model.iter().filter(|entry| entry.2 == on).count() >= limit as usize {
                        Err(Refused::BackendFull)
                    } else {
                        Ok(())
                    };
                    let mut given = None;
                    let outcome = ledger.admit(job(n), Generation(generation), &backend(on), limit, |ticket| {
                        given = Some(ticket);
                        Work(Rc::clone(&drops))
                    });
                    let outcome = outcome.map(|entry| entry.ticket);
                    prop_assert_eq!(outcome.map(|_| ()), want);
                    prop_assert_eq!(outcome.ok(), given);
                    if let Some(ticket) = given {
                        prop_assert!(issued.last().is_none_or(|last| *last < ticket));
                        issued.push(ticket);
                        model.push((n, generation, on, ticket));
                    }
                    Vec::new()
                }
                Op::End(nth) => {
                    let Some(ticket) = issued.get(nth).copied() else { continue };
                    let want = drain(&mut model, |entry| entry.3 == ticket);
                    let got = ledger.end(ticket);
                    prop_assert_eq!(got.as_ref().map(|entry| entry.job), want.first().copied());
                    want
                }
                Op::EndUnknown(ticket) => {
                    let ticket = Ticket(ticket);
                    let want = drain(&mut model, |entry| entry.3 == ticket);
                    prop_assert_eq!(ledger.end(ticket).is_some(), !want.is_empty());
                    want
                }
                Op::Cancel { job: n, generation } => {
                    let want = drain(&mut model, |entry| entry.0 == n && entry.1 == generation);
                    prop_assert_eq!(ledger.cancel(job(n), Generation(generation)).is_some(), !want.is_empty());
                    want
                }
                Op::Move { nth, backend: on, limit } => {
                    let Some(ticket) = issued.get(nth).copied() else { continue };
                    let room = model.iter().filter(|entry| entry.2 == on).count() < limit as usize;
                    let want = match model.iter_mut().find(|entry| entry.3 == ticket) {
                        None => Err(Unmoved::Ended),
                        Some(entry) if entry.2 == on || room => {
                            entry.2 = on;
                            Ok(())
                        }
                        Some(_) => Err(Unmoved::BackendFull),
                    };
                    prop_assert_eq!(ledger.move_to(ticket, &backend(on), limit), want);
                    Vec::new()
                }
                Op::EndGeneration(generation) => {
                    let want = drain(&mut model, |entry| entry.1 == generation);
                    let got = ledger.end_generation(Generation(generation));
                    prop_assert_eq!(got.iter().map(|entry| entry.job).collect::<Vec<_>>(), want);
                    got.iter().map(|entry| entry.job).collect()
                }
                Op::EndBackend(on) => {
                    let want = drain(&mut model, |entry| entry.2 == on);
                    let got = ledger.end_backend(&backend(on));
                    prop_assert_eq!(got.iter().map(|entry| entry.job).collect::<Vec<_>>(), want);
                    got.iter().map(|entry| entry.job).collect()
                }
                Op::EndAll => {
                    let want = drain(&mut model, |_| true);
                    let got = ledger.end_all();
                    prop_assert_eq!(got.iter().map(|entry| entry.job).collect::<Vec<_>>(), want);
                    got.iter().map(|entry| entry.job).collect()
                }
            };
            prop_assert!(gone.iter().all(|gone| ledger.iter().all(|entry| entry.job != *gone)));
            prop_assert_eq!(ledger.check(), Ok(()));
            prop_assert_eq!(ledger.in_flight(), model.len());
            for on in 0..4 {
                let count = model.iter().filter(|entry| entry.2 == on).count();
                prop_assert_eq!(ledger.on_backend(&backend(on)), count);
            }
            let held: Vec<Ticket> = ledger.iter().map(|entry| entry.ticket).collect();
            prop_assert_eq!(held, model.iter().map(|entry| entry.3).collect::<Vec<_>>());
            // Each grip is dropped once, when its job ends, and no sooner.
            prop_assert_eq!(drops.get(), (issued.len() - model.len()) as u64);
        }
    }
}
