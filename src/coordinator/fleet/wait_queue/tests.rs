use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::coordinator::agents::handshake::AgentKey;
use crate::coordinator::agents::peer::Peer;
use crate::messages::endpoint::Endpoint;

const MODELS: [&str; 3] = ["a", "b", "c"];
/// The models of each agent.
const OFFERS: [&[usize]; 3] = [&[0], &[0, 1], &[1, 2]];

fn network(client: u8) -> Network {
    Peer(Some(([192, 0, 2, client], 1).into())).network()
}

fn demand(model: usize) -> Demand {
    Demand { model: MODELS[model].into(), endpoint: Endpoint::ChatCompletions }
}

fn key(agent: usize) -> AgentKey {
    AgentKey([u8::try_from(agent).unwrap(); 32])
}

/// The failed tries of a request that these agents have lost.
fn lost_by(agents: &[usize]) -> Tries {
    Tries::lost_by(agents.iter().map(|agent| key(*agent)))
}

/// A request, by its number.
type Queue = WaitQueue<usize>;

fn enter_as(
    queue: &mut Queue,
    client: u8,
    model: usize,
    request: usize,
    tries: Tries,
) -> Result<Entered<usize>, QueueFull> {
    let waiting = Waiting { job: JobId::random(), length: FrameLength::of(1), tries, waiter: request };
    queue.enter(network(client), &demand(model), Ticket(request as u64), waiting)
}

fn enter(queue: &mut Queue, client: u8, model: usize, request: usize) -> Entered<usize> {
    enter_as(queue, client, model, request, Tries::default()).unwrap()
}

/// The request that an agent takes, of a model that it offers.
fn next(queue: &mut Queue, agent: usize) -> Option<usize> {
    let offers = |wanted: &Demand| OFFERS[agent].iter().any(|model| demand(*model) == *wanted);
    let session = SessionId::numbered(agent);
    queue.next(session, offers, |_, waiting| !waiting.tries.rule_out(key(agent))).map(|(_, waiting)| waiting.waiter)
}

fn all_next(queue: &mut Queue, agent: usize) -> Vec<usize> {
    std::iter::from_fn(|| next(queue, agent)).collect()
}

#[test]
fn clients_take_turns_and_each_is_served_in_order() {
    let mut queue = Queue::new(9);
    for (request, client) in [1, 1, 1, 1, 2, 2, 3].into_iter().enumerate() {
        enter(&mut queue, client, 0, request);
    }
    assert_eq!(all_next(&mut queue, 0), [0, 4, 6, 1, 5, 2, 3]);
    assert!(queue.is_empty() && queue.lines.is_empty());
}

#[test]
fn a_client_that_enters_again_and_again_gets_no_turn_before_one_that_waits() {
    let mut queue = Queue::new(9);
    (0..4).for_each(|request| drop(enter(&mut queue, 1, 0, request)));
    for request in 10..14 {
        enter(&mut queue, 2, 0, request);
        assert_eq!(next(&mut queue, 0), Some(request - 10));
        assert_eq!(next(&mut queue, 0), Some(request));
    }
}

#[test]
fn a_request_passes_those_that_the_agent_can_not_take() {
    let mut queue = Queue::new(9);
    enter(&mut queue, 1, 0, 0);
    enter_as(&mut queue, 1, 2, 1, lost_by(&[2])).unwrap();
    enter(&mut queue, 1, 2, 2);
    assert_eq!(all_next(&mut queue, 2), [2]);
    assert_eq!(all_next(&mut queue, 1), [0]);
    assert_eq!(queue.len(), 1);
}

#[test]
fn a_client_whose_requests_another_agent_takes_keeps_its_turn() {
    let mut queue = Queue::new(9);
    for request in 0..3 {
        enter(&mut queue, 1, 0, request);
        enter(&mut queue, 2, 2, request + 10);
    }
    enter(&mut queue, 1, 2, 3);
    assert_eq!(next(&mut queue, 2), Some(3), "the client came first");
    enter(&mut queue, 1, 2, 4);
    assert_eq!(next(&mut queue, 2), Some(10));
    assert_eq!(all_next(&mut queue, 0), [0, 1, 2]);
    assert_eq!(next(&mut queue, 2), Some(4), "the other agent's slots do not count");
}

#[test]
fn a_request_that_enters_again_keeps_its_place() {
    let mut queue = Queue::new(9);
    let first = enter(&mut queue, 1, 0, 0).place;
    enter(&mut queue, 1, 0, 1);
    assert_eq!(next(&mut queue, 0), Some(0));
    assert!(queue.leave(&first).is_none(), "it was served");
    let again = Waiting { job: JobId::random(), length: FrameLength::of(1), tries: Tries::default(), waiter: 2 };
    queue.enter(first.client, &first.demand, first.ticket, again).unwrap();
    assert_eq!(all_next(&mut queue, 0), [2, 1]);
}

#[test]
fn a_full_queue_takes_the_newest_place_of_the_longest_line_for_a_client_with_a_shorter_one() {
    let mut queue = Queue::new(4);
    (0..4).for_each(|request| drop(enter(&mut queue, 1, request % 2, request)));
    assert_eq!(enter_as(&mut queue, 1, 0, 4, Tries::default()).unwrap_err(), QueueFull);
    assert_eq!(enter(&mut queue, 2, 0, 5).displaced, Some(3));
    assert_eq!(enter(&mut queue, 3, 0, 6).displaced, Some(2));
    for client in 1..=3 {
        assert_eq!(enter_as(&mut queue, client, 0, 7, Tries::default()).unwrap_err(), QueueFull, "{client}");
    }
    let mut left: Vec<_> = queue.clear().map(|waiting| waiting.waiter).collect();
    left.sort_unstable();
    assert_eq!((left, queue.len()), (vec![0, 1, 5, 6], 0));
}

#[derive(Clone, Debug)]
enum Step {
    Enter {
        client: u8,
        model: usize,
        failed_at: Option<usize>,
    },
    /// The nth of those that wait leaves.
    Leave(usize),
    Next(usize),
    Forget(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..4_u8, 0..MODELS.len(), prop::option::weighted(0.2, 0..OFFERS.len()))
            .prop_map(|(client, model, failed_at)| Step::Enter { client, model, failed_at }),
        2 => (0..20_usize).prop_map(Step::Leave),
        5 => (0..OFFERS.len()).prop_map(Step::Next),
        1 => (0..OFFERS.len()).prop_map(Step::Forget),
    ];
    prop::collection::vec(step, 1..120)
}

/// A request that waits, as the test knows it.
#[derive(Clone)]
struct Known {
    request: usize,
    client: u8,
    model: usize,
    failed_at: Option<usize>,
    place: Place,
}

impl Known {
    fn fits(&self, agent: usize) -> bool {
        OFFERS[agent].contains(&self.model) && self.failed_at != Some(agent)
    }
}

fn count(known: &[Known], client: u8) -> usize {
    known.iter().filter(|other| other.client == client).count()
}

proptest! {
    #[test]
    fn the_queue_is_bounded_and_ordered_and_starves_no_client(steps in steps(), limit in 1_usize..12) {
        let mut queue = Queue::new(limit);
        // In the order of arrival.
        let mut known: Vec<Known> = Vec::new();
        // For an agent and a client with a request that fits: the clients that the agent has served since.
        let mut passed: BTreeMap<(usize, u8), BTreeSet<u8>> = BTreeMap::new();
        for (request, step) in steps.into_iter().enumerate() {
            match step {
                Step::Enter { client, model, failed_at } => {
                    let longest = (0..4).map(|other| count(&known, other)).max().unwrap();
                    let has_place = known.len() < limit || longest > count(&known, client) + 1;
                    let tries = lost_by(failed_at.as_slice());
                    let entered = enter_as(&mut queue, client, model, request, tries);
                    prop_assert_eq!(entered.is_ok(), has_place);
                    let Ok(Entered { place, displaced }) = entered else { continue };
                    prop_assert_eq!(displaced.is_some(), known.len() == limit);
                    if let Some(displaced) = displaced {
                        let victim = known.iter().find(|other| other.request == displaced).unwrap().client;
                        let newest = known.iter().rposition(|other| other.client == victim).unwrap();
                        prop_assert_eq!((count(&known, victim), known[newest].request), (longest, displaced));
                        known.remove(newest);
                    }
                    known.push(Known { request, client, model, failed_at, place });
                }
                Step::Leave(nth) if nth < known.len() => {
                    let left = known.remove(nth);
                    prop_assert_eq!(queue.leave(&left.place).map(|waiting| waiting.waiter), Some(left.request));
                    prop_assert!(queue.leave(&left.place).is_none());
                }
                Step::Leave(_) => {}
                Step::Next(agent) => {
                    let fitting: Vec<Known> = known.iter().filter(|other| other.fits(agent)).cloned().collect();
                    let Some(served) = next(&mut queue, agent) else {
                        prop_assert!(fitting.is_empty());
                        continue;
                    };
                    let client = fitting.iter().find(|other| other.request == served).unwrap().client;
                    let oldest = fitting.iter().find(|other| other.client == client).unwrap().request;
                    prop_assert_eq!(served, oldest, "a client is served in order");
                    known.retain(|other| other.request != served);
                    for other in 0..4 {
                        let passed = passed.entry((agent, other)).or_default();
                        if other == client || fitting.iter().all(|known| known.client != other) {
                            passed.clear();
                        } else {
                            prop_assert!(passed.insert(client), "client {} is passed twice by {}", other, client);
                        }
                    }
                }
                Step::Forget(agent) => {
                    queue.forget(SessionId::numbered(agent));
                    passed.retain(|(other, _), _| *other != agent);
                }
            }
            passed.retain(|(_, client), _| count(&known, *client) > 0);
            prop_assert_eq!(queue.len(), known.len());
            prop_assert!(queue.len() <= limit);
            prop_assert_eq!(queue.is_empty(), known.is_empty());
        }
    }
}
