//! Checkpoints into bundles: import of released weights, random weights of any size, and the ONNX
//! graphs that run them. Writes bundles, and runs each on a clip, so that others can tell whether it
//! says the same to them. And data to learn from: synthetic narrated videos.

pub mod bundle;
pub mod checkpoint;
pub mod convert;
pub mod denoise;
pub mod golden;
pub mod import;
pub mod inputs;
pub mod layout;
pub mod presets;
pub mod relative;
pub mod released;
pub mod seeded;
pub mod synth;
pub mod tensors;
pub mod weights;

mod archive;
mod blocks;
mod error;
mod graph;
mod pb;
mod pickle;
mod quantise;
mod t5;
mod temporal;
mod vision;

pub use error::{Error, PickleError, Result};
pub use graph::Style;
