//! The places of a JSON object's members within its text: recorded when the text was scanned, so that it is not scanned again.

use std::ops::Range;

/// The places of an object's members within its text; `None` if they were not recorded. They add nothing to the text, so all
/// values are equal. `core::json` records them and walks over them.
#[derive(Clone, Default)]
pub struct Members(pub(crate) Option<Box<[Member]>>);

/// The places of a key, with its quotes, and of its value.
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
