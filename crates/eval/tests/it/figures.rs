//! Figures by name, compared with others and with an earlier run.

use std::collections::BTreeMap;

use eventide_eval::{
    Annotations, Convention, Corpus, Event, MeteorNative, Options, SodaCost, Unpredicted,
    clips::clips,
    compare::{Bootstrap, compare},
    curves::{calibration, events_a_video, precision_recall},
    figures::Figures,
    gate::fallen,
    paragraph::paragraphs,
    score, score_corpus,
    soda::{Roles, SeveralSets},
};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::Value;

use crate::support::{RecordedMeteor, close, json, multi, predictions, references, single};

fn figures(corpus: &Corpus) -> Figures {
    let mut meteor = MeteorNative::new();
    Figures::of_dense(&score_corpus(corpus, Options::default(), &mut meteor).unwrap())
}

#[track_caller]
fn check(figures: &Figures, name: &str, expected: &Value) {
    close(figures.get(name).unwrap_or_else(|| panic!("no {name}")).value, expected, name);
}

#[rstest]
#[case::single(single(), "vc_single")]
#[case::multi(multi(), "vc_multi")]
fn are_those_of_densevid(#[case] corpus: Corpus, #[case] key: &str) {
    let expected = &json("expected.json")[key];
    let figures = figures(&corpus);
    let average = &expected["average"];
    for (name, golden) in [
        ("cider", "CIDEr"),
        ("rouge_l", "Rouge-L"),
        ("bleu_4", "Bleu_4"),
        ("precision", "Precision"),
        ("recall", "Recall"),
        ("f1_of_means", "F1"),
    ] {
        check(&figures, name, &average[golden]);
    }
    for (threshold, at) in expected["per_tiou"].as_object().unwrap() {
        for (name, golden) in
            [("cider", "CIDEr"), ("precision", "Precision"), ("recall", "Recall"), ("f1", "F1")]
        {
            check(&figures, &format!("{name}@{threshold}"), &at[golden]);
        }
    }
    for (distance, at) in expected["start_distance_seconds"].as_object().unwrap() {
        for (name, golden) in [("precision", "Precision"), ("recall", "Recall"), ("f1", "F1")] {
            check(&figures, &format!("start_{name}@{distance}s"), &at[golden]);
        }
    }
    for (place, video) in figures.videos().iter().enumerate() {
        let at_half = &expected["per_video"][video]["0.5"];
        let of_video = |name| figures.of_video(figures.get(name).unwrap(), place).unwrap();
        close(of_video("cider@0.5"), &at_half["CIDEr"], video);
        close(of_video("recall@0.5"), &at_half["Recall"], video);
    }
}

#[test]
fn soda_has_the_name_of_its_measure() {
    let native = figures(&multi());
    assert!(native.get("soda_c").is_none() && native.get("meteor").is_none());
    let soda = native.get("soda_c_native").unwrap();
    let only_in_the_first = native.videos().iter().position(|video| video == "single01").unwrap();
    assert!(native.of_video(soda, only_in_the_first).is_some());

    let expected = json("expected.json");
    let soda = Convention::Densevid.soda(SeveralSets::EachSet);
    let scores = eventide_eval::soda::soda_c(&multi(), soda, &mut RecordedMeteor::load()).unwrap();
    close(scores.average.f1, &expected["soda_c"]["vc_average_f1"], "SODA_c");
    let soda = Convention::Scenic.soda(SeveralSets::EachSet);
    let scores = eventide_eval::soda::soda_c(&multi(), soda, &mut RecordedMeteor::load()).unwrap();
    close(scores.average.f1, &expected["sc"]["average"]["SODA_c"], "SODA_c");
}

#[test]
fn soda_may_cost_cider() {
    let options = Options { soda_cost: SodaCost::CiderD, ..Options::default() };
    let scores = score_corpus(&multi(), options, &mut MeteorNative::new()).unwrap();
    let figures = Figures::of_dense(&scores);
    assert!(figures.get("soda_c_native").is_none());
    // CIDEr runs to ten, METEOR to one.
    assert!(figures.get("soda_c_cider_d").unwrap().value > figures.get("soda_d").unwrap().value);
}

#[test]
fn one_call_gives_what_papers_print() {
    let scores = score(&predictions(), &[references(1), references(2)]).unwrap();
    let expected = json("expected.json");
    let localisation = &scores.localisation;
    close(localisation.mean_of_f1.f1, &expected["sc"]["average"]["F1_Score"], "F1");
    close(localisation.f1_of_means.f1, &expected["vc_multi"]["average"]["F1"], "F1");
    close(scores.captions.average.cider, &expected["vc_multi"]["average"]["CIDEr"], "CIDEr");
    assert_eq!(scores.captions.others, ["meteor_native"]);
    assert!(scores.soda_c.average.f1 > 0.0);
}

#[test]
fn other_variants_have_figures_too() {
    let expected = &json("expected.json")["paragraph"];
    let mut meteor = MeteorNative::new();
    let all = paragraphs(&multi(), &mut [&mut meteor]).unwrap();
    let figures = Figures::of_paragraphs(&all);
    check(&figures, "cider", &expected["CIDEr"]);
    assert!(figures.get("meteor_native").is_some());

    let same = Corpus::join(&references(1), &[references(1)], Unpredicted::LeaveOut).unwrap();
    let figures = Figures::of_clips(&clips(&same, Roles::Swapped, &mut []).unwrap());
    assert!((figures.get("bleu_4").unwrap().value - 1.0).abs() < 1e-6);
    assert!((figures.get("rouge_l").unwrap().value - 1.0).abs() < 1e-6);
    let scores = clips(&same, Roles::Swapped, &mut []).unwrap();
    let cider = Figures::of_clips(&scores).get("cider").unwrap().value;
    assert!((cider - scores.corpus.cider).abs() < 1e-9, "{cider}: clips count, not videos");
}

/// The same predictions with every caption of some videos replaced.
fn worse(videos: usize) -> Annotations {
    let predictions = predictions();
    let changed = predictions.iter().enumerate().map(|(place, (video, events))| {
        let mut events = events.to_vec();
        for event in events.iter_mut().filter(|_| place < videos) {
            "nothing of the sort".clone_into(&mut event.caption);
        }
        (video.to_owned(), events)
    });
    Annotations::collect(changed).unwrap()
}

#[test]
fn a_comparison_tells_chance_from_difference() {
    let sets = [references(1), references(2)];
    let of = |predictions: &Annotations| {
        figures(&Corpus::join(predictions, &sets, Unpredicted::LeaveOut).unwrap())
    };
    let (good, bad) = (of(&predictions()), of(&worse(usize::MAX)));
    let comparison = compare(&good, &bad, Bootstrap::default()).unwrap();
    assert_eq!((comparison.videos, comparison.left_out), (good.videos().len(), 0));
    let of_figure = |name: &str| {
        comparison.figures.iter().find(|difference| difference.figure == name).unwrap()
    };
    let cider = of_figure("cider");
    assert!(cider.is_significant() && cider.difference > 1.0, "{cider:?}");
    assert!(cider.interval.0 < cider.difference && cider.difference < cider.interval.1);
    assert!((cider.ours - good.get("cider").unwrap().value).abs() < 1e-9);
    let precision = of_figure("precision");
    assert!(!precision.is_significant() && precision.difference.abs() < 1e-12, "{precision:?}");

    assert_eq!(comparison, compare(&good, &bad, Bootstrap::default()).unwrap(), "the same draws");
    let slightly = compare(&good, &of(&worse(1)), Bootstrap::default()).unwrap();
    let cider = slightly.figures.iter().find(|difference| difference.figure == "cider").unwrap();
    assert!(cider.difference > 0.0 && !cider.is_significant(), "one video of 16: {cider:?}");
}

#[test]
fn only_common_videos_are_compared() {
    let one = figures(&multi());
    let other = figures(&single());
    let comparison = compare(&one, &other, Bootstrap::default()).unwrap();
    assert_eq!((comparison.videos, comparison.left_out), (15, 1));
    let elsewhere = Annotations::collect([("z", vec![Event::new(0.0, 1.0, "x")])]).unwrap();
    let elsewhere = figures(
        &Corpus::join(&elsewhere, std::slice::from_ref(&elsewhere), Unpredicted::LeaveOut).unwrap(),
    );
    compare(&one, &elsewhere, Bootstrap::default()).unwrap_err();
}

#[test]
fn the_gate_names_what_fell_and_what_is_missing() {
    let figures = figures(&multi());
    let value = |name| figures.get(name).unwrap().value;
    let baseline = BTreeMap::from([
        ("cider".to_owned(), value("cider") / 0.96),
        ("precision".to_owned(), value("precision") / 0.94),
        ("recall".to_owned(), value("recall") / 2.0),
        ("soda_c".to_owned(), 0.0),
    ]);
    let fallen = fallen(&figures, &baseline, 0.05);
    let names: Vec<_> = fallen.iter().map(|fall| &fall.figure[..]).collect();
    assert_eq!(names, ["precision", "soda_c"]);
    assert_eq!((fallen[0].now, fallen[1].now), (Some(value("precision")), None));
    assert!((fallen[0].least - value("precision") / 0.94 * 0.95).abs() < 1e-12);
}

#[test]
fn curves_agree_with_figures() {
    let corpus = multi();
    let (curve, figures) = (precision_recall(&corpus), figures(&corpus));
    assert_eq!(curve.len(), 20);
    for (step, name) in [(6, "recall@0.3"), (10, "recall@0.5"), (18, "recall@0.9")] {
        let value = figures.get(name).unwrap().value;
        assert!((curve[step].scores.recall - value).abs() < 1e-12, "{name}");
    }
    assert!(curve.is_sorted_by(|a, b| a.scores.recall >= b.scores.recall));
    let counts = events_a_video(&corpus);
    let place = figures.videos().iter().position(|video| video == "emptypred01").unwrap();
    assert_eq!((counts.len(), counts[place].0), (16, 0.0));
}

/// Events of which those with the `right` numbers are where the reference is.
fn scored(scores: &[(f64, bool)]) -> Corpus {
    let events = scores.iter().map(|&(score, right)| {
        let start = if right { 0.0 } else { 50.0 };
        Event { score: Some(score), ..Event::new(start, start + 10.0, "x") }
    });
    let predictions = Annotations::collect([("a", events.collect())]).unwrap();
    let references = Annotations::collect([("a", vec![Event::new(0.0, 10.0, "x")])]).unwrap();
    Corpus::join(&predictions, &[references], Unpredicted::LeaveOut).unwrap()
}

#[test]
fn calibration_holds_confidence_against_truth() {
    let perfect = scored(&[(0.0, true), (-50.0, false), (0.0, true), (-50.0, false)]);
    let perfect = calibration(&perfect).unwrap();
    assert!(perfect.logarithms && perfect.expected_error < 1e-9, "{perfect:?}");
    assert_eq!(perfect.ranking, Some(1.0));

    let useless = calibration(&scored(&[(0.9, true), (0.9, false)])).unwrap();
    assert_eq!((useless.logarithms, useless.ranking), (false, Some(0.5)));
    assert!((useless.expected_error - 0.5).abs() < 1e-9, "{useless:?}");
    assert_eq!(calibration(&multi()), None, "no scores, nothing to say");
}

proptest! {
    /// Of two scores, the greater one is right with the probability that pairs say.
    #[test]
    fn ranking_counts_pairs(events in prop::collection::vec((0u8..5, any::<bool>()), 2..30)) {
        let events: Vec<_> =
            events.iter().map(|&(score, right)| (f64::from(score) + 1.0, right)).collect();
        let (mut pairs, mut won) = (0.0, 0.0);
        for (good, _) in events.iter().filter(|(_, right)| *right) {
            for (bad, _) in events.iter().filter(|(_, right)| !*right) {
                pairs += 1.0;
                won += if good > bad { 1.0 } else if good < bad { 0.0 } else { 0.5 };
            }
        }
        let ranking = calibration(&scored(&events)).unwrap().ranking;
        match ranking {
            Some(ranking) => prop_assert!((ranking - won / pairs).abs() < 1e-9),
            None => prop_assert!(pairs == 0.0),
        }
    }
}
