//! Figures worked out by hand, and what must hold for any input.

use eventide_eval::{
    Annotations, CiderD, Corpus, Event, Unpredicted,
    dense::captions,
    localisation::localisation,
    soda::{SodaOptions, alignment, scores, soda_c, soda_d},
};
use proptest::prelude::*;

fn close(figure: f64, expected: f64) {
    assert!((figure - expected).abs() < 1e-4, "{figure}, not {expected}");
}

fn events(events: &[(f64, f64, &str)]) -> Vec<Event> {
    events.iter().map(|&(start, end, caption)| Event::new(start, end, caption)).collect()
}

/// Three videos: two with predictions, one without any.
fn three_videos() -> Corpus {
    let references = Annotations::collect([
        (
            "v1",
            events(&[
                (0.0, 40.0, "soak the rice noodles"),
                (40.0, 100.0, "stir fry the shrimp with garlic"),
                (120.0, 180.0, "serve with lime"),
            ]),
        ),
        ("v2", events(&[(10.0, 50.0, "cut the onion")])),
        ("v3", events(&[(0.0, 10.0, "a"), (10.0, 20.0, "b")])),
    ]);
    let predictions = Annotations::collect([
        (
            "v1",
            events(&[
                (2.0, 38.0, "soak noodles in warm water"),
                (42.0, 90.0, "stir fry shrimp and garlic"),
                (100.0, 130.0, "add sauce"),
                (125.0, 178.0, "serve with lime and peanuts"),
            ]),
        ),
        ("v2", events(&[(0.0, 50.0, "cut the onion")])),
        ("v3", Vec::new()),
    ]);
    Corpus::join(&predictions.unwrap(), &[references.unwrap()], Unpredicted::LeaveOut).unwrap()
}

#[test]
fn localisation_by_hand() {
    let all = localisation(&three_videos());
    close(all.f1_of_means.precision, 0.4375);
    close(all.f1_of_means.recall, 0.5);
    close(all.f1_of_means.f1, 0.466_667);
    close(all.mean_of_f1.f1, 0.464_286);
    // 36 s of 40 s are not quite nine tenths.
    close(all.by_iou[3].scores.recall, 0.0);
}

/// A video with one matched pair has CIDEr 0 although its caption is perfect.
#[test]
fn captions_by_hand() {
    let all = captions(&three_videos(), &mut []).unwrap();
    let at_half: Vec<_> = all.videos.iter().map(|video| video.by_iou[1].scores.cider).collect();
    close(at_half[0], 2.152_995);
    close(at_half[1], 0.0);
    close(at_half[2], 0.0);
    close(all.average.cider, 0.538_249);
}

#[test]
fn soda_by_hand() {
    let worth = [
        vec![0.9 * 0.35, 0.0, 0.0, 0.0],
        vec![0.0, 0.8 * 0.42, 0.0, 0.0],
        vec![0.0, 0.0, 0.125 * 0.0, 0.883_333 * 0.55],
    ];
    let sum = alignment(&worth);
    close(sum, 1.136_833);
    let scores = scores(sum, 4, 3);
    close(scores.precision, 0.284_208);
    close(scores.recall, 0.378_944);
    close(scores.f1, 0.324_810);
}

#[test]
fn soda_with_cider_d() {
    let corpus = three_videos();
    let mut scorer = CiderD::of_references(&corpus);
    let soda = soda_c(&corpus, SodaOptions::default(), &mut scorer).unwrap();
    // "cut the onion" is right in words (7.5 of 10, as it has no four-gram) and four fifths right in time.
    close(soda.sets[0].videos[1].scores.f1, 7.5 * 0.8);
    close(soda.sets[0].videos[2].scores.f1, 0.0);
    let outline = soda_d(&corpus, SodaOptions::default()).unwrap();
    close(outline.sets[0].videos[1].scores.f1, 0.8);
    close(outline.sets[0].videos[0].scores.precision, (0.9 + 0.8 + 0.883_333) / 4.0);
}

/// All ways to align without crossing, tried one by one.
fn best_by_search(worth: &[Vec<f64>], row: usize, column: usize) -> f64 {
    if row == worth.len() || column == worth[row].len() {
        return 0.0;
    }
    let skipped =
        best_by_search(worth, row + 1, column).max(best_by_search(worth, row, column + 1));
    skipped.max(worth[row][column] + best_by_search(worth, row + 1, column + 1))
}

proptest! {
    #[test]
    fn alignment_is_the_best(
        worth in (1usize..5, 1usize..5)
            .prop_flat_map(|(rows, columns)| {
                prop::collection::vec(prop::collection::vec(0.0..1.0, columns), rows)
            })
    ) {
        let found: f64 = alignment(&worth);
        prop_assert!((found - best_by_search(&worth, 0, 0)).abs() < 1e-9);
    }
}

#[test]
fn a_long_story_is_aligned() {
    let worth = vec![vec![1.0; 5000]; 2000];
    close(alignment(&worth), 2000.0);
    close(alignment(&[]), 0.0);
    close(alignment(&[Vec::new()]), 0.0);
}
