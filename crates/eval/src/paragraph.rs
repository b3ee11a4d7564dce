//! A video's captions read as one paragraph, whatever their times.
//!
//! Reference §7.7, scenic's form: the captions of a video are joined by spaces in the order given, a text is its runs of
//! the letters a to z in lower case, and CIDEr is computed over the whole corpus with one paragraph a reference set.

use serde::Serialize;

use crate::{Corpus, Event, Pair, PairScores, Result, SentenceScorer, cider::cider, scorer::ask};

/// Paragraph scores of a corpus.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Paragraphs {
    /// The videos scored, by id.
    pub videos: Vec<String>,
    /// Videos left out because nothing was predicted in them.
    pub without_events: Vec<String>,
    /// CIDEr over the corpus, 0 to 10.
    pub cider: f64,
    /// CIDEr of each of `videos`.
    pub video_cider: Vec<f64>,
    /// Name and total of each of the caller's scorers.
    pub others: Vec<(String, f64)>,
    /// For each of these, the score of each of `videos` by itself.
    pub video_others: Vec<Vec<f64>>,
}

/// The words of a paragraph: everything but letters separates.
#[must_use]
pub fn paragraph_tokens(text: &str) -> Vec<String> {
    text.split(|letter: char| !letter.is_ascii_alphabetic())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect()
}

/// Scores paragraphs with CIDEr and with `others`, each asked once.
///
/// # Errors
///
/// [`Error::Scorer`](crate::Error::Scorer) and [`Error::Scores`](crate::Error::Scores) if one of `others` does not do
/// its part.
pub fn paragraphs(corpus: &Corpus, others: &mut [&mut dyn SentenceScorer]) -> Result<Paragraphs> {
    let (scored, without): (Vec<_>, Vec<_>) =
        corpus.videos().iter().partition(|case| !case.predictions.is_empty());
    let tokens: Vec<_> = scored
        .iter()
        .map(|case| {
            (joined(&case.predictions), case.sets().map(joined).collect::<Vec<Vec<String>>>())
        })
        .collect();
    let pairs: Vec<_> = tokens
        .iter()
        .map(|(prediction, references)| Pair {
            hypothesis: prediction.as_slice(),
            references: references.iter().map(Vec::as_slice).collect(),
        })
        .collect();
    let PairScores { total, each } = cider(&pairs);
    let names = |cases: Vec<&crate::VideoCase>| {
        cases.into_iter().map(|case| case.video.clone()).collect::<Vec<_>>()
    };
    let (mut names_and_totals, mut video_others) = (Vec::new(), Vec::new());
    for scorer in others {
        let PairScores { total, each } = ask(&mut **scorer, &pairs)?;
        names_and_totals.push((scorer.name().to_owned(), total));
        video_others.push(each);
    }
    Ok(Paragraphs {
        videos: names(scored),
        without_events: names(without),
        cider: total,
        video_cider: each,
        others: names_and_totals,
        video_others,
    })
}

fn joined(events: &[Event]) -> Vec<String> {
    events.iter().flat_map(|event| paragraph_tokens(&event.caption)).collect()
}
