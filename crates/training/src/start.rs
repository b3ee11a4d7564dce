//! How a new, small model starts: knowing the order of moments, with features that are all about as loud.
//!
//! The released models grow out of encoders that were trained on much more. One that starts from nothing spends most of
//! its first steps on finding out that time is a line; waves (arXiv 1706.03762, section 3.5) tell it so.

use eventide_model::manifest::Manifest;
use nalgebra::DMatrix;
use ndarray::Array2;

use crate::{
    error::{Error, Result},
    weights::{Weight, Weights},
};

/// Places the frames of the temporal encoder and the time tokens on waves of the same lengths, so that neighbours are
/// alike, and a frame is like the token of its moment.
pub fn place_in_time(weights: &mut Weights, manifest: &Manifest) {
    let (positions, dim) = (manifest.temporal.positions as usize, manifest.temporal.dim as usize);
    let values = (0..positions).flat_map(|at| waves(share(at, positions), dim)).collect();
    let frames = Weight::filled(vec![positions, dim], values);
    weights.insert("temporal.position_embedding".to_owned(), frames);

    let name = "text.embedding.weight";
    let (first, bins) =
        (manifest.time_tokens.first_id as usize, manifest.time_tokens.bins as usize);
    let width = manifest.t5.d_model as usize;
    if let Some(table) = weights.get(name) {
        let mut values = table.values().to_vec();
        for bin in 0..bins {
            let row = (first + bin) * width;
            // Of the size of the other rows, whose values have a deviation of 1.
            let waves =
                waves(share(bin, bins), width).map(|value| value * std::f32::consts::SQRT_2);
            values[row..row + width].copy_from_slice(&waves.collect::<Vec<_>>());
        }
        let table = Weight::filled(table.shape().to_vec(), values);
        weights.insert(name.to_owned(), table);
    }
}

/// How far `at` of `count` places is, in `0..1`.
#[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^24 places")]
fn share(at: usize, count: usize) -> f32 {
    at as f32 / count.max(1) as f32
}

/// `width` values in `-1..=1` for a moment in `0..=1`: sines and cosines of wave lengths from 4 wholes down to a 25th.
#[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
fn waves(moment: f32, width: usize) -> impl Iterator<Item = f32> {
    let pairs = width.div_ceil(2);
    (0..width).map(move |number| {
        let rate = 0.25 * 100_f32.powf((number / 2) as f32 / pairs.max(1) as f32);
        let (sine, cosine) = (std::f32::consts::TAU * rate * moment).sin_cos();
        if number % 2 == 0 { sine } else { cosine }
    })
}

/// Shares of the variance of features below this count for little: they are noise.
const NOISE: f64 = 3e-4;

/// Added to what is to be inverted, as a share of its trace: far below the precision of weights.
const RIDGE: f64 = 1e-9;

/// Changes the last layer of a vision encoder that makes `features` `[n, dim]` of many pictures, so that they have the
/// mean 0 and, in all directions that are more than noise, the variance 1.
///
/// An encoder that was trained contrastively tells most of what there is in a few loud directions, and where it is in
/// many faint ones; what is learnt from its features would be deaf to the latter for long.
///
/// # Errors
/// [`Error::Features`] if they are too few, or not finite.
pub fn whiten(weights: &mut Weights, features: &Array2<f32>) -> Result<()> {
    let [projection, bias] =
        ["vision.projection.weight", "vision.output_norm.bias"].map(|name| weights.get(name));
    let (Some(projection), Some(bias)) = (projection, bias) else { return Ok(()) };
    let (width, dim) = (projection.shape()[0], projection.shape()[1]);
    let (shapes, bias) = (projection.shape().to_vec(), matrix(1, width, bias.values()));
    let projection = matrix(width, dim, projection.values());

    let features = DMatrix::from_row_iterator(
        features.nrows(),
        dim,
        features.iter().map(|&value| f64::from(value)),
    );
    let mean = features.row_mean();
    let centred = DMatrix::from_fn(features.nrows(), dim, |row, column| {
        features[(row, column)] - mean[column]
    });
    #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^52 pictures")]
    let covariance = centred.tr_mul(&centred) / features.nrows() as f64;
    let noise = NOISE * covariance.trace();
    // With `L L^T` the covariance, that of features times `L^-T` is 1.
    let lower = (covariance + DMatrix::identity(dim, dim) * noise).cholesky();
    let lower = lower.ok_or(Error::Features)?.unpack();
    let whitened = lower.solve_lower_triangular(&projection.transpose()).ok_or(Error::Features)?;
    // The mean lies in the span of the projection, so that it can be taken off before. Where several values would do,
    // the nearly smallest are taken.
    let inner = &projection * projection.transpose();
    let ridge = DMatrix::identity(width, width) * (RIDGE * inner.trace());
    let inner = (inner + ridge).cholesky().ok_or(Error::Features)?;
    let bias = bias - inner.solve(&(&projection * mean.transpose())).transpose();

    let values = whitened.iter().map(|&value| narrow(value)).collect();
    weights.insert("vision.projection.weight".to_owned(), Weight::filled(shapes, values));
    let values = bias.iter().map(|&value| narrow(value)).collect();
    weights.insert("vision.output_norm.bias".to_owned(), Weight::filled(vec![width], values));
    Ok(())
}

fn matrix(rows: usize, columns: usize, values: &[f32]) -> DMatrix<f64> {
    DMatrix::from_row_iterator(rows, columns, values.iter().map(|&value| f64::from(value)))
}

#[expect(clippy::cast_possible_truncation, reason = "weights are kept in single precision")]
fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{presets, seeded::seeded};
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    fn likeness(rows: &[f32], width: usize, a: usize, b: usize) -> f32 {
        let row = |at: usize| &rows[at * width..(at + 1) * width];
        row(a).iter().zip(row(b)).map(|(a, b)| a * b).sum()
    }

    /// What an encoder makes of its last hidden values `[n, width]`, whose mean was that of a bias of zero.
    fn seen(weights: &Weights, hidden: &Array2<f32>) -> Array2<f32> {
        let projection = weights.get("vision.projection.weight").unwrap();
        let shape = (projection.shape()[0], projection.shape()[1]);
        let bias = weights.get("vision.output_norm.bias").unwrap().values().to_vec();
        let projection = Array2::from_shape_vec(shape, projection.values().to_vec()).unwrap();
        (hidden + &ndarray::Array1::from(bias)).dot(&projection)
    }

    #[test]
    fn faint_directions_become_as_loud_as_others() {
        let manifest = presets::tiny();
        let mut weights = seeded(&manifest, 1);
        let width = manifest.vision.width as usize;
        let mut numbers = StdRng::seed_from_u64(3);
        // Each value is fainter than the one before, down to a hundredth, and all are far from zero.
        #[expect(clippy::cast_precision_loss, reason = "a small table")]
        let hidden = Array2::from_shape_fn((4000, width), |(_, column)| {
            let size = 0.01_f32.powf(column as f32 / width as f32);
            3.0 + size * numbers.random_range(-1.0..1.0)
        });
        let before = seen(&weights, &hidden);
        whiten(&mut weights, &before).unwrap();
        let after = seen(&weights, &hidden);
        let mean = after.mean_axis(ndarray::Axis(0)).unwrap();
        assert!(mean.iter().all(|value| value.abs() < 0.02), "{mean}");
        // How loud the median direction is beside the loudest.
        let evenness = |features: &Array2<f32>| {
            let centred = features - &features.mean_axis(ndarray::Axis(0)).unwrap();
            let covariance = (centred.t().dot(&centred) / 4000.0).into_raw_vec_and_offset().0;
            let covariance = DMatrix::from_vec(mean.len(), mean.len(), covariance);
            let mut loudness: Vec<f32> =
                covariance.symmetric_eigenvalues().iter().copied().collect();
            loudness.sort_by(f32::total_cmp);
            (loudness[loudness.len() / 2] / loudness[loudness.len() - 1], loudness)
        };
        let ((uneven, _), (even, loudness)) = (evenness(&before), evenness(&after));
        assert!(loudness.iter().all(|value| *value < 1.1), "{loudness:?}");
        assert!(even > 0.5 && even > 10.0 * uneven, "{uneven} and {even}");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let manifest = presets::tiny();
        let mut weights = seeded(&manifest, 1);
        let dim = manifest.vision.output_dim as usize;
        let before = weights.clone();
        for value in [0.0, f32::NAN] {
            let features = Array2::from_elem((9, dim), value);
            assert!(matches!(whiten(&mut weights, &features), Err(Error::Features)));
        }
        assert_eq!(weights, before);
    }

    #[test]
    fn the_nearer_two_moments_are_the_more_alike_they_are() {
        let manifest = presets::tiny();
        let mut weights = seeded(&manifest, 1);
        let before = weights.clone();
        place_in_time(&mut weights, &manifest);
        let table = weights.get("text.embedding.weight").unwrap().values();
        let width = manifest.t5.d_model as usize;
        let first = manifest.time_tokens.first_id as usize;
        let to_the_tenth = |bin| likeness(table, width, first + 10, first + bin);
        assert!(to_the_tenth(10) > to_the_tenth(11) && to_the_tenth(11) > to_the_tenth(13));
        assert!(to_the_tenth(13) > to_the_tenth(60));
        let text = before.get("text.embedding.weight").unwrap().values();
        assert_eq!(table[..first * width], text[..first * width]);
        let size = table[first * width..].iter().map(|value| value * value).sum::<f32>();
        let expected = table.len() - first * width;
        #[expect(clippy::cast_precision_loss, reason = "a small table")]
        let mean = size / expected as f32;
        assert!((0.95..1.05).contains(&mean), "{mean}");
    }
}
