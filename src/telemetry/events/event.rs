//! The one type that holds any event.

use std::time::SystemTime;

use super::agent::{
    AgentPaused, AgentUnpaused, ChildReplaced, DrainCutShort, DrainProgress, Draining, GivingUp, Stopped, WorkerLost,
};
use super::backends::{BackendDown, BackendUp, BreakerOpened, CloudModelsNotOffered, NothingOnOffer};
use super::connection::{
    CapabilitiesSent, ConnectFailed, Connected, Dialling, Disconnected, FrameSkipped, HandoverBegun,
    ProviderIdNotStored, ProviderIdReplaced, Retrying, SessionResumed, StaleDropped, StillTrying,
};
use super::describe::Describe;
use super::event_log::Repeated;
use super::jobs::{JobAccepted, JobEnded, JobMoved, JobRefused, JobStarted};
use super::ledger::{LedgerFailed, LedgerRowsLost, LedgerWorks};
use crate::telemetry::Snapshot;

macro_rules! events {
    ($($event:ident),* $(,)?) => {
        /// Any event.
        #[derive(Clone, Debug)]
        pub enum Event {
            $(
                #[doc = concat!("See [`", stringify!($event), "`].")]
                $event($event),
            )*
        }

        $(
            impl From<$event> for Event {
                fn from(event: $event) -> Self {
                    Self::$event(event)
                }
            }
        )*

        impl Event {
            /// What it provides.
            pub(in crate::telemetry) fn describe(&self) -> &dyn Describe {
                match self {
                    $(Self::$event(event) => event,)*
                }
            }
        }
    };
}

events!(
    AgentPaused,
    AgentUnpaused,
    BackendDown,
    BackendUp,
    BreakerOpened,
    CapabilitiesSent,
    ChildReplaced,
    CloudModelsNotOffered,
    ConnectFailed,
    Connected,
    Dialling,
    Disconnected,
    DrainCutShort,
    DrainProgress,
    Draining,
    FrameSkipped,
    GivingUp,
    HandoverBegun,
    JobAccepted,
    JobEnded,
    JobMoved,
    JobRefused,
    JobStarted,
    LedgerFailed,
    LedgerRowsLost,
    LedgerWorks,
    NothingOnOffer,
    ProviderIdNotStored,
    ProviderIdReplaced,
    Repeated,
    Retrying,
    SessionResumed,
    StaleDropped,
    StillTrying,
    Stopped,
    WorkerLost,
);

impl Event {
    /// WARN: the agent recovers by itself. ERROR: a person is needed.
    #[cfg(feature = "testkit")]
    pub fn level(&self) -> log::Level {
        self.describe().kind().level
    }

    /// Applies it to the snapshot.
    pub fn apply(&self, snapshot: &mut Snapshot, at: SystemTime) {
        self.describe().apply(snapshot, at);
        if let Some(occurrence) = self.describe().problem() {
            snapshot.problems.note(occurrence, at);
        }
        snapshot.in_flight = snapshot.jobs.running();
    }
}
