//! The log: to stderr, as text or as one JSON object a line.

use std::io::Write;

use log::{Level, LevelFilter, Record};
use serde::Serialize;

use crate::config::{LogConfig, LogFormat};

/// Other crates' records above this level are dropped whatever the filter says: some print the bytes they carry, which
/// are prompts and keys, and what they say at info of their own workings helps no operator.
const OTHERS_AT_MOST: LevelFilter = LevelFilter::Warn;

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: &'a str,
    target: &'a str,
    message: String,
}

/// Starts logging by an env_logger filter, and logs panics by their place alone, since their text may quote data. A
/// second call changes nothing.
pub fn init(config: &LogConfig) {
    let format = config.format;
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(&config.filter);
    builder.format(move |out, record| {
        if foreign(record) && record.level() > OTHERS_AT_MOST {
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
        std::panic::set_hook(Box::new(|info| {
            let thread = std::thread::current();
            let place = info.location().map_or_else(String::new, ToString::to_string);
            log::error!("panic thread={} at={place}", thread.name().unwrap_or("unnamed"));
        }));
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
