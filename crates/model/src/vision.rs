//! The vision encoder on a device: pictures in, one feature each out. All that is needed of a model to
//! prepare the features that another one learns from.

use std::collections::HashMap;

use ndarray::{Array2, Array4, Axis, s};

use crate::{
    bundle::Bundle,
    error::{Error, Result},
    manifest::{Vision, files},
    runtime::{Runtime, Session, SessionOptions, Tensor},
    vid2seq::{matrix, run_one, stop_if},
};

/// Frames that go through the vision encoder at once. With ViT-L/14 at 224 pixels a run holds about
/// 25 MB of activations a frame, so 400 MB.
pub const FRAMES_PER_RUN: usize = 16;

/// The vision encoder of a bundle, loaded. Belongs to one thread.
#[derive(Debug)]
pub struct VisionEncoder {
    session: Session,
    sizes: Vision,
}

impl VisionEncoder {
    /// Opens the vision graph of a bundle, and no other.
    ///
    /// # Errors
    /// [`Error::Runtime`] if the graph cannot be opened on that device.
    pub fn load(bundle: &Bundle, runtime: &Runtime, options: &SessionOptions) -> Result<Self> {
        let session = runtime.open(&bundle.path(files::VISION), options)?;
        Ok(Self { session, sizes: bundle.manifest().vision.clone() })
    }

    /// Features `[count, dim]` of `count` RGB pictures of `image_size` squared, one after another in
    /// `frames`. Equal pictures go through the encoder once, [`FRAMES_PER_RUN`] at a time; `should_stop` is
    /// asked before each run.
    ///
    /// # Errors
    /// [`Error::FrameBytes`] if `frames` is not `count` pictures long, [`Error::Cancelled`],
    /// [`Error::Runtime`].
    pub fn encode(
        &mut self,
        frames: &[u8],
        count: usize,
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Array2<f32>> {
        let side = self.sizes.image_size as usize;
        let dim = self.sizes.output_dim as usize;
        let picture = side * side * 3;
        let wrong_length = Error::FrameBytes {
            frames: count,
            expected: count.saturating_mul(picture),
            found: frames.len(),
        };
        if count.checked_mul(picture) != Some(frames.len()) {
            return Err(wrong_length);
        }
        let pictures: Vec<&[u8]> = frames.chunks_exact(picture).collect();
        let (distinct, places) = told_apart(&pictures);
        let mut features = Array2::zeros((distinct.len(), dim));
        for (run, chunk) in distinct.chunks(FRAMES_PER_RUN).enumerate() {
            stop_if(should_stop)?;
            let rows = chunk.len();
            let Ok(pictures) = Array4::from_shape_vec((rows, side, side, 3), chunk.concat()) else {
                return Err(wrong_length);
            };
            let pictures = Tensor::from_array(pictures)?;
            let encoded = run_one(&mut self.session, &[("frames", &pictures)], "features")?;
            let first = run * FRAMES_PER_RUN;
            features.slice_mut(s![first..first + rows, ..]).assign(&matrix(
                &encoded,
                "features",
                [rows, dim],
            )?);
        }
        Ok(features.select(Axis(0), &places))
    }
}

/// The pictures that differ in any byte, in their order, and for each picture the place of its like
/// among them.
fn told_apart<'a>(pictures: &[&'a [u8]]) -> (Vec<&'a [u8]>, Vec<usize>) {
    let mut distinct = Vec::new();
    let mut known = HashMap::new();
    let places = pictures.iter().map(|&picture| {
        *known.entry(picture).or_insert_with(|| {
            distinct.push(picture);
            distinct.len() - 1
        })
    });
    let places = places.collect();
    (distinct, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_apart_by_their_bytes() {
        let pictures = [[1, 2], [3, 4], [1, 2], [1, 3], [3, 4], [1, 2]];
        let views: Vec<&[u8]> = pictures.iter().map(<[u8; 2]>::as_slice).collect();
        let (distinct, places) = told_apart(&views);
        assert_eq!(distinct, [[1, 2], [3, 4], [1, 3]]);
        assert_eq!(places, [0, 1, 0, 2, 1, 0]);
        assert_eq!(told_apart(&[]), (Vec::new(), Vec::new()));
    }
}
