//! SODA: how well the predicted events tell the story of the video, in order.
//!
//! From the definition in Fujita, Hirao, Kamigaito, Okumura and Nagata, "SODA: Story Oriented Dense Video Captioning
//! Evaluation Framework" (ECCV 2020), section 3, and reference §7.5. Each pair of a reference and a prediction is worth
//! its overlap times its caption score; the alignment of the two lists that keeps their order and is worth most is
//! divided by the number of predictions (precision) and of references (recall). Written from that sentence alone.

use serde::{Deserialize, Serialize};

use crate::{
    Corpus, Event, Pair, Result, SentenceScorer, VideoCase,
    localisation::{PrecisionRecall, count},
    overlap::iou,
    scorer::ask,
    tokens::caption_tokens,
};

/// In which order events are aligned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// By start; events that start together stay as given. densevid's convention.
    #[default]
    ByStart,
    /// Predictions by start, references as given: what the published program does where it takes the best of several
    /// sets. References that are not sorted score lower by it.
    PredictionsByStart,
    /// As given, in predictions and references alike; scenic's convention, where a model that tells its events out
    /// of order loses by it.
    AsGiven,
}

/// Which caption of a pair is the hypothesis of the scorer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Roles {
    /// The *reference* caption is scored against the prediction: the published figures are made so, and METEOR is not
    /// symmetric.
    #[default]
    Swapped,
    /// The prediction is scored against the reference.
    Straight,
}

/// What several reference sets make of a video.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeveralSets {
    /// Each set is scored by itself, over the videos that it has; the figures are the means over the sets.
    #[default]
    EachSet,
    /// A video counts with the set that gives it the best F1. For the published figure, with
    /// [`Order::PredictionsByStart`].
    BestOfSets,
    /// The references of all sets are one list. Recall suffers: only one annotator can be aligned with.
    Pooled,
}

/// How SODA is computed. The default is densevid's way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SodaOptions {
    /// In which order events are aligned.
    pub order: Order,
    /// Who is the hypothesis.
    pub roles: Roles,
    /// What several reference sets make of a video.
    pub several_sets: SeveralSets,
}

/// SODA of one video against one list of references.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VideoSoda {
    /// The video.
    pub video: String,
    /// What was reached.
    pub scores: PrecisionRecall,
}

/// SODA of a corpus.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Soda {
    /// Means over videos, F1 included; under [`SeveralSets::EachSet`], means over the sets of those means.
    pub average: PrecisionRecall,
    /// Each set under [`SeveralSets::EachSet`], else one.
    pub sets: Vec<SodaSet>,
}

/// SODA over the videos of one reference set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SodaSet {
    /// Means over the videos.
    pub average: PrecisionRecall,
    /// Each video, by id.
    pub videos: Vec<VideoSoda>,
}

impl SodaSet {
    fn new(videos: Vec<VideoSoda>) -> Self {
        let average = PrecisionRecall::mean(videos.iter().map(|video| video.scores));
        Self { average, videos }
    }
}

/// `SODA_c`: overlap times caption score, as `scorer` gives it for single pairs.
///
/// # Errors
///
/// [`Error::Scorer`](crate::Error::Scorer) and [`Error::Scores`](crate::Error::Scores) if `scorer` does not do its part.
pub fn soda_c(
    corpus: &Corpus,
    options: SodaOptions,
    scorer: &mut dyn SentenceScorer,
) -> Result<Soda> {
    soda(corpus, options, &mut |references, predictions| {
        caption_scores(references, predictions, options.roles, scorer)
    })
}

/// `SODA_d`, as we read it: the same alignment with the overlap alone. It says how well the story's outline was found,
/// whatever the captions say.
///
/// # Errors
///
/// None of its own; the type is that of [`soda_c`].
pub fn soda_d(corpus: &Corpus, options: SodaOptions) -> Result<Soda> {
    soda(corpus, options, &mut |references, predictions| {
        Ok(vec![vec![1.0; predictions.len()]; references.len()])
    })
}

/// Caption scores of references (rows) and predictions (columns).
type Captions<'a> = dyn FnMut(&[&Event], &[&Event]) -> Result<Vec<Vec<f64>>> + 'a;

fn soda(corpus: &Corpus, options: SodaOptions, captions: &mut Captions<'_>) -> Result<Soda> {
    let mut score = |case: &VideoCase, references: &mut dyn Iterator<Item = &Event>| {
        let references = ordered(references, options.order == Order::ByStart);
        let predictions = ordered(&mut case.predictions.iter(), options.order != Order::AsGiven);
        let weights = captions(&references, &predictions)?;
        let worth: Vec<Vec<f64>> = references
            .iter()
            .zip(weights)
            .map(|(reference, weights)| {
                let overlaps = predictions.iter().map(|p| iou(p.span, reference.span));
                overlaps.zip(weights).map(|(overlap, weight)| overlap * weight).collect()
            })
            .collect();
        Ok(VideoSoda {
            video: case.video.clone(),
            scores: scores(alignment(&worth), predictions.len(), references.len()),
        })
    };
    let cases = corpus.videos();
    let mut sets = Vec::new();
    match options.several_sets {
        SeveralSets::EachSet => {
            for set in 0..corpus.sets() {
                let having = cases.iter().filter(|case| !case.references[set].is_empty());
                let videos = having
                    .map(|case| score(case, &mut case.references[set].iter()))
                    .collect::<Result<Vec<_>>>()?;
                // A set that shares no video with the predictions says nothing about them.
                if !videos.is_empty() {
                    sets.push(SodaSet::new(videos));
                }
            }
        }
        SeveralSets::BestOfSets => {
            let mut videos = Vec::with_capacity(cases.len());
            for case in cases {
                let each = case
                    .sets()
                    .map(|references| score(case, &mut references.iter()))
                    .collect::<Result<Vec<_>>>()?;
                videos.extend(each.into_iter().max_by(|a, b| a.scores.f1.total_cmp(&b.scores.f1)));
            }
            sets.push(SodaSet::new(videos));
        }
        SeveralSets::Pooled => {
            let pooled = cases
                .iter()
                .map(|case| score(case, &mut case.references.iter().flatten()))
                .collect::<Result<Vec<_>>>()?;
            sets.push(SodaSet::new(pooled));
        }
    }
    Ok(Soda { average: PrecisionRecall::mean(sets.iter().map(|set| set.average)), sets })
}

fn ordered<'a>(events: &mut dyn Iterator<Item = &'a Event>, by_start: bool) -> Vec<&'a Event> {
    let mut events: Vec<_> = events.collect();
    if by_start {
        events.sort_by(|a, b| a.span.start.total_cmp(&b.span.start));
    }
    events
}

fn caption_scores(
    references: &[&Event],
    predictions: &[&Event],
    roles: Roles,
    scorer: &mut dyn SentenceScorer,
) -> Result<Vec<Vec<f64>>> {
    let tokens =
        |events: &[&Event]| events.iter().map(|e| caption_tokens(&e.caption)).collect::<Vec<_>>();
    let (references, predictions) = (tokens(references), tokens(predictions));
    let pairs: Vec<_> = references
        .iter()
        .flat_map(|reference| {
            predictions.iter().map(move |prediction| match roles {
                Roles::Swapped => Pair::new(reference, prediction),
                Roles::Straight => Pair::new(prediction, reference),
            })
        })
        .collect();
    let answer = ask(scorer, &pairs)?;
    if predictions.is_empty() {
        return Ok(vec![Vec::new(); references.len()]);
    }
    Ok(answer.each.chunks(predictions.len()).map(<[f64]>::to_vec).collect())
}

/// The worth of the best alignment that keeps the order of rows and of columns.
///
/// Each row is aligned with at most one column and each column with at most one row. All rows are as long; negative
/// worth is never aligned. Takes time in rows times columns and space in columns.
#[must_use]
pub fn alignment(worth: &[Vec<f64>]) -> f64 {
    let mut best = vec![0.0_f64; worth.first().map_or(0, Vec::len) + 1];
    for row in worth {
        let mut diagonal = 0.0;
        for (column, value) in row.iter().enumerate() {
            let above = best[column + 1];
            best[column + 1] = above.max(best[column]).max(diagonal + value);
            diagonal = above;
        }
    }
    best.last().copied().unwrap_or(0.0)
}

/// Precision, recall and F1 of an alignment of that worth; zeros where there is nothing to divide by.
#[must_use]
pub fn scores(alignment: f64, predictions: usize, references: usize) -> PrecisionRecall {
    PrecisionRecall::new(
        alignment / count(predictions.max(1)),
        alignment / count(references.max(1)),
    )
}
