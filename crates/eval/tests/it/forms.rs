//! The forms in which the field writes events.

use eventide_eval::{
    Corpus, Event, Unpredicted,
    forms::{self, Side},
};
use rstest::rstest;

#[rstest]
#[case::activitynet_predictions(
    r#"{"version": "VERSION 1.0", "results": {"a": [{"sentence": "x", "timestamp": [1, 2.5]}]}, "external_data": {"used": false}}"#,
    &[(1.0, 2.5, "x")]
)]
#[case::activitynet_references(
    r#"{"a": {"duration": 9, "timestamps": [[1, 2.5], [3, 4]], "sentences": ["x", "y"]}}"#,
    &[(1.0, 2.5, "x"), (3.0, 4.0, "y")]
)]
#[case::vidchapters(
    r#"{"a": {"duration": 9.5, "title": "t", "chapters": [{"time": 0, "label": "x"}, {"time": 4, "label": "y"}]}}"#,
    &[(0.0, 4.0, "x"), (4.0, 9.5, "y")]
)]
#[case::nothing_found(r#"{"results": {"a": []}}"#, &[])]
fn reads(#[case] json: &str, #[case] expected: &[(f64, f64, &str)]) {
    let expected: Vec<_> =
        expected.iter().map(|&(start, end, caption)| Event::new(start, end, caption)).collect();
    for side in [Side::Predictions, Side::References] {
        assert_eq!(forms::read(json, side).unwrap().get("a"), Some(&*expected));
    }
}

#[test]
fn one_file_of_clips_holds_both_sides() {
    let json = r#"{"results": {"a0": {"sentence": "ours", "gt": "theirs"}}}"#;
    let caption = |side| forms::read(json, side).unwrap().get("a0").unwrap()[0].caption.clone();
    assert_eq!(
        (caption(Side::Predictions), caption(Side::References)),
        ("ours".into(), "theirs".into())
    );
}

#[test]
fn an_event_may_have_a_score() {
    let json = r#"{"results": {"a": [
        {"sentence": "x", "timestamp": [0, 1], "score": -0.25},
        {"sentence": "x", "timestamp": [0, 1], "proposal_score": 0.5, "sentence_score": 3},
        {"sentence": "x", "timestamp": [0, 1], "score": null}
    ]}}"#;
    let scores = forms::predictions(json).unwrap();
    let scores: Vec<_> = scores.get("a").unwrap().iter().map(|event| event.score).collect();
    assert_eq!(scores, [Some(-0.25), Some(0.5), None]);
}

#[test]
fn chapters_past_the_end_are_counted() {
    let json = r#"{"a": {"duration": 5, "chapters": [
        {"time": 0, "label": "x"}, {"time": 4, "label": "y"}, {"time": 7, "label": "z"}
    ]}}"#;
    let references = forms::references(json).unwrap();
    assert_eq!(references.get("a").unwrap(), [Event::new(0.0, 4.0, "x")]);
    let corpus =
        Corpus::join(&references, std::slice::from_ref(&references), Unpredicted::LeaveOut);
    assert_eq!(corpus.unwrap().left_out().cut_off, 4, "two on either side");
}
