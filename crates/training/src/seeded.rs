//! Random weights, as a model has them before training: any architecture without a checkpoint.

use eventide_model::manifest::Manifest;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    tensors::{Start, TensorSpec, tensors},
    weights::{Weight, Weights},
};

/// Random weights for the model that `manifest` describes; the same for the same seed.
///
/// Each tensor has its own stream of numbers, so that one more layer changes no other.
#[must_use]
pub fn seeded(manifest: &Manifest, seed: u64) -> Weights {
    tensors(manifest).into_iter().map(|tensor| draw(tensor, seed)).collect()
}

/// A tensor as it starts before training.
pub(crate) fn draw(tensor: TensorSpec, seed: u64) -> (String, Weight) {
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
    (tensor.name, Weight::filled(tensor.shape, values))
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
