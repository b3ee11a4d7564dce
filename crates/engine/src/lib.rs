//! The job: its plan, its operator, and what a worker needs to run it.
//!
//! [`Night`] takes a job from listing to publishing. The work in between is a DataFusion plan,
//! [`IndexExec`] over one partition a shard, so that one machine and a cluster run the same thing.

mod error;
mod indexer;
mod model;
mod night;
mod operator;
mod params;
mod progress;
mod sources;

pub use error::Error;
pub use indexer::Indexer;
pub use model::ModelOptions;
pub use night::{How, Night, PIPELINE_VERSION, Planned, ShardOptions, Worker};
pub use operator::{IndexExec, IndexOptions, receipts_of, shards_scan};
pub use params::params_digest;
pub use progress::{Counts, Progress};
