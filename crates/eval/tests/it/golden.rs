//! Every recorded figure that does not need METEOR's own program.

use eventide_eval::{
    Corpus, MeteorNative, Pair, PairScores, SentenceScorer,
    bleu::{corpus_bleu, sentence_bleu},
    cider::cider,
    dense::{CaptionScores, captions},
    localisation::{At, localisation},
    overlap::iou,
    paragraph::paragraphs,
    rouge::rouge_l,
    soda::{Order, SeveralSets, Soda, SodaOptions, SodaSet, alignment, scores, soda_c},
    tokens::caption_tokens,
};
use rstest::rstest;
use serde_json::Value;

use crate::support::{RecordedMeteor, close, json, matrix, multi, numbers, single, words};

#[test]
fn tokens() {
    let cases = json("tokenised.json");
    for case in cases.as_array().unwrap() {
        let expected: Vec<_> = case["tokens"]
            .as_array()
            .unwrap()
            .iter()
            .map(|token| token.as_str().unwrap())
            .collect();
        assert_eq!(caption_tokens(case["raw"].as_str().unwrap()), expected);
    }
    assert!(cases.as_array().unwrap().len() > 50);
}

#[test]
fn pairs() {
    let golden = json("pairs.json");
    let texts: Vec<(Vec<String>, Vec<Vec<String>>)> = golden["pairs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| {
            let references = pair["references"].as_array().unwrap();
            (
                words(pair["hypothesis"].as_str().unwrap()),
                references.iter().map(|text| words(text.as_str().unwrap())).collect(),
            )
        })
        .collect();
    let pairs: Vec<_> = texts
        .iter()
        .map(|(hypothesis, references)| Pair {
            hypothesis: hypothesis.as_slice(),
            references: references.iter().map(Vec::as_slice).collect(),
        })
        .collect();
    let (cider_scores, rouge) = (cider(&pairs), rouge_l(&pairs));
    for (index, pair) in pairs.iter().enumerate() {
        let expected = &golden["pairs"][index];
        close(
            cider_scores.each[index],
            &expected["cider_in_this_list"],
            &format!("CIDEr {pair:?}"),
        );
        close(rouge.each[index], &expected["rouge_l"], &format!("ROUGE-L {pair:?}"));
        for (n, score) in sentence_bleu(pair).into_iter().enumerate() {
            close(score, &expected["bleu"][n], &format!("BLEU {n} {pair:?}"));
        }
    }
    let corpus = &golden["corpus"];
    close(cider_scores.total, &corpus["CIDEr"], "CIDEr");
    close(rouge.total, &corpus["ROUGE_L"], "ROUGE-L");
    for (n, score) in corpus_bleu(&pairs).into_iter().enumerate() {
        close(score, &corpus["BLEU"][n], "BLEU");
    }

    let single: Vec<_> = pairs.into_iter().filter(|pair| pair.references.len() == 1).collect();
    let scores = cider(&single);
    close(scores.total, &golden["single_reference_only"]["CIDEr"], "CIDEr, one reference");
    let expected = golden["single_reference_only"]["per_pair"].as_array().unwrap();
    assert_eq!(expected.len(), scores.each.len());
    for (score, expected) in scores.each.iter().zip(expected) {
        close(*score, expected, "CIDEr, one reference");
    }
}

#[rstest]
#[case::single(single(), "vc_single")]
#[case::multi(multi(), "vc_multi")]
fn localisation_of_densevid(#[case] corpus: Corpus, #[case] key: &str) {
    let expected = &json("expected.json")[key];
    let all = localisation(&corpus);
    let mean = all.f1_of_means;
    close(mean.precision, &expected["average"]["Precision"], "precision");
    close(mean.recall, &expected["average"]["Recall"], "recall");
    close(mean.f1, &expected["average"]["F1"], "F1");
    let check = |at: &At, expected: &Value| {
        close(at.scores.precision, &expected["Precision"], &format!("precision {at:?}"));
        close(at.scores.recall, &expected["Recall"], &format!("recall {at:?}"));
        close(at.scores.f1, &expected["F1"], &format!("F1 {at:?}"));
    };
    for at in &all.by_iou {
        check(at, &expected["per_tiou"][at.threshold.to_string()]);
    }
    for at in &all.by_start {
        check(at, &expected["start_distance_seconds"][at.threshold.to_string()]);
    }
    assert_eq!(all.videos.len(), expected["per_video"].as_object().unwrap().len());
    for video in &all.videos {
        for at in &video.by_iou {
            let expected = &expected["per_video"][&video.video][at.threshold.to_string()];
            close(at.scores.precision, &expected["Precision"], &video.video);
            close(at.scores.recall, &expected["Recall"], &video.video);
        }
    }
}

#[test]
fn localisation_of_scenic() {
    let expected = &json("expected.json")["sc"];
    let all = localisation(&multi());
    let average = &expected["average"];
    close(all.mean_of_f1.precision, &average["Precision_Mean"], "precision");
    close(all.mean_of_f1.recall, &average["Recall_Mean"], "recall");
    close(all.mean_of_f1.f1, &average["F1_Score"], "F1");
    for at in &all.by_iou {
        close(at.scores.precision, &average[format!("Precision@{}", at.threshold)], "precision");
        close(at.scores.recall, &average[format!("Recall@{}", at.threshold)], "recall");
    }
    for video in &all.videos {
        let expected = &expected["per_video"][&video.video];
        close(video.mean.precision, &expected["Precision_Mean"], &video.video);
        close(video.mean.recall, &expected["Recall_Mean"], &video.video);
        close(video.mean.f1, &expected["F1_Score"], &video.video);
    }
}

#[rstest]
#[case::single(single(), "vc_single")]
#[case::multi(multi(), "vc_multi")]
fn captions_of_densevid(#[case] corpus: Corpus, #[case] key: &str) {
    let expected = &json("expected.json")[key];
    let all = captions(&corpus, &mut []).unwrap();
    let check = |scores: &CaptionScores, expected: &Value, what: &str| {
        close(scores.cider, &expected["CIDEr"], &format!("CIDEr {what}"));
        close(scores.rouge_l, &expected["Rouge-L"], &format!("ROUGE-L {what}"));
        for (n, bleu) in (1..).zip(scores.bleu) {
            close(bleu, &expected[format!("Bleu_{n}")], &format!("BLEU-{n} {what}"));
        }
    };
    check(&all.average, &expected["average"], "average");
    for at in &all.by_iou {
        let threshold = at.threshold.to_string();
        check(&at.scores, &expected["per_tiou"][&threshold], &threshold);
    }
    assert_eq!(all.videos.len(), expected["per_video"].as_object().unwrap().len());
    for video in &all.videos {
        for at in &video.by_iou {
            let threshold = at.threshold.to_string();
            let expected = &expected["per_video"][&video.video][&threshold];
            check(&at.scores, expected, &format!("{} at {threshold}", video.video));
        }
    }
}

#[test]
fn cider_of_scenic() {
    let expected = &json("expected.json")["sc"];
    let all = captions(&multi(), &mut []).unwrap();
    close(all.average.cider, &expected["average"]["CIDER"], "CIDEr");
    for video in &all.videos {
        close(video.mean.cider, &expected["per_video"][&video.video]["CIDER"], &video.video);
    }
}

#[test]
fn alignments() {
    let cases = json("soda_matrices.json");
    for (video, case) in cases.as_object().unwrap() {
        let worth: Vec<Vec<f64>> = matrix(&case["iou"])
            .into_iter()
            .zip(matrix(&case["meteor"]))
            .map(|(overlaps, weights)| {
                overlaps
                    .into_iter()
                    .zip(weights)
                    .map(|(overlap, weight)| overlap * weight)
                    .collect()
            })
            .collect();
        let sum = alignment(&worth);
        close(sum, &case["alignment"], video);
        let scores = scores(sum, worth[0].len(), worth.len());
        close(scores.precision, &case["precision"], video);
        close(scores.recall, &case["recall"], video);
        close(scores.f1, &case["f1"], video);
    }
}

#[test]
fn overlaps() {
    let cases = json("soda_matrices.json");
    for case in single().videos() {
        let expected = &cases[&case.video]["iou"];
        if expected.is_null() {
            continue;
        }
        let (mut references, mut predictions) =
            (case.references[0].clone(), case.predictions.clone());
        references.sort_by(|a, b| a.span.start.total_cmp(&b.span.start));
        predictions.sort_by(|a, b| a.span.start.total_cmp(&b.span.start));
        for (row, reference) in references.iter().enumerate() {
            let row = numbers(&expected[row]);
            for (prediction, expected) in predictions.iter().zip(row) {
                let overlap = iou(prediction.span, reference.span);
                assert!((overlap - expected).abs() < 1e-12, "{}", case.video);
            }
        }
    }
}

fn soda(corpus: &Corpus, options: SodaOptions) -> Soda {
    soda_c(corpus, options, &mut RecordedMeteor::load()).unwrap()
}

#[track_caller]
fn check_soda(soda: &SodaSet, expected: &Value) {
    close(soda.average.precision, &expected["average"]["precision"], "precision");
    close(soda.average.recall, &expected["average"]["recall"], "recall");
    close(soda.average.f1, &expected["average"]["f1"], "F1");
    let per_video = &expected["per_video"];
    assert_eq!(soda.videos.len(), per_video.as_object().unwrap().len());
    for video in &soda.videos {
        close(video.scores.precision, &per_video[&video.video]["precision"], &video.video);
        close(video.scores.recall, &per_video[&video.video]["recall"], &video.video);
        close(video.scores.f1, &per_video[&video.video]["f1"], &video.video);
    }
}

#[test]
fn soda_of_densevid() {
    let expected = &json("expected.json")["soda_c"];
    let soda = soda(&multi(), SodaOptions::default());
    assert_eq!(soda.sets.len(), 2);
    check_soda(&soda.sets[0], &expected["each_file"][0]);
    check_soda(&soda.sets[1], &expected["each_file"][1]);
    close(soda.average.f1, &expected["vc_average_f1"], "F1");
}

#[test]
fn soda_of_scenic_takes_events_as_given() {
    let expected = &json("expected.json")["sc"];
    let soda = soda(&multi(), SodaOptions { order: Order::AsGiven, ..SodaOptions::default() });
    close(soda.average.f1, &expected["average"]["SODA_c"], "F1");
    for (set, key) in soda.sets.iter().zip(["SODA_c_1", "SODA_c_2"]) {
        close(set.average.f1, &expected["average"][key], key);
        for video in &set.videos {
            close(video.scores.f1, &expected["per_video"][&video.video][key], &video.video);
        }
    }
}

#[rstest]
#[case::best(SeveralSets::BestOfSets, Order::PredictionsByStart, "best_of_files")]
#[case::pooled(SeveralSets::Pooled, Order::ByStart, "pooled_files")]
fn soda_of_several_sets(
    #[case] several_sets: SeveralSets,
    #[case] order: Order,
    #[case] key: &str,
) {
    let options = SodaOptions { order, several_sets, ..SodaOptions::default() };
    check_soda(&soda(&multi(), options).sets[0], &json("expected.json")["soda_c"][key]);
}

#[test]
fn paragraph() {
    let expected = &json("expected.json")["paragraph"];
    let all = paragraphs(&multi(), &mut []).unwrap();
    let videos: Vec<_> =
        expected["videos"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(all.videos, videos);
    assert_eq!(all.without_events, ["emptypred01"]);
    close(all.cider, &expected["CIDEr"], "CIDEr");
}

/// `meteor_native` is not METEOR, but must rise and fall with it.
#[test]
fn meteor_native_follows_meteor() {
    let golden = json("pairs.json");
    let mut native = MeteorNative::new();
    let scores: Vec<(f64, f64)> = golden["pairs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| {
            let hypothesis = words(pair["hypothesis"].as_str().unwrap());
            let references: Vec<_> = pair["references"]
                .as_array()
                .unwrap()
                .iter()
                .map(|text| words(text.as_str().unwrap()))
                .collect();
            let pair_of_words = Pair {
                hypothesis: hypothesis.as_slice(),
                references: references.iter().map(Vec::as_slice).collect(),
            };
            let ours = native.score(&[pair_of_words]).unwrap().total;
            (ours, pair["score"].as_f64().unwrap())
        })
        .collect();
    let correlation = correlation(&scores);
    assert!(correlation > 0.95, "{correlation}");
    assert_eq!(native.name(), "meteor_native");
}

/// Pearson's.
fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let mean = |value: fn(&(f64, f64)) -> f64| {
        PairScores::from_mean(pairs.iter().map(value).collect()).total
    };
    let (x, y) = (mean(|pair| pair.0), mean(|pair| pair.1));
    let covariance = mean(|pair| pair.0 * pair.1) - x * y;
    let spread = (mean(|pair| pair.0 * pair.0) - x * x) * (mean(|pair| pair.1 * pair.1) - y * y);
    covariance / spread.sqrt()
}
