//! How far a run has come, for whoever shows it.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use eventide_catalog::{Pace, Paces, Receipt};
use eventide_schema::{Outcome, Status};

/// Counters of a run. Written by workers, read by the program that shows them.
#[derive(Debug, Default)]
pub struct Progress {
    planned: AtomicU64,
    planned_shards: AtomicU64,
    done: AtomicU64,
    done_shards: AtomicU64,
    failed: AtomicU64,
    events: AtomicU64,
    video_ms: AtomicU64,
    workers: Mutex<Paces>,
}

/// What the counters say at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Videos that are due.
    pub planned: u64,
    /// The shards that they are in.
    pub planned_shards: u64,
    /// Videos with an outcome.
    pub done: u64,
    /// Shards with a receipt.
    pub done_shards: u64,
    /// Videos that failed.
    pub failed: u64,
    /// Events so far.
    pub events: u64,
    /// Length of the videos with an outcome, in milliseconds.
    pub video_ms: u64,
}

impl Progress {
    pub(crate) fn plan(&self, videos: u64, shards: u64) {
        self.planned.store(videos, Ordering::Relaxed);
        self.planned_shards.store(shards, Ordering::Relaxed);
    }

    pub(crate) fn record(&self, outcome: &Outcome) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.events.fetch_add(outcome.events.len() as u64, Ordering::Relaxed);
        let length_us = u64::try_from(outcome.media.duration_us.unwrap_or(0)).unwrap_or(0);
        self.video_ms.fetch_add(length_us / 1000, Ordering::Relaxed);
        if outcome.status == Status::Failed {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes in that a shard is finished whose videos were recorded one by one.
    pub(crate) fn record_shard(&self) {
        self.done_shards.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes in a shard that another process has finished.
    pub(crate) fn record_receipt(&self, receipt: &Receipt) {
        self.record_shard();
        self.record_joined(receipt);
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).add(receipt);
    }

    /// Takes in a video that was joined of stretches, whose shards were recorded.
    pub(crate) fn record_joined(&self, receipt: &Receipt) {
        self.done.fetch_add(receipt.counts.videos(), Ordering::Relaxed);
        self.events.fetch_add(receipt.counts.events, Ordering::Relaxed);
        self.failed.fetch_add(receipt.counts.failed, Ordering::Relaxed);
        self.video_ms.fetch_add(receipt.counts.video_ms, Ordering::Relaxed);
    }

    /// The counters now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            planned: read(&self.planned),
            planned_shards: read(&self.planned_shards),
            done: read(&self.done),
            done_shards: read(&self.done_shards),
            failed: read(&self.failed),
            events: read(&self.events),
            video_ms: read(&self.video_ms),
        }
    }

    /// The executors that have finished shards, by name; none where this process does the work.
    #[must_use]
    pub fn paces(&self) -> Vec<Pace> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).all()
    }
}
