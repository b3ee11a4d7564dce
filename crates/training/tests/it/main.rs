//! The graphs against golden numbers, the import against real checkpoints, the bundle on the disk.

mod bundle;
mod import;
mod support;
mod t5;
mod vision_and_temporal;
mod whole_model;
