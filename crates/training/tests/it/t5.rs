//! T5 of versions 1.0 and 1.1 against transformers.

use eventide_model::manifest::{FeedForward, files};
use eventide_training::Style;
use ndarray::{Array1, Array2, ArrayD, Axis, concatenate};
use rstest::rstest;

use crate::support::{Bundle, Decoder, Expected, TOLERANCE, assert_close, encode, tensor};

const CASES: [&str; 8] =
    ["len1", "len2", "len7", "len33", "len150", "len300", "batch", "all_masked"];

/// Zeroes what lies at padded positions: the reference puts anything there.
fn masked(memory: ArrayD<f32>, mask: &Array2<i64>) -> ArrayD<f32> {
    let mask = mask.mapv(|present| if present == 1 { 1.0 } else { 0.0 }).insert_axis(Axis(2));
    memory * mask
}

#[rstest]
fn texts_are_encoded_as_by_the_reference(
    #[values("t5-v1_0-tiny", "t5-v1_1-tiny")] form: &str,
    #[values(Style::Fused, Style::Portable)] style: Style,
) {
    let bundle = Bundle::of_parts(form, style);
    let expected = Expected::open(&format!("{form}/expected.safetensors"));
    for case in CASES {
        let ids = expected.ids(&format!("{case}.input_ids"));
        let mask = expected.ids(&format!("{case}.attention_mask"));
        let memory = encode(&bundle, &ids, &mask);
        let reference = expected.floats(&format!("{case}.encoder_output"));
        if case == "all_masked" {
            assert_close(&memory, &reference, TOLERANCE);
        }
        assert_close(&masked(memory, &mask), &masked(reference, &mask), TOLERANCE);
    }
}

#[rstest]
fn one_token_at_a_time_gives_the_logits_of_all_at_once(
    #[values("t5-v1_0-tiny", "t5-v1_1-tiny")] form: &str,
    #[values(Style::Fused, Style::Portable)] style: Style,
) {
    let bundle = Bundle::of_parts(form, style);
    let expected = Expected::open(&format!("{form}/expected.safetensors"));
    for case in CASES {
        let mask = expected.ids(&format!("{case}.attention_mask"));
        let memory = encode(&bundle, &expected.ids(&format!("{case}.input_ids")), &mask);
        let mut decoder = Decoder::start(&bundle, &memory, &mask, 1);
        let logits = decoder.teach(&expected.ids(&format!("{case}.decoder_input_ids")));
        assert_close(&logits, &expected.floats(&format!("{case}.decoder_logits")), TOLERANCE);
    }
}

#[rstest]
fn caches_are_those_of_the_reference(
    #[values("t5-v1_0-tiny", "t5-v1_1-tiny")] form: &str,
    #[values(Style::Fused, Style::Portable)] style: Style,
    #[values(false, true)] on_device: bool,
) {
    let bundle = Bundle::of_parts(form, style);
    let expected = Expected::open(&format!("{form}/expected.safetensors"));
    for case in ["len33", "batch"] {
        let mask = expected.ids(&format!("{case}.attention_mask"));
        let memory = encode(&bundle, &expected.ids(&format!("{case}.input_ids")), &mask);
        let mut decoder = Decoder::start(&bundle, &memory, &mask, 1);
        if on_device {
            decoder.keep_on_device();
        }
        let logits = decoder.teach(&expected.ids(&format!("{case}.step_tokens")));
        assert_close(&logits, &expected.floats(&format!("{case}.step_logits")), TOLERANCE);
        for (ours, theirs) in [("past", "self"), ("cross", "cross")] {
            for part in ["key", "value"] {
                let name = format!("{case}.cache.layer0.{theirs}_{part}");
                if expected.has(&name) {
                    let cache = decoder.cache(&format!("{ours}_{part}_0"));
                    assert_close(&cache, &expected.floats(&name), TOLERANCE);
                }
            }
        }
    }
    assert!(expected.has("len33.cache.layer0.self_key"));
}

/// Each video has two beams that change places at every step. One of them follows the reference,
/// the other says something else, and must not be heard.
#[rstest]
fn beams_follow_their_own_past(
    #[values("t5-v1_0-tiny", "t5-v1_1-tiny")] form: &str,
    #[values(Style::Fused, Style::Portable)] style: Style,
) {
    let bundle = Bundle::of_parts(form, style);
    let expected = Expected::open(&format!("{form}/expected.safetensors"));
    let mask = expected.ids("batch.attention_mask");
    let memory = encode(&bundle, &expected.ids("batch.input_ids"), &mask);
    let tokens = expected.ids("batch.decoder_input_ids");
    let logits = expected.floats("batch.decoder_logits");
    let videos = tokens.nrows();
    let mut decoder = Decoder::start(&bundle, &memory, &mask, 2);
    for step in 0..tokens.ncols() {
        let place = step % 2;
        let mut said = Array2::from_elem((videos, 2), 7_i64);
        said.column_mut(place).assign(&tokens.column(step));
        let from = (0..videos).flat_map(|video| [2 * video + 1, 2 * video]);
        let from: Array1<i64> = from.map(|row| i64::try_from(row).unwrap()).collect();
        let found = decoder.step_from(Array1::from_iter(said), &from);
        let ours: Vec<usize> = (0..videos).map(|video| 2 * video + place).collect();
        let reference = logits.index_axis(Axis(1), step).to_owned();
        assert_close(&found.select(Axis(0), &ours), &reference, TOLERANCE);
    }
}

#[test]
fn forms_are_told_by_their_tensors() {
    let old = Bundle::of_parts("t5-v1_0-tiny", Style::Fused).manifest.t5;
    assert_eq!((old.feed_forward, old.tied, old.d_kv), (FeedForward::Relu, true, 16));
    let new = Bundle::of_parts("t5-v1_1-tiny", Style::Fused).manifest.t5;
    assert_eq!((new.feed_forward, new.tied, new.d_kv), (FeedForward::GatedGelu, false, 24));
}

#[rstest]
fn a_sequence_past_the_tables_is_refused(#[values(Style::Fused, Style::Portable)] style: Style) {
    let bundle = Bundle::of_parts("t5-v1_0-tiny", style);
    let length = bundle.manifest.text.max_input_tokens as usize + 1;
    let (ids, mask) = (Array2::<i64>::zeros((1, length)), Array2::<i64>::ones((1, length)));
    let (ids, mask) = (tensor(&ids), tensor(&mask));
    let mut session = bundle.session(files::TEXT_ENCODER);
    let error = session.run(&[("input_ids", &ids), ("attention_mask", &mask)]).unwrap_err();
    assert!(error.to_string().contains("text_encoder.onnx"), "{error}");

    let sizes = &bundle.manifest.t5;
    let shape = [1, sizes.heads as usize, 1024, sizes.d_kv as usize];
    let past = tensor(&ArrayD::<f32>::zeros(&shape[..]));
    let cross = tensor(&ArrayD::<f32>::zeros(&[1, shape[1], 5, shape[3]][..]));
    let token = tensor(&Array2::<i64>::zeros((1, 1)));
    let mask = tensor(&Array2::<i64>::ones((1, 5)));
    let row = tensor(&Array1::<i64>::zeros(1));
    let mut session = bundle.session(files::DECODER);
    let names = session.inputs().to_vec();
    let inputs: Vec<_> = names
        .iter()
        .map(|name| match name.as_str() {
            "tokens" => ("tokens", &token),
            "memory_mask" => ("memory_mask", &mask),
            "beam_index" => ("beam_index", &row),
            name if name.starts_with("cross") => (name, &cross),
            name => (name, &past),
        })
        .collect();
    assert!(session.run(&inputs).is_err());
}

/// What a row is batched with must not change its answer.
#[rstest]
fn a_row_does_not_depend_on_its_batch(#[values(Style::Fused, Style::Portable)] style: Style) {
    let bundle = Bundle::of_parts("t5-v1_0-tiny", style);
    let expected = Expected::open("t5-v1_0-tiny/expected.safetensors");
    let (ids, mask) = (expected.ids("batch.input_ids"), expected.ids("batch.attention_mask"));
    let together = masked(encode(&bundle, &ids, &mask), &mask);
    let alone: Vec<ArrayD<f32>> = (0..ids.nrows())
        .map(|row| {
            let (ids, mask) = (ids.select(Axis(0), &[row]), mask.select(Axis(0), &[row]));
            masked(encode(&bundle, &ids, &mask), &mask)
        })
        .collect();
    let alone = concatenate(Axis(0), &alone.iter().map(|memory| memory.view()).collect::<Vec<_>>())
        .unwrap();
    assert_close(&together, &alone, 1e-5);
}
