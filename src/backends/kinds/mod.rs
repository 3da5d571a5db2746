//! How each kind of server is asked what it offers: which documents, and where in them models, context and slots are.
//!
//! A kind's file has the typed documents and `offer`, which asks for all of them at once; those of a kind that has
//! routes of its own also `answers`, by which it is told from others. Shapes are read leniently: only what names the
//! models must be there.

pub(super) mod llamacpp;
pub(super) mod lmstudio;
pub(super) mod ollama;
pub(super) mod openai;
pub(super) mod vllm;
