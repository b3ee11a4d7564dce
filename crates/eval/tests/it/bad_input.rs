//! Input that no score can be given for is refused by name; what a rule covers is counted.

use eventide_eval::{
    Annotations, Corpus, Error, Event, MOST_PREDICTIONS, Pair, PairScores, ScorerError,
    SentenceScorer, Unpredicted,
    dense::captions,
    forms,
    localisation::localisation,
    soda::{SodaOptions, soda_c},
};
use rstest::rstest;

use crate::support::{multi, predictions, references};

#[rstest]
#[case::not_json("{", "not a valid predictions file")]
#[case::no_videos("{}", "there is no video among the predictions")]
#[case::no_results(r#"{"results": {}}"#, "there is no video among the predictions")]
#[case::not_events(
    r#"{"version": "1", "a": {"timestamps": [[0, 1]]}}"#,
    "video `version` has no events in a form that is known: a list of `sentence` and `timestamp`, or `timestamps` and \
     `sentences`, or `chapters`, or a clip's `sentence` and `gt`"
)]
#[case::nan(
    r#"{"results": {"a": [{"sentence": "x", "timestamp": [NaN, 1]}]}}"#,
    "not a valid predictions file"
)]
#[case::one_time(
    r#"{"results": {"a": [{"sentence": "x", "timestamp": [1]}]}}"#,
    "not a valid predictions file"
)]
#[case::twice(r#"{"results": {"a": [], "b": [], "a": []}}"#, "video `a` is listed twice")]
fn refuses_predictions(#[case] json: &str, #[case] because: &str) {
    assert_eq!(forms::predictions(json).unwrap_err().to_string(), because);
}

#[rstest]
#[case::list("[]", "not a valid references file")]
#[case::endless(
    r#"{"a": {"chapters": [{"time": 0, "label": "x"}]}}"#,
    "video `a` has chapters and no `duration`, so that its last chapter has no end"
)]
#[case::uneven(
    r#"{"a": {"timestamps": [[0, 1]], "sentences": []}}"#,
    "video `a` has 1 time stamps but 0 sentences"
)]
#[case::twice(
    r#"{"a": {"timestamps": [], "sentences": []}, "a": {"timestamps": [], "sentences": []}}"#,
    "video `a` is listed twice"
)]
fn refuses_references(#[case] json: &str, #[case] because: &str) {
    assert_eq!(forms::references(json).unwrap_err().to_string(), because);
}

#[rstest]
#[case::nan(f64::NAN, 1.0)]
#[case::infinite(0.0, f64::INFINITY)]
fn refuses_times(#[case] start: f64, #[case] end: f64) {
    let mut annotations = Annotations::new();
    let events = vec![Event::new(0.0, 1.0, "fine"), Event::new(start, end, "not fine")];
    let error = annotations.insert("a", events).unwrap_err();
    assert!(matches!(error, Error::Time { index: 1, .. }), "{error}");
    assert!(annotations.is_empty());
}

#[test]
fn refuses_what_has_nothing_in_common() {
    let one = Annotations::collect([("a", vec![Event::new(0.0, 1.0, "x")])]).unwrap();
    let other = Annotations::collect([("v_a", vec![Event::new(0.0, 1.0, "x")])]).unwrap();
    let error = Corpus::join(&one, &[other], Unpredicted::LeaveOut).unwrap_err();
    assert_eq!(error.to_string(), "none of 1 predicted videos is among 1 reference videos");
    let error = Corpus::join(&one, &[], Unpredicted::LeaveOut).unwrap_err();
    assert!(matches!(error, Error::NoReferences));
}

#[test]
fn counts_what_is_left_out() {
    let left_out = multi().left_out().clone();
    assert_eq!(left_out.without_prediction, ["nopred01"]);
    assert!(left_out.without_reference.is_empty());

    let corpus = Corpus::join(&predictions(), &[references(2)], Unpredicted::LeaveOut).unwrap();
    assert_eq!(corpus.left_out().without_reference.len(), 9);
    assert_eq!(corpus.videos().len(), 7);
}

#[test]
fn a_video_without_entry_may_count_as_empty() {
    let corpus = Corpus::join(&predictions(), &[references(1)], Unpredicted::Empty).unwrap();
    assert_eq!(corpus.videos().len(), 16);
    assert_eq!(corpus.left_out().without_prediction, ["nopred01"]);
    let recall = localisation(&corpus).by_iou[0].scores.recall;
    assert!((recall - 0.933_333 * 15.0 / 16.0).abs() < 1e-4, "{recall}");
}

#[test]
fn counts_odd_events() {
    let many = (0..MOST_PREDICTIONS + 3).map(|_| Event::new(0.0, 1.0, "x")).collect();
    let predictions = Annotations::collect([
        ("a", vec![Event::new(5.0, 0.0, "turned round"), Event::new(0.0, 5.0, "  ")]),
        ("b", many),
    ])
    .unwrap();
    let references = Annotations::collect([
        ("a", vec![Event::new(0.0, 5.0, "turned round")]),
        ("b", vec![Event::new(0.0, 1.0, "x")]),
        ("c", Vec::new()),
    ])
    .unwrap();
    let corpus = Corpus::join(&predictions, &[references], Unpredicted::LeaveOut).unwrap();
    let left_out = corpus.left_out();
    assert_eq!((left_out.reversed_spans, left_out.empty_captions), (1, 1));
    assert_eq!((left_out.surplus_predictions, left_out.empty_references), (3, 1));
    let scores = captions(&corpus, &mut []).unwrap();
    assert!(scores.average.cider.is_finite() && scores.average.rouge_l > 0.0);
}

struct Faulty(PairScores);

impl SentenceScorer for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn score(&mut self, _: &[Pair<'_, String>]) -> Result<PairScores, ScorerError> {
        Ok(self.0.clone())
    }
}

#[rstest]
#[case::too_few(PairScores::default())]
#[case::not_a_number(PairScores { total: 0.0, each: vec![f64::NAN; 9] })]
fn refuses_answers(#[case] answer: PairScores) {
    let error = soda_c(&multi(), SodaOptions::default(), &mut Faulty(answer)).unwrap_err();
    assert!(matches!(error, Error::Scores { given: 0, .. }), "{error}");
}

struct Silent;

impl SentenceScorer for Silent {
    fn name(&self) -> &'static str {
        "METEOR"
    }

    fn score(&mut self, _: &[Pair<'_, String>]) -> Result<PairScores, ScorerError> {
        Err("it does not answer".into())
    }
}

#[test]
fn names_the_scorer_that_failed() {
    let error = captions(&multi(), &mut [&mut Silent]).unwrap_err();
    assert_eq!(error.to_string(), "scorer `METEOR` failed");
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.to_string(), "it does not answer");
}

#[test]
fn cuts_captions_between_letters() {
    let annotations = Annotations::collect([(
        "a",
        vec![Event::new(0.0, 1.0, "na\u{ef}ve"), Event::new(0.0, 1.0, "ab")],
    )]);
    let cut = annotations.unwrap().with_captions_cut(3);
    let captions: Vec<_> = cut.get("a").unwrap().iter().map(|event| &event.caption[..]).collect();
    assert_eq!(captions, ["na", "ab"]);
}
