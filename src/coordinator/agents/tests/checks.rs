//! The checks that visit every state, each within its bounds.

use super::checker::{Order, Visited, visit};
use super::world::Bounds;

/// Two jobs for one slot, and connections that are cut once.
const SMALL: Bounds = Bounds { jobs: 2, cuts: 1, is_coarse: true, ..Bounds::LEAST };
/// The largest system that can be visited in a quarter of an hour. Late notices, retries, restarts and shutdowns are in the small
/// checks.
const LARGE: Bounds =
    Bounds { jobs: 6, slots: 2, cuts: 3, cancels: 1, handovers: 1, ticks: 1, is_coarse: true, ..Bounds::LEAST };
/// Two jobs, and each step of both processes by itself.
const LARGE_IN_SMALL_STEPS: Bounds =
    Bounds { jobs: 2, slots: 2, bytes: 2, acks: 1, cuts: 2, late: 1, cancels: 1, ..Bounds::LEAST };

/// Visits every state. Fails if the bounds are so small that hardly anything is checked.
fn check(bounds: Bounds, order: Order) -> Visited {
    let visited = visit(bounds, order);
    assert!(visited.states > 1_000 && visited.quiet > 10, "{visited:?}");
    visited
}

#[test]
fn one_job_whose_connection_is_cut_in_any_step() {
    check(Bounds { bytes: 2, acks: 2, cuts: 1, late: 1, cancels: 1, ..Bounds::LEAST }, Order::BreadthFirst);
}

#[test]
fn jobs_that_share_slots_or_get_none_while_connections_are_cut() {
    check(Bounds { jobs: 3, excess: 1, bytes: 2, cuts: 2, cancels: 1, ..SMALL }, Order::BreadthFirst);
}

#[test]
fn deadlines_and_windows_that_pass_while_one_end_knows_of_the_cut() {
    check(Bounds { late: 1, cancels: 1, ticks: 2, ..SMALL }, Order::BreadthFirst);
}

#[test]
fn a_handover_during_which_a_connection_is_cut() {
    check(Bounds { handovers: 1, ticks: 1, ..SMALL }, Order::BreadthFirst);
}

#[test]
fn jobs_that_wait_for_the_slot_of_a_cancelled_one() {
    check(Bounds { cancels: 1, ticks: 1, reports: true, ..SMALL }, Order::BreadthFirst);
}

#[test]
fn jobs_that_another_backend_retries() {
    check(Bounds { slots: 2, failures: 1, cancels: 1, ..SMALL }, Order::BreadthFirst);
}

#[test]
fn a_shutdown_of_the_agent_and_a_restart_of_the_coordinator() {
    check(Bounds { stops: 2, restarts: 1, ticks: 1, ..SMALL }, Order::BreadthFirst);
}

#[test]
fn connections_without_sessions() {
    check(Bounds { slots: 2, cuts: 2, handovers: 1, resumes: false, ..SMALL }, Order::BreadthFirst);
}

#[expect(clippy::print_stdout, clippy::disallowed_methods, reason = "the figures are for the reader")]
fn report(bounds: Bounds) {
    let start = std::time::Instant::now();
    let Visited { states, steps, depth, quiet } = check(bounds, Order::DepthFirst);
    println!("{bounds:?}");
    println!("{states} states, {steps} steps, depth {depth}, {quiet} of them quiet, {:?}", start.elapsed());
    println!("ONE-END, BYTES, STREAM, RUNS-ONCE, CANCEL, ONE-CONNECTION, SLOT, KEPT and QUIET hold");
}

#[test]
#[ignore = "takes minutes and gigabytes: scripts/model.sh"]
fn large() {
    report(LARGE);
}

#[test]
#[ignore = "takes minutes and gigabytes: scripts/model.sh"]
fn large_in_small_steps() {
    report(LARGE_IN_SMALL_STEPS);
}
