//! Random weights, as a model has them before training: any architecture without a checkpoint.

use std::{borrow::Cow, collections::BTreeMap};

use eventide_model::manifest::Manifest;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    error::{Error, Result},
    tensors::{Start, TensorSpec, tensors},
    weights::{Source, Weight, Weights},
};

/// Random weights for the model that `manifest` describes, in memory; the same for the same seed.
///
/// Each tensor has its own stream of numbers, so that one more layer changes no other.
#[must_use]
pub fn seeded(manifest: &Manifest, seed: u64) -> Weights {
    tensors(manifest).iter().map(|tensor| (tensor.name.clone(), draw(tensor, seed))).collect()
}

/// The same weights, each drawn when it is asked for.
#[derive(Debug)]
pub struct Seeded {
    tensors: BTreeMap<String, TensorSpec>,
    seed: u64,
}

impl Seeded {
    /// Those of the model that `manifest` describes.
    #[must_use]
    pub fn new(manifest: &Manifest, seed: u64) -> Self {
        let named = |tensor: TensorSpec| (tensor.name.clone(), tensor);
        Self { tensors: tensors(manifest).into_iter().map(named).collect(), seed }
    }
}

impl Source for Seeded {
    fn shapes(&self) -> Vec<(&str, &[usize])> {
        let tensors = self.tensors.iter();
        tensors.map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice())).collect()
    }

    fn weight(&self, name: &str) -> Result<Cow<'_, Weight>> {
        let missing = || Error::Missing { name: name.to_owned() };
        let tensor = self.tensors.get(name).ok_or_else(missing)?;
        Ok(Cow::Owned(draw(tensor, self.seed)))
    }
}

/// A tensor as it starts before training.
pub(crate) fn draw(tensor: &TensorSpec, seed: u64) -> Weight {
    let count: usize = tensor.shape.iter().product();
    let values = match tensor.start {
        Start::Ones => vec![1.0; count],
        Start::Zeros => vec![0.0; count],
        Start::Normal(deviation) => {
            let mut numbers = StdRng::seed_from_u64(seed ^ fingerprint(&tensor.name));
            let mut values = Vec::with_capacity(count + 1);
            while values.len() < count {
                values.extend(normal_pair(&mut numbers).map(|value| value * deviation));
            }
            values.truncate(count);
            values
        }
    };
    Weight::filled(tensor.shape.clone(), values)
}

/// Two independent numbers of the standard normal distribution, by the Box-Muller transform.
fn normal_pair(numbers: &mut StdRng) -> [f32; 2] {
    // In (0, 1], so that the logarithm is finite.
    let radius = (-2.0 * (1.0 - numbers.random::<f32>()).ln()).sqrt();
    let (sine, cosine) = (std::f32::consts::TAU * numbers.random::<f32>()).sin_cos();
    [radius * cosine, radius * sine]
}

/// FNV-1a: the same on every machine and in every version, unlike the hashes of `std`.
fn fingerprint(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
