//! Text encoders, from the files of a release to a sentence bundle.

mod graph;
mod release;
mod tensors;

pub use release::SentenceRelease;
pub use tensors::bert_tensors;
