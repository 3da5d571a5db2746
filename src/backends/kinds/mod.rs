//! How each kind of server is probed: which documents it has, and where in them models, context, slots and load are.
//!
//! A kind is one file and one row: its file has the typed documents and a `KIND`, the `table` lists it, and
//! [`BackendKind`](crate::messages::backend::BackendKind) gives its name. Shapes are read leniently: only what names the
//! models is required.
//!
//! llama.cpp and LiteLLM were measured; the others are written as documented by their projects.

mod kind;
mod koboldcpp;
mod litellm;
pub(super) mod llamacpp;
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
pub(super) mod vllm;
