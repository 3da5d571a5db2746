//! What the router decides from, for the model check.

use super::job::{JobState, Phase, Suspect, Work};
use super::sessions::{Connection, Session};
use super::{Router, RouterSettings};
use crate::core::fingerprint::Fingerprint;
use crate::core::scheduling::ledger::Entry;
use crate::core::session::sessions::Grant;
use crate::messages::ids::{JobId, SessionId};
use crate::messages::jobs::Ticket;

impl<W: Work> Router<W> {
    /// Adds what is decided from, but for the driver's parts of jobs. It is for a model in which routes and settings do not
    /// change, there is no token budget, and no prompt has a prefix to remember.
    pub(crate) fn add_to(&self, to: &mut Fingerprint<'_>) {
        let Self {
            settings: RouterSettings { limits: _, settle_at: _ },
            ledger,
            catalog: _,
            ready: _,
            settled,
            connections,
            sessions,
            backends,
            affinity,
            budget,
            wait_queue,
            retry_queue,
            // Derived from the jobs, see ROUTER-2.
            timers: _,
            // Reported in heartbeats.
            load: _,
            drain,
            paused,
            still_running,
            wake_at,
            effects,
        } = self;
        assert!(affinity.len() == 0 && budget.is_none() && effects.is_empty(), "a model without these");
        to.add((
            settled,
            drain,
            paused,
            still_running,
            wake_at.map(|at| to.time(at)),
            connections.len(),
            sessions.len(),
        ));
        let place_of = |session: SessionId| sessions.keys().position(|id| *id == session);
        for (generation, connection) in connections {
            let Connection { session, agreed, announced, debounce, announce_at, role } = connection;
            let announced =
                announced.as_ref().map(|it| it.models.iter().map(|model| model.max_concurrent).collect::<Vec<_>>());
            to.add((to.connection(*generation), place_of(*session), agreed.iter().count(), announced, role));
            to.add(announce_at.map(|at| to.time(at)));
            debounce.add_to(to);
        }
        for (place, session) in sessions.values().enumerate() {
            add_session(place, session, to);
        }
        backends.add_to(to);
        for (place, entry) in ledger.decisive().enumerate() {
            let Entry { job, session, backend, ticket: _, state } = entry;
            to.add_of(*job, ("is in the ledger", place, place_of(*session), backend));
            add_state(*job, state, to);
        }
        // Tickets of jobs that have ended may be left in a queue, where they are skipped.
        for (queue, name) in [(wait_queue, "waits"), (retry_queue, "is retried")] {
            let live = queue.iter().filter_map(|ticket| self.ledger.get(*ticket)).enumerate();
            live.for_each(|(place, entry)| to.add_of(entry.job, (name, place)));
        }
    }

    /// The driver's parts of all jobs, running and kept.
    pub(crate) fn works(&self) -> impl Iterator<Item = (Ticket, &W)> {
        let kept = self.sessions.values().flat_map(|session| &session.kept).map(|(ticket, (_, work))| (*ticket, work));
        self.ledger.iter().map(|entry| (entry.ticket, &entry.state.work)).chain(kept)
    }

    /// Jobs that have not ended, and jobs that are kept.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.ledger.in_flight(), self.kept())
    }

    /// How many sessions there are.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.len()
    }
}

fn add_session<W>(place: usize, session: &Session<W>, to: &mut Fingerprint<'_>) {
    // The ids are derived from the kept jobs.
    let Session { grant, presence, listed, kept, kept_by_id: _, ended } = session;
    to.add(grant.as_ref().map(|Grant { name, window }| (to.is_session(name), window)));
    presence.add_to(to);
    listed.iter().for_each(|job| to.add_of(*job, ("is listed", place)));
    // Their order decides in which order effects on single jobs are carried out, which do not depend on each other.
    kept.values().for_each(|(job, _)| to.add_of(*job, ("is kept", place)));
    ended.add_to(place, to);
}

fn add_state<W>(job: JobId, state: &JobState<W>, to: &mut Fingerprint<'_>) {
    let JobState {
        work: _,
        model: _,
        endpoint: _,
        price: _,
        // Reported at the end.
        received: _,
        deadline,
        timer,
        phase,
        estimate: _,
        prefixes: _,
        token,
        tried,
        suspects,
        reservation,
    } = state;
    assert!(reservation.is_none(), "a model without a budget");
    let phase = match phase {
        Phase::Waiting => (0, None),
        Phase::Running => (1, None),
        Phase::Retrying(failure) => (2, Some(failure.evidence)),
        Phase::Ending => (3, None),
    };
    to.add_of(job, (to.time(*deadline), to.time(*timer), phase, token, tried));
    for Suspect { backend, token, evidence } in suspects {
        to.add_of(job, (backend, token, evidence));
    }
}
