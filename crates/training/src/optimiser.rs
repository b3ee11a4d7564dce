//! Adam with a schedule, clipping by the norm of all gradients, and the norm of the time tokens' rows.

use std::{io, path::Path};

use burn::{
    module::{Module as _, ModuleVisitor, Param},
    optim::{AdamConfig, GradientsAccumulator, GradientsParams, ModuleOptimizer},
    tensor::Tensor,
};
use eventide_model::manifest::TimeTokens;

use crate::{
    bundle::unwritable,
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
        let norm = clip_together(parameters, &mut gradients, self.clip);
        if norm.is_finite() {
            parameters.change(|tensors| self.adam.step(rate, tensors, gradients));
        }
        norm
    }

    /// Writes its state.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let failed = |error: burn::store::RecordError| io::Error::other(error);
        self.adam.save(path).map_err(failed).map_err(unwritable(path))
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

/// Scales the gradients of all parameters by one number, so that the norm of all of them together is at most `clip`. The
/// norm before; where it is not finite, nothing is scaled.
fn clip_together(parameters: &Parameters, gradients: &mut GradientsParams, clip: f32) -> f32 {
    let mut sum = SumOfSquares { gradients, sum: 0.0 };
    parameters.tensors().visit(&mut sum);
    let norm = sum.sum.sqrt();
    if norm.is_finite() && norm > clip {
        parameters.tensors().visit(&mut Scale { gradients, scale: clip / norm });
    }
    norm
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
    use burn::tensor::{Device, TensorData};
    use eventide_model::manifest::Quantise;

    use super::*;
    use crate::{
        parameters::floats,
        weights::{Weight, Weights},
    };

    fn parameters(weights: &[(&str, &[usize], &[f32])]) -> Parameters {
        let weight = |(name, shape, values): &(&str, &[usize], &[f32])| {
            ((*name).to_owned(), Weight::new(shape.to_vec(), values.to_vec()).unwrap())
        };
        Parameters::new(&weights.iter().map(weight).collect::<Weights>(), &device())
    }

    fn device() -> Device {
        Device::flex().autodiff()
    }

    /// A vector, a matrix and a kernel, all zero.
    fn three() -> Parameters {
        parameters(&[
            ("a", &[2], &[0.0; 2]),
            ("b", &[2, 2], &[0.0; 4]),
            ("c", &[1, 1, 1, 2], &[0.0; 2]),
        ])
    }

    /// The slopes of the three tensors: of norms 3, 4 and 12, all together 13.
    const SLOPES: [&[f32]; 3] = [&[3.0, 0.0], &[0.0, 4.0, 0.0, 0.0], &[0.0, -12.0]];

    /// Gradients of a loss with these slopes, times `scale`.
    fn gradients(three: &Parameters, scale: f32) -> GradientsParams {
        let [a, b, c] = SLOPES.map(|slopes| slopes.iter().map(|s| s * scale).collect::<Vec<_>>());
        let a = Tensor::<1>::from_data(TensorData::new(a, [2]), &device()) * three.vector("a");
        let b = Tensor::<2>::from_data(TensorData::new(b, [2, 2]), &device()) * three.matrix("b");
        let c = TensorData::new(c, [1, 1, 1, 2]);
        let c = Tensor::<4>::from_data(c, &device()) * three.kernel("c");
        three.gradients(&(a.sum() + b.sum() + c.sum())).0
    }

    #[test]
    fn gradients_are_clipped_by_the_norm_of_all_of_them() {
        let three = three();
        let ids: Vec<_> = (1..=3).map(burn::module::ParamId::from).collect();
        let clipped = |clip| {
            let mut gradients = gradients(&three, 1.0);
            let norm = clip_together(&three, &mut gradients, clip);
            assert!((norm - 13.0).abs() < 1e-5, "{norm}");
            [
                floats(gradients.get::<1>(ids[0]).unwrap()),
                floats(gradients.get::<2>(ids[1]).unwrap()),
                floats(gradients.get::<4>(ids[2]).unwrap()),
            ]
        };
        // Of one tensor alone, the norms 3 and 4 would not be clipped to 6.5.
        for (clip, scale) in [(6.5, 0.5), (13.5, 1.0)] {
            let expected =
                SLOPES.map(|slopes| slopes.iter().map(|s| s * scale).collect::<Vec<_>>());
            for (found, expected) in clipped(clip).iter().flatten().zip(expected.iter().flatten()) {
                assert!((found - expected).abs() < 1e-5, "{found} for {expected}");
            }
        }
    }

    #[test]
    fn a_step_is_that_of_the_clipped_gradients() {
        // Adam forgets the size of a first gradient, but not that it was larger than the second.
        let stepped = |scales: [f32; 2], clip| {
            let (mut three, mut optimiser) = (three(), Optimiser::new(0.9, clip));
            for scale in scales {
                optimiser.accumulate(&three, gradients(&three, scale));
                let norm = optimiser.step(&mut three, 0.1);
                assert!((norm - 13.0 * scale).abs() < 1e-3, "the norm before clipping: {norm}");
            }
            floats(three.kernel("c"))[1]
        };
        let (clipped, small) = (stepped([10.0, 0.5], 13.0), stepped([1.0, 0.5], f32::MAX));
        assert!((clipped - small).abs() < 1e-5, "{clipped} is not {small}");
        let unclipped = stepped([10.0, 0.5], f32::MAX);
        assert!((unclipped - small).abs() > 1e-3, "{unclipped}");
    }

    #[test]
    fn gradients_that_are_no_numbers_step_nothing() {
        let (mut three, mut optimiser) = (three(), Optimiser::new(0.9, 1.0));
        optimiser.accumulate(&three, gradients(&three, f32::INFINITY));
        assert!(!optimiser.step(&mut three, 0.1).is_finite());
        assert_eq!(three.weights(), self::three().weights());
    }

    #[test]
    fn rows_of_time_tokens_are_as_long_as_the_others_on_the_average() {
        // Norms 1, 2, 3 of text, then 2 and 6 of times, then one that is neither.
        let rows = [0.6, 0.8, 0.0, -2.0, 3.0, 0.0, 1.2, 1.6, -6.0, 0.0, 5.0, 0.0];
        let name = "text.embedding.weight";
        let mut parameters = parameters(&[(name, &[6, 2], &rows)]);
        let times = TimeTokens { bins: 2, first_id: 3, quantise: Quantise::VidChapters };
        match_time_tokens(&mut parameters, &times);
        let expected = [0.6, 0.8, 0.0, -2.0, 3.0, 0.0, 0.6, 0.8, -3.0, 0.0, 5.0, 0.0];
        for (found, expected) in floats(parameters.matrix(name)).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
        }
        let loss = parameters.matrix(name).sum();
        let (gradients, _) = parameters.gradients(&loss);
        assert_eq!(gradients.len(), 1, "the rows are learnt no longer");
    }

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
