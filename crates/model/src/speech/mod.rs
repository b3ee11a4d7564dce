//! Speech recognition: sound to timed words, by Whisper.
//!
//! A [`Listener`] hears a sound piece by piece and cuts it into windows where there is a voice; a
//! [`Recogniser`] turns windows, of one sound or of many, into words with their times.

pub mod bundle;
pub mod golden;
mod judge;
pub mod manifest;
pub mod mel;
pub mod network;
pub mod recogniser;
mod rules;
mod search;
pub mod sentences;
pub mod vocabulary;
pub mod voice;
mod words;

pub use bundle::SpeechBundle;
pub use judge::Evidence;
pub use manifest::{SpeechManifest, SpeechTokens, Whisper};
pub use network::Network;
pub use recogniser::{Conversation, Heard, Recogniser, RecognitionOptions, Request, Word};
pub use vocabulary::Vocabulary;
pub use voice::{Listener, SpeechWindow};
