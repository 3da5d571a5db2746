//! The structure of the crate: layers, import cycles, purity, and the size and first line of each file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first. Modules of one layer do not import each other.
const LAYERS: &[&[&str]] = &[
    &["messages"],
    &["core", "config"],
    &["identity", "transport"],
    &["telemetry"],
    &["accounts"],
    &["backends", "conformance", "status"],
    &["relay"],
    &["actors", "coordinator"],
    &["testkit", "app"],
    &["dev"],
    &["cli", "fuzzing", "internals"],
];
/// Imports that close a cycle and are allowed: a file, the file that it imports, and why. Remove an entry with its cycle.
const ALLOWED_IN_CYCLES: &[(&str, &str, &str)] = &[(
    "src/relay/outbox.rs",
    "src/relay/job_stream.rs",
    "a queue of streams, and streams that queue themselves: one structure",
)];
/// The most lines a file may have.
const MAX_LINES: usize = 400;
/// The one file that may import the package that the WebSocket session is built on.
const SESSION: &str = "src/coordinator/agents/session.rs";

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

/// Whether only tests use a file, by its name.
fn is_test(file: &str) -> bool {
    file.ends_with("tests.rs") || file.contains("/tests/")
}

/// A source without comments and without the items under `#[cfg(test)]`. The sources are formatted, so an item ends at a
/// line of its own indentation.
fn code(source: &str) -> String {
    let mut kept = String::new();
    let mut lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    while let Some(line) = lines.next() {
        if !["#[cfg(test)]", "#[cfg(all(test,"].iter().any(|start| line.trim().starts_with(start)) {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let Some(item) = lines.find(|line| !line.trim_start().starts_with("#[")) else { break };
        if !item.ends_with([';', '}', ',']) {
            lines.find(|line| line.trim() == "}" && line.len() - line.trim_start().len() == indent);
        }
    }
    kept
}

/// The code of every file below a folder of the repository that is not only for tests.
fn codes(folder: &str) -> Vec<(String, String)> {
    let files = rust_files(&root().join(folder)).into_iter().map(|path| (name(&path), path));
    files
        .filter(|(file, _)| !is_test(file))
        .map(|(file, path)| (file, code(&fs::read_to_string(path).unwrap())))
        .collect()
}

/// A name that a `use` declaration brings in.
struct Declaration {
    name: String,
    path: Vec<String>,
    is_export: bool,
}

/// A path of modules below the crate.
type Module = Vec<String>;

/// The modules of the crate that are files, and what each of them imports.
struct Crate {
    files: BTreeMap<Module, (String, String)>,
    uses: BTreeMap<Module, Vec<Declaration>>,
}

impl Crate {
    fn read() -> Self {
        let module = |file: &str| -> Module {
            let parts = file.strip_prefix("src/").unwrap().strip_suffix(".rs").unwrap().split('/');
            parts.filter(|part| !["mod", "lib", "main"].contains(part)).map(Into::into).collect()
        };
        let files: BTreeMap<_, _> =
            codes("src").into_iter().map(|(file, code)| (module(&file), (file, code))).collect();
        let uses = files.iter().map(|(module, (_, code))| (module.clone(), declarations(code))).collect();
        Self { files, uses }
    }

    /// The path from the crate's root that a path in a module stands for. None if it leads out of the crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let child = [module, std::slice::from_ref(first)].concat();
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([module, rest].concat()),
            "super" => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                Some([module.get(..module.len().checked_sub(ups)?)?, path.get(ups..)?].concat())
            }
            _ if self.files.contains_key(&child) => Some([module, path].concat()),
            _ => None,
        }
    }

    /// The module whose file defines what a path from the crate's root names. A name that a module only imports or
    /// exports again is looked up where it comes from.
    fn resolve(&self, path: &[String], depth: usize) -> Module {
        let longest = (0..=path.len()).rev().find(|len| self.files.contains_key(&path[..*len])).unwrap_or(0);
        let (module, rest) = path.split_at(longest);
        let imported = rest.first().and_then(|item| self.uses[module].iter().find(|used| used.name == **item));
        match imported.and_then(|used| self.absolute(module, &used.path)) {
            Some(path) if depth < 10 => self.resolve(&[path, rest[1..].to_vec()].concat(), depth + 1),
            _ => module.to_vec(),
        }
    }

    /// For each file, the files that it imports from: by `use` declarations and by paths in its code. A module that only
    /// exports a name of one of its submodules does not import it.
    fn imports(&self) -> BTreeMap<String, BTreeSet<String>> {
        let of = |module: &Module| {
            let (file, code) = &self.files[module];
            let rest = parted(code).1;
            let words: BTreeSet<&str> = rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').collect();
            let is_imported = |used: &&Declaration| {
                let path = self.absolute(module, &used.path).unwrap_or_default();
                !used.is_export || !path.starts_with(module) || words.contains(used.name.as_str())
            };
            let used = self.uses[module].iter().filter(is_imported).map(|used| used.path.clone()).chain(paths(&rest));
            let targets = used.filter_map(|path| self.absolute(module, &path)).map(|path| self.resolve(&path, 0));
            let files = targets.map(|target| self.files[&target].0.clone()).filter(|target| target != file);
            (file.clone(), files.collect())
        };
        self.files.keys().map(of).collect()
    }
}

fn segments(path: &str) -> Vec<String> {
    path.split("::").map(|part| part.trim().to_owned()).collect()
}

/// The `use` declarations of a source, each with whether it exports, and the rest of the code.
fn parted(code: &str) -> (Vec<(bool, String)>, String) {
    let (mut trees, mut rest) = (Vec::new(), String::new());
    for statement in code.split_inclusive(';') {
        let lines: Vec<&str> = statement.lines().map(str::trim).collect();
        let is_use = |line: &&str| line.starts_with("use ") || (line.starts_with("pub") && line.contains(" use "));
        let start = lines.iter().position(is_use).unwrap_or(lines.len());
        rest.extend(lines[..start].iter().flat_map(|line| [*line, "\n"]));
        let tree = lines[start..].join(" ");
        let parts = tree.split_once("use ");
        trees.extend(parts.map(|(before, tree)| (!before.is_empty(), tree.trim_end_matches(';').to_owned())));
    }
    (trees, rest)
}

/// The names that the `use` declarations of a source bring in.
fn declarations(code: &str) -> Vec<Declaration> {
    let mut found = Vec::new();
    for (is_export, tree) in parted(code).0 {
        for path in expanded(&tree) {
            let (path, name) = path.split_once(" as ").unwrap_or((&path, ""));
            let mut path = segments(path);
            path.pop_if(|last| last == "self");
            let name = if name.is_empty() { path.last().cloned().unwrap_or_default() } else { name.trim().to_owned() };
            found.push(Declaration { name, path, is_export });
        }
    }
    found
}

/// The paths of a tree of `use`: `a::{b, c::{d, e}}` is `a::b`, `a::c::d` and `a::c::e`.
fn expanded(tree: &str) -> Vec<String> {
    let Some((before, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let inside = rest.rsplit_once('}').map_or(rest, |(inside, _)| inside);
    let (mut parts, mut depth) = (vec![String::new()], 0_usize);
    for letter in inside.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(letter);
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| expanded(part)).map(|part| format!("{}{part}", before.trim())).collect()
}

/// The paths of at least two segments in a code without `use` declarations.
fn paths(code: &str) -> Vec<Vec<String>> {
    let words = code.split(|letter: char| !letter.is_alphanumeric() && !"_:".contains(letter));
    words.map(|word| segments(word.trim_end_matches(':'))).filter(|path| path.len() > 1).collect()
}

/// Each group of files that import each other, with a cycle as an example: in each group, every file can be reached from
/// every other.
fn cycles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = Vec::new();
    for start in imports.keys() {
        if found.iter().any(|cycle| cycle.contains(start)) {
            continue;
        }
        // The shortest way back to the start, breadth first.
        let (mut ways, mut seen) = (vec![vec![start.clone()]], BTreeSet::new());
        while !ways.is_empty() {
            let mut longer = Vec::new();
            for way in ways {
                for next in imports.get(way.last().unwrap()).into_iter().flatten() {
                    if seen.insert(next.clone()) {
                        longer.push([&way[..], std::slice::from_ref(next)].concat());
                    }
                }
            }
            found.extend(longer.iter().find(|way| way.last() == Some(start)).cloned());
            ways = longer;
        }
    }
    found
}

#[test]
fn a_module_imports_only_from_the_layers_below() {
    let layer = |module: &str| {
        let position = LAYERS.iter().position(|layer| layer.contains(&module));
        position.unwrap_or_else(|| panic!("module {module} has no layer: add it to LAYERS"))
    };
    let of = |file: &str| file.split(['/', '.']).nth(1).unwrap().to_owned();
    let mut wrong = Vec::new();
    for path in rust_files(&root().join("src")) {
        let (file, source) = (name(&path), fs::read_to_string(&path).unwrap());
        let own = of(&file);
        if ["main", "lib"].contains(&own.as_str()) {
            continue;
        }
        let code: String = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            assert!(!rest.starts_with('{'), "write one `use crate::…` line a module: {file}");
            let imported: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if imported != own && layer(&imported) >= layer(&own) {
                wrong.push(format!("{file} imports {imported}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_files_import_each_other() {
    let mut imports = Crate::read().imports();
    for (file, imported, _) in ALLOWED_IN_CYCLES {
        imports.get_mut(*file).map(|files| files.remove(*imported));
    }
    let cycles: Vec<String> = cycles(&imports).iter().map(|cycle| cycle.join(" -> ")).collect();
    assert!(cycles.is_empty(), "{cycles:#?}");
}

#[test]
fn imports_are_found_in_declarations_and_in_paths() {
    let tree = "use super::{self, a::{B, C as D}, e};\npub(crate) use crate::f::G;\nfn h() { i::j() }\n";
    let text: Vec<_> =
        declarations(tree).iter().map(|used| format!("{}={}", used.name, used.path.join("::"))).collect();
    assert_eq!(text, ["super=super", "B=super::a::B", "D=super::a::C", "e=super::e", "G=crate::f::G"]);
    assert!(paths(&parted(tree).1).contains(&segments("i::j")));
    let graph = |edges: &[(&str, &[&str])]| {
        edges.iter().map(|(from, to)| (from.to_string(), to.iter().map(|to| to.to_string()).collect())).collect()
    };
    assert_eq!(cycles(&graph(&[("a", &["b"]), ("b", &["c"]), ("c", &[])])), Vec::<Vec<String>>::new());
    assert_eq!(cycles(&graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])])), [["b", "c", "b"]]);
}

/// The lines of a folder's code that hold one of these words.
fn uses_of(folder: &str, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (file, code) in codes(folder) {
        let lines = code.lines().filter(|line| words.iter().any(|word| line.contains(word)));
        found.extend(lines.map(|line| format!("{file}: {}", line.trim())));
    }
    found
}

#[test]
fn the_core_has_no_actor_no_runtime_no_clock_and_no_environment() {
    let banned =
        ["actix", "tokio", "Instant::now", "SystemTime::now", "std::env", "std::fs", "std::net", "rand::rng()"];
    assert_eq!(uses_of("src/core", &banned), Vec::<String>::new());
}

#[test]
fn messages_are_plain_data() {
    let banned =
        ["tokio", "Instant::now", "SystemTime::now", "std::env", "std::fs", "std::net", "rand::", "serde_json"];
    assert_eq!(uses_of("src/messages", &banned), Vec::<String>::new());
    let mut actix = uses_of("src/messages", &["actix"]);
    actix.retain(|line| !line.contains("actix::Message"));
    assert_eq!(actix, Vec::<String>::new(), "of actix only the trait Message");
}

#[test]
fn an_actor_holds_recipients_and_only_the_supervisor_holds_addresses() {
    let mut wrong = uses_of("src/actors", &["Addr<"]);
    // A pool owns its workers and stops them: it is their supervisor.
    wrong.retain(|line| !line.starts_with("src/actors/supervisor") && !line.starts_with("src/actors/pool.rs"));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_the_files_of_the_kinds_name_a_kind_of_backend() {
    // The row of each kind: what the configuration and the rules, which are below the backends, need to know of it.
    let facts = "src/messages/backend.rs";
    let mut wrong = uses_of("src", &["BackendKind::"]);
    wrong.retain(|line| !line.starts_with("src/backends/kinds/") && !line.starts_with(facts));
    let is_variant = |name: &str| {
        let name: String = name.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
        name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase)
    };
    wrong.retain(|line| line.split("BackendKind::").skip(1).any(is_variant));
    assert_eq!(wrong, Vec::<String>::new());
    let imports = uses_of("src", &["BackendKind::{", "BackendKind::*"]);
    assert_eq!(imports, Vec::<String>::new(), "variants are named with their type, so that this test finds them");
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
fn the_runtime_is_compiled_once_for_all_tests_of_a_folder() {
    // `outpost::testkit::System` says what this saves.
    let attribute = concat!("#[actix_rt", "::test]");
    assert_eq!(uses_of("tests", &[attribute]), Vec::<String>::new());
}

#[test]
fn no_file_is_longer_than_400_lines() {
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
fn every_file_starts_with_its_documentation() {
    let silent: Vec<String> = rust_files(&root().join("src"))
        .iter()
        .filter(|path| !name(path).ends_with("tests.rs"))
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//!"))
        .map(|path| name(path))
        .collect();
    assert!(silent.is_empty(), "{silent:#?}");
}
