use std::time::Duration;

use super::*;
use crate::coordinator::fleet::job_frame::JobDraft;
use crate::messages::wire::{Extensions, Limits, Metadata, ModelOffer};

const CHAT: Endpoint = Endpoint::ChatCompletions;

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
    let mut roster = Roster::new();
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

/// A job for a model at a path, with a frame of 200 bytes.
fn wanted(model: &ModelId, endpoint: Endpoint) -> Wanted<'_> {
    Wanted { model, endpoint, length: FrameLength::of(200), most: 1 << 20 }
}

/// Books a slot for a job of model `m`.
fn book(roster: &mut Roster<u8>, job: JobId, tried: &[SessionId]) -> Result<Assignment<u8>, NoAgent> {
    roster.assign(&wanted(&ModelId::from("m"), CHAT), job, tried)
}

fn assign(roster: &mut Roster<u8>, tried: &[SessionId]) -> Result<u8, NoAgent> {
    book(roster, JobId::random(), tried).map(|given| given.link)
}

#[test]
fn jobs_go_where_the_share_of_taken_slots_is_smallest() {
    let (mut roster, _) = serving_m(&[1, 4]);
    // Both are idle: first the one with the oldest assignment, in the order of sessions. Then shares 1/1 against 0/4, 1/4, 2/4, 3/4.
    let order: Vec<u8> = (0..5).map(|_| assign(&mut roster, &[]).unwrap()).collect();
    assert_eq!(order, [1, 2, 2, 2, 2]);
    assert_eq!(assign(&mut roster, &[]), Err(NoAgent::Full));
    assert_eq!(roster.in_flight(), 5);
}

#[test]
fn an_agent_gets_no_more_jobs_by_reporting_too_many_slots() {
    let (mut roster, _) = serving_m(&[u32::MAX, 8]);
    let order: Vec<u8> = (0..16).map(|_| assign(&mut roster, &[]).unwrap()).collect();
    assert_eq!(order.iter().filter(|agent| **agent == 1).count(), 8);
    assert_eq!(roster.agents()[0].max_concurrent, 4096);
    // It gets the jobs that the others have no slots for.
    assert_eq!(assign(&mut roster, &[]), Ok(1));
}

#[test]
fn an_agent_that_completes_many_concurrent_jobs_gets_its_share() {
    let (mut roster, _) = serving_m(&[64, 8]);
    let mut jobs = Vec::new();
    for _ in 0..72 {
        let job = JobId::random();
        jobs.push((book(&mut roster, job, &[]).unwrap().session, job));
    }
    jobs.into_iter().for_each(|(session, job)| roster.complete(session, job));
    let order: Vec<u8> = (0..18).map(|_| assign(&mut roster, &[]).unwrap()).collect();
    assert_eq!(order.iter().filter(|agent| **agent == 1).count(), 16);
}

#[test]
fn equal_agents_take_turns() {
    let (mut roster, sessions) = serving_m(&[8, 8, 8]);
    let mut order = Vec::new();
    for _ in 0..6 {
        let job = JobId::random();
        let given = book(&mut roster, job, &[]).unwrap();
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
        assert_eq!(assign(&mut roster, &[]), Ok(want));
    }
}

#[test]
fn a_model_without_an_offer_and_a_model_without_a_free_slot_are_different_errors() {
    let (mut roster, sessions) = serving_m(&[1]);
    let other = ModelId::from("other");
    assert_eq!(roster.assign(&wanted(&other, CHAT), JobId::random(), &[]).unwrap_err(), NoAgent::Unknown);
    assert_eq!(assign(&mut roster, &sessions), Err(NoAgent::Full));
    roster.offer(sessions[0], offer(1, &[]));
    assert_eq!(assign(&mut roster, &[]), Err(NoAgent::Unknown));
}

#[test]
fn a_model_has_a_limit_of_its_own() {
    let mut roster = Roster::new();
    let (session, _) = roster.join(agent_info(1));
    roster.offer(session, offer(10, &[("m", 1, None), ("n", 10, None)]));
    assert_eq!(assign(&mut roster, &[]), Ok(1));
    assert_eq!(assign(&mut roster, &[]), Err(NoAgent::Full));
    assert!(roster.assign(&wanted(&ModelId::from("n"), CHAT), JobId::random(), &[]).is_ok());
}

#[test]
fn a_slot_is_freed_only_once() {
    let (mut roster, sessions) = serving_m(&[1]);
    let job = JobId::random();
    book(&mut roster, job, &[]).unwrap();
    assert_eq!(roster.release(sessions[0], job), Released::Connected(1));
    assert_eq!(roster.release(sessions[0], job), Released::NotHeld);
    assert_eq!(roster.in_flight(), 0);
}

#[test]
fn a_second_session_of_a_key_replaces_the_first_and_survives_its_end() {
    let (mut roster, sessions) = serving_m(&[1]);
    let job = JobId::random();
    book(&mut roster, job, &[]).unwrap();
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
    let mut roster = Roster::new();
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
    assign(&mut roster, &[]).unwrap();
    roster.heartbeat(sessions[0], Heartbeat { queue_depth: 1, ..Heartbeat::default() });
    let [agent] = &roster.agents()[..] else { panic!("not one agent") };
    assert_eq!((agent.in_flight, agent.max_concurrent), (1, 2));
    assert_eq!(agent.connected_since, "1970-01-01T00:00:01Z");
    assert_eq!(agent.heartbeat.as_ref().map(|figures| figures.queue_depth), Some(1));
    assert_eq!(agent.models, [ModelId::from("m")]);
}

#[test]
fn an_agent_gets_jobs_at_the_paths_that_it_offers_or_else_at_those_of_the_base_protocol() {
    let mut roster = Roster::new();
    let join = |roster: &mut Roster<u8>, key, extensions: Extensions, endpoints| {
        let (session, _) = roster.join(AgentInfo { extensions, ..agent_info(key) });
        let mut capabilities = offer(9, &[("m", 9, None)]);
        capabilities.models[0].endpoints = endpoints;
        roster.offer(session, capabilities);
    };
    let given = |roster: &mut Roster<u8>, endpoint| {
        roster.assign(&wanted(&ModelId::from("m"), endpoint), JobId::random(), &[]).map(|given| given.link)
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
fn an_agent_that_is_away_gets_no_jobs_and_keeps_its_own_until_it_returns() {
    let (mut roster, sessions) = serving_m(&[2]);
    let (job, other) = (JobId::random(), JobId::random());
    book(&mut roster, job, &[]).unwrap();
    book(&mut roster, other, &[]).unwrap();
    roster.part(sessions[0]);
    assert_eq!(assign(&mut roster, &[]), Err(NoAgent::Unknown));
    assert_eq!((roster.in_flight(), roster.waiting(), roster.links(), roster.agents().len()), (0, 2, vec![], 0));
    assert_eq!(roster.release(sessions[0], other), Released::Away);
    assert_eq!(roster.rejoin(sessions[0], AgentInfo { link: 7, ..agent_info(1) }), None);
    assert_eq!((roster.in_flight(), roster.waiting(), roster.link(sessions[0])), (1, 0, Some(7)));
    assert_eq!(assign(&mut roster, &[]), Err(NoAgent::Unknown), "it has not sent its offer again");
    roster.offer(sessions[0], offer(2, &[("m", 2, None)]));
    assert_eq!((assign(&mut roster, &[]), assign(&mut roster, &[])), (Ok(7), Err(NoAgent::Full)));
    assert_eq!(roster.release(sessions[0], job), Released::Connected(7));
    // Its old connection may not have ended yet.
    assert_eq!(roster.rejoin(sessions[0], AgentInfo { link: 8, ..agent_info(1) }), Some(7));
    roster.part(sessions[0]);
    roster.join(agent_info(1));
    assert_eq!(roster.waiting(), 0, "the key has a new session");
}

#[test]
fn a_job_goes_to_an_agent_that_takes_a_frame_of_its_length() {
    let mut roster = Roster::new();
    let join = |roster: &mut Roster<u8>, key, extensions, max_message_bytes| {
        let (session, _) = roster.join(AgentInfo { extensions, ..agent_info(key) });
        let mut capabilities = offer(1, &[("m", 1, None)]);
        capabilities.limits.max_message_bytes = max_message_bytes;
        roster.offer(session, capabilities);
        session
    };
    let given = |roster: &mut Roster<u8>, length, most| {
        let model = ModelId::from("m");
        let wanted = Wanted { length: FrameLength::of(length), most, ..wanted(&model, CHAT) };
        roster.assign(&wanted, JobId::random(), &[]).map(|given| given.link)
    };
    let sizes: Extensions = [Extension::Sizes].into_iter().collect();
    let small = join(&mut roster, 1, sizes, Some(2000));
    assert_eq!(given(&mut roster, 2001, 9000), Err(NoAgent::TooLarge { limit: 2000, length: 2001 }));
    let middle = join(&mut roster, 2, sizes, Some(3000));
    assert_eq!(given(&mut roster, 3001, 9000), Err(NoAgent::TooLarge { limit: 3000, length: 3001 }));
    assert_eq!((roster.in_flight(), given(&mut roster, 3000, 9000)), (0, Ok(2)), "no slot was spent before");
    // An agent that takes it and has no slot is worth a later try.
    assert_eq!(given(&mut roster, 3000, 9000), Err(NoAgent::Full));
    assert_eq!(given(&mut roster, 2000, 9000), Ok(1));
    // Without the extension, or without a limit, the coordinator's own limit holds.
    let any = join(&mut roster, 3, Extensions::NONE, Some(2000));
    join(&mut roster, 4, sizes, None);
    assert_eq!((given(&mut roster, 9000, 9000), given(&mut roster, 9000, 9000)), (Ok(3), Ok(4)));
    assert_eq!(given(&mut roster, 9001, 9000), Err(NoAgent::TooLarge { limit: 9000, length: 9001 }));
    let accepts = |session, length| roster.accepts(session, length);
    assert_eq!((accepts(small, 2000), accepts(small, 2001)), (true, false));
    assert_eq!((accepts(middle, 3000), accepts(any, usize::MAX)), (true, true));
    roster.leave(any);
    assert!(!roster.accepts(any, 1));
}

#[test]
fn the_length_of_a_frame_depends_on_what_was_agreed_on() {
    let mut roster = Roster::new();
    let body = r#"{"model":"m"}"#;
    let request = crate::coordinator::api::request::read(body.as_bytes(), CHAT).unwrap();
    let draft = JobDraft::new(&request, CHAT, body.into(), Duration::from_secs(1));
    let base = draft.length().for_agent(Extensions::NONE);
    let given = |roster: &mut Roster<u8>| {
        let wanted = Wanted { length: draft.length(), most: base, ..wanted(&draft.model, CHAT) };
        roster.assign(&wanted, draft.job, &[]).map(|given| given.link)
    };
    let (session, _) = roster.join(AgentInfo { extensions: Extensions::all(), ..agent_info(1) });
    roster.offer(session, offer(1, &[("m", 1, None)]));
    let length = draft.length().for_agent(Extensions::all());
    assert_eq!(given(&mut roster), Err(NoAgent::TooLarge { limit: base, length }));
    let (session, _) = roster.join(agent_info(2));
    roster.offer(session, offer(1, &[("m", 1, None)]));
    assert_eq!(given(&mut roster), Ok(2));
}

#[test]
fn an_agent_that_drains_gets_no_new_job_and_keeps_those_that_it_has() {
    let (mut roster, sessions) = serving_m(&[4, 4]);
    let job = JobId::random();
    assert_eq!(book(&mut roster, job, &[]).unwrap().link, 1);
    assert!(roster.drain(sessions[0]) && !roster.drain(sessions[0]), "it is recorded once");
    assert_eq!((roster.draining(), roster.links().len(), roster.in_flight()), (1, 2, 1));
    assert!(!roster.accepts(sessions[0], 1) && roster.accepts(sessions[1], 1));
    for _ in 0..4 {
        assert_eq!(assign(&mut roster, &[]), Ok(2));
    }
    // The other one may have a slot again.
    assert_eq!(assign(&mut roster, &[]), Err(NoAgent::Full));
    assert!(roster.drain(sessions[1]));
    assert_eq!(assign(&mut roster, &[]), Err(NoAgent::Draining));
    // What it offers later changes nothing.
    roster.offer(sessions[1], offer(9, &[("m", 9, None)]));
    assert_eq!(assign(&mut roster, &sessions), Err(NoAgent::Draining));
    assert!(roster.models().is_empty());
    assert_eq!(roster.agents().iter().map(|agent| agent.draining).collect::<Vec<_>>(), [true, true]);
    assert_eq!(roster.release(sessions[0], job), Released::Connected(1));
    // An agent that comes back takes jobs.
    let (back, _) = roster.join(agent_info(1));
    roster.offer(back, offer(1, &[("m", 1, None)]));
    assert_eq!((assign(&mut roster, &[]), roster.draining(), roster.models().len()), (Ok(1), 1, 1));
    roster.leave(sessions[1]);
    assert!(!roster.drain(sessions[1]));
}

#[test]
fn the_reason_that_an_agent_that_drains_is_left_is_not_that_the_model_is_unknown() {
    let (mut roster, sessions) = serving_m(&[4]);
    roster.drain(sessions[0]);
    let model = ModelId::from("m");
    let reason = |roster: &mut Roster<u8>, wanted: Wanted<'_>| {
        roster.assign(&wanted, JobId::random(), &[]).map(|given| given.link)
    };
    assert_eq!(reason(&mut roster, wanted(&model, CHAT)), Err(NoAgent::Draining));
    assert_eq!(reason(&mut roster, wanted(&ModelId::from("other"), CHAT)), Err(NoAgent::Unknown));
    assert_eq!(reason(&mut roster, wanted(&model, Endpoint::Embeddings)), Err(NoAgent::NotAtEndpoint));
    // Another agent that would take a smaller frame is there.
    let (session, _) = roster.join(agent_info(2));
    roster.offer(session, offer(4, &[("m", 4, None)]));
    let large = Wanted { length: FrameLength::of(2 << 20), ..wanted(&model, CHAT) };
    assert!(matches!(reason(&mut roster, large), Err(NoAgent::TooLarge { .. })));
}
