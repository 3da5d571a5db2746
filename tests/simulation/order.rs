//! What a client orders: the response, to the byte, and what goes wrong with it. It travels in the text of the request, so that
//! both ends know it.

use bytes::Bytes;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) const MODEL: &str = "m";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) job: u64,
    /// The client's tries, from 0.
    pub(crate) attempt: u32,
    pub(crate) streams: bool,
    pub(crate) events: u64,
    /// Milliseconds before each event.
    pub(crate) gap: u64,
    /// Bytes of text in an event.
    pub(crate) size: usize,
    /// What the backend does at the first try that reaches one.
    pub(crate) fault: Option<Fault>,
}

/// What goes wrong at the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fault {
    /// A status instead of a response.
    Status(u16),
    /// The connection breaks before the response.
    BreaksAtOnce,
    /// The response breaks off.
    BreaksOff,
    /// The response does not go on.
    Stalls,
}

impl Order {
    pub(crate) fn random(job: u64, chance: &mut impl Rng) -> Self {
        let fault = match chance.random_range(0..200) {
            0 => Some(Fault::Status(500)),
            1 => Some(Fault::Status(503)),
            2 => Some(Fault::BreaksAtOnce),
            3..6 => Some(Fault::BreaksOff),
            6 => Some(Fault::Stalls),
            _ => None,
        };
        // Most are short, and a few are long.
        let long = chance.random_bool(0.1);
        Self {
            job,
            attempt: 0,
            streams: chance.random_bool(0.8),
            events: chance.random_range(1..if long { 120 } else { 16 }),
            gap: chance.random_range(0..if long { 400 } else { 80 }),
            size: if chance.random_bool(0.1) { chance.random_range(1000..20_000) } else { chance.random_range(1..60) },
            fault,
        }
    }

    pub(crate) fn request(&self) -> String {
        let text = serde_json::to_string(self).expect("an order is JSON");
        let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": text}], "stream": self.streams});
        if self.streams {
            body["stream_options"] = json!({"include_usage": true});
        }
        body.to_string()
    }

    /// The order in a request, and whether the response is to be a stream.
    pub(crate) fn of(request: &[u8]) -> (Self, bool) {
        let body: Value = serde_json::from_slice(request).expect("a request is JSON");
        let text = body["messages"][0]["content"].as_str().expect("a message");
        (serde_json::from_str(text).expect("an order"), body["stream"] == true)
    }

    fn text(&self, event: u64) -> String {
        let filler = char::from(b'a' + ((self.job + event) % 26) as u8).to_string().repeat(self.size);
        format!("{}.{event} {filler} ", self.job)
    }

    /// The events of the stream, the last ones together.
    pub(crate) fn event(&self, number: u64) -> Bytes {
        let chunk =
            |choices: Value| json!({"id": self.job.to_string(), "object": "chat.completion.chunk", "choices": choices});
        if number < self.events {
            let delta = json!([{"index": 0, "delta": {"content": self.text(number)}, "finish_reason": null}]);
            return format!("data: {}\n\n", chunk(delta)).into();
        }
        let last = chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]));
        let mut usage = chunk(json!([]));
        usage["usage"] = self.usage();
        format!("data: {last}\n\ndata: {usage}\n\ndata: [DONE]\n\n").into()
    }

    fn usage(&self) -> Value {
        json!({"prompt_tokens": 7, "completion_tokens": self.events, "total_tokens": 7 + self.events})
    }

    /// The stream as the client gets it.
    pub(crate) fn stream(&self) -> Vec<u8> {
        (0..=self.events).flat_map(|number| self.event(number)).collect()
    }

    /// The response as one body.
    pub(crate) fn whole(&self) -> Value {
        let text: String = (0..self.events).map(|number| self.text(number)).collect();
        let message = json!({"role": "assistant", "content": text});
        let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
        json!({"id": self.job.to_string(), "object": "chat.completion", "choices": [choice], "usage": self.usage()})
    }
}
