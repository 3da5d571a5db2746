//! The ledger: one row for each accepted job that ended, in an SQLite file beside the identity.
//!
//! [`Ledger::record`] only puts a row into a bounded queue, so that the relay waits for nothing. A thread of its own, the
//! [`keeper`], writes what is in the queue in one transaction and syncs it to the disk: at once after a pause, else every
//! [`keeper::PERIOD`]. While the file can't be written, the rows are kept in memory, up to a bound, and the jobs go on.
//!
//! No row has a prompt, an answer or a key.

mod database;
mod keeper;
mod record;
mod usage;

pub(crate) use database::Limits;
pub(crate) use keeper::{Ledger, ledger};
pub(crate) use record::JobRecord;
pub(crate) use usage::{Bucket, Grouping, Usage, UsageRow};
