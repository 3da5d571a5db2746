//! Which top-level members of a request are sent to a backend.

use super::PolicyError;
use super::lists::{DENIED, TEMPLATE, VENICE, listed};
use super::names::{folded, is_unset};
use crate::core::json::name_of;
use crate::messages::backend::{BackendKind, KindClass};
use crate::messages::endpoint::Endpoint;

/// How a member is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberRule {
    /// It is sent unchanged.
    Send,
    /// It is sent as an object with some of its members. A value that is not an object is left out.
    SendPart(PartRule),
    /// It is left out.
    Drop,
}

/// Which members of an object are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartRule {
    /// Those with these names.
    Only(&'static [&'static [u8]]),
    /// Those with other names.
    Except(&'static [&'static [u8]]),
}

impl PartRule {
    /// Whether the member with this key is sent. `key` includes its quotes.
    pub fn sends(self, key: &[u8]) -> bool {
        match self {
            Self::Only(names) => names.contains(&&*name_of(key)),
            Self::Except(names) => !names.contains(&&*folded(key)),
        }
    }
}

/// Which members a kind of server gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemberRules {
    /// Those on a list for each endpoint.
    Listed,
    /// All except those on a list.
    NotListed,
}

impl MemberRules {
    pub(super) fn of(kind: BackendKind) -> Self {
        match kind.facts().class {
            KindClass::Engine => Self::NotListed,
            KindClass::Other | KindClass::Service(_) => Self::Listed,
        }
    }

    /// How the member with this key is handled. `key` includes its quotes.
    pub(super) fn rule(self, key: &[u8], endpoint: Endpoint) -> MemberRule {
        match self {
            Self::Listed => {
                // A server that ignores case gets no other spelling of a listed name either.
                let name = name_of(key);
                match (&*name, endpoint) {
                    (b"metadata", Endpoint::Messages) => MemberRule::SendPart(PartRule::Only(&[b"user_id"])),
                    (b"venice_parameters", Endpoint::ChatCompletions) => MemberRule::SendPart(PartRule::Only(VENICE)),
                    (b"chat_template_kwargs", Endpoint::ChatCompletions) => WITHOUT_TEMPLATE,
                    (name, _) if listed(endpoint).iter().any(|list| list.contains(&name)) => MemberRule::Send,
                    _ => MemberRule::Drop,
                }
            }
            Self::NotListed => match &*folded(key) {
                b"chat_template_kwargs" => WITHOUT_TEMPLATE,
                name if is_own(name, endpoint) || DENIED.contains(&name) => MemberRule::Drop,
                _ => MemberRule::Send,
            },
        }
    }
}

const WITHOUT_TEMPLATE: MemberRule = MemberRule::SendPart(PartRule::Except(TEMPLATE));

/// Whether the agent itself sets the member, so that the client's is not used; `name` is the result of `names::folded`.
pub(super) fn is_own(name: &[u8], endpoint: Endpoint) -> bool {
    match name {
        b"model" | b"stream" => true,
        b"store" => endpoint == Endpoint::Responses,
        _ => false,
    }
}

/// Refuses a member that can't be left out without changing the meaning of the request; `name` is the result of
/// `names::folded`.
pub(super) fn check(name: &[u8], value: &[u8], endpoint: Endpoint) -> Result<(), PolicyError> {
    let error = match (name, endpoint) {
        (b"background", Endpoint::Responses) => PolicyError::Background,
        (b"previous_response_id", Endpoint::Responses) => PolicyError::Stored("previous_response_id"),
        (b"conversation", Endpoint::Responses) => PolicyError::Stored("conversation"),
        (b"prompt", Endpoint::Responses) => PolicyError::Stored("prompt"),
        (b"mcp_servers", Endpoint::Messages) => PolicyError::McpServers,
        _ => return Ok(()),
    };
    if is_unset(value) { Ok(()) } else { Err(error) }
}

/// Whether a member describes or configures, and has no content in which a backend would look for media; `name` is the
/// result of `names::folded`.
pub(super) fn is_description(name: &[u8]) -> bool {
    matches!(
        name,
        b"tools"
            | b"functions"
            | b"response_format"
            | b"text"
            | b"structured_outputs"
            | b"guided_json"
            | b"json_schema"
            | b"documents"
            | b"metadata"
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::MemberRule::{Drop, Send, SendPart};
    use super::*;
    use crate::core::formats::translate::chat_request;
    use crate::core::json::walk;
    use crate::messages::ids::ModelId;

    fn rule(kind: BackendKind, endpoint: Endpoint, name: &str) -> MemberRule {
        MemberRules::of(kind).rule(format!("\"{name}\"").as_bytes(), endpoint)
    }

    /// A name in one of the spellings that some server reads as that name.
    fn spelling() -> impl Strategy<Value = String> {
        let name = prop::sample::select([DENIED, &[b"model", b"stream"]].concat());
        (name, prop::collection::vec(0..5, 32)).prop_map(|(name, ways)| {
            let spelled = name.iter().zip(ways.iter().cycle()).map(|(byte, way)| match (way, byte) {
                (0, _) => format!("\\u{byte:04x}"),
                (1, _) => format!("\\u{:04X}", byte.to_ascii_uppercase()),
                (2, _) => char::from(byte.to_ascii_uppercase()).to_string(),
                (3, b's') => "\u{17f}".to_owned(),
                (3, b'k') => "\\u212a".to_owned(),
                _ => char::from(*byte).to_string(),
            });
            format!("\"{}\"", spelled.collect::<String>())
        })
    }

    proptest! {
        #[test]
        fn no_spelling_gets_a_denied_member_to_a_server(key in spelling()) {
            for kind in BackendKind::ALL {
                for endpoint in Endpoint::ALL {
                    prop_assert_eq!(MemberRules::of(kind).rule(key.as_bytes(), endpoint), Drop, "{} {} {}", kind, endpoint, &key);
                }
            }
        }
    }

    fn listed_kinds() -> Vec<BackendKind> {
        BackendKind::ALL.into_iter().filter(|kind| MemberRules::of(*kind) == MemberRules::Listed).collect()
    }

    #[test]
    fn services_and_unknown_servers_get_listed_members() {
        use BackendKind::{LiteLlm, OpenAi, OpenRouter, Venice};
        assert_eq!(listed_kinds(), [LiteLlm, Venice, OpenRouter, OpenAi]);
    }

    #[test]
    fn no_kind_of_server_gets_another_model_than_the_priced_one_or_a_url_to_call() {
        for kind in BackendKind::ALL {
            for endpoint in Endpoint::ALL {
                for name in [
                    "models",
                    "fallbacks",
                    "provider",
                    "plugins",
                    "preset",
                    "api_base",
                    "base_url",
                    "api_key",
                    "user_config",
                    "router_settings_override",
                    "context_window_fallbacks",
                    "extra_headers",
                    "lora",
                    "lora_path",
                    "adapter_id",
                    "adapters",
                    "draft_model",
                    "id_slot",
                    "backend",
                    "b\\u0061ckend",
                    "Backend",
                    "bac\u{212a}end",
                    "bootstrap_host",
                    "kv_transfer_params",
                    "custom_logit_processor",
                    "rid",
                    "priority",
                    "service_tier",
                    "web_search_options",
                    "Model",
                    "STREAM",
                ] {
                    assert_eq!(rule(kind, endpoint, name), Drop, "{kind} {endpoint} {name}");
                }
            }
        }
    }

    #[test]
    fn members_with_extra_cost_and_unknown_members_are_not_sent_to_a_service() {
        for kind in listed_kinds() {
            for endpoint in Endpoint::ALL {
                for name in [
                    "modalities",
                    "audio",
                    "prediction",
                    "store",
                    "speed",
                    "container",
                    "litellm_metadata",
                    "tags",
                    "mock_response",
                    "input_cost_per_token",
                    "Messages",
                    "messages ",
                    "whatever_comes_next",
                ] {
                    assert_eq!(rule(kind, endpoint, name), Drop, "{kind} {endpoint} {name}");
                }
            }
            assert_eq!(rule(kind, Endpoint::ChatCompletions, "metadata"), Drop);
            assert_eq!(rule(kind, Endpoint::Messages, "metadata"), SendPart(PartRule::Only(&[b"user_id"])));
            let SendPart(PartRule::Only(venice)) = rule(kind, Endpoint::ChatCompletions, "venice_parameters") else {
                panic!("not sent in part")
            };
            assert!(!venice.contains(&&b"enable_web_search"[..]));
        }
    }

    #[test]
    fn no_server_gets_a_template_among_the_arguments_of_its_own() {
        for kind in BackendKind::ALL {
            let SendPart(part) = rule(kind, Endpoint::ChatCompletions, "chat_template_kwargs") else {
                panic!("not sent in part")
            };
            assert!(part.sends(br#""enable_thinking""#), "{kind}");
            for key in [r#""chat_template""#, r#""chat_t\u0065mplate""#, r#""tokenize""#] {
                assert!(!part.sends(key.as_bytes()), "{kind} {key}");
            }
        }
    }

    #[test]
    fn what_tunes_an_answer_is_sent() {
        for kind in BackendKind::ALL {
            for name in ["messages", "temperature", "tools", "top_k", "response_format", "t\\u006fp_p"] {
                assert_eq!(rule(kind, Endpoint::ChatCompletions, name), Send, "{kind} {name}");
            }
            assert_eq!(rule(kind, Endpoint::Embeddings, "dimensions"), Send);
            assert_eq!(rule(kind, Endpoint::Messages, "system"), Send);
            assert_eq!(rule(kind, Endpoint::Responses, "instructions"), Send);
            assert_eq!(rule(kind, Endpoint::Completions, "suffix"), Send);
        }
        for name in ["cache_prompt", "grammar", "dry_multiplier", "guided_json", "mirostat"] {
            assert_eq!(rule(BackendKind::LlamaCpp, Endpoint::ChatCompletions, name), Send, "{name}");
        }
    }

    #[test]
    fn a_member_that_would_change_the_answer_is_refused_if_it_is_set() {
        use Endpoint::{ChatCompletions, Messages, Responses};
        assert_eq!(check(b"background", b"true", Responses), Err(PolicyError::Background));
        assert_eq!(check(b"background", b"false", Responses), Ok(()));
        assert_eq!(check(b"background", b"true", ChatCompletions), Ok(()));
        for name in ["previous_response_id", "conversation", "prompt"] {
            assert_eq!(check(name.as_bytes(), br#""x""#, Responses), Err(PolicyError::Stored(name)));
            assert_eq!(check(name.as_bytes(), b"null", Responses), Ok(()));
        }
        assert_eq!(check(b"mcp_servers", br#"[{"url":"http://x"}]"#, Messages), Err(PolicyError::McpServers));
        assert_eq!(check(b"mcp_servers", b"[]", Messages), Ok(()));
    }

    #[test]
    fn a_translated_request_has_only_members_that_every_kind_of_server_gets() {
        let request = r#"{"messages":[{"role":"user","content":"x"}],"system":"s","max_tokens":1,"temperature":1,
            "top_p":1,"top_k":1,"stop_sequences":["x"],"metadata":{"user_id":"u"},"tools":[{"name":"f"}],
            "tool_choice":{"type":"auto","disable_parallel_tool_use":true},"thinking":{"type":"enabled"},
            "backend":"x","lora":"x"}"#;
        let Ok(translated) = chat_request(&Bytes::from(request), &ModelId::from("m")) else { panic!("refused") };
        let mut members = 0;
        walk(&translated.body.concat(), |key, _| {
            members += 1;
            for kind in BackendKind::ALL {
                let is_sent = MemberRules::of(kind).rule(key, Endpoint::ChatCompletions) == Send;
                assert!(
                    is_sent || is_own(&name_of(key), Endpoint::ChatCompletions),
                    "{}",
                    String::from_utf8_lossy(key)
                );
            }
        })
        .unwrap();
        assert_eq!(members, 13);
    }
}
