//! Windows as raw tensors in a safetensors file: how a network is tried on inputs that someone else
//! has computed, without a video.
//!
//! | tensor | shape | holds |
//! |---|---|---|
//! | `video` | `[rows, frames, dim]` | features of the frames, floats |
//! | `frames` | `[frames, side, side, 3]` | in its place: RGB pictures of one row, bytes |
//! | `input_ids` | `[rows, tokens]` | token ids, 32 or 64 bits, padded at the end |
//!
//! Other tensors are not looked at.

use std::{fs, path::Path};

use ndarray::{Array2, Axis};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{
    checkpoint::floats,
    error::{Error, Result},
};

/// Tensors for a network.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Inputs {
    /// Features of each row, `[frames, dim]`.
    pub features: Option<Vec<Array2<f32>>>,
    /// How many pictures there are, and their bytes one after another.
    pub frames: Option<(usize, Vec<u8>)>,
    /// Token ids of each row.
    pub input_ids: Option<Vec<Vec<i64>>>,
    /// The number of rows.
    pub rows: usize,
}

impl Inputs {
    /// Reads a file. At least one tensor must be there.
    ///
    /// # Errors
    /// [`Error::Read`] and [`Error::Safetensors`] if it is no such file, [`Error::Input`] if a tensor
    /// is missing, is not of the shape or type that it should be, or has other rows than another.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes =
            fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|source| Error::Safetensors { path: path.to_owned(), source })?;
        let wrong = |name: &str, problem: String| Error::Input {
            path: path.to_owned(),
            name: name.to_owned(),
            problem,
        };
        let features = read(&file, "video", video).map_err(|problem| wrong("video", problem))?;
        let frames = read(&file, "frames", pictures).map_err(|problem| wrong("frames", problem))?;
        let input_ids =
            read(&file, "input_ids", ids).map_err(|problem| wrong("input_ids", problem))?;
        if features.is_some() && frames.is_some() {
            return Err(wrong("frames", "`video` is there too".to_owned()));
        }
        let rows = match (&features, &frames, &input_ids) {
            (Some(features), _, _) => features.len(),
            (None, Some(_), _) => 1,
            (None, None, Some(ids)) => ids.len(),
            (None, None, None) => {
                return Err(wrong(
                    "video",
                    "neither it nor `frames` nor `input_ids` is there".to_owned(),
                ));
            }
        };
        if let Some(ids) = &input_ids
            && ids.len() != rows
        {
            return Err(wrong(
                "input_ids",
                format!("it has {} rows for {rows} of video", ids.len()),
            ));
        }
        Ok(Self { features, frames, input_ids, rows })
    }
}

/// What a tensor of the file holds, if it is there; else why it cannot be used.
fn read<T>(
    file: &SafeTensors<'_>,
    name: &str,
    holds: impl Fn(&TensorView<'_>) -> Result<T, String>,
) -> Result<Option<T>, String> {
    file.tensor(name).ok().map(|tensor| holds(&tensor)).transpose()
}

fn dimensions<const N: usize>(tensor: &TensorView<'_>) -> Result<[usize; N], String> {
    let shape = tensor.shape();
    shape.try_into().map_err(|_| format!("its shape is {shape:?}, expected {N} dimensions"))
}

fn video(tensor: &TensorView<'_>) -> Result<Vec<Array2<f32>>, String> {
    let [rows, frames, dim] = dimensions(tensor)?;
    let values =
        floats("video", tensor.dtype(), tensor.data()).map_err(|error| error.to_string())?;
    let all = ndarray::Array3::from_shape_vec((rows, frames, dim), values)
        .map_err(|error| error.to_string())?;
    Ok(all.axis_iter(Axis(0)).map(|row| row.to_owned()).collect())
}

fn pictures(tensor: &TensorView<'_>) -> Result<(usize, Vec<u8>), String> {
    let [frames, _, _, _] = dimensions(tensor)?;
    match tensor.dtype() {
        Dtype::U8 => Ok((frames, tensor.data().to_vec())),
        other => Err(format!("it holds `{other:?}`, expected bytes")),
    }
}

fn ids(tensor: &TensorView<'_>) -> Result<Vec<Vec<i64>>, String> {
    let [rows, tokens] = dimensions(tensor)?;
    let bytes = tensor.data();
    let ids: Vec<i64> = match tensor.dtype() {
        Dtype::I32 => bytes.as_chunks().0.iter().map(|id| i32::from_le_bytes(*id).into()).collect(),
        Dtype::I64 => bytes.as_chunks().0.iter().map(|id| i64::from_le_bytes(*id)).collect(),
        other => return Err(format!("it holds `{other:?}`, expected whole numbers")),
    };
    let row = |row: usize| ids.iter().skip(row * tokens).take(tokens).copied().collect();
    Ok((0..rows).map(row).collect())
}
