//! How far a run has come, for whoever shows it.

use std::sync::atomic::{AtomicU64, Ordering};

use eventide_catalog::Receipt;
use eventide_schema::{Outcome, Status};

/// Counters of a run. Written by workers, read by the program that shows them.
#[derive(Debug, Default)]
pub struct Progress {
    planned: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    events: AtomicU64,
}

/// What the counters say at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Videos that are due.
    pub planned: u64,
    /// Videos with an outcome.
    pub done: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Events so far.
    pub events: u64,
}

impl Progress {
    pub(crate) fn plan(&self, videos: u64) {
        self.planned.store(videos, Ordering::Relaxed);
    }

    pub(crate) fn record(&self, outcome: &Outcome) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.events.fetch_add(outcome.events.len() as u64, Ordering::Relaxed);
        if outcome.status == Status::Failed {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes in a shard that another process has finished.
    pub(crate) fn record_receipt(&self, receipt: &Receipt) {
        self.done.fetch_add(receipt.counts.videos(), Ordering::Relaxed);
        self.events.fetch_add(receipt.counts.events, Ordering::Relaxed);
        self.failed.fetch_add(receipt.counts.failed, Ordering::Relaxed);
    }

    /// The counters now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            planned: read(&self.planned),
            done: read(&self.done),
            failed: read(&self.failed),
            events: read(&self.events),
        }
    }
}
