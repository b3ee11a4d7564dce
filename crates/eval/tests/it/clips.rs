//! Captions for given spans: COCO's measures over all of them.

use eventide_eval::{
    Annotations, Corpus, Error, Event, MeteorNative, Unpredicted, clips::clips, soda::Roles,
};
use rstest::rstest;

use crate::support::{close, golden_pairs, json};

/// The golden pairs with one reference as clips of so many to a video; `turned` makes predictions of the references.
fn corpus(to_a_video: usize, turned: bool) -> Corpus {
    let mut pairs = golden_pairs();
    pairs.retain(|(_, references)| references.len() == 1);
    let mut sides = (Annotations::new(), Annotations::new());
    for (index, pairs) in pairs.chunks(to_a_video).enumerate() {
        let events = |captions: Vec<&String>| -> Vec<Event> {
            (0..).zip(captions).map(|(at, text)| Event::new(f64::from(at), 9.0, text)).collect()
        };
        let video = format!("{index:03}");
        let hypotheses = events(pairs.iter().map(|(hypothesis, _)| hypothesis).collect());
        let references = events(pairs.iter().map(|(_, references)| &references[0]).collect());
        sides.0.insert(&video, hypotheses).unwrap();
        sides.1.insert(&video, references).unwrap();
    }
    let (predictions, references) = if turned { (sides.1, sides.0) } else { sides };
    Corpus::join(&predictions, &[references], Unpredicted::LeaveOut).unwrap()
}

/// The published figures have the prediction as reference, so that turning both sides round gives the golden ones.
#[rstest]
#[case::straight(Roles::Straight, false)]
#[case::as_published(Roles::Swapped, true)]
fn are_one_list_whatever_video_they_are_of(#[case] roles: Roles, #[case] turned: bool) {
    let golden = &json("pairs.json")["single_reference_only"];
    for to_a_video in [1, 7] {
        let scores = clips(&corpus(to_a_video, turned), roles, &mut []).unwrap();
        close(scores.corpus.cider, &golden["CIDEr"], "CIDEr");
        assert_eq!(scores.clips, golden["per_pair"].as_array().unwrap().len());
        let sum: f64 = golden["per_pair"].as_array().unwrap()[..to_a_video]
            .iter()
            .map(|score| score.as_f64().unwrap())
            .sum();
        let mean = sum / f64::from(u32::try_from(to_a_video).unwrap());
        assert!((scores.videos[0].cider - mean).abs() < 1e-4, "{}", scores.videos[0].cider);
    }
}

#[test]
fn several_references_count_together() {
    let (mut predictions, mut sets) = (Annotations::new(), vec![Annotations::new(); 8]);
    for (index, (hypothesis, references)) in golden_pairs().iter().enumerate() {
        let (video, event) = (format!("{index:03}"), |text| vec![Event::new(0.0, 1.0, text)]);
        predictions.insert(&video, event(hypothesis)).unwrap();
        for (set, reference) in sets.iter_mut().zip(references) {
            set.insert(&video, event(reference)).unwrap();
        }
    }
    let corpus = Corpus::join(&predictions, &sets, Unpredicted::LeaveOut).unwrap();
    let mut native = MeteorNative::new();
    let scores = clips(&corpus, Roles::Straight, &mut [&mut native]).unwrap();
    let golden = &json("pairs.json")["corpus"];
    close(scores.corpus.cider, &golden["CIDEr"], "CIDEr");
    close(scores.corpus.rouge_l, &golden["ROUGE_L"], "ROUGE-L");
    for (n, bleu) in scores.corpus.bleu.into_iter().enumerate() {
        close(bleu, &golden["BLEU"][n], "BLEU");
    }
    assert_eq!(scores.others, ["meteor_native"]);
    assert!(scores.corpus.others[0] > 0.1);
}

#[test]
fn captions_for_other_spans_are_refused() {
    let events = |spans: &[(f64, f64)]| {
        let events = spans.iter().map(|&(start, end)| Event::new(start, end, "x")).collect();
        Annotations::collect([("a", events)]).unwrap()
    };
    let given = events(&[(0.0, 10.0), (10.0, 20.0)]);
    let score = |predictions: &Annotations| {
        let given = std::slice::from_ref(&given);
        let corpus = Corpus::join(predictions, given, Unpredicted::LeaveOut).unwrap();
        clips(&corpus, Roles::Swapped, &mut [])
    };
    score(&events(&[(0.0, 10.9), (10.2, 20.0)])).unwrap();
    let error = score(&events(&[(0.0, 10.0), (12.0, 20.0)])).unwrap_err();
    assert!(matches!(error, Error::Bounds { index: 1, .. }), "{error}");
    let error = score(&events(&[(0.0, 10.0)])).unwrap_err();
    assert!(matches!(error, Error::Clips { predictions: 1, references: 2, .. }), "{error}");
}
