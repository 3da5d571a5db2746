//! A real agent under test. It refuses leaks: a test that forgets to stop it fails, and so does one that leaves actors
//! or requests open. Used by `Harness` and `World`.

use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::backend::ScriptedBackend;
use super::builder::AgentBuilder;
use super::journal::{Journal, LoggedEvent};
use super::within::within;
use crate::actors::{ActorCount, Coordinator, Exit, Parts, SupervisorActor};
use crate::identity::Identity;
use crate::messages::ids::CoordinatorId;
use crate::messages::lifecycle::Drain;
use crate::telemetry::{Event, Snapshot};
use crate::transport::websocket::link::Connector;

/// The time between two counts of living actors: no message reports their end to the test.
const COUNT_EVERY: Duration = Duration::from_millis(1);

/// A running agent.
pub struct RunningAgent {
    /// Its key and its provider id.
    pub identity: Identity,
    journal: Journal,
    backends: Vec<ScriptedBackend>,
    actor_count: ActorCount,
    supervisor: Addr<SupervisorActor>,
    ending: Ending,
}

impl AgentBuilder {
    /// Starts the agent on the current arbiter, with coordinators that are reached so. Its clock is the test's.
    pub fn launch(self, connectors: Vec<Rc<dyn Connector>>) -> RunningAgent {
        RunningAgent::launch(self, connectors)
    }
}

/// The state of the agent's end.
enum Ending {
    ToCome(oneshot::Receiver<Exit>),
    Seen(Exit),
    /// It was stopped, and nothing of it was left.
    Stopped,
}

impl RunningAgent {
    /// Starts an agent on the current arbiter. It dials as soon as the test waits for anything.
    pub(super) fn launch(parts: AgentBuilder, connectors: Vec<Rc<dyn Connector>>) -> Self {
        let AgentBuilder { identity, enrollment_code, sources, backends, policy, settings, panic_at, .. } = parts;
        let Ok(identity) = identity.map_or_else(Identity::ephemeral, Ok) else { panic!("no random numbers for a key") };
        let (journal, events) = Journal::new(panic_at);
        let actor_count = ActorCount::default();
        let coordinator = |(connector, place): (Rc<dyn Connector>, u16)| {
            let target = connector.target();
            let identity = target.parse().ok().and_then(|target| identity.at(CoordinatorId(place), &target).ok());
            let Some(identity) = identity else { panic!("no identity at {target}") };
            Coordinator { connector, identity, enrollment_code: enrollment_code.clone() }
        };
        let coordinators = connectors.into_iter().zip(0..).map(coordinator).collect();
        let (supervisor, exit) = SupervisorActor::launch(Parts {
            coordinators,
            sources,
            policy,
            arbiters: Vec::new(),
            events,
            actor_count: actor_count.clone(),
            settings,
        });
        Self { identity, journal, backends, actor_count, supervisor, ending: Ending::ToCome(exit) }
    }

    /// The agent's state now.
    pub fn snapshot(&self) -> Snapshot {
        self.journal.snapshots.borrow().clone()
    }

    /// Waits until the agent's state is such, and returns it.
    pub async fn until(&mut self, mut wanted: impl FnMut(&Snapshot) -> bool) -> Snapshot {
        let state = within("a state of the agent", self.journal.snapshots.wait_for(|state| wanted(state))).await;
        match state {
            Ok(state) => state.clone(),
            Err(_) => panic!("the agent ended before it had the state that was awaited"),
        }
    }

    /// Waits for the next event for which `wanted` has a value. Each event is read once: waits go forward only.
    pub async fn event<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        within("an event of the agent", async {
            loop {
                if let Some(value) = self.journal.next(&mut wanted) {
                    return value;
                }
                assert!(self.journal.snapshots.changed().await.is_ok(), "the agent ended before the event came");
            }
        })
        .await
    }

    /// All events so far.
    pub fn events(&self) -> Vec<LoggedEvent> {
        self.journal.all()
    }

    /// How many actors live.
    pub fn living(&self) -> usize {
        self.actor_count.living()
    }

    /// Waits until exactly so many actors live.
    pub async fn until_living(&self, count: usize) {
        let counted = async {
            while self.actor_count.living() != count {
                sleep(COUNT_EVERY).await;
            }
        };
        within(format_args!("{count} living actors"), counted).await;
    }

    /// Tells the agent to stop, as SIGTERM does.
    pub fn drain(&self) {
        self.supervisor.do_send(Drain);
    }

    /// Waits until the agent has ended by itself.
    pub async fn exit(&mut self) -> Exit {
        let exit = match &mut self.ending {
            Ending::Seen(exit) => *exit,
            Ending::Stopped => panic!("the agent was stopped"),
            Ending::ToCome(exit) => match within("the agent's exit", exit).await {
                Ok(exit) => exit,
                Err(_) => panic!("the supervisor panicked"),
            },
        };
        self.ending = Ending::Seen(exit);
        exit
    }

    /// Ends the agent, at once if it has not ended yet. Fails if something of it is left.
    pub async fn stop(mut self) {
        self.end().await;
    }

    /// Ends the agent, at once if it has not ended yet, and checks that nothing of it is left.
    pub(super) async fn end(&mut self) {
        if matches!(self.ending, Ending::ToCome(_)) {
            self.drain();
            // The second one ends what still runs.
            self.drain();
            assert_eq!(self.exit().await, Exit::Drained);
        }
        self.until_living(0).await;
        for backend in &self.backends {
            assert_eq!(backend.open(), 0, "requests are left open at a backend");
        }
        self.ending = Ending::Stopped;
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        if !std::thread::panicking() && !matches!(self.ending, Ending::Stopped) {
            panic!("the test did not stop its agent: end it with `stop().await` of its harness or world");
        }
    }
}
