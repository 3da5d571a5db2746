//! Where variables come from: the process, a file, a map of a test, or one laid over the other.
//!
//! Nothing is judged here but whether a value is text. Values are wiped when they are dropped, since some are secrets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use zeroize::Zeroizing;

/// A set of variables. Read once at start; nothing reads the process's environment later.
pub trait Environment {
    /// The value of a variable, `None` where it is not set.
    ///
    /// # Errors
    /// Where there is a value and it is not UTF-8, so that it can't be mistaken for one that is not set.
    fn get(&self, name: &str) -> Result<Option<Zeroizing<String>>, NotUnicode>;

    /// The names of all variables, in no particular order.
    fn names(&self) -> Vec<String>;

    /// Files that hold secrets among these variables and that other users can read.
    fn exposed_files(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// A variable's value is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not UTF-8")]
pub struct NotUnicode;

/// The environment the process was started with.
pub(crate) struct ProcessEnvironment(BTreeMap<String, Result<Zeroizing<String>, NotUnicode>>);

impl ProcessEnvironment {
    /// Takes a copy.
    pub(crate) fn read() -> Self {
        let entry = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            (name.to_string_lossy().into_owned(), value.into_string().map(Zeroizing::new).map_err(|_| NotUnicode))
        };
        Self(std::env::vars_os().map(entry).collect())
    }
}

impl Environment for ProcessEnvironment {
    fn get(&self, name: &str) -> Result<Option<Zeroizing<String>>, NotUnicode> {
        self.0.get(name).cloned().transpose()
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

/// Variables in memory.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MapEnvironment(BTreeMap<String, Zeroizing<String>>);

impl MapEnvironment {
    /// Sets a variable; the last value holds.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), Zeroizing::new(value.into()));
    }

    /// The same with one more variable.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.set(name, value);
        self
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for MapEnvironment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(entries: I) -> Self {
        Self(entries.into_iter().map(|(name, value)| (name.into(), Zeroizing::new(value.into()))).collect())
    }
}

impl<N: Into<String>, V: Into<String>, const COUNT: usize> From<[(N, V); COUNT]> for MapEnvironment {
    fn from(entries: [(N, V); COUNT]) -> Self {
        entries.into_iter().collect()
    }
}

impl Environment for MapEnvironment {
    fn get(&self, name: &str) -> Result<Option<Zeroizing<String>>, NotUnicode> {
        Ok(self.0.get(name).cloned())
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

/// One environment over another: what the upper one sets, if only to nothing, hides the lower one's.
pub(crate) struct Layered<'a> {
    /// Wins.
    pub upper: &'a dyn Environment,
    /// Used where the upper one has no value.
    pub lower: &'a dyn Environment,
}

impl Environment for Layered<'_> {
    fn get(&self, name: &str) -> Result<Option<Zeroizing<String>>, NotUnicode> {
        match self.upper.get(name)? {
            Some(value) => Ok(Some(value)),
            None => self.lower.get(name),
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names = self.upper.names();
        names.extend(self.lower.names());
        names.sort_unstable();
        names.dedup();
        names
    }

    fn exposed_files(&self) -> Vec<PathBuf> {
        [self.upper.exposed_files(), self.lower.exposed_files()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_layer_wins_and_its_empty_value_hides_the_lower_one() {
        let upper = MapEnvironment::from([("A", "1"), ("B", "")]);
        let lower = MapEnvironment::from([("A", "2"), ("B", "2"), ("C", "2")]);
        let both = Layered { upper: &upper, lower: &lower };
        let values = ["A", "B", "C", "D"].map(|name| both.get(name).unwrap());
        assert_eq!(
            values,
            [Some("1"), Some(""), Some("2"), None].map(|value| value.map(|text| text.to_owned().into()))
        );
        assert_eq!(both.names(), ["A", "B", "C"]);
    }

    #[test]
    fn the_process_environment_is_seen() {
        let process = ProcessEnvironment::read();
        assert_eq!(process.get("PATH").unwrap().as_deref().cloned(), std::env::var("PATH").ok());
        assert!(process.names().contains(&"PATH".to_owned()));
    }
}
