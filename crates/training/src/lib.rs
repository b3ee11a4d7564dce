//! Checkpoints into bundles: import of released weights, random weights of any size, and the ONNX
//! graphs that run them. Writes bundles, and runs each on a clip, so that others can tell whether it
//! says the same to them. And data to learn from: synthetic narrated videos.

pub mod bundle;
pub mod checkpoint;
pub mod contrast;
pub mod convert;
pub mod data;
pub mod denoise;
pub mod dropout;
pub mod golden;
pub mod import;
pub mod inputs;
pub mod layout;
pub mod learner;
pub mod network;
pub mod objective;
pub mod optimiser;
pub mod parameters;
pub mod plan;
pub mod presets;
pub mod relative;
pub mod released;
pub mod run;
pub mod seeded;
pub mod session;
pub mod start;
pub mod synth;
pub mod tensors;
pub mod trainer;
pub mod validation;
pub mod vocabulary;
pub mod weights;
pub mod whisper;

mod archive;
mod blocks;
mod error;
mod graph;
mod pb;
mod pickle;
mod quantise;
mod sources;
mod t5;
mod temporal;
mod vision;

pub use error::{Error, PickleError, Result};
pub use graph::Style;
