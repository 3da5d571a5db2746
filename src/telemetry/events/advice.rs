//! What an operator can do about a connection that can't be made.

use super::causes::ConnectFailure;
use crate::core::session::handshake::HandshakeFailure;
use crate::transport::stream::DialError;

impl ConnectFailure {
    /// What the operator can do.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Dial(error) => dial(error),
            Self::Handshake(failure) => handshake(failure),
            Self::Link(_) | Self::TimedOut(_) => {
                "Whatever is there ends the connection or stays silent. Check that OUTPOST_COORDINATOR_URL names a coordinator, \
                 and ask its operator."
            }
            Self::Internal(_) => "This is a bug of outpost. Please report it with the log.",
        }
    }
}

fn dial(error: &DialError) -> &'static str {
    match error {
        DialError::Resolve(..) => "Check the host in OUTPOST_COORDINATOR_URL, and the DNS of this machine.",
        DialError::Connect(_) => {
            "Check host and port in OUTPOST_COORDINATOR_URL, the network of this machine, and firewalls. If they are right, the \
             coordinator is down: the agent goes on trying."
        }
        DialError::Proxy(_) => "Check OUTPOST_PROXY or HTTPS_PROXY.",
        DialError::Tls(_) | DialError::TlsName => {
            "Check the clock of this machine, and the host in OUTPOST_COORDINATOR_URL. If a proxy of yours intercepts TLS, put its \
             certificate into OUTPOST_CA_FILE."
        }
        DialError::NotAdmitted(_) => "Check user and password in OUTPOST_COORDINATOR_URL.",
        DialError::Busy { .. } => "There is nothing to do: the agent waits and tries again.",
        DialError::Refused(_) | DialError::Redirected(_) | DialError::Upgrade(_) => {
            "Check the path in OUTPOST_COORDINATOR_URL: a web server answers there, and not a coordinator."
        }
        DialError::TimedOut => "Check host and port in OUTPOST_COORDINATOR_URL, and firewalls on the way to it.",
    }
}

fn handshake(failure: &HandshakeFailure) -> &'static str {
    match failure {
        HandshakeFailure::Rejected { .. } => {
            "Check OUTPOST_ENROLLMENT_CODE, or have the operator of the coordinator admit the key that `outpost identity` shows."
        }
        HandshakeFailure::Auth2NotOffered => {
            "Someone may stand between, or the coordinator is too old. Ask its operator before you unset OUTPOST_REQUIRE_AUTH2."
        }
        _ => "The coordinator violates the protocol. Ask its operator; `outpost conformance URL` shows how.",
    }
}
