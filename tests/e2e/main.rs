//! The real program, over real files and real servers. One test binary; what each module tests is in its name.

#![expect(clippy::unwrap_used, reason = "what cannot be set up fails its test")]

mod bad_jobs;
mod caption;
mod captions_in_sql;
mod captions_on_cluster;
mod cluster;
mod command_line;
mod conservation;
mod demo_model;
mod deploy;
mod difference;
mod eval;
mod export;
mod flight;
mod heard;
mod interruptions;
mod kill_matrix;
mod long_video;
mod model;
mod model_commands;
mod network;
mod night;
mod object_store;
mod operations;
mod optimize;
mod parts;
mod poison;
mod rates;
mod readers;
mod serve;
mod soak;
mod speech;
mod store_faults;
mod stretches;
mod synth;
mod traces;
mod train;
mod train_data;
mod trial;
