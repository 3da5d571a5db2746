//! The example files under `config/`, printed from the table.

use super::env_file::quote;
use super::variable::{Fallback, Scope, Variable};
use super::vars::TABLE;

const AGENT: &str = "\
# Settings of the outpost agent. Copy to /etc/outpost/outpost.env, then chmod 600: it may contain secrets.
# Read by config/outpost.service, and by `outpost run --env-file FILE`; the process environment takes precedence.
# A line that is commented out shows the default, or an example if there is no default.
# `outpost config check --env-file FILE` reports all errors in this file.
";

const COORDINATOR: &str = "\
# Settings of the outpost coordinator. Copy to /etc/outpost/coordinator.env, then chmod 600: it may contain secrets.
# Read by `outpost coordinator --env-file FILE`; the process environment takes precedence.
# A line that is commented out shows the default, or an example if there is no default.
";

/// The content of `config/outpost.env.example`.
pub(crate) fn example_agent() -> String {
    example(AGENT, &[Scope::Agent, Scope::Every])
}

/// The content of `config/coordinator.env.example`.
pub(crate) fn example_coordinator() -> String {
    example(COORDINATOR, &[Scope::Coordinator, Scope::Every])
}

fn example(preface: &str, scopes: &[Scope]) -> String {
    let variables = TABLE.into_iter().filter(|variable| scopes.contains(&variable.scope));
    std::iter::once(preface.to_owned()).chain(variables.map(entry)).collect::<Vec<_>>().join("\n")
}

fn entry(row: &Variable) -> String {
    // An example needs some backend's name.
    let variable = row.for_backend(&"vllm".into());
    let (comment, value) = match variable.fallback {
        Fallback::Required => ("", variable.example),
        Fallback::Value(default) => ("#", default),
        Fallback::Unset | Fallback::Derived(_) => ("#", variable.example),
    };
    let derived = match variable.fallback {
        Fallback::Derived(words) => format!(" (default: {words})"),
        Fallback::Required => " (required)".to_owned(),
        Fallback::Value(_) | Fallback::Unset => String::new(),
    };
    let file = variable.file_name().map(|name| format!("#{name}=/run/secrets/outpost\n")).unwrap_or_default();
    format!("# {}{derived}\n{comment}{}={}\n{file}", variable.help(), variable.name, quote(value))
}

#[cfg(test)]
#[path = "examples_tests.rs"]
mod tests;
