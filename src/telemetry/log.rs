//! The log: to stderr, as text or as one JSON object a line.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use super::line::Line;
use super::stderr::Lines;
use crate::config::{LogConfig, LogFormat};
use env_logger::Target;
use log::{LevelFilter, Record};

/// Other crates' records above this level are dropped whatever the filter is: some print the bytes they carry, which are
/// prompts and keys.
const OTHERS_AT_MOST: LevelFilter = LevelFilter::Warn;

/// Logs an error for each body that was cut, which the coordinator does on purpose after it has logged why, and for each
/// request that is not HTTP.
const MUTED: &str = "actix_http::h1::dispatcher";

/// How long the last lines may take at the end of the process.
const LAST_LINES: Duration = Duration::from_secs(1);

static LINES: OnceLock<Lines> = OnceLock::new();

/// Starts logging by an env_logger filter, and logs panics by their place alone, since their text may quote data. A
/// second call changes nothing. If no thread can be started, each line is written by the thread that logs it.
pub(crate) fn init(config: &LogConfig) {
    let format = config.format;
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(&config.filter);
    let lines = Lines::start(io::stderr()).ok();
    if let Some(lines) = &lines {
        builder.target(Target::Pipe(Box::new(lines.clone())));
    }
    builder.format(move |out, record| {
        if foreign(record) && (record.level() > OTHERS_AT_MOST || record.target() == MUTED) {
            return Ok(());
        }
        let line = Line::new(humantime::format_rfc3339_millis(SystemTime::now()), record);
        match format {
            LogFormat::Text => writeln!(out, "{line}"),
            LogFormat::Json => writeln!(out, "{}", line.json()),
        }
    });
    if builder.try_init().is_ok() {
        if let Some(lines) = lines {
            let _ = LINES.set(lines);
        }
        std::panic::set_hook(Box::new(|info| {
            let thread = std::thread::current();
            let place = info.location().map_or_else(String::new, ToString::to_string);
            let name = thread.name().unwrap_or("unnamed");
            log::error!(target: "outpost::agent", thread = name, at = place; "panic");
        }));
    }
}

/// Waits a moment for the last lines to be written. For the end of the process.
pub(crate) fn finish() {
    if let Some(lines) = LINES.get() {
        lines.flush(LAST_LINES);
    }
}

fn foreign(record: &Record<'_>) -> bool {
    let target = record.target();
    target != "outpost" && !target.starts_with("outpost::")
}

#[cfg(test)]
mod tests {
    use log::{Log as _, Metadata};

    use crate::config::vars;
    use crate::messages::ids::{Generation, JobId};
    use crate::telemetry::Event;
    use crate::telemetry::events::{Dialling, JobStarted};

    fn is_logged(filter: &str, event: &Event) -> bool {
        let logger = env_logger::Builder::new().parse_filters(filter).build();
        let kind = event.describe().kind();
        logger.enabled(&Metadata::builder().target(kind.target).level(kind.level).build())
    }

    #[test]
    fn the_documented_filter_selects_events_by_their_target() {
        let job = JobStarted { job: JobId::random(), backend: "vllm".into() }.into();
        let dial = Dialling { generation: Generation::default(), addr: "c:1".into() }.into();
        assert!(!is_logged("info", &job));
        assert!(is_logged(vars::LOG.example, &job));
        assert!(is_logged(vars::LOG.example, &dial));
        assert!(!is_logged("off,outpost::jobs=debug", &dial));
        // A filter for the whole crate covers every target.
        assert!(is_logged("off,outpost=debug", &job) && is_logged("off,outpost=debug", &dial));
    }
}
