//! The source tree and the generated files: layers, file sizes, examples that match the table of variables, and links of the documents.

mod config_examples;
mod documents;
mod layers;
