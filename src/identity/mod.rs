//! Who this agent is: an ed25519 key in a file, and next to it the id that the coordinator assigned.
//!
//! | file | what it is |
//! | --- | --- |
//! | `identity.key` | the private key: PKCS#8 in PEM, as `openssl genpkey -algorithm ed25519` writes it |
//! | `identity.key.provider` | the provider id at the first coordinator, a line of text |
//! | `identity.key.provider.HOST:PORT` | the provider id at another coordinator |
//! | `identity.key.provider.old` | one that went with an earlier key, set aside when a new key was made |
//! | `identity.key.lock` | empty; locked as long as an agent uses the key |
//!
//! Each is readable by its owner only. A file is at every instant complete, old or new, whatever breaks; and a key that
//! can't be used is reported and left as it is, never replaced.

mod error;
mod guarded_file;
mod holder;
mod key;
mod lock;
mod new_file;

pub(crate) use error::IdentityError;
pub(crate) use guarded_file::beside;
pub use holder::Identity;
pub(crate) use holder::Origin;
#[cfg(any(test, fuzzing))]
pub(crate) use holder::provider_in;
#[cfg(any(test, fuzzing))]
pub(crate) use key::{from_pem, to_pem};

#[cfg(test)]
mod tests;
