//! The connections that the supervisor knows of.

use actix::prelude::*;
use tokio::time::Instant;

use crate::actors::connection::ConnectionActor;
use crate::actors::heartbeat::HeartbeatActor;
use crate::core::session::backoff::Reconnect;
use crate::messages::ids::Generation;
use crate::messages::lifecycle::Stop;
use crate::relay::outbox::Outbox;

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

/// The connections, and when the next one is dialled.
#[derive(Default)]
pub(super) struct Connections {
    /// It is being dialled and authenticated.
    pub(super) next: Option<Connection>,
    /// It takes jobs.
    pub(super) current: Option<Connection>,
    /// It finishes its jobs: the current one took its place in a handover.
    pub(super) older: Option<Connection>,
    pub(super) reconnect: Reconnect,
    /// The next dial is due then.
    pub(super) redial: Option<SpawnHandle>,
    /// When the last handover dialled, or will dial.
    pub(super) handover_dial: Option<Instant>,
    /// Jobs outlive the last connection that was up.
    pub(super) is_resumable: bool,
}

impl Connections {
    /// Those that there are.
    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slots().into_iter().flatten()
    }

    pub(super) fn get(&mut self, generation: Generation) -> Option<&mut Connection> {
        self.all().find(|connection| connection.generation == generation)
    }

    pub(super) fn take(&mut self, generation: Generation) -> Option<Connection> {
        let is_it = |connection: &mut Connection| connection.generation == generation;
        self.slots().into_iter().find_map(|slot| slot.take_if(is_it))
    }

    fn slots(&mut self) -> [&mut Option<Connection>; 3] {
        [&mut self.next, &mut self.current, &mut self.older]
    }
}
