//! The links and the paths in the documents lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders of the repository whose files the documents name by path.
const FOLDERS: [&str; 7] = ["src/", "tests/", "benches/", "fuzz/", "scripts/", "docs/", "config/"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README.md, CONTRIBUTING.md, that of the fuzzer, and all of `docs/`.
fn documents() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let of_folder = folder.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    ["README.md", "CONTRIBUTING.md", "fuzz/README.md"]
        .map(|name| root().join(name))
        .into_iter()
        .chain(of_folder)
        .collect()
}

/// Targets of `[text](target)`.
fn links(text: &str) -> Vec<&str> {
    let target = |(at, mark): (usize, &str)| text[at + mark.len()..].split([')', ' ', '\n']).next();
    text.match_indices("](").filter_map(target).collect()
}

/// Paths of files and folders of the repository.
fn paths(text: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let words = text.split(|c| !is_part(c)).map(|word| word.trim_end_matches(['.', '/']));
    words.filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder))).collect()
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

fn is_relative(link: &str) -> bool {
    !link.contains(':') && !link.is_empty()
}

/// What is wrong with a link from a document, if anything.
fn broken(document: &Path, link: &str) -> Option<String> {
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let target = if file.is_empty() { document.to_owned() } else { document.parent()?.join(file) };
    let found = match anchor {
        None => target.exists(),
        Some(anchor) => fs::read_to_string(&target).is_ok_and(|text| anchors(&text).iter().any(|own| own == anchor)),
    };
    (!found).then(|| format!("{}: {link}", document.display()))
}

#[test]
fn every_relative_link_has_a_target() {
    let mut wrong = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        wrong.extend(
            links(&text).into_iter().filter(|link| is_relative(link)).filter_map(|link| broken(&document, link)),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_path_of_the_repository_exists() {
    let mut wrong = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        // A module is a folder or a file.
        let exists = |path: &&str| root().join(path).exists() || root().join(format!("{path}.rs")).exists();
        let missing = paths(&text).into_iter().filter(|path| !exists(path));
        wrong.extend(missing.map(|path| format!("{}: {path}", document.display())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The names of metrics in a text. The parts of a histogram count as the histogram.
fn metrics(text: &str) -> Vec<&str> {
    let words =
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("outpost_"));
    words.map(|word| word.strip_suffix("_bucket").or(word.strip_suffix("_count")).unwrap_or(word)).collect()
}

#[test]
fn the_alerts_name_only_metrics_that_there_are() {
    let documented = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let known = metrics(&documented);
    for file in ["alerts.yml", "alerts_test.yml"] {
        let alerts = fs::read_to_string(root().join("config/prometheus").join(file)).unwrap();
        let named = metrics(&alerts);
        assert!(named.len() > 10);
        let unknown: Vec<_> = named.iter().filter(|name| !known.contains(name)).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

#[test]
fn links_and_paths_are_found_in_a_text() {
    let text = "# A b, c\nSee [x](y.md#z), `src/lib.rs`, /src/no and src/core/. ![p](q.svg)";
    assert_eq!(links(text), ["y.md#z", "q.svg"]);
    assert_eq!(paths(text), ["src/lib.rs", "src/core"]);
    assert_eq!(anchors(text), ["a-b-c"]);
}
