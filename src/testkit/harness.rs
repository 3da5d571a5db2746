//! A whole agent with a scripted world around it. It refuses leaks: a test that forgets to stop its agent fails, and so
//! does one whose agent leaves actors or requests behind.

use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::backend::ScriptedBackend;
use super::coordinator::ScriptedCoordinator;
use super::journal::{Entry, Journal};
use super::link::CoordinatorLink;
use super::patience::within;
use crate::actors::{ActorCount, Exit, SupervisorActor};
use crate::identity::Identity;
use crate::messages::lifecycle::Drain;
use crate::telemetry::{Event, Snapshot};

/// Between two counts of the living: actors say that they end, but not to whom the test could listen.
const COUNT_EVERY: Duration = Duration::from_millis(1);

/// Which clock the agent lives by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Stopped, and moved on whenever nothing else is left to do: a minute of waiting takes no time. Everything that the
    /// agent talks to must then live on the test's own thread.
    Paused,
    /// As it is.
    Unchanged,
}

/// A running agent.
pub struct Harness {
    /// The other end of the wire.
    pub coordinator: ScriptedCoordinator,
    /// Who the agent is.
    pub identity: Identity,
    journal: Journal,
    backends: Vec<ScriptedBackend>,
    actor_count: ActorCount,
    supervisor: Addr<SupervisorActor>,
    ending: Ending,
    clock: Clock,
}

/// What an agent under test has around it.
pub(super) struct World {
    pub(super) coordinator: ScriptedCoordinator,
    pub(super) identity: Identity,
    pub(super) journal: Journal,
    pub(super) backends: Vec<ScriptedBackend>,
    pub(super) actor_count: ActorCount,
    pub(super) clock: Clock,
}

/// What is known of the agent's end.
enum Ending {
    ToCome(oneshot::Receiver<Exit>),
    Seen(Exit),
    /// The harness has been stopped and everything was in order.
    InOrder,
}

impl Harness {
    /// A harness around an agent that was launched just now.
    pub(super) fn new(world: World, (supervisor, exit): (Addr<SupervisorActor>, oneshot::Receiver<Exit>)) -> Self {
        let World { coordinator, identity, journal, backends, actor_count, clock } = world;
        let ending = Ending::ToCome(exit);
        Self { coordinator, identity, journal, backends, actor_count, supervisor, ending, clock }
    }

    /// The agent's next connection, with its handshake done and its first capabilities read.
    pub async fn connect(&mut self) -> CoordinatorLink {
        let mut link = self.coordinator.welcome().await;
        link.capabilities().await;
        link
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

    /// Waits for the next event for which `wanted` has a value. Each event is looked at once: waits go forward only.
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
    pub fn events(&self) -> Vec<Entry> {
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
            Ending::InOrder => panic!("the harness was stopped"),
            Ending::ToCome(exit) => match within("the agent's exit", exit).await {
                Ok(exit) => exit,
                Err(_) => panic!("the supervisor panicked"),
            },
        };
        self.ending = Ending::Seen(exit);
        exit
    }

    /// Ends the agent, at once if it has not ended yet, and checks that nothing of it is left.
    pub async fn stop(mut self) {
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
        self.coordinator.faults.assert_none();
        self.ending = Ending::InOrder;
        if self.clock == Clock::Paused {
            tokio::time::resume();
        }
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        if !std::thread::panicking() && !matches!(self.ending, Ending::InOrder) {
            panic!("the test did not stop its agent: end it with `harness.stop().await`");
        }
    }
}
