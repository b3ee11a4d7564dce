//! The work list: what of a corpus is due, in shards of about equal cost; what is gone; and which
//! finished shards of a run that was cut off still count.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap, HashSet},
    pin::pin,
};

use data_encoding::HEXLOWER;
use eventide_schema::{
    Failure, Heard, Outcome, Shard, Stage, Status, Stretch, TranscriptSource, Video, WorkItem,
};
use futures::{Stream, TryStreamExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Receipt, Result};

/// What even the smallest video costs, in bytes of a large one.
const LEAST_COST_BYTES: u64 = 1 << 20;

/// Most stretches of one video: each of them reads the whole file.
const MOST_STRETCHES: u32 = 64;

/// The reason code of a video that is larger than the job allows.
pub const TOO_LARGE: &str = "too_large";

/// What decides what is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanOptions {
    /// Digest of the model bundle, or `none`.
    pub model_digest: String,
    /// Digest of every parameter that can change a row.
    pub params_digest: String,
    /// Stands for all that decides what a recogniser hears; `None` where none is asked.
    pub speech_digest: Option<String>,
    /// How often a video that fails is tried in one version. At least 1.
    pub max_attempts: u32,
    /// Videos above this size are skipped.
    pub largest_file_bytes: u64,
    /// The cost of a shard that is aimed at, in bytes of video.
    pub shard_cost_bytes: u64,
    /// Most videos of a shard. At least 1.
    pub max_shard_videos: usize,
    /// Videos above this size are split by their windows into stretches that are not larger, each a
    /// shard; `None` where videos are not cut into windows.
    pub split_bytes: Option<u64>,
    /// Whether a corpus that lists nothing may remove every row.
    pub allow_empty: bool,
}

/// What a row of `videos` says that matters to planning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownVideo {
    /// The name of the video.
    pub video_id: String,
    /// The version that the row is about.
    pub source_version: String,
    /// Digest of the model bundle that made the row.
    pub model_digest: String,
    /// Digest of the parameters that made the row.
    pub params_digest: String,
    /// The word of its [`Status`].
    pub status: String,
    /// Tries in that version.
    pub attempts: u32,
    /// The word of the [`TranscriptSource`] of its transcript.
    pub transcript_source: String,
    /// Stands for the recogniser that has listened to it; `None` where none has.
    pub speech_digest: Option<String>,
}

/// What the tables hold, in some 100 bytes a video.
#[derive(Debug, Clone, Default)]
pub struct Known {
    rows: HashMap<Box<str>, Row>,
    digests: Vec<(String, String)>,
    recognisers: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    version: u128,
    digests: u32,
    /// Who has listened to it, and whether there were words.
    heard: Option<(u32, bool)>,
    attempts: u32,
    status: Option<Status>,
    seen: bool,
}

impl Known {
    /// Takes a row in. A later row of the same video replaces an earlier one.
    pub fn insert(&mut self, row: KnownVideo) {
        let digests = self.digests_index(row.model_digest, row.params_digest);
        let version = fingerprint(&row.source_version);
        let status = [Status::Captioned, Status::Empty, Status::Failed, Status::Skipped]
            .into_iter()
            .find(|s| s.as_str() == row.status);
        let words = row.transcript_source == TranscriptSource::Asr.as_str();
        let heard = row.speech_digest.map(|digest| (self.recogniser_index(digest), words));
        let known = Row { version, digests, heard, attempts: row.attempts, status, seen: false };
        self.rows.insert(row.video_id.into_boxed_str(), known);
    }

    /// How many videos the tables hold.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the tables hold no video.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn recogniser_index(&mut self, digest: String) -> u32 {
        let index = self.recognisers.iter().position(|d| *d == digest).unwrap_or_else(|| {
            self.recognisers.push(digest);
            self.recognisers.len() - 1
        });
        u32::try_from(index).unwrap_or(u32::MAX)
    }

    fn digests_index(&mut self, model: String, params: String) -> u32 {
        let pair = (model, params);
        let index = self.digests.iter().position(|p| *p == pair).unwrap_or_else(|| {
            self.digests.push(pair);
            self.digests.len() - 1
        });
        u32::try_from(index).unwrap_or(u32::MAX)
    }
}

impl Extend<KnownVideo> for Known {
    fn extend<I: IntoIterator<Item = KnownVideo>>(&mut self, rows: I) {
        rows.into_iter().for_each(|row| self.insert(row));
    }
}

impl FromIterator<KnownVideo> for Known {
    fn from_iter<I: IntoIterator<Item = KnownVideo>>(rows: I) -> Self {
        let mut known = Self::default();
        known.extend(rows);
        known
    }
}

fn fingerprint(text: &str) -> u128 {
    let hash = Sha256::digest(text.as_bytes());
    hash[..16].iter().fold(0, |sum, &byte| (sum << 8) | u128::from(byte))
}

/// Why videos are due, counted. Videos whose shard was adopted are among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Due {
    /// Never seen before.
    pub new: u64,
    /// Their bytes, or those of their side-car, are new.
    pub changed: u64,
    /// They failed and may be tried again.
    pub retried: u64,
    /// The model or a parameter is another one.
    pub params_changed: u64,
}

impl Due {
    /// All that are due.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.new + self.changed + self.retried + self.params_changed
    }
}

/// What a run has to do.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WorkList {
    /// What is to be indexed, the heaviest shard first.
    pub shards: Vec<Shard>,
    /// Videos that a rule of the job leaves out, as they will stand in the tables. They are due
    /// only once: write them with [`Tables::write_shard`](crate::Tables::write_shard) under
    /// [`WorkList::skipped_shard`].
    pub skipped: Vec<Outcome>,
    /// Finished shards of a run that was cut off, which are published with this run.
    pub adopted: Vec<Receipt>,
    /// Videos that the tables hold and the corpus does not, by their `video_id`.
    pub removed: Vec<String>,
    /// Videos of the corpus.
    pub listed: u64,
    /// Videos whose rows are already right.
    pub unchanged: u64,
    /// Why the others are not.
    pub due: Due,
}

impl WorkList {
    /// The run that goes on here: that of the newest adopted receipt.
    #[must_use]
    pub fn resumed_run_id(&self) -> Option<&str> {
        self.adopted.iter().map(|receipt| receipt.run_id.as_str()).max()
    }

    /// The shard of the videos that are left out; `None` where there are none.
    #[must_use]
    pub fn skipped_shard(&self, options: &PlanOptions) -> Option<Shard> {
        let items = self
            .skipped
            .iter()
            .map(|o| WorkItem::new(o.video.clone(), o.attempts))
            .collect::<Vec<_>>();
        let PlanOptions { model_digest, params_digest, .. } = options;
        (!items.is_empty()).then(|| shard(items, model_digest, params_digest))
    }

    /// Videos of the shards, and those of which only stretches are adopted, by their `video_id`.
    #[must_use]
    pub fn videos(&self) -> BTreeSet<&str> {
        let planned = self.shards.iter().flat_map(|shard| &shard.items).map(|item| &item.video);
        let stretches = self.adopted.iter().filter_map(|receipt| receipt.stretch.as_ref());
        let videos = planned.chain(stretches.map(|stretch| &stretch.outcome.video));
        videos.map(|video| video.video_id.as_str()).collect()
    }
}

/// Compares what is listed with what is known.
///
/// `pending` are the receipts of runs that were not published, as
/// [`Tables::pending`](crate::Tables::pending) gives them. A receipt counts if every one of its videos is still due in the
/// same version and attempt; those videos are then in no shard. An object that is listed twice
/// counts once. Holds the videos that are due, not those that are listed.
///
/// A large video is split into stretches where it is cut into windows, unless a recogniser has yet to hear it: it
/// would have to listen for each stretch. The receipt of a stretch counts if that same stretch is still due.
///
/// # Errors
/// Those of `listing`: a listing that cannot be read to its end plans nothing, above all no
/// removal. [`Error::EmptyListing`] when nothing is listed, rows exist, and `allow_empty` is off.
pub async fn plan(
    listing: impl Stream<Item = Result<Video>>,
    mut known: Known,
    pending: Vec<Receipt>,
    options: &PlanOptions,
) -> Result<WorkList> {
    let rows_before = known.len();
    let wanted = known.digests_index(options.model_digest.clone(), options.params_digest.clone());
    let recogniser = options.speech_digest.clone().map(|digest| known.recogniser_index(digest));
    let mut list = WorkList::default();
    let mut new = HashSet::new();
    let mut items = Vec::new();
    let mut listing = pin!(listing);
    while let Some(video) = listing.try_next().await? {
        let row = known.rows.get_mut(video.video_id.as_str());
        let first_time = match &row {
            Some(row) => !row.seen,
            None => new.insert(video.video_id.clone().into_boxed_str()),
        };
        if !first_time {
            continue;
        }
        list.listed += 1;
        let row = row.map(|row| {
            row.seen = true;
            *row
        });
        match decide(&video, row, wanted, options) {
            Decision::Unchanged => list.unchanged += 1,
            Decision::Skipped(attempts) => list.skipped.push(too_large(video, attempts, options)),
            Decision::Due(reason, attempt) => {
                *reason(&mut list.due) += 1;
                let heard = heard(&video, row, recogniser);
                items.push(WorkItem { heard, ..WorkItem::new(video, attempt) });
            }
        }
    }
    if list.listed == 0 && rows_before > 0 && !options.allow_empty {
        return Err(Error::EmptyListing { known: rows_before });
    }
    let gone = known.rows.into_iter().filter(|(_, row)| !row.seen);
    list.removed = gone.map(|(id, _)| id.into_string()).collect();
    list.removed.sort_unstable();
    list.skipped.sort_by(|a, b| a.video.video_id.cmp(&b.video.video_id));
    let (stretches, whole) = pending.into_iter().partition(|receipt| receipt.stretch.is_some());
    let (adopted, items) = adopt(whole, items);
    let items = items.into_iter().flat_map(|item| split(item, options)).collect();
    let (stretches, items) = adopt_stretches(stretches, items);
    list.adopted = adopted.into_iter().chain(stretches).collect();
    list.shards = pack(items, options);
    Ok(list)
}

enum Decision {
    Unchanged,
    Skipped(u32),
    Due(fn(&mut Due) -> &mut u64, u32),
}

fn decide(video: &Video, row: Option<Row>, wanted: u32, options: &PlanOptions) -> Decision {
    let too_large = video.size_bytes > options.largest_file_bytes;
    let Some(row) = row else {
        return if too_large { Decision::Skipped(0) } else { Decision::Due(|due| &mut due.new, 1) };
    };
    if row.version != fingerprint(&video.source_version) {
        return if too_large {
            Decision::Skipped(0)
        } else {
            Decision::Due(|due| &mut due.changed, 1)
        };
    }
    match row.status {
        Some(Status::Skipped) if too_large => Decision::Unchanged,
        Some(Status::Skipped) => Decision::Due(|due| &mut due.params_changed, row.attempts + 1),
        _ if row.digests != wanted && too_large => Decision::Skipped(row.attempts),
        _ if row.digests != wanted => Decision::Due(|due| &mut due.params_changed, 1),
        Some(Status::Failed) if row.attempts < options.max_attempts => {
            Decision::Due(|due| &mut due.retried, row.attempts + 1)
        }
        _ => Decision::Unchanged,
    }
}

/// What `recogniser` has heard in this version of a video.
fn heard(video: &Video, row: Option<Row>, recogniser: Option<u32>) -> Heard {
    let same = row.filter(|row| row.version == fingerprint(&video.source_version));
    match same.and_then(|row| row.heard).filter(|(by, _)| Some(*by) == recogniser) {
        None => Heard::NotYet,
        Some((_, false)) => Heard::Nothing,
        Some((_, true)) => Heard::Words,
    }
}

fn too_large(video: Video, attempts: u32, options: &PlanOptions) -> Outcome {
    let reason = format!(
        "{} bytes are more than the {} that the job allows",
        video.size_bytes, options.largest_file_bytes
    );
    let failure = Failure { stage: Stage::Fetch, reason_code: TOO_LARGE.to_owned(), reason };
    Outcome::without_events(WorkItem::new(video, attempts), Status::Skipped, failure)
}

/// The receipts whose every item is still due, newest run first, and the items that remain.
fn adopt(mut pending: Vec<Receipt>, items: Vec<WorkItem>) -> (Vec<Receipt>, Vec<WorkItem>) {
    pending.sort_by(|a, b| (&b.run_id, &a.shard_id).cmp(&(&a.run_id, &b.shard_id)));
    let mut open: HashMap<&str, (&str, u32)> = items
        .iter()
        .map(|i| (i.video.video_id.as_str(), (i.video.source_version.as_str(), i.attempt)))
        .collect();
    pending.retain(|receipt| {
        let fits = !receipt.items.is_empty()
            && receipt.items.iter().all(|item| {
                open.get(item.video_id.as_str())
                    == Some(&(item.source_version.as_str(), item.attempts))
            });
        if fits {
            for item in &receipt.items {
                open.remove(item.video_id.as_str());
            }
        }
        fits
    });
    let open: HashSet<String> = open.into_keys().map(str::to_owned).collect();
    let left = items.into_iter().filter(|i| open.contains(&i.video.video_id)).collect();
    (pending, left)
}

/// The stretches of a large video; the video itself where it is not to be split.
fn split(item: WorkItem, options: &PlanOptions) -> Vec<WorkItem> {
    let unheard = options.speech_digest.is_some() && item.heard == Heard::NotYet;
    let of = match options.split_bytes {
        Some(most) if !unheard => item.video.size_bytes.div_ceil(most.max(1)),
        _ => 1,
    };
    let of = u32::try_from(of).unwrap_or(u32::MAX).clamp(1, MOST_STRETCHES);
    if of == 1 {
        return vec![item];
    }
    (0..of).map(|index| WorkItem { stretch: Some(Stretch { index, of }), ..item.clone() }).collect()
}

/// The receipts of stretches that are still due, newest run first, and the items that remain.
fn adopt_stretches(
    mut pending: Vec<Receipt>,
    items: Vec<WorkItem>,
) -> (Vec<Receipt>, Vec<WorkItem>) {
    let key = |video: &Video, attempt: u32, stretch: Stretch| {
        (video.video_id.clone(), video.source_version.clone(), attempt, stretch)
    };
    let of_item = |item: &WorkItem| Some(key(&item.video, item.attempt, item.stretch?));
    pending.sort_by(|a, b| (&b.run_id, &a.shard_id).cmp(&(&a.run_id, &b.shard_id)));
    let mut open: HashSet<_> = items.iter().filter_map(of_item).collect();
    pending.retain(|receipt| {
        let done = receipt.stretch.as_ref();
        let key = done.map(|done| key(&done.outcome.video, done.outcome.attempts, done.stretch));
        key.is_some_and(|key| open.remove(&key))
    });
    let is_open = |item: &WorkItem| of_item(item).is_none_or(|key| open.contains(&key));
    (pending, items.into_iter().filter(is_open).collect())
}

fn cost(item: &WorkItem) -> u64 {
    item.size_bytes().saturating_add(LEAST_COST_BYTES)
}

/// Shards of about equal cost: each video, heaviest first, goes to the lightest shard with room. A stretch is a
/// shard of its own.
fn pack(items: Vec<WorkItem>, options: &PlanOptions) -> Vec<Shard> {
    let (stretches, mut items): (Vec<_>, Vec<_>) =
        items.into_iter().partition(|item| item.stretch.is_some());
    items.sort_by(|a, b| {
        (Reverse(cost(a)), &a.video.video_id).cmp(&(Reverse(cost(b)), &b.video.video_id))
    });
    let most = options.max_shard_videos.max(1);
    let total: u128 = items.iter().map(|item| u128::from(cost(item))).sum();
    let by_cost = total.div_ceil(u128::from(options.shard_cost_bytes.max(1)));
    let by_cost = usize::try_from(by_cost).unwrap_or(usize::MAX);
    let count = by_cost.max(items.len().div_ceil(most)).min(items.len());

    let mut bins: Vec<(u128, Vec<WorkItem>)> = vec![(0, Vec::new()); count];
    let mut lightest: BinaryHeap<_> = (0..count).map(|bin| Reverse((0u128, bin))).collect();
    for item in items {
        let Some(Reverse((weight, bin))) = lightest.pop() else { break };
        let weight = weight + u128::from(cost(&item));
        bins[bin].0 = weight;
        bins[bin].1.push(item);
        if bins[bin].1.len() < most {
            lightest.push(Reverse((weight, bin)));
        }
    }
    bins.extend(stretches.into_iter().map(|stretch| (u128::from(cost(&stretch)), vec![stretch])));
    let PlanOptions { model_digest, params_digest, .. } = options;
    let mut shards: Vec<_> = bins
        .into_iter()
        .map(|(weight, items)| (weight, shard(items, model_digest, params_digest)))
        .collect();
    shards.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.shard_id.cmp(&y.shard_id)));
    shards.into_iter().map(|(_, shard)| shard).collect()
}

/// A shard of `items`, named by what is in it and by the digests.
pub(crate) fn shard(mut items: Vec<WorkItem>, model_digest: &str, params_digest: &str) -> Shard {
    items.sort_by(|a, b| a.video.video_id.cmp(&b.video.video_id));
    let mut hash = Sha256::new();
    let mut take = |text: &str| {
        hash.update(text.len().to_le_bytes());
        hash.update(text.as_bytes());
    };
    take(model_digest);
    take(params_digest);
    for WorkItem { video, attempt, stretch, .. } in &items {
        take(&video.video_id);
        take(&video.source_version);
        take(&attempt.to_string());
        if let Some(Stretch { index, of }) = stretch {
            take(&format!("{index}/{of}"));
        }
    }
    let hash = hash.finalize();
    let shard_id = HEXLOWER.encode(&hash[..12]);
    Shard { shard_id, items }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReceiptItem;
    use futures::stream;
    use proptest::prelude::*;
    use rstest::rstest;

    fn video(name: &str, version: &str, size_bytes: u64) -> Video {
        let uri = format!("s3://b/{name}");
        Video {
            video_id: eventide_schema::video_id(&uri),
            uri,
            source_version: version.to_owned(),
            size_bytes,
            last_modified_ms: 0,
            sidecars: Vec::new(),
        }
    }

    fn row(name: &str, status: Status, attempts: u32) -> KnownVideo {
        let video = video(name, "v1", 1);
        KnownVideo {
            video_id: video.video_id,
            source_version: video.source_version,
            model_digest: "m".to_owned(),
            params_digest: "p".to_owned(),
            status: status.as_str().to_owned(),
            attempts,
            transcript_source: "none".to_owned(),
            speech_digest: None,
        }
    }

    fn options() -> PlanOptions {
        PlanOptions {
            model_digest: "m".to_owned(),
            params_digest: "p".to_owned(),
            speech_digest: None,
            max_attempts: 3,
            largest_file_bytes: 1000,
            shard_cost_bytes: 1 << 30,
            max_shard_videos: 100,
            split_bytes: None,
            allow_empty: false,
        }
    }

    async fn planned(
        listing: Vec<Video>,
        known: Vec<KnownVideo>,
        pending: Vec<Receipt>,
        options: &PlanOptions,
    ) -> Result<WorkList> {
        let listing = stream::iter(listing.into_iter().map(Ok));
        plan(listing, known.into_iter().collect(), pending, options).await
    }

    #[rstest]
    #[case::words("v1", Some("s"), "asr", Heard::Words)]
    #[case::silence("v1", Some("s"), "none", Heard::Nothing)]
    #[case::another_version("v2", Some("s"), "asr", Heard::NotYet)]
    #[case::another_recogniser("v1", Some("other"), "asr", Heard::NotYet)]
    #[case::not_asked("v1", None, "sidecar", Heard::NotYet)]
    #[tokio::test]
    async fn what_was_heard_is_heard_again_by_another_only(
        #[case] version: &str,
        #[case] by: Option<&str>,
        #[case] source: &str,
        #[case] expected: Heard,
    ) {
        let known = KnownVideo {
            transcript_source: source.to_owned(),
            speech_digest: by.map(str::to_owned),
            ..row("a", Status::Captioned, 1)
        };
        let options = PlanOptions {
            model_digest: "another model".to_owned(),
            speech_digest: Some("s".to_owned()),
            ..options()
        };
        let listing = vec![video("a", version, 1), video("b", "v1", 1)];
        let list = planned(listing, vec![known], vec![], &options).await.unwrap();
        let items = list.shards.iter().flat_map(|shard| &shard.items);
        let heard = |name: &str| {
            let uri = format!("s3://b/{name}");
            items.clone().find(|item| item.video.uri == uri).unwrap().heard
        };
        assert_eq!((heard("a"), heard("b")), (expected, Heard::NotYet));
    }

    const NEW: Due = Due { new: 1, changed: 0, retried: 0, params_changed: 0 };
    const CHANGED: Due = Due { new: 0, changed: 1, retried: 0, params_changed: 0 };
    const RETRIED: Due = Due { new: 0, changed: 0, retried: 1, params_changed: 0 };
    const PARAMS: Due = Due { new: 0, changed: 0, retried: 0, params_changed: 1 };

    /// What the tables say, what is listed, and the attempt that is due, if any.
    #[rstest]
    #[case::new(None, ("v1", 1), "p", Some((NEW, 1)))]
    #[case::unchanged(Some((Status::Captioned, 1)), ("v1", 1), "p", None)]
    #[case::empty_is_done(Some((Status::Empty, 1)), ("v1", 1), "p", None)]
    #[case::new_version(Some((Status::Captioned, 1)), ("v2", 1), "p", Some((CHANGED, 1)))]
    #[case::other_parameters(Some((Status::Captioned, 1)), ("v1", 1), "q", Some((PARAMS, 1)))]
    #[case::failed_once(Some((Status::Failed, 1)), ("v1", 1), "p", Some((RETRIED, 2)))]
    #[case::failed_twice(Some((Status::Failed, 2)), ("v1", 1), "p", Some((RETRIED, 3)))]
    #[case::given_up(Some((Status::Failed, 3)), ("v1", 1), "p", None)]
    #[case::given_up_then_new(Some((Status::Failed, 3)), ("v2", 1), "p", Some((CHANGED, 1)))]
    #[case::given_up_other_model(Some((Status::Failed, 3)), ("v1", 1), "q", Some((PARAMS, 1)))]
    #[case::skipped_no_longer(Some((Status::Skipped, 0)), ("v1", 1), "p", Some((PARAMS, 1)))]
    #[case::skipped_still(Some((Status::Skipped, 0)), ("v1", 2000), "p", None)]
    #[case::limit_lowered_later(Some((Status::Captioned, 1)), ("v1", 2000), "p", None)]
    #[tokio::test]
    async fn decides(
        #[case] known: Option<(Status, u32)>,
        #[case] (version, size): (&str, u64),
        #[case] params: &str,
        #[case] due: Option<(Due, u32)>,
    ) {
        let known = known.map(|(status, attempts)| row("a", status, attempts));
        let options = PlanOptions { params_digest: params.to_owned(), ..options() };
        let listing = vec![video("a", version, size)];
        let list = planned(listing, known.into_iter().collect(), vec![], &options).await.unwrap();
        let attempt = list.shards.first().map(|shard| shard.items[0].attempt);
        assert_eq!((list.due, attempt), due.map_or((Due::default(), None), |(d, a)| (d, Some(a))));
        assert_eq!((list.listed, list.unchanged), (1, u64::from(due.is_none())));
        assert!(list.removed.is_empty() && list.skipped.is_empty());
    }

    #[rstest]
    #[case::new(None)]
    #[case::new_version(Some("v0"))]
    #[tokio::test]
    async fn too_large_is_a_row_and_no_work(#[case] known_version: Option<&str>) {
        let known = known_version.map(|version| KnownVideo {
            source_version: version.to_owned(),
            ..row("a", Status::Captioned, 1)
        });
        let listing = vec![video("a", "v1", 1001)];
        let list = planned(listing, known.into_iter().collect(), vec![], &options()).await.unwrap();
        assert!(list.shards.is_empty());
        let outcome = &list.skipped[0];
        assert_eq!(outcome.status, Status::Skipped);
        assert_eq!(outcome.failure.as_ref().unwrap().reason_code, TOO_LARGE);
        assert_eq!(list.skipped_shard(&options()).unwrap().items[0].attempt, 0);
    }

    #[tokio::test]
    async fn what_is_gone_is_removed_and_what_is_listed_twice_counts_once() {
        let known = vec![row("a", Status::Captioned, 1), row("gone", Status::Failed, 3)];
        let listing = ["a", "b", "b", "a"].map(|name| video(name, "v1", 1)).to_vec();
        let list = planned(listing, known, vec![], &options()).await.unwrap();
        assert_eq!(list.removed, [video("gone", "v1", 1).video_id]);
        assert_eq!((list.listed, list.unchanged, list.due), (2, 1, NEW));
    }

    #[tokio::test]
    async fn an_empty_listing_removes_nothing_unless_it_may() {
        let known = || vec![row("a", Status::Captioned, 1)];
        let refused = planned(vec![], known(), vec![], &options()).await;
        assert!(matches!(refused, Err(Error::EmptyListing { known: 1 })), "{refused:?}");
        let options = PlanOptions { allow_empty: true, ..options() };
        let list = planned(vec![], known(), vec![], &options).await.unwrap();
        assert_eq!(list.removed.len(), 1);
        assert_eq!(planned(vec![], vec![], vec![], &options).await.unwrap(), WorkList::default());
    }

    #[tokio::test]
    async fn a_listing_that_breaks_off_plans_nothing() {
        let broken = Error::NotFound { uri: "page 2".to_owned() };
        let listing = stream::iter([Ok(video("a", "v1", 1)), Err(broken)]);
        let known = [row("a", Status::Captioned, 1), row("b", Status::Captioned, 1)];
        let answer = plan(listing, known.into_iter().collect(), vec![], &options()).await;
        assert!(matches!(answer, Err(Error::NotFound { .. })), "{answer:?}");
    }

    fn receipt(run_id: &str, videos: &[(&str, &str, u32)]) -> Receipt {
        let items = videos.iter().map(|&(name, version, attempts)| ReceiptItem {
            video_id: video(name, version, 1).video_id,
            source_version: version.to_owned(),
            attempts,
            status: Status::Captioned,
            stage: None,
            reason_code: None,
        });
        Receipt {
            format_version: crate::receipt::FORMAT_VERSION,
            run_id: run_id.to_owned(),
            shard_id: videos.iter().map(|v| v.0).collect(),
            model_digest: "m".to_owned(),
            params_digest: "p".to_owned(),
            items: items.collect(),
            events: vec![],
            videos: vec![],
            transcripts: vec![],
            counts: crate::Counts::default(),
            work: None,
            stretch: None,
        }
    }

    /// Videos above 100 bytes are split; the recogniser is another one than `by`, if there is one.
    fn splitting(by: Option<&str>) -> PlanOptions {
        let speech_digest = by.map(str::to_owned);
        PlanOptions { split_bytes: Some(100), speech_digest, ..options() }
    }

    #[rstest]
    #[case::small(100, 1)]
    #[case::just_larger(101, 2)]
    #[case::large(950, 10)]
    #[tokio::test]
    async fn a_large_video_is_split_into_shards(#[case] size_bytes: u64, #[case] count: usize) {
        let listing = vec![video("long", "v1", size_bytes), video("short", "v1", 7)];
        let list = planned(listing.clone(), vec![], vec![], &splitting(None)).await.unwrap();
        let long: Vec<_> = list.shards.iter().flat_map(|shard| &shard.items).collect();
        let long: Vec<_> =
            long.into_iter().filter(|item| item.video.uri.ends_with("long")).collect();
        assert_eq!(long.len(), count);
        assert_eq!(long.iter().map(|item| item.size_bytes()).sum::<u64>(), size_bytes);
        let mut stretches: Vec<_> = long.iter().filter_map(|item| item.stretch).collect();
        stretches.sort_unstable();
        let of = u32::try_from(count).unwrap();
        let expected: Vec<_> = (0..of).map(|index| Stretch { index, of }).collect();
        assert_eq!(stretches, if count == 1 { vec![] } else { expected });
        assert_eq!(list.videos().len(), 2, "each is one video");
        assert_eq!(list.due.new, 2);
        let ids: HashSet<_> = list.shards.iter().map(|shard| &shard.shard_id).collect();
        assert_eq!(ids.len(), list.shards.len(), "each shard has a name of its own");
        let alone = list.shards.iter().all(|shard| match shard.stretch() {
            Some(_) => shard.items.len() == 1,
            None => shard.items.iter().all(|item| item.stretch.is_none()),
        });
        assert!(alone, "{:?}", list.shards);
    }

    #[rstest]
    #[case::no_recogniser(None, None, 10)]
    #[case::never_heard(Some("s"), None, 1)]
    #[case::heard_by_another(Some("s"), Some("t"), 1)]
    #[case::heard(Some("s"), Some("s"), 10)]
    #[tokio::test]
    async fn what_a_recogniser_has_yet_to_hear_is_not_split(
        #[case] asked: Option<&str>,
        #[case] heard_by: Option<&str>,
        #[case] shards: usize,
    ) {
        let known = KnownVideo {
            model_digest: "another".to_owned(),
            speech_digest: heard_by.map(str::to_owned),
            ..row("long", Status::Captioned, 1)
        };
        let listing = vec![video("long", "v1", 1000)];
        let list = planned(listing, vec![known], vec![], &splitting(asked)).await.unwrap();
        assert_eq!(list.shards.len(), shards);
    }

    /// The receipt of a stretch, as whoever did it would write it.
    fn stretch_receipt(run_id: &str, item: &WorkItem) -> Receipt {
        let failure =
            Failure { stage: Stage::Probe, reason_code: "x".to_owned(), reason: "x".to_owned() };
        let outcome = Outcome::without_events(item.clone(), Status::Failed, failure);
        let stretch = item.stretch.map(|stretch| crate::StretchOutcome { stretch, outcome });
        Receipt { shard_id: format!("{:?}", item.stretch), stretch, ..receipt(run_id, &[]) }
    }

    #[rstest]
    #[case::the_same(1000, "v1", 1, 2)]
    #[case::a_new_version(1000, "v2", 1, 0)]
    #[case::another_attempt(1000, "v1", 2, 0)]
    #[case::other_stretches(900, "v1", 1, 0)]
    #[tokio::test]
    async fn stretches_that_are_done_are_not_done_again(
        #[case] size_then: u64,
        #[case] version_then: &str,
        #[case] attempt_then: u32,
        #[case] adopted: usize,
    ) {
        let then = WorkItem::new(video("long", version_then, size_then), attempt_then);
        let stretches = split(then, &splitting(None));
        let pending = vec![
            stretch_receipt("r1", &stretches[3]),
            stretch_receipt("r1", &stretches[7]),
            stretch_receipt("r0", &stretches[7]), // an older run had done it too
        ];
        let listing = vec![video("long", "v1", 1000)];
        let list = planned(listing.clone(), vec![], pending, &splitting(None)).await.unwrap();
        assert_eq!((list.adopted.len(), list.shards.len()), (adopted, 10 - adopted));
        assert_eq!(list.videos().len(), 1);
        let whole = vec![receipt("r1", &[("long", "v1", 1)]), stretch_receipt("r1", &stretches[0])];
        let list = planned(listing, vec![], whole, &splitting(None)).await.unwrap();
        assert_eq!((list.adopted.len(), list.shards.len()), (1, 0), "the joined video counts");
    }

    #[rstest]
    #[case::all_due(&[("a", "v1", 1), ("b", "v1", 1)], true)]
    #[case::new_version(&[("a", "v0", 1), ("b", "v1", 1)], false)]
    #[case::other_attempt(&[("a", "v1", 2), ("b", "v1", 1)], false)]
    #[case::no_longer_due(&[("a", "v1", 1), ("done", "v1", 1)], false)]
    #[case::gone(&[("a", "v1", 1), ("gone", "v1", 1)], false)]
    #[tokio::test]
    async fn a_receipt_counts_only_whole(
        #[case] items: &[(&str, &str, u32)],
        #[case] counts: bool,
    ) {
        let listing = ["a", "b", "c", "done"].map(|name| video(name, "v1", 1)).to_vec();
        let known = vec![row("done", Status::Captioned, 1)];
        let pending = vec![receipt("r1", items)];
        let list = planned(listing, known, pending, &options()).await.unwrap();
        let planned: usize = list.shards.iter().map(|shard| shard.items.len()).sum();
        assert_eq!((list.adopted.len(), planned), if counts { (1, 1) } else { (0, 3) });
        assert_eq!(list.due.new, 3);
        assert_eq!(list.resumed_run_id(), counts.then_some("r1"));
    }

    #[tokio::test]
    async fn the_newest_of_two_receipts_for_a_video_counts() {
        let listing = ["a", "b"].map(|name| video(name, "v1", 1)).to_vec();
        let pending = vec![
            receipt("r1", &[("a", "v1", 1), ("b", "v1", 1)]),
            receipt("r2", &[("a", "v1", 1)]),
        ];
        let list = planned(listing, vec![], pending, &options()).await.unwrap();
        assert_eq!(list.adopted, [receipt("r2", &[("a", "v1", 1)])]);
        assert_eq!(list.shards[0].items[0].video.video_id, video("b", "v1", 1).video_id);
    }

    #[tokio::test]
    async fn the_name_of_a_shard_is_what_is_in_it() {
        let list = |version: &str, options: PlanOptions| {
            let listing = vec![video("a", version, 1), video("b", "v1", 1)];
            async move {
                planned(listing, vec![], vec![], &options).await.unwrap().shards.remove(0).shard_id
            }
        };
        let first = list("v1", options()).await;
        assert_eq!(first, list("v1", options()).await);
        assert_ne!(first, list("v2", options()).await);
        let other_model = PlanOptions { model_digest: "n".to_owned(), ..options() };
        assert_ne!(first, list("v1", other_model).await);
    }

    /// When the last of some executors ends that take what is next as soon as they are free.
    fn last_end(costs: impl IntoIterator<Item = u64>, executors: usize) -> u64 {
        let mut free: BinaryHeap<_> = vec![Reverse(0u64); executors].into();
        for cost in costs {
            let Some(Reverse(at)) = free.pop() else { break };
            free.push(Reverse(at + cost));
        }
        free.into_iter().map(|Reverse(at)| at).max().unwrap_or(0)
    }

    /// Sizes of so many videos whose logarithms are spread normally: most are small, some a hundred times larger.
    fn long_tail(videos: usize) -> Vec<u64> {
        let mut state = 7u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            f64::from(u32::try_from(state >> 32).unwrap()) / f64::from(u32::MAX)
        };
        let mut normal = || (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, some MB"
        )]
        (0..videos).map(|_| (2e7 * (1.5 * normal()).exp()) as u64).collect()
    }

    fn two_kinds() -> Vec<u64> {
        [vec![20_000_000; 1140], vec![400_000_000; 60]].concat()
    }

    /// More than the share of one executor of four.
    fn with_a_giant() -> Vec<u64> {
        [vec![10_000_000; 1500], vec![6_000_000_000]].concat()
    }

    /// Split, it keeps nobody waiting: the bound is that of work which could be cut anywhere.
    #[rstest]
    fn a_giant_that_is_split_keeps_nobody_waiting(#[values(2, 4, 8)] executors: usize) {
        let sizes = [vec![10_000_000; 1500], vec![40_000_000_000]].concat();
        let items: Vec<_> = (0..)
            .zip(&sizes)
            .map(|(n, &size): (u32, _)| WorkItem::new(video(&n.to_string(), "v", size), 1))
            .collect();
        let total: u64 = items.iter().map(cost).sum();
        let shard_cost_bytes = total / (50 * executors as u64);
        let options =
            PlanOptions { shard_cost_bytes, split_bytes: Some(1_000_000_000), ..options() };
        let alone = last_end(items.iter().map(cost), executors);
        let items = items.into_iter().flat_map(|item| split(item, &options)).collect();
        let shards = pack(items, &options);
        let costs = shards.iter().map(|shard| shard.items.iter().map(cost).sum());
        let (ours, best) = (last_end(costs, executors), total / executors as u64);
        assert!(ours * 20 <= best * 21, "{ours} against {best} with {} shards", shards.len());
        assert!(alone > 40_000_000_000, "unsplit it is the whole time");
    }

    /// Against videos that go to executors one by one, the heaviest first (LPT), which no packing could.
    #[rstest]
    #[case::long_tail(long_tail(3000))]
    #[case::two_kinds(two_kinds())]
    #[case::giant(with_a_giant())]
    fn a_skewed_corpus_ends_within_a_twentieth_of_the_best_order(
        #[case] sizes: Vec<u64>,
        #[values(2, 4, 8)] executors: usize,
    ) {
        let items: Vec<_> = (0..)
            .zip(&sizes)
            .map(|(n, &size): (u32, _)| WorkItem::new(video(&n.to_string(), "v", size), 1))
            .collect();
        let mut alone: Vec<u64> = items.iter().map(cost).collect();
        alone.sort_unstable_by_key(|cost| Reverse(*cost));
        // Some fifty shards an executor.
        let shard_cost_bytes = alone.iter().sum::<u64>() / (50 * executors as u64);
        let shards = pack(items, &PlanOptions { shard_cost_bytes, ..options() });
        let costs = shards.iter().map(|shard| shard.items.iter().map(cost).sum());
        let (ours, best) = (last_end(costs, executors), last_end(alone, executors));
        assert!(ours * 20 <= best * 21, "{ours} against {best} with {} shards", shards.len());
    }

    proptest! {
        #[test]
        fn shards_hold_each_video_once_and_are_even(
            sizes in proptest::collection::vec(0u64..50_000_000, 0..60),
            shard_cost_bytes in 1u64..100_000_000,
            max_shard_videos in 1usize..10,
        ) {
            let options = PlanOptions { shard_cost_bytes, max_shard_videos, ..options() };
            let items: Vec<_> = (0..).zip(&sizes)
                .map(|(n, &size): (u32, _)| WorkItem::new(video(&n.to_string(), "v", size), 1))
                .collect();
            let shards = pack(items.clone(), &options);
            let weights: Vec<u64> = shards.iter().map(|s| s.items.iter().map(cost).sum()).collect();
            prop_assert!(weights.is_sorted_by(|a, b| a >= b), "the heaviest comes first");
            prop_assert!(shards.iter().all(|s| (1..=max_shard_videos).contains(&s.items.len())));
            let mut packed: Vec<_> = shards.iter().flat_map(|s| &s.items).map(|i| &i.video.uri).collect();
            packed.sort_unstable();
            let mut expected: Vec<_> = items.iter().map(|i| &i.video.uri).collect();
            expected.sort_unstable();
            prop_assert_eq!(packed, expected);
            let mut reversed = items;
            reversed.reverse();
            prop_assert_eq!(shards, pack(reversed, &options), "the order of the listing does not matter");
        }
    }
}
