//! All rules together: what is checked before a request is sent, and what is left out of it. Used by the relay.

use std::fmt;

use super::count::Demanded;
use super::lists::known;
use super::media::{self, MediaRules, RemoteMedia};
use super::names::folded;
use super::rules::{self, MemberRule, MemberRules};
use super::{PolicyError, tools};
use crate::core::json::Members;
use crate::messages::backend::BackendKind;
use crate::messages::endpoint::Endpoint;

/// The most members of a request. Real requests have far fewer; each is looked up in lists.
const MOST_MEMBERS: usize = 1024;

/// The policy for the clients of one backend.
#[derive(Clone, Copy, Debug)]
pub struct RequestPolicy {
    members: MemberRules,
    media: MediaRules,
}

impl RequestPolicy {
    /// The policy for a kind of server.
    pub fn new(kind: BackendKind, remote_media: RemoteMedia) -> Self {
        let keys = remote_media == RemoteMedia::Refused;
        let media = MediaRules { keys, markdown: keys && kind.facts().fetches_markdown };
        Self { members: MemberRules::of(kind), media }
    }

    /// Checks a request as the client sent it. `members` are its members.
    ///
    /// A member is identified by its key. Only values that may contain media, tools or a batch are read, once.
    ///
    /// # Errors
    /// If a part of the request is not allowed and can't be left out without changing the meaning of the request.
    pub fn check(&self, request: &[u8], members: &Members, endpoint: Endpoint) -> Result<DroppedMembers, PolicyError> {
        let mut dropped = DroppedMembers::default();
        let (mut demanded, mut checked, mut count) = (Demanded::new(), Ok(()), 0);
        members.walk(request, |key, value| {
            count += 1;
            if count > MOST_MEMBERS {
                checked = Err(PolicyError::TooManyMembers(MOST_MEMBERS));
            } else if checked.is_ok() {
                checked = self.check_member(key, value, endpoint, &mut demanded, &mut dropped);
            }
        })?;
        checked?;
        demanded.check(endpoint)?;
        Ok(dropped)
    }

    /// How a member of a checked request is handled. `key` includes its quotes.
    pub fn rule(&self, key: &[u8], endpoint: Endpoint) -> MemberRule {
        self.members.rule(key, endpoint)
    }

    fn check_member(
        &self,
        key: &[u8],
        value: &[u8],
        endpoint: Endpoint,
        demanded: &mut Demanded,
        dropped: &mut DroppedMembers,
    ) -> Result<(), PolicyError> {
        let name = folded(key);
        if rules::is_own(&name, endpoint) {
            return Ok(());
        }
        rules::check(&name, value, endpoint)?;
        if self.rule(key, endpoint) == MemberRule::Drop {
            dropped.add(&name);
            return Ok(());
        }
        demanded.take(&name, value, endpoint)?;
        if &*name == b"tools" {
            tools::check(value, endpoint, self.members == MemberRules::Listed)?;
        }
        let keys = self.media.keys && !rules::is_description(&name);
        if self.media.markdown || !rules::is_description(&name) {
            media::check(&name, value, MediaRules { keys, ..self.media })?;
        }
        Ok(())
    }
}

/// The most names that are shown.
const SHOWN: usize = 16;

/// The members that are left out of a request, for the log. Only names on the lists in this module are shown. Others are
/// counted, because they may be a part of a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DroppedMembers {
    names: Vec<&'static str>,
    others: usize,
}

impl DroppedMembers {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.others == 0
    }

    fn add(&mut self, name: &[u8]) {
        match known(name).filter(|_| self.names.len() < SHOWN) {
            Some(name) => self.names.push(name),
            None => self.others += 1,
        }
    }
}

impl fmt::Display for DroppedMembers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join(","))?;
        match (self.names.is_empty(), self.others) {
            (_, 0) => Ok(()),
            (true, others) => write!(f, "({others} unknown)"),
            (false, others) => write!(f, ",({others} more)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: BackendKind, endpoint: Endpoint, request: &str) -> Result<String, PolicyError> {
        let policy = RequestPolicy::new(kind, RemoteMedia::Refused);
        policy.check(request.as_bytes(), &Members::default(), endpoint).map(|dropped| dropped.to_string())
    }

    fn chat(kind: BackendKind, request: &str) -> Result<String, PolicyError> {
        check(kind, Endpoint::ChatCompletions, request)
    }

    #[test]
    fn the_members_that_are_left_out_depend_on_the_kind_of_server() {
        let request =
            r#"{"messages":[],"model":"m","stream":true,"stream_options":{},"top_k":1,"ignore_eos":2,"lora":[]}"#;
        assert_eq!(chat(BackendKind::OpenRouter, request).unwrap(), "ignore_eos,lora");
        assert_eq!(chat(BackendKind::LlamaCpp, request).unwrap(), "lora");
        let responses = r#"{"input":"x","store":true,"background":false,"previous_response_id":null}"#;
        let dropped = check(BackendKind::Vllm, Endpoint::Responses, responses).unwrap();
        assert_eq!(dropped, "background,previous_response_id");
    }

    #[test]
    fn only_names_on_our_lists_are_shown_and_not_many() {
        let dropped = |request: &str| chat(BackendKind::OpenAi, request).unwrap();
        assert_eq!(dropped(r#"{"a secret":1,"secret":2}"#), "(2 unknown)");
        assert_eq!(dropped(r#"{"l\u006fra":1,"secret":1}"#), "lora,(1 more)");
        // On the list of another endpoint.
        assert_eq!(dropped(r#"{"dimensions":1}"#), "dimensions");
        let many = vec![r#""lora":1"#; 100].join(",");
        assert_eq!(dropped(&format!("{{{many}}}")), format!("{},(84 more)", ["lora"; SHOWN].join(",")));
    }

    #[test]
    fn every_rule_is_applied_to_every_kind_of_server() {
        use Endpoint::{ChatCompletions, Embeddings, Messages, Responses};
        let inputs = format!(r#"{{"input":[{}]}}"#, vec!["\"x\""; 2049].join(","));
        let members = format!("{{{}}}", vec![r#""top_k":1"#; 1025].join(","));
        for kind in BackendKind::ALL {
            for (endpoint, request, error) in [
                (ChatCompletions, "[]", PolicyError::NotAnObject),
                (ChatCompletions, &members, PolicyError::TooManyMembers(1024)),
                (ChatCompletions, r#"{"n":10000}"#, PolicyError::TooManyChoices(8)),
                (ChatCompletions, r#"{"\u006e":10000}"#, PolicyError::TooManyChoices(8)),
                (ChatCompletions, r#"{"tools":[{"type":"mcp"}]}"#, PolicyError::ServerTool),
                (ChatCompletions, r#"{"messages":[{"content":[{"image_url":"http://x"}]}]}"#, PolicyError::RemoteMedia),
                (Messages, r#"{"messages":[{"content":[{"source":{"url":"http://x"}}]}]}"#, PolicyError::RemoteMedia),
                (Messages, r#"{"mcp_servers":[{"url":"http://x"}]}"#, PolicyError::McpServers),
                (Responses, r#"{"background":true}"#, PolicyError::Background),
                (Responses, r#"{"b\u0061ckground":1}"#, PolicyError::Background),
                (Responses, r#"{"previous_response_id":"r"}"#, PolicyError::Stored("previous_response_id")),
                (Responses, r#"{"input":[{"type":"input_image","image_url":"http://x"}]}"#, PolicyError::RemoteMedia),
                (Embeddings, &inputs, PolicyError::TooManyInputs(2048)),
            ] {
                assert_eq!(check(kind, endpoint, request), Err(error), "{kind} {request}");
            }
        }
    }

    #[test]
    fn a_local_engine_gets_no_media_by_an_unknown_member() {
        assert_eq!(chat(BackendKind::KoboldCpp, r#"{"images":["http://x"]}"#), Err(PolicyError::RemoteMedia));
        assert_eq!(chat(BackendKind::OpenAi, r#"{"images":["http://x"]}"#).unwrap(), "(1 unknown)");
        let tools = r#"{"tools":[{"type":"function","function":{"parameters":{"examples":[{"url":"http://x"}]}}}]}"#;
        assert_eq!(chat(BackendKind::Vllm, tools).unwrap(), "");
    }

    #[test]
    fn only_tgi_reads_media_from_texts() {
        let request = r#"{"messages":[{"role":"user","content":"![](http://10.0.0.1/)"}]}"#;
        for kind in BackendKind::ALL {
            let expected = if kind == BackendKind::Tgi { Err(PolicyError::RemoteMedia) } else { Ok(String::new()) };
            assert_eq!(chat(kind, request), expected, "{kind}");
        }
        let tools = r#"{"tools":[{"type":"function","function":{"description":"![](http://x)"}}]}"#;
        assert_eq!(chat(BackendKind::Tgi, tools), Err(PolicyError::RemoteMedia));
    }

    #[test]
    fn the_operator_can_allow_remote_media() {
        let request = br#"{"n":2,"messages":[{"content":[{"image_url":"http://x"},{"text":"![](http://x)"}]}]}"#;
        for kind in BackendKind::ALL {
            let policy = RequestPolicy::new(kind, RemoteMedia::Allowed);
            assert!(policy.check(request, &Members::default(), Endpoint::ChatCompletions).is_ok(), "{kind}");
            let many = policy.check(br#"{"n":9}"#, &Members::default(), Endpoint::ChatCompletions);
            assert_eq!(many, Err(PolicyError::TooManyChoices(8)));
        }
    }
}
