//! What scores a caption against others, behind one trait: ours, and those that live in other programs.

use std::hash::Hash;

use crate::{
    Corpus, Error, Result,
    cider::{Frequencies, similarity},
    tokens::caption_tokens,
};

/// What a scorer from outside may answer with instead of scores.
pub type ScorerError = Box<dyn std::error::Error + Send + Sync>;

/// A caption to score and the captions to hold it against, as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair<'a, T> {
    /// The caption to score.
    pub hypothesis: &'a [T],
    /// What it should be like. One or more; a scorer gives 0 where there is none.
    pub references: Vec<&'a [T]>,
}

impl<'a, T> Pair<'a, T> {
    /// A pair with one reference.
    #[must_use]
    pub fn new(hypothesis: &'a [T], reference: &'a [T]) -> Self {
        Self { hypothesis, references: vec![reference] }
    }
}

/// The answer to a list of pairs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PairScores {
    /// The score of the list. Many measures add up counts first, so that it is not the mean of `each`.
    pub total: f64,
    /// The score of each pair, in their order.
    pub each: Vec<f64>,
}

impl PairScores {
    /// With the mean of `each` as the total; 0 for none.
    #[must_use]
    pub fn from_mean(each: Vec<f64>) -> Self {
        let total = each.iter().sum::<f64>() / crate::localisation::count(each.len().max(1));
        Self { total, each }
    }
}

/// A measure of captions.
///
/// METEOR 1.5 is one that a caller brings: it is a program of its own, and its total is not a mean.
pub trait SentenceScorer {
    /// The name that its figures are reported under.
    fn name(&self) -> &str;

    /// Scores `pairs`, which belong together: one video's, or one corpus's.
    ///
    /// # Errors
    ///
    /// Whatever keeps the scorer from answering.
    fn score(&mut self, pairs: &[Pair<'_, String>]) -> Result<PairScores, ScorerError>;
}

/// Asks `scorer` and checks that it answered every pair with a number.
pub(crate) fn ask(
    scorer: &mut dyn SentenceScorer,
    pairs: &[Pair<'_, String>],
) -> Result<PairScores> {
    if pairs.is_empty() {
        return Ok(PairScores::default());
    }
    let answer = scorer
        .score(pairs)
        .map_err(|source| Error::Scorer { name: scorer.name().to_owned(), source })?;
    let given = answer.each.iter().filter(|score| score.is_finite()).count();
    if given == pairs.len() && answer.each.len() == pairs.len() && answer.total.is_finite() {
        Ok(answer)
    } else {
        Err(Error::Scores { name: scorer.name().to_owned(), given, asked: pairs.len() })
    }
}

/// CIDEr-D with document frequencies that are fixed beforehand, so that a pair scores the same in any list.
#[derive(Debug, Clone)]
pub struct CiderD<T> {
    frequencies: Frequencies<T>,
}

impl<T: Ord + Hash + Clone> CiderD<T> {
    /// A scorer over these frequencies.
    #[must_use]
    pub fn new(frequencies: Frequencies<T>) -> Self {
        Self { frequencies }
    }
}

impl CiderD<String> {
    /// With the document frequencies of a corpus's references: each reference caption is a document.
    #[must_use]
    pub fn of_references(corpus: &Corpus) -> Self {
        let references = corpus.videos().iter().flat_map(|case| case.references.iter().flatten());
        let tokens: Vec<_> = references.map(|event| caption_tokens(&event.caption)).collect();
        Self::new(Frequencies::of(tokens.iter().map(|tokens| vec![&tokens[..]])))
    }
}

impl SentenceScorer for CiderD<String> {
    fn name(&self) -> &'static str {
        "cider_d"
    }

    fn score(&mut self, pairs: &[Pair<'_, String>]) -> Result<PairScores, ScorerError> {
        Ok(PairScores::from_mean(
            pairs.iter().map(|pair| similarity(pair, &self.frequencies)).collect(),
        ))
    }
}
