//! The published tables: their Arrow schemas, and rows from outcomes.
//!
//! Only types that Delta Lake knows: no unsigned integers. Times of a video are `Int64`
//! milliseconds, half-open, start rounded down and end rounded up; moments of the clock are
//! `Timestamp(us, UTC)`.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch,
        StringArray, TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
};
use serde::{Deserialize, Serialize};

use crate::{Cue, Event, Feedback, Outcome, Provenance, TranscriptSource, event_id};

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

fn long(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Int64, nullable)
}

fn int(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Int32, nullable)
}

fn moment(name: &str) -> Field {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Field::new(name, utc, false)
}

/// Columns of `events`: the current events of each video, sorted by `video_id`, `start_ms`.
#[must_use]
pub fn events_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("event_id", false),
        text("video_id", false),
        text("uri", false),
        text("source_version", false),
        int("window_index", false),
        int("event_index", false),
        long("start_ms", false),
        long("end_ms", false),
        long("time_resolution_ms", false),
        text("caption", false),
        Field::new("score", DataType::Float32, true),
        text("source", false),
        text("speech", true),
        text("language", true),
        text("model_id", false),
        text("model_digest", false),
        text("params_digest", false),
        text("run_id", false),
        moment("indexed_at"),
    ]))
}

/// Columns of `videos`: one row for each object that a run has tried, sorted by `video_id`.
#[must_use]
pub fn videos_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("video_id", false),
        text("uri", false),
        text("source_version", false),
        long("size_bytes", false),
        moment("last_modified"),
        long("duration_ms", true),
        text("container", true),
        text("video_codec", true),
        int("width", true),
        int("height", true),
        Field::new("fps", DataType::Float64, true),
        Field::new("has_audio", DataType::Boolean, true),
        text("transcript_source", false),
        text("language", true),
        text("speech_digest", true),
        text("status", false),
        text("stage", true),
        text("reason_code", true),
        text("reason", true),
        int("attempts", false),
        int("event_count", false),
        int("windows", false),
        int("frames_used", false),
        int("frames_missing", false),
        long("core_ms", false),
        long("device_ms", false),
        long("wall_ms", false),
        text("worker", false),
        text("model_id", false),
        text("model_digest", false),
        text("params_digest", false),
        text("pipeline_version", false),
        text("run_id", false),
        moment("indexed_at"),
    ]))
}

/// Columns of `transcripts`: what is said in each video, sorted by `video_id`, `start_ms`.
#[must_use]
pub fn transcripts_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("video_id", false),
        text("uri", false),
        text("source_version", false),
        int("sentence_index", false),
        long("start_ms", false),
        long("end_ms", false),
        text("text", false),
        text("language", true),
        Field::new("confidence", DataType::Float32, true),
        text("source", false),
        text("model_digest", false),
        text("speech_digest", true),
        text("run_id", false),
        moment("indexed_at"),
    ]))
}

/// Columns of `feedback`: what people say about events. Rows are only ever added; the last about an event counts.
#[must_use]
pub fn feedback_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("event_id", false),
        text("video_id", false),
        text("uri", false),
        text("source_version", false),
        text("run_id", false),
        text("model_digest", false),
        text("verdict", false),
        text("caption", true),
        long("start_ms", true),
        long("end_ms", true),
        text("who", false),
        moment("at"),
    ]))
}

/// Columns of what SQL's `caption` gives: one row for each event, and one that says why for each
/// video without events.
#[must_use]
pub fn captions_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("video_id", false),
        text("uri", false),
        text("source_version", false),
        text("status", false),
        text("reason_code", true),
        text("reason", true),
        long("duration_ms", true),
        int("window_index", true),
        int("event_index", true),
        long("start_ms", true),
        long("end_ms", true),
        long("time_resolution_ms", true),
        text("caption", true),
        Field::new("score", DataType::Float32, true),
        text("source", true),
        text("speech", true),
        text("language", true),
    ]))
}

/// Columns of `runs`: one row for each published run, or for each part that it was published in.
#[must_use]
pub fn runs_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("run_id", false),
        text("job", false),
        moment("started_at"),
        moment("finished_at"),
        long("listed", false),
        long("planned", false),
        long("captioned", false),
        long("empty", false),
        long("failed", false),
        long("skipped", false),
        long("unchanged", false),
        long("removed", false),
        long("events", false),
        long("video_ms", false),
        long("core_ms", false),
        long("device_ms", false),
        long("bytes_read", false),
        text("model_digest", false),
        text("params_digest", false),
        long("events_version", true),
        long("videos_version", true),
        long("transcripts_version", true),
        text("receipt", false),
        long("part", true),
        long("pending", true),
    ]))
}

/// One row of `runs`. A run that is published in parts has one for each of them; they count what comes with
/// that part, so they may be added up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRow {
    /// The run; sorts by time.
    pub run_id: String,
    /// Name of the job.
    pub job: String,
    /// Milliseconds since 1970 (UTC).
    pub started_at_ms: i64,
    /// Milliseconds since 1970 (UTC).
    pub finished_at_ms: i64,
    /// Objects that the corpus lists: the sum of captioned, empty, failed, skipped, unchanged and pending.
    pub listed: u64,
    /// Objects that were due and had not come with an earlier part.
    pub planned: u64,
    /// Objects with events.
    pub captioned: u64,
    /// Objects with nothing to tell.
    pub empty: u64,
    /// Objects that could not be indexed.
    pub failed: u64,
    /// Objects that a rule of the job leaves out.
    pub skipped: u64,
    /// Objects whose rows were already right, those of earlier parts among them.
    pub unchanged: u64,
    /// Objects that have gone; their rows went with them.
    pub removed: u64,
    /// Events that this run wrote.
    pub events: u64,
    /// Length of the videos that this run indexed, in milliseconds.
    pub video_ms: u64,
    /// Processor time of the media children, in milliseconds.
    pub core_ms: u64,
    /// Time that model devices were busy, in milliseconds.
    pub device_ms: u64,
    /// Bytes read from the store.
    pub bytes_read: u64,
    /// Digest of the model bundle, or `none`.
    pub model_digest: String,
    /// Digest of the parameters.
    pub params_digest: String,
    /// Version of `events` that this run published; `None` where it had nothing to change.
    pub events_version: Option<i64>,
    /// Version of `videos` that this run published; `None` where it had nothing to change.
    pub videos_version: Option<i64>,
    /// Version of `transcripts` that this run published; `None` where it had nothing to change.
    pub transcripts_version: Option<i64>,
    /// What was published, as JSON.
    pub receipt: String,
    /// Which part of a run that goes on, from 1; `None` where the run is complete with this.
    #[serde(default)]
    pub part: Option<u32>,
    /// Objects whose rows are to come with a later part; 0 where the run is complete.
    #[serde(default)]
    pub pending: u64,
}

impl RunRow {
    /// Whether every listed object has exactly one state.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.listed == self.outcomes() + self.unchanged + self.pending
    }

    /// Objects that got a terminal state.
    #[must_use]
    pub fn outcomes(&self) -> u64 {
        self.captioned + self.empty + self.failed + self.skipped
    }

    /// The run up to the end of `later`, of which this row says how it stood before.
    #[must_use]
    pub fn and(self, later: Self) -> Self {
        Self {
            started_at_ms: self.started_at_ms.min(later.started_at_ms),
            planned: self.captioned + self.empty + self.failed + later.planned,
            captioned: self.captioned + later.captioned,
            empty: self.empty + later.empty,
            failed: self.failed + later.failed,
            skipped: self.skipped + later.skipped,
            unchanged: later.unchanged.saturating_sub(self.outcomes()),
            removed: self.removed + later.removed,
            events: self.events + later.events,
            video_ms: self.video_ms + later.video_ms,
            core_ms: self.core_ms + later.core_ms,
            device_ms: self.device_ms + later.device_ms,
            bytes_read: self.bytes_read + later.bytes_read,
            events_version: later.events_version.or(self.events_version),
            videos_version: later.videos_version.or(self.videos_version),
            transcripts_version: later.transcripts_version.or(self.transcripts_version),
            ..later
        }
    }
}

fn strings<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<StringArray>())
}

fn optional_strings<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn longs(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(values.map(|v| i64::try_from(v).unwrap_or(i64::MAX)).collect::<Int64Array>())
}

fn ints(values: impl Iterator<Item = u32>) -> ArrayRef {
    Arc::new(values.map(|v| i32::try_from(v).unwrap_or(i32::MAX)).collect::<Int32Array>())
}

fn optional_ints(values: impl Iterator<Item = Option<u32>>) -> ArrayRef {
    let narrow = |v: u32| i32::try_from(v).unwrap_or(i32::MAX);
    Arc::new(values.map(|v| v.map(narrow)).collect::<Int32Array>())
}

fn moments(milliseconds: impl Iterator<Item = i64>) -> ArrayRef {
    let micros = milliseconds.map(|ms| Some(ms.saturating_mul(1000)));
    Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

/// A column that says the same in each of `rows` rows.
fn repeated(value: &str, rows: usize) -> ArrayRef {
    strings(std::iter::repeat_n(value, rows))
}

/// Rows of `events` for some outcomes, sorted by `video_id`, `start_ms`.
///
/// # Errors
/// Only if a column does not fit the schema, which would be a fault of this file.
pub fn events_batch(outcomes: &[Outcome], by: &Provenance) -> Result<RecordBatch, ArrowError> {
    let mut rows: Vec<(&Outcome, &Event)> =
        outcomes.iter().flat_map(|o| o.events.iter().map(move |e| (o, e))).collect();
    rows.sort_by(|(a, x), (b, y)| {
        (&a.video.video_id, x.span, x.window_index, x.event_index).cmp(&(
            &b.video.video_id,
            y.span,
            y.window_index,
            y.event_index,
        ))
    });
    let n = rows.len();
    let ids: Vec<_> = rows
        .iter()
        .map(|(o, e)| event_id(&o.video.video_id, e.window_index, e.event_index))
        .collect();
    let millis = |at: fn(&Event) -> i64| -> ArrayRef {
        Arc::new(rows.iter().map(|(_, e)| at(e)).collect::<Int64Array>())
    };
    let columns: Vec<ArrayRef> = vec![
        strings(ids.iter().map(String::as_str)),
        strings(rows.iter().map(|(o, _)| o.video.video_id.as_str())),
        strings(rows.iter().map(|(o, _)| o.video.uri.as_str())),
        strings(rows.iter().map(|(o, _)| o.video.source_version.as_str())),
        ints(rows.iter().map(|(_, e)| e.window_index)),
        ints(rows.iter().map(|(_, e)| e.event_index)),
        millis(|e| e.span.start_ms()),
        millis(|e| e.span.end_ms()),
        millis(|e| e.time_resolution_us.saturating_add(999) / 1000),
        strings(rows.iter().map(|(_, e)| e.caption.as_str())),
        Arc::new(rows.iter().map(|(_, e)| e.score).collect::<Float32Array>()),
        strings(rows.iter().map(|(_, e)| e.source.as_str())),
        optional_strings(rows.iter().map(|(_, e)| e.speech.as_deref())),
        optional_strings(rows.iter().map(|(_, e)| e.language.as_deref())),
        repeated(&by.model_id, n),
        repeated(&by.model_digest, n),
        repeated(&by.params_digest, n),
        repeated(&by.run_id, n),
        moments(std::iter::repeat_n(by.indexed_at_ms, n)),
    ];
    RecordBatch::try_new(events_schema(), columns)
}

/// A sentence of a transcript, and its place among those of its video.
struct Said<'a> {
    outcome: &'a Outcome,
    index: usize,
    cue: &'a Cue,
}

impl Said<'_> {
    fn is_recognised(&self) -> bool {
        self.outcome.transcript.source == TranscriptSource::Asr
    }
}

/// Rows of `transcripts` for some outcomes, sorted by `video_id`, `start_ms`.
///
/// # Errors
/// Only if a column does not fit the schema, which would be a fault of this file.
pub fn transcripts_batch(outcomes: &[Outcome], by: &Provenance) -> Result<RecordBatch, ArrowError> {
    let said = |outcome| move |(index, cue)| Said { outcome, index, cue };
    let mut rows: Vec<Said<'_>> = outcomes
        .iter()
        .flat_map(|outcome| outcome.transcript.cues.iter().enumerate().map(said(outcome)))
        .collect();
    let key = |said: &Said<'_>| (said.cue.span.start_us, said.index);
    rows.sort_by(|a, b| {
        let ids = a.outcome.video.video_id.cmp(&b.outcome.video.video_id);
        ids.then_with(|| key(a).cmp(&key(b)))
    });
    let n = rows.len();
    let index = |index| u32::try_from(index).unwrap_or(u32::MAX);
    let confidence = |said: &Said<'_>| said.outcome.transcript.confidences.get(said.index).copied();
    let model =
        |said: &Said<'_>| if said.is_recognised() { &*by.speech_model_digest } else { "none" };
    let columns: Vec<ArrayRef> = vec![
        strings(rows.iter().map(|r| r.outcome.video.video_id.as_str())),
        strings(rows.iter().map(|r| r.outcome.video.uri.as_str())),
        strings(rows.iter().map(|r| r.outcome.video.source_version.as_str())),
        ints(rows.iter().map(|r| index(r.index))),
        Arc::new(rows.iter().map(|r| Some(r.cue.span.start_ms())).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| Some(r.cue.span.end_ms())).collect::<Int64Array>()),
        strings(rows.iter().map(|r| r.cue.text.as_str())),
        optional_strings(rows.iter().map(|r| r.outcome.transcript.language.as_deref())),
        Arc::new(rows.iter().map(confidence).collect::<Float32Array>()),
        strings(rows.iter().map(|r| r.outcome.transcript.source.as_str())),
        strings(rows.iter().map(model)),
        optional_strings(
            rows.iter().map(|r| r.is_recognised().then_some(by.speech_digest.as_str())),
        ),
        repeated(&by.run_id, n),
        moments(std::iter::repeat_n(by.indexed_at_ms, n)),
    ];
    RecordBatch::try_new(transcripts_schema(), columns)
}

/// Rows of `caption` for some outcomes, in their order; the events of each as the model wrote them.
///
/// # Errors
/// Only if a column does not fit the schema, which would be a fault of this file.
pub fn captions_batch(outcomes: &[Outcome]) -> Result<RecordBatch, ArrowError> {
    let rows: Vec<(&Outcome, Option<&Event>)> = outcomes
        .iter()
        .flat_map(|outcome| {
            let events = outcome.events.iter().map(move |event| (outcome, Some(event)));
            let none = outcome.events.is_empty().then_some((outcome, None));
            events.chain(none)
        })
        .collect();
    let of_failure = |part: fn(&crate::Failure) -> &str| -> ArrayRef {
        optional_strings(rows.iter().map(|(o, _)| o.failure.as_ref().map(part)))
    };
    let text_of = |part: fn(&Event) -> Option<&str>| -> ArrayRef {
        optional_strings(rows.iter().map(|(_, e)| e.and_then(part)))
    };
    let millis = |at: fn(&Event) -> i64| -> ArrayRef {
        Arc::new(rows.iter().map(|(_, e)| e.map(at)).collect::<Int64Array>())
    };
    let duration = |o: &Outcome| o.media.duration_us.map(|us| us / 1000);
    let columns: Vec<ArrayRef> = vec![
        strings(rows.iter().map(|(o, _)| o.video.video_id.as_str())),
        strings(rows.iter().map(|(o, _)| o.video.uri.as_str())),
        strings(rows.iter().map(|(o, _)| o.video.source_version.as_str())),
        strings(rows.iter().map(|(o, _)| o.status.as_str())),
        of_failure(|f| f.reason_code.as_str()),
        of_failure(|f| f.reason.as_str()),
        Arc::new(rows.iter().map(|(o, _)| duration(o)).collect::<Int64Array>()),
        optional_ints(rows.iter().map(|(_, e)| e.map(|e| e.window_index))),
        optional_ints(rows.iter().map(|(_, e)| e.map(|e| e.event_index))),
        millis(|e| e.span.start_ms()),
        millis(|e| e.span.end_ms()),
        millis(|e| e.time_resolution_us.saturating_add(999) / 1000),
        text_of(|e| Some(e.caption.as_str())),
        Arc::new(rows.iter().map(|(_, e)| e.and_then(|e| e.score)).collect::<Float32Array>()),
        text_of(|e| Some(e.source.as_str())),
        text_of(|e| e.speech.as_deref()),
        text_of(|e| e.language.as_deref()),
    ];
    RecordBatch::try_new(captions_schema(), columns)
}

/// Rows of `videos` for some outcomes, sorted by `video_id`.
///
/// # Errors
/// Only if a column does not fit the schema, which would be a fault of this file.
pub fn videos_batch(outcomes: &[Outcome], by: &Provenance) -> Result<RecordBatch, ArrowError> {
    let mut rows: Vec<&Outcome> = outcomes.iter().collect();
    rows.sort_by(|a, b| a.video.video_id.cmp(&b.video.video_id));
    let n = rows.len();
    let failure = |part: fn(&crate::Failure) -> &str| -> ArrayRef {
        optional_strings(rows.iter().map(|o| o.failure.as_ref().map(part)))
    };
    let columns: Vec<ArrayRef> = vec![
        strings(rows.iter().map(|o| o.video.video_id.as_str())),
        strings(rows.iter().map(|o| o.video.uri.as_str())),
        strings(rows.iter().map(|o| o.video.source_version.as_str())),
        longs(rows.iter().map(|o| o.video.size_bytes)),
        moments(rows.iter().map(|o| o.video.last_modified_ms)),
        Arc::new(
            rows.iter().map(|o| o.media.duration_us.map(|us| us / 1000)).collect::<Int64Array>(),
        ),
        optional_strings(rows.iter().map(|o| o.media.container.as_deref())),
        optional_strings(rows.iter().map(|o| o.media.video_codec.as_deref())),
        optional_ints(rows.iter().map(|o| o.media.width)),
        optional_ints(rows.iter().map(|o| o.media.height)),
        Arc::new(rows.iter().map(|o| o.media.fps).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|o| o.media.has_audio).collect::<BooleanArray>()),
        strings(rows.iter().map(|o| o.transcript.source.as_str())),
        optional_strings(rows.iter().map(|o| o.transcript.language.as_deref())),
        optional_strings(rows.iter().map(|o| o.heard.then_some(by.speech_digest.as_str()))),
        strings(rows.iter().map(|o| o.status.as_str())),
        failure(|f| f.stage.as_str()),
        failure(|f| &f.reason_code),
        failure(|f| &f.reason),
        ints(rows.iter().map(|o| o.attempts)),
        ints(rows.iter().map(|o| u32::try_from(o.events.len()).unwrap_or(u32::MAX))),
        ints(rows.iter().map(|o| o.windows)),
        ints(rows.iter().map(|o| o.frames_used)),
        ints(rows.iter().map(|o| o.frames_missing)),
        longs(rows.iter().map(|o| o.costs.core_ms)),
        longs(rows.iter().map(|o| o.costs.device_ms)),
        longs(rows.iter().map(|o| o.costs.wall_ms)),
        repeated(&by.worker, n),
        repeated(&by.model_id, n),
        repeated(&by.model_digest, n),
        repeated(&by.params_digest, n),
        repeated(&by.pipeline_version, n),
        repeated(&by.run_id, n),
        moments(std::iter::repeat_n(by.indexed_at_ms, n)),
    ];
    RecordBatch::try_new(videos_schema(), columns)
}

/// Rows of `feedback`.
///
/// # Errors
/// Only if a column does not fit the schema, which would be a fault of this file.
pub fn feedback_batch(rows: &[Feedback]) -> Result<RecordBatch, ArrowError> {
    let text = |of: fn(&Feedback) -> &str| strings(rows.iter().map(of));
    let moment = |of: fn(&Feedback) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<Int64Array>())
    };
    let captions = rows.iter().map(|row| row.caption.as_deref()).collect::<StringArray>();
    let columns: Vec<ArrayRef> = vec![
        text(|row| &row.event_id),
        text(|row| &row.video_id),
        text(|row| &row.uri),
        text(|row| &row.source_version),
        text(|row| &row.run_id),
        text(|row| &row.model_digest),
        text(|row| row.verdict.as_str()),
        Arc::new(captions),
        moment(|row| row.start_ms),
        moment(|row| row.end_ms),
        text(|row| &row.who),
        moments(rows.iter().map(|row| row.at_ms)),
    ];
    RecordBatch::try_new(feedback_schema(), columns)
}

/// The row of `runs` for one run.
///
/// # Errors
/// Only if a column does not fit the schema, which would be a fault of this file.
pub fn run_batch(run: &RunRow) -> Result<RecordBatch, ArrowError> {
    let one = |value: u64| longs(std::iter::once(value));
    let version = |value: Option<i64>| -> ArrayRef {
        Arc::new(std::iter::once(value).collect::<Int64Array>())
    };
    let columns: Vec<ArrayRef> = vec![
        repeated(&run.run_id, 1),
        repeated(&run.job, 1),
        moments(std::iter::once(run.started_at_ms)),
        moments(std::iter::once(run.finished_at_ms)),
        one(run.listed),
        one(run.planned),
        one(run.captioned),
        one(run.empty),
        one(run.failed),
        one(run.skipped),
        one(run.unchanged),
        one(run.removed),
        one(run.events),
        one(run.video_ms),
        one(run.core_ms),
        one(run.device_ms),
        one(run.bytes_read),
        repeated(&run.model_digest, 1),
        repeated(&run.params_digest, 1),
        version(run.events_version),
        version(run.videos_version),
        version(run.transcripts_version),
        repeated(&run.receipt, 1),
        version(run.part.map(i64::from)),
        one(run.pending),
    ];
    RecordBatch::try_new(runs_schema(), columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        EventSource, Failure, Stage, Status, TimeSpan, Transcript, Video, WorkItem, video_id,
    };
    use arrow::array::{Array, AsArray};

    fn provenance() -> Provenance {
        Provenance {
            model_id: "none".to_owned(),
            model_digest: "none".to_owned(),
            params_digest: "p".to_owned(),
            speech_model_digest: "w".to_owned(),
            speech_digest: "s".to_owned(),
            run_id: "r".to_owned(),
            indexed_at_ms: 1,
            worker: "w".to_owned(),
            pipeline_version: "0".to_owned(),
        }
    }

    fn outcome(uri: &str, starts_us: &[i64]) -> Outcome {
        let video = Video {
            video_id: video_id(uri),
            uri: uri.to_owned(),
            source_version: "v".to_owned(),
            size_bytes: 1,
            last_modified_ms: 0,
            sidecars: Vec::new(),
        };
        let failure = Failure {
            stage: Stage::Probe,
            reason_code: "no_video_stream".to_owned(),
            reason: "none".to_owned(),
        };
        let item = WorkItem::new(video, 1);
        let mut outcome = Outcome::without_events(item, Status::Failed, failure);
        outcome.events = (0..)
            .zip(starts_us)
            .map(|(event_index, &start)| Event {
                window_index: 0,
                event_index,
                span: TimeSpan::new(start, start + 1),
                time_resolution_us: 1,
                caption: "c".to_owned(),
                score: None,
                source: EventSource::Speech,
                speech: None,
                language: None,
            })
            .collect();
        outcome
    }

    #[test]
    fn rows_of_events_are_sorted_and_keep_their_video() {
        let outcomes = [outcome("file:///b", &[5_000, 1_000]), outcome("file:///a", &[9_000])];
        let batch = events_batch(&outcomes, &provenance()).unwrap();
        let ids: Vec<_> = batch.column(1).as_string::<i32>().iter().flatten().collect();
        assert!(ids.is_sorted());
        let uris = batch.column(2).as_string::<i32>();
        for (row, id) in ids.iter().enumerate() {
            assert_eq!(video_id(uris.value(row)), *id);
        }
    }

    #[test]
    fn a_failure_row_says_stage_and_reason() {
        let batch = videos_batch(&[outcome("file:///a", &[])], &provenance()).unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().value(0);
        assert_eq!(column("status"), "failed");
        assert_eq!(column("stage"), "probe");
        assert_eq!(column("reason_code"), "no_video_stream");
    }

    #[test]
    fn a_transcript_names_what_heard_it_and_a_side_car_nothing() {
        let cue = |start_us: i64, text: &str| Cue {
            span: TimeSpan::new(start_us, start_us + 1),
            text: text.to_owned(),
        };
        let mut outcomes = [outcome("file:///b", &[]), outcome("file:///a", &[])];
        outcomes[0].transcript = Transcript {
            source: TranscriptSource::Asr,
            language: Some("en".to_owned()),
            cues: vec![cue(5_000, "later"), cue(1_000, "sooner")],
            confidences: vec![0.5, 0.9],
        };
        outcomes[0].heard = true;
        outcomes[1].transcript = Transcript {
            source: TranscriptSource::Sidecar,
            cues: vec![cue(0, "read")],
            ..Transcript::default()
        };
        let batch = transcripts_batch(&outcomes, &provenance()).unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let texts = |name: &str| column(name).as_string::<i32>().iter().collect::<Vec<_>>();
        let videos = videos_batch(&outcomes, &provenance()).unwrap();
        let (heard, read) = (video_id("file:///b"), video_id("file:///a"));
        let mut expected = vec![
            (heard.as_str(), "sooner", "w", Some("s")),
            (heard.as_str(), "later", "w", Some("s")),
            (read.as_str(), "read", "none", None),
        ];
        expected.sort_by_key(|row| row.0);
        let found: Vec<_> = (0..3)
            .map(|row| {
                let text = |name| texts(name)[row].unwrap();
                (text("video_id"), text("text"), text("model_digest"), texts("speech_digest")[row])
            })
            .collect();
        assert_eq!(found, expected);
        assert_eq!(column("confidence").null_count(), 1);
        let digests = videos.column_by_name("speech_digest").unwrap().as_string::<i32>();
        assert_eq!(digests.iter().flatten().collect::<Vec<_>>(), ["s"]);
    }

    #[test]
    fn no_outcomes_give_no_rows() {
        assert_eq!(events_batch(&[], &provenance()).unwrap().num_rows(), 0);
        assert_eq!(videos_batch(&[], &provenance()).unwrap().num_rows(), 0);
    }
}
