//! The table of variables as text for `--help`.

use std::fmt::Write as _;

use super::variable::{Fallback, Scope, Variable};
use super::vars::TABLE;

/// The variables of some scopes, for the end of a `--help`.
pub(crate) fn help_text(scopes: &[Scope]) -> String {
    let mut text = String::from("Environment:\n");
    for variable in TABLE.into_iter().filter(|variable| scopes.contains(&variable.scope)) {
        let _ = writeln!(
            text,
            "  {} [{}]\n      {}",
            variable.name,
            fallback(variable, ""),
            variable.help().replace('`', "")
        );
    }
    text.push_str("\nEach _API_KEY and _CODE can be read from a file: set the variable of the same name with the suffix _FILE to its path.\n");
    text
}

/// The default of a variable in words; a value stands between marks.
pub(super) fn fallback(variable: &Variable, mark: &str) -> String {
    match variable.fallback {
        Fallback::Required => "required".to_owned(),
        Fallback::Unset => "none".to_owned(),
        Fallback::Value(value) => format!("{mark}{value}{mark}"),
        Fallback::Derived(words) => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::variable::Secrecy;

    #[test]
    fn names_are_unique_and_every_code_and_key_is_a_secret() {
        for (index, variable) in TABLE.into_iter().enumerate() {
            assert!(TABLE.into_iter().skip(index + 1).all(|other| other.name != variable.name));
            let looks_secret = variable.name.ends_with("_KEY") || variable.name.ends_with("_CODE");
            assert_eq!(looks_secret, variable.secrecy == Secrecy::Secret, "{}", variable.name);
        }
    }

    #[test]
    fn help_lists_what_a_command_reads() {
        let text = help_text(&[Scope::Coordinator]);
        assert!(text.contains("OUTPOST_COORDINATOR_API_KEY [none]\n"));
        assert!(!text.contains("OUTPOST_BACKENDS"));
    }
}
