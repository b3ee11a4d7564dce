//! Publishing: a run's receipts become one commit to each of the other tables, and then the row
//! of `runs` that makes readers look at them.
//!
//! Runs are published one after the other, whoever runs at the same time. What is to be
//! published is written down first; then the run takes the next turn in a queue of documents that
//! are written once. Whoever finds a turn that is not finished finishes it, exactly as written.
//! So a process may die anywhere, and two may do the same work: the log of each table has each
//! run once.
//!
//! A run may be published in parts while it goes on. Each is a publication like any other, with a name, an
//! intent, a turn, commits and a row of its own; only the last takes what the run leaves behind away.

use std::collections::{BTreeSet, HashSet};

use eventide_schema::tables::{RunRow, run_batch};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Counts, Error, Receipt, Result, Tables, WorkList,
    commit::Change,
    parts::PartWriter,
    receipt::{Created, FORMAT_VERSION, create, read_document, remove_quietly},
    tables::Table,
};

/// How many other runs' turns are waited for, which is to say finished for them.
const MOST_TURNS: usize = 1000;

/// Everything that a run publishes, or a part of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublishPlan {
    /// Version of this document.
    pub format_version: u32,
    /// The row of `runs`, but for the versions of the other tables.
    pub run: RunRow,
    /// The finished shards, adopted ones too.
    pub receipts: Vec<Receipt>,
    /// Videos whose rows go, by their `video_id`.
    pub removed: Vec<String>,
}

/// What only the run itself knows of its row in `runs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFacts {
    /// The run. It sorts by time, and is `[A-Za-z0-9._-]` since it stands in file names.
    pub run_id: String,
    /// Name of the job.
    pub job: String,
    /// Milliseconds since 1970 (UTC).
    pub started_at_ms: i64,
    /// Milliseconds since 1970 (UTC).
    pub finished_at_ms: i64,
    /// Digest of the model bundle, or `none`.
    pub model_digest: String,
    /// Digest of the parameters.
    pub params_digest: String,
}

/// The version of the other tables is `None` in a plan; this is what a turn says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Turn {
    format_version: u32,
    run_id: String,
}

impl PublishPlan {
    /// The plan for a work list whose shards have all got their receipts. `receipts` are those
    /// of this run, those of joined videos too; the adopted ones come from the work list.
    #[must_use]
    pub fn new(facts: RunFacts, list: &WorkList, receipts: Vec<Receipt>) -> Self {
        let receipts = list.adopted.iter().cloned().chain(receipts).collect();
        Self::after(0, None, facts, list, receipts)
    }

    /// The plan for what is finished of a work list of which `earlier` videos are published. `receipts`
    /// are all that are not, adopted ones too. `part` is the number of this part in its run, from 1;
    /// `None` for the last, which also takes away what is gone.
    #[must_use]
    pub fn after(
        earlier: u64,
        part: Option<u32>,
        facts: RunFacts,
        list: &WorkList,
        mut receipts: Vec<Receipt>,
    ) -> Self {
        receipts.sort_by(|a, b| (&a.run_id, &a.shard_id).cmp(&(&b.run_id, &b.shard_id)));
        for receipt in &mut receipts {
            receipt.stretch = None; // joined, or the sums are off
        }
        let sum: Counts = receipts.iter().map(|receipt| receipt.counts).sum();
        let removed = if part.is_none() { list.removed.clone() } else { Vec::new() };
        let left_out = list.skipped.len() as u64; // with the first part
        let adopted: HashSet<_> = list.adopted.iter().map(|receipt| &receipt.shard_id).collect();
        let receipt = json!({
            "shards": receipts.len(),
            "adopted": receipts.iter().filter(|r| adopted.contains(&r.shard_id)).count(),
            "due": list.due,
            "events_files": receipts.iter().map(|r| r.events.len()).sum::<usize>(),
            "videos_files": receipts.iter().map(|r| r.videos.len()).sum::<usize>(),
            "transcripts_files": receipts.iter().map(|r| r.transcripts.len()).sum::<usize>(),
        });
        let run = RunRow {
            run_id: facts.run_id,
            job: facts.job,
            started_at_ms: facts.started_at_ms,
            finished_at_ms: facts.finished_at_ms,
            listed: list.listed,
            planned: list.due.total() - earlier.saturating_sub(left_out),
            captioned: sum.captioned,
            empty: sum.empty,
            failed: sum.failed,
            skipped: sum.skipped,
            unchanged: list.unchanged + earlier,
            removed: removed.len() as u64,
            events: sum.events,
            video_ms: sum.video_ms,
            core_ms: sum.core_ms,
            device_ms: sum.device_ms,
            bytes_read: sum.bytes_read,
            model_digest: facts.model_digest,
            params_digest: facts.params_digest,
            events_version: None,
            videos_version: None,
            transcripts_version: None,
            receipt: receipt.to_string(),
            part,
            pending: (list.due.total() + left_out).saturating_sub(earlier + sum.videos()),
        };
        Self { format_version: FORMAT_VERSION, run, receipts, removed }
    }

    /// Every listed object in one state, every state backed by a receipt, no video twice.
    fn check(&self) -> Result<()> {
        let off =
            |because: String| Err(Error::Unbalanced { run_id: self.run.run_id.clone(), because });
        let RunRow { listed, captioned, empty, failed, skipped, unchanged, pending, .. } = self.run;
        if !self.run.is_balanced() {
            return off(format!(
                "{listed} listed are not {captioned} captioned, {empty} empty, {failed} failed, \
                 {skipped} skipped, {unchanged} unchanged and {pending} pending"
            ));
        }
        if self.run.part.is_none() && pending > 0 {
            return off(format!("it is to be complete, and {pending} videos have no outcome"));
        }
        let mut counted = Counts::default();
        let mut seen = HashSet::new();
        for item in self.receipts.iter().flat_map(|receipt| &receipt.items) {
            if !seen.insert(item.video_id.as_str()) {
                return off(format!("video `{}` has two outcomes", item.video_id));
            }
            *counted.of_status(item.status) += 1;
        }
        let told = (captioned, empty, failed, skipped);
        let found = (counted.captioned, counted.empty, counted.failed, counted.skipped);
        if told != found {
            return off(format!(
                "captioned, empty, failed and skipped are {told:?}, in the receipts {found:?}"
            ));
        }
        if let Some(video_id) = self.removed.iter().find(|id| !seen.insert(id.as_str())) {
            return off(format!("video `{video_id}` is removed, and more than that"));
        }
        if self.run.removed != self.removed.len() as u64 {
            let (told, found) = (self.run.removed, self.removed.len());
            return off(format!("{told} are removed, by the list {found}"));
        }
        Ok(())
    }
}

impl Tables {
    /// Publishes a run: afterwards readers see all of it. Whatever was left unfinished before is
    /// finished first. Publishing the same plan again answers with the row that is there.
    ///
    /// Two runs may be published at the same time: they queue, and where both did the same
    /// video, the rows of the later one stay.
    ///
    /// # Errors
    /// [`Error::Unbalanced`] when the sums are off: nothing is published. [`Error::RunTaken`] when
    /// two processes went on with the same cut-off run, and the other one came first. After any
    /// other error the run is published wholly or not at all, and
    /// [`Tables::finish_interrupted`] completes what was begun.
    pub async fn publish(&self, plan: &PublishPlan) -> Result<RunRow> {
        plan.check()?;
        self.create_missing().await?;
        let name = publication(&plan.run);
        if self.is_published(&name).await? {
            return self.same_run(&plan.run).await;
        }
        match create(self.location(), &self.intent_path(&name), plan).await? {
            Created::Ours => {}
            Created::Theirs(_) => return Err(Error::RunTaken { run_id: name }),
        }
        self.finish(plan).await
    }

    /// Finishes, exactly as written, every run whose publishing was cut off. To be called before
    /// anything is planned.
    ///
    /// # Errors
    /// Whatever keeps it from being finished; calling again goes on.
    pub async fn finish_interrupted(&self) -> Result<Vec<RunRow>> {
        let mut finished = Vec::new();
        for path in self.list_own("runs").await? {
            let Some(plan) = read_document::<PublishPlan>(self.location(), &path).await? else {
                continue; // its publisher has just finished
            };
            if self.is_published(&publication(&plan.run)).await? {
                self.clean_up(&plan).await;
            } else {
                finished.push(self.finish(&plan).await?);
            }
        }
        Ok(finished)
    }

    /// Removes what a run has left that nobody will go on with.
    ///
    /// # Errors
    /// Whatever keeps it from being listed.
    pub async fn abandon(&self, run_id: &str) -> Result<()> {
        let left = self.left_by(run_id).await?;
        remove_quietly(self.location(), left).await;
        Ok(())
    }

    fn intent_path(&self, publication: &str) -> Path {
        self.location().child("_eventide/runs").join(publication).join("publish.json")
    }

    /// The row that is there, if it is of this plan.
    async fn same_run(&self, planned: &RunRow) -> Result<RunRow> {
        let name = publication(planned);
        let there = self.publications().await?.into_iter().find(|run| publication(run) == name);
        let without_versions = |run: &RunRow| RunRow {
            events_version: None,
            videos_version: None,
            transcripts_version: None,
            ..run.clone()
        };
        there
            .filter(|run| without_versions(run) == without_versions(planned))
            .ok_or(Error::RunTaken { run_id: name })
    }

    /// Takes the run's turn, makes its commits, and tidies up.
    async fn finish(&self, plan: &PublishPlan) -> Result<RunRow> {
        self.create_missing().await?;
        self.take_turn(&publication(&plan.run)).await?;
        let run = self.make_commits(plan).await?;
        self.clean_up(plan).await;
        Ok(run)
    }

    /// Returns when the newest turn is this run's, and every turn before it is finished.
    async fn take_turn(&self, run_id: &str) -> Result<()> {
        for _ in 0..MOST_TURNS {
            let turns = self.list_own("turns").await?;
            let mut next = 0;
            if let Some(newest) = turns.last() {
                let turn: Option<Turn> = read_document(self.location(), newest).await?;
                let holder = turn.map(|turn| turn.run_id).unwrap_or_default();
                if holder == run_id || self.is_published(run_id).await? {
                    return Ok(());
                }
                if !self.is_published(&holder).await? {
                    self.finish_for(&holder).await?;
                }
                next = turn_number(newest) + 1;
            }
            let path = self.location().child(&format!("_eventide/turns/{next:020}.json"));
            let turn = Turn { format_version: FORMAT_VERSION, run_id: run_id.to_owned() };
            if let Created::Ours = create(self.location(), &path, &turn).await? {
                return Ok(());
            }
        }
        Err(Error::Contended {
            uri: self.location().below("_eventide/turns").uri,
            attempts: MOST_TURNS,
        })
    }

    /// Makes the commits of another run, whose turn it is.
    async fn finish_for(&self, run_id: &str) -> Result<()> {
        let path = self.intent_path(run_id);
        match read_document::<PublishPlan>(self.location(), &path).await? {
            Some(plan) => self.make_commits(&plan).await.map(drop),
            None if self.is_published(run_id).await? => Ok(()),
            None => Err(Error::NotFound { uri: self.location().uri_of(&path) }),
        }
    }

    async fn make_commits(&self, plan: &PublishPlan) -> Result<RunRow> {
        let run_id = publication(&plan.run);
        let run_id = run_id.as_str();
        let items = plan.receipts.iter().flat_map(|receipt| &receipt.items);
        let replaced: BTreeSet<&String> =
            items.map(|item| &item.video_id).chain(&plan.removed).collect();
        let replaced: Vec<String> = replaced.into_iter().cloned().collect();
        let change = |table, parts| Change { table, run_id, parts, replaced: &replaced };
        let events = plan.receipts.iter().flat_map(|receipt| &receipt.events).collect();
        let videos = plan.receipts.iter().flat_map(|receipt| &receipt.videos).collect();
        tracing::info!(run_id, "publishing");
        let events_version = self.commit(&change(Table::Events, events)).await?;
        tracing::info!(run_id, version = events_version, "events published");
        let videos_version = self.commit(&change(Table::Videos, videos)).await?;
        tracing::info!(run_id, version = videos_version, "videos published");
        let transcripts = plan.receipts.iter().flat_map(|receipt| &receipt.transcripts).collect();
        let transcripts_version = self.commit(&change(Table::Transcripts, transcripts)).await?;
        tracing::info!(run_id, version = transcripts_version, "transcripts published");
        let run =
            RunRow { events_version, videos_version, transcripts_version, ..plan.run.clone() };
        self.commit_run(&run).await?;
        let said = if run.part.is_some() { "part published" } else { "run published" };
        tracing::info!(run_id, pending = run.pending, "{said}");
        Ok(run)
    }

    async fn commit_run(&self, run: &RunRow) -> Result<()> {
        let run_id = publication(run);
        if self.is_published(&run_id).await? {
            return Ok(());
        }
        let folder = self.folder(Table::Runs);
        let batch =
            run_batch(run).map_err(|source| Error::Rows { uri: folder.uri.clone(), source })?;
        let name = format!("part-{run_id}-{}.parquet", Uuid::now_v7());
        let mut writer = PartWriter::create(&folder, name, &Table::Runs.schema())?;
        writer.write(&batch).await?;
        let part = writer.finish().await?;
        let change =
            Change { table: Table::Runs, run_id: &run_id, parts: vec![&part], replaced: &[] };
        self.commit(&change).await.map(drop)
    }

    /// Removes what only a run that is not published needs. The intent goes last: as long as it
    /// is there, `finish_interrupted` comes back here.
    ///
    /// The receipts of a part stay until its run is complete: they keep its shards from being done again.
    async fn clean_up(&self, plan: &PublishPlan) {
        let run_id = plan.run.run_id.as_str();
        if let Err(error) = self.keep_timeline(plan).await {
            tracing::warn!(run_id, error = %error, "the timeline of the run is lost");
        }
        let mut paths = Vec::new();
        if plan.run.part.is_none() {
            match self.left_by(run_id).await {
                Ok(left) => paths = left,
                Err(error) => {
                    tracing::warn!(run_id, error = %error, "left documents of a published run behind");
                    return;
                }
            }
            paths.extend(plan.receipts.iter().map(|r| self.receipt_path(&r.run_id, &r.shard_id)));
            paths.sort();
            paths.dedup();
        }
        paths.push(self.intent_path(&publication(&plan.run)));
        remove_quietly(self.location(), paths).await;
    }

    /// What a run leaves for those that go on with it.
    async fn left_by(&self, run_id: &str) -> Result<Vec<Path>> {
        let mut left = Vec::new();
        for folder in ["receipts", "plans", "attempts"] {
            left.extend(self.list_own(&format!("{folder}/{run_id}")).await?);
        }
        Ok(left)
    }
}

/// What names a publication in logs and documents: its run, and the part of it.
pub(crate) fn publication(run: &RunRow) -> String {
    match run.part {
        Some(part) => format!("{}.{part:05}", run.run_id),
        None => run.run_id.clone(),
    }
}

fn turn_number(path: &Path) -> u64 {
    let name = path.filename().unwrap_or_default();
    name.trim_end_matches(".json").parse().unwrap_or(0)
}
