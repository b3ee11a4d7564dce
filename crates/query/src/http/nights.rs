//! The night that is shown: the newest that is published, looked for in the background so that no question waits.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use datafusion::arrow::array::RecordBatch;
use futures::TryStreamExt;
use tokio::sync::{Notify, OnceCell};

use super::Served;
use crate::{Error, Result, SearchIndex, Session, error::CauseFrom};

/// How often it is looked whether a run was published.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// The tables of one night with their index.
#[derive(Debug)]
pub(crate) struct Night {
    pub(super) session: Session,
    pub(super) index: SearchIndex,
    /// What the events can be told apart by, once it was asked for.
    pub(super) groups: OnceCell<serde_json::Value>,
}

/// The newest night.
#[derive(Debug)]
pub(super) struct Nights {
    shown: Mutex<Option<Arc<Night>>>,
    /// Something was written: it is looked at once.
    written: Notify,
}

impl Nights {
    /// Opens the newest night; there need not be one yet.
    pub(super) async fn open(served: &Served) -> Result<Self> {
        let shown = match session(served).await? {
            Some(session) => Some(Arc::new(indexed(served, session).await?)),
            None => None,
        };
        Ok(Self { shown: Mutex::new(shown), written: Notify::new() })
    }

    /// The newest night, as of some seconds ago. `None` where nothing was ever published.
    pub(super) fn newest(&self) -> Option<Arc<Night>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the tables looked at now.
    pub(super) fn hurry(&self) {
        self.written.notify_one();
    }

    /// Looks for newer nights for as long as it is polled. One that cannot be opened leaves the one before.
    pub(super) async fn follow(&self, served: &Served) {
        loop {
            // Whether the time was up or something was written does not matter.
            let _ = tokio::time::timeout(LOOK_EVERY, self.written.notified()).await;
            match self.newer(served).await {
                Ok(Some(night)) => {
                    *self.shown.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(Arc::new(night));
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(error = error.with_causes(), "cannot look for a newer run");
                }
            }
        }
    }

    async fn newer(&self, served: &Served) -> Result<Option<Night>> {
        let Some(session) = session(served).await? else { return Ok(None) };
        let versions = |session: &Session| {
            session.tables().iter().map(|table| table.version).collect::<Vec<_>>()
        };
        let shown = self.newest();
        if shown.is_some_and(|night| versions(&night.session) == versions(&session)) {
            return Ok(None);
        }
        indexed(served, session).await.map(Some)
    }
}

/// The tables as they are now, if a run was published. They are made before, and empty until then.
async fn session(served: &Served) -> Result<Option<Session>> {
    let Served { store, uri, options, .. } = served;
    match Session::open(Arc::clone(store), uri, options).await {
        Ok(session) => Ok(has_a_run(&session).await?.then_some(session)),
        Err(Error::NoTables { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn has_a_run(session: &Session) -> Result<bool> {
    let runs = session.query("SELECT run_id FROM runs LIMIT 1").await?;
    let runs: Vec<RecordBatch> =
        runs.try_collect().await.map_err(|source| Error::Run { source: source.cause() })?;
    Ok(runs.iter().any(|batch| batch.num_rows() > 0))
}

async fn indexed(served: &Served, session: Session) -> Result<Night> {
    let index = session.search_index(&served.search).await?;
    Ok(Night { session, index, groups: OnceCell::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, SearchOptions, http::Guard, testing::Lake};
    use eventide_schema::tables::runs_schema;
    use object_store::local::LocalFileSystem;

    #[tokio::test]
    async fn tables_without_a_run_are_not_shown_yet() {
        let lake = Lake::new();
        let served = Served {
            store: Arc::new(LocalFileSystem::new()),
            uri: lake.uri(),
            options: Options::default(),
            search: SearchOptions::below(lake.file("index")),
            locate: Arc::new(|_| None),
            pictures: None,
            references: None,
            record: None,
            guard: Guard::default(),
        };
        let nights = Nights::open(&served).await.unwrap();
        assert!(nights.newest().is_none());
        lake.append("runs", RecordBatch::new_empty(runs_schema())).await;
        assert!(nights.newer(&served).await.unwrap().is_none());
        lake.add_a_night().await;
        assert!(nights.newer(&served).await.unwrap().is_some());
    }
}
