//! What killed processes leave behind, and nobody will ever read: part files without a receipt, receipts
//! and plans of runs that were published without them, and on a file system what was half written.
//!
//! Only what was never part of a table goes. Files that a commit has taken out of a table stay, since
//! older versions are read through them; Delta Lake's own vacuum is for those. A vacuum may be killed
//! anywhere, run twice at a time, and run beside a night: what is young stays, and what is old and needed
//! is named by a receipt, by the intent to publish it, or by a log, and these are read in this order,
//! which is the order in which a file is handed on from one to the next.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStoreExt, path::Path};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    Error, Location, Receipt, Result, Submission, Tables,
    publish::PublishPlan,
    receipt::read_document,
    tables::{Table, data_files, read_concurrency},
};

/// The age below which nothing is looked at: far longer than any process holds a file that no receipt
/// names yet.
pub const LEAST_AGE: Duration = Duration::from_hours(1);

/// Something that nobody needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Where it is.
    pub uri: String,
    /// Its bytes.
    pub size_bytes: u64,
    /// Seconds since it was written.
    pub age_s: u64,
    /// What it is.
    pub kind: OrphanKind,
    place: Place,
}

/// Where an orphan is, for who removes it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// In the store.
    Object(Path),
    /// On this machine, under a name that the store does not show.
    File(PathBuf),
}

/// What an orphan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrphanKind {
    /// A file of a table that no version of it has.
    Part,
    /// A receipt that came after its run was published.
    Receipt,
    /// A plan that nobody follows any more.
    Plan,
    /// A note that was to be gone at once.
    Note,
    /// A file of this machine that was not written to its end.
    Fragment,
}

impl OrphanKind {
    /// In a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Part => "part",
            Self::Receipt => "receipt",
            Self::Plan => "plan",
            Self::Note => "note",
            Self::Fragment => "fragment",
        }
    }
}

/// What unpublished work needs.
#[derive(Default)]
struct Pending {
    /// Runs with receipts or intents, or which someone has submitted; by whether they are published.
    runs: BTreeMap<String, bool>,
    /// Part files, by their names within a table.
    parts: BTreeSet<(Table, String)>,
}

impl Pending {
    fn need(&mut self, receipt: Receipt) {
        let of_tables = [
            (Table::Events, receipt.events),
            (Table::Videos, receipt.videos),
            (Table::Transcripts, receipt.transcripts),
        ];
        for (table, parts) in of_tables {
            self.parts.extend(parts.into_iter().map(|part| (table, part.path)));
        }
    }
}

impl Tables {
    /// What is older than `age`, or than [`LEAST_AGE`], and needed by nobody.
    ///
    /// # Errors
    /// Whatever keeps it from being known; nothing is guessed.
    pub async fn orphans(&self, age: Duration) -> Result<Vec<Orphan>> {
        let age = chrono::Duration::from_std(age.max(LEAST_AGE)).unwrap_or(chrono::Duration::MAX);
        match Utc::now().checked_sub_signed(age) {
            Some(before) => self.orphans_before(before).await,
            None => Ok(Vec::new()),
        }
    }

    /// What was written before a moment and is needed by nobody.
    pub(crate) async fn orphans_before(&self, before: DateTime<Utc>) -> Result<Vec<Orphan>> {
        let mut old = Vec::new();
        let nights = [Table::Events, Table::Videos, Table::Transcripts, Table::Runs];
        for table in nights.into_iter().chain([Table::Feedback]) {
            old.push((table, self.old_parts(table, before).await?));
        }
        let pending = self.pending_work().await?;
        let mut orphans = Vec::new();
        for (table, parts) in old {
            if parts.is_empty() {
                continue;
            }
            let known = self.ever_known(table).await?;
            let folder = self.folder(table);
            orphans.extend(parts.into_iter().filter_map(|part| {
                let name = within(&folder, &part.location)?;
                let needed = known.contains(&name) || pending.parts.contains(&(table, name));
                (!needed).then(|| self.orphan(part, OrphanKind::Part))
            }));
        }
        orphans.extend(self.stray_documents(&pending, before).await?);
        orphans.extend(self.fragments(before).await?);
        orphans.sort_by(|a, b| (a.kind, &a.uri).cmp(&(b.kind, &b.uri)));
        Ok(orphans)
    }

    /// Removes what [`Tables::orphans`] found. What is gone already is as good.
    ///
    /// # Errors
    /// What the store says to the first that it does not remove; calling again goes on.
    pub async fn remove_orphans(&self, orphans: &[Orphan]) -> Result<()> {
        for orphan in orphans {
            let removed = match &orphan.place {
                Place::Object(path) => self.location().store.delete(path).await,
                Place::File(path) => tokio::fs::remove_file(path).await.map_err(of_disk),
            };
            match removed {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(Error::store("delete", orphan.uri.clone(), source)),
            }
        }
        Ok(())
    }

    fn orphan(&self, object: ObjectMeta, kind: OrphanKind) -> Orphan {
        Orphan {
            uri: self.location().uri_of(&object.location),
            size_bytes: object.size,
            age_s: age_s(object.last_modified),
            kind,
            place: Place::Object(object.location),
        }
    }

    /// What writing to a file system leaves behind where the process dies: the store writes beside the place of a file,
    /// under its name, `#` and a number, then gives it its name. It neither lists nor removes such files.
    async fn fragments(&self, before: DateTime<Utc>) -> Result<Vec<Orphan>> {
        let nights = [Table::Events, Table::Videos, Table::Transcripts, Table::Runs];
        let folders = nights.into_iter().chain([Table::Feedback]).map(|table| self.folder(table));
        let mut fragments = Vec::new();
        for folder in folders.chain([self.location().below("_eventide")]) {
            let Some(path) = folder.local_path(&folder.prefix) else { return Ok(Vec::new()) };
            let found = tokio::task::spawn_blocking(move || fragments_below(path, before)).await;
            let found = found.unwrap_or_else(|ended| Err(io::Error::other(ended)));
            let found = found.map_err(|e| Error::store("list", &folder.uri, of_disk(e)))?;
            fragments.extend(found.into_iter().filter_map(|fragment| {
                let path = Path::parse(fragment.path.to_str()?.trim_start_matches('/')).ok()?;
                Some(Orphan {
                    uri: folder.uri_of(&path),
                    size_bytes: fragment.size_bytes,
                    age_s: age_s(fragment.written),
                    kind: OrphanKind::Fragment,
                    place: Place::File(fragment.path),
                })
            }));
        }
        Ok(fragments)
    }

    /// The files of a table's folder that we have written, once; others are not ours to judge.
    async fn old_parts(&self, table: Table, before: DateTime<Utc>) -> Result<Vec<ObjectMeta>> {
        let folder = self.folder(table);
        let mut old = old_objects(&folder, before).await?;
        old.retain(|object| {
            let name = within(&folder, &object.location).unwrap_or_default();
            let plain =
                name.strip_prefix("_change_data/cdc-").or_else(|| name.strip_prefix("part-"));
            plain.is_some_and(|rest| !rest.contains('/') && rest.ends_with(".parquet"))
        });
        Ok(old)
    }

    /// What receipts, intents and submissions say is still needed.
    async fn pending_work(&self) -> Result<Pending> {
        let mut pending = Pending::default();
        let receipts = self.documents::<Receipt>("receipts").await?;
        for plan in self.documents::<PublishPlan>("runs").await? {
            // It may have died before all of its commits, whatever `runs` says.
            pending.runs.insert(plan.run.run_id, false);
            plan.receipts.into_iter().for_each(|receipt| pending.need(receipt));
        }
        for note in self.documents::<Submission>("submissions").await? {
            pending.runs.entry(note.run_id).or_insert(false);
        }
        for receipt in receipts {
            let published = match pending.runs.get(&receipt.run_id) {
                Some(published) => *published,
                None => self.is_published(&receipt.run_id).await?,
            };
            pending.runs.insert(receipt.run_id.clone(), published);
            if !published {
                pending.need(receipt); // else it came too late: the rows of its shard are another's
            }
        }
        Ok(pending)
    }

    /// Every file that a version of the table, or the way from one to the next, names.
    async fn ever_known(&self, table: Table) -> Result<BTreeSet<String>> {
        let folder = self.folder(table);
        let mut known = BTreeSet::new();
        let Some(delta) = self.delta(table, None).await? else { return Ok(known) };
        for file in data_files(&folder, &delta)? {
            known.extend(within(&folder, &file.path));
        }
        let logs = folder.below("_delta_log");
        let entries = list(&logs).await?.into_iter().map(|object| object.location);
        let entries = entries.filter(|path| path.extension() == Some("json"));
        let mut read = futures::stream::iter(entries)
            .map(|path| {
                let logs = &logs;
                async move {
                    let read = async { logs.store.get(&path).await?.bytes().await };
                    match read.await {
                        Ok(bytes) => named_by(&bytes),
                        // The log is trimmed from its old end, up to a checkpoint.
                        Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
                        Err(source) => {
                            return Err(Error::store("read", logs.uri_of(&path), source));
                        }
                    }
                    .map_err(|source| Error::Document { uri: logs.uri_of(&path), source })
                }
            })
            .buffer_unordered(read_concurrency());
        while let Some(names) = read.try_next().await? {
            known.extend(names);
        }
        Ok(known)
    }

    /// Documents under `_eventide/` that nobody will read.
    async fn stray_documents(
        &self,
        pending: &Pending,
        before: DateTime<Utc>,
    ) -> Result<Vec<Orphan>> {
        let own = self.location().below("_eventide");
        let mut strays = Vec::new();
        for object in old_objects(&own, before).await? {
            let name = within(&own, &object.location).unwrap_or_default();
            let mut steps = name.split('/');
            let (folder, run) = (steps.next(), steps.next().unwrap_or_default());
            let kind = match (folder, pending.runs.get(run)) {
                (Some("receipts"), Some(true)) => OrphanKind::Receipt,
                (Some("plans"), Some(true) | None) => OrphanKind::Plan,
                (Some("attempts"), Some(true) | None) | (Some("probe"), _) => OrphanKind::Note,
                _ => continue,
            };
            strays.push(self.orphan(object, kind));
        }
        Ok(strays)
    }

    /// All documents of a kind.
    async fn documents<T: DeserializeOwned>(&self, folder: &str) -> Result<Vec<T>> {
        let paths = self.list_own(folder).await?;
        futures::stream::iter(paths)
            .map(|path| async move { read_document(self.location(), &path).await })
            .buffer_unordered(read_concurrency())
            .try_filter_map(|document| std::future::ready(Ok(document)))
            .try_collect()
            .await
    }
}

fn age_s(written: DateTime<Utc>) -> u64 {
    (Utc::now() - written).num_seconds().try_into().unwrap_or(0)
}

/// What the disk says, as the store would.
fn of_disk(error: io::Error) -> object_store::Error {
    match error.kind() {
        io::ErrorKind::NotFound => {
            object_store::Error::NotFound { path: String::new(), source: error.into() }
        }
        _ => object_store::Error::Generic { store: "LocalFileSystem", source: error.into() },
    }
}

/// A file that was not written to its end.
struct Fragment {
    path: PathBuf,
    size_bytes: u64,
    written: DateTime<Utc>,
}

/// The fragments in a folder and below it that were written before a moment. What goes meanwhile is not there.
fn fragments_below(folder: PathBuf, before: DateTime<Utc>) -> io::Result<Vec<Fragment>> {
    let (mut folders, mut fragments) = (vec![folder], Vec::new());
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && entry.file_name().to_str().is_some_and(is_of_a_fragment) {
                let facts = match entry.metadata() {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    facts => facts?,
                };
                let (path, size_bytes) = (entry.path(), facts.len());
                let written = DateTime::from(facts.modified()?);
                if written < before {
                    fragments.push(Fragment { path, size_bytes, written });
                }
            }
        }
    }
    Ok(fragments)
}

/// Whether the store gives such a name to what it has begun to write, `NAME#1`.
fn is_of_a_fragment(name: &str) -> bool {
    let parts = name.rsplit_once('#');
    parts.is_some_and(|(name, number)| {
        !name.is_empty() && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The objects of a folder that were written before a moment.
async fn old_objects(folder: &Location, before: DateTime<Utc>) -> Result<Vec<ObjectMeta>> {
    let mut objects = list(folder).await?;
    objects.retain(|object| object.last_modified < before);
    Ok(objects)
}

async fn list(folder: &Location) -> Result<Vec<ObjectMeta>> {
    let listed: Result<_, _> = folder.store.list(Some(&folder.prefix)).try_collect().await;
    listed.map_err(|source| Error::store("list", &folder.uri, source))
}

/// The name of an object within a folder.
fn within(folder: &Location, path: &Path) -> Option<String> {
    let steps: Vec<_> = path.prefix_match(&folder.prefix)?.collect();
    Some(steps.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("/"))
}

/// The files that a commit adds, removes or tells its changes in.
fn named_by(entry: &[u8]) -> Result<Vec<String>, serde_json::Error> {
    #[derive(Deserialize)]
    struct File {
        path: String,
    }
    #[derive(Deserialize)]
    struct Line {
        add: Option<File>,
        remove: Option<File>,
        cdc: Option<File>,
    }
    let lines = serde_json::Deserializer::from_slice(entry).into_iter::<Line>();
    let mut names = Vec::new();
    for line in lines {
        let Line { add, remove, cdc } = line?;
        names.extend([add, remove, cdc].into_iter().flatten().map(|file| file.path));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rstest::rstest;

    use super::*;
    use crate::Stores;

    #[rstest]
    #[case::document("0198.json#1", true)]
    #[case::second("part-1.parquet#12", true)]
    #[case::whole("0198.json", false)]
    #[case::no_number("notes#", false)]
    #[case::word("part-1.parquet#a1", false)]
    #[case::nothing_before("#1", false)]
    fn fragments_are_known_by_their_names(#[case] name: &str, #[case] fragment: bool) {
        assert_eq!(is_of_a_fragment(name), fragment);
    }

    #[tokio::test]
    async fn old_fragments_go_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let lake = folder.path().join("my lake #1");
        let tables = Tables::open(&Stores::new(BTreeMap::new()), lake.to_str().unwrap()).unwrap();
        let write = |name: &str, old: bool| {
            let path = lake.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "{").unwrap();
            if old {
                let then = std::time::SystemTime::now() - 2 * LEAST_AGE;
                fs::File::open(path).unwrap().set_modified(then).unwrap();
            }
        };
        let doomed = ["_eventide/receipts/r1/s1.json#1", "events/part-1.parquet#2"];
        for name in doomed {
            write(name, true);
        }
        let kept = ["events/_delta_log/00.json#1", "_eventide/receipts/r1/s2.json#1"];
        for name in kept {
            write(name, false);
        }
        let others = ["events/notes#1.txt", "elsewhere/part-1.parquet#1"];
        for name in others {
            write(name, true);
        }
        let orphans = tables.orphans(Duration::ZERO).await.unwrap();
        let found: Vec<_> = orphans.iter().map(|orphan| (orphan.kind, &*orphan.uri)).collect();
        let uri = |name: &str| tables.location().uri_of(&Path::parse(name).unwrap());
        let named = doomed.map(|name| uri(&format!("{}/{name}", tables.location().prefix)));
        assert_eq!(found, named.each_ref().map(|uri| (OrphanKind::Fragment, uri.as_str())));
        for _ in 0..2 {
            tables.remove_orphans(&orphans).await.unwrap(); // what is gone is as good
        }
        assert!(doomed.iter().all(|name| !lake.join(name).exists()));
        assert!(kept.iter().chain(&others).all(|name| lake.join(name).exists()));
        assert!(tables.orphans(Duration::ZERO).await.unwrap().is_empty());
    }
}
