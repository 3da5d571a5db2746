//! The floors of the crate: a module imports only from floors below its own, and no file outgrows its noun.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors, lowest first. Modules on one floor do not know each other.
const FLOORS: &[&[&str]] = &[
    &["messages"],
    &["core", "config"],
    &["telemetry"],
    &["identity", "transport"],
    &["backends", "conformance"],
    &["relay"],
    &["actors", "coordinator"],
    &["testkit", "app"],
    &["dev"],
    &["cli"],
];
/// The most lines a file may have.
const MAX_LINES: usize = 400;
/// The one file that may import the package that the WebSocket session is built on.
const SESSION: &str = "src/coordinator/session.rs";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/")
}

/// The module directly under the crate that a file belongs to; none for the crate's own files.
fn module(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next()?.as_os_str().to_string_lossy().into_owned();
    match first.strip_suffix(".rs") {
        Some("main" | "lib") => None,
        Some(stem) => Some(stem.to_owned()),
        None => Some(first),
    }
}

/// The modules of this crate that a source names, in `use` lines and in paths alike.
fn imports(source: &str) -> BTreeSet<String> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut found = BTreeSet::new();
    for line in code {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(!rest.starts_with('{'), "write one `use crate::…` line a module: {line}");
            found.insert(word);
        }
    }
    found
}

fn floor(module: &str) -> usize {
    let position = FLOORS.iter().position(|floor| floor.contains(&module));
    position.unwrap_or_else(|| panic!("module {module} has no floor: add it to FLOORS"))
}

#[test]
fn a_module_imports_only_from_the_floors_below() {
    let mut wrong = Vec::new();
    for path in rust_files(&root().join("src")) {
        let Some(own) = module(&path) else { continue };
        for imported in imports(&fs::read_to_string(&path).unwrap()) {
            if imported != own && floor(&imported) >= floor(&own) {
                wrong.push(format!("{} imports {imported}", name(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_rules_know_no_actor_no_runtime_no_clock_and_no_environment() {
    let mut wrong = Vec::new();
    let rules = [rust_files(&root().join("src/core"))];
    for path in rules.iter().flatten() {
        let source = fs::read_to_string(path).unwrap();
        let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        let banned =
            ["actix", "tokio", "Instant::now", "SystemTime::now", "std::env", "std::fs", "std::net", "rand::rng()"];
        let rules = code.take_while(|line| !line.contains("#[cfg(test)]"));
        if name(path).ends_with("tests.rs") || name(path).contains("/tests/") {
            continue;
        }
        for line in rules {
            if let Some(word) = banned.iter().find(|word| line.contains(**word)) {
                wrong.push(format!("{} uses {word}: {line}", name(path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_actor_holds_recipients_and_only_the_supervisor_knows_types() {
    let mut wrong = Vec::new();
    for path in rust_files(&root().join("src/actors")) {
        let file = name(&path);
        // A pool owns its workers and stops them: it is their supervisor.
        if file.contains("supervisor") || file.ends_with("/pool.rs") {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        wrong.extend(source.lines().filter(|line| line.contains("Addr<")).map(|line| format!("{file}: {line}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn one_file_imports_actix_web_actors() {
    let users: Vec<String> = rust_files(&root().join("src"))
        .iter()
        .filter(|path| fs::read_to_string(path).unwrap().contains("actix_web_actors"))
        .map(|path| name(path))
        .collect();
    assert_eq!(users, [SESSION]);
}

#[test]
fn no_file_is_longer_than_its_noun_can_be() {
    let folders = ["src", "tests"].map(|folder| root().join(folder));
    let long: Vec<String> = folders
        .iter()
        .flat_map(|folder| rust_files(folder))
        .map(|path| (fs::read_to_string(&path).unwrap().lines().count(), name(&path)))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .map(|(lines, file)| format!("{file}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> = rust_files(&root().join("src"))
        .iter()
        .filter(|path| !name(path).ends_with("tests.rs"))
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//!"))
        .map(|path| name(path))
        .collect();
    assert!(silent.is_empty(), "{silent:#?}");
}
