//! Checkpoints into bundles: import of released weights, random weights of any size, and the ONNX
//! graphs that run them. Writes bundles, and runs each on a clip, so that others can tell whether it
//! says the same to them. And data to learn from: synthetic narrated videos.

pub mod bundle;
pub mod checkpoint;
#[cfg(feature = "learn")]
pub mod contrast;
pub mod convert;
pub mod data;
pub mod denoise;
#[cfg(feature = "learn")]
pub mod dropout;
pub mod golden;
pub mod import;
pub mod inputs;
pub mod layout;
#[cfg(feature = "learn")]
pub mod learner;
#[cfg(feature = "learn")]
pub mod network;
#[cfg(feature = "learn")]
pub mod objective;
#[cfg(feature = "learn")]
pub mod optimiser;
#[cfg(feature = "learn")]
pub mod parameters;
pub mod plan;
pub mod presets;
pub mod relative;
pub mod released;
#[cfg(feature = "learn")]
pub mod run;
pub mod seeded;
pub mod sentence;
#[cfg(feature = "learn")]
pub mod session;
#[cfg(feature = "learn")]
pub mod start;
pub mod synth;
pub mod tensors;
#[cfg(feature = "learn")]
pub mod trainer;
#[cfg(feature = "learn")]
pub mod validation;
pub mod vocabulary;
pub mod weights;
pub mod whisper;

mod archive;
mod blocks;
#[cfg(feature = "learn")]
mod durable;
mod error;
mod graph;
mod pb;
mod pickle;
mod quantise;
#[cfg(feature = "learn")]
mod sources;
mod t5;
mod temporal;
mod vision;

pub use error::{Error, PickleError, Result};
pub use graph::Style;
