//! Where the members of a JSON object are within its text: noted when the text was scanned, so that no one scans it again.

use std::ops::Range;

/// The places of an object's members within its text; `None` where they were not noted. They add nothing to the text, so
/// all values are equal. `core::json` notes them and walks over them.
#[derive(Clone, Default)]
pub struct Members(pub(crate) Option<Box<[Member]>>);

/// Where a key, with its quotes, and its value are.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) key: Range<usize>,
    pub(crate) value: Range<usize>,
}

impl PartialEq for Members {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Members {}
