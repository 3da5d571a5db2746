use std::time::{Duration, SystemTime};

use super::*;
use crate::messages::endpoint::Endpoint;
use crate::messages::wire::{Extensions, Limits, Metadata, ModelOffer};

mod suits;

/// The length of a frame that each agent takes.
const SHORT: FrameLength = FrameLength::of(200);

fn chat(model: &str) -> Demand {
    Demand { model: model.into(), endpoint: Endpoint::ChatCompletions }
}

/// The failed tries of a request that these agents have lost.
fn lost_by(agents: &[u8]) -> Tries {
    Tries::lost_by(agents.iter().map(|agent| AgentKey([*agent; 32])))
}

fn agent_info(key: u8) -> AgentInfo<u8> {
    let key = AgentKey([key; 32]);
    AgentInfo {
        key,
        provider: key.provider_id().unwrap(),
        version: "1".into(),
        extensions: Extensions::NONE,
        since: SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(key.0[0])),
        link: key.0[0],
    }
}

fn offer(total: u32, models: &[(&str, u32, Option<u64>)]) -> Capabilities {
    let model = |(id, max_concurrent, context_window): &(&str, u32, Option<u64>)| ModelOffer {
        model_id: ModelId::from(*id),
        input_per_1m: 1,
        output_per_1m: 1,
        max_concurrent: *max_concurrent,
        backend: "ollama".into(),
        context_window: *context_window,
        endpoints: None,
    };
    Capabilities {
        models: models.iter().map(model).collect(),
        limits: Limits { max_concurrent_total: total, max_tokens_per_minute: None, max_message_bytes: None },
        metadata: Metadata { agent_version: "1".into() },
    }
}

/// A roster of agents 1, 2, … that offer model `m`, each with its limit.
fn serving_m(limits: &[u32]) -> (Roster<u8>, Vec<SessionId>) {
    let mut roster = Roster::new(1 << 20);
    let sessions = limits
        .iter()
        .zip(1..)
        .map(|(limit, key)| {
            let (session, _) = roster.join(agent_info(key));
            roster.offer(session, offer(*limit, &[("m", *limit, None)]));
            session
        })
        .collect();
    (roster, sessions)
}

fn assign(roster: &mut Roster<u8>, model: &str) -> Result<u8, NoAgent> {
    book(roster, &chat(model), JobId::random()).map(|given| given.link)
}

fn book(roster: &mut Roster<u8>, demand: &Demand, job: JobId) -> Result<Assignment<u8>, NoAgent> {
    roster.assign(demand, SHORT, &Tries::default(), job)
}

#[test]
fn jobs_go_where_the_share_of_taken_slots_is_smallest() {
    let (mut roster, _) = serving_m(&[1, 4]);
    // Both are idle: first the one with the oldest assignment, in the order of sessions. Then shares 1/1 against 0/4, 1/4, 2/4, 3/4.
    let order: Vec<u8> = (0..5).map(|_| assign(&mut roster, "m").unwrap()).collect();
    assert_eq!(order, [1, 2, 2, 2, 2]);
    assert_eq!(assign(&mut roster, "m"), Err(NoAgent::Full));
    assert_eq!(roster.in_flight(), 5);
}

#[test]
fn an_agent_gets_no_more_jobs_by_reporting_too_many_slots() {
    let (mut roster, _) = serving_m(&[u32::MAX, 8]);
    let order: Vec<u8> = (0..16).map(|_| assign(&mut roster, "m").unwrap()).collect();
    assert_eq!(order.iter().filter(|agent| **agent == 1).count(), 8);
    assert_eq!(roster.agents()[0].max_concurrent, 4096);
    // It gets the jobs that the others have no slots for.
    assert_eq!(assign(&mut roster, "m"), Ok(1));
}

#[test]
fn an_agent_that_completes_many_concurrent_jobs_gets_its_share() {
    let (mut roster, _) = serving_m(&[64, 8]);
    let mut jobs = Vec::new();
    for _ in 0..72 {
        let job = JobId::random();
        jobs.push((book(&mut roster, &chat("m"), job).unwrap().session, job));
    }
    jobs.into_iter().for_each(|(session, job)| roster.complete(session, job));
    let order: Vec<u8> = (0..18).map(|_| assign(&mut roster, "m").unwrap()).collect();
    assert_eq!(order.iter().filter(|agent| **agent == 1).count(), 16);
}

#[test]
fn equal_agents_take_turns() {
    let (mut roster, sessions) = serving_m(&[8, 8, 8]);
    let mut order = Vec::new();
    for _ in 0..6 {
        let job = JobId::random();
        let given = book(&mut roster, &chat("m"), job).unwrap();
        order.push(given.link);
        assert_ne!(roster.release(given.session, job), Released::NotHeld);
    }
    assert_eq!(order, [1, 2, 3, 1, 2, 3]);
    assert_eq!(sessions.len(), 3);
}

#[test]
fn with_equal_shares_the_agent_with_fewer_jobs_is_preferred() {
    let (mut roster, _) = serving_m(&[2, 4]);
    for want in [1, 2, 2, 1, 2, 2] {
        assert_eq!(assign(&mut roster, "m"), Ok(want));
    }
}

#[test]
fn a_model_without_an_offer_and_a_model_without_a_free_slot_are_different_errors() {
    let (mut roster, sessions) = serving_m(&[1]);
    assert_eq!(assign(&mut roster, "other"), Err(NoAgent::Unknown));
    assert_eq!(assign(&mut roster, "m"), Ok(1));
    assert_eq!(assign(&mut roster, "m"), Err(NoAgent::Full));
    roster.offer(sessions[0], offer(1, &[]));
    assert_eq!(assign(&mut roster, "m"), Err(NoAgent::Unknown));
}

#[test]
fn a_model_has_a_limit_of_its_own() {
    let mut roster = Roster::new(1 << 20);
    let (session, _) = roster.join(agent_info(1));
    roster.offer(session, offer(10, &[("m", 1, None), ("n", 10, None)]));
    assert_eq!(assign(&mut roster, "m"), Ok(1));
    assert_eq!(assign(&mut roster, "m"), Err(NoAgent::Full));
    assert_eq!(assign(&mut roster, "n"), Ok(1));
}

#[test]
fn a_slot_is_freed_only_once() {
    let (mut roster, sessions) = serving_m(&[1]);
    let job = JobId::random();
    book(&mut roster, &chat("m"), job).unwrap();
    assert_eq!(roster.release(sessions[0], job), Released::Connected(1));
    assert_eq!(roster.release(sessions[0], job), Released::NotHeld);
    assert_eq!(roster.in_flight(), 0);
}

#[test]
fn a_second_session_of_a_key_replaces_the_first_and_survives_its_end() {
    let (mut roster, sessions) = serving_m(&[1]);
    let job = JobId::random();
    book(&mut roster, &chat("m"), job).unwrap();
    let (second, replaced) = roster.join(AgentInfo { link: 9, ..agent_info(1) });
    assert_eq!(replaced, Some(1));
    roster.leave(sessions[0]);
    assert_eq!(roster.release(sessions[0], job), Released::NotHeld);
    assert_eq!(roster.links(), [9]);
    roster.leave(second);
    assert!(roster.links().is_empty());
}

#[test]
fn messages_of_an_old_session_change_nothing() {
    let (mut roster, sessions) = serving_m(&[1]);
    roster.join(agent_info(1));
    roster.offer(sessions[0], offer(5, &[("m", 5, None)]));
    roster.heartbeat(sessions[0], Heartbeat::default());
    assert!(roster.models().is_empty());
    assert_eq!(roster.agents()[0].heartbeat, None);
}

#[test]
fn a_model_of_several_agents_is_listed_once_with_the_largest_context() {
    let mut roster = Roster::new(1 << 20);
    for (key, context) in [(5, Some(4096)), (3, None), (7, Some(8192))] {
        let (session, _) = roster.join(agent_info(key));
        roster.offer(session, offer(1, &[("m", 1, context)]));
    }
    let since = SystemTime::UNIX_EPOCH + Duration::from_secs(3);
    assert_eq!(roster.models(), [ModelSummary { id: ModelId::from("m"), context_window: Some(8192), since }]);
}

#[test]
fn operators_see_the_agents_and_their_jobs() {
    let (mut roster, sessions) = serving_m(&[2]);
    assign(&mut roster, "m").unwrap();
    roster.heartbeat(sessions[0], Heartbeat { queue_depth: 1, ..Heartbeat::default() });
    let [agent] = &roster.agents()[..] else { panic!("not one agent") };
    assert_eq!((agent.in_flight, agent.max_concurrent), (1, 2));
    assert_eq!(agent.connected_since, "1970-01-01T00:00:01Z");
    assert_eq!(agent.heartbeat.as_ref().map(|figures| figures.queue_depth), Some(1));
    assert_eq!(agent.models, [ModelId::from("m")]);
}

#[test]
fn an_agent_gets_jobs_at_the_paths_that_it_offers_or_else_at_those_of_the_base_protocol() {
    let mut roster = Roster::new(1 << 20);
    let join = |roster: &mut Roster<u8>, key, extensions: Extensions, endpoints| {
        let (session, _) = roster.join(AgentInfo { extensions, ..agent_info(key) });
        let mut capabilities = offer(9, &[("m", 9, None)]);
        capabilities.models[0].endpoints = endpoints;
        roster.offer(session, capabilities);
    };
    let given = |roster: &mut Roster<u8>, endpoint| {
        book(roster, &Demand { model: "m".into(), endpoint }, JobId::random()).map(|given| given.link)
    };
    let embeddings = Some(Endpoints::NONE.with(Endpoint::Embeddings));
    join(&mut roster, 1, Extensions::NONE, embeddings);
    for endpoint in Endpoint::ALL {
        let want = if Endpoints::BASE.contains(endpoint) { Ok(1) } else { Err(NoAgent::NotAtEndpoint) };
        assert_eq!(given(&mut roster, endpoint), want, "{endpoint}");
    }
    join(&mut roster, 2, Extensions::all(), embeddings);
    assert_eq!(given(&mut roster, Endpoint::Embeddings), Ok(2));
    assert_eq!(given(&mut roster, Endpoint::Messages), Ok(1));
    assert_eq!(given(&mut roster, Endpoint::Responses), Err(NoAgent::NotAtEndpoint));
    join(&mut roster, 3, Extensions::all(), None);
    assert_eq!(given(&mut roster, Endpoint::Messages), Ok(3), "it has no job yet");
}

#[test]
fn a_request_does_not_go_to_an_agent_that_has_failed_it_also_in_a_new_session() {
    let (mut roster, _) = serving_m(&[1, 1]);
    let mut assign =
        |failed: &[u8]| roster.assign(&chat("m"), SHORT, &lost_by(failed), JobId::random()).map(|slot| slot.link);
    assert_eq!(assign(&[1]), Ok(2));
    assert_eq!(assign(&[1]), Err(NoAgent::Full), "the second agent is not ruled out");
    assert_eq!(assign(&[1, 2]), Err(NoAgent::Tried));
    let (session, _) = roster.join(agent_info(1));
    roster.offer(session, offer(1, &[("m", 1, None)]));
    assert!(roster.has_slot(session, &chat("m")));
    let may_get = |failed: &[u8]| roster.may_get(session, &chat("m"), SHORT, &lost_by(failed));
    assert!(!may_get(&[1]) && may_get(&[2]));
    assert_eq!(roster.assign(&chat("m"), SHORT, &lost_by(&[1]), JobId::random()).unwrap_err(), NoAgent::Full);
}

#[test]
fn an_agent_that_refuses_a_job_as_full_has_no_slot_for_the_model_until_something_changes() {
    let mut roster = Roster::new(1 << 20);
    let (session, _) = roster.join(agent_info(1));
    let offered = || offer(4, &[("m", 4, None), ("n", 4, None)]);
    let refuse = |roster: &mut Roster<u8>| {
        let refused = JobId::random();
        book(roster, &chat("m"), refused).unwrap();
        roster.refuse(session, refused);
        // A second report of the same end changes nothing.
        roster.refuse(session, refused);
        assert_eq!(assign(roster, "m"), Err(NoAgent::Full));
    };
    roster.offer(session, offered());
    refuse(&mut roster);
    roster.forget_refusals(session);
    let first = JobId::random();
    book(&mut roster, &chat("m"), first).unwrap();
    refuse(&mut roster);
    roster.offer(session, offered());
    refuse(&mut roster);
    assert_eq!(assign(&mut roster, "n"), Ok(1), "only the model that was refused has no slot");
    // It has one job, as many as when it refused.
    assert_eq!(roster.release(session, first), Released::Connected(1));
    assert_eq!(assign(&mut roster, "m"), Err(NoAgent::Full));
}

#[test]
fn after_the_end_of_a_job_an_agent_that_was_full_has_one_slot() {
    let (mut roster, sessions) = serving_m(&[4]);
    let jobs = [JobId::random(), JobId::random(), JobId::random()];
    jobs.iter().for_each(|job| drop(book(&mut roster, &chat("m"), *job).unwrap()));
    roster.refuse(sessions[0], jobs[2]);
    roster.complete(sessions[0], jobs[0]);
    assert_eq!(assign(&mut roster, "m"), Ok(1));
    assert_eq!(assign(&mut roster, "m"), Err(NoAgent::Full));
}

#[test]
fn an_agent_that_is_away_gets_no_jobs_and_keeps_its_own_until_it_returns() {
    let (mut roster, sessions) = serving_m(&[2]);
    let (job, other) = (JobId::random(), JobId::random());
    book(&mut roster, &chat("m"), job).unwrap();
    book(&mut roster, &chat("m"), other).unwrap();
    roster.part(sessions[0]);
    assert_eq!(assign(&mut roster, "m"), Err(NoAgent::Away));
    assert_eq!((roster.in_flight(), roster.waiting(), roster.links(), roster.agents().len()), (0, 2, vec![], 0));
    assert_eq!(roster.release(sessions[0], other), Released::Away);
    assert_eq!(roster.rejoin(sessions[0], AgentInfo { link: 7, ..agent_info(1) }), None);
    assert_eq!((roster.in_flight(), roster.waiting(), roster.link(sessions[0])), (1, 0, Some(7)));
    assert_eq!(assign(&mut roster, "m"), Err(NoAgent::Away), "it has not sent its offer again");
    assert!(!roster.has_slot(sessions[0], &chat("m")));
    roster.offer(sessions[0], offer(2, &[("m", 2, None)]));
    assert_eq!((assign(&mut roster, "m"), assign(&mut roster, "m")), (Ok(7), Err(NoAgent::Full)));
    assert_eq!(roster.release(sessions[0], job), Released::Connected(7));
    // Its old connection may not have ended yet.
    assert_eq!(roster.rejoin(sessions[0], AgentInfo { link: 8, ..agent_info(1) }), Some(7));
    roster.part(sessions[0]);
    roster.join(agent_info(1));
    assert_eq!(roster.waiting(), 0, "the key has a new session");
}
