//! Sends capabilities to the coordinator, announces a drain, and schedules the router's next wake-up.

use std::time::Instant;

use super::effect::Effect;
use super::job::Work;
use super::{Drain, Router};
use crate::core::scheduling::debounce::{Debounce, Due};
use crate::messages::ids::{BackendId, Generation};
use crate::messages::wire::{Capabilities, Extension, Metadata};

impl<W: Work> Router<W> {
    /// Sends the offered models to each coordinator if they have changed: at once on a new connection, later spaced.
    pub(super) fn announce(&mut self, now: Instant) {
        if !self.settled && now < self.settings.settle_at {
            return;
        }
        for generation in self.current_generations() {
            self.announce_on(now, generation);
        }
    }

    fn announce_on(&mut self, now: Instant, generation: Generation) {
        let Some(connection) = self.connections.get_mut(&generation) else { return };
        self.settled = true;
        connection.announce_at = None;
        let usable = |backend: &BackendId| self.backends.usable(backend, now);
        let capabilities = Capabilities {
            models: if self.paused {
                Vec::new()
            } else {
                self.catalog.models().filter_map(|model| model.offer_now(usable)).collect()
            },
            limits: self.settings.limits,
            metadata: Metadata { agent_version: env!("CARGO_PKG_VERSION").to_owned() },
        };
        let capabilities = capabilities.as_agreed(connection.agreed);
        if connection.announced.as_ref() == Some(&capabilities) {
            return;
        }
        if connection.announced.is_none() {
            connection.debounce = Debounce::default();
        } else if let Due::At(at) = connection.debounce.on_change(now) {
            connection.announce_at = Some(at);
            return;
        }
        connection.announced = Some(capabilities.clone());
        self.effects.push_back(Effect::Announce { generation, capabilities });
    }

    /// Announces a drain on those of these connections on which the extension `drain` was agreed. The capabilities are sent first,
    /// also if they waited for probes: they are the first frame of a connection.
    pub(super) fn announce_drain(&mut self, now: Instant, to: &[Generation]) {
        let agreed = |generation: &&Generation| {
            self.connections.get(generation).is_some_and(|connection| connection.agreed.contains(Extension::Drain))
        };
        let due: Vec<Generation> = to.iter().filter(agreed).copied().collect();
        if self.drain == Drain::No || due.is_empty() {
            return;
        }
        self.settled = true;
        self.announce(now);
        for generation in due {
            let in_flight = self.running_for(generation.coordinator);
            self.effects.push_back(Effect::AnnounceDrain { generation, in_flight });
        }
    }

    /// Requests a wake-up for the next time at which something is due without another input.
    pub(super) fn schedule(&mut self, now: Instant) {
        let Some(at) = self.due_at(now) else { return };
        if self.wake_at.is_none_or(|set| at < set) {
            self.wake_at = Some(at);
            self.effects.push_back(Effect::WakeAt(at));
        }
    }

    /// The next time at which something is due: a job's timer, the end of a session's window, delayed capabilities, the first
    /// capabilities, a load poll, the end of a cool-down.
    pub(super) fn due_at(&self, now: Instant) -> Option<Instant> {
        let settle_at = self.current().next().filter(|_| !self.settled).map(|_| self.settings.settle_at);
        let announce_at = self.current().filter_map(|(_, connection)| connection.announce_at).min();
        let timer = self.timers.first().map(|(at, _)| *at);
        let backends = [self.backends.next_poll(now), self.backends.next_trial(now)];
        [timer, announce_at, settle_at, self.next_session_end()].into_iter().chain(backends).flatten().min()
    }
}
