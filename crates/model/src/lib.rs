//! A model bundle and what runs it: sessions, tokenizer, time tokens, encoders, beam search, parsing.
//!
//! Synchronous throughout: a [`Vid2Seq`] belongs to one thread, which calls it and waits. Knows windows
//! of a video and no video, files of a bundle and no store.

pub mod beam;
pub mod bundle;
mod error;
pub mod frames;
pub mod golden;
pub mod input;
pub mod manifest;
pub mod parse;
pub mod runtime;
pub mod sentence;
pub mod speech;
#[cfg(test)]
mod testing;
pub mod text;
mod time_tokens;
pub mod tokenizer;
pub mod vid2seq;
pub mod vision;

pub use beam::Hypothesis;
pub use bundle::Bundle;
pub use error::{Error, Result};
pub use parse::{NoEvents, Parsed, ParsedEvent};
pub use tokenizer::Tokenizer;
pub use vid2seq::{Vid2Seq, WindowInput};
pub use vision::VisionEncoder;
