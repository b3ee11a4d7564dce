//! A shard: the videos that one task indexes, or a stretch of a long one.

use std::ops::Range;

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
    /// The stretch of its windows that is meant; all of them if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stretch: Option<Stretch>,
}

impl WorkItem {
    /// A video of which nothing is known yet.
    #[must_use]
    pub fn new(video: Video, attempt: u32) -> Self {
        Self { video, attempt, heard: Heard::NotYet, stretch: None }
    }

    /// Bytes of video that it stands for.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let whole = self.video.size_bytes;
        self.stretch.map_or(whole, |stretch| stretch.count_of(whole))
    }
}

/// One of the stretches of about equal size that the windows of a long video are split into, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stretch {
    /// Which one, from 0; less than `of`.
    pub index: u32,
    /// How many there are.
    pub of: u32,
}

impl Stretch {
    /// The windows of this stretch, of a video that has so many: where there are fewer windows than
    /// stretches, some stretches have none. The stretches of a video hold each window once, in order.
    #[must_use]
    pub fn windows(self, windows: usize) -> Range<usize> {
        let windows = windows as u64;
        let place = |bound| usize::try_from(bound).unwrap_or(usize::MAX);
        place(self.bound(self.index, windows))..place(self.bound(self.index + 1, windows))
    }

    /// How much of `whole` falls to this stretch. All stretches together have the whole.
    #[must_use]
    pub fn count_of(self, whole: u64) -> u64 {
        self.bound(self.index + 1, whole) - self.bound(self.index, whole)
    }

    fn bound(self, index: u32, whole: u64) -> u64 {
        let bound = u128::from(whole) * u128::from(index) / u128::from(self.of.max(1));
        u64::try_from(bound).unwrap_or(u64::MAX)
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
    /// What is to be done. A stretch of a video is alone in its shard.
    pub items: Vec<WorkItem>,
}

impl Shard {
    /// The stretch of a video that it is, where it is one.
    #[must_use]
    pub fn stretch(&self) -> Option<Stretch> {
        match self.items.as_slice() {
            [item] => item.stretch,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_stretches_of_a_video_hold_each_window_once(windows in 0usize..500, of in 1u32..120) {
            let stretches = (0..of).map(|index| Stretch { index, of });
            let held: Vec<_> = stretches.clone().flat_map(|stretch| stretch.windows(windows)).collect();
            prop_assert_eq!(held, (0..windows).collect::<Vec<_>>());
            let counts = stretches.map(|stretch| stretch.windows(windows).len());
            prop_assert!(counts.clone().max() <= counts.min().map(|least| least + 1));
        }

        #[test]
        fn the_bytes_of_all_stretches_are_those_of_the_video(bytes in any::<u64>(), of in 1u32..120) {
            let counts = (0..of).map(|index| Stretch { index, of }.count_of(bytes));
            prop_assert_eq!(counts.sum::<u64>(), bytes);
        }
    }
}
