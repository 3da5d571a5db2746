//! Takes variables out of an environment and keeps account of everything that is wrong with them.
//!
//! A value that is wrong yields `None` and a problem; the caller reads on, and [`Reader::finish`] decides at the end.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::environment::Environment;
use super::report::{Cause, Problem, Report, Warning};
use super::units;
use super::variable::{Fallback, Variable};
use crate::messages::secret::Secret;

/// The most a file with a secret may hold, in bytes.
const SECRET_FILE_MAX: u64 = 64 * 1024;

/// Reads one configuration.
pub(super) struct Reader<'a> {
    env: &'a dyn Environment,
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

/// Where a secret is sent, which decides what may be in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SecretUse {
    /// Into a JSON text.
    Json,
    /// Into an HTTP header.
    Header,
}

impl<'a> Reader<'a> {
    pub(super) fn new(env: &'a dyn Environment) -> Self {
        let exposed = env.exposed_files().into_iter().map(|path| Warning::EnvFileReadableByOthers { path });
        Self { env, problems: Vec::new(), warnings: exposed.collect() }
    }

    pub(super) fn env(&self) -> &'a dyn Environment {
        self.env
    }

    /// Notes that a variable's value, or the one entry of its list that is given here, is wrong.
    pub(super) fn reject(&mut self, variable: &Variable, value: Option<&str>, cause: Cause) {
        self.reject_as(&variable.name, value.and_then(|value| variable.showable(value)), cause, variable.example);
    }

    fn reject_as(&mut self, name: &str, value: Option<String>, cause: Cause, example: &'static str) {
        self.problems.push(Problem { variable: name.to_owned(), value, cause, example });
    }

    /// Whether something is wrong with a variable's value.
    pub(super) fn is_rejected(&self, variable: &Variable) -> bool {
        self.problems.iter().any(|problem| problem.variable == variable.name)
    }

    pub(super) fn warn(&mut self, warning: Warning) {
        self.warnings.push(warning);
    }

    /// A variable's value without the white space around it, `None` where that leaves nothing. `example` is shown where
    /// the value is not text.
    pub(super) fn named(&mut self, name: &str, example: &'static str) -> Option<Zeroizing<String>> {
        match self.env.get(name) {
            Ok(value) => value.map(|value| Zeroizing::new(value.trim().to_owned())).filter(|value| !value.is_empty()),
            Err(_) => {
                self.reject_as(name, None, Cause::NotUnicode, example);
                None
            }
        }
    }

    /// The value of a variable that other programs read too, and that means the same as one of ours.
    pub(super) fn shared<T>(
        &mut self,
        name: &str,
        variable: &Variable,
        parse: impl FnOnce(&str) -> Result<T, Cause>,
    ) -> Option<T> {
        let text = self.named(name, variable.example)?;
        parse(&text).map_err(|cause| self.reject_as(name, variable.showable(&text), cause, variable.example)).ok()
    }

    /// Whether the operator gives it a value.
    pub(super) fn is_set(&self, variable: &Variable) -> bool {
        self.env.get(&variable.name).is_ok_and(|value| value.is_some_and(|value| !value.trim().is_empty()))
    }

    /// The value as it is set, without the default.
    pub(super) fn set_text(&mut self, variable: &Variable) -> Option<Zeroizing<String>> {
        self.named(&variable.name, variable.example)
    }

    /// The value, or the default.
    pub(super) fn text(&mut self, variable: &Variable) -> Option<Zeroizing<String>> {
        let problems = self.problems.len();
        let text = self.set_text(variable);
        match variable.fallback {
            _ if text.is_some() || self.problems.len() > problems => text,
            Fallback::Required => {
                self.reject(variable, None, Cause::Missing);
                None
            }
            Fallback::Value(value) => Some(Zeroizing::new(value.to_owned())),
            Fallback::Unset | Fallback::Derived(_) => None,
        }
    }

    /// The value, or the default, as what it means.
    pub(super) fn parse<T>(&mut self, variable: &Variable, parse: impl FnOnce(&str) -> Result<T, Cause>) -> Option<T> {
        let text = self.text(variable)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(cause) => {
                self.reject(variable, Some(&text), cause);
                None
            }
        }
    }

    /// The entries of a comma list, each as what it means. `None` where it is not set; entries that are wrong are left
    /// out and reported one by one.
    pub(super) fn list<T>(
        &mut self,
        variable: &Variable,
        mut parse: impl FnMut(&str) -> Result<T, Cause>,
    ) -> Option<Vec<T>> {
        let text = self.text(variable)?;
        if units::entries(&text).next().is_none() {
            self.reject(variable, Some(&text), Cause::EmptyList);
        }
        let mut values = Vec::new();
        for entry in units::entries(&text) {
            match parse(entry) {
                Ok(value) => values.push(value),
                Err(cause) => self.reject(variable, Some(entry), cause),
            }
        }
        Some(values)
    }

    /// A secret, from its variable or from the file that the `_FILE` form names.
    pub(super) fn secret(&mut self, variable: &Variable, sent: SecretUse) -> Option<Secret> {
        let direct = self.set_text(variable);
        let file_name = variable.file_name()?;
        let path = self.named(&file_name, "/run/secrets/outpost");
        let (text, name, example) = match (direct, path) {
            (None, None) => return None,
            (Some(_), Some(_)) => {
                self.reject(variable, None, Cause::SecretTwice(file_name));
                return None;
            }
            (Some(text), None) => (text, variable.name.to_string(), variable.example),
            (None, Some(path)) => {
                let path = PathBuf::from(path.as_str());
                match read_secret(&path) {
                    Ok((text, others)) => {
                        if others == Others::MayRead {
                            self.warn(Warning::ReadableByOthers { variable: file_name.clone(), path });
                        }
                        (text, file_name, "/run/secrets/outpost")
                    }
                    Err(cause) => {
                        self.reject_as(&file_name, None, cause, "/run/secrets/outpost");
                        return None;
                    }
                }
            }
        };
        if text.is_empty() || text.chars().any(char::is_control) {
            self.reject_as(&name, None, Cause::NotASecret, example);
            return None;
        }
        if sent == SecretUse::Header && !text.is_ascii() {
            self.reject_as(&name, None, Cause::NotASecretOfAscii, example);
            return None;
        }
        Some(Secret::new(text.as_str()))
    }

    /// The path of a file that can be opened.
    pub(super) fn file(&mut self, variable: &Variable) -> Option<PathBuf> {
        self.parse(variable, |text| {
            let path = PathBuf::from(text);
            let directory = |file: File| file.metadata().map(|metadata| metadata.is_dir());
            match File::open(&path).and_then(directory) {
                Ok(false) => Ok(path),
                Ok(true) => Err(Cause::FileUnreadable { path, kind: std::io::ErrorKind::IsADirectory }),
                Err(error) => Err(Cause::FileUnreadable { path, kind: error.kind() }),
            }
        })
    }

    /// The configuration, if nothing is wrong. `value` is `None` only where something is.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<(T, Vec<Warning>), Report> {
        match value {
            Some(value) if self.problems.is_empty() => Ok((value, self.warnings)),
            _ => Err(Report::new(self.problems, self.warnings)),
        }
    }
}

/// Who can read a file in addition to its owner.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    MayRead,
    MayNot,
}

/// The content of a file with a secret, without the newline at its end.
fn read_secret(path: &Path) -> Result<(Zeroizing<String>, Others), Cause> {
    let unreadable = |error: std::io::Error| Cause::FileUnreadable { path: path.to_owned(), kind: error.kind() };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    let others = if mode & 0o044 == 0 { Others::MayNot } else { Others::MayRead };
    // All the room at once: a buffer that grows leaves copies of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_FILE_MAX as usize + 1));
    file.take(SECRET_FILE_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > SECRET_FILE_MAX {
        return Err(Cause::FileTooLarge { path: path.to_owned(), max: SECRET_FILE_MAX });
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Cause::NotASecret)?;
    let line = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    Ok((Zeroizing::new(line.to_owned()), others))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MapEnvironment;
    use crate::config::vars::{BACKEND_API_KEY, ENROLLMENT_CODE};

    type Outcome = Result<(Option<Secret>, Vec<Warning>), Cause>;

    fn secret(env: &MapEnvironment, variable: &Variable, sent: SecretUse) -> Outcome {
        let mut reader = Reader::new(env);
        let secret = reader.secret(variable, sent);
        reader.finish(Some(secret)).map_err(|report| {
            assert!(matches!(report.problems(), [problem] if problem.value.is_none()));
            report.problems()[0].cause.clone()
        })
    }

    fn from_file(content: &[u8], mode: u32) -> (PathBuf, Outcome) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let env = MapEnvironment::from([("OUTPOST_ENROLLMENT_CODE_FILE", file.path().display().to_string())]);
        (file.path().to_owned(), secret(&env, &ENROLLMENT_CODE, SecretUse::Json))
    }

    #[test]
    fn a_secret_is_the_content_of_its_file_without_the_newline() {
        for (content, expected) in [("a b", "a b"), ("a\n", "a"), ("a\r\n", "a"), (" a ", " a "), ("né\n", "né")] {
            assert_eq!(
                from_file(content.as_bytes(), 0o600).1,
                Ok((Some(Secret::new(expected)), vec![])),
                "{content:?}"
            );
        }
        for content in [b"".as_slice(), b"\n", b"a\n\n", b"a\nb", b"a\0", b"\xff"] {
            assert_eq!(from_file(content, 0o600).1, Err(Cause::NotASecret), "{content:?}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_warned_of() {
        for mode in [0o640, 0o604, 0o444] {
            let (path, read) = from_file(b"a", mode);
            let variable = "OUTPOST_ENROLLMENT_CODE_FILE".to_owned();
            assert_eq!(read, Ok((Some(Secret::new("a")), vec![Warning::ReadableByOthers { variable, path }])));
        }
    }

    #[test]
    fn a_file_has_an_end_and_must_be_there() {
        let most = vec![b'a'; SECRET_FILE_MAX as usize];
        assert!(from_file(&most, 0o600).1.is_ok());
        let (path, read) = from_file(&[most.as_slice(), b"a"].concat(), 0o600);
        assert_eq!(read, Err(Cause::FileTooLarge { path, max: SECRET_FILE_MAX }));
        for (path, kind) in [("/nowhere/x", std::io::ErrorKind::NotFound), ("/tmp", std::io::ErrorKind::IsADirectory)] {
            let env = MapEnvironment::from([("OUTPOST_ENROLLMENT_CODE_FILE", path)]);
            let expected = Err(Cause::FileUnreadable { path: path.into(), kind });
            assert_eq!(secret(&env, &ENROLLMENT_CODE, SecretUse::Json), expected);
        }
    }

    #[test]
    fn a_secret_is_given_in_one_place_only() {
        let env = MapEnvironment::from([("OUTPOST_ENROLLMENT_CODE", "a"), ("OUTPOST_ENROLLMENT_CODE_FILE", "/b")]);
        let expected = Err(Cause::SecretTwice("OUTPOST_ENROLLMENT_CODE_FILE".into()));
        assert_eq!(secret(&env, &ENROLLMENT_CODE, SecretUse::Json), expected);
    }

    #[test]
    fn a_secret_that_goes_into_a_header_is_ascii() {
        let key = BACKEND_API_KEY.for_backend(&"vllm".into());
        for (text, expected) in [("kéy", Cause::NotASecretOfAscii), ("a\r\nX: y", Cause::NotASecret)] {
            let env = MapEnvironment::from([("OUTPOST_BACKEND_VLLM_API_KEY", text)]);
            assert_eq!(secret(&env, &key, SecretUse::Header), Err(expected));
        }
    }
}
