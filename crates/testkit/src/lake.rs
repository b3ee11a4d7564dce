//! Published tables of made-up events, as large as one likes: what questions are timed on. Always the same for the same
//! number of events, and written as a night writes them, a shard a file.

use std::collections::BTreeMap;
use std::path::Path;

use eventide_catalog::{PlanOptions, PublishPlan, RunFacts, Stores, Tables, plan};
use eventide_schema::{
    Event, EventSource, Failure, Outcome, Provenance, Stage, Status, TimeSpan, Video, WorkItem,
    video_id,
};
use futures::stream;

use crate::error::{Error, Result};
use crate::scrambled;

/// Events of a video.
const EVENTS: u64 = 100;
/// Videos of a shard.
const VIDEOS: usize = 250;
/// Nights in which the videos were added.
const NIGHTS: u64 = 5;
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;
/// Milliseconds since 1970 of the first night.
const FIRST_NIGHT_MS: i64 = 1_770_000_000_000;
/// Words of captions; the first are the most frequent.
const WORDS: [&str; 24] = [
    "a", "the", "person", "cuts", "pan", "in", "water", "hand", "garlic", "adds", "bowl", "dog",
    "car", "walks", "street", "plays", "guitar", "stage", "paints", "wall", "throws", "ball",
    "smiles", "camera",
];

/// Makes tables with so many events, to the hundred, below a folder.
///
/// # Errors
/// [`Error::Lake`] where they cannot be written.
pub fn make(folder: &Path, events: u64) -> Result<()> {
    let wrong = |problem: String| Error::Lake { path: folder.to_path_buf(), problem };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| wrong(error.to_string()))?;
    let place = std::path::absolute(folder).map_err(|error| wrong(error.to_string()))?;
    let place = place.to_str().ok_or_else(|| wrong("it is not Unicode".to_owned()))?;
    let made = runtime.block_on(nights(place, events));
    made.map_err(|error| wrong(error.to_string()))
}

async fn nights(place: &str, events: u64) -> eventide_catalog::Result<()> {
    let stores = Stores::new(BTreeMap::new());
    let tables = Tables::open(&stores, place)?;
    let corpus = stores.open("s3://made-up")?;
    for night in 1..=NIGHTS {
        let run = format!("made-up-{night}");
        let listing = (0..events / EVENTS * night / NIGHTS).map(|number| Ok(video(number)));
        let known = tables.known(&corpus).await?;
        let list = plan(stream::iter(listing), known, Vec::new(), &options()).await?;
        let mut receipts = Vec::new();
        for shard in &list.shards {
            let outcomes: Vec<_> = shard.items.iter().map(outcome).collect();
            receipts.push(tables.write_shard(&provenance(&run, night), shard, &outcomes).await?);
        }
        let facts = RunFacts {
            run_id: run,
            job: "made-up".to_owned(),
            started_at_ms: moment(night),
            finished_at_ms: moment(night),
            model_digest: "m".to_owned(),
            params_digest: "p".to_owned(),
        };
        tables.publish(&PublishPlan::new(facts, &list, receipts)).await?;
    }
    Ok(())
}

fn moment(night: u64) -> i64 {
    FIRST_NIGHT_MS + i64::try_from(night).unwrap_or(0) * DAY_MS
}

fn video(number: u64) -> Video {
    let uri = format!("s3://made-up/{number:08}.mp4");
    Video {
        video_id: video_id(&uri),
        uri,
        source_version: "v1".to_owned(),
        size_bytes: 1 << 20,
        last_modified_ms: FIRST_NIGHT_MS,
        sidecars: Vec::new(),
    }
}

fn options() -> PlanOptions {
    PlanOptions {
        model_digest: "m".to_owned(),
        params_digest: "p".to_owned(),
        speech_digest: None,
        max_attempts: 3,
        largest_file_bytes: 1 << 40,
        shard_cost_bytes: 1 << 50,
        max_shard_videos: VIDEOS,
        split_bytes: None,
        allow_empty: true,
    }
}

fn provenance(run: &str, night: u64) -> Provenance {
    Provenance {
        model_id: "made-up".to_owned(),
        model_digest: "m".to_owned(),
        params_digest: "p".to_owned(),
        speech_model_digest: "none".to_owned(),
        speech_digest: "none".to_owned(),
        run_id: run.to_owned(),
        indexed_at_ms: moment(night),
        worker: "made-up".to_owned(),
        pipeline_version: "0".to_owned(),
    }
}

/// Events one after the other, some of which overlap the next.
fn outcome(item: &WorkItem) -> Outcome {
    let none = Failure { stage: Stage::Probe, reason_code: String::new(), reason: String::new() };
    let mut outcome = Outcome::without_events(item.clone(), Status::Captioned, none);
    outcome.failure = None;
    let mut seed = item.video.uri.bytes().fold(0, |seed, byte| scrambled(seed ^ u64::from(byte)));
    let mut below = |limit: u64| {
        seed = scrambled(seed);
        seed % limit
    };
    let mut at_us = 0;
    for event_index in 0..u32::try_from(EVENTS).unwrap_or(u32::MAX) {
        let length_us = i64::try_from(1000 * (500 + below(9_500))).unwrap_or(0);
        let score = u16::try_from(below(5000)).map_or(0.0, |score| -f32::from(score) / 1000.0);
        outcome.events.push(Event {
            window_index: 0,
            event_index,
            span: TimeSpan::new(at_us, at_us + length_us),
            time_resolution_us: 100_000,
            caption: caption(&mut below),
            score: Some(score),
            source: if below(10) == 0 { EventSource::Speech } else { EventSource::Vid2Seq },
            speech: None,
            language: Some(["en", "de", "fr"][usize::try_from(below(3)).unwrap_or(0)].to_owned()),
        });
        at_us += length_us * i64::try_from(5 + below(10)).unwrap_or(0) / 10;
    }
    outcome
}

fn caption(below: &mut impl FnMut(u64) -> u64) -> String {
    let words = 2 + below(7);
    let word = |_| WORDS[usize::try_from(below(24) * below(24) / 24).unwrap_or(0)];
    (0..words).map(word).collect::<Vec<_>>().join(" ")
}
