//! Why a request or a response cannot be translated.

/// Why a request can't be translated. All are the caller's fault. The text names what is wrong and quotes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranslateError {
    /// Not the text of a JSON object, or of one that names a member of the API twice.
    #[error("the request is not a JSON object with distinct members")]
    Malformed,
    /// A member is missing, or of another type or value than the API names.
    #[error("{0}: missing, or not of the form that the API asks for")]
    Invalid(&'static str),
    /// A kind of content that chat completions have no place for.
    #[error("{0}: this model's server takes no content of this type")]
    UnsupportedContent(&'static str),
    /// An image that is neither in the request nor at a URL.
    #[error("image: this model's server takes images only as base64 or by URL")]
    UnsupportedImage,
    /// A tool that the API's own servers would run.
    #[error("tools: this model's server runs no tools of its own")]
    UnsupportedTool,
    /// The name of a model is no text for JSON.
    #[error("the model's name can't be written")]
    BadModel,
}

/// Why a stream can't be translated to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StreamFault {
    /// The backend reported an error within it.
    #[error("the model's server reported an error")]
    Reported,
    /// An event that is no chat completion's, or the end mark without any before it.
    #[error("the response of the model's server is not of its format")]
    Malformed,
    /// An event that is too long, or more to hold back than the bound.
    #[error("the response of the model's server is too large")]
    TooLarge,
}
