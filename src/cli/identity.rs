//! `outpost identity`: the public key and the provider id.

use super::process::{fail, print};
use crate::app::ExitStatus;
use crate::config::{AgentConfig, Environment};
use crate::identity::Identity;

pub(super) fn run(env: &dyn Environment) -> ExitStatus {
    let path = match AgentConfig::identity_path_from_env(env) {
        Ok(path) => path,
        Err(report) => return fail(ExitStatus::Configuration, report),
    };
    match Identity::load(&path) {
        Ok(identity) => {
            let provider = identity.provider_id().map_or_else(|| "none yet".to_owned(), |id| id.to_string());
            print(&format!("public key   {}\nprovider id  {provider}\n", identity.pubkey_base64()))
        }
        Err(error) => fail(ExitStatus::Identity, error),
    }
}
