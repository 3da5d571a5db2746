//! Variables with our prefix that nothing reads: most likely misspelt, so they are reported.

use super::backends::Backends;
use super::reader::Reader;
use super::report::Warning;
use super::variable::Variable;
use super::vars::{PER_BACKEND, TABLE};
use crate::messages::ids::BackendId;

const PREFIX: &str = "OUTPOST_";
const BACKEND_PREFIX: &str = "OUTPOST_BACKEND_";

/// Warns of every variable that has no effect. Without `backends`, those of single backends are not judged.
pub(super) fn warn(reader: &mut Reader<'_>, backends: Option<&Backends>) {
    let names = backends.map(Backends::names);
    let known = known(names.as_deref().unwrap_or_default());
    let mut strangers = reader.env().names();
    strangers.retain(|name| name.starts_with(PREFIX) && !known.contains(name));
    strangers.sort_unstable();
    for name in strangers {
        match &names {
            None if is_per_backend(&name) => {}
            Some(names) if is_per_backend(&name) && !is_near(&name, &known) => {
                let backends = names.iter().map(ToString::to_string).collect();
                reader.warn(Warning::NoSuchBackend { name, backends });
            }
            _ => {
                let nearest = nearest(&name, &known);
                reader.warn(Warning::Unknown { name, nearest });
            }
        }
    }
}

/// Every name that is read, for these backends.
fn known(backends: &[BackendId]) -> Vec<String> {
    let fixed = TABLE.into_iter().filter(|variable| !variable.is_per_backend()).cloned();
    let per_backend = backends.iter().flat_map(|name| PER_BACKEND.map(|variable| variable.for_backend(name)));
    fixed.chain(per_backend).flat_map(|variable| forms(&variable)).collect()
}

fn forms(variable: &Variable) -> impl Iterator<Item = String> + use<> {
    std::iter::once(variable.name.to_string()).chain(variable.file_name())
}

/// Whether it is a variable for some backend, whatever its name.
fn is_per_backend(name: &str) -> bool {
    let suffixes = PER_BACKEND.into_iter().flat_map(forms);
    let mut suffixes = suffixes.filter_map(|form| form.rsplit_once('>').map(|(_, suffix)| suffix.to_owned()));
    name.strip_prefix(BACKEND_PREFIX)
        .is_some_and(|rest| suffixes.any(|suffix| rest.len() > suffix.len() && rest.ends_with(&suffix)))
}

/// Whether a slip of one letter explains the name.
fn is_near(name: &str, known: &[String]) -> bool {
    known.iter().any(|other| strsim::damerau_levenshtein(name, other) == 1)
}

/// The known name that is most like this one, if any is.
fn nearest(name: &str, known: &[String]) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    let likeness = |other: &&String| (strsim::jaro_winkler(tail(&upper), tail(other)) * 1000.0) as u32;
    let best = known.iter().max_by_key(likeness)?;
    (likeness(&best) >= 850).then(|| best.clone())
}

fn tail(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_known_name_is_found_where_one_is_near() {
        let known = known(&["vllm".into()]);
        for (name, expected) in [
            ("OUTPOST_COORDINATOR_ULR", Some("OUTPOST_COORDINATOR_URL")),
            ("OUTPOST_MAX_CONCURENT", Some("OUTPOST_MAX_CONCURRENT")),
            ("OUTPOST_BACKEND", Some("OUTPOST_BACKENDS")),
            ("OUTPOST_ENROLMENT_CODE_FILE", Some("OUTPOST_ENROLLMENT_CODE_FILE")),
            ("OUTPOST_Log", Some("OUTPOST_LOG")),
            ("OUTPOST_QQQQ", None),
        ] {
            assert_eq!(nearest(name, &known).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn variables_of_backends_are_told_by_their_end() {
        for name in ["OUTPOST_BACKEND_X_API_KEY", "OUTPOST_BACKEND_A_B_API_KEY_FILE", "OUTPOST_BACKEND_X_MARKUP"] {
            assert!(is_per_backend(name), "{name}");
        }
        for name in ["OUTPOST_BACKENDS", "OUTPOST_BACKEND_MODELS", "OUTPOST_BACKEND__MODELS_X", "OUTPOST_PRICES"] {
            assert!(!is_per_backend(name), "{name}");
        }
    }
}
