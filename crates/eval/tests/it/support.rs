//! The golden files, and how close a figure must be.

use std::{collections::HashMap, fs, path::Path};

use eventide_eval::{
    Annotations, Corpus, Pair, PairScores, ScorerError, SentenceScorer, Unpredicted, forms,
};
use serde_json::Value;

/// The text of a golden file.
pub(crate) fn text(name: &str) -> String {
    let folder =
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/golden/eval/made_up"));
    fs::read_to_string(folder.join(name)).unwrap()
}

/// A golden file.
pub(crate) fn json(name: &str) -> Value {
    serde_json::from_str(&text(name)).unwrap()
}

/// The invented predictions.
pub(crate) fn predictions() -> Annotations {
    forms::predictions(&text("predictions.json")).unwrap()
}

/// The invented references of one annotator, 1 or 2.
pub(crate) fn references(set: usize) -> Annotations {
    forms::references(&text(&format!("references_{set}.json"))).unwrap()
}

/// The first annotator's videos.
pub(crate) fn single() -> Corpus {
    Corpus::join(&predictions(), &[references(1)], Unpredicted::LeaveOut).unwrap()
}

/// Both annotators' videos.
pub(crate) fn multi() -> Corpus {
    Corpus::join(&predictions(), &[references(1), references(2)], Unpredicted::LeaveOut).unwrap()
}

/// Holds `figure` to the number at `expected`, to 1e-4.
#[track_caller]
pub(crate) fn close(figure: f64, expected: &Value, what: &str) {
    let expected = expected.as_f64().unwrap_or_else(|| panic!("no figure for {what}"));
    assert!((figure - expected).abs() < 1e-4, "{what}: {figure}, not {expected}");
}

/// A list of numbers.
pub(crate) fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// A list of lists of numbers.
pub(crate) fn matrix(rows: &Value) -> Vec<Vec<f64>> {
    rows.as_array().unwrap().iter().map(numbers).collect()
}

/// A list of words.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// METEOR 1.5 as its own program gave it, for every pair that SODA asks about.
pub(crate) struct RecordedMeteor(HashMap<(String, String), f64>);

impl RecordedMeteor {
    /// From `meteor.json`.
    pub(crate) fn load() -> Self {
        let pairs = json("meteor.json");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let pair = |pair: &Value| {
            let key = (text(&pair["hypothesis"]), text(&pair["reference"]));
            (key, pair["score"].as_f64().unwrap())
        };
        Self(pairs.as_array().unwrap().iter().map(pair).collect())
    }
}

impl SentenceScorer for RecordedMeteor {
    fn name(&self) -> &'static str {
        "METEOR"
    }

    fn score(&mut self, pairs: &[Pair<'_, String>]) -> Result<PairScores, ScorerError> {
        pairs
            .iter()
            .map(|pair| {
                let key = (pair.hypothesis.join(" "), pair.references[0].join(" "));
                self.0.get(&key).copied().ok_or_else(|| format!("{key:?} was not recorded").into())
            })
            .collect::<Result<_, _>>()
            .map(PairScores::from_mean)
    }
}

/// Pairs of `pairs.json` as tokens: a caption and what it is held against.
pub(crate) fn golden_pairs() -> Vec<(String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pairs = json("pairs.json");
    let pairs = pairs["pairs"].as_array().unwrap().iter();
    pairs
        .map(|pair| {
            let references = pair["references"].as_array().unwrap().iter().map(text).collect();
            (text(&pair["hypothesis"]), references)
        })
        .collect()
}
