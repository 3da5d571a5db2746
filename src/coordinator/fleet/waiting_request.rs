//! A request in the queue: waits for its slot, and leaves the queue when its client disconnects. Used by
//! [`dispatch`](super::dispatch).

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::demand::Demand;
use super::wait_outcome::WaitOutcome;
use super::wait_queue::Place;
use crate::coordinator::events::WaitEnded;
use crate::coordinator::state::{CoordinatorState, WaitEnd};
use crate::messages::ids::JobId;

/// A request in the queue. Its drop takes it out, and frees the slot that it may have got just before.
pub(crate) struct WaitingRequest {
    state: Arc<CoordinatorState>,
    place: Place,
    demand: Demand,
    /// The id of the job that it becomes.
    job: JobId,
    end: oneshot::Receiver<WaitEnd>,
    since: Instant,
    /// How the wait would end if it ended now.
    outcome: WaitOutcome,
}

impl WaitingRequest {
    /// A request that has entered the queue just now.
    pub(crate) fn new(
        state: Arc<CoordinatorState>,
        place: Place,
        demand: Demand,
        job: JobId,
        end: oneshot::Receiver<WaitEnd>,
    ) -> Self {
        Self { state, place, demand, job, end, since: Instant::now(), outcome: WaitOutcome::ClientGone }
    }

    /// Waits for the slot, or for another end of the wait. `None` if there was none in time.
    pub(crate) async fn end(mut self, until: Instant) -> Option<WaitEnd> {
        let end = match timeout_at(until, &mut self.end).await {
            Ok(end) => end.ok(),
            Err(_) => self.leave(),
        };
        self.outcome = match &end {
            Some(WaitEnd::Slot(_)) => WaitOutcome::Served,
            Some(WaitEnd::Displaced) => WaitOutcome::Displaced,
            Some(WaitEnd::Draining) => WaitOutcome::Draining,
            Some(WaitEnd::Stopping) => WaitOutcome::Stopping,
            None => WaitOutcome::TimedOut,
        };
        end
    }

    /// Leaves the queue. If the request is no longer in it, returns why: ends are sent under the lock under which requests
    /// leave the queue, so this one has arrived.
    fn leave(&mut self) -> Option<WaitEnd> {
        if self.state.withdraw(&self.place) { None } else { self.end.try_recv().ok() }
    }
}

impl Drop for WaitingRequest {
    fn drop(&mut self) {
        if self.outcome == WaitOutcome::ClientGone
            && let Some(WaitEnd::Slot(slot)) = self.leave()
        {
            self.state.release(slot.session, self.job);
        }
        let Demand { model, endpoint } = self.demand.clone();
        self.state.events.emit(&WaitEnded { model, endpoint, outcome: self.outcome, waited: self.since.elapsed() });
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::config::{CoordinatorConfig, MapEnvironment};
    use crate::coordinator::agents::handshake::AgentKey;
    use crate::coordinator::agents::link::{SessionLink, idle};
    use crate::coordinator::agents::peer::Peer;
    use crate::coordinator::fleet::demand::FrameLength;
    use crate::coordinator::fleet::retry::Tries;
    use crate::coordinator::fleet::roster::{AgentInfo, SessionId};
    use crate::coordinator::fleet::slots::Claim;
    use crate::coordinator::state::{Claimed, NoSlot};
    use crate::messages::endpoint::Endpoint;
    use crate::messages::wire::{Capabilities, Extensions, Limits, Metadata, ModelOffer};

    /// A coordinator with one agent that offers `m` without slots.
    fn coordinator() -> (Arc<CoordinatorState>, SessionId) {
        let state =
            CoordinatorState::new(CoordinatorConfig::from_env(&MapEnvironment::default()).unwrap().0, Vec::new());
        let key = AgentKey([1; 32]);
        let (provider, since) = (key.provider_id().unwrap(), SystemTime::UNIX_EPOCH);
        let agent = AgentInfo { key, provider, version: String::new(), extensions: Extensions::NONE, since, link: () };
        let link = |jobs| SessionLink::new(idle::connection(), Arc::default(), jobs);
        let session = state.open_session(agent, None, link).id;
        state.offer(session, offer(0));
        (state, session)
    }

    fn offer(slots: u32) -> Capabilities {
        let model = ModelOffer {
            model_id: "m".into(),
            input_per_1m: 1,
            output_per_1m: 1,
            max_concurrent: slots,
            backend: "ollama".into(),
            context_window: None,
            endpoints: None,
        };
        let limits = Limits { max_concurrent_total: slots, max_tokens_per_minute: None, max_message_bytes: None };
        Capabilities { models: vec![model], limits, metadata: Metadata { agent_version: String::new() } }
    }

    fn demand() -> Demand {
        Demand { model: "m".into(), endpoint: Endpoint::ChatCompletions }
    }

    fn claim(state: &CoordinatorState, job: JobId) -> Result<Claimed, NoSlot> {
        let (client, demand, tries, ticket) = (Peer(None).network(), demand(), Tries::default(), state.arrival());
        let length = FrameLength::of(1);
        state.claim(Claim { client, demand: &demand, length, job, tries: &tries, ticket }, true)
    }

    fn waiting(state: &Arc<CoordinatorState>) -> WaitingRequest {
        let job = JobId::random();
        let Ok(Claimed::Waits { place, end }) = claim(state, job) else { panic!("it does not wait") };
        WaitingRequest::new(state.clone(), place, demand(), job, end)
    }

    fn counts(state: &CoordinatorState) -> (usize, usize) {
        (state.gauges().in_flight, state.gauges().waiting)
    }

    #[actix_rt::test]
    async fn a_request_that_is_dropped_leaves_the_queue() {
        let (state, session) = coordinator();
        drop(waiting(&state));
        assert_eq!(counts(&state), (0, 0));
        state.offer(session, offer(1));
        assert_eq!(counts(&state), (0, 0));
    }

    #[actix_rt::test]
    async fn a_slot_for_a_client_that_leaves_at_that_moment_goes_to_the_next_request() {
        let (state, session) = coordinator();
        let (first, second) = (waiting(&state), waiting(&state));
        state.offer(session, offer(1));
        assert_eq!(counts(&state), (1, 1));
        drop(first);
        assert_eq!(counts(&state), (1, 0));
        assert!(matches!(second.end(Instant::now()).await, Some(WaitEnd::Slot(_))));
        assert_eq!(counts(&state), (1, 0), "the claim frees its slot");
    }

    #[actix_rt::test]
    async fn a_slot_for_a_request_whose_time_is_up_at_that_moment_is_taken() {
        let (state, session) = coordinator();
        let mut late = waiting(&state);
        state.offer(session, offer(1));
        assert!(matches!(late.leave(), Some(WaitEnd::Slot(_))));
        let mut in_vain = waiting(&state);
        assert!(in_vain.leave().is_none());
        assert_eq!(counts(&state), (1, 0));
    }

    #[actix_rt::test]
    async fn a_stop_ends_the_wait_and_no_other_begins() {
        let (state, _) = coordinator();
        let waits = waiting(&state);
        state.begin_stop();
        assert!(matches!(waits.end(Instant::now()).await, Some(WaitEnd::Stopping)));
        assert!(matches!(claim(&state, JobId::random()), Err(NoSlot::Stopping)));
    }
}
