//! Stretches: the windows of a long video, which several shards hold. What came of each waits in its receipt; joined they
//! are the outcome that the whole video would have had.

use std::collections::BTreeMap;

use eventide_schema::{
    Costs, Event, Failure, Outcome, Provenance, Stage, Status, Stretch, WorkItem,
};
use serde::{Deserialize, Serialize};

use crate::{Receipt, Result, Tables, worklist::shard};

/// Reason of the failure of a video whose stretches were not made of the same thing.
pub const STRETCHES_DIFFER: &str = "stretches_differ";

/// What came of a stretch of a video, until it is joined with the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StretchOutcome {
    /// Which windows.
    pub stretch: Stretch,
    /// The outcome of the video, as if it had no other windows.
    pub outcome: Outcome,
}

/// The stretches of one attempt at one version of a video, and who did each.
type Stretches<'a> = Vec<(&'a StretchOutcome, Option<&'a str>)>;

impl Tables {
    /// Joins each video all of whose stretches are among `receipts`, and answers with the receipts of these videos. They
    /// are written as those of any other shard are: joining again finds them.
    ///
    /// Receipts of other shards are passed over, and so are videos of which a stretch is missing.
    ///
    /// # Errors
    /// As [`Tables::write_shard`].
    pub async fn join_stretches(
        &self,
        by: &Provenance,
        receipts: impl IntoIterator<Item = &Receipt>,
    ) -> Result<Vec<Receipt>> {
        let mut videos = BTreeMap::<_, Stretches<'_>>::new();
        for receipt in receipts {
            let Some(done) = &receipt.stretch else { continue };
            let Outcome { video, attempts, .. } = &done.outcome;
            let key = (&video.video_id, &video.source_version, attempts, done.stretch.of);
            let worker = receipt.work.as_ref().map(|work| work.worker.as_str());
            videos.entry(key).or_default().push((done, worker));
        }
        let mut joined = Vec::new();
        for ((.., of), mut stretches) in videos {
            stretches.sort_by_key(|(done, _)| done.stretch);
            stretches.dedup_by_key(|(done, _)| done.stretch);
            if stretches.len() == of as usize {
                joined.push(self.join(by, &stretches).await?);
            }
        }
        Ok(joined)
    }

    async fn join(&self, by: &Provenance, stretches: &Stretches<'_>) -> Result<Receipt> {
        let worker = stretches[0].1.unwrap_or(&by.worker).to_owned();
        let outcomes: Vec<_> = stretches.iter().map(|(done, _)| &done.outcome).collect();
        let outcome = whole(&outcomes);
        let item = WorkItem::new(outcome.video.clone(), outcome.attempts);
        let shard = shard(vec![item], &by.model_digest, &by.params_digest);
        tracing::info!(uri = outcome.video.uri, stretches = stretches.len(), "joined");
        let by = Provenance { worker, ..by.clone() };
        // The receipts of the stretches tell of the work.
        self.write_receipt(&by, &shard, &[outcome], || None).await
    }
}

/// The outcome of a video, out of those of its stretches in their order; there is at least one.
///
/// The first stretch that failed says why the video did: windows are looked at in their order, so the whole video would
/// have ended there. Otherwise the first stretch says what the container and the words are, and the last one of which
/// something is to be said says it.
fn whole(stretches: &[&Outcome]) -> Outcome {
    let first = stretches[0];
    let failed = stretches.iter().find(|stretch| stretch.status == Status::Failed);
    let failed = failed.and_then(|stretch| stretch.failure.clone());
    let differ = || (!stretches.iter().all(|stretch| are_of_one(first, stretch))).then(differ);
    let (status, failure, events) = match failed.or_else(differ) {
        Some(failure) => (Status::Failed, Some(failure), Vec::new()),
        None => match events(stretches) {
            events if events.is_empty() => (Status::Empty, remark(stretches), events),
            events => (Status::Captioned, remark(stretches), events),
        },
    };
    Outcome {
        status,
        failure,
        events,
        windows: stretches.iter().map(|stretch| stretch.windows).sum(),
        frames_used: stretches.iter().map(|stretch| stretch.frames_used).sum(),
        frames_missing: stretches.iter().map(|stretch| stretch.frames_missing).sum(),
        costs: stretches.iter().map(|stretch| stretch.costs).fold(Costs::default(), sum),
        ..first.clone()
    }
}

fn events(stretches: &[&Outcome]) -> Vec<Event> {
    let mut events: Vec<_> =
        stretches.iter().flat_map(|stretch| &stretch.events).cloned().collect();
    events.sort_by_key(|event| (event.span, event.window_index, event.event_index));
    events
}

/// Whether two stretches were made of the same file and the same words.
fn are_of_one(first: &Outcome, stretch: &Outcome) -> bool {
    (&first.media, &first.transcript, first.heard)
        == (&stretch.media, &stretch.transcript, stretch.heard)
}

fn differ() -> Failure {
    let reason =
        "the words or the facts of the container were others for another stretch of its windows";
    Failure {
        stage: Stage::Words,
        reason_code: STRETCHES_DIFFER.to_owned(),
        reason: reason.to_owned(),
    }
}

/// What is to be said of a video that did not fail: of a window without events, else of its words.
fn remark(stretches: &[&Outcome]) -> Option<Failure> {
    let mut remarks = stretches.iter().rev().filter_map(|stretch| stretch.failure.as_ref());
    let of_window = remarks.clone().find(|remark| remark.stage == Stage::Parse);
    of_window.or_else(|| remarks.next()).cloned()
}

fn sum(a: Costs, b: Costs) -> Costs {
    Costs {
        core_ms: a.core_ms + b.core_ms,
        device_ms: a.device_ms + b.device_ms,
        wall_ms: a.wall_ms + b.wall_ms,
        bytes_read: a.bytes_read + b.bytes_read,
    }
}

#[cfg(test)]
mod tests {
    use eventide_schema::{Cue, EventSource, TimeSpan, Video};
    use rstest::rstest;

    use super::*;

    /// What comes of a stretch with an event in each of these windows.
    fn stretch(windows: &[u32]) -> Outcome {
        let video = Video {
            video_id: "v".to_owned(),
            uri: "s3://b/v".to_owned(),
            source_version: "1".to_owned(),
            size_bytes: 1,
            last_modified_ms: 1,
            sidecars: Vec::new(),
        };
        let event = |&window_index: &u32| Event {
            window_index,
            event_index: 0,
            span: TimeSpan::new(i64::from(window_index), 100),
            time_resolution_us: 1,
            caption: "a".to_owned(),
            score: None,
            source: EventSource::Vid2Seq,
            speech: None,
            language: None,
        };
        Outcome {
            status: if windows.is_empty() { Status::Empty } else { Status::Captioned },
            failure: None,
            windows: 2,
            frames_used: 10,
            frames_missing: 1,
            events: windows.iter().map(event).collect(),
            costs: Costs { core_ms: 1, device_ms: 2, wall_ms: 3, bytes_read: 4 },
            ..failed(WorkItem::new(video, 1), Stage::Sample, "")
        }
    }

    fn failed(item: WorkItem, stage: Stage, reason_code: &str) -> Outcome {
        let reason_code = reason_code.to_owned();
        let failure = Failure { stage, reason_code, reason: "because".to_owned() };
        Outcome::without_events(item, Status::Failed, failure)
    }

    fn that_failed(reason_code: &str) -> Outcome {
        let Outcome { video, .. } = stretch(&[]);
        failed(WorkItem::new(video, 1), Stage::Sample, reason_code)
    }

    fn remarked(windows: &[u32], stage: Stage, reason_code: &str) -> Outcome {
        let failure = failed(WorkItem::new(stretch(&[]).video, 1), stage, reason_code).failure;
        Outcome { failure, ..stretch(windows) }
    }

    fn other_words() -> Outcome {
        let mut other = stretch(&[2]);
        other.transcript.cues =
            vec![Cue { span: TimeSpan::new(0, 1), text: "changed meanwhile".to_owned() }];
        other
    }

    fn joined(stretches: &[Outcome]) -> Outcome {
        whole(&stretches.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_joined_video_has_the_events_and_sums_of_its_stretches() {
        let whole = joined(&[stretch(&[0, 1]), stretch(&[]), stretch(&[4])]);
        assert_eq!(whole.status, Status::Captioned);
        let windows: Vec<_> = whole.events.iter().map(|event| event.window_index).collect();
        assert_eq!(windows, [0, 1, 4]);
        assert_eq!((whole.windows, whole.frames_used, whole.frames_missing), (6, 30, 3));
        let costs = Costs { core_ms: 3, device_ms: 6, wall_ms: 9, bytes_read: 12 };
        assert_eq!(whole.costs, costs);
    }

    #[rstest]
    #[case::nothing_to_tell(&[stretch(&[]), stretch(&[])], Status::Empty, None)]
    #[case::one_failed(&[stretch(&[0]), that_failed("no_frames")], Status::Failed, Some("no_frames"))]
    #[case::the_first_to_fail_counts(
        &[stretch(&[0]), that_failed("no_frames"), that_failed("deadline")],
        Status::Failed,
        Some("no_frames")
    )]
    #[case::words_that_changed(&[stretch(&[0]), other_words()], Status::Failed, Some(STRETCHES_DIFFER))]
    #[case::the_last_window_without_events(
        &[
            remarked(&[0], Stage::Parse, "first"),
            remarked(&[2], Stage::Parse, "last"),
            remarked(&[4], Stage::Words, "passed_over"),
        ],
        Status::Captioned,
        Some("last")
    )]
    #[case::words_that_were_passed_over(
        &[remarked(&[0], Stage::Words, "passed_over"), remarked(&[2], Stage::Words, "passed_over")],
        Status::Captioned,
        Some("passed_over")
    )]
    fn a_joined_video_ends_as_the_whole_would_have(
        #[case] stretches: &[Outcome],
        #[case] status: Status,
        #[case] reason_code: Option<&str>,
    ) {
        let whole = joined(stretches);
        assert_eq!(whole.status, status);
        assert_eq!(whole.failure.as_ref().map(|f| &*f.reason_code), reason_code);
        assert_eq!(whole.events.is_empty(), status != Status::Captioned);
    }

    #[test]
    fn what_a_receipt_keeps_of_a_stretch_is_exact() {
        let mut outcome = stretch(&[0]);
        outcome.media.fps = Some(24_000.0 / 1001.0);
        outcome.events[0].score = Some(-0.123_456_79);
        let kept = StretchOutcome { stretch: Stretch { index: 0, of: 2 }, outcome };
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<StretchOutcome>(&text).unwrap(), kept);
    }
}
