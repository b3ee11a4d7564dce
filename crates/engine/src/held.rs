//! Shards that a worker holds, marked in the store so that a video that kills workers is found out.
//!
//! A mark that stays says that its worker died. So marks of a worker that lives must go, whoever drops the
//! work and whenever: also when the worker ends, which waits for that.

use std::{panic, sync::Arc};

use eventide_catalog::Attempt;
use tokio::runtime::Handle;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tracing::Instrument;

use crate::Error;

/// The marks of one worker process.
#[derive(Debug)]
pub(crate) struct Held {
    /// Counts the shards that are marked, are being marked, or are being given up.
    shards: TaskTracker,
    /// The runtime of the process, where it has one: that of a task may end with the task's work.
    runtime: Option<Handle>,
}

/// A shard in hand. Dropping it takes the marks of its attempt away, since who drops it lives.
#[derive(Debug)]
pub(crate) struct HeldShard(Option<Marked>);

#[derive(Debug)]
struct Marked {
    attempt: Arc<Attempt>,
    runtime: Handle,
    /// Keeps the worker from ending.
    counted: TaskTrackerToken,
}

impl Held {
    /// Nothing is held. Marks are taken away by tasks of the runtime that this is called in, if any.
    pub(crate) fn new() -> Self {
        Self { shards: TaskTracker::new(), runtime: Handle::try_current().ok() }
    }

    /// Marks a shard by `begin`. Who stops waiting for it has no shard and leaves no mark, even where the
    /// mark was on its way to the store.
    ///
    /// # Errors
    /// That of `begin`, or [`Error::Cancelled`] where the process ends meanwhile.
    pub(crate) async fn begin(
        &self,
        begin: impl Future<Output = Result<Attempt, Error>> + Send + 'static,
    ) -> Result<HeldShard, Error> {
        let runtime = self.runtime.clone().unwrap_or_else(Handle::current);
        let (counted, giving_up) = (self.shards.token(), runtime.clone());
        let marking = async move {
            let attempt = Arc::new(begin.await?);
            Ok::<_, Error>(HeldShard(Some(Marked { attempt, runtime: giving_up, counted })))
        };
        match runtime.spawn(marking.in_current_span()).await {
            Ok(held) => held,
            Err(error) => match error.try_into_panic() {
                Ok(panicked) => panic::resume_unwind(panicked),
                Err(_) => Err(Error::Cancelled),
            },
        }
    }

    /// Waits until no shard is held and no mark of this worker is left, but those that the store would not
    /// take away.
    pub(crate) async fn none_left(&self) {
        self.shards.close();
        self.shards.wait().await;
    }
}

impl HeldShard {
    /// A shard that nobody marks.
    pub(crate) fn unmarked() -> Self {
        Self(None)
    }

    /// The attempt, if it is marked.
    pub(crate) fn attempt(&self) -> Option<Arc<Attempt>> {
        self.0.as_ref().map(|marked| Arc::clone(&marked.attempt))
    }

    /// The shard is done: takes the marks of all attempts away. Gives nothing, of any kind.
    pub(crate) async fn finish<T>(mut self) -> Option<T> {
        if let Some(marked) = self.0.take() {
            marked.attempt.finish().await;
        }
        None
    }
}

impl Drop for HeldShard {
    fn drop(&mut self) {
        if let Some(Marked { attempt, runtime, counted }) = self.0.take() {
            runtime.spawn(async move {
                attempt.give_up().await;
                drop(counted);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use eventide_catalog::{Stores, Tables};
    use eventide_testkit::{Fault, FaultyStore, Gate, Operation, Rule, When};
    use object_store::memory::InMemory;

    use super::*;

    /// Tables whose store holds the first mark back until the gate is opened.
    fn tables(gate: &Gate) -> Tables {
        let rule = Rule {
            operation: Operation::Put,
            path: "attempts".to_owned(),
            when: When::First(1),
            fault: Fault::Held(gate.clone()),
        };
        let stores = Stores::new(BTreeMap::new());
        stores.insert("memory://", Arc::new(FaultyStore::new(Arc::new(InMemory::new()), [rule])));
        Tables::open(&stores, "memory:///lake").unwrap()
    }

    async fn begin(tables: Tables) -> Result<Attempt, Error> {
        Ok(tables.begin_attempt("r", "s", "w").await?)
    }

    /// Whether the next one would take the worker before it for dead.
    async fn is_missed(tables: &Tables) -> bool {
        begin(tables.clone()).await.unwrap().is_careful()
    }

    #[tokio::test]
    async fn a_worker_ends_without_its_marks_whenever_its_work_is_dropped() {
        let gate = Gate::closed();
        let (tables, held) = (tables(&gate), Held::new());
        // The work is dropped while the mark is on its way.
        tokio::select! {
            _ = held.begin(begin(tables.clone())) => panic!("the gate is closed"),
            () = gate.arrivals(1) => {}
        }
        let waited = tokio::time::timeout(Duration::from_millis(20), held.none_left()).await;
        assert!(waited.is_err(), "a mark is on its way");
        gate.open();
        held.none_left().await;
        assert!(!is_missed(&tables).await);
    }

    #[tokio::test]
    async fn a_shard_that_is_dropped_is_given_up_before_the_worker_ends() {
        let gate = Gate::closed();
        gate.open();
        let (tables, held) = (tables(&gate), Held::new());
        let shard = held.begin(begin(tables.clone())).await.unwrap();
        assert!(shard.attempt().is_some_and(|attempt| !attempt.is_careful()));
        drop(shard);
        held.none_left().await;
        assert!(!is_missed(&tables).await);
    }
}
