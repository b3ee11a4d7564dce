//! The job: its plan, its operator, and what a worker needs to run it.
//!
//! [`Night`] takes a job from listing to publishing. The work in between is a DataFusion plan,
//! [`IndexExec`] over one partition a shard, so that one machine and a [`Cluster`] run the same thing.

mod caption;
mod cluster;
mod error;
mod how;
#[cfg(test)]
mod identity;
mod indexer;
mod metrics;
mod model;
mod night;
mod operator;
mod own_folder;
mod params;
mod progress;
mod publisher;
mod relation;
mod retry;
mod sources;
mod speech;
#[cfg(test)]
mod testing;

pub use caption::{CaptionExec, CaptionOptions, CaptionTable, Marks};
pub use cluster::{
    Cluster, ClusterCaptions, ClusterState, ExecutorAddresses, ExecutorOptions, ExecutorState,
    Patience, RunState, Scheduler, SchedulerOptions, Secret, run_executor,
};
pub use error::Error;
pub use how::{How, Worker};
pub use indexer::{Indexer, Indexers};
pub use metrics::Metrics;
pub use model::ModelOptions;
pub use night::{Night, PIPELINE_VERSION, Planned, ShardOptions};
pub use operator::{IndexExec, IndexOptions, index_plan, receipts_of};
pub use own_folder::OwnFolder;
pub use params::params_digest;
pub use progress::{Counts, Progress};
pub use relation::{CaptionCall, CaptionRelation, Resolve, Resolved};
pub use sources::StoreSources;
pub use speech::{SpeechIdentity, SpeechOptions};
