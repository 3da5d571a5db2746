//! The configuration of the coordinator in this crate: its clients and its agents.

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::environment::Environment;
use super::logging::LogConfig;
use super::reader::{Reader, SecretUse};
use super::report::{Cause, Report, Warning};
use super::{units, unknown, vars};
use crate::messages::secret::Secret;

/// The coordinator's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoordinatorConfig {
    /// What clients of the API show as a bearer token; without it, none is asked for.
    pub api_key: Option<Secret>,
    /// What an agent shows that is not known, at least 16 characters.
    pub enrollment_code: Option<Secret>,
    /// The public keys of agents that are always let in.
    pub agent_keys: Vec<[u8; 32]>,
}

impl CoordinatorConfig {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// All that is wrong, in one report.
    pub fn from_env(env: &dyn Environment) -> Result<(Self, Vec<Warning>), Report> {
        let mut reader = Reader::new(env);
        LogConfig::read(&mut reader);
        let config = Self {
            api_key: reader.secret(&vars::COORDINATOR_API_KEY, SecretUse::Header),
            enrollment_code: reader.secret(&vars::COORDINATOR_ENROLLMENT_CODE, SecretUse::Json),
            agent_keys: reader.list(&vars::COORDINATOR_AGENT_KEYS, public_key).unwrap_or_default(),
        };
        // In force since the start of the process; only checked here.
        reader.parse(&vars::ALLOW_DUMPS, units::boolean);
        unknown::warn(&mut reader, None);
        reader.finish(Some(config))
    }
}

fn public_key(text: &str) -> Result<[u8; 32], Cause> {
    let bytes = BASE64_STANDARD.decode(text).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(Cause::NotAPublicKey)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MapEnvironment;

    #[test]
    fn keys_and_codes_are_read() {
        let env = MapEnvironment::from([
            ("OUTPOST_COORDINATOR_API_KEY", "sk-1"),
            ("OUTPOST_COORDINATOR_ENROLLMENT_CODE", "né"),
            (
                "OUTPOST_COORDINATOR_AGENT_KEYS",
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=, 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
            ),
        ]);
        let (config, warnings) = CoordinatorConfig::from_env(&env).unwrap();
        assert_eq!(config.api_key, Some(Secret::new("sk-1")));
        assert_eq!(config.enrollment_code, Some(Secret::new("né")));
        assert_eq!(config.agent_keys.len(), 2);
        assert_eq!(config.agent_keys.first(), Some(&[0; 32]));
        assert!(warnings.is_empty());
        assert_eq!(CoordinatorConfig::from_env(&MapEnvironment::default()).unwrap().0, CoordinatorConfig::default());
    }

    #[test]
    fn every_bad_key_is_reported() {
        let env = MapEnvironment::from([(
            "OUTPOST_COORDINATOR_AGENT_KEYS",
            "AAAA,not base64,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        )]);
        let report = CoordinatorConfig::from_env(&env).unwrap_err();
        assert!(report.problems().iter().all(|problem| problem.cause == Cause::NotAPublicKey));
        assert_eq!(report.problems().len(), 3);
    }
}
