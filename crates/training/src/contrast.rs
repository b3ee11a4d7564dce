//! Trains a vision encoder on pictures and their captions, as CLIP was (arXiv 2103.00020): no labels, only which
//! caption goes with which picture.
//!
//! A caption is the set of its phrases. Its encoder adds up what a small network makes of each phrase's words; it is
//! thrown away afterwards.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use eventide_model::manifest::{Manifest, Vision};
use ndarray::Array2;
use rand::{Rng as _, rngs::StdRng};

use crate::{
    dropout::Dropout,
    error::Result,
    learner::{Learner, in_turn},
    network::Network,
    objective::contrastive,
    optimiser::Schedule,
    parameters::{Parameters, floats},
    seeded,
    synth::scene::{Phrase, WORDS},
    tensors::{Start, TensorSpec},
    trainer::Progress,
    weights::{Weight, Weights},
};

/// Width of the caption encoder.
const WIDTH: usize = 128;
/// The cosines are multiplied by this at first, and by at most [`LARGEST_SCALE`]; as CLIP.
const FIRST_SCALE: f32 = 1.0 / 0.07;
const LARGEST_SCALE: f64 = 100.0;

/// So many pictures that follow one another come in a step together, in most data sets those of one video: to tell
/// them apart takes a look at where things are, and not only at what there is.
const RUN: usize = 4;

/// A picture and what is seen in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captioned {
    /// `[side, side, 3]`: rows from the top; red, green, blue.
    pub picture: Vec<u8>,
    /// What is seen, in any order.
    pub phrases: Vec<Phrase>,
}

/// How a vision encoder is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Steps of the whole run.
    pub schedule: Schedule,
    /// Pictures of a step; each is told from all others.
    pub batch: usize,
    /// The largest norm of the gradients.
    pub clip: f32,
    /// Where all chance comes from.
    pub seed: u64,
}

/// A vision encoder in training.
#[derive(Debug)]
pub struct Contrast<'a> {
    manifest: &'a Manifest,
    settings: Settings,
    device: Device,
    learner: Learner,
}

impl<'a> Contrast<'a> {
    /// A run that begins with `weights`, of which those of the vision encoder are learnt.
    #[must_use]
    pub fn new(
        manifest: &'a Manifest,
        weights: &Weights,
        settings: Settings,
        device: &Device,
    ) -> Self {
        let device = device.clone().autodiff();
        let vision = weights.iter().filter(|(name, _)| name.starts_with("vision."));
        let mut learnt: Weights =
            vision.map(|(name, weight)| (name.to_owned(), weight.clone())).collect();
        let dim = manifest.vision.output_dim as usize;
        let captions = caption_tensors(dim).into_iter();
        learnt.extend(captions.map(|spec| (spec.name.clone(), seeded::draw(&spec, settings.seed))));
        learnt.insert("captions.scale".to_owned(), Weight::filled(vec![1], vec![FIRST_SCALE.ln()]));
        let learner = Learner::new(&learnt, &device, 0.98, settings.clip);
        Self { manifest, settings, device, learner }
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

    /// The weights of the vision encoder as they are now.
    #[must_use]
    pub fn vision(&self) -> Weights {
        let all = self.learner.weights();
        all.into_iter().filter(|(name, _)| name.starts_with("vision.")).collect()
    }

    /// Takes the next step, over pictures that it chooses from `examples`.
    ///
    /// # Errors
    /// [`Error::NoExamples`](crate::Error::NoExamples), [`Error::Diverged`](crate::Error::Diverged).
    pub fn step(&mut self, examples: &[Captioned]) -> Result<Progress> {
        if examples.is_empty() {
            return Err(crate::Error::NoExamples);
        }
        let Settings { batch, seed, schedule, .. } = self.settings;
        let runs: Vec<&[Captioned]> = examples.chunks(RUN).collect();
        let (first, count) = (self.learner.steps() as usize * batch / RUN, batch.div_ceil(RUN));
        let chosen = in_turn(first..first + count, runs.len(), seed).flat_map(|at| runs[at]);
        let chosen: Vec<&Captioned> = chosen.take(batch).collect();
        let mut numbers = self.learner.numbers(seed);
        let (pictures, captions) = self.encoded(&chosen, Some(&mut numbers));
        let scale = self.learner.parameters().vector("captions.scale");
        let loss = contrastive(pictures, captions, scale.exp().clamp_max(LARGEST_SCALE));
        let (gradients, value) = self.learner.parameters().gradients(&loss);
        self.learner.accumulate(gradients);
        let rate = schedule.rate(self.learner.steps());
        let norm = self.learner.step(value, rate)?;
        Ok(Progress { step: self.learner.steps(), loss: value, norm, rate, tokens: batch as u64 })
    }

    /// The share of `examples` whose picture is more like its own caption than like that of any other.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^24 examples")]
    pub fn matched(&self, examples: &[Captioned]) -> f32 {
        let examples: Vec<&Captioned> = examples.iter().collect();
        let (pictures, captions) = self.encoded(&examples, None);
        let lengths = (captions.clone().square().sum_dim(1) + 1e-12).sqrt();
        let likeness = floats(pictures.matmul((captions / lengths).transpose()));
        let best = |row: &[f32]| {
            let best = row.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
            best.map(|(at, _)| at)
        };
        let rows = likeness.chunks(examples.len().max(1)).enumerate();
        let right = rows.filter(|(own, row)| best(row) == Some(*own)).count();
        right as f32 / examples.len().max(1) as f32
    }

    /// The features `[n, dim]` of the pictures of `examples`.
    #[must_use]
    pub fn features(&self, examples: &[Captioned]) -> Array2<f32> {
        let dim = self.manifest.vision.output_dim as usize;
        let of_batch = |examples: &[Captioned]| {
            let examples: Vec<&Captioned> = examples.iter().collect();
            floats(self.encoded(&examples, None).0)
        };
        let batches = examples.chunks(self.settings.batch.max(1));
        let values: Vec<f32> = batches.flat_map(of_batch).collect();
        Array2::from_shape_vec((examples.len(), dim), values).unwrap_or_default()
    }

    /// Both sides, `[n, dim]`. With `numbers`, the light of each picture is changed a little.
    fn encoded(
        &self,
        examples: &[&Captioned],
        mut numbers: Option<&mut StdRng>,
    ) -> (Tensor<2>, Tensor<2>) {
        let pictures: Vec<&[u8]> =
            examples.iter().map(|example| example.picture.as_slice()).collect();
        let light = || match &mut numbers {
            Some(numbers) => [numbers.random_range(0.9..1.1), numbers.random_range(-0.04..0.04)],
            None => [1.0, 0.0],
        };
        let patches = patches(&self.manifest.vision, &pictures, light, &self.device);
        let parameters = self.learner.parameters();
        let mut network = Network::new(self.manifest, parameters, &self.device, Dropout::none());
        let pictures = network.vision(patches);
        (pictures, captions(parameters, examples, &self.device))
    }
}

/// The tensors of the caption encoder.
fn caption_tensors(dim: usize) -> Vec<TensorSpec> {
    let tensor = |name: &str, shape: Vec<usize>, start| TensorSpec {
        name: format!("captions.{name}"),
        source: String::new(),
        source_shape: shape.clone(),
        shape,
        start,
        turned: false,
    };
    vec![
        tensor("words", vec![WORDS, WIDTH], Start::Normal(1.0)),
        tensor("hidden.weight", vec![WIDTH, 2 * WIDTH], Start::Normal(0.05)),
        tensor("hidden.bias", vec![2 * WIDTH], Start::Zeros),
        tensor("inner.weight", vec![2 * WIDTH, 2 * WIDTH], Start::Normal(0.06)),
        tensor("inner.bias", vec![2 * WIDTH], Start::Zeros),
        tensor("output", vec![2 * WIDTH, dim], Start::Normal(0.06)),
        tensor("nothing", vec![dim], Start::Normal(0.1)),
    ]
}

/// The captions of `examples`, `[n, dim]`.
fn captions(parameters: &Parameters, examples: &[&Captioned], device: &Device) -> Tensor<2> {
    let most = examples.iter().map(|example| example.phrases.len()).max().unwrap_or(0).max(1);
    let mut words = Vec::with_capacity(examples.len() * most * 6);
    let mut counted = Vec::with_capacity(examples.len() * most);
    for example in examples {
        let absent = most - example.phrases.len();
        let ids = example.phrases.iter().flat_map(|phrase| phrase.words());
        words.extend(ids.map(|word| i64::try_from(word).unwrap_or_default()));
        words.extend(std::iter::repeat_n(0_i64, absent * 6));
        counted.extend(std::iter::repeat_n(1.0_f32, example.phrases.len()));
        counted.extend(std::iter::repeat_n(0.0_f32, absent));
    }
    let rows = examples.len() * most;
    let words = Tensor::<1, Int>::from_data(TensorData::new(words, [rows * 6]), device);
    let words = parameters.matrix("captions.words").select(0, words);
    let phrases = words.reshape([rows, 6, WIDTH]).sum_dim(1).reshape([rows, WIDTH]);
    let layer = |value: Tensor<2>, name: &str| {
        let weight = parameters.matrix(&format!("captions.{name}.weight"));
        let bias = parameters.vector(&format!("captions.{name}.bias"));
        activation::gelu(value.matmul(weight) + bias.unsqueeze())
    };
    let phrases =
        layer(layer(phrases, "hidden"), "inner").matmul(parameters.matrix("captions.output"));
    let dim = phrases.dims()[1];
    let counted = Tensor::<2>::from_data(TensorData::new(counted, [rows, 1]), device);
    let sum = (phrases * counted).reshape([examples.len(), most, dim]).sum_dim(1);
    sum.reshape([examples.len(), dim]) + parameters.vector("captions.nothing").unsqueeze()
}

/// Patches `[n, patches, 3 * patch * patch]` of normalised pictures, channel by channel: what [`Network::vision`]
/// reads. Each picture is `[side, side, 3]`; `light` gives each a gain and a lift of its values in `0..=1`.
///
/// # Panics
/// If a picture is shorter.
pub fn patches(
    sizes: &Vision,
    pictures: &[&[u8]],
    mut light: impl FnMut() -> [f32; 2],
    device: &Device,
) -> Tensor<3> {
    let (side, patch) = (sizes.image_size as usize, sizes.patch as usize);
    let (grid, pixels) = (side / patch, 3 * patch * patch);
    let mut values = Vec::with_capacity(pictures.len() * grid * grid * pixels);
    for picture in pictures {
        let [gain, lift] = light();
        let value = |x: usize, y: usize, channel: usize| {
            let value = f32::from(picture[(y * side + x) * 3 + channel]) / 255.0 * gain + lift;
            (value - sizes.mean[channel]) / (sizes.std[channel] + sizes.std_eps)
        };
        for place in 0..grid * grid {
            let (column, row) = (place % grid * patch, place / grid * patch);
            for channel in 0..3 {
                for y in row..row + patch {
                    values.extend((column..column + patch).map(|x| value(x, y, channel)));
                }
            }
        }
    }
    let shape = [pictures.len(), grid * grid, pixels];
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_scale_is_that_of_clip() {
        assert!((FIRST_SCALE.ln() - 2.659).abs() < 1e-3);
    }
}
