//! The source tree: layers, import cycles, file sizes, and links of the documents.

mod documents;
mod layers;
