//! Tests of whole nights: plan, write, publish, read, with a store that dies at every possible
//! moment, and with others at work at the same time.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arrow::{
    array::{AsArray, RecordBatch},
    compute::cast,
    datatypes::DataType,
};
use async_trait::async_trait;
use datafusion::{physical_plan::collect, prelude::SessionContext};
use eventide_schema::{
    Cue, Event, EventSource, Failure, Heard, Outcome, Provenance, Shard, Stage, Status, TimeSpan,
    Transcript, TranscriptSource, Video, WorkItem, tables::RunRow, video_id,
};
use futures::{
    StreamExt, TryStreamExt,
    future::{join_all, try_join_all},
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, memory::InMemory, path::Path,
};
use rstest::rstest;

use crate::{
    Due, Error, Location, OptimizeOptions, Orphan, PlanOptions, PublishPlan, Result, RunFacts,
    Stores, Table, Tables, WorkList, plan,
};

/// A store that dies at its `n`th write or delete.
#[derive(Debug, Clone)]
struct Mortal {
    inner: Arc<dyn ObjectStore>,
    /// Writes before the last.
    left: Arc<AtomicUsize>,
    /// Whether the last write is done, and only its answer lost.
    last_is_done: bool,
    /// Whether only that one write fails.
    lives_on: bool,
    /// Whether that one is refused as if something else were there.
    refused: bool,
}

const DEAD: usize = usize::MAX;

impl Mortal {
    fn dies_after(inner: Arc<dyn ObjectStore>, writes: usize, last_is_done: bool) -> Self {
        Self {
            inner,
            left: Arc::new(AtomicUsize::new(writes)),
            last_is_done,
            lives_on: false,
            refused: false,
        }
    }

    fn is_dead(&self) -> bool {
        self.left.load(Ordering::SeqCst) == DEAD
    }

    /// Counts a write. `Some(done)` at the last one, which may be done or not.
    fn count(&self) -> object_store::Result<Option<bool>> {
        self.check()?;
        let before = self.left.fetch_sub(1, Ordering::SeqCst);
        if before == 0 && self.lives_on {
            self.left.store(DEAD - 1, Ordering::SeqCst);
        }
        Ok((before == 0).then_some(self.last_is_done)) // 0 - 1 is DEAD
    }

    fn check(&self) -> object_store::Result<()> {
        if self.is_dead() { Err(died()) } else { Ok(()) }
    }
}

fn died() -> object_store::Error {
    object_store::Error::Generic { store: "Mortal", source: "the process was killed".into() }
}

impl fmt::Display for Mortal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mortal")
    }
}

#[async_trait]
impl ObjectStore for Mortal {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        match self.count()? {
            None => self.inner.put_opts(path, payload, options).await,
            Some(false) if self.refused => Err(object_store::Error::Precondition {
                path: path.to_string(),
                source: "412".into(),
            }),
            Some(false) => Err(died()),
            Some(true) => {
                self.inner.put_opts(path, payload, options).await?;
                Err(died())
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.check()?;
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.check()?;
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let this = self.clone();
        let counted = paths.map(move |path| match this.count()? {
            None | Some(true) => path,
            Some(false) => Err(died()),
        });
        self.inner.delete_stream(counted.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match self.check() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.check()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.check()?;
        self.inner.copy_opts(from, to, options).await
    }
}

fn tables_in(store: Arc<dyn ObjectStore>) -> Tables {
    let stores = Stores::new(BTreeMap::new());
    stores.insert("memory://", store);
    Tables::open(&stores, "memory:///lake/tables").unwrap()
}

fn video(name: &str, version: &str) -> Video {
    let uri = format!("s3://corpus/{name}.mp4");
    Video {
        video_id: video_id(&uri),
        uri,
        source_version: version.to_owned(),
        size_bytes: 10,
        last_modified_ms: 1,
        sidecars: Vec::new(),
    }
}

/// A corpus from `name@version` words.
fn corpus(words: &str) -> Vec<Video> {
    words
        .split_whitespace()
        .map(|word| {
            let (name, version) = word.split_once('@').unwrap();
            video(name, version)
        })
        .collect()
}

fn options() -> PlanOptions {
    PlanOptions {
        model_digest: "m".to_owned(),
        params_digest: "p".to_owned(),
        speech_digest: Some("s".to_owned()),
        max_attempts: 3,
        largest_file_bytes: 1 << 40,
        shard_cost_bytes: 1 << 40,
        max_shard_videos: 3,
        split_bytes: None,
        allow_empty: true,
    }
}

fn provenance(run_id: &str) -> Provenance {
    Provenance {
        model_id: "none".to_owned(),
        model_digest: "m".to_owned(),
        params_digest: "p".to_owned(),
        speech_model_digest: "w".to_owned(),
        speech_digest: "s".to_owned(),
        run_id: run_id.to_owned(),
        indexed_at_ms: 1,
        worker: "w".to_owned(),
        pipeline_version: "0".to_owned(),
    }
}

/// What a worker makes of an item: two events that name video and version, or a failure for a
/// name that begins with `bad`.
fn outcome(item: &WorkItem) -> Outcome {
    let failure =
        Failure { stage: Stage::Probe, reason_code: "no_moov".to_owned(), reason: "x".to_owned() };
    let mut outcome = Outcome::without_events(item.clone(), Status::Failed, failure);
    if item.video.uri.contains("/bad") {
        return outcome;
    }
    outcome.status = Status::Captioned;
    outcome.failure = None;
    let event = |event_index: u32| Event {
        window_index: 0,
        event_index,
        span: TimeSpan::new(i64::from(event_index) * 1000, 9_000_000),
        time_resolution_us: 1000,
        caption: format!("{}@{}", item.video.uri, item.video.source_version),
        score: None,
        source: EventSource::Vid2Seq,
        speech: None,
        language: None,
    };
    outcome.events = vec![event(0), event(1)];
    outcome.transcript = said(&item.video);
    outcome.heard = true;
    outcome
}

/// What a recogniser hears in a video: nothing where the name begins with `mute`.
fn said(video: &Video) -> Transcript {
    if video.uri.contains("/mute") {
        return Transcript::default();
    }
    let cue = |start_us: i64| Cue {
        span: TimeSpan::new(start_us, start_us + 1_234_000),
        text: format!("{start_us} of {}@{}", video.uri, video.source_version),
    };
    Transcript {
        source: TranscriptSource::Asr,
        language: Some("en".to_owned()),
        cues: [2_000_000, 0, 1_000_000].map(cue).into(),
        confidences: vec![0.25, 0.5, 0.75],
    }
}

fn place(uri: &str) -> Location {
    let stores = Stores::new(BTreeMap::new());
    stores.insert("s3://corpus", Arc::new(InMemory::new()));
    stores.open(uri).unwrap()
}

/// The place that every video of these tests lies below.
fn whole_bucket() -> Location {
    place("s3://corpus")
}

async fn planned(tables: &Tables, listing: &[Video]) -> Result<WorkList> {
    let listing = stream::iter(listing.iter().cloned().map(Ok));
    let pending = tables.pending("m", "p").await?;
    plan(listing, tables.known(&whole_bucket()).await?, pending, &options()).await
}

fn facts(run_id: &str) -> RunFacts {
    RunFacts {
        run_id: run_id.to_owned(),
        job: "test".to_owned(),
        started_at_ms: 1,
        finished_at_ms: 2,
        model_digest: "m".to_owned(),
        params_digest: "p".to_owned(),
    }
}

async fn write(tables: &Tables, run_id: &str, shard: &Shard) -> Result<crate::Receipt> {
    let outcomes: Vec<_> = shard.items.iter().map(outcome).collect();
    tables.write_shard(&provenance(run_id), shard, &outcomes).await
}

/// The work of a night up to its plan to publish.
async fn worked(tables: &Tables, run_id: &str, listing: &[Video]) -> Result<PublishPlan> {
    let list = planned(tables, listing).await?;
    let run_id = list.resumed_run_id().unwrap_or(run_id).to_owned();
    let mut receipts = Vec::new();
    for shard in &list.shards {
        receipts.push(write(tables, &run_id, shard).await?);
    }
    Ok(PublishPlan::new(facts(&run_id), &list, receipts))
}

async fn night(tables: &Tables, run_id: &str, listing: &str) -> Result<RunRow> {
    tables.finish_interrupted().await?;
    tables.publish(&worked(tables, run_id, &corpus(listing)).await?).await
}

/// `names` columns of some batches as sorted lines.
fn lines(batches: &[RecordBatch], names: &[&str]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        let columns: Vec<_> = names
            .iter()
            .map(|name| cast(batch.column_by_name(name).unwrap(), &DataType::Utf8).unwrap())
            .collect();
        for row in 0..batch.num_rows() {
            let values: Vec<_> =
                columns.iter().map(|c| c.as_string::<i32>().value(row).to_owned()).collect();
            lines.push(values.join(" "));
        }
    }
    lines.sort();
    lines
}

/// What a reader of the published versions sees, by another reader than ours.
async fn rows(tables: &Tables, table: Table, names: &[&str]) -> Vec<String> {
    let snapshot = tables.snapshot().await.unwrap().unwrap();
    let version = match table {
        Table::Events => Some(snapshot.events_version),
        Table::Videos => Some(snapshot.videos_version),
        Table::Transcripts => Some(snapshot.transcripts_version),
        Table::Runs => Some(snapshot.runs_version),
        Table::Feedback => None,
    };
    let delta = tables.delta(table, version).await.unwrap().unwrap();
    let (_, stream) = delta.scan_table().await.unwrap();
    lines(&stream.try_collect::<Vec<_>>().await.unwrap(), names)
}

async fn captions(tables: &Tables) -> Vec<String> {
    rows(tables, Table::Events, &["caption", "event_index"]).await
}

/// The captions that a corpus should have.
fn expected(listing: &str) -> Vec<String> {
    let mut expected: Vec<_> = corpus(listing)
        .iter()
        .filter(|video| !video.uri.contains("/bad"))
        .flat_map(|v| [0, 1].map(|n| format!("{}@{} {n}", v.uri, v.source_version)))
        .collect();
    expected.sort();
    expected
}

/// Every state of the tables that a reader relies on.
async fn check(tables: &Tables, listing: &str) {
    assert_eq!(captions(tables).await, expected(listing));
    let mut videos: Vec<_> =
        corpus(listing).iter().map(|v| format!("{} {}", v.uri, v.source_version)).collect();
    videos.sort();
    assert_eq!(rows(tables, Table::Videos, &["uri", "source_version"]).await, videos);
    let mut transcripts: Vec<_> = corpus(listing)
        .iter()
        .filter(|video| !video.uri.contains("/bad"))
        .flat_map(|video| said(video).cues.into_iter().map(|cue| cue.text))
        .collect();
    transcripts.sort();
    assert_eq!(rows(tables, Table::Transcripts, &["text"]).await, transcripts);
    for run in tables.runs().await.unwrap() {
        assert!(run.is_balanced(), "{run:?}");
    }
}

/// The change feed of one version.
async fn changes(tables: &Tables, table: Table, version: i64, names: &[&str]) -> Vec<String> {
    let version = u64::try_from(version).unwrap();
    let delta = tables.delta(table, None).await.unwrap().unwrap();
    let session = SessionContext::new();
    let plan = delta
        .scan_cdf()
        .with_starting_version(version)
        .with_ending_version(version)
        .build(&session.state(), None)
        .await
        .unwrap();
    let names: Vec<_> = ["_change_type"].iter().chain(names).copied().collect();
    lines(&collect(plan, session.task_ctx()).await.unwrap(), &names)
}

const FIRST: &str = "a@1 b@1 c@1 d@1 bad@1";
const SECOND: &str = "a@1 b@2 d@1 e@1 bad@1";

#[rstest]
#[case::memory(false)]
#[case::disk(true)]
#[tokio::test]
async fn two_nights_replace_remove_and_add_exactly(#[case] on_disk: bool) {
    let folder = tempfile::tempdir().unwrap();
    let tables = if on_disk {
        let uri = folder.path().join("my lake #1");
        Tables::open(&Stores::new(BTreeMap::new()), uri.to_str().unwrap()).unwrap()
    } else {
        tables_in(Arc::new(InMemory::new()))
    };
    assert_eq!(tables.snapshot().await.unwrap(), None);
    let first = night(&tables, "r1", FIRST).await.unwrap();
    assert_eq!((first.listed, first.captioned, first.failed, first.events), (5, 4, 1, 8));
    check(&tables, FIRST).await;
    let before = tables.snapshot().await.unwrap().unwrap();

    let second = night(&tables, "r2", SECOND).await.unwrap();
    let counts = (second.captioned, second.failed, second.unchanged, second.removed);
    assert_eq!(counts, (2, 1, 2, 1), "b and e, bad again, a and d, c");
    check(&tables, SECOND).await;

    let corpus_uri = |name: &str| format!("s3://corpus/{name}.mp4");
    let change = |kind: &str, name: &str, version: &str| {
        [0, 1].map(|n| format!("{kind} {}@{version} {n}", corpus_uri(name)))
    };
    let events = changes(
        &tables,
        Table::Events,
        second.events_version.unwrap(),
        &["caption", "event_index"],
    );
    let difference = [
        change("delete", "b", "1"),
        change("delete", "c", "1"),
        change("insert", "b", "2"),
        change("insert", "e", "1"),
    ];
    assert_eq!(events.await, difference.concat());
    let videos =
        changes(&tables, Table::Videos, second.videos_version.unwrap(), &["uri", "attempts"]);
    let difference = [
        ("delete", "b", 1),
        ("delete", "bad", 1),
        ("delete", "c", 1),
        ("insert", "b", 1),
        ("insert", "bad", 2),
        ("insert", "e", 1),
    ];
    let difference = difference.map(|(kind, name, n)| format!("{kind} {} {n}", corpus_uri(name)));
    assert_eq!(videos.await, difference);

    let then = tables.delta(Table::Events, Some(before.events_version)).await.unwrap().unwrap();
    let (_, rows) = then.scan_table().await.unwrap();
    let rows: Vec<_> = rows.try_collect().await.unwrap();
    assert_eq!(lines(&rows, &["caption", "event_index"]), expected(FIRST), "time travel");
}

#[tokio::test]
async fn the_first_night_reads_as_inserts() {
    let tables = tables_in(Arc::new(InMemory::new()));
    let run = night(&tables, "r1", "a@1").await.unwrap();
    let events = changes(&tables, Table::Events, run.events_version.unwrap(), &["event_index"]);
    assert_eq!(events.await, ["insert 0", "insert 1"]);
}

#[tokio::test]
async fn a_night_without_change_changes_one_row_of_runs() {
    let tables = tables_in(Arc::new(InMemory::new()));
    night(&tables, "r1", "a@1 b@1").await.unwrap();
    let before = tables.snapshot().await.unwrap().unwrap();
    let run = night(&tables, "r2", "a@1 b@1").await.unwrap();
    assert_eq!((run.unchanged, run.planned, run.events), (2, 0, 0));
    assert_eq!((run.events_version, run.videos_version), (None, None));
    let after = tables.snapshot().await.unwrap().unwrap();
    assert_eq!(
        (after.events_version, after.videos_version),
        (before.events_version, before.videos_version)
    );
    assert_eq!(after.runs_version, before.runs_version + 1);
    for (table, version) in [
        (Table::Events, after.events_version),
        (Table::Videos, after.videos_version),
        (Table::Transcripts, after.transcripts_version),
    ] {
        let newest = tables.delta(table, None).await.unwrap().unwrap().version();
        assert_eq!(newest, Some(version), "{} has no commit", table.as_str());
    }
    check(&tables, "a@1 b@1").await;
}

#[tokio::test]
async fn what_was_heard_is_found_again() {
    let tables = tables_in(Arc::new(InMemory::new()));
    assert!(tables.transcripts().await.unwrap().is_empty(), "before the first night");
    night(&tables, "r1", "a@1 b@1 c@1 d@1 mute@1 bad@1").await.unwrap();
    night(&tables, "r2", "a@1 b@2 d@1 e@1 mute@1 bad@1").await.unwrap();
    let transcripts = tables.transcripts().await.unwrap();
    let videos = ["a@1", "b@2", "d@1", "e@1", "mute@1", "bad@1", "c@1", "b@1"];
    let videos: Vec<_> = videos.iter().flat_map(|word| corpus(word)).collect();
    let asked: Vec<&Video> = videos[..7].iter().collect();
    let found = transcripts.of(&asked, "s").await.unwrap();
    for video in &videos[..4] {
        assert_eq!(found[&video.video_id], said(video), "{}", video.uri);
    }
    assert_eq!(found.len(), 4, "{:?}", found.keys());
    assert!(transcripts.of(&asked, "another").await.unwrap().is_empty());
    let old = transcripts.of(&[&videos[7]], "s").await.unwrap();
    assert!(old.is_empty(), "the words of another version: {old:?}");

    let listing = corpus("a@1 b@3 mute@1");
    let listing = stream::iter(listing.into_iter().map(Ok));
    let other = PlanOptions { model_digest: "another".to_owned(), ..options() };
    let known = tables.known(&whole_bucket()).await.unwrap();
    let list = plan(listing, known, vec![], &other).await.unwrap();
    let items = list.shards.iter().flat_map(|shard| &shard.items);
    let mut heard: Vec<_> = items.map(|item| (item.video.uri.as_str(), item.heard)).collect();
    heard.sort_by_key(|(uri, _)| *uri);
    let expected = [
        ("s3://corpus/a.mp4", Heard::Words),
        ("s3://corpus/b.mp4", Heard::NotYet),
        ("s3://corpus/mute.mp4", Heard::Nothing),
    ];
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn tables_of_an_earlier_program_get_the_new_columns() {
    let tables = tables_in(Arc::new(InMemory::new()));
    night(&tables, "r1", FIRST).await.unwrap();
    // What the earlier program had made: no `transcripts`, and fewer columns.
    let older = tables_in(Arc::new(InMemory::new()));
    for (table, added) in [
        (Table::Events, &[][..]),
        (Table::Videos, &["language", "speech_digest"]),
        (Table::Runs, &["transcripts_version", "part", "pending"]),
    ] {
        older.create_without(table, added).await.unwrap();
    }
    night(&older, "r1", FIRST).await.unwrap();
    night(&older, "r2", SECOND).await.unwrap();
    check(&older, SECOND).await;
    let digests = rows(&older, Table::Videos, &["uri", "speech_digest"]).await;
    assert!(digests.iter().filter(|row| row.ends_with(" s")).count() >= 4, "{digests:?}");
}

#[tokio::test]
async fn a_poison_file_is_tried_three_times() {
    let tables = tables_in(Arc::new(InMemory::new()));
    let mut planned = Vec::new();
    for run in 1..=5 {
        planned.push(night(&tables, &format!("r{run}"), "bad@1").await.unwrap().planned);
    }
    assert_eq!(planned, [1, 1, 1, 0, 0]);
    assert_eq!(night(&tables, "r6", "bad@2").await.unwrap().planned, 1, "a new version");
}

#[tokio::test]
async fn removing_everything_leaves_empty_tables() {
    let tables = tables_in(Arc::new(InMemory::new()));
    night(&tables, "r1", FIRST).await.unwrap();
    let run = night(&tables, "r2", "").await.unwrap();
    assert_eq!((run.removed, run.listed), (5, 0));
    check(&tables, "").await;
    let gone = changes(&tables, Table::Videos, run.videos_version.unwrap(), &["attempts"]).await;
    assert_eq!(gone, ["delete 1"; 5]);
}

/// Everything that a reader of the store sees in its second night, and everything that the next
/// process does about it, for a death at every single write.
#[rstest]
#[case::before_the_write(false)]
#[case::after_the_write(true)]
#[tokio::test]
async fn whatever_write_is_the_last_the_next_night_is_right(#[case] last_is_done: bool) {
    let base = Arc::new(InMemory::new());
    night(&tables_in(Arc::<InMemory>::clone(&base)), "r1", FIRST).await.unwrap();
    for writes in 0..200 {
        let store: Arc<dyn ObjectStore> = Arc::new(base.fork());
        let mortal = Mortal::dies_after(Arc::clone(&store), writes, last_is_done);
        let doomed = night(&tables_in(Arc::new(mortal.clone())), "r2", SECOND).await;
        let died = mortal.is_dead();
        assert!(died || doomed.is_ok(), "{doomed:?}");
        let tables = tables_in(store);
        let seen = captions(&tables).await;
        assert!(
            seen == expected(FIRST) || seen == expected(SECOND),
            "after {writes} writes a reader sees a part of a night: {seen:?}"
        );

        let next = night(&tables, "r3", SECOND).await.unwrap();
        check(&tables, SECOND).await;
        let runs: Vec<_> = tables.runs().await.unwrap().into_iter().map(|r| r.run_id).collect();
        let unique: std::collections::BTreeSet<_> = runs.iter().collect();
        assert_eq!(unique.len(), runs.len(), "{runs:?}");
        let left = tables.list_own("runs").await.unwrap();
        assert!(left.is_empty(), "{left:?}");
        let receipts = tables.list_own("receipts").await.unwrap();
        assert!(receipts.is_empty(), "{receipts:?}");
        if !died {
            assert!(writes > 8, "only {writes} writes in a night");
            assert_eq!(next.planned, 1, "bad is tried a last time");
            return;
        }
    }
    panic!("a night has no end");
}

/// What a worker makes of a stretch: an event in its window, or the same failure for a name that begins with `bad`.
fn stretch_outcome(item: &WorkItem) -> Outcome {
    let mut outcome = outcome(item);
    let window_index = item.stretch.map_or(0, |stretch| stretch.index);
    outcome.windows = 1;
    outcome.events.truncate(1);
    for event in &mut outcome.events {
        event.window_index = window_index;
    }
    outcome
}

/// A night of videos of three stretches each; says how many shards were done.
async fn split_night(tables: &Tables, run_id: &str, names: &str) -> Result<(RunRow, usize)> {
    tables.finish_interrupted().await?;
    let listing = stream::iter(corpus(names).into_iter().map(Ok));
    let options = PlanOptions { speech_digest: None, split_bytes: Some(4), ..options() };
    let pending = tables.pending("m", "p").await?;
    let list = plan(listing, tables.known(&whole_bucket()).await?, pending, &options).await?;
    let by = provenance(list.resumed_run_id().unwrap_or(run_id));
    let mut receipts = Vec::new();
    for shard in &list.shards {
        let outcomes: Vec<_> = shard.items.iter().map(stretch_outcome).collect();
        receipts.push(tables.write_shard(&by, shard, &outcomes).await?);
    }
    let joined = tables.join_stretches(&by, list.adopted.iter().chain(&receipts)).await?;
    receipts.extend(joined);
    let run = tables.publish(&PublishPlan::new(facts(&by.run_id), &list, receipts)).await?;
    Ok((run, list.shards.len()))
}

/// However often its workers die, a video that is split has one row, the events of all its windows once, and no
/// stretch is done twice that has a receipt.
#[rstest]
#[case::before_the_write(false)]
#[case::after_the_write(true)]
#[tokio::test]
async fn a_split_video_is_joined_whatever_write_is_the_last(#[case] last_is_done: bool) {
    const NAMES: &str = "long@1 bad@1";
    let base = Arc::new(InMemory::new());
    split_night(&tables_in(Arc::<InMemory>::clone(&base)), "r0", "long@0").await.unwrap();
    for writes in 0..200 {
        let store: Arc<dyn ObjectStore> = Arc::new(base.fork());
        let mortal = Mortal::dies_after(Arc::clone(&store), writes, last_is_done);
        let doomed = split_night(&tables_in(Arc::new(mortal.clone())), "r1", NAMES).await;
        let tables = tables_in(store);
        let seen = captions(&tables).await;
        assert_eq!(seen.len(), 3, "a reader sees all windows of a version: {seen:?}");
        assert_eq!(seen[0], seen[2], "and of one only");
        let done = tables.list_own("receipts").await.unwrap().len();
        let is_begun = !tables.list_own("runs").await.unwrap().is_empty();
        let is_published = is_begun || tables.runs().await.unwrap().len() > 1;
        let (run, shards) = split_night(&tables, "r2", NAMES).await.unwrap();
        if !is_published {
            assert_eq!(shards, 6usize.saturating_sub(done), "after {writes} writes");
            assert_eq!((run.captioned, run.failed, run.events), (1, 1, 3));
        }
        let videos = rows(&tables, Table::Videos, &["uri", "status", "event_count", "windows"]);
        let expected = ["s3://corpus/bad.mp4 failed 0 3", "s3://corpus/long.mp4 captioned 3 3"];
        assert_eq!(videos.await, expected, "after {writes} writes");
        let windows = rows(&tables, Table::Events, &["window_index", "event_index"]).await;
        assert_eq!(windows, ["0 0", "1 0", "2 0"], "after {writes} writes");
        assert_eq!(rows(&tables, Table::Transcripts, &["text"]).await.len(), 3);
        if !mortal.is_dead() {
            doomed.unwrap();
            assert!(writes > 8, "only {writes} writes in a night");
            return;
        }
    }
    panic!("a night has no end");
}

#[tokio::test]
async fn a_run_with_a_stretch_that_is_missing_is_not_published() {
    let tables = tables_in(Arc::new(InMemory::new()));
    let options = PlanOptions { speech_digest: None, split_bytes: Some(4), ..options() };
    let listing = stream::iter(corpus("long@1").into_iter().map(Ok));
    let list = plan(listing, crate::Known::default(), vec![], &options).await.unwrap();
    let mut receipts = Vec::new();
    for shard in &list.shards[1..] {
        let outcomes: Vec<_> = shard.items.iter().map(stretch_outcome).collect();
        receipts.push(tables.write_shard(&provenance("r"), shard, &outcomes).await.unwrap());
    }
    assert_eq!(tables.join_stretches(&provenance("r"), &receipts).await.unwrap(), []);
    let refused = tables.publish(&PublishPlan::new(facts("r"), &list, receipts)).await;
    assert!(matches!(refused, Err(Error::Unbalanced { .. })), "{refused:?}");
}

/// A night that publishes a part after each of its shards but the last.
async fn night_in_parts(tables: &Tables, run_id: &str, listing: &str) -> Result<RunRow> {
    tables.finish_interrupted().await?;
    let runs = tables.runs().await?;
    let open = runs.iter().find(|run| run.part.is_some());
    let list = planned(tables, &corpus(listing)).await?;
    let run_id = list.resumed_run_id().max(open.map(|run| run.run_id.as_str())).unwrap_or(run_id);
    let mut part = open.filter(|run| run.run_id == run_id).and_then(|run| run.part).unwrap_or(0);
    let (mut earlier, mut waiting) = (0, list.adopted.clone());
    for (number, shard) in list.shards.iter().enumerate() {
        waiting.push(write(tables, run_id, shard).await?);
        if number + 1 < list.shards.len() {
            part += 1;
            let receipts = std::mem::take(&mut waiting);
            let plan = PublishPlan::after(earlier, Some(part), facts(run_id), &list, receipts);
            earlier += tables.publish(&plan).await?.outcomes();
        }
    }
    tables.publish(&PublishPlan::after(earlier, None, facts(run_id), &list, waiting)).await
}

/// Four that are due, in two shards.
const SHORTER: &str = "a@1 b@2 d@1 e@1 f@1 bad@1";
/// Eight that are due, in three.
const LONG: &str = "a@1 b@2 d@1 e@1 f@1 g@1 h@1 i@1 j@1 bad@1";

#[tokio::test]
async fn parts_of_a_run_add_up_to_it() {
    let (whole, parted) =
        (tables_in(Arc::new(InMemory::new())), tables_in(Arc::new(InMemory::new())));
    for tables in [&whole, &parted] {
        night(tables, "r1", FIRST).await.unwrap();
    }
    let at_once = night(&whole, "r2", LONG).await.unwrap();
    let last = night_in_parts(&parted, "r2", LONG).await.unwrap();
    assert!(last.captioned < at_once.captioned, "the rest came earlier: {last:?}");
    check(&parted, LONG).await;
    let rows = parted.publications().await.unwrap();
    let parts: Vec<_> = rows.iter().map(|row| (row.part, row.removed, row.pending > 0)).collect();
    let expected = [(None, 0, false), (Some(1), 0, true), (Some(2), 0, true), (None, 1, false)];
    assert_eq!(parts, expected, "what is gone goes at the end");
    let shards = parted.shards_of("r2").await.unwrap();
    assert_eq!(shards.len(), 3, "each part keeps its timeline: {shards:?}");
    let without_versions = |run: &RunRow| RunRow {
        events_version: None,
        videos_version: None,
        transcripts_version: None,
        receipt: String::new(),
        ..run.clone()
    };
    let sum = parted.runs().await.unwrap().remove(1);
    assert_eq!(without_versions(&sum), without_versions(&at_once));
    assert!(parted.unpublished().await.unwrap().is_empty());
    assert!(parted.list_own("receipts").await.unwrap().is_empty());
}

/// After a death at every single write of a night that is published in parts, readers see whole videos, and
/// the next night completes it: each video once, no receipt and no intent left.
#[rstest]
#[case::before_the_write(false)]
#[case::after_the_write(true)]
#[tokio::test]
async fn whatever_write_is_the_last_the_parts_are_completed(#[case] last_is_done: bool) {
    let base = Arc::new(InMemory::new());
    night(&tables_in(Arc::<InMemory>::clone(&base)), "r1", FIRST).await.unwrap();
    let mut seen_in_part = 0;
    for writes in 0..200 {
        let store: Arc<dyn ObjectStore> = Arc::new(base.fork());
        let mortal = Mortal::dies_after(Arc::clone(&store), writes, last_is_done);
        let doomed = night_in_parts(&tables_in(Arc::new(mortal.clone())), "r2", SHORTER).await;
        let died = mortal.is_dead();
        assert!(died || doomed.is_ok(), "{doomed:?}");
        let tables = tables_in(store);
        let seen = captions(&tables).await;
        let known = [expected(FIRST), expected(SHORTER)].concat();
        assert!(seen.iter().all(|caption| known.contains(caption)), "{seen:?}");
        assert_eq!(seen.len() % 2, 0, "a part of a video after {writes} writes: {seen:?}");
        seen_in_part += usize::from(![expected(FIRST), expected(SHORTER)].contains(&seen));

        night_in_parts(&tables, "r3", SHORTER).await.unwrap();
        check(&tables, SHORTER).await;
        for folder in ["runs", "receipts"] {
            let left = tables.list_own(folder).await.unwrap();
            assert!(left.is_empty(), "{folder}: {left:?}");
        }
        let rows = tables.publications().await.unwrap();
        let names: std::collections::BTreeSet<_> =
            rows.iter().map(|row| (&row.run_id, row.part)).collect();
        assert_eq!(names.len(), rows.len(), "{rows:#?}");
        if !died {
            assert!(seen_in_part > 10, "{seen_in_part} deaths after the first part");
            return;
        }
    }
    panic!("a night has no end");
}

#[tokio::test]
async fn a_shard_of_a_published_part_is_not_done_again() {
    let tables = tables_in(Arc::new(InMemory::new()));
    let listing = corpus("a@1 b@1 c@1 d@1 e@1 f@1 g@1");
    let list = planned(&tables, &listing).await.unwrap();
    let receipt = write(&tables, "r1", &list.shards[0]).await.unwrap();
    let part = PublishPlan::after(0, Some(1), facts("r1"), &list, vec![receipt.clone()]);
    tables.publish(&part).await.unwrap();
    let there = tables.receipt("r1", &receipt.shard_id).await.unwrap();
    assert_eq!(there, Some(receipt), "whoever is given the shard again finds it done");
    let again = planned(&tables, &listing).await.unwrap();
    assert_eq!((again.adopted.len(), again.unchanged), (0, 3), "and who plans again, published");
    assert!(tables.unpublished().await.unwrap().is_empty());
    assert!(vacuumed(&tables).await.is_empty());
    tables.abandon("r1").await.unwrap();
    assert!(tables.list_own("receipts").await.unwrap().is_empty());
}

/// Two clients of one run may have the same shard in parts of different numbers.
#[tokio::test]
async fn a_shard_in_two_parts_is_there_once() {
    let tables = tables_in(Arc::new(InMemory::new()));
    let listing = corpus("a@1 b@1 c@1 d@1 e@1 f@1 g@1");
    let list = planned(&tables, &listing).await.unwrap();
    let mut receipts = Vec::new();
    for shard in &list.shards[..2] {
        receipts.push(write(&tables, "r1", shard).await.unwrap());
    }
    let part = |number, receipts: &[crate::Receipt]| {
        PublishPlan::after(0, Some(number), facts("r1"), &list, receipts.to_vec())
    };
    tables.publish(&part(1, &receipts[..1])).await.unwrap();
    tables.publish(&part(2, &receipts)).await.unwrap();
    let before = captions(&tables).await;
    assert_eq!(before.len(), 2 * (list.shards[0].items.len() + list.shards[1].items.len()));
    let other = part(2, &receipts[1..]);
    let refused = tables.publish(&other).await;
    assert!(matches!(refused, Err(Error::RunTaken { .. })), "{refused:?}");
    let run = tables.publish(&part(3, &receipts)).await.unwrap();
    assert_eq!((run.events_version, run.videos_version), (None, None), "all of it is there");
    assert_eq!(captions(&tables).await, before);
}

/// A store that refuses to create what is not there: a proxy repeated a request, or lied.
#[tokio::test]
async fn a_receipt_that_is_said_to_be_there_and_is_not_may_be_written_again() {
    let refusing = Mortal {
        lives_on: true,
        refused: true,
        ..Mortal::dies_after(Arc::new(InMemory::new()), 3, false)
    };
    let tables = tables_in(Arc::new(refusing));
    let list = planned(&tables, &corpus("a@1")).await.unwrap();
    let refused = write(&tables, "r1", &list.shards[0]).await.unwrap_err();
    assert!(refused.is_transient(), "{refused:?}");
    assert!(refused.to_string().contains("that it exists, and that it does not"), "{refused}");
    let receipt = write(&tables, "r1", &list.shards[0]).await.unwrap();
    tables.publish(&PublishPlan::new(facts("r1"), &list, vec![receipt])).await.unwrap();
    check(&tables, "a@1").await;
}

#[tokio::test]
async fn a_cut_off_run_goes_on_with_its_finished_shards() {
    let tables = tables_in(Arc::new(InMemory::new()));
    let listing = corpus("a@1 b@1 c@1 d@1 e@1 f@1 g@1");
    let list = planned(&tables, &listing).await.unwrap();
    assert_eq!(list.shards.len(), 3);
    for shard in &list.shards[..2] {
        let receipt = write(&tables, "r1", shard).await.unwrap();
        assert_eq!(tables.receipt("r1", &shard.shard_id).await.unwrap(), Some(receipt));
    }
    assert_eq!(tables.receipt("r1", &list.shards[2].shard_id).await.unwrap(), None);
    let again = planned(&tables, &listing).await.unwrap();
    assert_eq!((again.adopted.len(), again.resumed_run_id()), (2, Some("r1")));
    let left: usize = again.shards.iter().map(|shard| shard.items.len()).sum();
    assert_eq!(left, list.shards[2].items.len(), "only the shard in flight is done again");
    assert_eq!(again.due, Due { new: 7, ..Due::default() });

    let run = night(&tables, "r2", "a@1 b@1 c@1 d@1 e@1 f@1 g@1").await.unwrap();
    assert_eq!((run.run_id.as_str(), run.captioned), ("r1", 7));
    check(&tables, "a@1 b@1 c@1 d@1 e@1 f@1 g@1").await;
    let run_ids = rows(&tables, Table::Events, &["run_id"]).await;
    assert!(run_ids.iter().all(|id| id == "r1"), "rows and runs agree");
    assert!(tables.pending("m", "p").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_late_receipt_of_a_published_run_is_not_pending() {
    let tables = tables_in(Arc::new(InMemory::new()));
    night(&tables, "r1", "a@1").await.unwrap();
    let late = planned(&tables, &corpus("a@1 b@1")).await.unwrap();
    write(&tables, "r1", &late.shards[0]).await.unwrap();
    assert!(tables.pending("m", "p").await.unwrap().is_empty());
    write(&tables, "r2", &late.shards[0]).await.unwrap();
    assert_eq!(tables.pending("m", "p").await.unwrap().len(), 1);
    assert!(tables.pending("m", "other").await.unwrap().is_empty());
}

#[tokio::test]
async fn of_eight_writers_of_a_shard_one_wins() {
    let tables = tables_in(Arc::new(InMemory::new()));
    let list = planned(&tables, &corpus("a@1 b@1")).await.unwrap();
    let shard = &list.shards[0];
    let receipts = try_join_all((0..8).map(|_| write(&tables, "r1", shard))).await.unwrap();
    assert!(receipts.iter().all(|receipt| *receipt == receipts[0]));
    for (table, parts) in [
        (Table::Events, &receipts[0].events),
        (Table::Videos, &receipts[0].videos),
        (Table::Transcripts, &receipts[0].transcripts),
    ] {
        let folder = tables.folder(table);
        let left: Vec<_> = folder.store.list(Some(&folder.prefix)).try_collect().await.unwrap();
        let left: Vec<_> = left.iter().map(|object| object.location.clone()).collect();
        assert_eq!(left, [folder.child(&parts[0].path)], "the others removed their files");
    }
}

/// A lost answer to a receipt, a commit, an intent or a turn is recognised as one's own success;
/// one to a part file or to the making of a table may fail the call, and the next one goes on.
#[tokio::test]
async fn a_write_whose_answer_was_lost_is_ones_own() {
    let fresh = tables_in(Arc::new(InMemory::new()));
    let list = planned(&fresh, &corpus("a@1")).await.unwrap();
    let (mut succeeded, mut failed) = (0, 0);
    for lost in 3..22 {
        let store =
            Mortal { lives_on: true, ..Mortal::dies_after(Arc::new(InMemory::new()), lost, true) };
        let tables = tables_in(Arc::new(store));
        let receipt = write(&tables, "r1", &list.shards[0]).await.unwrap();
        let plan = PublishPlan::new(facts("r1"), &list, vec![receipt]);
        match tables.publish(&plan).await {
            Ok(_) => succeeded += 1,
            Err(error) => {
                assert!(error.is_transient(), "{error:?}");
                failed += 1;
            }
        }
        let run = tables.publish(&plan).await.unwrap();
        assert_eq!(run.captioned, 1);
        check(&tables, "a@1").await;
        assert_eq!(tables.runs().await.unwrap().len(), 1);
    }
    assert!(succeeded > 3 * failed, "{succeeded} recognised, {failed} not");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_that_are_published_at_once_queue() {
    let tables = tables_in(Arc::new(InMemory::new()));
    night(&tables, "r0", "a@1").await.unwrap();
    let known = "a@1";
    let plans = join_all((1..=4).map(|n| {
        let tables = tables.clone();
        async move {
            let listing = corpus(&format!("{known} v{n}@1 shared@{n}"));
            worked(&tables, &format!("r{n}"), &listing).await.unwrap()
        }
    }))
    .await;
    let published = plans.iter().map(|plan| {
        let (tables, plan) = (tables.clone(), plan.clone());
        tokio::spawn(async move { tables.publish(&plan).await })
    });
    for run in join_all(published).await {
        run.unwrap().unwrap();
    }
    let runs = tables.runs().await.unwrap();
    assert_eq!(runs.len(), 5);
    let mut versions: Vec<_> =
        runs.iter().map(|run| (run.events_version.unwrap(), run.videos_version.unwrap())).collect();
    versions.sort_unstable();
    assert!(versions.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "one after the other");
    let shared: Vec<_> =
        captions(&tables).await.into_iter().filter(|c| c.contains("shared")).collect();
    assert_eq!(shared.len(), 2, "the rows of the last one: {shared:?}");
    let videos = rows(&tables, Table::Videos, &["uri"]).await;
    assert_eq!(videos.len(), 6, "{videos:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_plan_published_by_many_is_published_once() {
    let tables = tables_in(Arc::new(InMemory::new()));
    night(&tables, "r0", FIRST).await.unwrap();
    let plan = worked(&tables, "r1", &corpus(SECOND)).await.unwrap();
    let published = (0..4).map(|_| {
        let (tables, plan) = (tables.clone(), plan.clone());
        tokio::spawn(async move { tables.publish(&plan).await })
    });
    for run in join_all(published).await {
        assert_eq!(run.unwrap().unwrap().run_id, "r1");
    }
    assert_eq!(tables.runs().await.unwrap().len(), 2);
    check(&tables, SECOND).await;
    assert_eq!(tables.publish(&plan).await.unwrap().run_id, "r1", "and again, later");
    assert!(tables.finish_interrupted().await.unwrap().is_empty());
    check(&tables, SECOND).await;
}

#[tokio::test]
async fn two_processes_that_resume_one_run_do_not_mix() {
    let tables = tables_in(Arc::new(InMemory::new()));
    let list = planned(&tables, &corpus("a@1")).await.unwrap();
    write(&tables, "r1", &list.shards[0]).await.unwrap();
    let one = worked(&tables, "r2", &corpus("a@1 b@1")).await.unwrap();
    let other = worked(&tables, "r3", &corpus("a@1 b@1 c@1")).await.unwrap();
    assert_eq!((one.run.run_id.as_str(), other.run.run_id.as_str()), ("r1", "r1"));
    tables.publish(&one).await.unwrap();
    let refused = tables.publish(&other).await;
    assert!(matches!(refused, Err(Error::RunTaken { .. })), "{refused:?}");
    check(&tables, "a@1 b@1").await;
}

#[rstest]
#[case::listed(|plan: &mut PublishPlan| plan.run.listed += 1)]
#[case::states(|plan: &mut PublishPlan| { plan.run.captioned -= 1; plan.run.empty += 1; })]
#[case::lost_receipt(|plan: &mut PublishPlan| plan.receipts.clear())]
#[case::receipt_twice(|plan: &mut PublishPlan| plan.receipts.push(plan.receipts[0].clone()))]
#[case::removed_and_indexed(|plan: &mut PublishPlan| {
    plan.removed.push(plan.receipts[0].items[0].video_id.clone());
    plan.run.removed += 1;
})]
#[case::removed(|plan: &mut PublishPlan| plan.run.removed += 1)]
#[tokio::test]
async fn a_run_that_does_not_add_up_is_not_published(#[case] spoil: fn(&mut PublishPlan)) {
    let tables = tables_in(Arc::new(InMemory::new()));
    night(&tables, "r1", FIRST).await.unwrap();
    let mut plan = worked(&tables, "r2", &corpus(SECOND)).await.unwrap();
    spoil(&mut plan);
    let refused = tables.publish(&plan).await;
    assert!(matches!(refused, Err(Error::Unbalanced { .. })), "{refused:?}");
    assert!(tables.list_own("runs").await.unwrap().is_empty());
    check(&tables, FIRST).await;
}

#[tokio::test]
async fn outcomes_of_other_videos_are_refused() {
    let tables = tables_in(Arc::new(InMemory::new()));
    let list = planned(&tables, &corpus("a@1 b@1")).await.unwrap();
    let shard = &list.shards[0];
    let good: Vec<_> = shard.items.iter().map(outcome).collect();
    let other = outcome(&WorkItem::new(video("c", "1"), 1));
    let twice = vec![good[0].clone(), good[1].clone(), good[1].clone()];
    for outcomes in [vec![good[0].clone()], vec![good[0].clone(), other], twice] {
        let refused = tables.write_shard(&provenance("r1"), shard, &outcomes).await;
        assert!(matches!(refused, Err(Error::WrongOutcomes { .. })), "{refused:?}");
    }
    assert!(tables.list_own("receipts").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_receipt_of_another_format_is_an_error_that_names_it() {
    let tables = tables_in(Arc::new(InMemory::new()));
    let path = tables.receipt_path("r1", "s1");
    let text = r#"{"format_version": 99}"#;
    tables.location().store.put_opts(&path, text.into(), PutOptions::default()).await.unwrap();
    let error = tables.pending("m", "p").await.unwrap_err().to_string();
    assert!(error.contains("r1/s1.json") && error.contains("99"), "{error}");
}

#[tokio::test]
async fn videos_that_are_left_out_are_rows_and_not_tried_again() {
    let tables = tables_in(Arc::new(InMemory::new()));
    let small = PlanOptions { largest_file_bytes: 5, ..options() };
    let listing = corpus("a@1");
    let plan_it = async || {
        let listing = stream::iter(listing.clone().into_iter().map(Ok));
        plan(listing, tables.known(&whole_bucket()).await.unwrap(), vec![], &small).await.unwrap()
    };
    let list = plan_it().await;
    let shard = list.skipped_shard(&small).unwrap();
    let receipt = tables.write_shard(&provenance("r1"), &shard, &list.skipped).await.unwrap();
    let run = tables.publish(&PublishPlan::new(facts("r1"), &list, vec![receipt])).await.unwrap();
    assert_eq!((run.skipped, run.planned), (1, 0));
    let reasons = rows(&tables, Table::Videos, &["status", "reason_code"]).await;
    assert_eq!(reasons, ["skipped too_large"]);
    let list = plan_it().await;
    assert_eq!((list.unchanged, list.skipped.len()), (1, 0));
}

#[tokio::test]
async fn a_job_sees_and_removes_only_what_lies_below_its_corpus() {
    let tables = tables_in(Arc::new(InMemory::new()));
    night(&tables, "r1", "a/x@1 ab/x@1").await.unwrap();
    let known = tables.known(&place("s3://corpus/a")).await.unwrap();
    assert_eq!(known.len(), 1, "`ab` is another folder");
    let listing = stream::iter(corpus("a/y@1").into_iter().map(Ok));
    let list = plan(listing, known, vec![], &options()).await.unwrap();
    assert_eq!(list.removed, [video_id("s3://corpus/a/x.mp4")]);
}

/// Vacuums as if everything had been written long ago, and gives what went.
async fn vacuumed(tables: &Tables) -> Vec<Orphan> {
    let orphans = tables.orphans_before(chrono::DateTime::<chrono::Utc>::MAX_UTC).await.unwrap();
    tables.remove_orphans(&orphans).await.unwrap();
    let left = tables.orphans_before(chrono::DateTime::<chrono::Utc>::MAX_UTC).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    orphans
}

/// A vacuum after a death at every single write takes nothing that the next night goes on with, or that
/// an older version of a table is read through, and leaves nothing once that night is published.
#[rstest]
#[case::before_the_write(false)]
#[case::after_the_write(true)]
#[tokio::test]
async fn a_vacuum_after_any_death_takes_only_what_nobody_needs(#[case] last_is_done: bool) {
    let base = Arc::new(InMemory::new());
    let first = tables_in(Arc::<InMemory>::clone(&base));
    night(&first, "r1", FIRST).await.unwrap();
    let before = first.snapshot().await.unwrap().unwrap();
    let mut parts = 0;
    for writes in 0..200 {
        let store: Arc<dyn ObjectStore> = Arc::new(base.fork());
        let mortal = Mortal::dies_after(Arc::clone(&store), writes, last_is_done);
        let doomed = night(&tables_in(Arc::new(mortal.clone())), "r2", SECOND).await;
        let tables = tables_in(store);
        parts += vacuumed(&tables).await.len();
        night(&tables, "r3", SECOND).await.unwrap();
        parts += vacuumed(&tables).await.len();
        check(&tables, SECOND).await;
        let then = tables.delta(Table::Events, Some(before.events_version)).await.unwrap().unwrap();
        let (_, rows) = then.scan_table().await.unwrap();
        let rows: Vec<_> = rows.try_collect().await.unwrap();
        assert_eq!(lines(&rows, &["caption", "event_index"]), expected(FIRST), "time travel");
        if !mortal.is_dead() {
            assert!(doomed.is_ok() && parts > 3, "{parts} orphans of all these deaths");
            return;
        }
    }
    panic!("a night has no end");
}

#[tokio::test]
async fn a_vacuum_takes_what_came_after_its_run_was_published() {
    let tables = tables_in(Arc::new(InMemory::new()));
    night(&tables, "r1", "a@1").await.unwrap();
    let list = planned(&tables, &corpus("a@1 b@1")).await.unwrap();
    write(&tables, "r1", &list.shards[0]).await.unwrap(); // a worker that woke up late
    tables.write_plan("r1", &list.shards).await.unwrap();
    let waiting = write(&tables, "r2", &list.shards[0]).await.unwrap(); // one that is still needed
    let young = tables.orphans(std::time::Duration::ZERO).await.unwrap();
    assert!(young.is_empty(), "nothing is old enough: {young:?}");
    let gone = vacuumed(&tables).await;
    let kinds: Vec<_> = gone.iter().map(|orphan| orphan.kind.as_str()).collect();
    assert_eq!(kinds, ["part", "part", "part", "receipt", "plan", "plan"], "{gone:?}");
    assert!(gone.iter().all(|orphan| orphan.uri.contains("r1") && orphan.size_bytes > 0));
    assert_eq!(tables.pending("m", "p").await.unwrap(), [waiting]);
    let run = night(&tables, "r3", "a@1 b@1").await.unwrap();
    assert_eq!((run.run_id.as_str(), run.captioned, run.unchanged), ("r2", 1, 1));
    check(&tables, "a@1 b@1").await;
}

#[tokio::test]
async fn a_vacuum_leaves_what_is_not_ours() {
    let tables = tables_in(Arc::new(InMemory::new()));
    night(&tables, "r1", "a@1").await.unwrap();
    let theirs = tables.folder(Table::Events).child("part-of-someone-else.csv");
    tables.location().store.put_opts(&theirs, "x".into(), PutOptions::default()).await.unwrap();
    assert_eq!(vacuumed(&tables).await, []);
}

/// Files that hold a few rows, so that a small table has many.
fn small_files() -> OptimizeOptions {
    OptimizeOptions {
        file_bytes: 1,
        partitions: std::num::NonZeroUsize::new(2),
        ..Default::default()
    }
}

const ALL: [Table; 4] = [Table::Events, Table::Videos, Table::Transcripts, Table::Runs];

#[tokio::test]
async fn optimizing_changes_files_and_no_row() {
    let tables = tables_in(Arc::new(InMemory::new()));
    assert_eq!(tables.optimize(Table::Events, &small_files()).await.unwrap(), None);
    night(&tables, "r1", FIRST).await.unwrap();
    night(&tables, "r2", SECOND).await.unwrap();
    let before = tables.snapshot().await.unwrap().unwrap();
    for table in ALL {
        let done = tables.optimize(table, &OptimizeOptions::default()).await.unwrap().unwrap();
        assert_eq!(done.after.count, 1, "{done:?}");
        assert!(done.before.count > 1, "{done:?}");
        let version = done.version.unwrap();
        if table != Table::Runs {
            let version = i64::try_from(version).unwrap();
            assert!(changes(&tables, table, version, &["video_id"]).await.is_empty());
        }
        let again = tables.optimize(table, &OptimizeOptions::default()).await.unwrap().unwrap();
        assert_eq!((again.version, again.after), (None, done.after), "{table:?}");
    }
    let after = tables.snapshot().await.unwrap().unwrap();
    assert_eq!(after.events_version, before.events_version + 1, "readers go on to it");
    check(&tables, SECOND).await;
    let then = tables.delta(Table::Events, Some(before.events_version)).await.unwrap().unwrap();
    let (_, rows) = then.scan_table().await.unwrap();
    let rows: Vec<_> = rows.try_collect().await.unwrap();
    assert_eq!(lines(&rows, &["caption", "event_index"]), expected(SECOND), "the old files");
    assert!(vacuumed(&tables).await.is_empty(), "old versions are read through them");

    let third = night(&tables, "r3", FIRST).await.unwrap();
    assert_eq!((third.captioned, third.removed), (2, 1), "b again, c is back, e has gone");
    check(&tables, FIRST).await;
}

#[tokio::test]
async fn a_video_is_in_one_file() {
    let tables = tables_in(Arc::new(InMemory::new()));
    night(&tables, "r1", FIRST).await.unwrap();
    night(&tables, "r2", SECOND).await.unwrap();
    let done = tables.optimize(Table::Events, &small_files()).await.unwrap().unwrap();
    assert_eq!((done.rows, done.after.count), (8, 1), "one batch is one file");
    check(&tables, SECOND).await;
}

#[tokio::test]
async fn a_table_with_half_a_night_is_left_alone() {
    let base = Arc::new(InMemory::new());
    night(&tables_in(Arc::<InMemory>::clone(&base)), "r1", FIRST).await.unwrap();
    let mut refused = 0;
    for writes in 0..200 {
        let store: Arc<dyn ObjectStore> = Arc::new(base.fork());
        let mortal = Mortal::dies_after(Arc::clone(&store), writes, false);
        let _ = night(&tables_in(Arc::new(mortal.clone())), "r2", SECOND).await;
        if !mortal.is_dead() {
            break;
        }
        let tables = tables_in(store);
        let seen = captions(&tables).await;
        for table in ALL {
            match tables.optimize(table, &OptimizeOptions::default()).await {
                Ok(_) => {}
                Err(Error::Publishing { .. }) => refused += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(captions(&tables).await, seen, "after {writes} writes");
        night(&tables, "r3", SECOND).await.unwrap();
        check(&tables, SECOND).await;
    }
    assert!(refused >= 3, "{refused}");
}

#[rstest]
#[case::before_the_write(false)]
#[case::after_the_write(true)]
#[tokio::test]
async fn whatever_write_is_the_last_an_optimized_table_is_right(#[case] last_is_done: bool) {
    let base = Arc::new(InMemory::new());
    night(&tables_in(Arc::<InMemory>::clone(&base)), "r1", FIRST).await.unwrap();
    night(&tables_in(Arc::<InMemory>::clone(&base)), "r2", SECOND).await.unwrap();
    for writes in 0..20 {
        let store: Arc<dyn ObjectStore> = Arc::new(base.fork());
        let mortal = Mortal::dies_after(Arc::clone(&store), writes, last_is_done);
        let options = OptimizeOptions::default();
        let doomed = tables_in(Arc::new(mortal.clone())).optimize(Table::Events, &options).await;
        let tables = tables_in(store);
        check(&tables, SECOND).await;
        vacuumed(&tables).await;
        check(&tables, SECOND).await;
        night(&tables, "r3", FIRST).await.unwrap();
        check(&tables, FIRST).await;
        if !mortal.is_dead() {
            assert!(doomed.is_ok() && writes >= 2, "{writes} writes, {doomed:?}");
            return;
        }
    }
    panic!("it has no end");
}

#[tokio::test]
async fn a_night_that_is_published_meanwhile_goes_first() {
    let tables = tables_in(Arc::new(InMemory::new()));
    night(&tables, "r1", FIRST).await.unwrap();
    for round in 0..10 {
        let listing = [SECOND, FIRST][round % 2];
        let run = format!("s{round}");
        let options = OptimizeOptions::default();
        let optimized = async {
            for table in ALL {
                match tables.optimize(table, &options).await {
                    Ok(_) | Err(Error::Publishing { .. } | Error::Contended { .. }) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        };
        let (published, ()) = futures::future::join(night(&tables, &run, listing), optimized).await;
        published.unwrap();
        check(&tables, listing).await;
    }
}
