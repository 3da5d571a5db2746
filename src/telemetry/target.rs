//! The log target of each event: what a log filter selects it by.

use super::Event;

impl Event {
    /// What a log filter selects it by.
    pub fn target(&self) -> &'static str {
        match self {
            Self::Dialling { .. }
            | Self::Connected { .. }
            | Self::ProviderIdReplaced { .. }
            | Self::ProviderIdNotStored { .. }
            | Self::Disconnected { .. }
            | Self::ConnectFailed { .. }
            | Self::StillTrying { .. }
            | Self::Retrying { .. }
            | Self::CapabilitiesSent { .. }
            | Self::FrameSkipped { .. }
            | Self::MoreFramesSkipped { .. }
            | Self::StaleDropped { .. } => "outpost::connection",
            Self::BackendUp { .. }
            | Self::CloudModelsNotOffered { .. }
            | Self::BackendDown { .. }
            | Self::NothingOnOffer { .. }
            | Self::BreakerOpened { .. } => "outpost::backends",
            Self::JobAccepted { .. }
            | Self::JobStarted { .. }
            | Self::JobRefused { .. }
            | Self::JobMoved { .. }
            | Self::JobEnded { .. } => "outpost::jobs",
            Self::ChildReplaced { .. }
            | Self::WorkerLost { .. }
            | Self::GivingUp
            | Self::Draining { .. }
            | Self::DrainProgress { .. }
            | Self::DrainCutShort { .. }
            | Self::Stopped => "outpost::agent",
        }
    }
}
