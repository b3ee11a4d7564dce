//! Checkpoints into bundles: import of released weights, random weights of any size, and the ONNX
//! graphs that run them. Writes bundles; runs none. And data to learn from: synthetic narrated videos.

pub mod bundle;
pub mod checkpoint;
pub mod import;
pub mod layout;
pub mod presets;
pub mod relative;
pub mod seeded;
pub mod synth;
pub mod tensors;
pub mod weights;

mod blocks;
mod error;
mod graph;
mod pb;
mod t5;
mod temporal;
mod vision;

pub use error::{Error, Result};
pub use graph::Style;
