//! The frames of one window that the model looks at, and the rows that their features take.

use std::path::Path;

use eventide_media::{Exactness, FrameRequest, Frames, Media, Probe};
use eventide_model::{frames, manifest::FrameRule};
use eventide_schema::TimeSpan;
use ndarray::Array2;

/// What was sampled of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled {
    /// The pictures that are there.
    pub frames: Frames,
    /// The slots of the window's grid of one picture a second that were wanted, increasing; some may
    /// have lost their picture.
    pub slots: Vec<usize>,
}

impl Sampled {
    /// The row of each picture's features, increasing: its place among the wanted slots.
    #[must_use]
    pub fn rows(&self) -> Vec<usize> {
        let row = |slot: &usize| self.slots.binary_search(slot).ok();
        self.frames.slots.iter().filter_map(row).collect()
    }
}

/// The frames of `window` that `rule` picks, as squares of `size` pixels.
///
/// # Errors
/// As [`Media::frames`].
pub async fn sample(
    media: &Media,
    file: &Path,
    probe: &Probe,
    window: TimeSpan,
    size: u32,
    rule: &FrameRule,
) -> Result<Sampled, eventide_media::Error> {
    let slots = frames::pick(eventide_media::slots(window), rule);
    let request = FrameRequest { size, window, slots: &slots, exactness: Exactness::Exact };
    let frames = media.frames(file, probe, &request).await?.value;
    Ok(Sampled { frames, slots })
}

/// Features `[row_count, dim]` as the model takes them: those of each picture on its row, zero where
/// there is no picture, so that a lost one does not move the later ones to another time.
///
/// `encoded` has a row for each of `rows`, all less than `row_count`.
#[must_use]
pub fn features_in_place(encoded: &Array2<f32>, rows: &[usize], row_count: usize) -> Array2<f32> {
    let mut features = Array2::zeros((row_count, encoded.ncols()));
    for (&row, feature) in rows.iter().zip(encoded.rows()) {
        features.row_mut(row).assign(&feature);
    }
    features
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_lost_picture_leaves_its_row_empty() {
        let frames = Frames {
            size: 1,
            pixels: vec![0; 6],
            times_us: vec![0, 8_000_000],
            slots: vec![0, 8],
            missing: 1,
            shift_us: 0,
            is_short: false,
        };
        let sampled = Sampled { frames, slots: vec![0, 4, 8] };
        assert_eq!(sampled.rows(), [0, 2]);
        let features = features_in_place(&array![[1.0, 2.0], [3.0, 4.0]], &sampled.rows(), 3);
        assert_eq!(features, array![[1.0, 2.0], [0.0, 0.0], [3.0, 4.0]]);
    }
}
