//! The table of variables as text: for the README, and for `--help`.

use std::fmt::Write as _;

use super::variable::{Fallback, Scope, Variable};
use super::vars::TABLE;

const OPEN: &str = "<!-- variables -->";
const CLOSE: &str = "<!-- /variables -->";

/// The whole table in Markdown, one line for each variable.
pub(crate) fn markdown_table() -> String {
    let mut table = String::from("| variable | default | meaning |\n| --- | --- | --- |\n");
    for variable in TABLE {
        let file = if variable.file_name().is_some() { " (`_FILE`)" } else { "" };
        let scope = if variable.scope == Scope::Coordinator { "coordinator: " } else { "" };
        // Writing to a String can't fail.
        let _ =
            writeln!(table, "| `{}`{file} | {} | {scope}{} |", variable.name, fallback(variable, "`"), variable.help());
    }
    table
}

/// A document whose table between the markers `<!-- variables -->` and `<!-- /variables -->` is replaced by the current one.
/// `None` if it has no such markers.
pub(crate) fn with_current_table(document: &str) -> Option<String> {
    let (before, rest) = document.split_once(OPEN)?;
    let (_, after) = rest.split_once(CLOSE)?;
    Some(format!("{before}{OPEN}\n\n{}\n{CLOSE}{after}", markdown_table()))
}

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

fn fallback(variable: &Variable, mark: &str) -> String {
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
    fn a_document_gets_the_table_between_its_markers() {
        let once = with_current_table("a\n<!-- variables -->old<!-- /variables -->\nb").unwrap();
        assert!(once.starts_with("a\n<!-- variables -->\n\n| variable |"));
        assert!(once.ends_with(" |\n\n<!-- /variables -->\nb"));
        assert_eq!(with_current_table(&once).as_ref(), Some(&once));
        assert_eq!(with_current_table("<!-- variables -->"), None);
    }

    #[test]
    fn no_row_breaks_the_table() {
        for variable in TABLE {
            let row_texts = [variable.name.as_ref(), &variable.help(), &fallback(variable, "`")].join("");
            assert!(!row_texts.contains(['|', '\n']), "{}", variable.name);
            assert!(!variable.help().ends_with('.'), "{}", variable.name);
        }
        assert_eq!(markdown_table().lines().count(), TABLE.len() + 2);
    }

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
