//! How a new, small model starts: knowing the order of moments, with features of usual size.
//!
//! The released models grow out of encoders that were trained on much more. One that starts from nothing spends most of
//! its first steps on finding out that time is a line; waves (arXiv 1706.03762, section 3.5) tell it so.

use eventide_model::manifest::Manifest;

use crate::weights::{Weight, Weights};

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

/// Scales the projection of the vision encoder so that features whose root mean square is `size` get 1.
pub fn bring_to_unit_size(weights: &mut Weights, size: f32) {
    let name = "vision.projection.weight";
    if let Some(projection) = weights.get(name).filter(|_| size > 0.0) {
        let values = projection.values().iter().map(|value| value / size).collect();
        let projection = Weight::filled(projection.shape().to_vec(), values);
        weights.insert(name.to_owned(), projection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{presets, seeded::seeded};

    fn likeness(rows: &[f32], width: usize, a: usize, b: usize) -> f32 {
        let row = |at: usize| &rows[at * width..(at + 1) * width];
        row(a).iter().zip(row(b)).map(|(a, b)| a * b).sum()
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
