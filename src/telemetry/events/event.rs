//! The one type that holds any event.

use std::time::SystemTime;

use log::Level;

use super::agent::{ChildReplaced, DrainCutShort, DrainProgress, Draining, GivingUp, Stopped, WorkerLost};
use super::backends::{BackendDown, BackendUp, BreakerOpened, CloudModelsNotOffered, NothingOnOffer};
use super::connection::{
    CapabilitiesSent, ConnectFailed, Connected, Dialling, Disconnected, FrameSkipped, ProviderIdNotStored,
    ProviderIdReplaced, Retrying, StaleDropped, StillTrying,
};
use super::describe::Describe;
use super::event_log::Repeated;
use super::jobs::{JobAccepted, JobEnded, JobMoved, JobRefused, JobStarted};
use crate::telemetry::Snapshot;
use crate::telemetry::field::Fields;

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
            pub(super) fn describe(&self) -> &dyn Describe {
                match self {
                    $(Self::$event(event) => event,)*
                }
            }
        }
    };
}

events!(
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
    JobAccepted,
    JobEnded,
    JobMoved,
    JobRefused,
    JobStarted,
    NothingOnOffer,
    ProviderIdNotStored,
    ProviderIdReplaced,
    Repeated,
    Retrying,
    StaleDropped,
    StillTrying,
    Stopped,
    WorkerLost,
);

impl Event {
    /// What a log filter selects it by.
    pub fn target(&self) -> &'static str {
        self.describe().target()
    }

    /// WARN: the agent recovers by itself. ERROR: a person is needed.
    pub fn level(&self) -> Level {
        self.describe().level()
    }

    /// The message of its log line.
    pub fn message(&self) -> &'static str {
        self.describe().message()
    }

    /// Whether only the first ones of a minute are logged.
    pub fn is_limited(&self) -> bool {
        self.describe().is_limited()
    }

    /// The fields of its log line.
    pub fn fields(&self) -> Fields {
        self.describe().fields()
    }

    /// Applies it to the snapshot.
    pub fn apply(&self, snapshot: &mut Snapshot, at: SystemTime) {
        self.describe().apply(snapshot, at);
        snapshot.in_flight = snapshot.jobs.running();
    }
}
