//! The one JSON toolkit.
//!
//! - Values of a type are read and written by `serde_json`, with the types of `value` and `list`.
//! - Text of megabytes, such as a request, is not parsed: `scanner` checks its grammar and finds where its members begin and
//!   end, at memory speed, `members` records the places, and `tokens` iterates over what is inside. `salvage` reads what is left of a broken text, `abridged` one
//!   that is too long to be held, and `spelled` the text of a string.
//! - `writer` makes such a text from slices of another one.

mod abridged;
mod list;
mod members;
mod salvage;
mod scanner;
mod spelled;
mod string;
mod tokens;
mod value;
mod writer;

pub(crate) use abridged::{Abridged, Selection};
pub(crate) use list::{Few, each};
pub(crate) use members::name_of;
pub(crate) use salvage::salvage;
pub(crate) use scanner::{Malformed, Scanner, walk};
pub(crate) use spelled::Spelled;
pub(crate) use tokens::{Token, Tokens};
pub(crate) use value::{
    Object, count, elements, empty_object, maybe, object, parse, raw, spelled, spelling, text, word,
};
pub(crate) use writer::Writer;
pub(crate) use writer::with_member;

pub(crate) use crate::messages::members::Members;
