//! The meaning of the end of an open connection.
//!
//! The transport reports how a connection ended; this module classifies the end. It is used only for authenticated
//! connections: an end before `auth_ok` is a failure. Used by the supervisor.

use std::io;

use crate::messages::lifecycle::CloseKind;

/// "Going away": sent by a peer that shuts down cleanly.
const GOING_AWAY: u16 = 1001;

/// How an open connection ended, as reported by the transport.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkEnd {
    /// The peer sent a close frame.
    #[error("the coordinator closed the connection, {}", CloseText(*.code, .reason))]
    CloseFrame {
        /// Its code, if it had one.
        code: Option<u16>,
        /// Its reason as received, empty if it had none. `Display` does not escape it: escape the whole text before it is
        /// shown.
        reason: String,
    },
    /// The stream ended without a close frame.
    #[error("the stream ended without a close frame")]
    EndOfStream,
    /// Reading failed.
    #[error("reading failed: {0}")]
    ReadError(io::ErrorKind),
    /// Writing failed.
    #[error("writing failed: {0}")]
    WriteError(io::ErrorKind),
    /// The peer violated the WebSocket protocol in this way.
    #[error("the coordinator violated the WebSocket protocol: {0}")]
    Violation(&'static str),
    /// The peer sent a message over the limit.
    #[error("a message over the size limit (OUTPOST_MAX_MESSAGE_SIZE)")]
    TooLarge,
    /// No byte was received for too long, not even a pong.
    #[error("the coordinator went silent")]
    Silence,
    /// Nothing could be written for too long.
    #[error("nothing could be written for too long")]
    WriteStalled,
}

/// A close code, or its absence, as text, with the reason if there is one.
struct CloseText<'a>(Option<u16>, &'a str);

impl std::fmt::Display for CloseText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(code) => write!(f, "code {code}"),
            None => f.write_str("without a code"),
        }?;
        if self.1.is_empty() { Ok(()) } else { write!(f, ": {}", self.1) }
    }
}

/// The kind of an end. For the backoff, every end of an authenticated connection is planned.
pub(crate) fn classify(end: &LinkEnd) -> CloseKind {
    match end {
        LinkEnd::CloseFrame { code: Some(GOING_AWAY), reason } => match reason.as_str() {
            "drain:deploy" => CloseKind::DrainDeploy,
            "drain:operator" => CloseKind::DrainOperator,
            _ => CloseKind::GracefulOther,
        },
        LinkEnd::CloseFrame { code: None, .. } => CloseKind::GracefulOther,
        LinkEnd::CloseFrame { code: Some(_), .. }
        | LinkEnd::EndOfStream
        | LinkEnd::ReadError(_)
        | LinkEnd::WriteError(_)
        | LinkEnd::Violation(_)
        | LinkEnd::TooLarge
        | LinkEnd::Silence
        | LinkEnd::WriteStalled => CloseKind::Unexpected,
    }
}

/// Whether such an end is a part of normal operation. These are logged as info, the others as warnings.
pub(crate) fn is_expected(kind: CloseKind) -> bool {
    match kind {
        CloseKind::DrainDeploy | CloseKind::DrainOperator | CloseKind::GracefulOther => true,
        CloseKind::Unexpected => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(code: impl Into<Option<u16>>, reason: &str) -> LinkEnd {
        LinkEnd::CloseFrame { code: code.into(), reason: reason.to_owned() }
    }

    #[test]
    fn each_end_has_the_kind_of_the_protocol() {
        let table = [
            (close(1001, "drain:deploy"), CloseKind::DrainDeploy),
            (close(1001, "drain:operator"), CloseKind::DrainOperator),
            (close(1001, ""), CloseKind::GracefulOther),
            (close(1001, "drain:other"), CloseKind::GracefulOther),
            (close(1001, "drain:deploy "), CloseKind::GracefulOther),
            (close(1001, "Drain:Deploy"), CloseKind::GracefulOther),
            (close(None, ""), CloseKind::GracefulOther),
            (close(1000, ""), CloseKind::Unexpected),
            (close(1000, "drain:deploy"), CloseKind::Unexpected),
            (close(1002, "drain:operator"), CloseKind::Unexpected),
            (close(1006, ""), CloseKind::Unexpected),
            (close(1012, ""), CloseKind::Unexpected),
            (close(4001, "policy"), CloseKind::Unexpected),
            (close(0, ""), CloseKind::Unexpected),
            (LinkEnd::EndOfStream, CloseKind::Unexpected),
            (LinkEnd::ReadError(io::ErrorKind::ConnectionReset), CloseKind::Unexpected),
            (LinkEnd::WriteError(io::ErrorKind::BrokenPipe), CloseKind::Unexpected),
            (LinkEnd::Violation("reserved bit"), CloseKind::Unexpected),
            (LinkEnd::TooLarge, CloseKind::Unexpected),
            (LinkEnd::Silence, CloseKind::Unexpected),
            (LinkEnd::WriteStalled, CloseKind::Unexpected),
        ];
        for (end, kind) in table {
            assert_eq!(classify(&end), kind, "{end:?}");
        }
    }

    #[test]
    fn only_an_unexpected_end_is_a_warning() {
        assert!(is_expected(CloseKind::DrainDeploy));
        assert!(is_expected(CloseKind::DrainOperator));
        assert!(is_expected(CloseKind::GracefulOther));
        assert!(!is_expected(CloseKind::Unexpected));
    }

    proptest! {
        #[test]
        fn any_code_but_1001_is_unexpected_whatever_the_reason(code: u16, reason: String) {
            prop_assume!(code != 1001);
            prop_assert_eq!(classify(&close(code, &reason)), CloseKind::Unexpected);
        }
    }
}
