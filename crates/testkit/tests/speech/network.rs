//! The graphs of real Whispers against `CTranslate2`.

use std::fs;

use eventide_model::{
    manifest::Precision,
    runtime::{Runtime, SessionOptions},
    speech::{
        Network, Recogniser, RecognitionOptions, SpeechBundle, Whisper, golden as golden_sound,
        mel::LogMel,
    },
};
use eventide_testkit::{tools, whisper};
use eventide_training::{
    Style,
    weights::{Weight, Weights},
    whisper::{WhisperRelease, whisper_tensors},
};
use ndarray::{Array2, Axis};
use rstest::rstest;
use serde_json::json;
use tempfile::TempDir;

use crate::sound::{floats, golden, recording, worst};

const TOLERANCE: f32 = 1e-4;

fn step(value: &serde_json::Value) -> usize {
    usize::try_from(value["step"].as_u64().unwrap()).unwrap()
}

#[test]
fn pictures_are_those_of_the_reference() {
    let golden = golden("base");
    let sound = recording("beckett.wav");
    let sound = &sound[..sound.len().min(160_000)];
    assert!(worst(sound.iter(), 9973, &floats(&golden["sound"])) < 1e-4);
    for (bands, name) in [(80, "mel"), (128, "mel_128")] {
        let picture = LogMel::new(bands).picture(sound, 3000);
        let expected = &golden[name];
        let worst = worst(picture.iter(), step(expected), &floats(&expected["values"]));
        assert!(worst < TOLERANCE, "{name} differs by {worst}");
    }
}

#[rstest]
fn graphs_say_what_the_reference_says(
    #[values((whisper::Size::Base, "base"), (whisper::Size::TinyEnglish, "tiny-en"))] of: (
        whisper::Size,
        &str,
    ),
    #[values(Style::Fused, Style::Portable)] style: Style,
) {
    let (size, name) = of;
    let (tools, folder, golden) = (tools().unwrap(), TempDir::new().unwrap(), golden(name));
    let place = folder.path().join("bundle");
    whisper::bundle(&tools, size, &place, style).unwrap();
    let bundle = SpeechBundle::open(&place).unwrap();
    let runtime = Runtime::load(&tools.onnx_runtime().unwrap()).unwrap();
    let options = SessionOptions { threads: 1, ..SessionOptions::default() };
    let mut network = Network::load(&bundle, &runtime, &options).unwrap();
    let sound = recording("beckett.wav");
    let picture = LogMel::new(80).picture(&sound[..sound.len().min(160_000)], 3000);
    let pictures = picture.insert_axis(Axis(0));

    let memory = network.memory(&pictures).unwrap();
    let expected = &golden["memory"];
    let off = worst(memory.iter(), step(expected), &floats(&expected["values"]));
    println!("{name} {style:?}: memory differs by {off}");
    assert!(off < TOLERANCE, "memory differs by {off}");

    let cross = network.encode(&pictures).unwrap();
    let read: Vec<i64> = ["prompt", "tokens"]
        .into_iter()
        .flat_map(|part| serde_json::from_value::<Vec<i64>>(golden[part].clone()).unwrap())
        .collect();
    let prompt = golden["prompt"].as_array().unwrap().len();
    let mut past = network.start(vec![0]).unwrap();
    let expected = &golden["logits"];
    let (mut from, mut worst_logit) = (0, 0.0_f32);
    for (index, row) in expected["values"].as_array().unwrap().iter().enumerate() {
        let tokens =
            Array2::from_shape_vec((1, prompt + index - from), read[from..prompt + index].to_vec());
        from = prompt + index;
        let logits = network.read(&cross, &mut past, &tokens.unwrap(), &[0]).unwrap();
        let view = logits.view::<f32>().unwrap();
        let best = (0..view.len()).max_by(|a, b| view[[0, *a]].total_cmp(&view[[0, *b]])).unwrap();
        if let Some(next) = read.get(from) {
            assert_eq!(i64::try_from(best).unwrap(), *next);
        }
        worst_logit = worst_logit.max(worst(view.iter(), step(expected), &floats(row)));
    }
    println!("{name} {style:?}: logits differ by {worst_logit}");
    assert!(worst_logit < 2.0 * TOLERANCE, "logits differ by {worst_logit}");

    let golden_tokens: Vec<i64> = serde_json::from_value(golden["tokens"].clone()).unwrap();
    let tokens = &bundle.manifest().tokens;
    let mut read = tokens.prompt("en");
    read.push(i64::from(tokens.no_timestamps));
    read.extend(golden_tokens);
    read.push(i64::from(tokens.end));
    let all = Array2::from_shape_vec((1, read.len()), read).unwrap();
    let scores = network.align(&cross, &all).unwrap();
    let heads = bundle.manifest().whisper.alignment_heads.len();
    assert_eq!(scores.dim(), (1, heads, all.ncols(), 1500));
    assert!(scores.iter().all(|score| score.is_finite()));
}

/// The form of the largest Whisper, made small: 128 bands, and an encoder that is not like the decoder.
const LARGE: Whisper = Whisper {
    mel_bands: 128,
    audio_positions: 1500,
    text_positions: 448,
    width: 48,
    encoder_layers: 3,
    encoder_heads: 4,
    encoder_mlp: 80,
    decoder_layers: 2,
    decoder_heads: 3,
    decoder_mlp: 96,
    vocab_size: 51_865,
    layer_norm_eps: 1e-5,
    alignment_heads: Vec::new(),
};

#[test]
fn a_whisper_of_any_size_becomes_a_bundle() {
    let (tools, folder) = (tools().unwrap(), TempDir::new().unwrap());
    let sizes = Whisper { alignment_heads: vec![[0, 2], [1, 0]], ..LARGE };
    // The tokens are those of the real ones.
    whisper::release(&tools, whisper::Size::Base, folder.path()).unwrap();
    let config = json!({
        "num_mel_bins": sizes.mel_bands,
        "max_source_positions": sizes.audio_positions,
        "max_target_positions": sizes.text_positions,
        "d_model": sizes.width,
        "encoder_layers": sizes.encoder_layers,
        "encoder_attention_heads": sizes.encoder_heads,
        "encoder_ffn_dim": sizes.encoder_mlp,
        "decoder_layers": sizes.decoder_layers,
        "decoder_attention_heads": sizes.decoder_heads,
        "decoder_ffn_dim": sizes.decoder_mlp,
        "vocab_size": sizes.vocab_size,
        "activation_function": "gelu",
    });
    let generation = json!({ "alignment_heads": sizes.alignment_heads, "is_multilingual": true });
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    fs::write(folder.path().join("generation_config.json"), generation.to_string()).unwrap();
    let mut random = 1_u64;
    let mut weights = Weights::default();
    for tensor in whisper_tensors(&sizes) {
        let values = (0..tensor.source_shape.iter().product()).map(|_| {
            random = eventide_testkit::scrambled(random);
            (f32::from(u16::try_from(random >> 48).unwrap()) / 65_536.0 - 0.5) * 0.2
        });
        let weight = Weight::new(tensor.source_shape.clone(), values.collect()).unwrap();
        weights.insert(tensor.source, weight);
    }
    weights.write(&folder.path().join("model.safetensors")).unwrap();

    let release = WhisperRelease {
        folder: folder.path().to_owned(),
        voice: tools.voice_detector().unwrap(),
        model_id: "random".to_owned(),
        licence: "Apache-2.0".to_owned(),
    };
    let runtime = Runtime::load(&tools.onnx_runtime().unwrap()).unwrap();
    let place = folder.path().join("bundle");
    release.import(&place, Style::default(), Precision::Fp32, &runtime).unwrap();
    let bundle = SpeechBundle::open(&place).unwrap();
    assert_eq!(bundle.manifest().whisper, sizes);
    assert!(bundle.manifest().tokens.languages.contains_key("ja"));
    let session = SessionOptions { threads: 1, ..SessionOptions::default() };
    let options = RecognitionOptions::default();
    let mut recogniser = Recogniser::load(&bundle, &runtime, &session, options).unwrap();
    assert!(golden_sound::verify(&bundle, &mut recogniser).unwrap().is_some());
}
