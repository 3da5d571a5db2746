//! What went wrong lately: each kind of problem once, with how often and when it occurred, who is to blame, and what to do.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::messages::cause::Cause;
use crate::messages::jobs::Blame;

/// Kinds of problems that are kept. Above it the one that has not occurred for longest is forgotten.
const MOST: usize = 32;

/// The problems since the start of the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Problems(BTreeMap<String, Problem>);

/// One kind of problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Problem {
    /// Who is to blame: `caller`, `backend`, `unclear`, `agent`, `operator`, or `coordinator` for it and the network to it.
    pub(crate) blame: String,
    /// How often it occurred.
    pub(crate) count: u64,
    /// When it occurred last, RFC 3339.
    pub(crate) last_at: String,
    /// The last cause, in words, where they say more than the kind.
    pub(crate) details: Option<String>,
    /// What the operator can do.
    pub(crate) advice: String,
}

/// An occurrence of a problem.
pub(crate) struct Occurrence {
    /// The kind, in words.
    pub(crate) kind: String,
    /// Who is to blame.
    pub(crate) blame: &'static str,
    /// The cause, in words.
    pub(crate) details: Option<String>,
    /// What the operator can do.
    pub(crate) advice: &'static str,
}

impl Occurrence {
    /// A job was not done.
    pub(crate) fn of_job(verb: &str, cause: Cause, blame: Blame) -> Self {
        let kind = format!("jobs {verb}: {}", cause.as_str().replace('_', " "));
        Self { kind, blame: blame.as_str(), details: None, advice: advice(cause) }
    }
}

impl Problems {
    /// Counts an occurrence.
    pub(super) fn note(&mut self, occurrence: Occurrence, at: SystemTime) {
        let Occurrence { kind, blame, details, advice } = occurrence;
        if self.0.len() >= MOST && !self.0.contains_key(&kind) {
            let oldest = self.0.iter().min_by(|(_, one), (_, other)| one.last_at.cmp(&other.last_at));
            if let Some(oldest) = oldest.map(|(kind, _)| kind.clone()) {
                self.0.remove(&oldest);
            }
        }
        let count = self.0.get(&kind).map_or(0, |problem| problem.count);
        let problem = Problem {
            blame: blame.to_owned(),
            count: count.saturating_add(1),
            last_at: humantime::format_rfc3339_millis(at).to_string(),
            details,
            advice: advice.to_owned(),
        };
        self.0.insert(kind, problem);
    }
}

/// What an operator can do about jobs that end or are refused like this.
fn advice(cause: Cause) -> &'static str {
    match cause {
        Cause::Malformed | Cause::InvalidRequest => "The request was wrong. There is nothing to do here.",
        Cause::NotOffered | Cause::OldConnection | Cause::Cancelled => {
            "It arrived while something changed. There is nothing to do, unless it happens often."
        }
        Cause::ModelNotServed | Cause::EndpointNotServed => {
            "The coordinator asked for what is not on offer. There is nothing to do, unless a server or model was removed by mistake."
        }
        Cause::BackendsNotReady => "The server was just found. There is nothing to do, unless it happens often.",
        Cause::BackendsFailed | Cause::BreakersOpen => {
            "The model's servers failed. See the other problems, and the servers' own logs."
        }
        Cause::BackendsFull | Cause::AgentFull => {
            "More jobs came than there are slots. If the server has room for more, raise OUTPOST_MAX_CONCURRENT or the server's own OUTPOST_BACKEND_<NAME>_MAX_CONCURRENT."
        }
        Cause::BudgetSpent => "OUTPOST_MAX_TOKENS_PER_MINUTE was reached. Raise it to take more jobs.",
        Cause::Stopping => "The agent was stopping.",
        Cause::Paused => "It arrived just after you paused the agent. There is nothing to do.",
        Cause::Deadline => {
            "The server was too slow for the job's deadline. Offer fewer slots, or a smaller model, or give the server more room."
        }
        Cause::ConnectionLost | Cause::NotKept => {
            "The connection to the coordinator broke for too long. See the connection's own problems."
        }
        Cause::WorkerLost | Cause::AgentError => {
            "This is a limit or a bug of outpost. Please report it with the log line of the job."
        }
        Cause::Unreachable => "The server accepts no connections. Start it, or correct OUTPOST_BACKENDS.",
        Cause::NotHttp => "Something else answers in the server's place. Correct OUTPOST_BACKENDS.",
        Cause::ConnectionBroke => {
            "The server ended the response early. It may have crashed or been restarted: see its own log."
        }
        Cause::KeyRejected => "The server refuses the API key. Set OUTPOST_BACKEND_<NAME>_API_KEY to a valid one.",
        Cause::ModelNotLoaded => "The server no longer has the model. Load it again, or do not offer it.",
        Cause::RateLimited => {
            "The service limits your key. Offer fewer slots by OUTPOST_BACKEND_<NAME>_MAX_CONCURRENT, or raise the limit there."
        }
        Cause::BackendError => "The server reported an error. See its own log.",
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn occurrence(kind: usize) -> Occurrence {
        Occurrence { kind: format!("kind {kind}"), blame: "backend", details: Some("d".into()), advice: "Do it." }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn occurrences_of_a_kind_are_counted_and_the_last_one_is_shown() {
        let mut problems = Problems::default();
        problems.note(occurrence(1), at(1));
        problems.note(Occurrence { details: None, ..occurrence(1) }, at(61));
        let problem = &problems.0["kind 1"];
        assert_eq!((problem.count, problem.last_at.as_str()), (2, "1970-01-01T00:01:01.000Z"));
        assert_eq!(problem.details, None);
    }

    #[test]
    fn the_kind_that_has_not_occurred_for_longest_is_forgotten() {
        let mut problems = Problems::default();
        for kind in 0..MOST {
            problems.note(occurrence(kind), at(100 + kind as u64));
        }
        problems.note(occurrence(0), at(200));
        problems.note(occurrence(99), at(201));
        assert_eq!(problems.0.len(), MOST);
        assert!(problems.0.contains_key("kind 0") && !problems.0.contains_key("kind 1"));
    }
}
