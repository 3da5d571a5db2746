//! Events of the ledger of ended jobs.

use std::path::PathBuf;
use std::time::SystemTime;

use log::Level;

use super::describe::{Describe, EventKind};
use crate::messages::jobs::Blame;
use crate::messages::ledger::LedgerFault;
use crate::telemetry::Snapshot;
use crate::telemetry::field::Fields;
use crate::telemetry::problems::Occurrence;

const TARGET: &str = "outpost::agent";

/// The ledger can't be written. Its rows wait in memory.
#[derive(Clone, Debug)]
pub struct LedgerFailed {
    /// Its file.
    pub path: PathBuf,
    /// Why.
    pub cause: LedgerFault,
}

impl Describe for LedgerFailed {
    fn kind(&self) -> EventKind {
        let text = "the ledger can't be written: jobs go on, and their rows are kept in memory, up to a bound";
        EventKind::new(Level::Error, TARGET, text)
    }

    fn fields(&self) -> Fields {
        Fields::new().text("path", self.path.display()).text("cause", &self.cause)
    }

    fn problem(&self) -> Option<Occurrence> {
        Some(Occurrence {
            kind: "ledger not written".to_owned(),
            blame: Blame::Operator.as_str(),
            details: Some(self.cause.to_string()),
            advice: "Jobs go on. Make room on the disk, or correct OUTPOST_LEDGER_PATH.",
        })
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        snapshot.ledger.fault = Some(self.cause.to_string());
    }
}

/// The ledger can be written again.
#[derive(Clone, Debug)]
pub struct LedgerWorks;

impl Describe for LedgerWorks {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Info, TARGET, "the ledger is written again")
    }

    fn fields(&self) -> Fields {
        Fields::new()
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        snapshot.ledger.fault = None;
    }
}

/// There was no room for rows of ended jobs. They are not in the ledger.
#[derive(Clone, Debug)]
pub struct LedgerRowsLost {
    /// How many.
    pub rows: u64,
}

impl Describe for LedgerRowsLost {
    fn kind(&self) -> EventKind {
        EventKind::new(Level::Warn, TARGET, "rows of the ledger were lost").limited()
    }

    fn fields(&self) -> Fields {
        Fields::new().number("rows", self.rows)
    }

    fn apply(&self, snapshot: &mut Snapshot, _: SystemTime) {
        snapshot.ledger.rows_lost = snapshot.ledger.rows_lost.saturating_add(self.rows);
    }
}
