//! What is logged, and in which form. Read before anything else, so that whatever is wrong can be logged: a value that
//! makes no sense falls back to its default here and is reported with the rest of the configuration.

use std::str::FromStr;

use super::environment::Environment;
use super::reader::Reader;
use super::report::Cause;
use super::vars;

/// How to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogConfig {
    /// What to log, as `env_logger` takes it.
    pub filter: String,
    /// In which form.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// The name in the configuration.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

impl LogConfig {
    /// What the environment sets, and the default where that is not valid.
    pub(crate) fn from_env(env: &dyn Environment) -> Self {
        Self::read(&mut Reader::new(env))
    }

    /// The same, with an account of what makes no sense.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let default = Self::default();
        let own = reader.parse(&vars::LOG, filter);
        let filter = own.or_else(|| reader.shared("RUST_LOG", &vars::LOG, filter));
        let format = reader.parse(&vars::LOG_FORMAT, format);
        Self { filter: filter.unwrap_or(default.filter), format: format.unwrap_or(default.format) }
    }
}

fn format(text: &str) -> Result<LogFormat, Cause> {
    let known = [LogFormat::Text, LogFormat::Json];
    known.into_iter().find(|format| format.as_str() == text).ok_or(Cause::NotAFormat)
}

/// Refuses what `env_logger` would skip with no more than a line on stderr, and a misspelt level, which it would take
/// for the name of a module.
fn filter(text: &str) -> Result<String, Cause> {
    let sound = text.split(',').map(str::trim).all(|directive| match directive.split_once('=') {
        Some((_, level)) => log::LevelFilter::from_str(level.trim()).is_ok(),
        None => !is_misspelt_level(directive),
    });
    if sound && !text.contains('/') { Ok(text.to_owned()) } else { Err(Cause::NotAFilter) }
}

fn is_misspelt_level(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    let distance = |level: log::LevelFilter| strsim::damerau_levenshtein(&word, &level.as_str().to_ascii_lowercase());
    log::LevelFilter::iter().map(distance).min() == Some(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MapEnvironment;

    #[test]
    fn filters_are_levels_and_modules() {
        for text in ["info", "WARN", "off", "info,outpost::actors=debug", "outpost=trace , awc=off", "outpost"] {
            assert!(filter(text).is_ok(), "{text}");
        }
        for text in ["inof", "debugg", "outpost=loud", "a=b=c", "a=info=debug", "info/regex", "outpost="] {
            assert_eq!(filter(text), Err(Cause::NotAFilter), "{text}");
        }
    }

    #[test]
    fn the_own_variable_wins_over_the_shared_one_and_nonsense_falls_back() {
        let filter = |own: &str, shared: &str| {
            LogConfig::from_env(&MapEnvironment::from([("OUTPOST_LOG", own), ("RUST_LOG", shared)])).filter
        };
        assert_eq!(filter("debug", "warn"), "debug");
        assert_eq!(filter("", "warn"), "warn");
        assert_eq!(filter("", ""), "info");
        assert_eq!(filter("a=loud", ""), "info");
        let format = |text: &str| LogConfig::from_env(&MapEnvironment::from([("OUTPOST_LOG_FORMAT", text)])).format;
        assert_eq!(
            [format("json"), format("text"), format("xml")],
            [LogFormat::Json, LogFormat::Text, LogFormat::Text]
        );
    }
}
