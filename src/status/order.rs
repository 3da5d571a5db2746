//! What the operator can order, and who carries it out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::messages::secret::Secret;

/// The longest pause for a time, in seconds: ten years.
const LONGEST: u64 = 10 * 365 * 24 * 3600;

/// An order of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Offer nothing and accept no job, for so many seconds or until [`Order::Resume`]. Running jobs go on.
    Pause {
        /// `None`: without an end.
        seconds: Option<u64>,
    },
    /// End the pause.
    Resume,
}

impl Order {
    /// The time of a pause.
    pub(crate) fn time(seconds: Option<u64>) -> Option<Duration> {
        seconds.map(|seconds| Duration::from_secs(seconds.min(LONGEST)))
    }
}

/// Carries orders out.
#[derive(Clone)]
pub(crate) struct Control {
    /// Who has it may give orders.
    pub(crate) token: Secret,
    /// Called on a thread of the status server.
    pub(crate) carry_out: Arc<dyn Fn(Order) -> io::Result<()> + Send + Sync>,
}
