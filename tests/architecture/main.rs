//! The source tree and the generated files: layers, file sizes, and examples that match the table of variables.

mod config_examples;
mod layers;
