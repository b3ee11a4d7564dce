//! Small published tables for the tests of this crate.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use deltalake_core::DeltaTableBuilder;
use eventide_schema::{
    Event, EventSource, Failure, Outcome, Provenance, Stage, Status, TimeSpan, Video, WorkItem,
    tables::{RunRow, events_batch, run_batch, videos_batch},
    video_id,
};
use object_store::local::LocalFileSystem;
use tempfile::TempDir;
use url::Url;

use crate::{AsOf, Options, Result, Session};

/// Tables in a folder of their own.
pub(crate) struct Lake {
    folder: TempDir,
}

impl Lake {
    /// No tables yet.
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    /// One night: two events of one video, one video that failed.
    pub(crate) async fn with_a_night() -> Self {
        let lake = Self::new();
        lake.add_a_night().await;
        lake
    }

    /// Publishes that night.
    pub(crate) async fn add_a_night(&self) {
        let lake = self;
        let outcomes = [captioned(&["a man pours \"water\", slowly", "two\nlines"]), failed()];
        let events = lake.append("events", events_batch(&outcomes, &provenance()).unwrap()).await;
        let videos = lake.append("videos", videos_batch(&outcomes, &provenance()).unwrap()).await;
        lake.publish("run-1", Some(events), Some(videos)).await;
    }

    /// Publishes a second night, in which the first of the two events makes way for another.
    pub(crate) async fn add_a_second_night(&self) {
        self.remove("events", "caption LIKE 'a man%'").await;
        let version = self.append("events", more_events()).await;
        self.publish("run-2", Some(version), None).await;
    }

    /// Removes the tables, and publishes that night in new ones.
    pub(crate) async fn make_anew(&self) {
        for table in ["events", "videos", "runs"] {
            std::fs::remove_dir_all(self.file(table)).unwrap();
        }
        self.add_a_night().await;
    }

    /// Where the tables are.
    pub(crate) fn uri(&self) -> String {
        Url::from_directory_path(self.folder.path()).unwrap().to_string()
    }

    /// A file next to the tables.
    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Names of what lies next to the tables, the tables included.
    pub(crate) fn listing(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Adds rows to a table and gives the version that it then has.
    pub(crate) async fn append(&self, table: &str, rows: RecordBatch) -> i64 {
        let url = Url::parse(&format!("{}{table}", self.uri())).unwrap();
        let mut table = DeltaTableBuilder::from_url(url).unwrap().build().unwrap();
        if table.verify_deltatable_existence().await.unwrap() {
            table.load().await.unwrap();
        }
        let table = table.write(vec![rows]).await.unwrap();
        i64::try_from(table.version().unwrap()).unwrap()
    }

    /// Removes rows from a table and gives the version that it then has.
    pub(crate) async fn remove(&self, table: &str, which: &str) -> i64 {
        let url = Url::parse(&format!("{}{table}", self.uri())).unwrap();
        let mut table = DeltaTableBuilder::from_url(url).unwrap().build().unwrap();
        table.load().await.unwrap();
        let (table, _) = table.delete().with_predicate(which).await.unwrap();
        i64::try_from(table.version().unwrap()).unwrap()
    }

    /// Adds a row to `runs`.
    pub(crate) async fn publish(&self, run: &str, events: Option<i64>, videos: Option<i64>) {
        let row = RunRow {
            run_id: run.to_owned(),
            job: "nightly".to_owned(),
            started_at_ms: 1_700_000_000_000,
            finished_at_ms: 1_700_000_001_500,
            listed: 2,
            planned: 2,
            captioned: 1,
            empty: 0,
            failed: 1,
            skipped: 0,
            unchanged: 0,
            removed: 0,
            events: 2,
            video_ms: 0,
            core_ms: 0,
            device_ms: 0,
            bytes_read: 0,
            model_digest: "none".to_owned(),
            params_digest: "p".to_owned(),
            events_version: events,
            videos_version: videos,
            transcripts_version: None,
            receipt: "{}".to_owned(),
            part: None,
            pending: 0,
        };
        self.append("runs", run_batch(&row).unwrap()).await;
    }

    /// A session over the tables as they are now.
    pub(crate) async fn open(&self) -> Result<Session> {
        self.open_with(&Options::default()).await
    }

    /// A session over the tables of an earlier night.
    pub(crate) async fn open_as_of(&self, as_of: &AsOf) -> Result<Session> {
        let store = Arc::new(LocalFileSystem::new());
        Session::open_as_of(store, &self.uri(), &Options::default(), as_of).await
    }

    /// The same with limits of its own.
    pub(crate) async fn open_with(&self, options: &Options) -> Result<Session> {
        Session::open(Arc::new(LocalFileSystem::new()), &self.uri(), options).await
    }
}

/// More events, for a night that is still being published.
pub(crate) fn more_events() -> RecordBatch {
    events_batch(&[captioned(&["half of a night"])], &provenance()).unwrap()
}

/// So many events of one video, all with this caption.
pub(crate) fn events_like(caption: &str, count: usize) -> RecordBatch {
    events_batch(&[captioned(&vec![caption; count])], &provenance()).unwrap()
}

/// Events of one video with these captions.
pub(crate) fn events_of(captions: &[&str]) -> RecordBatch {
    events_batch(&[captioned(captions)], &provenance()).unwrap()
}

fn work(uri: &str) -> WorkItem {
    let video = Video {
        video_id: video_id(uri),
        uri: uri.to_owned(),
        source_version: "v1".to_owned(),
        size_bytes: 10,
        last_modified_ms: 0,
        sidecars: Vec::new(),
    };
    WorkItem::new(video, 1)
}

fn failed() -> Outcome {
    let failure = Failure {
        stage: Stage::Probe,
        reason_code: "no_video_stream".to_owned(),
        reason: "there are no pictures".to_owned(),
    };
    Outcome::without_events(work("file:///b.mp4"), Status::Failed, failure)
}

fn captioned(captions: &[&str]) -> Outcome {
    let mut outcome = failed();
    outcome.video = work("file:///a.mp4").video;
    (outcome.status, outcome.failure) = (Status::Captioned, None);
    outcome.events = (0_u32..)
        .zip(captions)
        .map(|(event_index, caption)| Event {
            window_index: 0,
            event_index,
            span: TimeSpan::new(
                i64::from(event_index) * 90_000_000,
                i64::from(event_index) * 90_000_000 + 1_500_000,
            ),
            time_resolution_us: 1000,
            caption: (*caption).to_owned(),
            score: (event_index == 0).then_some(-0.5),
            source: EventSource::Vid2Seq,
            speech: None,
            language: None,
        })
        .collect();
    outcome
}

fn provenance() -> Provenance {
    Provenance {
        model_id: "none".to_owned(),
        model_digest: "none".to_owned(),
        params_digest: "p".to_owned(),
        speech_model_digest: "none".to_owned(),
        speech_digest: "none".to_owned(),
        run_id: "run-1".to_owned(),
        indexed_at_ms: 1_700_000_001_000,
        worker: "w".to_owned(),
        pipeline_version: "0".to_owned(),
    }
}
