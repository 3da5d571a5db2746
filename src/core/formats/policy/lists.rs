//! The names of members that are sent or left out. `rules` decides for which servers.

use crate::messages::endpoint::Endpoint;

/// Names of members.
type Names = &'static [&'static [u8]];

/// The members that a service, LiteLLM or an unknown server gets.
pub(super) fn listed(endpoint: Endpoint) -> [Names; 3] {
    match endpoint {
        Endpoint::ChatCompletions => [CHAT, OPENAI_GENERATION, SAMPLING],
        Endpoint::Completions => [COMPLETIONS, OPENAI_GENERATION, SAMPLING],
        Endpoint::Embeddings => [EMBEDDINGS, &[], &[]],
        Endpoint::Responses => [RESPONSES, &[], SAMPLING],
        Endpoint::Messages => [MESSAGES, &[], SAMPLING],
    }
}

/// The name itself, if it is on a list here.
pub(super) fn known(name: &[u8]) -> Option<&'static str> {
    let listed = Endpoint::ALL.into_iter().flat_map(listed);
    let name = listed.chain([DENIED, UNLISTED]).flatten().find(|known| **known == name)?;
    std::str::from_utf8(name).ok()
}

/// Parameters of every generation.
const SAMPLING: Names = &[
    b"temperature",
    b"top_p",
    b"top_k",
    b"min_p",
    b"top_a",
    b"typical_p",
    b"repetition_penalty",
    b"frequency_penalty",
    b"presence_penalty",
    b"seed",
];

const OPENAI_GENERATION: Names = &[
    b"max_tokens",
    b"stop",
    b"n",
    b"logprobs",
    b"logit_bias",
    b"stream_options",
    b"user",
    b"response_format",
    b"structured_outputs",
];

const CHAT: Names = &[
    b"messages",
    b"max_completion_tokens",
    b"tools",
    b"tool_choice",
    b"parallel_tool_calls",
    b"functions",
    b"function_call",
    b"top_logprobs",
    b"reasoning",
    b"reasoning_effort",
    b"include_reasoning",
    b"thinking",
    b"verbosity",
    b"safety_identifier",
    b"prompt_cache_key",
];

const COMPLETIONS: Names = &[b"prompt", b"suffix", b"echo", b"best_of"];

const EMBEDDINGS: Names = &[b"input", b"encoding_format", b"dimensions", b"input_type", b"user"];

const RESPONSES: Names = &[
    b"input",
    b"instructions",
    b"max_output_tokens",
    b"max_tool_calls",
    b"tools",
    b"tool_choice",
    b"parallel_tool_calls",
    b"reasoning",
    b"text",
    b"include",
    b"truncation",
    b"top_logprobs",
    b"stream_options",
    b"user",
    b"safety_identifier",
    b"prompt_cache_key",
];

const MESSAGES: Names = &[
    b"messages",
    b"system",
    b"max_tokens",
    b"stop_sequences",
    b"tools",
    b"tool_choice",
    b"thinking",
    b"output_config",
    b"output_format",
];

/// Arguments of a chat template that are not for the template: vLLM and SGLang pass them to the function that applies it.
/// They can select another template, or pad the prompt to any length.
pub(super) const TEMPLATE: Names = &[
    b"chat_template",
    b"conversation",
    b"max_length",
    b"padding",
    b"return_assistant_tokens_mask",
    b"return_dict",
    b"return_tensors",
    b"tokenize",
    b"tokenizer_kwargs",
];

/// The Venice parameters without extra cost: the others search the web or choose a character.
pub(super) const VENICE: Names = &[b"include_venice_system_prompt", b"strip_thinking_response", b"disable_thinking"];

/// Members that no local engine gets, whichever of them reads it.
pub(super) const DENIED: Names = &[
    // Another model, provider, deployment or adapter than the offered and priced one.
    b"models",
    b"fallbacks",
    b"context_window_fallbacks",
    b"content_policy_fallbacks",
    b"router_settings_override",
    b"user_config",
    b"provider",
    b"plugins",
    b"route",
    b"preset",
    b"lora",
    b"lora_id",
    b"lora_name",
    b"lora_path",
    b"lora_request",
    b"adapter_id",
    b"adapters",
    b"draft_model",
    b"num_draft_tokens",
    b"backend",
    b"guided_decoding_backend",
    b"model_base_name",
    b"tokenizer",
    // Other servers that the backend would call.
    b"api_base",
    b"base_url",
    b"api_key",
    b"api_version",
    b"headers",
    b"extra_headers",
    b"extra_body",
    b"extra_query",
    b"bootstrap_host",
    b"bootstrap_port",
    b"bootstrap_room",
    b"bootstrap_pair_key",
    b"kv_transfer_params",
    b"ec_transfer_params",
    b"integrations",
    b"mcp",
    b"mcp_servers",
    b"web_search_options",
    // Code, serialized tensors and templates that the backend would load or run.
    b"custom_logit_processor",
    b"custom_params",
    b"logits_processors",
    b"vllm_xargs",
    b"prompt_embeds",
    b"input_embeds",
    b"mm_processor_kwargs",
    b"media_io_kwargs",
    b"chat_template",
    b"prompt_template",
    // State that all clients of the backend share: its slots, queue, sessions, loaded models, and names of requests.
    b"id_slot",
    b"slot_id",
    b"data_parallel_rank",
    b"routed_dp_rank",
    b"disagg_prefill_dp_rank",
    b"priority",
    b"service_tier",
    b"rid",
    b"request_id",
    b"genkey",
    b"session_id",
    b"session_params",
    b"container",
    b"keep_alive",
    b"ttl",
    b"sse_ping_interval",
    // State that the backend keeps, and work that continues without the client.
    b"store",
    b"background",
    b"previous_response_id",
    b"conversation",
    // llama.cpp's own name for `n`.
    b"n_cmpl",
];

/// Other names that clients are known to send. Only for the log.
const UNLISTED: Names = &[
    b"audio",
    b"cache_control",
    b"cache_prompt",
    b"chat_template_kwargs",
    b"context_management",
    b"documents",
    b"grammar",
    b"guided_json",
    b"ignore_eos",
    b"metadata",
    b"mirostat",
    b"modalities",
    b"moderation",
    b"n_predict",
    b"prediction",
    b"prompt_cache_retention",
    b"safety_settings",
    b"transforms",
    b"usage",
    b"venice_parameters",
];
