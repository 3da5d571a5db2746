//! Why a request or a response cannot be translated.

/// Why a request can't be translated. All are the caller's fault. The text names what is wrong and quotes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TranslateError {
    /// Not a JSON object, or one that has a member of the API twice.
    #[error("the request is not a JSON object with distinct members")]
    Malformed,
    /// A member is missing, or of another type or value than the API names.
    #[error("{0}: missing, or not of the form that the API requires")]
    Invalid(&'static str),
    /// A type of content that chat completions do not have.
    #[error("{0}: this model's server takes no content of this type")]
    UnsupportedContent(&'static str),
    /// An image that is neither in the request nor at a URL.
    #[error("image: this model's server takes images only as base64 or by URL")]
    UnsupportedImage,
    /// A tool that the API's own servers would run.
    #[error("tools: this model's server runs no tools of its own")]
    UnsupportedTool,
    /// The name of the model can't be written as JSON.
    #[error("the model's name can't be written")]
    BadModel,
}

/// Why a stream can't be translated to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StreamFault {
    /// The backend reported an error within it.
    #[error("the model's server reported an error")]
    Reported,
    /// An event that is not of a chat completion, or the end mark without an event before it.
    #[error("the response of the model's server is not of its format")]
    Malformed,
    /// An event that is too long, or more held text than the bound allows.
    #[error("the response of the model's server is too large")]
    TooLarge,
}
