//! The graphs against golden numbers, the import against real checkpoints, the bundle on the disk.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod bundle;
mod import;
mod precision;
mod released;
mod support;
mod t5;
mod vid2seq;
mod vision_and_temporal;
mod whole_model;
