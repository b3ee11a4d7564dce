//! Captions scored where events overlap: the protocol of `densevid_eval`, which dense captioning papers report.
//!
//! Reference §7.4. At each overlap threshold, a prediction makes a pair with every reference, of any set, that it overlaps
//! by at least that much; one that overlaps none is paired with a word that matches nothing. The pairs of a video are
//! one list: CIDEr takes its document frequencies from that list alone. A video is scored 0 where nothing was
//! predicted. Figures are averaged over videos, then over thresholds.

use serde::Serialize;

use crate::{
    Corpus, Event, Pair, PairScores, Result, SentenceScorer, VideoCase,
    bleu::{Bleu, bleu_of_grams},
    cider::cider_of_grams,
    grams::{Grams, Numbers},
    localisation::{IOU_THRESHOLDS, count},
    overlap::iou,
    rouge::sentence_rouge_l,
    scorer::ask,
    tokens::caption_tokens,
};

/// Caption scores of a list of pairs, or means of such.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CaptionScores {
    /// CIDEr, 0 to 10.
    pub cider: f64,
    /// BLEU-1 to BLEU-4.
    pub bleu: Bleu,
    /// ROUGE-L.
    pub rouge_l: f64,
    /// The totals of the caller's scorers, in their order.
    pub others: Vec<f64>,
}

impl CaptionScores {
    fn zero(others: usize) -> Self {
        Self { others: vec![0.0; others], ..Self::default() }
    }

    /// The means of everything; `others` is how many scorers there were.
    fn mean<'a>(all: impl IntoIterator<Item = &'a Self>, others: usize) -> Self {
        let (mut mean, mut number) = (Self::zero(others), 0);
        for each in all {
            number += 1;
            for (sum, value) in mean.values_mut().zip(each.values()) {
                *sum += value;
            }
        }
        for sum in mean.values_mut() {
            *sum /= count(number.max(1));
        }
        mean
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        [self.cider, self.rouge_l].into_iter().chain(self.bleu).chain(self.others.iter().copied())
    }

    fn values_mut(&mut self) -> impl Iterator<Item = &mut f64> {
        let Self { cider, bleu, rouge_l, others } = self;
        [cider, rouge_l].into_iter().chain(bleu).chain(others)
    }
}

/// Caption scores at one overlap threshold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaptionsAt {
    /// The least overlap of a pair.
    pub threshold: f64,
    /// What was reached there.
    pub scores: CaptionScores,
}

/// Caption scores of one video.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VideoCaptions {
    /// The video.
    pub video: String,
    /// At each of [`IOU_THRESHOLDS`].
    pub by_iou: Vec<CaptionsAt>,
    /// The means over thresholds.
    pub mean: CaptionScores,
}

/// Caption scores of a corpus.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Captions {
    /// The names of the caller's scorers, in the order of [`CaptionScores::others`].
    pub others: Vec<String>,
    /// Each video, by id.
    pub videos: Vec<VideoCaptions>,
    /// At each of [`IOU_THRESHOLDS`], the means over videos.
    pub by_iou: Vec<CaptionsAt>,
    /// The means over thresholds of those: the figures that papers print, times 100.
    pub average: CaptionScores,
}

/// Scores captions with CIDEr, BLEU and ROUGE-L, and with `others`, each asked once for the pairs of a video that a
/// threshold makes (thresholds that make the same pairs are asked about once).
///
/// # Errors
///
/// [`Error::Scorer`](crate::Error::Scorer) and [`Error::Scores`](crate::Error::Scores) if one of `others` does not do
/// its part.
pub fn captions(corpus: &Corpus, others: &mut [&mut dyn SentenceScorer]) -> Result<Captions> {
    let videos = corpus
        .videos()
        .iter()
        .map(|case| video_captions(case, others))
        .collect::<Result<Vec<_>>>()?;
    let by_iou: Vec<_> = IOU_THRESHOLDS
        .iter()
        .enumerate()
        .map(|(index, &threshold)| {
            let scores = videos.iter().map(|video| &video.by_iou[index].scores);
            CaptionsAt { threshold, scores: CaptionScores::mean(scores, others.len()) }
        })
        .collect();
    let average = CaptionScores::mean(by_iou.iter().map(|at| &at.scores), others.len());
    let others = others.iter().map(|scorer| scorer.name().to_owned()).collect();
    Ok(Captions { others, videos, by_iou, average })
}

fn video_captions(
    case: &VideoCase,
    others: &mut [&mut dyn SentenceScorer],
) -> Result<VideoCaptions> {
    let words = Words::of(case);
    let grams = words.numbered();
    let mut by_iou: Vec<CaptionsAt> = Vec::with_capacity(IOU_THRESHOLDS.len());
    let mut last_matches = None;
    for threshold in IOU_THRESHOLDS {
        let matches = matches(case, threshold);
        let scores = match by_iou.last() {
            Some(last) if last_matches.as_ref() == Some(&matches) => last.scores.clone(),
            _ => {
                CaptionScores { others: words.scores(&matches, others)?, ..grams.scores(&matches) }
            }
        };
        last_matches = Some(matches);
        by_iou.push(CaptionsAt { threshold, scores });
    }
    let mean = CaptionScores::mean(by_iou.iter().map(|at| &at.scores), others.len());
    Ok(VideoCaptions { video: case.video.clone(), by_iou, mean })
}

/// A prediction, and the reference that it is held against; `None` for a prediction that meets none.
type Match = (usize, Option<usize>);

/// The pairs of a video: each prediction with every reference that it meets, counted through all sets.
fn matches(case: &VideoCase, threshold: f64) -> Vec<Match> {
    let references: Vec<&Event> = case.references.iter().flatten().collect();
    let mut matches = Vec::new();
    for (prediction, event) in case.predictions.iter().enumerate() {
        let before = matches.len();
        matches.extend(
            references
                .iter()
                .enumerate()
                .filter(|(_, reference)| iou(event.span, reference.span) >= threshold)
                .map(|(reference, _)| (prediction, Some(reference))),
        );
        if matches.len() == before {
            matches.push((prediction, None));
        }
    }
    matches
}

/// The captions of a video, each as `C`.
struct Captioned<C> {
    predictions: Vec<C>,
    references: Vec<C>,
    /// One caption for each prediction, of a word that no caption has.
    nothing: Vec<C>,
    /// How many n-grams have a number, where captions are numbers.
    known: usize,
}

impl<C> Captioned<C> {
    /// Hypothesis and reference of each match.
    fn pairs(&self, matches: &[Match]) -> impl Iterator<Item = (&C, &C)> {
        matches.iter().map(|&(prediction, reference)| {
            let reference = reference
                .map_or(&self.nothing[prediction], |reference| &self.references[reference]);
            (&self.predictions[prediction], reference)
        })
    }
}

/// Captions as tokens.
type Words = Captioned<Vec<String>>;

impl Words {
    fn of(case: &VideoCase) -> Self {
        let tokens = |event: &Event| caption_tokens(&event.caption);
        Self {
            predictions: case.predictions.iter().map(tokens).collect(),
            references: case.references.iter().flatten().map(tokens).collect(),
            nothing: (0..case.predictions.len()).map(|index| vec![unmatched_word(index)]).collect(),
            known: 0,
        }
    }

    fn numbered(&self) -> Captioned<Grams> {
        let mut numbers = Numbers::new();
        let mut grams = |captions| -> Vec<Grams> {
            <[Vec<String>]>::iter(captions).map(|words| numbers.grams(words)).collect()
        };
        let (predictions, references) = (grams(&self.predictions), grams(&self.references));
        let nothing = grams(&self.nothing);
        Captioned { predictions, references, nothing, known: numbers.len() }
    }

    /// What each of `others` says of these pairs.
    fn scores(
        &self,
        matches: &[Match],
        others: &mut [&mut dyn SentenceScorer],
    ) -> Result<Vec<f64>> {
        let pairs = self.pairs(matches);
        let pairs: Vec<_> =
            pairs.map(|(hypothesis, reference)| Pair::new(&hypothesis[..], reference)).collect();
        others.iter_mut().map(|scorer| Ok(ask(&mut **scorer, &pairs)?.total)).collect()
    }
}

impl Captioned<Grams> {
    /// Our own scores of these pairs.
    fn scores(&self, matches: &[Match]) -> CaptionScores {
        let pairs: Vec<_> = self
            .pairs(matches)
            .map(|(hypothesis, reference)| (hypothesis, vec![reference]))
            .collect();
        let rouge = self
            .pairs(matches)
            .map(|(hypothesis, reference)| {
                sentence_rouge_l(&Pair::new(&hypothesis.words[..], &reference.words))
            })
            .collect();
        CaptionScores {
            cider: PairScores::from_mean(cider_of_grams(&pairs, self.known)).total,
            bleu: bleu_of_grams(&pairs),
            rouge_l: PairScores::from_mean(rouge).total,
            others: Vec::new(),
        }
    }
}

/// A word that no caption has, another for each `index`. densevid draws ten to twenty letters at random; which ones
/// changes no score, so ours are always the same.
fn unmatched_word(index: usize) -> String {
    let digits = index.to_string();
    let letters = digits.bytes().map(|digit| char::from(digit - b'0' + b'k'));
    "qxzjvkwqxzj".chars().chain(letters).collect()
}
