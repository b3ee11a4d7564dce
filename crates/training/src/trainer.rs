//! Steps of training, one after another: the state between two of them is all that a checkpoint holds.
//!
//! All chance comes from the seed and the number of the step, so that a run that was resumed goes on as if it had never
//! stopped, to the last bit.

use std::{sync::Arc, thread};

use burn::{
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData},
};
use eventide_model::{
    Tokenizer,
    manifest::{FrameRule, Manifest},
};
use eventide_schema::Cue;
use ndarray::Array2;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde::{Deserialize, Serialize};

use crate::{
    data::{
        Example,
        batch::{Sequences, captioning, delayed, denoised, features, generative, padded},
        cache::Features,
        crop::Crop,
    },
    dropout::Dropout,
    error::{Error, Result},
    learner::{Learner, in_turn},
    network::Network,
    objective::cross_entropy,
    optimiser::{Schedule, match_time_tokens},
    parameters::{Parameters, floats},
    plan::Lesson,
    weights::Weights,
};

/// A video to learn from: what is known of it, and the features of its frames.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What is said in it, and what is to be told of it.
    pub example: Example,
    /// Its features, of the whole file.
    pub features: Arc<Features>,
}

impl Sample {
    /// Features `[n, dim]` of the frames that `rule` picks.
    #[must_use]
    pub fn seen(&self, rule: &FrameRule) -> Array2<f32> {
        self.features.within(self.example.span, rule)
    }
}

/// What the decoder is to write (`vid2seq.md` §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// The events, from pictures and speech: fine-tuning.
    Events,
    /// The whole speech with its times, from pictures: the generative objective of pre-training.
    Speech,
    /// What is hidden of the speech, from pictures and the rest of the speech: the denoising objective.
    Denoising,
}

impl Task {
    /// The task of the decoder in a lesson; `None` for the vision encoder's.
    #[must_use]
    pub fn of(lesson: Lesson) -> Option<Self> {
        match lesson {
            Lesson::Vision => None,
            Lesson::Speech => Some(Self::Speech),
            Lesson::Denoising => Some(Self::Denoising),
            Lesson::Events => Some(Self::Events),
        }
    }
}

/// What the model is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Pictures.
    pub video: bool,
    /// Speech.
    pub speech: bool,
}

/// How a model is trained. The defaults are the reference's (`vid2seq.md` §5.2), but for the sizes of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What is learnt in each step: the losses are added.
    pub tasks: Vec<Task>,
    /// What the model is shown.
    pub shown: Shown,
    /// Steps of the whole run.
    pub schedule: Schedule,
    /// Videos that go through the network at once.
    pub batch: usize,
    /// How many such batches make a step.
    pub accumulate: usize,
    /// Decay of Adam's second moment.
    pub beta_2: f32,
    /// The largest norm of the gradients.
    pub clip: f32,
    /// Share of each target that is spread over the vocabulary.
    pub smoothing: f64,
    /// Share of values that is dropped.
    pub dropout: f32,
    /// How often a video is cut to a part of it, in `0..=1`.
    pub crop: f64,
    /// Where all chance comes from.
    pub seed: u64,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub step: u32,
    /// Mean loss of its batches, all tasks added.
    pub loss: f32,
    /// Norm of the gradients before clipping.
    pub norm: f32,
    /// Its learning rate.
    pub rate: f64,
    /// Tokens that were to be written; where a vision encoder learns, its pictures.
    pub tokens: u64,
}

/// A model in training.
#[derive(Debug)]
pub struct Trainer<'a> {
    manifest: &'a Manifest,
    tokenizer: &'a Tokenizer,
    settings: Settings,
    /// Where the weights are.
    device: Device,
    /// Where the batches of a step go in turn, the first to the device of the weights.
    devices: Vec<Device>,
    learner: Learner,
}

impl<'a> Trainer<'a> {
    /// A run that begins with `weights`, of which those of the vision encoder stay as they are.
    #[must_use]
    pub fn new(
        manifest: &'a Manifest,
        tokenizer: &'a Tokenizer,
        weights: &Weights,
        settings: Settings,
        device: &Device,
    ) -> Self {
        let device = device.clone().autodiff();
        let learnt = weights.iter().filter(|(name, _)| !name.starts_with("vision."));
        let learnt = learnt.map(|(name, weight)| (name.to_owned(), weight.clone())).collect();
        let learner = Learner::new(&learnt, &device, settings.beta_2, settings.clip);
        let devices = vec![device.clone()];
        Self { manifest, tokenizer, settings, device, devices, learner }
    }

    /// Learns on more devices: the batches of a step are shared out among all of them, and their gradients come back to
    /// the first, in order. What is learnt is the same on any number of devices of one kind.
    #[must_use]
    pub fn also_on(mut self, more: &[Device]) -> Self {
        self.devices.extend(more.iter().map(|device| device.clone().autodiff()));
        self
    }

    /// What is learnt, and how far.
    #[must_use]
    pub fn learner(&self) -> &Learner {
        &self.learner
    }

    /// The same, to go on from a checkpoint.
    pub fn learner_mut(&mut self) -> &mut Learner {
        &mut self.learner
    }

    /// Takes the next step, over samples that this step chooses from `samples`.
    ///
    /// # Errors
    /// [`Error::NoExamples`]; [`Error::Diverged`], after which the weights are those before the step;
    /// [`Error::Run`] if a text cannot be tokenised.
    pub fn step(&mut self, samples: &[Sample]) -> Result<Progress> {
        let parts = self.settings.accumulate.max(1);
        let seeds = self.learner.numbers(self.settings.seed).random_iter();
        let seeds: Vec<u64> = seeds.take(parts).collect();
        // Parts go through the network side by side; their gradients are added in order, so that chance has no part.
        let pass = self.pass();
        let done = thread::scope(|scope| {
            let parts = seeds.into_iter().enumerate();
            let threads: Vec<_> = parts
                .map(|(part, seed)| scope.spawn(move || pass.part(samples, part, seed)))
                .collect();
            threads.into_iter().map(joined).collect::<Result<Vec<_>>>()
        })?;
        let (mut loss, mut count) = (0.0, 0);
        for (gradients, value, tokens) in done {
            self.learner.accumulate(gradients);
            loss += value;
            count += tokens;
        }
        let rate = self.settings.schedule.rate(self.learner.steps());
        let norm = self.learner.step(loss, rate)?;
        match_time_tokens(self.learner.parameters_mut(), &self.manifest.time_tokens);
        Ok(Progress { step: self.learner.steps(), loss, norm, rate, tokens: count })
    }

    /// Whether it learns to tell events.
    #[must_use]
    pub fn tells_events(&self) -> bool {
        self.settings.tasks.contains(&Task::Events)
    }

    /// The mean loss on `samples`, all of each and without dropout; always with the same noise.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn loss_on(&self, samples: &[Sample]) -> Result<f64> {
        let mut numbers = StdRng::seed_from_u64(self.settings.seed);
        let (mut sum, mut count) = (0.0, 0.0);
        for batch in samples.chunks(self.settings.batch.max(1)) {
            let (loss, tokens) = self.pass().loss(batch, 0.0, &mut numbers)?;
            #[expect(
                clippy::cast_precision_loss,
                reason = "a batch has far fewer than 2^52 tokens"
            )]
            let tokens = tokens as f64;
            sum += f64::from(floats(loss).iter().sum::<f32>()) * tokens;
            count += tokens;
        }
        if count > 0.0 { Ok(sum / count) } else { Err(Error::NoExamples) }
    }

    fn pass(&self) -> Pass<'_> {
        let Self { manifest, tokenizer, settings, device, devices, learner } = self;
        let (parameters, step) = (learner.parameters(), learner.steps());
        Pass { manifest, tokenizer, settings, device, devices, parameters, step }
    }
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// So many batches are chosen together, and filled so that the texts of each are about as long: all are padded to the
/// longest, and of batches filled by chance half would be padding.
const CHOSEN_TOGETHER: usize = 16;

/// Batches of samples of which about as much is to be told, and, among those, in which about as much is said.
fn alike(mut samples: Vec<&Sample>, batch: usize) -> Vec<Vec<&Sample>> {
    let length = |cues: &[Cue]| cues.iter().map(|cue| cue.text.len()).sum::<usize>();
    samples.sort_by_key(|sample| length(&sample.example.references.concat()));
    let as_long = samples.chunks_mut(batch * CHOSEN_TOGETHER.isqrt());
    let batches = as_long.flat_map(|group| {
        group.sort_by_key(|sample| length(&sample.example.speech));
        group.chunks(batch).map(<[_]>::to_vec)
    });
    batches.collect()
}

/// All that one pass through the network needs; passes of one step go side by side.
#[derive(Debug, Clone, Copy)]
struct Pass<'t> {
    manifest: &'t Manifest,
    tokenizer: &'t Tokenizer,
    settings: &'t Settings,
    device: &'t Device,
    devices: &'t [Device],
    parameters: &'t Parameters,
    step: u32,
}

impl Pass<'_> {
    /// The gradients of part `part` of the step, its loss and its tokens.
    fn part(
        &self,
        samples: &[Sample],
        part: usize,
        seed: u64,
    ) -> Result<(GradientsParams, f32, u64)> {
        let mut numbers = StdRng::seed_from_u64(seed);
        let chosen = self.chosen(samples, part)?;
        let cut = self.cut(&chosen, &mut numbers);
        let device = &self.devices[part % self.devices.len()];
        // Gradients of tensors that two threads share are computed by one at a time.
        let parameters = self.parameters.fork(device);
        let own = Pass { device, parameters: &parameters, ..*self };
        let (loss, tokens) = own.loss(&cut, self.settings.dropout, &mut numbers)?;
        #[expect(clippy::cast_precision_loss, reason = "a step has few parts")]
        let loss = loss / self.settings.accumulate.max(1) as f32;
        let (gradients, loss) = parameters.gradients(&loss);
        let gradients = gradients.to_device(self.device, self.parameters.tensors());
        Ok((gradients, loss, tokens))
    }

    /// The samples of part `part` of this step: every epoch takes all of them once, in an order of its own.
    fn chosen<'s>(&self, samples: &'s [Sample], part: usize) -> Result<Vec<&'s Sample>> {
        if samples.is_empty() {
            return Err(Error::NoExamples);
        }
        let &Settings { batch, accumulate, seed, .. } = self.settings;
        let number = self.step as usize * accumulate.max(1) + part;
        let together = (samples.len() / batch.max(1)).clamp(1, CHOSEN_TOGETHER);
        let (round, place) = (number / together, number % together);
        let first = round * together * batch;
        let chosen = in_turn(first..first + together * batch, samples.len(), seed);
        let mut batches = alike(chosen.map(|number| &samples[number]).collect(), batch);
        batches.shuffle(&mut StdRng::seed_from_u64(seed.wrapping_add(first as u64)));
        Ok(batches.swap_remove(place))
    }

    /// The samples, some of them cut to a part.
    fn cut(&self, chosen: &[&Sample], numbers: &mut StdRng) -> Vec<Sample> {
        let crop = Crop { least: 0.0, keep_events: true };
        let cut = |sample: &&Sample| {
            let mut sample = (*sample).clone();
            if numbers.random_bool(self.settings.crop) {
                let part = crop.draw(&sample.example, numbers);
                sample.example = sample.example.within(part);
            }
            sample
        };
        chosen.iter().map(cut).collect()
    }

    /// The loss of a batch and how many tokens it is the mean of.
    fn loss(
        &self,
        samples: &[Sample],
        dropout: f32,
        numbers: &mut StdRng,
    ) -> Result<(Tensor<1>, u64)> {
        let &Settings { shown, smoothing, .. } = self.settings;
        let pad = i64::from(self.manifest.text.pad_id);
        let dropout = Dropout::new(dropout, numbers.random());
        let mut network = Network::new(self.manifest, self.parameters, self.device, dropout);
        let video = shown.video.then(|| network.temporal(self.features(samples)));
        let mut losses = Vec::new();
        let mut count = 0;
        for &task in &self.settings.tasks {
            let sequences = self.sequences(samples, task, numbers)?;
            let (inputs, targets): (Vec<_>, Vec<_>) =
                sequences.into_iter().map(|sequences| (sequences.input, sequences.target)).unzip();
            let (inputs, targets) = (padded(&inputs, pad), padded(&targets, pad));
            // Without speech the text encoder is left out where there are pictures to go by.
            let reads = shown.speech || task != Task::Events || !shown.video;
            let text = reads.then(|| (network.text(&inputs), &inputs));
            let memory = network.memory(video.clone(), text);
            let logits = network.decode(&delayed(&targets, pad), &memory);
            losses.push(cross_entropy(logits, &targets, pad, smoothing));
            count += targets.iter().filter(|&&id| id != pad).count() as u64;
        }
        let sum = losses.into_iter().reduce(|sum, loss| sum + loss);
        sum.map(|sum| (sum, count)).ok_or(Error::NoExamples)
    }

    fn sequences(
        &self,
        samples: &[Sample],
        task: Task,
        numbers: &mut StdRng,
    ) -> Result<Vec<Sequences>> {
        let limit = self.manifest.decoding.max_output_tokens as usize;
        let sequences = |sample: &Sample| match task {
            Task::Events => captioning(&sample.example, self.tokenizer, limit, None),
            Task::Speech => generative(&sample.example, self.tokenizer),
            Task::Denoising => denoised(&sample.example, self.tokenizer, self.manifest, numbers),
        };
        Ok(samples.iter().map(sequences).collect::<Result<_, _>>()?)
    }

    /// `[b, positions, dim]`.
    fn features(&self, samples: &[Sample]) -> Tensor<3> {
        let rows: Vec<Array2<f32>> =
            samples.iter().map(|sample| sample.seen(&self.manifest.frames)).collect();
        let together = features(&rows, self.manifest);
        let shape = together.shape().to_vec();
        let data = TensorData::new(together.into_raw_vec_and_offset().0, shape);
        Tensor::from_data(data, self.device)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use eventide_schema::TimeSpan;

    use super::*;
    use crate::data::cache::Rows;

    fn sample(number: usize) -> Sample {
        let cue = |letters: usize| Cue { span: TimeSpan::new(0, 1), text: "a".repeat(letters) };
        let example = Example {
            video_id: number.to_string(),
            file: PathBuf::new(),
            span: TimeSpan::new(0, 1),
            speech: vec![cue(number * 7 % 48)],
            references: vec![vec![cue(number * 5 % 48), cue(1)]],
        };
        let (values, slots) = (Array2::zeros((0, 1)), Vec::new());
        let features = Rows { values, wanted: slots.clone(), slots, duration_us: 1 };
        Sample { example, features: Arc::new(features) }
    }

    #[test]
    fn batches_hold_each_sample_once_and_texts_of_like_length() {
        let samples: Vec<Sample> = (0..48).map(sample).collect();
        let batches = alike(samples.iter().collect(), 3);
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [3; 16]);
        let ids = batches.iter().flatten().map(|sample| sample.example.video_id.as_str());
        assert_eq!(ids.collect::<std::collections::BTreeSet<_>>().len(), 48);
        for batch in batches {
            let spread = |length: fn(&Example) -> usize| {
                let lengths = batch.iter().map(|sample| length(&sample.example));
                lengths.clone().max().unwrap() - lengths.min().unwrap()
            };
            assert!(spread(|example| example.references[0][0].text.len()) < 12);
            assert!(spread(|example| example.speech[0].text.len()) < 24);
        }
    }
}
