//! How each kind of server is asked what it offers: which documents, and where in them models, context, slots and load
//! are.
//!
//! A kind's file has the typed documents and `offer`, which asks for all of them at once; `load`, where it tells how busy
//! it is; `answers`, by which it is told from others, where it has routes of its own; and `ABORT`, where a request is
//! ended by more than its connection. [`each`] finds them by kind. Shapes are read leniently: only what names the models
//! must be there.
//!
//! llama.cpp and LiteLLM were measured; the others are written as documented by their projects.

pub(super) mod each;
pub(super) mod koboldcpp;
pub(super) mod litellm;
pub(super) mod llamacpp;
pub(super) mod lmstudio;
pub(super) mod localai;
pub(super) mod mlx;
pub(super) mod ollama;
pub(super) mod openai;
pub(super) mod openrouter;
pub(super) mod sglang;
pub(super) mod tabbyapi;
pub(super) mod tgi;
pub(super) mod venice;
pub(super) mod vllm;
