//! `eventide plan`: what `index` would do, and what it would cost.

use std::{collections::BTreeSet, process::ExitCode, sync::Arc};

use eventide_catalog::{Counts, Estimate, Stores};
use eventide_engine::{Night, Planned};
use eventide_pipeline::CaptioningSource;
use eventide_schema::{Heard, WorkItem};
use serde::Serialize;

use super::{Stop, explained, night};
use crate::{arguments::JobArguments, report};

/// Bytes of a second of video, where the tables tell nothing: 4 Mbit/s, a 1080p stream.
const BYTES_A_SECOND: f64 = 500_000.0;
/// Core-seconds that an hour of video costs to decode once, where the tables tell nothing.
const CORE_SECONDS_AN_HOUR: f64 = 700.0;
/// Core-seconds that a video costs whose words are only read, where the tables tell nothing.
const CORE_SECONDS_A_TRANSCRIPT: f64 = 0.5;

/// Core-seconds that it takes to hear an hour of speech, where the tables tell nothing: Whisper base on a processor.
const CORE_SECONDS_AN_HOUR_HEARD: f64 = 600.0;

/// What a run would do. Printed as text, or as JSON under these names.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Forecast {
    /// Objects that the corpus lists.
    pub(crate) listed: u64,
    /// Objects to index.
    pub(crate) videos: u64,
    /// Objects never seen.
    pub(crate) new: u64,
    /// Objects whose bytes, or whose side-car's, have changed.
    pub(crate) changed: u64,
    /// Objects that were indexed with another model or other parameters.
    pub(crate) other_parameters: u64,
    /// Objects that failed and have attempts left.
    pub(crate) retried: u64,
    /// Objects that an interrupted run has finished.
    pub(crate) adopted: u64,
    /// Objects that a rule of the job leaves out.
    pub(crate) skipped: u64,
    /// Objects whose rows are right.
    pub(crate) unchanged: u64,
    /// Objects that have gone.
    pub(crate) removed: u64,
    /// Objects to index whose sound needs not be heard again.
    pub(crate) heard_before: u64,
    /// Shards that the work is cut into.
    pub(crate) shards: u64,
    /// Bytes to read.
    pub(crate) bytes: u64,
    /// Hours of video to index.
    pub(crate) video_hours: f64,
    /// Core-seconds that it will take.
    pub(crate) core_seconds: f64,
    /// Device-seconds that it will take; `null` where the tables tell nothing yet.
    pub(crate) device_seconds: Option<f64>,
    /// What the last three are estimated from.
    pub(crate) estimated_from: &'static str,
}

pub(super) async fn run(arguments: &JobArguments, stores: &Arc<Stores>) -> Result<ExitCode, Stop> {
    let night = night(arguments)?;
    let planned = night.plan(stores, false).await.map_err(|e| Stop::bad_job(explained(&e)))?;
    let learnt = planned.estimate().await.map_err(|e| Stop::failed(explained(&e)))?;
    let forecast = forecast(&night, &planned, learnt);
    report::forecast(&forecast, arguments.format).map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn float(value: u64) -> f64 {
    value as f64
}

/// Seconds of video, core-seconds and device-seconds that indexing `bytes` of `videos` takes, where the tables hold no video
/// to learn from: by the runs before, or by rules of thumb.
fn rough(night: &Night, history: &Counts, bytes: u64, videos: u64) -> (f64, f64, Option<f64>) {
    if history.bytes_read > 0 && history.video_ms > 0 {
        let share = float(bytes) / float(history.bytes_read) / 1000.0;
        let of = |milliseconds: u64| float(milliseconds) * share;
        return (of(history.video_ms), of(history.core_ms), Some(of(history.device_ms)));
    }
    let seconds = float(bytes) / BYTES_A_SECOND;
    let cores = match night.captioning.source {
        CaptioningSource::Vid2Seq => seconds / 3600.0 * CORE_SECONDS_AN_HOUR,
        CaptioningSource::Speech => float(videos) * CORE_SECONDS_A_TRANSCRIPT,
    };
    let heard = match &night.speech {
        Some(_) => seconds / 3600.0 * CORE_SECONDS_AN_HOUR_HEARD, // if no video has subtitles
        None => 0.0,
    };
    (seconds, cores + heard, None)
}

fn forecast(night: &Night, planned: &Planned, learnt: Option<Estimate>) -> Forecast {
    let work = &planned.work;
    let items = || work.shards.iter().flat_map(|shard| &shard.items);
    let bytes = items().map(WorkItem::size_bytes).sum();
    let heard: BTreeSet<&str> = items()
        .filter(|item| item.heard != Heard::NotYet)
        .map(|item| item.video.video_id.as_str())
        .collect();
    let videos = work.videos().len() as u64;
    let (seconds, core_seconds, device_seconds) = match learnt {
        Some(learnt) => (learnt.video_seconds, learnt.core_seconds, Some(learnt.device_seconds)),
        None => rough(night, &planned.history, bytes, videos),
    };
    let estimated_from = match (learnt, device_seconds) {
        (Some(_), _) => "what videos of their kind cost with this model and these parameters",
        (None, Some(_)) => "what earlier runs with this model and these parameters cost",
        (None, None) => "rules of thumb: 4 Mbit/s, 700 core-seconds an hour",
    };
    Forecast {
        listed: work.listed,
        videos,
        new: work.due.new,
        changed: work.due.changed,
        other_parameters: work.due.params_changed,
        retried: work.due.retried,
        adopted: work.adopted.iter().map(|receipt| receipt.items.len() as u64).sum(),
        skipped: work.skipped.len() as u64,
        unchanged: work.unchanged,
        removed: work.removed.len() as u64,
        heard_before: heard.len() as u64,
        shards: work.shards.len() as u64,
        bytes,
        video_hours: seconds / 3600.0,
        core_seconds,
        device_seconds,
        estimated_from,
    }
}
