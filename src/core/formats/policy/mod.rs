//! What a client may put into a request: which top-level members are sent to a backend, where media may be, which tools may
//! be offered, and how many generations one request may have.
//!
//! The same rules apply to requests that are passed on and to requests that are translated: [`RequestPolicy::check`] reads
//! the client's request before either. For one that is passed on, [`RequestPolicy::rule`] decides which members are sent.
//! The translation of a request only has members that every server gets.
//!
//! - Members (`rules`): services, LiteLLM and unknown servers get only members on a list for each endpoint, because others
//!   may choose another model, name a URL to call or add to the price. Local engines get everything except the members of a
//!   list.
//! - Media (`media`): only what the request contains, unless the operator allows URLs.
//! - Tools (`tools`): only those that the client runs.
//! - Numbers (`count`): a job uses one slot, so a request may have few generations.

mod check;
mod count;
mod error;
mod lists;
mod media;
mod names;
mod rules;
mod tools;

pub use check::RequestPolicy;
pub(crate) use count::{MOST_CHOICES, choices, inputs};
pub(crate) use error::PolicyError;
pub use media::RemoteMedia;
pub(crate) use rules::MemberRule;
