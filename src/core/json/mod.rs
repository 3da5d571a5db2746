//! JSON text that is checked and not parsed: where its members begin and end, at the speed of memory.
//!
//! A request of megabytes passes through here once. What becomes a value of a type is small, and `serde_json` reads that.

mod members;
mod salvage;
mod scanner;
mod string;
mod value;

pub use members::name_of;
pub use salvage::salvage;
pub use scanner::{Malformed, Scanner, walk};
pub(crate) use value::{is_text, object, parse};

pub use crate::messages::members::Members;
