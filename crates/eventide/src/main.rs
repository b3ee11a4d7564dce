//! `eventide`: a nightly job that turns a corpus of videos into tables of captioned events.

mod arguments;
mod commands;
mod environment;
mod job;
mod markdown;
mod plots;
mod report;
mod telemetry;
#[cfg(feature = "train")]
mod train_file;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main()
}
