//! Files of variables, in the format of systemd's `EnvironmentFile`.
//!
//! What systemd takes means the same here. What it skips with a line in its journal, or without one, is an error here: a
//! line without `=`, an invalid name, a quote that is never closed. Errors name the place and never the content, since a line may
//! hold a secret; buffers are wiped, and never grow, since a buffer that grows leaves a copy behind.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::iter::Peekable;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::Chars;

use zeroize::Zeroizing;

use super::environment::{Environment, MapEnvironment, NotUnicode};
use super::variable::{Secrecy, Variable};
use super::vars::TABLE;

/// The most a file of variables may hold, in bytes.
const MAX: u64 = 1024 * 1024;

/// Why a file of variables can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvFileError {
    /// Not there, not allowed, not a file.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Too much in it.
    #[error("{}: larger than {}", path.display(), bytesize::ByteSize(MAX))]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not UTF-8.
    #[error("{}:{line}: not UTF-8", path.display())]
    NotUnicode {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Lines that make no sense; all of them.
    #[error("{}", Faults(path, lines))]
    Lines {
        /// The file.
        path: PathBuf,
        /// Each line, from 1, with what is wrong.
        lines: Vec<(usize, LineFault)>,
    },
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineFault {
    /// No `=` in it.
    #[error("not NAME=value, nor a comment")]
    NotAnAssignment,
    /// Something before the `=` that is not a name, such as `export NAME`.
    #[error("the part before '=' is not the name of a variable")]
    NotAName,
    /// A quote that is open at the end of the file.
    #[error("the quote that starts here is never closed")]
    OpenQuote,
    /// A zero byte, which no variable can hold.
    #[error("holds a zero byte")]
    ZeroByte,
}

struct Faults<'a>(&'a Path, &'a [(usize, LineFault)]);

impl fmt::Display for Faults<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.1.iter().enumerate().try_for_each(|(index, (line, fault))| {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{line}: {fault}", self.0.display())
        })
    }
}

/// The variables of a file.
#[derive(Default)]
pub(crate) struct EnvFile {
    variables: MapEnvironment,
    /// The file, if other users can read it.
    readable_by_others: Option<PathBuf>,
}

impl EnvFile {
    fn holds_secrets(&self) -> bool {
        let mut names = self.variables.names().into_iter();
        names.any(|name| is_secret(&name) && self.variables.get(&name).is_ok_and(|value| is_set(value.as_ref())))
    }
}

impl Environment for EnvFile {
    fn get(&self, name: &str) -> Result<Option<Zeroizing<String>>, NotUnicode> {
        self.variables.get(name)
    }

    fn names(&self) -> Vec<String> {
        self.variables.names()
    }

    fn exposed_files(&self) -> Vec<PathBuf> {
        self.readable_by_others.iter().filter(|_| self.holds_secrets()).cloned().collect()
    }
}

fn is_set(value: Option<&Zeroizing<String>>) -> bool {
    value.is_some_and(|value| !value.trim().is_empty())
}

/// Whether a variable of this name holds a secret.
fn is_secret(name: &str) -> bool {
    let is_it = |variable: &&Variable| match variable.name.split_once('<') {
        None => variable.name == name,
        Some((start, rest)) => {
            let end = rest.split_once('>').map_or("", |(_, end)| end);
            name.len() > start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        }
    };
    TABLE.into_iter().filter(|variable| variable.secrecy == Secrecy::Secret).any(|variable| is_it(&variable))
}

/// Reads a file of variables.
///
/// # Errors
/// With the file's name, and every line that makes no sense.
pub(crate) fn read_env_file(path: &Path) -> Result<EnvFile, EnvFileError> {
    let unreadable = |source| EnvFileError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let others_can_read = metadata.is_file() && metadata.permissions().mode() & 0o044 != 0;
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX as usize + 1));
    file.take(MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX {
        return Err(EnvFileError::TooLarge { path: path.to_owned() });
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        EnvFileError::NotUnicode {
            path: path.to_owned(),
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
        }
    })?;
    let variables = parse(text).map_err(|lines| EnvFileError::Lines { path: path.to_owned(), lines })?;
    Ok(EnvFile { variables, readable_by_others: others_can_read.then(|| path.to_owned()) })
}

/// The variables of a text; the last assignment to a name holds.
pub(crate) fn parse(text: &str) -> Result<MapEnvironment, Vec<Fault>> {
    let mut scanner = Scanner { rest: text.chars().peekable(), line: 1 };
    // No value is longer than the text.
    let mut value = Zeroizing::new(String::with_capacity(text.len()));
    let mut variables = MapEnvironment::default();
    let mut faults = Vec::new();
    while scanner.skip_to_assignment() {
        value.clear();
        match scanner.assignment(&mut value) {
            Ok(name) => variables.set(name, value.as_str()),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(variables) } else { Err(faults) }
}

/// A value, written so that it is read back as it is.
pub(crate) fn quote(value: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-+./:@,=%~*[]".contains(letter);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    let escaped = value.chars().flat_map(|letter| ESCAPED.contains(letter).then_some('\\').into_iter().chain([letter]));
    format!("\"{}\"", escaped.collect::<String>())
}

/// What a backslash stands before within double quotes.
const ESCAPED: &str = "\"\\`$";

pub(crate) type Fault = (usize, LineFault);

struct Scanner<'a> {
    rest: Peekable<Chars<'a>>,
    /// The line of the next character, from 1.
    line: usize,
}

impl Scanner<'_> {
    fn next(&mut self) -> Option<char> {
        let letter = self.rest.next();
        self.line += usize::from(letter == Some('\n'));
        letter
    }

    /// Skips blank lines and comments; false at the end of the text.
    fn skip_to_assignment(&mut self) -> bool {
        while let Some(letter) = self.rest.peek() {
            if matches!(letter, '#' | ';') {
                while self.next().is_some_and(|letter| !is_line_end(letter)) {}
            } else if is_blank(*letter) || is_line_end(*letter) {
                self.next();
            } else {
                return true;
            }
        }
        false
    }

    /// Reads an assignment; returns its name, and adds its value to `value`.
    fn assignment(&mut self, value: &mut String) -> Result<String, Fault> {
        let start = self.line;
        let mut name = String::new();
        loop {
            match self.next() {
                Some('=') => break,
                None => return Err((start, LineFault::NotAnAssignment)),
                Some(letter) if is_line_end(letter) => return Err((start, LineFault::NotAnAssignment)),
                Some(letter) => name.push(letter),
            }
        }
        name.truncate(name.trim_end_matches(is_blank).len());
        self.value(value)?;
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(letter) || name.starts_with(|first: char| first.is_ascii_digit()) {
            Err((start, LineFault::NotAName))
        } else if value.contains('\0') {
            Err((start, LineFault::ZeroByte))
        } else {
            Ok(name)
        }
    }

    /// Pieces in quotes, one after the other, and at last one without.
    fn value(&mut self, value: &mut String) -> Result<(), Fault> {
        loop {
            let line = self.line;
            match self.next() {
                None => return Ok(()),
                Some('\'') => self.single_quoted(value).ok_or((line, LineFault::OpenQuote))?,
                Some('"') => self.double_quoted(value).ok_or((line, LineFault::OpenQuote))?,
                Some(letter) if is_line_end(letter) => return Ok(()),
                Some(letter) if is_blank(letter) => {}
                Some(letter) => {
                    self.bare(letter, value);
                    return Ok(());
                }
            }
        }
    }

    fn single_quoted(&mut self, value: &mut String) -> Option<()> {
        loop {
            match self.next()? {
                '\'' => return Some(()),
                letter => value.push(letter),
            }
        }
    }

    fn double_quoted(&mut self, value: &mut String) -> Option<()> {
        loop {
            match self.next()? {
                '"' => return Some(()),
                '\\' => match self.next()? {
                    '\n' => {}
                    letter if ESCAPED.contains(letter) => value.push(letter),
                    letter => value.extend(['\\', letter]),
                },
                letter => value.push(letter),
            }
        }
    }

    /// To the end of the line, without the white space there, unless it is escaped. Quotes mean nothing any more.
    fn bare(&mut self, first: char, value: &mut String) {
        let mut kept = value.len();
        let mut next = Some(first);
        while let Some(letter) = next.filter(|letter| !is_line_end(*letter)) {
            if letter == '\\' {
                value.extend(self.next().filter(|letter| !is_line_end(*letter)));
                kept = value.len();
            } else {
                value.push(letter);
                if !is_blank(letter) {
                    kept = value.len();
                }
            }
            next = self.next();
        }
        value.truncate(kept);
    }
}

fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t')
}

/// As for systemd: outside quotes a carriage return ends a line as well as a newline does.
fn is_line_end(letter: char) -> bool {
    matches!(letter, '\n' | '\r')
}

#[cfg(test)]
#[path = "env_file_tests.rs"]
mod tests;
