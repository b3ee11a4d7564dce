//! Adam with a schedule, clipping by the norm of all gradients, and the norm of the time tokens' rows.

use std::path::Path;

use burn::{
    module::{Module as _, ModuleVisitor, Param},
    optim::{AdamConfig, GradientsAccumulator, GradientsParams, ModuleOptimizer},
    tensor::Tensor,
};
use eventide_model::manifest::TimeTokens;

use crate::{
    error::{Error, Result},
    parameters::{Parameters, Tensors},
};

/// The learning rate over the steps of a training run: up in a line, then down along half a cosine to zero
/// (`vid2seq.md` §5.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// Steps of the way up.
    pub warm_up: u32,
    /// All steps.
    pub steps: u32,
}

impl Schedule {
    /// The rate of step `step`, counted from 0.
    #[must_use]
    pub fn rate(&self, step: u32) -> f64 {
        let &Self { peak, warm_up, steps } = self;
        if step < warm_up {
            return peak * f64::from(step + 1) / f64::from(warm_up);
        }
        let way = f64::from(step - warm_up) / f64::from(steps.saturating_sub(warm_up).max(1));
        peak * 0.5 * (1.0 + (std::f64::consts::PI * way.min(1.0)).cos())
    }
}

/// Steps the parameters of one model.
pub struct Optimiser {
    adam: ModuleOptimizer,
    accumulated: GradientsAccumulator<Tensors>,
    clip: f32,
}

impl std::fmt::Debug for Optimiser {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Optimiser").field("clip", &self.clip).finish_non_exhaustive()
    }
}

impl Optimiser {
    /// Adam with the second moment's decay `beta_2`, without weight decay; gradients whose norm is above `clip` are
    /// scaled down to it.
    #[must_use]
    pub fn new(beta_2: f32, clip: f32) -> Self {
        let adam = AdamConfig::new().with_beta_2(beta_2).with_epsilon(1e-8).init();
        Self { adam, accumulated: GradientsAccumulator::new(), clip }
    }

    /// Adds gradients of a part of the batch.
    pub fn accumulate(&mut self, parameters: &Parameters, gradients: GradientsParams) {
        self.accumulated.accumulate(parameters.tensors(), gradients);
    }

    /// Steps all parameters by what was accumulated. The norm of the gradients before clipping; where it is not
    /// finite, nothing is stepped.
    pub fn step(&mut self, parameters: &mut Parameters, rate: f64) -> f32 {
        let mut gradients = self.accumulated.grads();
        let mut sum = SumOfSquares { gradients: &gradients, sum: 0.0 };
        parameters.tensors().visit(&mut sum);
        let norm = sum.sum.sqrt();
        if !norm.is_finite() {
            return norm;
        }
        if norm > self.clip {
            let scale = self.clip / norm;
            parameters.tensors().visit(&mut Scale { gradients: &mut gradients, scale });
        }
        parameters.change(|tensors| self.adam.step(rate, tensors, gradients));
        norm
    }

    /// Writes its state.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let failed = |error: burn::store::RecordError| Error::State {
            path: path.to_owned(),
            problem: error.to_string(),
        };
        self.adam.save(path).map_err(failed)
    }

    /// Goes on from a state that [`Optimiser::save`] wrote, of a model with the same parameters.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn load(&mut self, path: &Path) -> Result<()> {
        let failed = |error: burn::store::RecordError| Error::State {
            path: path.to_owned(),
            problem: error.to_string(),
        };
        self.adam = self.adam.clone().load(path).map_err(failed)?;
        Ok(())
    }
}

struct SumOfSquares<'a> {
    gradients: &'a GradientsParams,
    sum: f32,
}

impl ModuleVisitor for SumOfSquares<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(parameter.id) {
            self.sum += gradient.square().sum().into_scalar::<f32>();
        }
    }
}

struct Scale<'a> {
    gradients: &'a mut GradientsParams,
    scale: f32,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(parameter.id) {
            self.gradients.register(parameter.id, gradient * self.scale);
        }
    }
}

/// Scales the rows of the time tokens by one number, so that their mean norm is that of the other rows; after every
/// step, as `VidChapters` does (`vid2seq.md` §2.2).
pub fn match_time_tokens(parameters: &mut Parameters, time_tokens: &TimeTokens) {
    let (first, bins) = (time_tokens.first_id as usize, time_tokens.bins as usize);
    parameters.change_matrix("text.embedding.weight", |table| {
        let norms: Vec<f32> = crate::parameters::floats(table.clone().square().sum_dim(1).sqrt());
        let scale =
            mean(&norms[..first]) / mean(&norms[first..first + bins]).max(f32::MIN_POSITIVE);
        let [_, width] = table.dims();
        let times = table.clone().narrow(0, first, bins) * scale;
        table.slice_assign([first..first + bins, 0..width], times)
    });
}

#[expect(clippy::cast_precision_loss, reason = "vocabularies are far below 2^24")]
fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len().max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_to_its_peak_and_falls_to_zero() {
        let schedule = Schedule { peak: 0.5, warm_up: 10, steps: 110 };
        let rates: Vec<f64> = (0..=110).map(|step| schedule.rate(step)).collect();
        assert!((rates[0] - 0.05).abs() < 1e-12 && (rates[9] - 0.5).abs() < 1e-12);
        assert!((rates[60] - 0.25).abs() < 1e-12, "{}", rates[60]);
        assert!(rates[110].abs() < 1e-12);
        assert!(rates[..10].is_sorted() && rates[10..].iter().rev().is_sorted());
    }
}
