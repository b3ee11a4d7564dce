//! The nights that are open: the newest, looked up again when it is old, and a few that tickets name.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use datafusion::execution::runtime_env::RuntimeEnv;
use object_store::ObjectStore;
use tokio::sync::Semaphore;

use super::ServeOptions;
use crate::{
    AsOf, Options, Result, SearchOptions, Session,
    session::{self},
};

/// Nights that stay open beside the newest. A statement of another opens it again.
const OTHERS: usize = 8;
/// Nights that are opened at a time; whoever asks for more waits.
const OPENED_AT_ONCE: usize = 4;

/// The nights of one place, which share memory and disk.
pub(super) struct Nights {
    store: Arc<dyn ObjectStore>,
    uri: String,
    options: Options,
    runtime: Arc<RuntimeEnv>,
    refresh: Duration,
    search: Option<SearchOptions>,
    newest: tokio::sync::Mutex<Option<(Instant, Night)>>,
    others: Mutex<VecDeque<Night>>,
    opening: Semaphore,
}

/// A night that is open.
#[derive(Clone)]
pub(super) struct Night {
    /// The version of `runs` that stands for it.
    pub(super) version: u64,
    /// Its tables.
    pub(super) session: Arc<Session>,
}

impl Nights {
    /// The nights below `uri`. Nothing is opened yet.
    pub(super) fn of(
        store: Arc<dyn ObjectStore>,
        uri: &str,
        options: &ServeOptions,
    ) -> Result<Self> {
        Ok(Self {
            store,
            uri: uri.to_owned(),
            options: options.session.clone(),
            runtime: session::runtime(&options.session)?,
            refresh: options.refresh,
            search: options.search.clone(),
            newest: tokio::sync::Mutex::new(None),
            others: Mutex::new(VecDeque::new()),
            opening: Semaphore::new(OPENED_AT_ONCE),
        })
    }

    /// A night, opened if need be.
    pub(super) async fn get(&self, as_of: &AsOf) -> Result<Night> {
        match as_of {
            AsOf::Newest => self.newest().await,
            AsOf::Version(version) => match self.known(*version) {
                Some(night) => Ok(night),
                None => self.open(as_of).await,
            },
            AsOf::Run(_) | AsOf::Time(_) => self.open(as_of).await,
        }
    }

    /// The newest night, as of `refresh` ago at most. Whoever comes while it is looked up waits for that.
    async fn newest(&self) -> Result<Night> {
        let mut newest = self.newest.lock().await;
        if let Some((looked_up, night)) = newest.as_ref()
            && looked_up.elapsed() < self.refresh
        {
            return Ok(night.clone());
        }
        let begun = Instant::now();
        let night = self.open(&AsOf::Newest).await?;
        *newest = Some((begun, night.clone()));
        Ok(night)
    }

    fn known(&self, version: u64) -> Option<Night> {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.iter().find(|night| night.version == version).cloned()
    }

    async fn open(&self, as_of: &AsOf) -> Result<Night> {
        // It is never closed.
        let _turn = self.opening.acquire().await;
        let (store, runtime) = (Arc::clone(&self.store), Arc::clone(&self.runtime));
        let session = Session::shared(store, &self.uri, &self.options, runtime, as_of).await?;
        if let Some(search) = &self.search {
            session.enable_search(search.clone());
        }
        let runs = session.tables().iter().find(|table| table.name == "runs");
        let version = runs.and_then(|runs| runs.version).unwrap_or(0);
        let night = Night { version, session: Arc::new(session) };
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.retain(|known| known.version != version);
        others.push_front(night.clone());
        others.truncate(OTHERS);
        Ok(night)
    }
}
