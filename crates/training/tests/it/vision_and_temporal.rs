//! The vision encoder against `OpenAI`'s CLIP, the temporal encoder against `VidChapters`.

use eventide_model::manifest::files;
use eventide_training::Style;
use ndarray::{ArrayD, Axis};
use rstest::rstest;

use crate::support::{Bundle, Expected, TOLERANCE, assert_close, run, tensor};

#[rstest]
fn pictures_become_the_features_of_clip(#[values(Style::Fused, Style::Portable)] style: Style) {
    let bundle = Bundle::of_parts("t5-v1_0-tiny", style);
    let expected = Expected::open("clip-vision-tiny/expected.safetensors");
    let images = expected.bytes("images");
    let mut session = bundle.session(files::VISION);
    let together = run(&mut session, &[("frames", &tensor(&images))], "features");
    assert_close(&together, &expected.floats("output"), TOLERANCE);

    let third = images.select(Axis(0), &[2]);
    let alone = run(&mut session, &[("frames", &tensor(&third))], "features");
    assert_close(&alone, &together.select(Axis(0), &[2]), 1e-5);
}

#[rstest]
#[case::rows_of_zeros("input", "output")]
#[case::only_zeros("input_zero", "output_zero")]
fn features_become_the_memory_of_the_reference(
    #[case] input: &str,
    #[case] output: &str,
    #[values(Style::Fused, Style::Portable)] style: Style,
) {
    let bundle = Bundle::of_parts("t5-v1_0-tiny", style);
    let expected = Expected::open("temporal-tiny/expected.safetensors");
    let features = tensor(&expected.floats(input));
    let mut session = bundle.session(files::TEMPORAL);
    let memory = run(&mut session, &[("features", &features)], "memory");
    assert_close(&memory, &expected.floats(output), TOLERANCE);
}

#[test]
fn another_number_of_frames_is_refused() {
    let bundle = Bundle::of_parts("t5-v1_0-tiny", Style::Fused);
    let features = tensor(&ArrayD::<f32>::zeros(&[1, 40, 64][..]));
    let error = bundle.session(files::TEMPORAL).run(&[("features", &features)]).unwrap_err();
    assert!(error.to_string().contains("temporal.onnx"), "{error}");
}
