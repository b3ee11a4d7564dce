//! Marks of attempts at a shard, so that a video that kills its worker does not kill every worker in turn.
//!
//! A process that crashes leaves nothing but what it wrote before. Whoever begins a shard leaves a mark;
//! who finds the mark of another that never finished works carefully, with a mark for each video that it
//! is at. A video at which workers died is known by these marks. All of them go when the shard is done.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use object_store::{PutMode, PutOptions, path::Path};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result, Tables,
    receipt::{FORMAT_VERSION, remove_quietly},
};

/// Reason of the failure of a video at which workers died again and again. It has had its attempts in this version.
pub const KILLS_WORKERS: &str = "kills_workers";
/// How often a number is looked for that no other attempt has taken.
const TRIES: u32 = 100;

/// One attempt at a shard.
#[derive(Debug)]
pub struct Attempt {
    tables: Tables,
    folder: Path,
    number: u32,
    /// Videos at which earlier attempts ended, and how many.
    died_at: BTreeMap<String, u32>,
    /// The marks of earlier attempts.
    earlier: Vec<Path>,
    /// The marks of this one.
    own: Mutex<BTreeSet<Path>>,
}

/// What stands in a mark, for a person who looks.
#[derive(Debug, Serialize, Deserialize)]
struct Mark<'a> {
    format_version: u32,
    worker: &'a str,
}

impl Tables {
    /// Marks that a worker begins a shard.
    ///
    /// # Errors
    /// Whatever keeps the marks from being listed or written.
    pub async fn begin_attempt(
        &self,
        run_id: &str,
        shard_id: &str,
        worker: &str,
    ) -> Result<Attempt> {
        let earlier = self.list_own(&format!("attempts/{run_id}/{shard_id}")).await?;
        let names = earlier.iter().filter_map(|path| path.filename()?.strip_suffix(".json"));
        let (mut last, mut died_at) = (0, BTreeMap::<String, u32>::new());
        for name in names {
            match name.split_once('-') {
                None => last = last.max(name.parse().unwrap_or(0)),
                Some((_, video_id)) => *died_at.entry(video_id.to_owned()).or_default() += 1,
            }
        }
        let folder = self.location().child("_eventide/attempts").join(run_id).join(shard_id);
        for number in last + 1..=last + TRIES {
            let path = folder.clone().join(format!("{number:04}.json"));
            if self.mark(&path, worker).await? {
                let own = Mutex::new(BTreeSet::from([path]));
                return Ok(Attempt { tables: self.clone(), folder, number, died_at, earlier, own });
            }
        }
        Err(Error::Contended { uri: self.location().uri_of(&folder), attempts: TRIES as usize })
    }

    /// Leaves a mark; says whether nobody had left it before.
    async fn mark(&self, path: &Path, worker: &str) -> Result<bool> {
        let uri = || self.location().uri_of(path);
        let mark = Mark { format_version: FORMAT_VERSION, worker };
        let bytes =
            serde_json::to_vec(&mark).map_err(|source| Error::Document { uri: uri(), source })?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.location().store.put_opts(path, bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(source) => Err(Error::store("create", uri(), source)),
        }
    }
}

impl Attempt {
    /// Whether an earlier attempt never ended, so that each video is to be marked.
    #[must_use]
    pub fn is_careful(&self) -> bool {
        !self.earlier.is_empty()
    }

    /// At how many earlier attempts the worker died with this video in hand.
    #[must_use]
    pub fn deaths_at(&self, video_id: &str) -> u32 {
        self.died_at.get(video_id).copied().unwrap_or(0)
    }

    /// Marks that a video is begun.
    ///
    /// # Errors
    /// What the store says.
    pub async fn enter(&self, video_id: &str, worker: &str) -> Result<()> {
        let path = self.video_path(video_id);
        self.own(|own| own.insert(path.clone()));
        self.tables.mark(&path, worker).await.map(drop)
    }

    /// Takes the mark of a video away again.
    pub async fn leave(&self, video_id: &str) {
        let path = self.video_path(video_id);
        self.own(|own| own.remove(&path));
        remove_quietly(self.tables.location(), vec![path]).await;
    }

    /// The shard is done: takes all marks away.
    pub async fn finish(&self) {
        let own = self.own(std::mem::take);
        let marks = self.earlier.iter().cloned().chain(own).collect();
        remove_quietly(self.tables.location(), marks).await;
    }

    /// The shard is given up by one who lives: takes the marks of this attempt away.
    pub async fn give_up(&self) {
        let marks = self.own(std::mem::take);
        remove_quietly(self.tables.location(), marks.into_iter().collect()).await;
    }

    fn own<T>(&self, change: impl FnOnce(&mut BTreeSet<Path>) -> T) -> T {
        change(&mut self.own.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn video_path(&self, video_id: &str) -> Path {
        self.folder.clone().join(format!("{:04}-{video_id}.json", self.number))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::Stores;

    fn tables() -> Tables {
        let stores = Stores::new(BTreeMap::new());
        stores.insert("memory://", Arc::new(InMemory::new()));
        Tables::open(&stores, "memory:///lake").unwrap()
    }

    async fn begun(tables: &Tables) -> Attempt {
        tables.begin_attempt("r", "s", "w").await.unwrap()
    }

    #[tokio::test]
    async fn a_video_at_which_workers_die_is_known() {
        let tables = tables();
        let first = begun(&tables).await;
        assert!(!first.is_careful());
        drop(first); // it died, and nobody knows where
        for deaths in 0..3 {
            let next = begun(&tables).await;
            assert!(next.is_careful());
            assert_eq!((next.deaths_at("poison"), next.deaths_at("good")), (deaths, 0));
            next.enter("good", "w").await.unwrap();
            next.leave("good").await;
            next.enter("poison", "w").await.unwrap();
        }
        let last = begun(&tables).await;
        assert_eq!(last.deaths_at("poison"), 3);
        last.finish().await;
        assert_eq!(tables.list_own("attempts").await.unwrap(), []);
        assert!(!begun(&tables).await.is_careful());
    }

    #[tokio::test]
    async fn who_gives_up_alive_leaves_no_mark() {
        let tables = tables();
        let first = begun(&tables).await;
        first.enter("a", "w").await.unwrap();
        first.give_up().await;
        let second = begun(&tables).await;
        assert!(!second.is_careful() && second.deaths_at("a") == 0);
        let other = tables.begin_attempt("r", "another", "w").await.unwrap();
        assert!(!other.is_careful());
    }

    #[tokio::test]
    async fn two_at_a_time_have_marks_of_their_own() {
        let tables = tables();
        let (one, other) = (begun(&tables).await, begun(&tables).await);
        assert_ne!(one.number, other.number);
        one.enter("a", "w").await.unwrap();
        other.enter("a", "w").await.unwrap();
        assert_eq!(begun(&tables).await.deaths_at("a"), 2);
    }
}
