//! Where events go: to the log, and to the owner of the snapshot.

use std::sync::Arc;

use log::Record;

use super::Event;

/// Takes events. Cheap to clone, for any thread.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// Events that are logged and then passed to `sink`.
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Logs an event and passes it on.
    pub fn emit(&self, event: impl Into<Event>) {
        let event = event.into();
        write_to_log(&event);
        (self.0)(event);
    }
}

fn write_to_log(event: &Event) {
    let (target, level) = (event.target(), event.level());
    if log::log_enabled!(target: target, level) {
        let fields = event.fields();
        let mut record = Record::builder();
        record.target(target).level(level).key_values(&fields);
        log::logger().log(&record.args(format_args!("{}", event.message())).build());
    }
}
