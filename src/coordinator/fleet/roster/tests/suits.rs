//! Which agents could get a job: what they take, and whether they are there.

use super::*;
use crate::coordinator::fleet::job_frame::JobDraft;

/// Agents 1, 2, … with the extension `sizes` that offer a slot for model `m`, each for frames of up to so many bytes.
fn taking(longest_job: usize, lengths: &[Option<u64>]) -> (Roster<u8>, Vec<SessionId>) {
    let mut roster = Roster::new(longest_job);
    let sizes: Extensions = [Extension::Sizes].into_iter().collect();
    let sessions = lengths.iter().zip(1..).map(|(length, key)| {
        let (session, _) = roster.join(AgentInfo { extensions: sizes, ..agent_info(key) });
        let mut capabilities = offer(1, &[("m", 1, None)]);
        capabilities.limits.max_message_bytes = *length;
        roster.offer(session, capabilities);
        session
    });
    let sessions = sessions.collect();
    (roster, sessions)
}

fn assign_long(roster: &mut Roster<u8>, length: usize) -> Result<u8, NoAgent> {
    let length = FrameLength::of(length);
    roster.assign(&chat("m"), length, &Tries::default(), JobId::random()).map(|slot| slot.link)
}

#[test]
fn a_job_goes_to_an_agent_that_takes_a_frame_of_its_length() {
    let (mut roster, sessions) = taking(9000, &[Some(2000), Some(3000)]);
    assert_eq!(assign_long(&mut roster, 3001), Err(NoAgent::TooLarge { limit: 3000, length: 3001 }));
    assert_eq!((roster.in_flight(), assign_long(&mut roster, 3000)), (0, Ok(2)), "no slot was spent before");
    // An agent that takes it and has no slot is worth a later try.
    assert_eq!(assign_long(&mut roster, 3000), Err(NoAgent::Full));
    assert_eq!(assign_long(&mut roster, 2000), Ok(1));
    let accepts = |session: usize, length| roster.accepts(sessions[session], length);
    assert_eq!((accepts(0, 2000), accepts(0, 2001), accepts(1, 3000)), (true, false, true));
    let may_get = |session: usize, length| {
        roster.may_get(sessions[session], &chat("m"), FrameLength::of(length), &Tries::default())
    };
    assert_eq!((may_get(0, 2000), may_get(0, 2001), may_get(1, 3000)), (true, false, true));
}

#[test]
fn without_a_limit_of_the_agent_that_of_the_coordinator_holds() {
    let (mut roster, sessions) = taking(9000, &[None]);
    let (session, _) = roster.join(agent_info(2));
    let mut capabilities = offer(1, &[("m", 1, None)]);
    capabilities.limits.max_message_bytes = Some(2000);
    roster.offer(session, capabilities);
    assert_eq!(assign_long(&mut roster, 9001), Err(NoAgent::TooLarge { limit: 9000, length: 9001 }));
    assert_eq!((assign_long(&mut roster, 9000), assign_long(&mut roster, 9000)), (Ok(1), Ok(2)));
    assert!(roster.accepts(sessions[0], usize::MAX));
    roster.leave(sessions[0]);
    assert!(!roster.accepts(sessions[0], 1));
}

#[test]
fn the_length_of_a_frame_depends_on_what_was_agreed_on() {
    let (body, time) = (r#"{"model":"m"}"#, Duration::from_secs(1));
    let request = crate::coordinator::api::request::read(body.as_bytes(), Endpoint::ChatCompletions).unwrap();
    let draft = JobDraft::new(&request, Endpoint::ChatCompletions, body.into());
    let base = draft.length(time).for_agent(Extensions::NONE);
    let mut roster = Roster::new(base);
    let given = |roster: &mut Roster<u8>| {
        roster.assign(&draft.demand, draft.length(time), &Tries::default(), JobId::random()).map(|slot| slot.link)
    };
    let (session, _) = roster.join(AgentInfo { extensions: Extensions::all(), ..agent_info(1) });
    roster.offer(session, offer(1, &[("m", 1, None)]));
    let length = draft.length(time).for_agent(Extensions::all());
    assert_eq!(given(&mut roster), Err(NoAgent::TooLarge { limit: base, length }));
    let (session, _) = roster.join(agent_info(2));
    roster.offer(session, offer(1, &[("m", 1, None)]));
    assert_eq!(given(&mut roster), Ok(2));
}

#[test]
fn an_agent_that_drains_gets_no_new_job_and_keeps_those_that_it_has() {
    let (mut roster, sessions) = serving_m(&[4, 4]);
    let job = JobId::random();
    assert_eq!(book(&mut roster, &chat("m"), job).unwrap().link, 1);
    assert!(roster.drain(sessions[0]) && !roster.drain(sessions[0]), "it is recorded once");
    assert_eq!((roster.draining(), roster.count(), roster.in_flight()), (1, 2, 1));
    assert!(!roster.accepts(sessions[0], 1) && roster.accepts(sessions[1], 1));
    assert!(!roster.has_slot(sessions[0], &chat("m")) && roster.has_slot(sessions[1], &chat("m")));
    for _ in 0..4 {
        assert_eq!(assign(&mut roster, "m"), Ok(2));
    }
    // The other one may have a slot again.
    assert_eq!(assign(&mut roster, "m"), Err(NoAgent::Full));
    assert!(roster.drain(sessions[1]));
    assert_eq!(assign(&mut roster, "m"), Err(NoAgent::Draining));
    // What it offers later changes nothing.
    roster.offer(sessions[1], offer(9, &[("m", 9, None)]));
    assert_eq!(assign(&mut roster, "m"), Err(NoAgent::Draining));
    assert!(roster.models().is_empty());
    assert_eq!(roster.agents().iter().map(|agent| agent.draining).collect::<Vec<_>>(), [true, true]);
    assert_eq!(roster.release(sessions[0], job), Released::Connected(1));
    // An agent that comes back takes jobs.
    let (back, _) = roster.join(agent_info(1));
    roster.offer(back, offer(1, &[("m", 1, None)]));
    assert_eq!((assign(&mut roster, "m"), roster.draining(), roster.models().len()), (Ok(1), 1, 1));
    roster.leave(sessions[1]);
    assert!(!roster.drain(sessions[1]));
}

#[test]
fn an_agent_that_is_away_or_draining_is_the_reason_only_where_it_could_get_the_job() {
    for (drains, parts, why) in [
        (false, true, NoAgent::Away),
        (true, false, NoAgent::Draining),
        // It will not take jobs when it is back.
        (true, true, NoAgent::Draining),
    ] {
        let (mut roster, sessions) = serving_m(&[4]);
        if drains {
            assert!(roster.drain(sessions[0]));
        }
        if parts {
            roster.part(sessions[0]);
        }
        let may_ever_get = |length| roster.may_ever_get(&chat("m"), FrameLength::of(length), &lost_by(&[2]));
        assert_eq!((may_ever_get(200), may_ever_get(2 << 20)), (!drains, false));
        let mut reason = |demand: &Demand, length, tries: &Tries| {
            roster.assign(demand, FrameLength::of(length), tries, JobId::random()).unwrap_err()
        };
        let embeddings = Demand { endpoint: Endpoint::Embeddings, ..chat("m") };
        assert_eq!(reason(&chat("m"), 200, &lost_by(&[2])), why);
        assert_eq!(reason(&chat("m"), 200, &lost_by(&[1])), NoAgent::Tried);
        assert_eq!(
            reason(&chat("m"), 2 << 20, &Tries::default()),
            NoAgent::TooLarge { limit: 1 << 20, length: 2 << 20 }
        );
        assert_eq!(reason(&chat("other"), 200, &Tries::default()), NoAgent::Unknown);
        assert_eq!(reason(&embeddings, 200, &Tries::default()), NoAgent::NotAtEndpoint);
    }
}
