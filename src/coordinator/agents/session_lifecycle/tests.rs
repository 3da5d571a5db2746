use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;
use crate::config::{CoordinatorConfig, MapEnvironment};
use crate::coordinator::agents::link::idle;
use crate::coordinator::fleet::response_channel::{ResponseEnd, ResponsePart, ResponseReceiver, response_channel};
use crate::messages::ids::JobId;
use crate::messages::wire::{Extensions, KeptJob};

const WINDOW: Duration = Duration::from_secs(60);

fn state() -> Arc<CoordinatorState> {
    let config = CoordinatorConfig::from_env(&MapEnvironment::default()).unwrap().0;
    assert_eq!(config.resume_window, WINDOW);
    CoordinatorState::new(config, Vec::new())
}

fn open(state: &CoordinatorState, key: u8, request: Option<&ResumeRequest>) -> OpenedSession {
    let key = AgentKey([key; 32]);
    let (version, extensions, since) = (String::new(), Extensions::all(), SystemTime::now());
    let agent = AgentInfo { key, provider: key.provider_id().unwrap(), version, extensions, since, link: () };
    state.open_session(agent, request, |jobs| SessionLink::new(idle::connection(), Arc::default(), jobs))
}

fn job(opened: &OpenedSession) -> (JobId, ResponseReceiver) {
    let (job, (sender, receiver)) = (JobId::random(), response_channel(1000));
    opened.jobs.with(|jobs| jobs.begin(job, sender)).unwrap();
    (job, receiver)
}

fn request(opened: &OpenedSession, job_id: JobId) -> ResumeRequest {
    let jobs = vec![KeptJob { job_id, offset: 0, ended: false }];
    ResumeRequest { session: opened.name.clone().unwrap(), jobs }
}

/// How the response ends within this time, with the timer of the sessions running.
async fn end_within(state: &CoordinatorState, receiver: &mut ResponseReceiver, time: Duration) -> Option<ResponsePart> {
    let next = async {
        tokio::select! {
            part = receiver.next() => part,
            never = expire_sessions(state) => match never {},
        }
    };
    tokio::time::timeout(time, next).await.ok()
}

#[actix_rt::test]
async fn a_session_waits_for_the_window_and_no_longer() {
    tokio::time::pause();
    let state = state();
    let (first, second) = (open(&state, 1, None), open(&state, 2, None));
    let ((_, mut early), (_, mut late)) = (job(&first), job(&second));
    let half = WINDOW / 2;
    assert_eq!(state.leave_session(AgentKey([1; 32]), &first.jobs), 0);
    assert_eq!(end_within(&state, &mut early, half).await, None);
    assert_eq!(state.leave_session(AgentKey([2; 32]), &second.jobs), 0);
    assert_eq!(end_within(&state, &mut early, half - Duration::from_millis(10)).await, None);
    let lost = Some(ResponsePart::End(ResponseEnd::AgentLost));
    assert_eq!(end_within(&state, &mut early, Duration::from_millis(20)).await, lost);
    assert_eq!(end_within(&state, &mut late, half - Duration::from_millis(20)).await, None);
    assert_eq!(end_within(&state, &mut late, Duration::from_millis(30)).await, lost);
}

#[actix_rt::test]
async fn a_session_goes_on_with_one_connection_at_a_time() {
    let state = state();
    let first = open(&state, 1, None);
    let (id, _receiver) = job(&first);
    let second = open(&state, 1, Some(&request(&first, id)));
    assert!(second.resumed.is_some() && second.older.is_some() && second.id == first.id);
    assert_eq!((first.jobs.with(|jobs| jobs.len()), second.jobs.with(|jobs| jobs.len())), (None, Some(1)));
    // The end of the old connection changes nothing.
    assert_eq!(state.leave_session(AgentKey([1; 32]), &first.jobs), 0);
    assert_eq!((second.jobs.with(|jobs| jobs.len()), state.gauges().agents), (Some(1), 1));
    assert_eq!(state.leave_session(AgentKey([1; 32]), &second.jobs), 0);
    let third = open(&state, 1, Some(&request(&first, id)));
    assert_eq!((third.resumed.map(|jobs| jobs.len()), third.older.is_some()), (Some(1), false));
}

#[actix_rt::test]
async fn a_session_without_a_job_is_not_kept() {
    let state = state();
    let first = open(&state, 1, None);
    let (id, receiver) = job(&first);
    drop(receiver);
    assert_eq!(state.leave_session(AgentKey([1; 32]), &first.jobs), 0);
    assert!(open(&state, 1, Some(&request(&first, id))).resumed.is_none());
}

#[actix_rt::test]
async fn another_key_or_another_name_opens_a_new_session() {
    let state = state();
    let first = open(&state, 1, None);
    let (id, mut receiver) = job(&first);
    assert!(open(&state, 2, Some(&request(&first, id))).resumed.is_none());
    assert_eq!(first.jobs.with(|jobs| jobs.len()), Some(1));
    let other = ResumeRequest { session: SessionName::from_bits(1), ..request(&first, id) };
    let second = open(&state, 1, Some(&other));
    assert!(second.resumed.is_none() && second.name != first.name && second.jobs_lost == 1);
    // It ends with the offer of the new session, whose agent may then get it.
    second.missing.into_iter().for_each(MissingJob::finish);
    assert_eq!(receiver.next().await, ResponsePart::End(ResponseEnd::AgentRestarted));
    assert_eq!(first.jobs.with(|jobs| jobs.len()), None);
}

#[actix_rt::test]
async fn a_stop_ends_the_sessions_that_wait_and_lets_none_begin() {
    let state = state();
    let (waiting, connected) = (open(&state, 1, None), open(&state, 2, None));
    let ((_, mut before), (_, mut after)) = (job(&waiting), job(&connected));
    state.leave_session(AgentKey([1; 32]), &waiting.jobs);
    state.begin_stop();
    assert_eq!(before.next().await, ResponsePart::End(ResponseEnd::AgentLost));
    assert_eq!(state.leave_session(AgentKey([2; 32]), &connected.jobs), 1);
    assert_eq!(after.next().await, ResponsePart::End(ResponseEnd::AgentLost));
}
