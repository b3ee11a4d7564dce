//! Dropout from a stream of numbers of our own, so that a step repeated is the same step.

use burn::tensor::{Tensor, TensorData};
use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};

/// Sets some values to zero and scales up the others.
#[derive(Debug)]
pub struct Dropout {
    rate: f32,
    numbers: StdRng,
}

impl Dropout {
    /// Drops this share of all values, in `0..1`.
    #[must_use]
    pub fn new(rate: f32, seed: u64) -> Self {
        Self { rate: rate.clamp(0.0, 0.99), numbers: StdRng::seed_from_u64(seed) }
    }

    /// Drops nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::new(0.0, 0)
    }

    /// What is left of `tensor`.
    pub fn apply<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        if self.rate <= 0.0 {
            return tensor;
        }
        let shape = tensor.dims();
        let mut bytes = vec![0; 2 * shape.iter().product::<usize>()];
        self.numbers.fill_bytes(&mut bytes);
        let kept = (1.0 - self.rate).recip();
        let threshold = self.rate * 65536.0;
        let keep = |pair: &[u8]| {
            let number = u16::from_le_bytes([pair[0], pair[1]]);
            if f32::from(number) < threshold { 0.0 } else { kept }
        };
        let mask: Vec<f32> = bytes.chunks_exact(2).map(keep).collect();
        let device = tensor.device();
        tensor * Tensor::from_data(TensorData::new(mask, shape.to_vec()), &device)
    }
}
