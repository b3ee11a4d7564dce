//! Sentences as vectors: those of sentences that mean alike point alike. A BERT with mean pooling, such as MiniLM.

pub mod bundle;
pub mod encoder;
pub mod golden;
pub mod manifest;

pub use bundle::SentenceBundle;
pub use encoder::SentenceEncoder;
pub use manifest::{Bert, SentenceManifest};
