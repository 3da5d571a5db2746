//! Visits every state that a world can get into, breadth first, and checks each.
//!
//! A violation is a panic in a step, which prints the shortest way to it. Besides, for each state:
//!
//! - KEPT: where no ordinary work is left, the world is quiet;
//! - QUIET: ordinary work comes to an end. With KEPT this means that from each state every way of ordinary work leads to a
//!   quiet one.
//!
//! A state is known by a fingerprint of 64 bits. Of ten million states two have the same one by chance in one of 300,000 runs.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::world::{Action, Bounds, World};

/// What was visited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visited {
    pub(super) states: usize,
    pub(super) steps: usize,
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

struct Graph {
    known: HashMap<u64, u32, BuildHasherDefault<AsIs>>,
    /// From which state each was reached first, and by which of its actions.
    origin: Vec<(u32, u8)>,
    /// The states that each leads to by ordinary work, and where those of the next one begin.
    work: Vec<u32>,
    ends: Vec<usize>,
}

/// Visits every state within the bounds.
pub(super) fn visit(bounds: Bounds) -> Visited {
    let start = World::new(bounds);
    let mut graph = Graph { known: HashMap::default(), origin: vec![(0, 0)], work: Vec::new(), ends: Vec::new() };
    graph.known.insert(start.fingerprint(), 0);
    let (mut level, mut visited) = (vec![start], Visited { states: 1, steps: 0, depth: 0, quiet: 0 });
    let mut at = 0_u32;
    while !level.is_empty() {
        let mut next = Vec::new();
        for world in std::mem::take(&mut level) {
            let actions = world.actions();
            for (n, action) in actions.iter().enumerate() {
                let mut after = world.clone();
                let Ok(print) = catch_unwind(AssertUnwindSafe(|| after.act(*action).then(|| after.fingerprint())))
                else {
                    panic!("{}", graph.way_to(bounds, at, Some(*action)));
                };
                let Some(print) = print else { continue };
                visited.steps += 1;
                let fresh = graph.origin.len() as u32;
                let to = *graph.known.entry(print).or_insert(fresh);
                if to == fresh {
                    graph.origin.push((at, n as u8));
                    next.push(after);
                }
                if action.is_work() {
                    graph.work.push(to);
                }
            }
            let works = graph.ends.last().copied().unwrap_or(0) < graph.work.len();
            graph.ends.push(graph.work.len());
            visited.quiet += usize::from(world.is_quiet());
            if !works && !world.is_quiet() {
                panic!("KEPT: something is kept for ever\n{}", graph.way_to(bounds, at, None));
            }
            at += 1;
        }
        visited.depth += usize::from(!next.is_empty());
        level = next;
    }
    visited.states = graph.origin.len();
    if let Some(endless) = graph.endless() {
        panic!("QUIET: work goes on for ever\n{}", graph.way_to(bounds, endless, None));
    }
    visited
}

impl Graph {
    /// A state from which ordinary work can go on for ever.
    fn endless(&self) -> Option<u32> {
        let begins = |state: usize| if state == 0 { 0 } else { self.ends[state - 1] };
        let mut before = vec![0_u32; self.ends.len()];
        self.work.iter().for_each(|to| before[*to as usize] += 1);
        // Takes away each state that no other leads to. What is left is in a circle, or behind one.
        let mut free: Vec<u32> = (0_u32..).zip(&before).filter(|(_, before)| **before == 0).map(|(at, _)| at).collect();
        let mut taken = 0;
        while let Some(state) = free.pop() {
            taken += 1;
            for to in &self.work[begins(state as usize)..self.ends[state as usize]] {
                before[*to as usize] -= 1;
                if before[*to as usize] == 0 {
                    free.push(*to);
                }
            }
        }
        (taken < self.ends.len()).then(|| before.iter().position(|before| *before > 0).map_or(0, |at| at as u32))
    }

    /// The actions that lead to a state, and one more.
    fn way_to(&self, bounds: Bounds, state: u32, last: Option<Action>) -> String {
        let mut numbers = Vec::new();
        let mut at = state;
        while at != 0 {
            let (before, n) = self.origin[at as usize];
            numbers.push(n);
            at = before;
        }
        let (mut world, mut way) = (World::new(bounds), String::from("after\n"));
        for n in numbers.into_iter().rev() {
            let action = world.actions()[n as usize];
            world.act(action);
            way.push_str(&format!("    {action:?}\n"));
        }
        way.extend(last.map(|last| format!("    {last:?}\n")));
        way
    }
}
