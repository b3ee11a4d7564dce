//! How a new, small model starts: knowing the order of moments and of places, with patches and features whose
//! directions are all about as loud.
//!
//! The released models grow out of encoders that were trained on much more. One that starts from nothing spends most of
//! its first steps on finding out that time is a line; waves (arXiv 1706.03762, section 3.5) tell it so. They tell a
//! vision encoder what lies next to what, too, and its heads where to look at first (in the manner of arXiv 2305.09828).

use burn::tensor::Device;
use eventide_model::manifest::{Manifest, Vision};
use nalgebra::{DMatrix, DVector};
use ndarray::Array2;

use crate::{
    contrast::{Captioned, patches},
    error::{Error, Result},
    parameters::floats,
    seeded::draw,
    tensors::{Start, TensorSpec},
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

/// How loud the values of a patch are, beside places.
const PATCH: f64 = 0.5;
/// Shares of the variance of patches below this count for little.
const PATCH_NOISE: f64 = 1e-4;

/// Makes the patch embedding of a new vision encoder one under which the directions in which patches of `pictures`
/// differ most are all about as loud: the mean colour of a patch is hundreds of times as loud as an edge, and what
/// is learnt from such patches is deaf to outlines for long.
///
/// # Errors
/// [`Error::Features`] if there are no pictures.
pub fn even_patches(
    weights: &mut Weights,
    manifest: &Manifest,
    pictures: &[Captioned],
    device: &Device,
) -> Result<()> {
    let name = "vision.patch_embedding.weight";
    let Some(embedding) = weights.get(name) else { return Ok(()) };
    if pictures.is_empty() {
        return Err(Error::Features);
    }
    let shape = embedding.shape().to_vec();
    let mut values = embedding.values().to_vec();
    let pictures: Vec<&[u8]> = pictures.iter().map(|example| example.picture.as_slice()).collect();
    let patches = patches(&manifest.vision, &pictures, || [1.0, 0.0], device);
    let [_, _, pixels] = patches.dims();
    let patches = patches.reshape([-1, i32::try_from(pixels).unwrap_or(i32::MAX)]);
    let count = patches.dims()[0];
    let centred = patches.clone() - patches.mean_dim(0);
    let covariance = floats(centred.clone().transpose().matmul(centred));
    #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^52 patches")]
    let covariance = matrix(pixels, pixels, &covariance) / count as f64;
    let noise = PATCH_NOISE * covariance.trace();
    let directions = covariance.symmetric_eigen();
    let mut loudest: Vec<usize> = (0..pixels).collect();
    loudest.sort_by(|&a, &b| directions.eigenvalues[b].total_cmp(&directions.eigenvalues[a]));
    for (row, &direction) in values.chunks_mut(pixels).zip(&loudest) {
        let size = PATCH / (directions.eigenvalues[direction].max(0.0) + noise).sqrt();
        let direction = directions.eigenvectors.column(direction);
        row.iter_mut().zip(&direction).for_each(|(value, along)| *value = narrow(along * size));
    }
    weights.insert(name.to_owned(), Weight::filled(shape, values));
    Ok(())
}

/// Where the heads of the first two layers look: so many columns to the right, so many rows down.
const NEIGHBOURS: [[f64; 2]; 8] = [
    [0.0, 0.0],
    [1.0, 0.0],
    [0.0, 1.0],
    [1.0, 1.0],
    [-1.0, 0.0],
    [0.0, -1.0],
    [-1.0, -1.0],
    [1.0, -1.0],
];
/// Layers that look around.
const LOOKING: usize = 2;
/// How sharply they do.
const SHARPNESS: f64 = 2.0;
/// How loud the values of a place are, beside patches.
const LOUDNESS: f64 = 0.7;
/// Radians from a patch to the next in the longest and the shortest wave.
const LONGEST_WAVE: f64 = 0.5;
const SHORTEST_WAVE: f64 = 0.75 * std::f64::consts::PI;

/// Has the patches of a new vision encoder lie on waves, across and down, and each head of its first layers look at
/// another neighbour of a patch: outlines are larger than patches.
pub fn look_around(weights: &mut Weights, manifest: &Manifest, seed: u64) {
    let sizes = &manifest.vision;
    let [width, heads, layers] = [sizes.width, sizes.heads, sizes.layers].map(|size| size as usize);
    let head = width / heads;
    // Places lie in a few directions, by chance, of all.
    let spec = TensorSpec {
        name: "vision.places".to_owned(),
        shape: vec![width, head],
        start: Start::Normal(1.0),
        source: String::new(),
        source_shape: vec![width, head],
        turned: false,
    };
    let directions = matrix(width, head, draw(&spec, seed).values()).qr().q();
    place(weights, sizes, &directions);
    for (layer, head_of_layer) in
        (0..layers.min(LOOKING)).flat_map(|layer| (0..heads).map(move |head| (layer, head)))
    {
        let name = format!("vision.{layer}.attention.query_key_value.weight");
        let Some(weight) = weights.get(&name) else { continue };
        let (shape, mut values) = (weight.shape().to_vec(), weight.values().to_vec());
        let neighbour = NEIGHBOURS[(layer * heads + head_of_layer) % NEIGHBOURS.len()];
        let query = &directions * shift(head, neighbour).transpose() * SHARPNESS;
        let key = &directions * SHARPNESS;
        for (first, part) in [(0, &query), (width, &key)] {
            for (row, column) in (0..width).flat_map(|row| (0..head).map(move |at| (row, at))) {
                let at = row * 3 * width + first + head_of_layer * head + column;
                values[at] = narrow(part[(row, column)]);
            }
        }
        weights.insert(name, Weight::filled(shape, values));
    }
}

/// Radians a patch of wave `number` of `count`.
#[expect(clippy::cast_precision_loss, reason = "there are few waves")]
fn rate(number: usize, count: usize) -> f64 {
    let by = number as f64 / (count.max(2) - 1) as f64;
    LONGEST_WAVE + (SHORTEST_WAVE - LONGEST_WAVE) * by
}

/// Puts the patches on waves along `directions` `[width, head]`: of each head's values a quarter are cosines across, a
/// quarter sines across, and so on down.
#[expect(clippy::cast_precision_loss, reason = "pictures are small")]
fn place(weights: &mut Weights, sizes: &Vision, directions: &DMatrix<f64>) {
    let name = "vision.position_embedding";
    let Some(embedding) = weights.get(name) else { return };
    let (shape, mut values) = (embedding.shape().to_vec(), embedding.values().to_vec());
    let (width, head) = (directions.nrows(), directions.ncols());
    let (grid, waves) = ((sizes.image_size / sizes.patch.max(1)) as usize, head / 4);
    let size = LOUDNESS * (width as f64 / head as f64).sqrt();
    for (patch, row) in values.chunks_mut(width).skip(1).enumerate() {
        let mut code = DVector::zeros(head);
        for (axis, at) in [patch % grid, patch / grid].into_iter().enumerate() {
            for wave in 0..waves {
                let (sin, cos) = (rate(wave, waves) * at as f64).sin_cos();
                code[2 * axis * waves + wave] = cos;
                code[(2 * axis + 1) * waves + wave] = sin;
            }
        }
        let placed = directions * code * size;
        row.iter_mut().zip(&placed).for_each(|(value, placed)| *value = narrow(*placed));
    }
    weights.insert(name.to_owned(), Weight::filled(shape, values));
}

/// Takes the code of a place to that of the place `across` columns and `down` rows away, `[head, head]`.
fn shift(head: usize, [across, down]: [f64; 2]) -> DMatrix<f64> {
    let waves = head / 4;
    let mut shift = DMatrix::zeros(head, head);
    for (axis, by) in [across, down].into_iter().enumerate() {
        for wave in 0..waves {
            let (sine, cosine) = (rate(wave, waves) * by).sin_cos();
            let (c, s) = (2 * axis * waves + wave, (2 * axis + 1) * waves + wave);
            shift[(c, c)] = cosine;
            shift[(c, s)] = -sine;
            shift[(s, c)] = sine;
            shift[(s, s)] = cosine;
        }
    }
    shift
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
    fn patches_differ_as_much_in_outlines_as_in_colour() {
        let manifest = presets::tiny();
        let mut weights = seeded(&manifest, 1);
        let sizes = &manifest.vision;
        let (side, device) = (sizes.image_size as usize, Device::flex());
        let mut numbers = StdRng::seed_from_u64(5);
        // Loud plain grounds with faint grain.
        let picture = |_| {
            let ground: u8 = numbers.random_range(20..230);
            let grain = (0..side * side * 3).map(|_| ground + numbers.random_range(0..9));
            Captioned { picture: grain.collect(), phrases: Vec::new() }
        };
        let pictures: Vec<Captioned> = (0..64).map(picture).collect();
        let spread = |weights: &Weights| {
            let embedding = weights.get("vision.patch_embedding.weight").unwrap();
            let shown: Vec<&[u8]> = pictures.iter().map(|one| one.picture.as_slice()).collect();
            let patches = patches(sizes, &shown, || [1.0, 0.0], &device);
            let [pictures, count, pixels] = patches.dims();
            let (rows, width) = (pictures * count, sizes.width as usize);
            let patches = matrix(rows, pixels, &floats(patches));
            let seen = patches * matrix(width, pixels, embedding.values()).transpose();
            let mean = seen.row_mean();
            let centred = DMatrix::from_fn(rows, width, |row, at| seen[(row, at)] - mean[at]);
            let loudness = centred.tr_mul(&centred).symmetric_eigenvalues();
            let mut loudness: Vec<f64> = loudness.iter().copied().collect();
            loudness.sort_by(f64::total_cmp);
            loudness[width / 2] / loudness[width - 1]
        };
        let uneven = spread(&weights);
        even_patches(&mut weights, &manifest, &pictures, &device).unwrap();
        let even = spread(&weights);
        assert!(even > 0.02 && even > 50.0 * uneven, "{uneven} and {even}");
        let none = even_patches(&mut weights, &manifest, &[], &device);
        assert!(matches!(none, Err(Error::Features)));
    }

    #[test]
    fn heads_look_at_neighbours() {
        let manifest = presets::tiny();
        let mut weights = seeded(&manifest, 1);
        look_around(&mut weights, &manifest, 1);
        let sizes = &manifest.vision;
        let [width, heads] = [sizes.width, sizes.heads].map(|size| size as usize);
        let (grid, head) = ((sizes.image_size / sizes.patch) as usize, width / heads);
        let places = weights.get("vision.position_embedding").unwrap();
        let places = matrix(grid * grid + 1, width, places.values());
        let weight = weights.get("vision.0.attention.query_key_value.weight").unwrap();
        let weight = matrix(width, 3 * width, weight.values());
        let looked = &places * weight;
        // The second head looks one to the right.
        let part =
            |row: usize, first: usize| looked.view((row, first + head), (1, head)).into_owned();
        let query = part(1, 0);
        let at: Vec<f64> = (1..=grid * grid).map(|row| query.dot(&part(row, width))).collect();
        let most = (0..at.len()).max_by(|&a, &b| at[a].total_cmp(&at[b]));
        assert_eq!(most, Some(1), "{at:?}");
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
