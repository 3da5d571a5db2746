//! Conformance checks against the coordinator of a configuration, printed as they are made.

use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

use super::agent::StartError;
use super::exit::ExitStatus;
use super::wiring;
use crate::config::{AgentConfig, CoordinatorSite};
use crate::conformance::{Check, Outcome, Target};
use crate::identity::Identity;
use crate::transport::tls::client_config;

/// How long a coordinator may take for each step, and to drop an agent that sends nothing.
const LIMITS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));

/// Runs all checks against a coordinator, with a fresh key where there is no `identity`. Prints a line for each
/// check. [`ExitStatus::Failure`] if the coordinator violates a rule.
///
/// # Errors
/// If there are no certificates, no key or no output.
pub(crate) async fn check_conformance(
    config: &AgentConfig,
    site: &CoordinatorSite,
    identity: Option<Identity>,
    out: &mut dyn Write,
) -> Result<ExitStatus, StartError> {
    let tls = client_config(config.ca_file.as_deref())?;
    let identity = match identity {
        Some(identity) => identity,
        None => Identity::ephemeral()?,
    };
    let (step, handshake) = LIMITS;
    let connector = Rc::new(wiring::connector(config, &site.url, &tls));
    let target = Target { connector, identity, enrollment_code: site.enrollment_code.clone(), step, handshake };
    let violated = print_checks(&target, out).await?;
    Ok(if violated { ExitStatus::Failure } else { ExitStatus::Success })
}

async fn print_checks(target: &Target, out: &mut dyn Write) -> io::Result<bool> {
    let mut violations = 0;
    for check in Check::ALL {
        let (name, section, rule) = (check.name, check.group.section(), check.rule);
        match check.run(target).await {
            Outcome::Ok => writeln!(out, "ok        {name} (section {section}): {rule}")?,
            Outcome::NotOffered => writeln!(out, "skipped   {name} (section {section}): the extension is not offered")?,
            Outcome::Violated(finding) => {
                violations += 1;
                writeln!(out, "VIOLATED  {name} (section {section}): {rule}; {finding}")?;
            }
        }
        out.flush()?;
    }
    writeln!(out, "{violations} of {} checks violated", Check::ALL.len())?;
    Ok(violations > 0)
}
