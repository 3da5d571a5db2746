//! What is wrong with a configuration, all of it, in words an operator can act on; and what is only suspicious.
//!
//! A secret's value never gets in here: the code that makes a [`Problem`] of one leaves the value out.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::messages::backend::BackendKind;
use crate::messages::untrusted::Untrusted;

/// Everything that is wrong with a configuration, at least one problem, and what looks odd: a misspelt name explains why
/// a variable is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Report {
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

impl Report {
    pub(super) fn new(problems: Vec<Problem>, warnings: Vec<Warning>) -> Self {
        Self { problems, warnings }
    }

    /// What is wrong, in the order it was found.
    #[cfg(test)]
    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Warnings, in the order they were found.
    #[cfg(test)]
    pub(super) fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => write!(f, "the configuration has an error:")?,
            count => write!(f, "the configuration has {count} errors:")?,
        }
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))?;
        self.warnings.iter().try_for_each(|warning| write!(f, "\nwarning: {warning}"))
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The variable.
    pub variable: String,
    /// Its value, or the one entry of a list that is meant. `None` if it is not set or is a secret.
    pub value: Option<String>,
    /// What is wrong with it.
    pub cause: Cause,
    /// A value of the variable that is accepted.
    pub example: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.variable)?;
        if let Some(value) = &self.value {
            write!(f, "=\"{}\"", Untrusted(value))?;
        }
        write!(f, ": {}\n    for example: {}={}", self.cause, self.variable, self.example)
    }
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cause {
    /// Required, and not there.
    #[error("must be set")]
    Missing,
    /// Another URL of the list has the same host and port.
    #[error("names a coordinator twice: each host and port may be in the list once")]
    SameCoordinator,
    /// More than may be in the list.
    #[error("must have at most {max} URLs")]
    TooManyCoordinators {
        /// How many may be.
        max: usize,
    },
    /// Not as many codes as coordinators.
    #[error(
        "must be a comma list with one code for each coordinator: there are {coordinators} coordinators and {codes} codes"
    )]
    CodeCount {
        /// URLs in the list of coordinators.
        coordinators: usize,
        /// Codes, empty ones included.
        codes: usize,
    },
    /// Not UTF-8.
    #[error("is not UTF-8")]
    NotUnicode,
    /// No integer, or out of bounds.
    #[error("must be a whole number from {min} to {max}")]
    NotAnInteger {
        /// The smallest value.
        min: u64,
        /// The largest value.
        max: u64,
    },
    /// No number, or out of bounds.
    #[error("must be a number from {min} to {max}")]
    NotANumber {
        /// The smallest value.
        min: u32,
        /// The largest value.
        max: u32,
    },
    /// No yes and no no.
    #[error("must be true or false")]
    NotABool,
    /// No span of time, or out of bounds.
    #[error("must be a time with its unit (ms, s, m, h) from {} to {}", humantime::format_duration(*.min), humantime::format_duration(*.max))]
    NotADuration {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// No size, or out of bounds.
    #[error("must be a size with its unit (KiB, MiB, GiB) from {} to {}", bytesize::ByteSize(*.min), bytesize::ByteSize(*.max))]
    NotASize {
        /// The smallest, in bytes.
        min: u64,
        /// The largest, in bytes.
        max: u64,
    },
    /// Less memory for requests than one request may have.
    #[error(
        "is {}, but must be at least OUTPOST_COORDINATOR_MAX_JOB_SIZE, which is {}",
        bytesize::ByteSize(*.memory as u64), bytesize::ByteSize(*.job_size as u64)
    )]
    LessThanOneJob {
        /// Bytes of all requests together.
        memory: usize,
        /// Bytes of one request.
        job_size: usize,
    },
    /// No address of a socket.
    #[error("must be an IP address and a port, or off")]
    NotAnAddress,
    /// A list of nothing but commas.
    #[error("is a list without an entry")]
    EmptyList,
    /// Nothing that a URL parser takes.
    #[error("is not a URL with a host")]
    NotAUrl,
    /// A URL of another scheme.
    #[error("must be a URL that starts with {0}")]
    Scheme(&'static str),
    /// A URL with a user or a password in it.
    #[error("must not hold a user name or a password")]
    Credentials,
    /// A URL with a `?` part.
    #[error("must not have a query (the part from '?' on)")]
    Query,
    /// A URL with a `#` part.
    #[error("must not have a fragment (the part from '#' on)")]
    Fragment,
    /// A URL with a path, where only a host makes sense.
    #[error("must not have a path")]
    Path,
    /// A port that nothing can listen on.
    #[error("must have a port other than 0")]
    PortZero,
    /// `ws://` to another host.
    #[error("is not encrypted and not on this host; use wss://, or set OUTPOST_ALLOW_INSECURE=true if you must")]
    PlainToOtherHost,
    /// `http://` to another host, with a key.
    #[error(
        "would carry its API key unencrypted to another host; use https://, or set OUTPOST_ALLOW_INSECURE=true if you must"
    )]
    KeyToOtherHost,
    /// `wss://` to an IPv6 address.
    #[error(
        "TLS to an IPv6 address can't be verified here; use a host name, or an IPv4 address that the certificate names"
    )]
    TlsToIpv6,
    /// A service without its key.
    #[error("must be set: {0} requires an API key")]
    KeyRequired(BackendKind),
    /// An entry of the backends without `=`.
    #[error("must be written as [name@]kind=url; only the services venice and openrouter need no url")]
    NotABackend,
    /// An entry of the backends with an unknown kind.
    #[error("has an unknown kind; the kinds are {}", BackendKind::ALL.map(BackendKind::as_str).join(", "))]
    UnknownKind,
    /// A backend's name with other letters.
    #[error("has a bad name; a name is 1 to 32 of a-z, 0-9 and '-'")]
    BadBackendName,
    /// A name twice.
    #[error("is a second backend named {0}; name one of them: other-name@kind=url")]
    DuplicateBackend(String),
    /// `auto` in a list.
    #[error("auto can't be combined with other entries")]
    AutoInList,
    /// Not `model=input/output`.
    #[error("must be written as model=input/output, in micro-USD per million tokens")]
    NotAPrice,
    /// A model twice.
    #[error("gives a second price to the same model")]
    DuplicateModel,
    /// Not 32 bytes in base64.
    #[error("must be a public key: 32 bytes in base64, as `outpost identity` prints it")]
    NotAPublicKey,
    /// Not `host:port`.
    #[error("must be a host and its port, such as coordinator.example:443, without a scheme and a path")]
    NotAHostPort,
    /// Not what `env_logger` takes.
    #[error("must be a level (off, error, warn, info, debug, trace) or a list of module=level")]
    NotAFilter,
    /// Neither of both.
    #[error("must be text or json")]
    NotAFormat,
    /// A secret, and a file that holds it.
    #[error("is set, and {0} too; keep one of them")]
    SecretTwice(String),
    /// A secret with control characters, or with nothing in it.
    #[error("must be a line of text without control characters")]
    NotASecret,
    /// A secret that can't be sent in a header.
    #[error("must be a line of ASCII characters")]
    NotASecretOfAscii,
    /// A file that can't be read.
    #[error("the file {} can't be read: {}", path.display(), reason(*kind))]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        kind: std::io::ErrorKind,
    },
    /// A file with too much in it.
    #[error("the file {} is larger than {}", path.display(), bytesize::ByteSize(*max))]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The most it may hold, in bytes.
        max: u64,
    },
    /// No default: neither a state directory nor a home.
    #[error("must be set, because neither XDG_STATE_HOME nor HOME is, so that there is no default")]
    NoHome,
}

/// A suspicious setting that does not prevent the start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A variable with our prefix that nothing reads.
    #[error("{} is not a variable of outpost and has no effect{}", Untrusted(name), suggestion(nearest.as_deref()))]
    Unknown {
        /// The variable.
        name: String,
        /// The known one that is most like it.
        nearest: Option<String>,
    },
    /// A variable for a backend that is not configured.
    #[error("{} is for a backend that is not configured and has no effect; the backends are {}", Untrusted(name), backends.join(", "))]
    NoSuchBackend {
        /// The variable.
        name: String,
        /// The names of those that are.
        backends: Vec<String>,
    },
    /// A file with a secret that others can read.
    #[error("{variable}: others can read the file {0}; if nothing needs that: chmod 600 {0}", path.display())]
    ReadableByOthers {
        /// The variable that names the file.
        variable: String,
        /// The file.
        path: PathBuf,
    },
    /// A file of variables, secrets among them, that others can read.
    #[error("others can read {0}, which holds secrets; if nothing needs that: chmod 600 {0}", path.display())]
    EnvFileReadableByOthers {
        /// The file.
        path: PathBuf,
    },
    /// A status page that other hosts can reach.
    #[error(
        "{variable}: other hosts may reach the status page at {addr}; it asks for no password and shows models, job counts and the provider id"
    )]
    StatusBeyondLoopback {
        /// The variable.
        variable: String,
        /// The address to listen on.
        addr: SocketAddr,
    },
    /// What `OUTPOST_ALLOW_INSECURE` lets through.
    #[error("{variable}: {url} is not encrypted: anyone on the network path can read and change the traffic")]
    Unencrypted {
        /// The variable with the URL.
        variable: String,
        /// The URL.
        url: String,
    },
}

fn reason(kind: std::io::ErrorKind) -> String {
    match kind {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        other => other.to_string(),
    }
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_prints_every_problem_with_its_example_and_every_warning() {
        let problem = |variable: &str, value: Option<&str>, cause, example| Problem {
            variable: variable.into(),
            value: value.map(Into::into),
            cause,
            example,
        };
        let problems = vec![
            problem("OUTPOST_A", Some("\"x\""), Cause::NotABool, "true"),
            problem("OUTPOST_B", None, Cause::Missing, "1"),
        ];
        let unknown = Warning::Unknown { name: "OUTPOST_BB".into(), nearest: Some("OUTPOST_B".into()) };
        let report = Report::new(problems, vec![unknown]);
        let expected = "the configuration has 2 errors:\n  \
                        OUTPOST_A=\"\\\"x\\\"\": must be true or false\n    for example: OUTPOST_A=true\n  \
                        OUTPOST_B: must be set\n    for example: OUTPOST_B=1\n\
                        warning: OUTPOST_BB is not a variable of outpost and has no effect; did you mean OUTPOST_B?";
        assert_eq!(report.to_string(), expected);
    }
}
