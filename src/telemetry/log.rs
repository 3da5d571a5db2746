//! The log: to stderr, as text or as one JSON object a line.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::Duration;

use env_logger::Target;
use log::{Level, LevelFilter, Record};
use serde::Serialize;

use super::stderr::Lines;
use crate::config::{LogConfig, LogFormat};

/// Other crates' records above this level are dropped whatever the filter says: some print the bytes they carry, which
/// are prompts and keys, and what they say at info of their own workings helps no operator.
const OTHERS_AT_MOST: LevelFilter = LevelFilter::Warn;

/// Says at error that a body was cut, which the coordinator does on purpose after it has logged why, and whatever a
/// client sends that is no HTTP.
const NOT_HEARD: &str = "actix_http::h1::dispatcher";

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: &'a str,
    target: &'a str,
    message: String,
}

/// How long the last lines may take at the end of the process.
const LAST_LINES: Duration = Duration::from_secs(1);

static LINES: OnceLock<Lines> = OnceLock::new();

/// Starts logging by an env_logger filter, and logs panics by their place alone, since their text may quote data. A
/// second call changes nothing. Without a thread to be had, lines are written by whoever logs them.
pub fn init(config: &LogConfig) {
    let format = config.format;
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(&config.filter);
    let lines = Lines::start(io::stderr()).ok();
    if let Some(lines) = &lines {
        builder.target(Target::Pipe(Box::new(lines.clone())));
    }
    builder.format(move |out, record| {
        if foreign(record) && (record.level() > OTHERS_AT_MOST || record.target() == NOT_HEARD) {
            return Ok(());
        }
        let time = humantime::format_rfc3339_millis(std::time::SystemTime::now());
        match format {
            LogFormat::Text => writeln!(out, "{time} {:5} {}", record.level(), record.args()),
            LogFormat::Json => {
                let line = Line {
                    time: time.to_string(),
                    level: level_name(record.level()),
                    target: record.target(),
                    message: record.args().to_string(),
                };
                serde_json::to_writer(&mut *out, &line)?;
                writeln!(out)
            }
        }
    });
    if builder.try_init().is_ok() {
        if let Some(lines) = lines {
            let _ = LINES.set(lines);
        }
        std::panic::set_hook(Box::new(|info| {
            let thread = std::thread::current();
            let place = info.location().map_or_else(String::new, ToString::to_string);
            log::error!("panic thread={} at={place}", thread.name().unwrap_or("unnamed"));
        }));
    }
}

/// Waits a moment for the last lines to be written. For the end of the process.
pub fn finish() {
    if let Some(lines) = LINES.get() {
        lines.flush(LAST_LINES);
    }
}

fn foreign(record: &Record<'_>) -> bool {
    let target = record.target();
    target != "outpost" && !target.starts_with("outpost::")
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

#[cfg(test)]
mod tests {
    use log::{Log as _, Metadata};

    use crate::config::vars;
    use crate::messages::ids::{Generation, JobId};
    use crate::telemetry::Event;

    fn is_logged(filter: &str, event: &Event) -> bool {
        let logger = env_logger::Builder::new().parse_filters(filter).build();
        logger.enabled(&Metadata::builder().target(event.target()).level(event.level()).build())
    }

    #[test]
    fn the_documented_filter_selects_events_by_their_target() {
        let job = Event::JobStarted { job: JobId::random(), backend: "vllm".into() };
        let dial = Event::Dialling { generation: Generation::default(), target: "c:1".into() };
        assert!(!is_logged("info", &job));
        assert!(is_logged(vars::LOG.example, &job));
        assert!(is_logged(vars::LOG.example, &dial));
        assert!(!is_logged("off,outpost::jobs=debug", &dial));
        // A filter for the whole crate covers every target.
        assert!(is_logged("off,outpost=debug", &job) && is_logged("off,outpost=debug", &dial));
    }
}
