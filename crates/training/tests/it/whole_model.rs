//! The whole model from a released layout, and forms that no golden model has.

use eventide_model::manifest::{FeedForward, Gelu, Manifest, T5, Temporal, files};
use eventide_training::{
    Style,
    checkpoint::Checkpoint,
    import::{Given, import},
    presets,
    seeded::seeded,
    weights::Weights,
};
use ndarray::{Array2, ArrayD, Axis, concatenate, s};
use rstest::rstest;

use crate::support::{
    Bundle, Decoder, Expected, TOLERANCE, assert_close, encode, golden, run, tensor,
};

/// The golden model.
pub(crate) fn trained_weights() -> (Manifest, Weights) {
    let open = |name: &str| Checkpoint::read(&golden(&format!("vid2seq-tiny/{name}"))).unwrap();
    let given = Given { temporal_heads: 4, ..Given::default() };
    let (sizes, weights) = import(&open("checkpoint.pth"), &open("clip.pt"), &given).unwrap();
    let manifest = Manifest {
        trained: true,
        vision: sizes.vision,
        temporal: sizes.temporal,
        t5: sizes.t5,
        ..presets::tiny()
    };
    (manifest, weights)
}

fn trained(style: Style) -> Bundle {
    let (manifest, weights) = trained_weights();
    Bundle::write(manifest, &weights, style)
}

#[rstest]
fn a_video_with_speech_gives_the_logits_of_the_reference(
    #[values("video_and_speech", "batch_of_3", "empty_speech", "short_video_zero_padded")]
    case: &str,
    #[values(Style::Fused, Style::Portable)] style: Style,
) {
    let bundle = trained(style);
    let expected = Expected::open(&format!("vid2seq-tiny/case_{case}.safetensors"));
    let video = tensor(&expected.floats("video"));
    let mut temporal = bundle.session(files::TEMPORAL);
    let visual = run(&mut temporal, &[("features", &video)], "memory");
    assert_close(&visual, &expected.floats("visual_memory"), TOLERANCE);

    let ids = expected.ids("input_ids");
    let heard = ids.mapv(|id| i64::from(id != 0));
    let text = encode(&bundle, &ids, &heard);
    let memory = concatenate(Axis(1), &[visual.view(), text.view()]).unwrap();
    let seen = Array2::ones((ids.nrows(), visual.shape()[1]));
    let mask = concatenate(Axis(1), &[seen.view(), heard.view()]).unwrap();

    let targets = expected.ids("target_ids");
    let mut tokens = Array2::zeros(targets.dim());
    tokens.slice_mut(s![.., 1..]).assign(&targets.slice(s![.., ..-1]));
    let logits = Decoder::start(&bundle, &memory, &mask, 1).teach(&tokens);
    assert_close(&logits, &expected.floats("teacher_forced_logits"), TOLERANCE);
}

#[rstest]
fn half_precision_clip_gives_its_features(#[values(Style::Fused, Style::Portable)] style: Style) {
    let bundle = trained(style);
    let expected = Expected::open("vid2seq-tiny/frames.safetensors");
    let frames = tensor(&expected.bytes("frames"));
    let features = run(&mut bundle.session(files::VISION), &[("frames", &frames)], "features");
    assert_close(&features, &expected.floats("features"), TOLERANCE);
}

/// A projection between two widths, tanh GELU, heads that do not fill the width, three layers here
/// and one there: nothing that a golden model has.
pub(crate) fn odd() -> Manifest {
    let tiny = presets::tiny();
    Manifest {
        temporal: Temporal { activation: Gelu::Tanh, projection: true, ..tiny.temporal },
        t5: T5 {
            d_model: 48,
            d_kv: 24,
            heads: 3,
            encoder_layers: 1,
            decoder_layers: 3,
            feed_forward: FeedForward::GatedGelu,
            tied: false,
            ..tiny.t5
        },
        ..tiny
    }
}

/// Everything that a model computes, on made-up inputs.
fn outputs(bundle: &Bundle) -> Vec<ArrayD<f32>> {
    let frames = ArrayD::from_shape_fn(&[2, 56, 56, 3][..], |index| {
        u8::try_from((index[0] * 31 + index[1] * 7 + index[2] * 3 + index[3]) % 256).unwrap()
    });
    let frames = tensor(&frames);
    let features = run(&mut bundle.session(files::VISION), &[("frames", &frames)], "features");
    let mut video = ArrayD::zeros(&[1, 100, 64][..]);
    video.slice_mut(s![0, ..2, ..]).assign(&features);
    let video = tensor(&video);
    let memory = run(&mut bundle.session(files::TEMPORAL), &[("features", &video)], "memory");
    let ids = Array2::from_shape_fn((1, 12), |(_, position)| 3 + i64::try_from(position).unwrap());
    let text = encode(bundle, &ids, &Array2::ones((1, 12)));
    let whole = concatenate(Axis(1), &[memory.view(), text.view()]).unwrap();
    let mut decoder = Decoder::start(bundle, &whole, &Array2::ones((1, 112)), 1);
    let logits = decoder.teach(&ids);
    vec![features, memory, text, logits]
}

#[rstest]
#[case::tiny(presets::tiny())]
#[case::odd(odd())]
fn both_styles_compute_the_same(#[case] manifest: Manifest) {
    let weights = seeded(&manifest, 7);
    let [fused, portable] = [Style::Fused, Style::Portable]
        .map(|style| outputs(&Bundle::write(manifest.clone(), &weights, style)));
    for (fused, portable) in fused.iter().zip(&portable) {
        assert!(portable.iter().any(|value| value.abs() > 1e-3), "all but zero");
        let most = portable.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
        assert_close(fused, portable, TOLERANCE * most);
    }
}
