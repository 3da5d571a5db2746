//! Visits every state that a world can get into, and checks each.
//!
//! A violation is a panic, to which the way is printed. Besides, for each state:
//!
//! - KEPT: where no ordinary work is left, the world is quiet;
//! - QUIET: ordinary work comes to an end. With KEPT this means that from each state every way of ordinary work leads to a
//!   quiet one.
//!
//! A state is known by a fingerprint of 64 bits. That two of 16 million states have the same one by chance, so that one of them
//! is not visited, happens in one of 140,000 runs.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::world::{Action, Bounds, World};

/// In which order states are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The way to a violation is a shortest one.
    BreadthFirst,
    /// Few worlds are in memory at a time.
    DepthFirst,
}

/// What was visited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visited {
    pub(super) states: usize,
    pub(super) steps: usize,
    /// The most steps on a way by which a state was found.
    pub(super) depth: usize,
    pub(super) quiet: usize,
}

/// A fingerprint is a hash already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// A state that was found, and how.
struct State {
    from: u32,
    action: u8,
    /// Where the states are to which ordinary work leads from here.
    work: Range<usize>,
}

struct Graph {
    bounds: Bounds,
    known: HashMap<u64, u32, BuildHasherDefault<AsIs>>,
    states: Vec<State>,
    work: Vec<u32>,
}

/// Visits every state within the bounds.
pub(super) fn visit(bounds: Bounds, order: Order) -> Visited {
    let mut graph = Graph { bounds, known: HashMap::default(), states: Vec::new(), work: Vec::new() };
    let start = World::new(bounds);
    graph.find(start.fingerprint(), 0, 0);
    let (mut open, mut visited) =
        (VecDeque::from([(start, 0, 0)]), Visited { states: 0, steps: 0, depth: 0, quiet: 0 });
    let next = |open: &mut VecDeque<_>| if order == Order::DepthFirst { open.pop_back() } else { open.pop_front() };
    while let Some((world, at, depth)) = next(&mut open) {
        visited.depth = visited.depth.max(depth);
        let begin = graph.work.len();
        for (n, action) in (0..).zip(world.actions()) {
            let mut after = world.clone();
            let step = || after.act(action).then(|| after.fingerprint());
            let Ok(print) = catch_unwind(AssertUnwindSafe(step)) else { panic!("{}", graph.way_to(at, Some(action))) };
            let Some(print) = print else { continue };
            visited.steps += 1;
            let (to, is_fresh) = graph.find(print, at, n);
            if is_fresh {
                if catch_unwind(AssertUnwindSafe(|| after.check())).is_err() {
                    panic!("{}", graph.way_to(to, None));
                }
                open.push_back((after, to, depth + 1));
            }
            if action.is_work() {
                graph.work.push(to);
            }
        }
        graph.states[at as usize].work = begin..graph.work.len();
        let is_quiet = world.is_quiet();
        visited.quiet += usize::from(is_quiet);
        if begin == graph.work.len() && !is_quiet {
            panic!("KEPT: something is kept for ever\n{}", graph.way_to(at, None));
        }
    }
    if let Some(endless) = graph.endless() {
        panic!("QUIET: work goes on for ever\n{}", graph.way_to(endless, None));
    }
    Visited { states: graph.states.len(), ..visited }
}

impl Graph {
    /// The number of a state, and whether it was found now.
    fn find(&mut self, print: u64, from: u32, action: u8) -> (u32, bool) {
        let fresh = u32::try_from(self.states.len()).expect("fewer states");
        let number = *self.known.entry(print).or_insert(fresh);
        if number == fresh {
            self.states.push(State { from, action, work: 0..0 });
        }
        (number, number == fresh)
    }

    /// A state from which ordinary work can go on for ever.
    fn endless(&self) -> Option<u32> {
        let mut before = vec![0_u32; self.states.len()];
        self.work.iter().for_each(|to| before[*to as usize] += 1);
        // Takes away each state that no other leads to. What is left is in a circle, or behind one.
        let mut free: Vec<u32> = (0..).zip(&before).filter(|(_, before)| **before == 0).map(|(at, _)| at).collect();
        let mut taken = 0;
        while let Some(state) = free.pop() {
            taken += 1;
            for to in &self.work[self.states[state as usize].work.clone()] {
                before[*to as usize] -= 1;
                if before[*to as usize] == 0 {
                    free.push(*to);
                }
            }
        }
        (taken < before.len()).then(|| (0..).zip(&before).find(|(_, before)| **before > 0).map_or(0, |(at, _)| at))
    }

    /// The actions that lead to a state, and one more.
    fn way_to(&self, state: u32, last: Option<Action>) -> String {
        let (mut numbers, mut at) = (Vec::new(), state);
        while at != 0 {
            numbers.push(self.states[at as usize].action);
            at = self.states[at as usize].from;
        }
        let (mut world, mut way) = (World::new(self.bounds), String::from("after\n"));
        for n in numbers.into_iter().rev() {
            let action = world.actions()[usize::from(n)];
            world.act(action);
            way.push_str(&format!("    {action:?}\n"));
        }
        way.extend(last.map(|last| format!("    {last:?}\n")));
        way
    }
}
