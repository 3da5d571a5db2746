//! The files under `config/` and the README's table are current, and the files work as they are.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{example_agent, example_coordinator};
use crate::config::table::fallback;
use crate::config::variable::Scope;
use crate::config::vars::TABLE;
use crate::config::{AgentConfig, CoordinatorConfig, Environment, Layered, MapEnvironment, read_env_file};

const OPEN: &str = "<!-- variables -->";
const CLOSE: &str = "<!-- /variables -->";

/// The whole table in Markdown, one line for each variable.
fn markdown_table() -> String {
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
fn with_current_table(document: &str) -> Option<String> {
    let (before, rest) = document.split_once(OPEN)?;
    let (_, after) = rest.split_once(CLOSE)?;
    Some(format!("{before}{OPEN}\n\n{}\n{CLOSE}{after}", markdown_table()))
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Compares, or writes where the environment says so.
fn assert_current(name: &str, expected: &str) {
    let path = path(name);
    if std::env::var_os("UPDATE_EXAMPLES").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{name} is out of date: UPDATE_EXAMPLES=1 cargo test printed_from_the_table");
}

fn home() -> MapEnvironment {
    MapEnvironment::from([("HOME", "/home/operator")])
}

#[test]
fn the_example_files_are_printed_from_the_table() {
    assert_current("config/outpost.env.example", &example_agent());
    assert_current("config/coordinator.env.example", &example_coordinator());
}

#[test]
fn the_table_in_the_readme_is_printed_from_the_table() {
    let readme = std::fs::read_to_string(path("README.md")).unwrap();
    assert_current("README.md", &with_current_table(&readme).expect("markers in the README"));
}

#[test]
fn the_example_files_are_configurations_without_a_warning() {
    let agent = read_env_file(&path("config/outpost.env.example")).unwrap();
    assert_eq!(AgentConfig::from_env(&Layered { upper: &agent, lower: &home() }).unwrap().1, []);
    let coordinator = read_env_file(&path("config/coordinator.env.example")).unwrap();
    assert_eq!(CoordinatorConfig::from_env(&coordinator).unwrap().1, []);
}

#[test]
fn every_line_that_is_commented_out_can_be_used() {
    for text in [example_agent(), example_coordinator()] {
        let assignments =
            text.lines().filter_map(|line| line.strip_prefix('#').filter(|line| line.starts_with("OUTPOST_")));
        // Those name files that are not there.
        for line in assignments.filter(|line| !line.contains("_FILE=")) {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), line).unwrap();
            let one = read_env_file(file.path()).unwrap();
            let rest = home().with("OUTPOST_COORDINATOR_URL", "wss://coordinator.example/");
            let env = Layered { upper: &one, lower: &rest };
            AgentConfig::from_env(&env).unwrap_or_else(|report| panic!("{line}: {report}"));
            CoordinatorConfig::from_env(&env).unwrap_or_else(|report| panic!("{line}: {report}"));
        }
    }
}

/// The values of a key of the unit.
fn unit(key: &str) -> Vec<String> {
    let text = std::fs::read_to_string(path("config/outpost.service")).unwrap();
    let value = |line: &str| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned);
    text.lines().filter_map(value).collect()
}

#[test]
fn the_unit_waits_longer_than_the_drain_and_stays_down_where_a_restart_can_not_help() {
    let stop = humantime::parse_duration(&unit("TimeoutStopSec").concat()).unwrap();
    let agent = read_env_file(&path("config/outpost.env.example")).unwrap();
    let (config, _) = AgentConfig::from_env(&Layered { upper: &agent, lower: &home() }).unwrap();
    assert!(stop >= config.shutdown_grace + Duration::from_secs(10), "{stop:?}");
    assert_eq!(unit("RestartPreventExitStatus"), ["64 66"]);
    assert_eq!(unit("Restart"), ["on-failure"]);
}

#[test]
fn the_unit_sets_variables_that_are_known() {
    let settings: MapEnvironment = unit("Environment").iter().filter_map(|line| line.split_once('=')).collect();
    assert_eq!(settings.names(), ["OUTPOST_IDENTITY_PATH"]);
    let rest = home().with("OUTPOST_COORDINATOR_URL", "wss://coordinator.example/");
    assert_eq!(AgentConfig::from_env(&Layered { upper: &settings, lower: &rest }).unwrap().1, []);
}

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
