//! Predictions and references of a corpus, checked once and joined by video.
//!
//! Every rule about bad input lives here, so that the scores themselves meet only sound values.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The most predictions of one video that count; densevid's own limit. What comes after is counted as left out.
pub const MOST_PREDICTIONS: usize = 1000;

/// A stretch of a video, in seconds. Finite and not reversed once inside [`Annotations`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Where it starts.
    pub start: f64,
    /// Where it ends.
    pub end: f64,
}

impl Span {
    /// A span from `start` to `end`.
    #[must_use]
    pub fn new(start: f64, end: f64) -> Self {
        Self { start, end }
    }
}

/// A span with a caption, predicted or annotated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub span: Span,
    /// What happens. May be empty: such an event counts for localisation and matches no word.
    pub caption: String,
    /// How sure the model is of it, where it says so. Only [`calibration`](crate::curves::calibration) looks at it.
    pub score: Option<f64>,
}

impl Event {
    /// An event from `start` to `end` seconds, without a score.
    #[must_use]
    pub fn new(start: f64, end: f64, caption: &str) -> Self {
        Self { span: Span::new(start, end), caption: caption.to_owned(), score: None }
    }
}

/// The events of some videos: all predictions of a model, or one annotator's references.
///
/// Events keep the order in which they were given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Annotations {
    videos: BTreeMap<String, Vec<Event>>,
    reversed: usize,
    empty_captions: usize,
    cut_off: usize,
}

impl Annotations {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the events of `video`, which may be none: "looked at, nothing found".
    ///
    /// A span that ends before it starts is turned round, as scenic does, and counted. A score that is not finite is none.
    ///
    /// # Errors
    ///
    /// Nothing is added then. [`Error::Twice`] if the video is there already, [`Error::Time`] for a time that is not finite.
    pub fn insert(&mut self, video: &str, mut events: Vec<Event>) -> Result<()> {
        if self.videos.contains_key(video) {
            return Err(Error::Twice { video: video.to_owned() });
        }
        for (index, Event { span: Span { start, end }, .. }) in events.iter().enumerate() {
            let (start, end) = (*start, *end);
            if !(start.is_finite() && end.is_finite()) {
                return Err(Error::Time { video: video.to_owned(), index, start, end });
            }
        }
        for event in &mut events {
            let Span { start, end } = event.span;
            if end < start {
                event.span = Span::new(end, start);
                self.reversed += 1;
            }
            if event.caption.trim().is_empty() {
                self.empty_captions += 1;
            }
            event.score = event.score.filter(|score| score.is_finite());
        }
        self.videos.insert(video.to_owned(), events);
        Ok(())
    }

    /// Notes that so many events were not added because they lie outside of their video.
    pub(crate) fn count_cut_off(&mut self, events: usize) {
        self.cut_off += events;
    }

    /// Collects videos with their events.
    ///
    /// # Errors
    ///
    /// As [`Annotations::insert`].
    pub fn collect<S: AsRef<str>>(
        videos: impl IntoIterator<Item = (S, Vec<Event>)>,
    ) -> Result<Self> {
        let mut annotations = Self::new();
        for (video, events) in videos {
            annotations.insert(video.as_ref(), events)?;
        }
        Ok(annotations)
    }

    /// The same with every caption cut to at most `bytes`. scenic cuts references to 200 (reference §0, trap 9); give them
    /// so for its figures.
    #[must_use]
    pub fn with_captions_cut(mut self, bytes: usize) -> Self {
        for event in self.videos.values_mut().flatten() {
            event.caption.truncate(event.caption.floor_char_boundary(bytes));
        }
        self
    }

    /// The same for references whose ids are those of annotations: `k_video` is what annotator `k` says of `video`, so
    /// that each annotator counts as a video with the same predictions, as of `ViTT` (`vid2seq.md` §7.6).
    ///
    /// An id that is predicted as it stands keeps its own events; so do videos without an annotation.
    #[must_use]
    pub fn for_each_annotation(&self, references: &[Self]) -> Self {
        let mut videos = self.videos.clone();
        let mut annotated = BTreeSet::new();
        for (annotation, _) in references.iter().flat_map(Self::iter) {
            let Some(video) = annotated_video(annotation) else { continue };
            if let Some(events) = self.videos.get(video)
                && !self.videos.contains_key(annotation)
            {
                videos.insert(annotation.to_owned(), events.clone());
                annotated.insert(video);
            }
        }
        videos.retain(|video, _| !annotated.contains(video.as_str()));
        Self { videos, ..*self }
    }

    /// The events of `video`; `None` if it has no entry.
    #[must_use]
    pub fn get(&self, video: &str) -> Option<&[Event]> {
        self.videos.get(video).map(Vec::as_slice)
    }

    /// All videos with their events, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[Event])> {
        self.videos.iter().map(|(video, events)| (video.as_str(), events.as_slice()))
    }

    /// How many videos have an entry.
    #[must_use]
    pub fn len(&self) -> usize {
        self.videos.len()
    }

    /// Whether no video has an entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.videos.is_empty()
    }
}

/// The video of an annotation's id, `k_video` with a whole number `k`.
fn annotated_video(annotation: &str) -> Option<&str> {
    let (annotator, video) = annotation.split_once('_')?;
    let is_number = !annotator.is_empty() && annotator.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !video.is_empty()).then_some(video)
}

/// What to do with a reference video that the predictions do not name at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unpredicted {
    /// Leave it out and count it, as both published scorers do. A model that fails on hard videos gains by it.
    #[default]
    LeaveOut,
    /// Score it as if nothing had been found in it.
    Empty,
}

/// One video with what was predicted and what was expected.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoCase {
    /// The video.
    pub video: String,
    /// Predicted events in the order given, at most [`MOST_PREDICTIONS`].
    pub predictions: Vec<Event>,
    /// The events of each reference set, in the order of the sets. Empty where a set does not have the video.
    pub references: Vec<Vec<Event>>,
}

impl VideoCase {
    /// The reference lists that have this video. At least one.
    pub fn sets(&self) -> impl Iterator<Item = &[Event]> {
        self.references.iter().filter(|set| !set.is_empty()).map(Vec::as_slice)
    }
}

/// What a comparison did not use, or used by a rule. Report it beside every score.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LeftOut {
    /// Reference videos without a prediction entry. Scored as empty under [`Unpredicted::Empty`].
    pub without_prediction: Vec<String>,
    /// Predicted videos that no reference set has events for. Never scored.
    pub without_reference: Vec<String>,
    /// Entries of reference sets that hold no event; taken as not there.
    pub empty_references: usize,
    /// Predictions past [`MOST_PREDICTIONS`] of their video. Not used.
    pub surplus_predictions: usize,
    /// Predictions and references that ended before they started. Used, turned round.
    pub reversed_spans: usize,
    /// Predictions and references without words. Used: they have a place in time and match nothing.
    pub empty_captions: usize,
    /// Chapters that end past their video's end. Not used.
    pub cut_off: usize,
}

/// Predictions joined with one or more reference sets, sorted by video id. Holds at least one video.
#[derive(Debug, Clone, PartialEq)]
pub struct Corpus {
    videos: Vec<VideoCase>,
    sets: usize,
    left_out: LeftOut,
}

impl Corpus {
    /// Joins `predictions` with `references`, one [`Annotations`] for each annotator or file.
    ///
    /// # Errors
    ///
    /// [`Error::NoReferences`] without any set; [`Error::NothingInCommon`] if no video is left to score.
    pub fn join(
        predictions: &Annotations,
        references: &[Annotations],
        unpredicted: Unpredicted,
    ) -> Result<Self> {
        if references.is_empty() {
            return Err(Error::NoReferences);
        }
        let annotated: BTreeSet<&str> = references
            .iter()
            .flat_map(Annotations::iter)
            .filter(|(_, events)| !events.is_empty())
            .map(|(video, _)| video)
            .collect();
        let everything = || references.iter().chain([predictions]);
        let mut left_out = LeftOut {
            without_reference: predictions
                .iter()
                .map(|(video, _)| video)
                .filter(|video| !annotated.contains(video))
                .map(str::to_owned)
                .collect(),
            empty_references: references
                .iter()
                .flat_map(Annotations::iter)
                .filter(|(_, events)| events.is_empty())
                .count(),
            reversed_spans: everything().map(|set| set.reversed).sum(),
            empty_captions: everything().map(|set| set.empty_captions).sum(),
            cut_off: everything().map(|set| set.cut_off).sum(),
            ..LeftOut::default()
        };
        let mut videos = Vec::with_capacity(annotated.len());
        for &video in &annotated {
            let predicted = predictions.get(video);
            if predicted.is_none() {
                left_out.without_prediction.push(video.to_owned());
                if unpredicted == Unpredicted::LeaveOut {
                    continue;
                }
            }
            let predicted = predicted.unwrap_or_default();
            left_out.surplus_predictions += predicted.len().saturating_sub(MOST_PREDICTIONS);
            videos.push(VideoCase {
                video: video.to_owned(),
                predictions: predicted.iter().take(MOST_PREDICTIONS).cloned().collect(),
                references: references
                    .iter()
                    .map(|set| set.get(video).unwrap_or_default().to_vec())
                    .collect(),
            });
        }
        if videos.is_empty() {
            return Err(Error::NothingInCommon {
                predicted: predictions.len(),
                referenced: annotated.len(),
            });
        }
        Ok(Self { videos, sets: references.len(), left_out })
    }

    /// The videos to score, by id.
    #[must_use]
    pub fn videos(&self) -> &[VideoCase] {
        &self.videos
    }

    /// How many reference sets were joined.
    #[must_use]
    pub fn sets(&self) -> usize {
        self.sets
    }

    /// What was not used, or used by a rule.
    #[must_use]
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }
}
