//! The connections that the supervisor knows of.

use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use crate::actors::connection::{ConnectionActor, ConnectionSetup};
use crate::actors::heartbeat::HeartbeatActor;
use crate::core::session::backoff::Reconnect;
use crate::messages::ids::{CoordinatorId, Generation};
use crate::messages::lifecycle::Stop;
use crate::relay::outbox::Outbox;

/// The time between the dials of two handovers, for a coordinator that announces one on each new connection.
const BETWEEN_HANDOVERS: Duration = Duration::from_secs(1);
/// The first handovers in a row are followed at once, so many of them.
const HANDOVERS_AT_ONCE: u32 = 4;

/// What is known of a connection.
pub(super) struct Connection {
    pub(super) addr: Addr<ConnectionActor>,
    pub(super) generation: Generation,
    /// Set once jobs can come.
    pub(super) up: Option<(Outbox, Addr<HeartbeatActor>)>,
    /// The coordinator has announced that it will close it.
    pub(super) is_handed_over: bool,
}

impl Connection {
    pub(super) fn outbox(&self) -> Option<&Outbox> {
        self.up.as_ref().map(|(outbox, _)| outbox)
    }

    pub(super) fn stop(&self) {
        self.addr.do_send(Stop);
        self.stop_heartbeat();
    }

    pub(super) fn stop_heartbeat(&self) {
        if let Some((_, heartbeat)) = &self.up {
            heartbeat.do_send(Stop);
        }
    }
}

/// The connections to one coordinator, and when the next one is dialled.
pub(super) struct Connections {
    pub(super) coordinator: CoordinatorId,
    pub(super) setup: ConnectionSetup,
    /// It is being dialled and authenticated.
    pub(super) next: Option<Connection>,
    /// It takes jobs.
    pub(super) current: Option<Connection>,
    /// It finishes its jobs: the current one took its place in a handover.
    pub(super) older: Option<Connection>,
    pub(super) reconnect: Reconnect,
    /// The next dial is due then.
    pub(super) redial: Option<SpawnHandle>,
    /// When the last handover would be followed if none of them were followed at once.
    handover_due: Option<Instant>,
    /// Jobs outlive the last connection that was up.
    pub(super) is_resumable: bool,
}

impl Connections {
    pub(super) fn new(coordinator: CoordinatorId, setup: ConnectionSetup) -> Self {
        let (next, current, older) = (None, None, None);
        let (reconnect, redial, is_resumable, handover_due) = (Reconnect::default(), None, false, None);
        Self { coordinator, setup, next, current, older, reconnect, redial, is_resumable, handover_due }
    }

    /// Those that there are. At most three, of which at most two are established.
    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slots().into_iter().flatten()
    }

    /// How long the dial of a handover that was announced now waits.
    pub(super) fn handover_wait(&mut self, now: Instant) -> Duration {
        let due = self.handover_due.map_or(now, |due| now.max(due + BETWEEN_HANDOVERS));
        self.handover_due = Some(due);
        (due - now).saturating_sub((HANDOVERS_AT_ONCE - 1) * BETWEEN_HANDOVERS)
    }

    pub(super) fn take(&mut self, generation: Generation) -> Option<Connection> {
        let is_it = |connection: &mut Connection| connection.generation == generation;
        self.slots().into_iter().find_map(|slot| slot.take_if(is_it))
    }

    fn slots(&mut self) -> [&mut Option<Connection>; 3] {
        [&mut self.next, &mut self.current, &mut self.older]
    }
}
