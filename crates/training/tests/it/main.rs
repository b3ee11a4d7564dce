//! The graphs against golden numbers, the import against real checkpoints, the bundle on the disk, data sets of real
//! videos.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod bundle;
mod data;
mod import;
mod learning;
mod network;
mod precision;
mod released;
mod support;
mod t5;
mod vid2seq;
mod vision_and_temporal;
mod whole_model;
