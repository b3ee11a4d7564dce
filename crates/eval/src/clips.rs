//! Captions for spans that were given: chapter titles, or one caption a clip.
//!
//! Reference §7.8: the caption measures of COCO over all clips of a corpus, one list. No span is predicted, so nothing is
//! matched: the captions of a video belong to its spans in their order.

use serde::Serialize;

use crate::{
    Corpus, Error, Event, Pair, PairScores, Result, SentenceScorer, VideoCase, bleu::corpus_bleu,
    cider::cider, dense::CaptionScores, rouge::rouge_l, scorer::ask, soda::Roles,
    tokens::caption_tokens,
};

/// How far the span of a prediction may be from the one that was given, in seconds: tables hold milliseconds, and the
/// field's files whole seconds now and then.
const TOLERANCE: f64 = 1.0;

/// Scores of captions for given spans.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Clips {
    /// The names of the caller's scorers, in the order of [`CaptionScores::others`].
    pub others: Vec<String>,
    /// How many captions were scored.
    pub clips: usize,
    /// Scores over all of them.
    pub corpus: CaptionScores,
    /// Each video, by id.
    pub videos: Vec<VideoClips>,
}

/// The clips of one video: means over them. BLEU is a measure of a corpus and is not given.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VideoClips {
    /// The video.
    pub video: String,
    /// How many captions were scored.
    pub clips: usize,
    /// Mean CIDEr of its clips, with the document frequencies of the corpus.
    pub cider: f64,
    /// Mean ROUGE-L.
    pub rouge_l: f64,
    /// Means of the caller's scorers.
    pub others: Vec<f64>,
}

/// Scores captions for given spans, with CIDEr, BLEU, ROUGE-L and `others`, each asked once.
///
/// Under [`Roles::Swapped`], which the published figures are made by, each reference caption is scored against the
/// prediction for its span; under [`Roles::Straight`] each prediction is scored against the references of all sets.
///
/// # Errors
///
/// [`Error::Clips`] and [`Error::Bounds`] for captions that are not for the spans of the references;
/// [`Error::Scorer`] and [`Error::Scores`] if one of `others` does not do its part.
pub fn clips(
    corpus: &Corpus,
    roles: Roles,
    others: &mut [&mut dyn SentenceScorer],
) -> Result<Clips> {
    let mut tokens: Vec<(usize, Vec<String>, Vec<Vec<String>>)> = Vec::new();
    for (video, case) in corpus.videos().iter().enumerate() {
        for (prediction, references) in of_video(case)? {
            let prediction = caption_tokens(&prediction.caption);
            let references = references.into_iter().map(|event| caption_tokens(&event.caption));
            match roles {
                Roles::Straight => tokens.push((video, prediction, references.collect())),
                Roles::Swapped => tokens.extend(
                    references.map(|reference| (video, reference, vec![prediction.clone()])),
                ),
            }
        }
    }
    let pairs: Vec<_> = tokens
        .iter()
        .map(|(_, hypothesis, references)| Pair {
            hypothesis: hypothesis.as_slice(),
            references: references.iter().map(Vec::as_slice).collect(),
        })
        .collect();
    let (cider, rouge_l) = (cider(&pairs), rouge_l(&pairs));
    let answers =
        others.iter_mut().map(|scorer| ask(&mut **scorer, &pairs)).collect::<Result<Vec<_>>>()?;
    let videos = corpus.videos().iter().enumerate().filter_map(|(video, case)| {
        let first = tokens.partition_point(|(other, ..)| *other < video);
        let end = tokens.partition_point(|(other, ..)| *other <= video);
        let mean =
            |scores: &PairScores| PairScores::from_mean(scores.each[first..end].to_vec()).total;
        (first < end).then(|| VideoClips {
            video: case.video.clone(),
            clips: end - first,
            cider: mean(&cider),
            rouge_l: mean(&rouge_l),
            others: answers.iter().map(mean).collect(),
        })
    });
    Ok(Clips {
        others: others.iter().map(|scorer| scorer.name().to_owned()).collect(),
        clips: pairs.len(),
        videos: videos.collect(),
        corpus: CaptionScores {
            cider: cider.total,
            bleu: corpus_bleu(&pairs),
            rouge_l: rouge_l.total,
            others: answers.iter().map(|answer| answer.total).collect(),
        },
    })
}

/// Each prediction of a video with the references for its span.
fn of_video(case: &VideoCase) -> Result<Vec<(&Event, Vec<&Event>)>> {
    let predictions = &case.predictions;
    for references in case.sets() {
        if references.len() != predictions.len() {
            return Err(Error::Clips {
                video: case.video.clone(),
                predictions: predictions.len(),
                references: references.len(),
            });
        }
        for (index, (prediction, reference)) in predictions.iter().zip(references).enumerate() {
            let (span, given) = (prediction.span, reference.span);
            if (span.start - given.start).abs() > TOLERANCE
                || (span.end - given.end).abs() > TOLERANCE
            {
                return Err(Error::Bounds {
                    video: case.video.clone(),
                    index,
                    start: span.start,
                    end: span.end,
                    given_start: given.start,
                    given_end: given.end,
                });
            }
        }
    }
    let references = |index: usize| case.sets().map(|set| &set[index]).collect();
    Ok(predictions.iter().enumerate().map(|(index, event)| (event, references(index))).collect())
}
