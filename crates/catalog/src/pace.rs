//! How fast each worker gets on with a run, as its receipts tell.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Receipt;

const HOUR_MS: f64 = 3_600_000.0;

/// What one worker has finished of a run, and over what time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Host and process.
    pub worker: String,
    /// Its finished shards.
    pub shards: u64,
    /// Their videos.
    pub videos: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Length of the videos in milliseconds.
    pub video_ms: u64,
    /// When the first of them was begun, in milliseconds since 1970 (UTC), by the worker's clock.
    pub began_at_ms: i64,
    /// When the last of them was finished, likewise.
    pub ended_at_ms: i64,
}

impl Pace {
    /// How much of something that was finished comes to an hour.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for a person to read")]
    pub fn per_hour(&self, finished: u64) -> f64 {
        let over_ms = (self.ended_at_ms - self.began_at_ms).max(1);
        finished as f64 * HOUR_MS / over_ms as f64
    }

    fn take(&mut self, other: &Self) {
        self.shards += other.shards;
        self.videos += other.videos;
        self.failed += other.failed;
        self.video_ms += other.video_ms;
        self.began_at_ms = self.began_at_ms.min(other.began_at_ms);
        self.ended_at_ms = self.ended_at_ms.max(other.ended_at_ms);
    }
}

/// The workers of a run. Receipts of earlier programs, which do not say who wrote them, are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Paces(BTreeMap<String, Pace>);

impl Paces {
    /// Takes in a receipt.
    pub fn add(&mut self, receipt: &Receipt) {
        let Some(work) = &receipt.work else { return };
        let pace = Pace {
            worker: work.worker.clone(),
            shards: 1,
            videos: receipt.counts.videos(),
            failed: receipt.counts.failed,
            video_ms: receipt.counts.video_ms,
            began_at_ms: work.began_at_ms,
            ended_at_ms: work.ended_at_ms,
        };
        match self.0.get_mut(&work.worker) {
            Some(known) => known.take(&pace),
            None => {
                self.0.insert(work.worker.clone(), pace);
            }
        }
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Pace> {
        self.0.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Counts, Work, receipt::FORMAT_VERSION};

    fn receipt(worker: &str, began_at_ms: i64, ended_at_ms: i64) -> Receipt {
        let work = Work { worker: worker.to_owned(), began_at_ms, ended_at_ms };
        Receipt {
            format_version: FORMAT_VERSION,
            run_id: "r".to_owned(),
            shard_id: "s".to_owned(),
            model_digest: String::new(),
            params_digest: String::new(),
            items: Vec::new(),
            events: Vec::new(),
            videos: Vec::new(),
            transcripts: Vec::new(),
            counts: Counts { captioned: 2, failed: 1, ..Counts::default() },
            work: Some(work),
            stretch: None,
        }
    }

    #[test]
    fn shards_of_a_worker_are_counted_over_the_time_that_they_took() {
        let mut paces = Paces::default();
        for (worker, began, ended) in
            [("b", 0, 1_800_000), ("a", 0, 600_000), ("b", 1_800_000, 3_600_000)]
        {
            paces.add(&receipt(worker, began, ended));
        }
        paces.add(&Receipt { work: None, ..receipt("c", 0, 1) });
        let told: Vec<_> = paces
            .all()
            .into_iter()
            .map(|pace| (pace.per_hour(pace.shards), pace.per_hour(pace.videos), pace.worker))
            .collect();
        assert_eq!(told, [(6.0, 18.0, "a".to_owned()), (2.0, 6.0, "b".to_owned())]);
    }
}
