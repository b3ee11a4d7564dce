//! Bundles in other precisions: what they say, how far that is from full precision, and golden clips.

use std::{fs, path::Path, sync::OnceLock};

use eventide_model::{
    Bundle, Hypothesis, Vid2Seq, VisionEncoder, WindowInput,
    golden::{Expected, verify},
    input::input_ids,
    manifest::{Decoding, Precision, files},
    runtime::SessionOptions,
};
use eventide_training::{
    Error, Style,
    bundle::Draft,
    convert::convert,
    data::{
        Example,
        cache::Rows,
        drawn::{Drawn, pictures},
        pictures::Look,
    },
    import::Given,
    inputs::Inputs,
    presets,
    released::Release,
    seeded::Seeded,
    synth::looks::Split,
    trainer::{Sample, Shown},
    validation::{Scores, predict, scores},
    weights::Weights,
};
use half::f16;
use rstest::rstest;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{golden, runtime};

/// The golden model, trained on an invented task, in a precision; made once.
fn trained(precision: Precision) -> Bundle {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let release = Release {
            vid2seq: golden("vid2seq-tiny/checkpoint.pth"),
            clip: golden("vid2seq-tiny/clip.pt"),
            tokenizer: golden("vid2seq-tiny/spiece.model"),
            model_id: "golden".to_owned(),
            licence: "MIT".to_owned(),
            time_tokens: 100,
            given: Given { temporal_heads: 4, ..Given::default() },
        };
        for precision in [Precision::Fp32, Precision::Fp16, Precision::Int8] {
            let place = folder.path().join(precision.name());
            release.import(&place, Style::default(), precision, &runtime()).unwrap();
        }
        let entries = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(entries, 3, "a draft was left");
        folder
    });
    Bundle::open(&folder.path().join(precision.name())).unwrap()
}

fn load(bundle: &Bundle) -> Vid2Seq {
    let options = SessionOptions { threads: 1, ..SessionOptions::default() };
    Vid2Seq::load(bundle, &runtime(), &options).unwrap()
}

/// What a model says to every row of the golden cases: the greedy sequence and those of the beam search.
fn said(model: &mut Vid2Seq) -> Vec<(String, Vec<Hypothesis>, Vec<Hypothesis>)> {
    let text = fs::read_to_string(golden("vid2seq-tiny/cases.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    let mut said = Vec::new();
    for case in cases["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        if name.starts_with("same_input") {
            continue; // the tensors of another case
        }
        let inputs =
            Inputs::read(&golden(&format!("vid2seq-tiny/case_{name}.safetensors"))).unwrap();
        let used = |key: &str| case[key].as_bool().unwrap();
        for row in 0..inputs.rows {
            let window = WindowInput {
                features: inputs
                    .features
                    .as_ref()
                    .filter(|_| used("use_video"))
                    .map(|rows| rows[row].clone()),
                input_ids: inputs
                    .input_ids
                    .as_ref()
                    .filter(|_| used("use_speech"))
                    .map(|rows| rows[row].clone()),
            };
            let mut search = |beams| {
                let decoding = Decoding { beams, ..presets::tiny().decoding };
                let found = model.generate(std::slice::from_ref(&window), &decoding, &|| false);
                found.unwrap().remove(0)
            };
            said.push((name.to_owned(), search(1), search(4)));
        }
    }
    assert!(said.len() >= 10, "{}", said.len());
    said
}

#[test]
fn half_precision_says_the_same() {
    let [full, half] =
        [Precision::Fp32, Precision::Fp16].map(|precision| said(&mut load(&trained(precision))));
    for ((name, greedy, beams), (_, half_greedy, half_beams)) in full.iter().zip(&half) {
        assert_eq!(greedy[0].tokens, half_greedy[0].tokens, "{name}");
        assert_eq!(beams[0].tokens, half_beams[0].tokens, "{name}");
        assert!((beams[0].score - half_beams[0].score).abs() < 5e-3, "{name}");
    }
    let metrics = trained(Precision::Fp16).manifest().metrics.clone();
    assert!(metrics["parity/max_logit_difference"] < 0.05, "{metrics:?}");
    assert!(metrics["parity/greedy_tokens_equal"] > 0.95, "{metrics:?}");
}

/// Logits and scores stay within what a prototype measured on another model of this size. Of the 11 rows of the golden
/// cases, some with hardly anything to see or hear, 9 give the same greedy sequence, and 29 of their 44 hypotheses are
/// the same: where two sequences are nearly as good, either may win.
#[test]
fn whole_numbers_stay_near_full_precision() {
    let [full, int8] =
        [Precision::Fp32, Precision::Int8].map(|precision| said(&mut load(&trained(precision))));
    let pairs = || full.iter().zip(&int8);
    let greedy = pairs().filter(|(full, int8)| full.1[0].tokens == int8.1[0].tokens).count();
    let beams: Vec<bool> = pairs()
        .flat_map(|(full, int8)| full.2.iter().zip(&int8.2).map(|(a, b)| a.tokens == b.tokens))
        .collect();
    let equal = beams.iter().filter(|equal| **equal).count();
    let metrics = trained(Precision::Int8).manifest().metrics.clone();
    println!(
        "greedy {greedy} of {}, hypotheses {equal} of {}, {metrics:?}",
        full.len(),
        beams.len()
    );
    assert!(greedy + 3 >= full.len(), "{greedy} of {}", full.len());
    assert!(equal * 2 >= beams.len(), "{equal} of {}", beams.len());
    let difference = metrics["parity/max_logit_difference"];
    assert!(difference > 0.0 && difference < 0.3, "{metrics:?}");
    assert!(metrics["parity/max_score_difference"] < 0.03, "{metrics:?}");
    assert!(metrics["parity/greedy_equal"] > 0.5, "{metrics:?}");
}

/// What the model of the demo tells of videos that it never learnt from.
struct Told {
    greedy: Vec<Vec<i64>>,
    scores: Scores,
}

/// Videos that the model of the demo is asked about.
const UNSEEN: u32 = 40;

/// Shows drawn videos of the test split to a bundle, each with the features of its own vision encoder.
fn told(bundle: &Bundle) -> Told {
    let drawn =
        Drawn { drawn: UNSEEN, seed: 9, split: Split::Test, shortest: 20, longest: 28, crowd: 2 };
    let recipe = drawn.recipe().unwrap();
    let manifest = bundle.manifest();
    let look = Look { size: manifest.vision.image_size, rule: manifest.frames.clone() };
    let mut encoder = VisionEncoder::load(bundle, &runtime(), &SessionOptions::default()).unwrap();
    let mut sample = |(example, index)| {
        let Rows { values, slots, wanted, duration_us } = pictures(&recipe.video(index), &look);
        let pixels = values.as_slice().unwrap();
        let values = encoder.encode(pixels, slots.len(), &|| false).unwrap().mapv(f16::from_f32);
        Sample { example, features: Rows { values, slots, wanted, duration_us }.into() }
    };
    let samples: Vec<Sample> =
        drawn.examples().unwrap().0.into_iter().zip(0..).map(&mut sample).collect();
    let mut model = load(bundle);
    let greedy = Decoding { beams: 1, ..manifest.decoding.clone() };
    let windows: Vec<WindowInput> = samples.iter().map(|sample| window(&model, sample)).collect();
    let said = model.generate(&windows, &greedy, &|| false).unwrap();
    let shown = Shown { video: true, speech: true };
    let predicted = predict(&mut model, &samples, shown, &greedy).unwrap();
    Told {
        greedy: said.into_iter().map(|mut said| said.remove(0).tokens).collect(),
        scores: scores(&predicted, &samples).unwrap(),
    }
}

fn window(model: &Vid2Seq, sample: &Sample) -> WindowInput {
    let Example { speech, .. } = &sample.example;
    let ids = input_ids(model.tokenizer(), speech, sample.example.duration_us()).unwrap();
    WindowInput { features: Some(sample.seen(&model.manifest().frames)), input_ids: Some(ids) }
}

/// A model that was trained bears smaller weights: on videos of its own kind it says the same, or is as good.
#[test]
fn the_model_of_the_demo_bears_smaller_precisions() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../jobs/demo-model");
    let full = Bundle::open(&demo).unwrap();
    let expected = told(&full);
    let folder = tempfile::tempdir().unwrap();
    for (precision, least_equal, most_lost) in DEMO_BOUNDS {
        let place = folder.path().join(precision.name());
        convert(&full, precision, &place, &runtime()).unwrap();
        let found = told(&Bundle::open(&place).unwrap());
        let pairs = expected.greedy.iter().zip(&found.greedy);
        let equal = pairs.filter(|(full, small)| full == small).count();
        println!(
            "{precision:?}: {equal} of {UNSEEN} alike, {:?} for {:?}",
            found.scores, expected.scores
        );
        assert!(equal >= least_equal, "{precision:?}: {equal} of {UNSEEN}");
        for (found, expected) in
            [(found.scores.soda_c, expected.scores.soda_c), (found.scores.f1, expected.scores.f1)]
        {
            assert!(found > expected - most_lost, "{precision:?}: {found} for {expected}");
        }
    }
}

/// How many of [`UNSEEN`] greedy sequences are the same at least, and how much of a score is lost at most. Where this was
/// written, `fp16` gave all 40, and `int8` 28, with a `SODA_c` of 0.494 in place of 0.490 and the same F1.
const DEMO_BOUNDS: [(Precision, usize, f64); 2] =
    [(Precision::Fp16, 39, 0.005), (Precision::Int8, 24, 0.02)];

#[test]
fn weights_lie_as_the_precision_says() {
    let size = |precision| fs::metadata(trained(precision).path(files::WEIGHTS)).unwrap().len();
    let [full, half, int8] = [Precision::Fp32, Precision::Fp16, Precision::Int8].map(size);
    assert!(half * 100 < full * 55, "{half} of {full}");
    assert!(int8 * 100 < full * 50, "{int8} of {full}");

    let elements = |precision: Precision| -> Vec<Dtype> {
        let bytes = fs::read(trained(precision).path(files::WEIGHTS)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let name = "text.decoder.0.cross_attention.key.weight";
        [name, "text.decoder.output_norm.weight"]
            .map(|name| file.tensor(name).unwrap().dtype())
            .to_vec()
    };
    assert_eq!(elements(Precision::Fp16), [Dtype::F16, Dtype::F32]);
    assert_eq!(elements(Precision::Int8), [Dtype::I8, Dtype::F32]);
}

/// No two products of a weight and an input of 8 bits overflow 16 bits, whatever the processor.
#[test]
fn whole_numbers_have_seven_bits() {
    let bytes = fs::read(trained(Precision::Int8).path(files::WEIGHTS)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let quantised: Vec<_> = file.iter().filter(|(_, tensor)| tensor.dtype() == Dtype::I8).collect();
    assert!(quantised.len() > 30, "{}", quantised.len());
    for (name, tensor) in quantised {
        let steps = tensor.data().iter().map(|byte| byte.cast_signed());
        assert_eq!(steps.map(i8::unsigned_abs).max(), Some(63), "{name}");
        let scale = file.tensor(&format!("{name}.scale")).unwrap();
        assert_eq!(scale.shape(), &tensor.shape()[1..], "{name}");
    }
}

#[test]
fn plain_operators_quantise_alike() {
    let mut manifest = presets::tiny();
    manifest.precision = Precision::Int8;
    let weights = Seeded::new(&manifest, 3);
    let tokenizer = fs::read(golden("vid2seq-tiny/spiece.model")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let logits = [Style::Fused, Style::Portable].map(|style| {
        let place = folder.path().join(format!("{style:?}"));
        Draft::write(&place, &manifest, &weights, &tokenizer, style).unwrap().publish().unwrap();
        let mut model = load(&Bundle::open(&place).unwrap());
        let window = WindowInput { features: None, input_ids: Some(vec![5, 6, 7, 1]) };
        model.teacher_forced(&window, &[9, 8, 7], &|| false).unwrap()
    });
    let most = logits[0].iter().fold(0.0_f32, |most, logit| most.max(logit.abs()));
    let apart = logits[0].iter().zip(&logits[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // An input on the edge between two steps may fall to either side.
    assert!(most > 0.1 && apart < 0.02 * most, "{apart} of {most}");
}

#[rstest]
fn a_bundle_says_of_its_clip_what_it_said(
    #[values(Precision::Fp32, Precision::Fp16, Precision::Int8)] precision: Precision,
) {
    let bundle = trained(precision);
    let expected = Expected::of(&bundle).unwrap().unwrap();
    assert!(expected.greedy.tokens.len() > 1 && expected.hypotheses.len() == 4, "{expected:?}");
    let size = fs::metadata(bundle.path(files::GOLDEN_CLIP)).unwrap().len();
    assert!(size < 200_000, "{size}");
    let worst = verify(&bundle, &mut load(&bundle)).unwrap();
    assert!(worst.unwrap() < 1e-3, "{worst:?}");
}

#[test]
fn another_model_is_told_by_the_clip() {
    let bundle = trained(Precision::Fp32);
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("other");
    let tokenizer = fs::read(bundle.path(files::TOKENIZER)).unwrap();
    let weights = Weights::read(&bundle.path(files::WEIGHTS)).unwrap();
    let mut others = weights.clone();
    // A decoder whose cross-attention looks at what another layer looks for.
    let swapped = |layer| format!("text.decoder.{layer}.cross_attention.query.weight");
    for (from, to) in [(0, 1), (1, 0)] {
        others.insert(swapped(to), weights.get(&swapped(from)).unwrap().clone());
    }
    let mut draft =
        Draft::write(&place, bundle.manifest(), &others, &tokenizer, Style::default()).unwrap();
    draft.add_golden(&runtime()).unwrap();
    draft.publish().unwrap();
    let other = Bundle::open(&place).unwrap();
    let error = verify(&bundle, &mut load(&other)).unwrap_err();
    assert!(matches!(error, eventide_model::Error::Golden { .. }), "{error}");
    verify(&other, &mut load(&other)).unwrap();
}

#[test]
fn only_full_precision_is_converted() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("again");
    for (from, to) in [(Precision::Int8, Precision::Fp16), (Precision::Fp32, Precision::Fp32)] {
        let error = convert(&trained(from), to, &place, &runtime()).unwrap_err();
        assert!(matches!(error, Error::Precision { .. }), "{error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_clip_that_is_gone_is_named() {
    let bundle = trained(Precision::Fp32);
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("copy");
    fs::create_dir_all(place.join("golden")).unwrap();
    for name in bundle.manifest().files.keys().map(String::as_str).chain([files::MANIFEST]) {
        fs::copy(bundle.path(name), place.join(name)).unwrap();
    }
    let copy = Bundle::open(&place).unwrap();
    let mut model = load(&copy);
    fs::remove_file(copy.path(files::GOLDEN_CLIP)).unwrap();
    let error = verify(&copy, &mut model).unwrap_err();
    let path = copy.path(files::GOLDEN_CLIP);
    assert!(
        matches!(&error, eventide_model::Error::Read { path: named, .. } if *named == path),
        "{error}"
    );
}
