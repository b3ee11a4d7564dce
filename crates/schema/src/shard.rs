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
    /// What is known of its speech.
    #[serde(default)]
    pub heard: Heard,
}

impl WorkItem {
    /// A video of which nothing is known yet.
    #[must_use]
    pub fn new(video: Video, attempt: u32) -> Self {
        Self { video, attempt, heard: Heard::NotYet }
    }
}

/// What the same recogniser has heard in the same version of a video before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heard {
    /// It was not asked.
    #[default]
    NotYet,
    /// No words.
    Nothing,
    /// Words, which the tables hold.
    Words,
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
