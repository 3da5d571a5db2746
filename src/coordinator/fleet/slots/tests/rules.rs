//! The rules by example: who gets a slot that becomes free, and who waits.

use super::*;

#[test]
fn an_offer_serves_as_many_requests_as_it_has_slots_for_and_no_more() {
    let mut world = World::new();
    let (session, _) = world.slots.join(agent_info(1));
    world.sessions.insert(1, session);
    world.serve(Vec::new());
    drop(world.slots.offer(session, offer(4, &[(0, 0), (1, 0)])));
    for model in [0, 0, 0, 1, 1] {
        world.arrive(0, model);
    }
    assert_eq!((world.slots.waiting(), world.running.len()), (5, 0));
    let served = world.slots.offer(session, offer(4, &[(0, 1), (1, 4)]));
    assert_eq!(served.iter().map(|served| served.waiter).collect::<Vec<_>>(), [1, 4, 5]);
    world.serve(served);
    world.check();
    let (released, served) = world.slots.release(session, JobId::random());
    assert!(released == Released::NotHeld && served.is_empty());
    assert_eq!(world.slots.waiting(), 2);
}

#[test]
fn an_agent_that_was_full_gets_the_request_again_before_later_ones_when_it_has_a_slot() {
    let mut world = World::new();
    let (session, _) = world.slots.join(agent_info(1));
    drop(world.slots.offer(session, offer(2, &[(0, 2)])));
    for _ in 0..3 {
        world.arrive(0, 0);
    }
    let Running { agent, job, mut request, .. } = world.running.remove(1);
    assert!(world.slots.refuse(session, job).is_empty(), "the third request does not take the refused one's place");
    request.tries.record(agent, Failure::of(JobResult::Agent(ErrorCode::OutOfCapacity)), true);
    world.claim(request);
    assert_eq!(world.slots.waiting(), 2);
    let ended = world.running.remove(0).job;
    let served = world.slots.complete(session, ended);
    assert_eq!(served.iter().map(|served| served.waiter).collect::<Vec<_>>(), [2], "one slot, one request");
}

#[test]
fn a_request_that_an_idle_agent_refused_gets_a_slot_when_that_is_forgotten() {
    let mut world = World::new();
    let (session, _) = world.slots.join(agent_info(1));
    drop(world.slots.offer(session, offer(1, &[(0, 1)])));
    world.arrive(0, 0);
    let Running { agent, job, mut request, .. } = world.running.remove(0);
    assert!(world.slots.refuse(session, job).is_empty());
    request.tries.record(agent, Failure::of(JobResult::Agent(ErrorCode::OutOfCapacity)), true);
    world.claim(request);
    assert_eq!((world.slots.waiting(), world.running.len()), (1, 0));
    let served = world.slots.forget_refusals(session);
    assert_eq!(served.iter().map(|served| served.waiter).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_request_waits_for_an_agent_that_is_away_and_gets_its_slot_when_it_offers_again() {
    let mut world = World::new();
    let (session, _) = world.slots.join(agent_info(1));
    drop(world.slots.offer(session, offer(1, &[(0, 1)])));
    world.arrive(0, 0);
    world.slots.part(session);
    world.arrive(0, 0);
    assert_eq!((world.slots.waiting(), world.running.len()), (1, 1), "the agent may come back");
    assert_eq!(world.slots.rejoin(session, agent_info(1)), None);
    assert!(world.slots.offer(session, offer(1, &[(0, 1)])).is_empty(), "its job still has the slot");
    let job = world.running.remove(0).job;
    let served = world.slots.complete(session, job);
    assert_eq!(served.iter().map(|served| served.waiter).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_large_request_waits_only_for_an_agent_that_takes_it_and_lets_smaller_ones_pass() {
    let mut world = World::new();
    let (small, _) = world.slots.join(agent_info(1));
    let (large, _) = world.slots.join(agent_info(2));
    drop(world.slots.offer(small, offer_for(SMALL, 1, &[(0, 1)])));
    drop(world.slots.offer(large, offer_for(LARGE, 0, &[(0, 1)])));
    world.arrive(0, 0);
    world.arrive_with(LARGE, 0, 0);
    world.arrive(0, 0);
    let job = world.running.remove(0).job;
    let served = world.slots.complete(small, job);
    assert_eq!(served.iter().map(|served| served.waiter).collect::<Vec<_>>(), [2]);
    world.serve(served);
    let served = world.slots.offer(large, offer_for(LARGE, 1, &[(0, 1)]));
    assert_eq!(served.iter().map(|served| served.waiter).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_request_whose_last_agent_drains_does_not_wait_and_others_do() {
    let mut world = World::new();
    let [small, large, away] = [1, 2, 3].map(|agent| world.slots.join(agent_info(agent)).0);
    drop(world.slots.offer(small, offer_for(SMALL, 0, &[(0, 1), (1, 1)])));
    drop(world.slots.offer(large, offer_for(LARGE, 0, &[(0, 1)])));
    drop(world.slots.offer(away, offer(0, &[(1, 1)])));
    world.slots.part(away);
    world.arrive(0, 0);
    world.arrive_with(LARGE, 0, 0);
    world.arrive(0, 1);
    assert_eq!(world.slots.drain(large), Some(vec![2]));
    assert_eq!(world.slots.drain(large), None);
    assert_eq!(world.slots.drain(small), Some(vec![1]), "the third one waits for the agent that is away");
    world.arrive(0, 0);
    assert_eq!(world.slots.waiting(), 1, "no other request begins to wait for them");
}
