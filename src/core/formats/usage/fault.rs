//! An error that a backend reported, reduced to a label that may be passed on.

use crate::core::formats::error_body::ErrorBody;

/// An error that a backend reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendFault {
    /// Its `code` or `type`, if that is a label of 1 to 64 letters, digits, `_`, `.` and `-`. Never its message, which may
    /// quote the prompt.
    pub label: Option<String>,
}

impl BackendFault {
    /// The label of an error's body.
    pub fn from_body(body: &[u8]) -> Self {
        Self { label: ErrorBody::read(body).label() }
    }

    /// Whether servers use the label for a missing model. With another status than 404 or 400 it may mean something else.
    pub fn is_model_missing(&self) -> bool {
        const LABELS: [&str; 8] = [
            "model_not_found",
            "model_not_loaded",
            "not_found_error",
            "not_found",
            "NotFoundError",
            "ModelNotFoundError",
            "ModelNotFound",
            "DeploymentNotFound",
        ];
        self.label.as_deref().is_some_and(|label| LABELS.contains(&label))
    }
}
