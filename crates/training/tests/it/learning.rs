//! Steps of training: losses fall, a resumed run is the run that was never stopped, what cannot be learnt from is refused.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc};

use burn::tensor::{Device, Tensor, TensorData};
use eventide_model::{
    Bundle, Tokenizer, Vid2Seq,
    input::{input_ids, target_ids},
    manifest::{Decoding, Manifest},
    runtime::SessionOptions,
    vid2seq::WindowInput,
};
use eventide_schema::{Cue, TimeSpan};
use eventide_training::{
    Error, Style,
    contrast::{self, Captioned, Contrast},
    data::{
        Example,
        batch::{delayed, features as batched},
        cache::{Features, Rows},
    },
    dropout::Dropout,
    network::{Memory, Network},
    optimiser::Schedule,
    parameters::{Parameters, floats},
    presets,
    seeded::seeded,
    synth::{Recipe, draw::Painter, looks::Split, scene::phrases},
    trainer::{Sample, Settings, Shown, Task, Trainer},
    validation::predict_sentences,
    weights::Weights,
};
use half::f16;
use ndarray::{Array2, ArrayD, Ix3, IxDyn};

use crate::{
    support::{self, Expected, TOLERANCE, assert_close, golden, runtime},
    whole_model::trained_weights,
};

const BOTH: Shown = Shown { video: true, speech: true };

fn tokenizer(manifest: &Manifest) -> Tokenizer {
    let model = fs::read(golden("vid2seq-tiny/spiece.model")).unwrap();
    Tokenizer::new(&model, manifest).unwrap()
}

/// Twenty seconds of the same.
fn features(value: f32) -> Arc<Features> {
    let slots: Vec<usize> = (0..20).collect();
    let values = Array2::from_elem((20, 64), f16::from_f32(value));
    Arc::new(Rows { values, wanted: slots.clone(), slots, duration_us: 20_000_000 })
}

/// Videos whose first feature says which of two captions is right.
fn samples() -> Vec<Sample> {
    let cue = |from: i64, to: i64, text: &str| Cue {
        span: TimeSpan::new(from * 1_000_000, to * 1_000_000),
        text: text.to_owned(),
    };
    let sample = |number: i64| {
        let sign = if number % 2 == 0 { 1.0 } else { -1.0 };
        let told = if number % 2 == 0 { "Cut the onion." } else { "Serve." };
        let example = Example {
            video_id: number.to_string(),
            file: PathBuf::new(),
            span: TimeSpan::new(0, 20_000_000),
            speech: vec![cue(2, 4, "now look at this")],
            references: vec![vec![cue(1 + number % 3, 10, told), cue(11, 19, told)]],
        };
        Sample { example, features: features(sign) }
    };
    (0..8).map(sample).collect()
}

fn settings(tasks: &[Task], steps: u32) -> Settings {
    Settings {
        tasks: tasks.to_vec(),
        shown: BOTH,
        schedule: Schedule { peak: 2e-3, warm_up: 3, steps },
        batch: 4,
        accumulate: 2,
        beta_2: 0.98,
        clip: 1.0,
        smoothing: 0.1,
        dropout: 0.1,
        crop: 0.5,
        seed: 5,
    }
}

fn small() -> (Manifest, Weights) {
    let manifest = presets::tiny();
    let weights = seeded(&manifest, 3);
    (manifest, weights)
}

#[test]
fn losses_fall() {
    let (manifest, weights) = small();
    let tokenizer = tokenizer(&manifest);
    let settings = settings(&[Task::Events, Task::Denoising], 40);
    let mut trainer = Trainer::new(&manifest, &tokenizer, &weights, settings, &Device::flex());
    let losses: Vec<f32> = (0..40).map(|_| trainer.step(&samples()).unwrap().loss).collect();
    assert!(losses[39] < 0.6 * losses[0], "{} to {}", losses[0], losses[39]);
}

#[test]
fn sentences_of_the_transcript_bound_what_is_told_of_them() {
    let mut trained = Trained::new(80);
    let decoding = Decoding { beams: 1, ..trained.manifest.decoding.clone() };
    let told = predict_sentences(&mut trained.bundle, &samples(), BOTH, &decoding).unwrap();
    assert_eq!(told.len(), samples().len());
    let cues: Vec<&Cue> = told.iter().flatten().collect();
    assert!(!cues.is_empty());
    assert!(cues.iter().all(|cue| cue.span == TimeSpan::new(2_000_000, 4_000_000)), "{cues:?}");
    assert!(cues.iter().all(|cue| !cue.text.is_empty()), "{cues:?}");
}

#[test]
fn more_devices_learn_the_same() {
    let (manifest, weights) = small();
    let tokenizer = tokenizer(&manifest);
    let settings = Settings { accumulate: 3, ..settings(&[Task::Events, Task::Denoising], 4) };
    let learnt = |more: &[Device]| {
        let device = Device::flex();
        let trainer = Trainer::new(&manifest, &tokenizer, &weights, settings.clone(), &device);
        let mut trainer = trainer.also_on(more);
        let losses: Vec<f32> = (0..4).map(|_| trainer.step(&samples()).unwrap().loss).collect();
        (losses, trainer.learner().weights())
    };
    assert!(learnt(&[]) == learnt(&[Device::flex()]), "two devices learn something else than one");
}

/// A model that was trained for some steps, and the bundle that its weights end up in.
struct Trained {
    manifest: Manifest,
    parameters: Parameters,
    bundle: Vid2Seq,
}

impl Trained {
    fn new(steps: u32) -> Self {
        let (manifest, mut weights) = small();
        let tokenizer = tokenizer(&manifest);
        let settings = Settings { dropout: 0.0, crop: 0.0, ..settings(&[Task::Events], steps) };
        let device = Device::flex();
        let mut trainer = Trainer::new(&manifest, &tokenizer, &weights, settings, &device);
        for _ in 0..steps {
            trainer.step(&samples()).unwrap();
        }
        weights.extend(trainer.learner().weights());
        Self::of(manifest, &weights)
    }

    fn of(manifest: Manifest, weights: &Weights) -> Self {
        let written = support::Bundle::write(manifest.clone(), weights, Style::Fused);
        let bundle = Bundle::open(&written.path()).unwrap();
        let bundle = Vid2Seq::load(&bundle, &runtime(), &SessionOptions::default()).unwrap();
        let parameters = Parameters::new(weights, &Device::flex().autodiff());
        Self { manifest, parameters, bundle }
    }

    fn window(&self, sample: &Sample) -> WindowInput {
        let example = &sample.example;
        let ids = input_ids(self.bundle.tokenizer(), &example.speech, example.duration_us());
        let features = sample.seen(&self.manifest.frames);
        WindowInput { features: Some(features), input_ids: Some(ids.unwrap()) }
    }

    fn network(&self) -> Network<'_> {
        let device = Device::flex().autodiff();
        Network::new(&self.manifest, &self.parameters, &device, Dropout::none())
    }

    /// What the decoder of the network in training sees of a window.
    fn memory(&self, window: &WindowInput) -> Memory {
        let (mut network, device) = (self.network(), Device::flex().autodiff());
        let video = batched(&[window.features.clone().unwrap()], &self.manifest);
        let shape = video.shape().to_vec();
        let data = TensorData::new(video.into_raw_vec_and_offset().0, shape);
        let video = network.temporal(Tensor::from_data(data, &device));
        let ids = window.input_ids.clone().unwrap();
        let ids = Array2::from_shape_vec((1, ids.len()), ids).unwrap();
        let text = network.text(&ids);
        network.memory(Some(video), Some((text, &ids)))
    }

    /// Its logits `[tokens, vocabulary]` while it writes `tokens`.
    fn logits(&self, memory: &Memory, tokens: &[i64]) -> ArrayD<f32> {
        let tokens = Array2::from_shape_vec((1, tokens.len()), tokens.to_vec()).unwrap();
        let logits = self.network().decode(&delayed(&tokens, 0), memory);
        let shape = logits.dims();
        ArrayD::from_shape_vec(IxDyn(&shape), floats(logits)).unwrap()
    }

    /// What it writes if it always writes the likeliest token, the end included.
    fn written(&self, memory: &Memory) -> Vec<i64> {
        let mut tokens = vec![0];
        while tokens.len() <= self.manifest.decoding.max_output_tokens as usize {
            let logits = self.logits(memory, &tokens);
            let last = logits.index_axis(ndarray::Axis(0), tokens.len() - 1);
            let likeliest = last.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
            let token = i64::try_from(likeliest.unwrap().0).unwrap();
            // The last of them is not read, only what is before: it stands for the one to come.
            *tokens.last_mut().unwrap() = token;
            if token == 1 {
                return tokens;
            }
            tokens.push(0);
        }
        tokens.pop();
        tokens
    }
}

/// Fails unless the bundle sees, thinks and writes what the network does. What they write.
fn agreed(trained: &mut Trained, window: WindowInput, target: &[i64]) -> Vec<i64> {
    let memory = trained.memory(&window);
    let of_bundle = trained.bundle.encode(std::slice::from_ref(&window)).unwrap();
    let shape = memory.rows.dims();
    let rows = ArrayD::from_shape_vec(IxDyn(&shape), floats(memory.rows.clone())).unwrap();
    assert_close(&rows, &of_bundle.rows.into_dyn(), TOLERANCE);

    let logits = trained.bundle.teacher_forced(&window, target, &|| false).unwrap();
    let largest = logits.iter().fold(0.0_f32, |most, logit| most.max(logit.abs()));
    assert!((0.5..20.0).contains(&largest), "{largest} is no figure of about 1");
    assert_close(&trained.logits(&memory, target), &logits.into_dyn(), TOLERANCE);

    let decoding = Decoding { beams: 1, ..trained.manifest.decoding.clone() };
    let found = trained.bundle.generate(&[window], &decoding, &|| false).unwrap();
    let written = trained.written(&memory);
    assert_eq!(found[0][0].tokens, written);
    assert!(written.len() > 4, "next to nothing: {written:?}");
    written
}

#[test]
fn a_bundle_says_what_the_trained_network_says() {
    let mut trained = Trained::new(80);
    for sample in samples() {
        let (events, length) = (sample.example.events(), sample.example.duration_us());
        let target = target_ids(trained.bundle.tokenizer(), events, length, 256, None).unwrap();
        let window = trained.window(&sample);
        agreed(&mut trained, window, &target);
    }
}

/// The golden model has learnt to tell its inputs apart.
#[test]
fn a_bundle_says_what_the_network_of_the_reference_says() {
    let (manifest, weights) = trained_weights();
    let mut trained = Trained::of(manifest, &weights);
    let mut said = BTreeSet::new();
    for case in ["video_and_speech", "batch_of_3", "empty_speech", "short_video_zero_padded"] {
        let expected = Expected::open(&format!("vid2seq-tiny/case_{case}.safetensors"));
        let [ids, targets] = ["input_ids", "target_ids"].map(|name| expected.ids(name));
        let videos = expected.floats("video").into_dimensionality::<Ix3>().unwrap();
        for ((video, ids), target) in videos.outer_iter().zip(ids.rows()).zip(targets.rows()) {
            let window =
                WindowInput { features: Some(video.to_owned()), input_ids: Some(ids.to_vec()) };
            said.insert(agreed(&mut trained, window, &target.to_vec()));
        }
    }
    assert!(said.len() > 2, "the same of nearly every video: {said:?}");
}

#[test]
fn a_resumed_run_is_the_run_that_was_never_stopped() {
    let (manifest, weights) = small();
    let tokenizer = tokenizer(&manifest);
    let settings = settings(&[Task::Speech, Task::Denoising], 6);
    let begin = || Trainer::new(&manifest, &tokenizer, &weights, settings.clone(), &Device::flex());
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("last");

    let mut whole = begin();
    let through: Vec<f32> = (0..6).map(|_| whole.step(&samples()).unwrap().loss).collect();

    let mut first = begin();
    for _ in 0..2 {
        first.step(&samples()).unwrap();
        first.learner().save(&checkpoint).unwrap();
    }
    first.step(&samples()).unwrap();
    first.learner().save(&checkpoint).unwrap();
    let mut second = begin();
    second.learner_mut().resume(&checkpoint).unwrap();
    assert_eq!(second.learner().steps(), 3);
    let resumed: Vec<f32> = (0..3).map(|_| second.step(&samples()).unwrap().loss).collect();
    assert_eq!(resumed, through[3..]);
    assert_eq!(second.learner().weights(), whole.learner().weights());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_before_it_spoils_the_weights() {
    let (manifest, weights) = small();
    let tokenizer = tokenizer(&manifest);
    let settings = settings(&[Task::Events], 6);
    let mut trainer = Trainer::new(&manifest, &tokenizer, &weights, settings, &Device::flex());
    let mut broken = samples();
    for sample in &mut broken {
        sample.features = features(f32::NAN);
    }
    let before = trainer.learner().weights();
    let error = trainer.step(&broken).unwrap_err();
    assert!(matches!(error, Error::Diverged { step: 0, .. }), "{error}");
    assert_eq!(trainer.learner().weights(), before);
    let error = trainer.step(&[]).unwrap_err();
    assert!(matches!(error, Error::NoExamples), "{error}");
}

#[test]
fn a_checkpoint_of_another_model_is_refused() {
    let (manifest, weights) = small();
    let other = Manifest {
        t5: eventide_model::manifest::T5 { d_ff: 96, ..manifest.t5.clone() },
        ..manifest.clone()
    };
    let tokenizer = tokenizer(&manifest);
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("last");
    let begin = |manifest, weights| {
        Trainer::new(manifest, &tokenizer, weights, settings(&[Task::Events], 6), &Device::flex())
    };
    begin(&manifest, &weights).learner().save(&checkpoint).unwrap();
    let other_weights = seeded(&other, 3);
    let mut trainer = begin(&other, &other_weights);
    let error = trainer.learner_mut().resume(&checkpoint).unwrap_err();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
}

#[test]
fn pictures_learn_their_captions() {
    let manifest = presets::tiny();
    let side = u16::try_from(manifest.vision.image_size).unwrap();
    let recipe = Recipe::new(4, Split::Train);
    let examples: Vec<Captioned> = (0..32)
        .map(|number| {
            let world = recipe.video(number).world;
            let mut picture = vec![0; usize::from(side) * usize::from(side) * 3];
            Painter::new(&world, side).paint(80, &mut picture);
            Captioned { picture, phrases: phrases(&world, 80) }
        })
        .collect();
    let settings = contrast::Settings {
        schedule: Schedule { peak: 2e-3, warm_up: 5, steps: 40 },
        batch: 16,
        clip: 1.0,
        seed: 1,
    };
    let weights = seeded(&manifest, 1);
    let mut contrast = Contrast::new(&manifest, &weights, settings, &Device::flex());
    let before = contrast.recalled(&examples);
    let losses: Vec<f32> = (0..40).map(|_| contrast.step(&examples).unwrap().loss).collect();
    let after = contrast.recalled(&examples);
    // Plain pictures come first, and have fewer captions.
    assert!(losses[39] < 0.8 * losses[10], "{losses:?}");
    assert!(after > before + 0.15, "{before} to {after} of the captions are found");
    assert_eq!(
        contrast.vision().iter().count(),
        weights.iter().filter(|(name, _)| name.starts_with("vision.")).count()
    );
}
