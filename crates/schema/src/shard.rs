//! A shard: the videos that one task indexes.

use serde::{Deserialize, Serialize};

use crate::Video;

/// A video that is due, and how often it was tried in this source version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkItem {
    /// The video.
    pub video: Video,
    /// 1 for the first try.
    pub attempt: u32,
}

/// The unit of work, of retry and of durability: a finished shard has a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Names the shard by what is in it: the same videos in the same versions give the same id,
    /// so that a run which is resumed finds the receipts of the run that was cut off.
    pub shard_id: String,
    /// What is to be done.
    pub items: Vec<WorkItem>,
}
