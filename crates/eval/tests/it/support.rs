//! The golden files, and how close a figure must be.

use std::{collections::HashMap, fs, path::Path};

use eventide_eval::{
    Annotations, Corpus, Pair, PairScores, ScorerError, SentenceScorer, Unpredicted, forms,
    tokens::caption_tokens,
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

/// The METEOR scores that the golden matrices hold, by caption: reference as hypothesis, prediction as reference.
pub(crate) struct RecordedMeteor(HashMap<(Vec<String>, Vec<String>), f64>);

impl RecordedMeteor {
    /// From `soda_matrices.json`, whose rows and columns are the first annotator's events and the predictions by start.
    pub(crate) fn load() -> Self {
        let mut scores = HashMap::new();
        let matrices = json("soda_matrices.json");
        for case in single().videos() {
            let by_start = |events: &[eventide_eval::Event]| {
                let mut events = events.to_vec();
                events.sort_by(|a, b| a.span.start.total_cmp(&b.span.start));
                events.into_iter().map(|e| caption_tokens(&e.caption)).collect::<Vec<_>>()
            };
            let meteor = &matrices[&case.video]["meteor"];
            if meteor.is_null() {
                continue;
            }
            for (reference, row) in by_start(&case.references[0]).iter().zip(matrix(meteor)) {
                for (prediction, score) in by_start(&case.predictions).iter().zip(row) {
                    scores.insert((reference.clone(), prediction.clone()), score);
                }
            }
        }
        Self(scores)
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
                let key = (pair.hypothesis.to_vec(), pair.references[0].to_vec());
                self.0.get(&key).copied().ok_or_else(|| format!("{key:?} was not recorded").into())
            })
            .collect::<Result<_, _>>()
            .map(PairScores::from_mean)
    }
}
