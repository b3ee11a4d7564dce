//! Whisper, from the files of a release to a speech bundle.

mod bundle;
mod graphs;
mod release;
mod tensors;

pub use bundle::{SpeechDraft, speech_graphs};
pub use release::WhisperRelease;
pub use tensors::whisper_tensors;
