//! All that dense captioning papers print, in one call.

use serde::{Deserialize, Serialize};

use crate::{
    Annotations, CiderD, Corpus, MeteorNative, Result, SentenceScorer, Unpredicted,
    dense::{Captions, captions},
    localisation::{Localisation, localisation},
    soda::{Order, SeveralSets, Soda, SodaOptions, soda_c, soda_d},
};

/// Bytes to which scenic cuts reference captions (reference §0, trap 9).
const SCENIC_CAPTION_BYTES: usize = 200;

/// Whose habits are followed where the two published scorers differ by what they are given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Convention {
    /// Events are aligned by start; references are taken whole.
    #[default]
    Densevid,
    /// Events are aligned in the order given; references are cut to 200 bytes.
    Scenic,
}

impl Convention {
    /// One set of references as this scorer would take it.
    #[must_use]
    pub fn references(self, references: Annotations) -> Annotations {
        match self {
            Self::Densevid => references,
            Self::Scenic => references.with_captions_cut(SCENIC_CAPTION_BYTES),
        }
    }

    /// How this scorer computes SODA with several reference sets.
    #[must_use]
    pub fn soda(self, several_sets: SeveralSets) -> SodaOptions {
        let order = match (self, several_sets) {
            (Self::Densevid, SeveralSets::BestOfSets) => Order::PredictionsByStart,
            (Self::Densevid, _) => Order::ByStart,
            (Self::Scenic, _) => Order::AsGiven,
        };
        SodaOptions { order, several_sets, ..SodaOptions::default() }
    }
}

/// What a pair of captions is worth in `SODA_c`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SodaCost {
    /// METEOR, or what stands in its place: the published figures.
    #[default]
    Meteor,
    /// CIDEr-D, with the document frequencies of the corpus's references.
    CiderD,
}

/// How [`score_corpus`] scores. The default is densevid's way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// How events are aligned.
    pub soda: SodaOptions,
    /// What an aligned pair is worth.
    pub soda_cost: SodaCost,
}

/// The scores of dense captions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scores {
    /// Where events were found: precision, recall and F1 at each overlap, and both conventions of their means.
    pub localisation: Localisation,
    /// CIDEr, BLEU, ROUGE-L and the caption scorer's own measure where events overlap.
    pub captions: Captions,
    /// What `SODA_c` was computed with.
    pub soda_measure: String,
    /// `SODA_c`: `average.f1` is the published figure.
    pub soda_c: Soda,
    /// `SODA_d`: the same without captions.
    pub soda_d: Soda,
}

/// Scores `predictions` against one or more sets of `references`, as densevid does, with [`MeteorNative`] in the place of
/// METEOR. Videos without a prediction are left out.
///
/// # Errors
///
/// As [`Corpus::join`].
///
/// ```
/// use eventide_eval::{Annotations, Event, score};
///
/// let events = |caption| vec![Event::new(0.0, 10.0, caption), Event::new(10.0, 30.0, "it rains")];
/// let predictions = Annotations::collect([("a", events("a dog runs"))])?;
/// let references = Annotations::collect([("a", events("the dog is running"))])?;
/// let scores = score(&predictions, &[references])?;
/// assert!(scores.localisation.f1_of_means.f1 > 0.99);
/// assert!(scores.soda_c.average.f1 > 0.5 && scores.captions.average.cider > 1.0);
/// # Ok::<(), eventide_eval::Error>(())
/// ```
pub fn score(predictions: &Annotations, references: &[Annotations]) -> Result<Scores> {
    let corpus = Corpus::join(predictions, references, Unpredicted::LeaveOut)?;
    score_corpus(&corpus, Options::default(), &mut MeteorNative::new())
}

/// Scores a corpus; `meteor` is METEOR, or what stands in its place.
///
/// # Errors
///
/// [`Error::Scorer`](crate::Error::Scorer) and [`Error::Scores`](crate::Error::Scores) if `meteor` does not do its part.
pub fn score_corpus(
    corpus: &Corpus,
    options: Options,
    meteor: &mut dyn SentenceScorer,
) -> Result<Scores> {
    let localisation = localisation(corpus);
    let captions = captions(corpus, &mut [&mut *meteor])?;
    let mut cider = None;
    let scorer = match options.soda_cost {
        SodaCost::Meteor => meteor,
        SodaCost::CiderD => cider.insert(CiderD::of_references(corpus)),
    };
    Ok(Scores {
        localisation,
        captions,
        soda_measure: scorer.name().to_owned(),
        soda_c: soda_c(corpus, options.soda, scorer)?,
        soda_d: soda_d(corpus, options.soda)?,
    })
}
