//! A log line, as text and as JSON.

use std::fmt::{self, Display};

use log::{Level, Record};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::field::{AsText, add_to_map};
use crate::messages::untrusted::UntrustedJson;

/// A record at a time.
pub(super) struct Line<'a, 'r, T> {
    time: T,
    record: &'a Record<'r>,
}

impl<'a, 'r, T: Display> Line<'a, 'r, T> {
    pub(super) fn new(time: T, record: &'a Record<'r>) -> Self {
        Self { time, record }
    }

    /// One JSON object whose members are `time`, `level`, `target`, `message` and the fields.
    pub(super) fn json(&self) -> String {
        UntrustedJson(&serde_json::to_string(self).unwrap_or_default()).to_string()
    }
}

impl<T: Display> Display for Line<'_, '_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.record;
        write!(f, "{} {:5} {}{}", self.time, record.level(), record.args(), AsText(record.key_values()))
    }
}

impl<T: Display> Serialize for Line<'_, '_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &format_args!("{}", self.time))?;
        map.serialize_entry("level", level_name(self.record.level()))?;
        map.serialize_entry("target", self.record.target())?;
        map.serialize_entry("message", self.record.args())?;
        add_to_map(&mut map, self.record.key_values())?;
        map.end()
    }
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
    use serde_json::{Value, json};

    use super::*;
    use crate::core::session::close::LinkEnd;
    use crate::messages::ids::Generation;
    use crate::telemetry::Event;
    use crate::telemetry::events::{CapabilitiesSent, Disconnected, EventKind};

    fn line<R>(event: impl Into<Event>, read: impl FnOnce(&Line<'_, '_, &str>) -> R) -> R {
        let event = event.into();
        let event = event.describe();
        let (fields, EventKind { target, level, message, .. }) = (event.fields(), event.kind());
        let mut record = Record::builder();
        record.target(target).level(level).key_values(&fields);
        read(&Line::new("now", &record.args(format_args!("{message}")).build()))
    }

    fn hostile() -> Disconnected {
        let reason = "is \"x\"\nlevel=error \\ \u{1b}[2J\u{202e}".to_owned();
        let end = LinkEnd::CloseFrame { code: Some(4001), reason };
        Disconnected { generation: Generation::default(), cause: end.into() }
    }

    #[test]
    fn untrusted_text_is_escaped_once_in_text() {
        let escaped = r#", code 4001: is \"x\"\u{a}level=error \\ \u{1b}[2J\u{202e}""#;
        let shown = line(hostile(), |line| line.to_string());
        assert!(shown.ends_with(escaped), "{shown}");
    }

    #[test]
    fn untrusted_text_is_escaped_once_in_json() {
        let shown = line(hostile(), |line| line.json());
        assert!(shown.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{shown}");
        let read: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read["cause"], hostile().cause.to_string());
    }

    #[test]
    fn a_line_has_a_message_and_typed_fields_in_both_forms() {
        let event = || CapabilitiesSent { generation: Generation::numbered(3), models: 2 };
        assert_eq!(line(event(), |line| line.to_string()), "now INFO  capabilities sent generation=3 models=2");
        let read: Value = serde_json::from_str(&line(event(), |line| line.json())).unwrap();
        let expected = json!({
            "time": "now", "level": "info", "target": "outpost::connection", "message": "capabilities sent",
            "generation": 3, "models": 2,
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn a_close_without_a_reason_shows_none() {
        let end = |code| LinkEnd::CloseFrame { code, reason: String::new() }.to_string();
        assert_eq!(end(Some(1000)), "the coordinator closed the connection, code 1000");
        assert_eq!(end(None), "the coordinator closed the connection, without a code");
    }
}
