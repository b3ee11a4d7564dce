//! What lies in the object store: the corpus and its work list, the receipts of finished shards,
//! and the Delta tables that readers see.
//!
//! A night goes [`list`] → [`plan`] → [`Tables::write_shard`] for each shard, on any number of
//! machines → [`Tables::publish`]. [`Tables::finish_interrupted`] comes first, in case the night
//! before was cut off.

mod attempts;
mod bundle;
mod commit;
mod corpus;
mod costs;
mod error;
mod feedback;
mod history;
#[cfg(test)]
mod nights;
mod optimize;
mod pace;
mod parts;
mod plan_file;
mod publish;
mod receipt;
mod store;
mod stretches;
mod tables;
mod transcripts;
mod vacuum;
mod worklist;

pub use attempts::{Attempt, KILLS_WORKERS};
pub use bundle::fetch_bundle;
pub use corpus::{CorpusOptions, DEFAULT_INCLUDE, Listing, list, video_at};
pub use costs::Estimate;
pub use error::{Error, Result, is_transient_failure};
pub use history::{ShardWork, VideoWork, Work};
pub use optimize::{Files, OptimizeOptions, Optimized};
pub use pace::{Pace, Paces};
pub use parts::PartFile;
pub use plan_file::{PlanFile, ShardPlace, Submission};
pub use publish::{PublishPlan, RunFacts};
pub use receipt::{Counts, Receipt, ReceiptItem, Unpublished};
pub use store::{Location, Stores};
pub use stretches::{STRETCHES_DIFFER, StretchOutcome};
pub use tables::{Snapshot, Table, Tables};
pub use transcripts::Transcripts;
pub use vacuum::{LEAST_AGE, Orphan, OrphanKind};
pub use worklist::{Due, Known, KnownVideo, PlanOptions, TOO_LARGE, WorkList, plan};
