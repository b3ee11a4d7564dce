//! Trains a vision encoder on pictures and their captions, as CLIP was (arXiv 2103.00020): no labels, only which
//! caption goes with which picture.
//!
//! A picture has many captions: each tells some words of one shape. Which pairs fit is learnt pair by pair, as in `SigLIP`
//! (arXiv 2303.15343): from one caption a picture that tells everything, a small encoder learns little but colours. The
//! captions' encoder is thrown away afterwards.

use std::collections::BTreeMap;

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
/// Likeness is multiplied by this at first, and then shifted by [`FIRST_BIAS`], since most pairs do not fit (`SigLIP`,
/// section 3.2).
const FIRST_SCALE: f32 = 10.0;
const FIRST_BIAS: f32 = -5.0;
const LARGEST_SCALE: f64 = 100.0;

/// The words of a phrase that captions tell: places in [`Phrase::words`], which are size, filling, colour, outline,
/// column, row.
const TOLD: [&[usize]; 10] = [
    &[2],
    &[3],
    &[2, 3],
    &[2, 3, 4],
    &[2, 3, 5],
    &[0, 2, 3],
    &[1, 2, 3],
    &[2, 4],
    &[2, 5],
    &[2, 3, 4, 5],
];

/// Stands for a word that a caption does not tell.
const UNTOLD: usize = WORDS;

/// One over the share of the steps that show pictures of a single shape, where it is plain which word is about what.
const PLAIN: u32 = 4;

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
        for (name, value) in [("scale", FIRST_SCALE.ln()), ("bias", FIRST_BIAS)] {
            learnt.insert(format!("captions.{name}"), Weight::filled(vec![1], vec![value]));
        }
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
        let shown = shown(examples, self.learner.steps() < schedule.steps / PLAIN);
        let runs: Vec<&[&Captioned]> = shown.chunks(RUN).collect();
        let (first, count) = (self.learner.steps() as usize * batch / RUN, batch.div_ceil(RUN));
        let chosen = in_turn(first..first + count, runs.len(), seed).flat_map(|at| runs[at]);
        let chosen: Vec<&Captioned> = chosen.copied().take(batch).collect();
        let mut numbers = self.learner.numbers(seed);
        let captions = Captions::of(&chosen);
        let likeness = self.likeness(&chosen, &captions, Some(&mut numbers));
        let fits = TensorData::new(captions.fits, [chosen.len(), captions.words.len()]);
        let loss = contrastive(likeness, Tensor::from_data(fits, &self.device));
        let (gradients, value) = self.learner.parameters().gradients(&loss);
        self.learner.accumulate(gradients);
        let rate = schedule.rate(self.learner.steps());
        let norm = self.learner.step(value, rate)?;
        Ok(Progress { step: self.learner.steps(), loss: value, norm, rate, tokens: batch as u64 })
    }

    /// How many of the captions of `examples` are found among all of them by their pictures, in `0..=1`: of those that a
    /// picture is most like, as many as it has, the share that are its own.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^24 captions")]
    pub fn recalled(&self, examples: &[Captioned]) -> f32 {
        let examples: Vec<&Captioned> = examples.iter().collect();
        let captions = Captions::of(&examples);
        let count = captions.words.len().max(1);
        let likeness = floats(self.likeness(&examples, &captions, None));
        let mut found = (0, 0);
        for (likeness, fits) in likeness.chunks(count).zip(captions.fits.chunks(count)) {
            let own = fits.iter().filter(|&&fits| fits > 0.0).count();
            let mut ranked: Vec<usize> = (0..likeness.len()).collect();
            ranked.sort_by(|&a, &b| likeness[b].total_cmp(&likeness[a]));
            let hits = ranked.iter().take(own).filter(|&&at| fits[at] > 0.0).count();
            found = (found.0 + hits, found.1 + own);
        }
        found.0 as f32 / found.1.max(1) as f32
    }

    /// The features `[n, dim]` of the pictures of `examples`.
    #[must_use]
    pub fn features(&self, examples: &[Captioned]) -> Array2<f32> {
        let dim = self.manifest.vision.output_dim as usize;
        let of_batch = |examples: &[Captioned]| {
            let examples: Vec<&Captioned> = examples.iter().collect();
            floats(self.pictures(&examples, None))
        };
        let batches = examples.chunks(self.settings.batch.max(1));
        let values: Vec<f32> = batches.flat_map(of_batch).collect();
        Array2::from_shape_vec((examples.len(), dim), values).unwrap_or_default()
    }

    /// How well each caption fits each picture, `[pictures, captions]`: the logarithm of its odds.
    #[expect(clippy::cast_precision_loss, reason = "features are narrow")]
    fn likeness(
        &self,
        examples: &[&Captioned],
        captions: &Captions,
        numbers: Option<&mut StdRng>,
    ) -> Tensor<2> {
        let parameters = self.learner.parameters();
        let captions = encoded(parameters, captions, &self.device);
        let dim = captions.dims()[1] as f64;
        let scale = parameters.vector("captions.scale").exp().clamp_max(LARGEST_SCALE) / dim.sqrt();
        let likeness = self.pictures(examples, numbers).matmul(captions.transpose());
        likeness * scale.unsqueeze() + parameters.vector("captions.bias").unsqueeze()
    }

    /// The pictures of `examples` as features `[n, dim]`. With `numbers`, the light of each is changed a little.
    fn pictures(&self, examples: &[&Captioned], mut numbers: Option<&mut StdRng>) -> Tensor<2> {
        let pictures: Vec<&[u8]> =
            examples.iter().map(|example| example.picture.as_slice()).collect();
        let light = || match &mut numbers {
            Some(numbers) => [numbers.random_range(0.9..1.1), numbers.random_range(-0.04..0.04)],
            None => [1.0, 0.0],
        };
        let patches = patches(&self.manifest.vision, &pictures, light, &self.device);
        let parameters = self.learner.parameters();
        let mut network = Network::new(self.manifest, parameters, &self.device, Dropout::none());
        network.vision(patches)
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
        tensor("words", vec![WORDS + 1, WIDTH], Start::Normal(1.0)),
        tensor("hidden.weight", vec![WIDTH, 2 * WIDTH], Start::Normal(0.05)),
        tensor("hidden.bias", vec![2 * WIDTH], Start::Zeros),
        tensor("inner.weight", vec![2 * WIDTH, 2 * WIDTH], Start::Normal(0.06)),
        tensor("inner.bias", vec![2 * WIDTH], Start::Zeros),
        tensor("output", vec![2 * WIDTH, dim], Start::Normal(0.06)),
    ]
}

/// The examples that a step chooses from: with `plain`, those of a single shape, if there are any.
fn shown(examples: &[Captioned], plain: bool) -> Vec<&Captioned> {
    let alone = examples.iter().filter(|example| plain && example.phrases.len() == 1);
    let alone: Vec<_> = alone.collect();
    if alone.is_empty() { examples.iter().collect() } else { alone }
}

/// All captions of some pictures, each once.
struct Captions {
    /// The words of each; [`UNTOLD`] for those that it leaves out.
    words: Vec<[usize; 6]>,
    /// `[pictures, captions]`: 1 where a caption is one of a picture, else 0.
    fits: Vec<f32>,
}

impl Captions {
    fn of(examples: &[&Captioned]) -> Self {
        let mut pairs = Vec::new();
        for (picture, example) in examples.iter().enumerate() {
            for words in example.phrases.iter().map(|phrase| phrase.words()) {
                pairs.extend(TOLD.iter().map(|told| {
                    let word = |at| if told.contains(&at) { words[at] } else { UNTOLD };
                    (std::array::from_fn(word), picture)
                }));
            }
        }
        let places: BTreeMap<[usize; 6], usize> =
            pairs.iter().map(|(words, _)| (*words, 0)).collect();
        let words: Vec<[usize; 6]> = places.into_keys().collect();
        let mut fits = vec![0.0; examples.len() * words.len()];
        for (caption, picture) in pairs {
            if let Ok(place) = words.binary_search(&caption) {
                fits[picture * words.len() + place] = 1.0;
            }
        }
        Self { words, fits }
    }
}

/// Captions as the caption encoder gives them, `[captions, dim]`, each of length 1.
fn encoded(parameters: &Parameters, captions: &Captions, device: &Device) -> Tensor<2> {
    let rows = captions.words.len();
    let words =
        captions.words.iter().flatten().map(|&word| i64::try_from(word).unwrap_or_default());
    let words = TensorData::new(words.collect::<Vec<_>>(), [rows * 6]);
    let words = Tensor::<1, Int>::from_data(words, device);
    let words = parameters.matrix("captions.words").select(0, words);
    let words = words.reshape([rows, 6, WIDTH]).sum_dim(1).reshape([rows, WIDTH]);
    let layer = |value: Tensor<2>, name: &str| {
        let weight = parameters.matrix(&format!("captions.{name}.weight"));
        let bias = parameters.vector(&format!("captions.{name}.bias"));
        activation::gelu(value.matmul(weight) + bias.unsqueeze())
    };
    let captions =
        layer(layer(words, "hidden"), "inner").matmul(parameters.matrix("captions.output"));
    let lengths = (captions.clone().square().sum_dim(1) + 1e-12).sqrt();
    captions / lengths
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
    use crate::synth::looks::{Colour, Shape, Size, Texture};

    fn seen(phrases: &[[u8; 2]]) -> Captioned {
        let phrase = |&[column, row]: &[u8; 2]| Phrase {
            size: Size::Small,
            texture: Texture::Plain,
            colour: Colour::Red,
            shape: Shape::Ring,
            column,
            row,
        };
        Captioned { picture: Vec::new(), phrases: phrases.iter().map(phrase).collect() }
    }

    #[test]
    fn a_caption_fits_every_picture_of_which_it_is_true() {
        let [one, two, none] = [seen(&[[3, 4]]), seen(&[[3, 9], [5, 4]]), seen(&[])];
        let captions = Captions::of(&[&one, &two, &none]);
        let count = captions.words.len();
        // 5 without a place; colour with column, with row, and both of them with the outline, two of each; whole ones.
        assert_eq!(count, 5 + 4 * 2 + 3);
        let fitting = |picture: usize| {
            captions.fits[picture * count..][..count].iter().filter(|&&fits| fits > 0.0).count()
        };
        assert_eq!([fitting(0), fitting(1), fitting(2)], [10, 5 + 4 * 2 + 2, 0]);
        let told = |words: &[usize; 6]| words.iter().filter(|&&word| word != UNTOLD).count();
        assert!(captions.words.iter().all(|words| (1..=4).contains(&told(words))));
    }

    #[test]
    fn plain_pictures_have_one_shape_if_there_are_any() {
        let examples = [seen(&[[1, 1]]), seen(&[[1, 1], [2, 2]]), seen(&[])];
        assert_eq!(shown(&examples, true), [&examples[0]]);
        assert_eq!(shown(&examples, false).len(), 3);
        assert_eq!(shown(&examples[1..], true).len(), 2);
    }
}
