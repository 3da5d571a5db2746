//! The ledger, compared with a naive model, and its edge cases.

use proptest::prelude::*;

use super::*;
use crate::messages::ids::Generation;

fn job(n: u8) -> JobId {
    JobId::from(uuid::Uuid::from_u128(n.into()))
}

fn backend(n: u8) -> BackendId {
    BackendId::from(format!("b{n}"))
}

const FIRST: SessionId = SessionId(Generation::numbered(1));
const SECOND: SessionId = SessionId(Generation::numbered(2));

#[derive(Debug, PartialEq, Eq)]
enum No {
    Admission(Refused),
    Slot(NotPlaced),
}

/// Admits and places a job. A job that gets no slot is removed.
fn admit(ledger: &mut Ledger<()>, n: u8, session: SessionId, on: u8, limit: u32) -> Result<Ticket, No> {
    let ticket = ledger.admit(job(n), session, ()).map_err(No::Admission)?;
    ledger.place(ticket, &backend(on), limit).map(|()| ticket).map_err(|why| {
        assert!(ledger.end(ticket).is_some());
        No::Slot(why)
    })
}

#[test]
fn a_job_has_a_slot_only_where_there_is_room() {
    let mut ledger = Ledger::new(2);
    assert_eq!(admit(&mut ledger, 1, FIRST, 1, 0), Err(No::Slot(NotPlaced::BackendFull)));
    assert!(admit(&mut ledger, 1, FIRST, 1, 1).is_ok());
    assert_eq!(admit(&mut ledger, 2, FIRST, 1, 1), Err(No::Slot(NotPlaced::BackendFull)));
    assert!(admit(&mut ledger, 2, FIRST, 2, 1).is_ok());
    assert_eq!(admit(&mut ledger, 3, FIRST, 3, 1), Err(No::Admission(Refused::AgentFull)));
}

#[test]
fn a_job_without_a_slot_counts_for_the_agent_but_not_for_a_backend() {
    let mut ledger = Ledger::new(1);
    let waits = ledger.admit(job(1), FIRST, ()).unwrap();
    assert_eq!((ledger.in_flight(), ledger.on_backend(&backend(1))), (1, 0));
    assert_eq!(ledger.admit(job(2), FIRST, ()), Err(Refused::AgentFull));
    assert_eq!(ledger.place(waits, &backend(1), 1), Ok(()));
    assert_eq!(ledger.unplace(waits), Some(backend(1)));
    assert_eq!((ledger.unplace(waits), ledger.on_backend(&backend(1)), ledger.check()), (None, 0, Ok(())));
    assert!(ledger.cancel(job(1), FIRST).is_some_and(|entry| entry.backend.is_none()));
    assert_eq!(ledger.place(waits, &backend(1), 1), Err(NotPlaced::Ended));
}

#[test]
fn a_running_id_is_a_duplicate_in_any_session_even_in_a_full_ledger() {
    let mut ledger = Ledger::new(1);
    assert!(admit(&mut ledger, 1, FIRST, 1, 1).is_ok());
    assert_eq!(admit(&mut ledger, 1, FIRST, 1, 1), Err(No::Admission(Refused::Duplicate)));
    assert_eq!(admit(&mut ledger, 1, SECOND, 2, 9), Err(No::Admission(Refused::Duplicate)));
    assert_eq!(ledger.in_flight(), 1);
}

#[test]
fn an_id_can_be_used_again_after_its_end_with_a_new_ticket() {
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
    assert_eq!(ledger.place(one, &backend(2), 1), Err(NotPlaced::BackendFull));
    assert_eq!(ledger.place(one, &backend(1), 0), Ok(()), "it has its slot there");
    assert_eq!(ledger.place(one, &backend(3), 1), Ok(()));
    assert_eq!(ledger.place(two, &backend(1), 1), Ok(()));
    assert_eq!([1, 2, 3].map(|n| ledger.on_backend(&backend(n))), [1, 0, 1]);
    assert!(ledger.end(one).is_some_and(|entry| entry.backend == Some(backend(3))));
    assert_eq!(ledger.place(one, &backend(2), 9), Err(NotPlaced::Ended));
    assert_eq!(ledger.check(), Ok(()));
}

#[test]
fn the_jobs_of_a_lost_connection_are_returned_in_order_of_admission() {
    let mut ledger = Ledger::new(9);
    for (n, session, on) in [(9, FIRST, 1), (3, SECOND, 2), (7, FIRST, 2), (1, SECOND, 1), (5, FIRST, 1)] {
        assert!(admit(&mut ledger, n, session, on, 9).is_ok());
    }
    let jobs = |gone: Vec<Entry<()>>| gone.into_iter().map(|entry| entry.job).collect::<Vec<_>>();
    assert_eq!(jobs(ledger.end_session(FIRST)), [job(9), job(7), job(5)]);
    assert_eq!(jobs(ledger.end_session(SECOND)), [job(3), job(1)]);
    assert_eq!((ledger.in_flight(), ledger.on_backend(&backend(1)), ledger.check()), (0, 0, Ok(())));
}

#[test]
fn a_cancel_just_as_the_job_ends_frees_the_slot_once_in_both_orders() {
    let mut ledger = Ledger::new(2);
    let stays = admit(&mut ledger, 0, FIRST, 1, 2).unwrap();
    for round in 0..1000 {
        let ticket = admit(&mut ledger, 1, FIRST, 1, 2).unwrap();
        assert_eq!((ledger.in_flight(), ledger.on_backend(&backend(1))), (2, 2));
        let (first, second) = if round % 2 == 0 {
            (ledger.end(ticket), ledger.cancel(job(1), FIRST))
        } else {
            (ledger.cancel(job(1), FIRST), ledger.end(ticket))
        };
        assert!(first.is_some_and(|entry| entry.ticket == ticket) && second.is_none());
        assert_eq!((ledger.in_flight(), ledger.on_backend(&backend(1)), ledger.check()), (1, 1, Ok(())));
    }
    assert!(ledger.end(stays).is_some());
}

#[test]
fn the_check_detects_each_broken_invariant() {
    let whole = || {
        let mut ledger = Ledger::new(2);
        assert!(admit(&mut ledger, 1, FIRST, 1, 9).is_ok() && admit(&mut ledger, 2, FIRST, 2, 9).is_ok());
        ledger
    };
    type Break = fn(&mut Ledger<()>);
    let breaks: [(Break, Broken); 9] = [
        (|ledger| _ = ledger.by_job.remove(&(FIRST.coordinator(), job(1))), Broken::JobOnce),
        (|ledger| _ = ledger.by_job.insert((FIRST.coordinator(), job(1)), Ticket(1)), Broken::JobOnce),
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
        (|ledger| ledger.entries.values_mut().for_each(|entry| entry.backend = None), Broken::BackendCount),
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
        session: u64,
    },
    /// Ends the nth admission of the run, which may have ended before.
    End(usize),
    EndUnknown(u64),
    Cancel {
        job: u8,
        session: u64,
    },
    /// Places the nth admission of the run.
    Place {
        nth: usize,
        backend: u8,
        limit: u32,
    },
    Unplace(usize),
    EndSessionId(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let (job, session, on) = (0u8..12, 1u64..4, 0u8..4);
    prop_oneof![
        12 => (job.clone(), session.clone()).prop_map(|(job, session)| Op::Admit { job, session }),
        6 => (0usize..64).prop_map(Op::End),
        1 => any::<u64>().prop_map(Op::EndUnknown),
        12 => (0usize..64, on, 0u32..5).prop_map(|(nth, backend, limit)| Op::Place { nth, backend, limit }),
        3 => (0usize..64).prop_map(Op::Unplace),
        4 => (job, session.clone()).prop_map(|(job, session)| Op::Cancel { job, session }),
        1 => session.prop_map(Op::EndSessionId),
    ]
}

/// The expected content: job, session, backend, ticket.
type Model = Vec<(u8, u64, Option<u8>, Ticket)>;

/// Removes the jobs for which `gone` is true from the model, and returns them.
fn drain(model: &mut Model, gone: impl Fn(&(u8, u64, Option<u8>, Ticket)) -> bool) -> Vec<JobId> {
    let out = model.iter().filter(|entry| gone(entry)).map(|entry| job(entry.0)).collect();
    model.retain(|entry| !gone(entry));
    out
}

proptest! {
    #[test]
    fn any_sequence_of_events_matches_a_naive_model(
        max_total in 0u32..8, ops in prop::collection::vec(op(), 0..200),
    ) {
        let mut ledger = Ledger::new(max_total);
        let (mut model, mut issued): (Model, Vec<Ticket>) = Default::default();
        for op in ops {
            match op {
                Op::Admit { job: n, session } => {
                    let want = if model.iter().any(|entry| entry.0 == n) {
                        Err(Refused::Duplicate)
                    } else if model.len() >= max_total as usize {
                        Err(Refused::AgentFull)
                    } else {
                        Ok(())
                    };
                    let outcome = ledger.admit(job(n), SessionId(Generation::numbered(session)), ());
                    prop_assert_eq!(outcome.map(|_| ()), want);
                    if let Ok(ticket) = outcome {
                        prop_assert!(issued.last().is_none_or(|last| *last < ticket));
                        issued.push(ticket);
                        model.push((n, session, None, ticket));
                    }
                }
                Op::End(nth) => {
                    let Some(ticket) = issued.get(nth).copied() else { continue };
                    let want = drain(&mut model, |entry| entry.3 == ticket);
                    prop_assert_eq!(ledger.end(ticket).map(|entry| entry.job), want.first().copied());
                }
                Op::EndUnknown(ticket) => {
                    let want = drain(&mut model, |entry| entry.3 == Ticket(ticket));
                    prop_assert_eq!(ledger.end(Ticket(ticket)).is_some(), !want.is_empty());
                }
                Op::Cancel { job: n, session } => {
                    let want = drain(&mut model, |entry| entry.0 == n && entry.1 == session);
                    prop_assert_eq!(ledger.cancel(job(n), SessionId(Generation::numbered(session))).is_some(), !want.is_empty());
                }
                Op::Place { nth, backend: on, limit } => {
                    let Some(ticket) = issued.get(nth).copied() else { continue };
                    let room = model.iter().filter(|entry| entry.2 == Some(on)).count() < limit as usize;
                    let want = match model.iter_mut().find(|entry| entry.3 == ticket) {
                        None => Err(NotPlaced::Ended),
                        Some(entry) if entry.2 == Some(on) || room => {
                            entry.2 = Some(on);
                            Ok(())
                        }
                        Some(_) => Err(NotPlaced::BackendFull),
                    };
                    prop_assert_eq!(ledger.place(ticket, &backend(on), limit), want);
                }
                Op::Unplace(nth) => {
                    let Some(ticket) = issued.get(nth).copied() else { continue };
                    let want = model.iter_mut().find(|entry| entry.3 == ticket).and_then(|entry| entry.2.take());
                    prop_assert_eq!(ledger.unplace(ticket), want.map(backend));
                }
                Op::EndSessionId(session) => {
                    let want = drain(&mut model, |entry| entry.1 == session);
                    let got = ledger.end_session(SessionId(Generation::numbered(session)));
                    prop_assert_eq!(got.iter().map(|entry| entry.job).collect::<Vec<_>>(), want);
                }
            }
            prop_assert_eq!(ledger.check(), Ok(()));
            prop_assert_eq!(ledger.in_flight(), model.len());
            for on in 0..4 {
                let count = model.iter().filter(|entry| entry.2 == Some(on)).count();
                prop_assert_eq!(ledger.on_backend(&backend(on)), count);
            }
            let held: Vec<Ticket> = ledger.iter().map(|entry| entry.ticket).collect();
            prop_assert_eq!(held, model.iter().map(|entry| entry.3).collect::<Vec<_>>());
        }
    }
}
