//! All kinds of servers: the one place that lists them, apart from [`BackendKind`]. Used by `observer`, `identify` and `client`.

use super::kind::Kind;
use super::{
    koboldcpp, litellm, llamacpp, lmstudio, localai, mlx, ollama, openai, openrouter, sglang, tabbyapi, tgi, venice,
    vllm,
};
use crate::messages::backend::BackendKind;

/// Each kind before those whose routes it imitates: KoboldCpp, LocalAI and SGLang imitate Ollama, the last one also its
/// greeting; the route of vLLM is one that others have too. The last one is what remains.
static KINDS: [&Kind; 14] = [
    &koboldcpp::KIND,
    &tabbyapi::KIND,
    &litellm::KIND,
    &localai::KIND,
    &sglang::KIND,
    &tgi::KIND,
    &ollama::KIND,
    &lmstudio::KIND,
    &mlx::KIND,
    &vllm::KIND,
    &llamacpp::KIND,
    &venice::KIND,
    &openrouter::KIND,
    &openai::KIND,
];

/// The row of a kind.
pub(in crate::backends) fn of(kind: BackendKind) -> &'static Kind {
    // Every kind has a row, which a test checks.
    KINDS.into_iter().find(|row| row.kind == kind).unwrap_or(&openai::KIND)
}

/// All rows, in the order in which kinds are identified.
pub(in crate::backends) fn rows() -> impl Iterator<Item = &'static Kind> {
    KINDS.into_iter()
}

/// The ports where servers listen by default, each once.
pub(in crate::backends) fn usual_ports() -> Vec<u16> {
    let mut ports = Vec::new();
    for row in BackendKind::ALL.map(of) {
        for port in row.usual_port.iter().chain(row.other_ports) {
            if !ports.contains(port) {
                ports.push(*port);
            }
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::super::super::capability::CapabilityProbe;
    use super::*;

    #[test]
    fn every_kind_has_one_row() {
        assert_eq!(KINDS.len(), BackendKind::ALL.len());
        for kind in BackendKind::ALL {
            assert_eq!(of(kind).kind, kind);
        }
    }

    #[test]
    fn a_service_is_sent_no_probe_and_a_server_is() {
        for row in KINDS {
            assert_eq!(matches!(row.probe, CapabilityProbe::Documented), row.kind.is_service(), "{}", row.kind);
        }
    }
}
