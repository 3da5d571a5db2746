//! The events of an agent. Each is one log line and one change of the snapshot.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use log::Level;

use super::Outside;
use crate::core::scheduling::router::Refusal;
use crate::core::session::close::is_expected;
use crate::messages::backend::BackendKind;
use crate::messages::ids::{BackendId, Generation, JobId, ModelId, ProviderId};
use crate::messages::jobs::{Failure, Outcome};
use crate::messages::lifecycle::{Child, CloseKind};
use crate::messages::wire::{ErrorCode, Extensions};

/// Something happened. None of them holds a prompt, a completion, a key or a code.
#[derive(Clone, Debug)]
pub enum Event {
    /// A connection is being dialled.
    Dialling {
        /// Its number.
        generation: Generation,
        /// Host and port.
        target: String,
    },
    /// `auth_ok` came.
    Connected {
        /// Its number.
        generation: Generation,
        /// The agent's name, if it has one.
        provider_id: Option<ProviderId>,
        /// What both sides speak beyond the base protocol.
        extensions: Extensions,
    },
    /// The coordinator gave another name than the one stored.
    ProviderIdReplaced {
        /// The old one.
        old: ProviderId,
        /// The new one.
        new: ProviderId,
    },
    /// The name that the coordinator gave can't be written: it holds for this process only.
    ProviderIdNotStored {
        /// Why.
        cause: String,
    },
    /// An established connection ended.
    Disconnected {
        /// Its number.
        generation: Generation,
        /// By what the peer did.
        kind: CloseKind,
        /// The cause, in words.
        cause: String,
    },
    /// No connection came about.
    ConnectFailed {
        /// Its number.
        generation: Generation,
        /// The cause, in words.
        cause: String,
        /// Failures in a row.
        failures: u32,
    },
    /// The tenth failure in a row: said once.
    StillTrying {
        /// Failures in a row.
        failures: u32,
    },
    /// The next try is set.
    Retrying {
        /// From now.
        wait: Duration,
    },
    /// The coordinator was told what is on offer.
    CapabilitiesSent {
        /// The connection.
        generation: Generation,
        /// Models on offer.
        models: usize,
    },
    /// A backend is healthy, or what it offers changed.
    BackendUp {
        /// Its name.
        backend: BackendId,
        /// Its kind.
        kind: BackendKind,
        /// Its models.
        models: Vec<ModelId>,
    },
    /// A backend lists models that it forwards to a service. They are not offered.
    CloudModelsNotOffered {
        /// Its name.
        backend: BackendId,
        /// How many.
        models: usize,
    },
    /// A backend is not healthy any more, or was not at the first look.
    BackendDown {
        /// Its name, or the place looked at.
        backend: String,
        /// Why.
        cause: String,
    },
    /// Every place was looked at, and no model can be offered.
    NothingOnOffer {
        /// Places looked at.
        looked_at: usize,
    },
    /// A job was accepted: it will have one end.
    JobAccepted {
        /// The job.
        job: JobId,
        /// Its model.
        model: ModelId,
    },
    /// A job has a slot.
    JobStarted {
        /// The job.
        job: JobId,
        /// The backend that works it.
        backend: BackendId,
    },
    /// A job was not accepted, and answered with an error.
    JobRefused {
        /// The job.
        job: JobId,
        /// Why.
        refusal: Refusal,
    },
    /// A backend failed a job before anything of an answer went up, and another one gets it.
    JobMoved {
        /// The job.
        job: JobId,
        /// The backend that failed it.
        from: BackendId,
        /// The next one.
        to: BackendId,
    },
    /// A backend failed so many jobs that it gets no more for a while.
    BreakerOpened {
        /// The backend.
        backend: BackendId,
    },
    /// An accepted job ended.
    JobEnded {
        /// The job.
        job: JobId,
        /// Where it had its slot, if it had one.
        backend: Option<BackendId>,
        /// How.
        outcome: Outcome,
        /// From receipt.
        duration: Duration,
    },
    /// A frame that can't be used was passed over.
    FrameSkipped {
        /// Why.
        cause: String,
    },
    /// More frames of the last minute were skipped; none of them had an event of its own.
    MoreFramesSkipped {
        /// How many.
        count: u64,
    },
    /// A message of an earlier connection, or of a job that is gone, was dropped.
    StaleDropped {
        /// What it was.
        what: &'static str,
    },
    /// A child ended and is replaced.
    ChildReplaced {
        /// Which.
        child: Child,
    },
    /// A worker panicked; its job was ended with an error.
    WorkerLost {
        /// Whose worker.
        backend: BackendId,
    },
    /// Too many children ended too fast.
    GivingUp,
    /// Told to stop.
    Draining {
        /// Jobs that still run.
        in_flight: usize,
        /// How long they may.
        grace: Duration,
    },
    /// Still waiting for jobs.
    DrainProgress {
        /// Jobs that still run.
        in_flight: usize,
        /// What is left of the grace.
        left: Duration,
    },
    /// Jobs are ended that did not finish in time.
    DrainCutShort {
        /// How many.
        in_flight: usize,
    },
    /// Everything ended in order.
    Stopped,
}

impl Event {
    /// How loud: WARN recovered by itself, ERROR needs a person.
    pub fn level(&self) -> Level {
        match self {
            Self::Disconnected { kind, .. } if !is_expected(*kind) => Level::Warn,
            Self::ProviderIdReplaced { .. }
            | Self::BackendDown { .. }
            | Self::NothingOnOffer { .. }
            | Self::FrameSkipped { .. }
            | Self::MoreFramesSkipped { .. }
            | Self::ChildReplaced { .. }
            | Self::BreakerOpened { .. }
            | Self::WorkerLost { .. }
            | Self::DrainCutShort { .. } => Level::Warn,
            Self::ConnectFailed { .. }
            | Self::StillTrying { .. }
            | Self::ProviderIdNotStored { .. }
            | Self::GivingUp => Level::Error,
            Self::JobAccepted { .. } | Self::JobStarted { .. } | Self::StaleDropped { .. } => Level::Debug,
            Self::JobEnded { outcome: Outcome::Done { .. } | Outcome::Cancelled, .. } => Level::Debug,
            Self::JobRefused { refusal, .. } if refusal.code() == ErrorCode::OutOfCapacity => Level::Debug,
            _ => Level::Info,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = Duration::as_millis;
        match self {
            Self::Dialling { generation, target } => write!(f, "dialling target={target} generation={generation}"),
            Self::Connected { generation, provider_id, extensions } => {
                write!(f, "connected generation={generation}")?;
                if let Some(id) = provider_id {
                    write!(f, " provider_id={id}")?;
                }
                if extensions.is_empty() { Ok(()) } else { write!(f, " extensions={extensions}") }
            }
            Self::ProviderIdReplaced { old, new } => write!(f, "provider id replaced old={old} new={new}"),
            Self::ProviderIdNotStored { cause } => write!(f, "provider id not stored cause=\"{}\"", Outside(cause)),
            Self::Disconnected { generation, kind, cause } => {
                write!(f, "disconnected generation={generation} kind={kind:?} cause=\"{}\"", Outside(cause))
            }
            Self::ConnectFailed { generation, cause, failures } => {
                let cause = Outside(cause);
                write!(f, "connection failed generation={generation} failures={failures} cause=\"{cause}\"")
            }
            Self::StillTrying { failures } => {
                write!(
                    f,
                    "no connection yet, still trying failures={failures} (check the coordinator's URL and network)"
                )
            }
            Self::Retrying { wait } => write!(f, "next try wait_ms={}", ms(wait)),
            Self::CapabilitiesSent { generation, models } => {
                write!(f, "capabilities sent generation={generation} models={models}")
            }
            Self::BackendUp { backend, kind, models } => {
                write!(f, "backend up backend={backend} kind={kind} models=[")?;
                for (index, model) in models.iter().take(8).enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{}", Outside(model.as_str()))?;
                }
                write!(f, "{}]", if models.len() > 8 { ", …" } else { "" })
            }
            Self::CloudModelsNotOffered { backend, models } => {
                write!(f, "cloud models not offered backend={backend} models={models}")
            }
            Self::BackendDown { backend, cause } => {
                write!(f, "backend down backend={backend} cause=\"{}\"", Outside(cause))
            }
            Self::NothingOnOffer { looked_at } => {
                write!(
                    f,
                    "no model to offer looked_at={looked_at} (start an inference server, or set OUTPOST_BACKENDS)"
                )
            }
            Self::JobAccepted { job, model } => {
                write!(f, "job accepted job={job} model=\"{}\"", Outside(model.as_str()))
            }
            Self::JobStarted { job, backend } => write!(f, "job started job={job} backend={backend}"),
            Self::JobRefused { job, refusal } => {
                write!(f, "job refused job={job} code={} cause=\"{refusal}\"", refusal.code())
            }
            Self::JobMoved { job, from, to } => write!(f, "job moved job={job} from={from} to={to}"),
            Self::BreakerOpened { backend } => {
                write!(f, "backend gets no jobs for a while backend={backend} cause=\"it failed too many in a row\"")
            }
            Self::JobEnded { job, backend, outcome, duration } => {
                write!(f, "job ended job={job} ")?;
                if let Some(backend) = backend {
                    write!(f, "backend={backend} ")?;
                }
                write!(f, "duration_ms={} ", ms(duration))?;
                match outcome {
                    Outcome::Done { tokens } => {
                        write!(f, "outcome=done input={} output={}", tokens.input, tokens.output)
                    }
                    Outcome::Failed(Failure { code, blame, .. }) => {
                        write!(f, "outcome=failed code={code} blame={}", blame.as_str())
                    }
                    Outcome::Cancelled => f.write_str("outcome=cancelled"),
                }
            }
            Self::FrameSkipped { cause } => write!(f, "frame skipped cause=\"{}\"", Outside(cause)),
            Self::MoreFramesSkipped { count } => write!(f, "more frames skipped count={count}"),
            Self::StaleDropped { what } => write!(f, "stale message dropped what=\"{what}\""),
            Self::ChildReplaced { child } => write!(f, "actor replaced child={child:?}"),
            Self::WorkerLost { backend } => write!(f, "worker lost backend={backend}"),
            Self::GivingUp => f.write_str("actors end faster than they can be replaced, giving up"),
            Self::Draining { in_flight, grace } => {
                write!(f, "stopping, no new jobs in_flight={in_flight} grace_s={}", grace.as_secs())
            }
            Self::DrainProgress { in_flight, left } => {
                write!(f, "waiting for running jobs in_flight={in_flight} left_s={}", left.as_secs())
            }
            Self::DrainCutShort { in_flight } => write!(f, "running jobs ended early in_flight={in_flight}"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// Where events go. Cheap to clone, for any thread.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// Events that are logged and then given to `sink`.
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Logs an event and passes it on.
    pub fn emit(&self, event: Event) {
        log::log!(target: event.target(), event.level(), "{event}");
        (self.0)(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::session::close::LinkEnd;
    use crate::core::session::handshake::HandshakeFailure;

    #[test]
    fn what_a_coordinator_says_at_the_end_is_escaped_once() {
        let reason = || "is \"x\"\nlevel=error \\ \u{1b}[2J\u{202e}".to_owned();
        let escaped = r#"is \"x\"\u{a}level=error \\ \u{1b}[2J\u{202e}"#;
        let generation = Generation::default();
        let end = LinkEnd::CloseFrame { code: Some(4001), reason: reason() };
        let event = Event::Disconnected { generation, kind: CloseKind::Unexpected, cause: end.to_string() };
        assert!(event.to_string().contains(&format!(", code 4001: {escaped}\"")), "{event}");
        let failure = HandshakeFailure::Rejected { reason: reason() };
        let event = Event::ConnectFailed { generation, cause: failure.to_string(), failures: 1 };
        assert!(event.to_string().contains(&format!("refuses this agent: {escaped}\"")), "{event}");
    }

    #[test]
    fn a_close_without_a_reason_shows_none() {
        let end = |code| LinkEnd::CloseFrame { code, reason: String::new() }.to_string();
        assert_eq!(end(Some(1000)), "the coordinator closed the connection, code 1000");
        assert_eq!(end(None), "the coordinator closed the connection, without a code");
    }
}
