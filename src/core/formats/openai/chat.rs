//! The parts of a chat completion.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::core::json::{Few, Object, spelling};

/// The most tool calls of one choice.
pub(crate) const MAX_TOOL_CALLS: usize = 256;

/// A choice of a chat completion, whole or in one event. `L` is the JSON of its logprobs.
#[derive(Deserialize, Serialize)]
pub(crate) struct ChatChoice<V, L = V> {
    pub(crate) index: Option<u64>,
    /// Of a whole completion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<Object<ChatMessage<V>>>,
    /// Of an event: the next part of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delta: Option<Object<ChatMessage<V>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) logprobs: Option<L>,
    /// Written as null where there is none.
    pub(crate) finish_reason: Option<V>,
    /// vLLM's: the stop sequence that ended the answer, or the number of the token that did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop_reason: Option<V>,
    /// The same, in SGLang.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) matched_stop: Option<V>,
}

/// The message of a choice, or the next part of it.
#[derive(Deserialize, Serialize)]
pub(crate) struct ChatMessage<V> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<V>,
    /// The thinking, in llama.cpp, SGLang and older vLLM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_content: Option<V>,
    /// The thinking, in newer vLLM, Ollama and OpenRouter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refusal: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_calls: Option<Few<ToolCall<V>, MAX_TOOL_CALLS>>,
}

/// A call of a tool, or the next part of it.
#[derive(Deserialize, Serialize)]
pub(crate) struct ToolCall<V> {
    /// Of a part: which call it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<V>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<V>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) function: Option<Object<Function<V>>>,
}

/// Which call a part belongs to: the index, and the number among the calls with that index. Some servers use the same index
/// for all calls, and distinguish them by their ids.
pub(crate) type CallPlace = (u64, usize);

/// What is known of a call, for the parts that follow.
pub(crate) trait KnownCall {
    /// Its id.
    fn id(&self) -> Option<&RawValue>;

    /// Whether its function has a name.
    fn has_name(&self) -> bool;
}

impl<'a> ToolCall<&'a RawValue> {
    /// The id, unless it is empty.
    pub(crate) fn own_id(&self) -> Option<&'a RawValue> {
        self.id.filter(|id| spelling(id) != Some(""))
    }

    /// The place of the call that this part begins or continues. `calls` are those so far.
    pub(crate) fn place<C: KnownCall>(&self, calls: &BTreeMap<CallPlace, C>) -> CallPlace {
        let id = self.own_id();
        let index = self.index.unwrap_or_else(|| match calls.last_key_value() {
            None => 0,
            Some((&(last, _), call)) => last.saturating_add(u64::from(self.begins_after(call))),
        });
        let is_other = |call: &C| call.id().zip(id).is_some_and(|(own, id)| own.get() != id.get());
        match calls.range((index, 0)..=(index, usize::MAX)).next_back() {
            Some((&(_, nth), call)) if is_other(call) => (index, nth + 1),
            Some((&place, _)) => place,
            None => (index, 0),
        }
    }

    /// Whether a part without an index begins a call after this one. Servers that leave the index out send whole calls, some
    /// of them with empty ids: an id begins a call, and so does a name where the call before has one.
    fn begins_after(&self, call: &impl KnownCall) -> bool {
        let has_name = self.function.as_ref().is_some_and(|Object(function)| function.name.is_some());
        self.own_id().is_some() || has_name && call.has_name()
    }
}

/// The function that a tool call names.
#[derive(Deserialize, Serialize)]
pub(crate) struct Function<V> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<V>,
    /// A text of JSON; some servers send the JSON instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) arguments: Option<V>,
}
