//! How each kind of server is probed: which documents it has, and where in them models, context, slots and load are.
//!
//! A kind is one file and one row of the `table`: its file has the typed documents and a `KIND` with its ports, how it is
//! identified, and how its endpoints are probed. Its variant, name, rank and class are in a row of
//! [`BackendKind`](crate::messages::backend::BackendKind), because the configuration and the rules are in layers below this
//! one. No other file names a kind, which a test checks. Shapes are read leniently: only what names the models is required.
//!
//! llama.cpp and LiteLLM were measured; the others are written as documented by their projects.

pub(super) mod kind;
mod koboldcpp;
mod litellm;
mod llamacpp;
mod lmstudio;
mod localai;
mod mlx;
mod ollama;
pub(super) mod openai;
mod openrouter;
mod sglang;
mod tabbyapi;
pub(super) mod table;
mod tgi;
mod venice;
mod vllm;
