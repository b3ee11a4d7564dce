//! Videos in memory, and what the network reads and is to write of several of them.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use eventide_model::{
    input::{input_ids, target_ids},
    manifest::Manifest,
    tokenizer::Tokenizer,
};
use eventide_schema::Cue;
use ndarray::Array2;
use rand::rngs::StdRng;

use crate::{
    denoise::{Denoising, denoising, denoising_of_silence, noise_mask},
    error::Result,
    network::Ids,
};

/// A video to learn from, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Features of its frames, `[frames, dim]`, at most as many as the model has positions.
    pub features: Arc<Array2<f32>>,
    /// What is said, by start; times count from the start of the video.
    pub speech: Vec<Cue>,
    /// What is to be told of it: spans and captions, by start.
    pub events: Vec<Cue>,
    /// Its length in microseconds.
    pub duration_us: i64,
}

/// What the decoder is to write (`vid2seq.md` §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// The events, from pictures and speech.
    Events,
    /// The whole speech with its times, from pictures.
    Speech,
    /// What is hidden of the speech, from pictures and the rest of the speech.
    Denoising,
}

/// What the model is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Pictures.
    pub video: bool,
    /// Speech.
    pub speech: bool,
}

/// Tokens of several videos for one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// What the text encoder reads; `None` where it is left out.
    pub input: Option<Ids>,
    /// What the decoder is to write.
    pub target: Ids,
}

/// Tokens of `samples` for `task`. `numbers` places the noise of [`Task::Denoising`].
///
/// # Errors
/// [`Error::Run`](crate::Error::Run) if a text cannot be tokenised.
pub fn tokens(
    manifest: &Manifest,
    tokenizer: &Tokenizer,
    samples: &[&Sample],
    task: Task,
    shown: Shown,
    numbers: &mut StdRng,
) -> Result<Tokens> {
    let limit = manifest.decoding.max_output_tokens as usize;
    let end = i64::from(manifest.text.eos_id);
    let mut inputs = Vec::with_capacity(samples.len());
    let mut targets = Vec::with_capacity(samples.len());
    for sample in samples {
        let target = |cues: &[Cue]| target_ids(tokenizer, cues, sample.duration_us, limit, None);
        let said = || input_ids(tokenizer, &sample.speech, sample.duration_us);
        let (input, target) = match task {
            Task::Events => (said()?, target(&sample.events)?),
            Task::Speech => (vec![end], target(&sample.speech)?),
            Task::Denoising => {
                let Denoising { input, target } = corrupted(manifest, &said()?, numbers);
                (input, target)
            }
        };
        inputs.push(input);
        targets.push(target);
    }
    let pad = i64::from(manifest.text.pad_id);
    // A text encoder that is left out is not shown a lone end either, unless there is nothing else.
    let reads = shown.speech || task != Task::Events || !shown.video;
    let input = reads.then(|| Ids::padded(&inputs, pad));
    Ok(Tokens { input, target: Ids::padded(&targets, pad) })
}

fn corrupted(manifest: &Manifest, ids: &[i64], numbers: &mut StdRng) -> Denoising {
    // One token is the end: nothing is said.
    if ids.len() < 2 {
        return denoising_of_silence(manifest);
    }
    denoising(manifest, ids, &noise_mask(ids.len(), numbers))
}

/// Features `[b, positions, dim]` of `samples`, followed by zeros.
#[must_use]
pub fn features(manifest: &Manifest, samples: &[&Sample], device: &Device) -> Tensor<3> {
    let [positions, dim] =
        [manifest.temporal.positions, manifest.temporal.dim].map(|size| size as usize);
    let mut values = vec![0.0; samples.len() * positions * dim];
    for (row, sample) in values.chunks_exact_mut(positions * dim).zip(samples) {
        for (to, &from) in row.iter_mut().zip(sample.features.iter()) {
            *to = from;
        }
    }
    Tensor::from_data(TensorData::new(values, [samples.len(), positions, dim]), device)
}
