//! Tables as training data: what was said and seen in the videos of earlier runs, and what people have said about that.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::Int64Type,
};
use eventide_catalog::Stores;
use eventide_engine::StoreSources;
use eventide_pipeline::{Fetched, LimitOptions, Scratch, Trouble, fetch};
use eventide_query::{Options, Session};
use eventide_schema::{Cue, EventSource, TimeSpan, Verdict, Video};
use eventide_training::{
    data::{self, Elsewhere, Example, folder::Report},
    plan::{FeedbackUse, Lake},
};
use futures::TryStreamExt as _;
use tokio::runtime::Handle;
use url::Url;

use super::marks::{Found, Mark, Marks};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Videos that were looked at to the end.
const VIDEOS: &str = "SELECT arrow_cast(video_id, 'Utf8'), arrow_cast(uri, 'Utf8'), \
     arrow_cast(duration_ms, 'Int64'), arrow_cast(source_version, 'Utf8'), arrow_cast(size_bytes, 'Int64'), \
     arrow_cast(arrow_cast(last_modified, 'Timestamp(Millisecond, Some(\"UTC\"))'), 'Int64') FROM videos \
     WHERE status IN ('captioned', 'empty') AND duration_ms IS NOT NULL ORDER BY video_id";
/// Their events, the first first.
const EVENTS: &str = "SELECT arrow_cast(video_id, 'Utf8'), arrow_cast(source, 'Utf8'), \
     arrow_cast(caption, 'Utf8'), arrow_cast(start_ms, 'Int64'), arrow_cast(end_ms, 'Int64'), \
     arrow_cast(event_id, 'Utf8'), arrow_cast(run_id, 'Utf8') FROM events ORDER BY video_id, start_ms, end_ms, window_index, event_index";
/// What is said in them, in order. Tables of earlier programs have none.
const TRANSCRIPTS: &str = "SELECT arrow_cast(video_id, 'Utf8'), arrow_cast(text, 'Utf8'), \
     arrow_cast(start_ms, 'Int64'), arrow_cast(end_ms, 'Int64') \
     FROM transcripts ORDER BY video_id, sentence_index";
/// What people have said about events, the last last.
const FEEDBACK: &str = "SELECT arrow_cast(event_id, 'Utf8'), arrow_cast(run_id, 'Utf8'), \
     arrow_cast(verdict, 'Utf8'), arrow_cast(caption, 'Utf8'), arrow_cast(start_ms, 'Int64'), \
     arrow_cast(end_ms, 'Int64') FROM feedback ORDER BY at";

/// The videos of tables: what is known of them, and those that lie in object stores.
pub(super) struct LakeVideos {
    stores: Arc<Stores>,
    /// What waits for the stores, from threads that are not its own.
    handle: Handle,
    scratch: Scratch,
    /// Those in stores, by their address, which is what their examples have for a file.
    remote: Mutex<HashMap<PathBuf, Video>>,
}

impl LakeVideos {
    /// Reads tables out of `stores`, and copies videos to `scratch`, which must outlive this value.
    pub(super) fn new(stores: Arc<Stores>, handle: Handle, scratch: &Path) -> Self {
        let scratch = Scratch::new(scratch.to_owned(), LimitOptions::default().scratch);
        Self { stores, handle, scratch, remote: Mutex::default() }
    }

    fn remote(&self) -> MutexGuard<'_, HashMap<PathBuf, Video>> {
        self.remote.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An example for each video of the tables, or of those that are marked. Left out are videos whose file was on this
    /// machine and is gone, and those of which a mark says what cannot be. Blocks.
    pub(super) fn examples(&self, lake: &Lake) -> Result<(Vec<Example>, Report), Failure> {
        let rows = self.handle.block_on(Rows::read(lake, &self.stores))?;
        let (mut examples, mut report) = (Vec::new(), Report::default());
        for (video, duration_us) in rows.videos {
            let is_marked = rows.marked.contains(&video.video_id);
            if lake.feedback == Some(FeedbackUse::Marked) && !is_marked {
                report.without_mark += 1;
                continue;
            }
            report.annotated += 1;
            let file = match local(&video.uri) {
                Some(file) if file.is_file() => file,
                Some(_) => {
                    report.without_file.push(video.uri);
                    continue;
                }
                None => PathBuf::from(&video.uri),
            };
            let told = rows.events.get(&video.video_id).map_or(&[][..], Vec::as_slice);
            let said = rows.transcripts.get(&video.video_id).map_or(&[][..], Vec::as_slice);
            let example = Example::of_rows(&video.video_id, file.clone(), duration_us, said, told);
            let example = match example {
                Ok(example) => example,
                Err(fault) if is_marked => {
                    let (path, video_id) = (file, video.video_id);
                    report.faulty.push(data::Error::Fault { path, video_id, fault });
                    continue;
                }
                Err(fault) => return Err(format!("video `{}`: {fault}", video.uri).into()),
            };
            report.count(&example);
            if local(&video.uri).is_none() {
                self.remote().insert(example.file.clone(), video);
            }
            examples.push(example);
        }
        Ok((examples, report))
    }
}

impl Elsewhere for LakeVideos {
    fn version(&self, file: &Path) -> Option<String> {
        self.remote().get(file).map(|video| video.source_version.clone())
    }

    fn fetch(&self, file: &Path) -> Result<Fetched, data::Error> {
        let path = file.to_owned();
        let Some(video) = self.remote().get(file).cloned() else {
            let source = std::io::ErrorKind::NotFound.into();
            return Err(data::Error::Read { path, source });
        };
        let sources = StoreSources(Arc::clone(&self.stores));
        self.handle.block_on(fetch(&video, &sources, &self.scratch)).map_err(
            |trouble| match trouble {
                Trouble::Video(failure) => {
                    data::Error::Unfetched { path, failure: Box::new(failure) }
                }
                Trouble::Run(source) => data::Error::Fetch { path, source: Box::new(source) },
            },
        )
    }
}

/// The file of a video, where it is one of this machine.
fn local(uri: &str) -> Option<PathBuf> {
    Url::parse(uri).ok()?.to_file_path().ok()
}

/// What the tables say of videos, by their ids.
#[derive(Default)]
struct Rows {
    /// With their lengths in microseconds.
    videos: Vec<(Video, i64)>,
    events: BTreeMap<String, Vec<(EventSource, Cue)>>,
    transcripts: BTreeMap<String, Vec<Cue>>,
    /// Those of which an event is marked.
    marked: BTreeSet<String>,
}

impl Rows {
    async fn read(lake: &Lake, stores: &Stores) -> Result<Self, Failure> {
        let location = stores.open(&lake.tables)?;
        let options = Options::default();
        let session = Session::open(location.store.clone(), &location.uri, &options).await?;
        let mut read = Self::default();
        let mut marks = match lake.feedback {
            Some(_) => marks(&session).await?,
            None => Marks::default(),
        };
        for batch in rows(&session, EVENTS).await? {
            for row in 0..batch.num_rows() {
                read.add_event(&batch, row, &mut marks);
            }
        }
        if lake.feedback.is_some() {
            // Some begin at another time now.
            for events in read.events.values_mut() {
                events.sort_by_key(|(_, cue)| (cue.span.start_us, cue.span.end_us));
            }
            let (events, left_out) = (marks.used(), marks.left_out());
            tracing::info!(events, left_out, videos = read.marked.len(), "marks");
        }
        for batch in rows(&session, TRANSCRIPTS).await? {
            for row in 0..batch.num_rows() {
                let of_video = read.transcripts.entry(text(&batch, 0, row).to_owned()).or_default();
                of_video.push(cue(&batch, row, [1, 2, 3]));
            }
        }
        for batch in rows(&session, VIDEOS).await? {
            for row in 0..batch.num_rows() {
                read.videos.push((video(&batch, row), integer(&batch, 2, row) * 1000));
            }
        }
        Ok(read)
    }

    /// Adds an event as it is after what people have said about it.
    fn add_event(&mut self, batch: &RecordBatch, row: usize, marks: &mut Marks) {
        let video_id = text(batch, 0, row).to_owned();
        let (source, cue) = event(batch, row);
        let [event_id, run_id] = [5, 6].map(|column| text(batch, column, row).to_owned());
        let (is_marked, cue) = marks.applied(&Found { event_id, run_id }, cue);
        if is_marked {
            self.marked.insert(video_id.clone());
        }
        self.events.entry(video_id).or_default().extend(cue.map(|cue| (source, cue)));
    }
}

/// What people have said about events.
async fn marks(session: &Session) -> Result<Marks, Failure> {
    let mut marks = Marks::default();
    for batch in rows(session, FEEDBACK).await? {
        let is_given = |column: usize, row: usize| batch.column(column).is_valid(row);
        let us = |column, row| is_given(column, row).then(|| integer(&batch, column, row) * 1000);
        for row in 0..batch.num_rows() {
            let [event_id, run_id] = [0, 1].map(|column| text(&batch, column, row).to_owned());
            let verdict = match text(&batch, 2, row) {
                "right" => Verdict::Right,
                "wrong" => Verdict::Wrong,
                "edited" => Verdict::Edited,
                _ => continue, // of a later program
            };
            let caption = is_given(3, row).then(|| text(&batch, 3, row).to_owned());
            let (start_us, end_us) = (us(4, row), us(5, row));
            marks.add(Found { event_id, run_id }, Mark { verdict, caption, start_us, end_us });
        }
    }
    Ok(marks)
}

fn video(batch: &RecordBatch, row: usize) -> Video {
    Video {
        video_id: text(batch, 0, row).to_owned(),
        uri: text(batch, 1, row).to_owned(),
        source_version: text(batch, 3, row).to_owned(),
        size_bytes: integer(batch, 4, row).unsigned_abs(),
        last_modified_ms: integer(batch, 5, row),
        sidecars: Vec::new(),
    }
}

fn event(batch: &RecordBatch, row: usize) -> (EventSource, Cue) {
    let source = match text(batch, 1, row) {
        "speech" => EventSource::Speech,
        _ => EventSource::Vid2Seq,
    };
    (source, cue(batch, row, [2, 3, 4]))
}

/// The words, the start and the end in these columns of a row.
fn cue(batch: &RecordBatch, row: usize, [words, start, end]: [usize; 3]) -> Cue {
    let span = TimeSpan::new(integer(batch, start, row) * 1000, integer(batch, end, row) * 1000);
    Cue { span, text: text(batch, words, row).to_owned() }
}

async fn rows(session: &Session, statement: &str) -> Result<Vec<RecordBatch>, Failure> {
    Ok(session.query(statement).await?.try_collect().await?)
}

fn text(batch: &RecordBatch, column: usize, row: usize) -> &str {
    batch.column(column).as_string::<i32>().value(row)
}

fn integer(batch: &RecordBatch, column: usize, row: usize) -> i64 {
    batch.column(column).as_primitive::<Int64Type>().value(row)
}
