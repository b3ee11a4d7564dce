//! The network in training against the golden numbers, and against the graphs that its weights end up in.

use burn::tensor::{Device, Tensor, TensorData};
use eventide_model::manifest::{Manifest, files};
use eventide_training::{
    Style,
    contrast::patches,
    data::batch::delayed,
    dropout::Dropout,
    network::Network,
    objective::cross_entropy,
    parameters::{Parameters, floats},
    presets,
    seeded::seeded,
    weights::Weights,
};
use ndarray::{Array2, ArrayD, Axis, IxDyn, concatenate};
use rstest::rstest;
use serde_json::Value;

use crate::{
    support::{Bundle, Decoder, Expected, TOLERANCE, assert_close, encode, golden, run, tensor},
    whole_model::{odd, trained_weights},
};

fn device() -> Device {
    Device::flex().autodiff()
}

fn burn<const D: usize>(array: &ArrayD<f32>) -> Tensor<D> {
    let values: Vec<f32> = array.iter().copied().collect();
    Tensor::from_data(TensorData::new(values, array.shape().to_vec()), &device())
}

fn plain<const D: usize>(tensor: Tensor<D>) -> ArrayD<f32> {
    let shape = tensor.dims();
    ArrayD::from_shape_vec(IxDyn(&shape), floats(tensor)).unwrap()
}

struct Outputs {
    visual: ArrayD<f32>,
    text: ArrayD<f32>,
    logits: ArrayD<f32>,
    loss: f32,
}

/// What the network makes of a window.
fn outputs(
    manifest: &Manifest,
    weights: &Weights,
    video: &ArrayD<f32>,
    [ids, targets]: [&Array2<i64>; 2],
) -> Outputs {
    let parameters = Parameters::new(weights, &device());
    let mut network = Network::new(manifest, &parameters, &device(), Dropout::none());
    let visual = network.temporal(burn(video));
    let text = network.text(ids);
    let memory = network.memory(Some(visual.clone()), Some((text.clone(), ids)));
    let logits = network.decode(&delayed(targets, 0), &memory);
    let loss = floats(cross_entropy(logits.clone(), targets, 0, 0.1));
    let (count, length) = targets.dim();
    let vocabulary = logits.dims()[1];
    let logits = logits.reshape([count, length, vocabulary]);
    Outputs { visual: plain(visual), text: plain(text), logits: plain(logits), loss: loss[0] }
}

#[rstest]
fn a_video_with_speech_gives_the_logits_and_the_loss_of_the_reference(
    #[values("video_and_speech", "batch_of_3", "empty_speech", "short_video_zero_padded")]
    case: &str,
) {
    let (manifest, weights) = trained_weights();
    let expected = Expected::open(&format!("vid2seq-tiny/case_{case}.safetensors"));
    let [ids, targets] = ["input_ids", "target_ids"].map(|name| expected.ids(name));
    let found = outputs(&manifest, &weights, &expected.floats("video"), [&ids, &targets]);
    assert_close(&found.visual, &expected.floats("visual_memory"), TOLERANCE);
    assert_close(&found.logits, &expected.floats("teacher_forced_logits"), TOLERANCE);

    let cases = std::fs::read(golden("vid2seq-tiny/cases.json")).unwrap();
    let cases: Value = serde_json::from_slice(&cases).unwrap();
    let all = cases["cases"].as_array().unwrap();
    let told = all.iter().find(|told| told["name"] == case).unwrap();
    let loss = told["loss_label_smoothing_0.1"].as_f64().unwrap();
    assert!((f64::from(found.loss) - loss).abs() < 1e-5, "{} is not {loss}", found.loss);
}

#[test]
fn pictures_give_the_features_of_clip() {
    let (manifest, weights) = trained_weights();
    let expected = Expected::open("vid2seq-tiny/frames.safetensors");
    let frames = expected.bytes("frames");
    let pictures: Vec<Vec<u8>> =
        frames.axis_iter(Axis(0)).map(|picture| picture.iter().copied().collect()).collect();
    let pictures: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
    let patches = patches(&manifest.vision, &pictures, || [1.0, 0.0], &device());
    let parameters = Parameters::new(&weights, &device());
    let mut network = Network::new(&manifest, &parameters, &device(), Dropout::none());
    assert_close(&plain(network.vision(patches)), &expected.floats("features"), TOLERANCE);
}

#[rstest]
#[case::tiny(presets::tiny())]
#[case::odd(odd())]
fn the_graphs_compute_what_was_trained(#[case] manifest: Manifest) {
    let weights = seeded(&manifest, 11);
    let video = ArrayD::from_shape_fn(IxDyn(&[2, 100, 64]), |index| {
        f32::from(u8::try_from((index[0] * 31 + index[1] * 7 + index[2] * 3) % 64).unwrap()) / 32.0
            - 1.0
    });
    let id =
        |row: usize, position: usize| i64::try_from(3 + (row * 7 + position * 5) % 150).unwrap();
    let ids = Array2::from_shape_fn((2, 20), |(row, position)| {
        if row == 1 && position > 11 { 0 } else { id(row, position) }
    });
    let targets = Array2::from_shape_fn((2, 15), |(row, position)| id(row + 3, position));
    let found = outputs(&manifest, &weights, &video, [&ids, &targets]);

    let bundle = Bundle::write(manifest, &weights, Style::Fused);
    let mut temporal = bundle.session(files::TEMPORAL);
    let visual = run(&mut temporal, &[("features", &tensor(&video))], "memory");
    let most =
        |array: &ArrayD<f32>| array.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
    assert_close(&found.visual, &visual, TOLERANCE * most(&visual));
    let heard = ids.mapv(|id| i64::from(id != 0));
    let text = encode(&bundle, &ids, &heard);
    let first = text.index_axis(Axis(0), 0).to_owned();
    assert_close(&found.text.index_axis(Axis(0), 0).to_owned(), &first, TOLERANCE * most(&text));
    let memory = concatenate(Axis(1), &[visual.view(), text.view()]).unwrap();
    let mask = concatenate(Axis(1), &[Array2::ones((2, 100)).view(), heard.view()]).unwrap();
    let logits = Decoder::start(&bundle, &memory, &mask, 1).teach(&delayed(&targets, 0));
    assert_close(&found.logits, &logits, TOLERANCE * most(&logits));
}

/// The loss of the golden case with one weight changed by `by`.
fn loss_with(manifest: &Manifest, weights: &Weights, name: &str, at: usize, by: f32) -> f64 {
    let expected = Expected::open("vid2seq-tiny/case_video_and_speech.safetensors");
    let mut changed = weights.clone();
    let weight = weights.get(name).unwrap();
    let mut values = weight.values().to_vec();
    values[at] += by;
    let weight = eventide_training::weights::Weight::new(weight.shape().to_vec(), values).unwrap();
    changed.insert(name.to_owned(), weight);
    let [ids, targets] = ["input_ids", "target_ids"].map(|name| expected.ids(name));
    f64::from(outputs(manifest, &changed, &expected.floats("video"), [&ids, &targets]).loss)
}

#[rstest]
#[case("temporal.position_embedding")]
#[case("temporal.0.attention.query_key_value.weight")]
#[case("temporal.0.feed_forward_norm.bias")]
#[case("text.embedding.weight")]
#[case("text.encoder.relative_bias.weight")]
#[case("text.encoder.0.attention.key.weight")]
#[case("text.decoder.0.cross_attention.query.weight")]
#[case("text.decoder.1.feed_forward.input.weight")]
#[case("text.decoder.output_norm.weight")]
fn gradients_are_those_of_finite_differences(#[case] name: &str) {
    let (manifest, weights) = trained_weights();
    let expected = Expected::open("vid2seq-tiny/case_video_and_speech.safetensors");
    let parameters = Parameters::new(&weights, &device());
    let mut network = Network::new(&manifest, &parameters, &device(), Dropout::none());
    let visual = network.temporal(burn(&expected.floats("video")));
    let [ids, targets] = ["input_ids", "target_ids"].map(|name| expected.ids(name));
    let text = network.text(&ids);
    let memory = network.memory(Some(visual), Some((text, &ids)));
    let logits = network.decode(&delayed(&targets, 0), &memory);
    let gradients = cross_entropy(logits, &targets, 0, 0.1).backward();
    let gradient: Vec<f32> = if weights.get(name).unwrap().shape().len() == 1 {
        floats(parameters.vector(name).grad(&gradients).unwrap())
    } else {
        floats(parameters.matrix(name).grad(&gradients).unwrap())
    };
    // The largest ones, where a finite difference says most.
    let mut places: Vec<usize> = (0..gradient.len()).collect();
    places.sort_by(|&a, &b| gradient[b].abs().total_cmp(&gradient[a].abs()));
    for &at in &places[..3] {
        let step = 5e-3;
        let difference = (loss_with(&manifest, &weights, name, at, step)
            - loss_with(&manifest, &weights, name, at, -step))
            / f64::from(2.0 * step);
        let slope = f64::from(gradient[at]);
        let close = (slope - difference).abs() < 2e-3 + 0.03 * slope.abs();
        assert!(close && slope != 0.0, "{name}[{at}]: {slope} is not {difference}");
    }
}
