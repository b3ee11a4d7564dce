//! Windows as raw tensors in a safetensors file: how a network is tried on inputs that someone else
//! has computed, without a video.
//!
//! | tensor | shape | holds |
//! |---|---|---|
//! | `video` | `[rows, frames, dim]` | features of the frames, floats |
//! | `feature_count` | `[rows]` | how many of them there are in each row, 32 or 64 bits; all if it is not there. What follows is not looked at |
//! | `frames` | `[frames, side, side, 3]` | in its place: RGB pictures of one row, bytes |
//! | `input_ids` | `[rows, tokens]` | token ids, 32 or 64 bits, padded at the end |
//!
//! Other tensors are not looked at.

use std::{fs, path::Path};

use ndarray::{Array2, Axis, s};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{
    checkpoint::floats,
    error::{Error, Result},
};

/// Tensors for a network.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Inputs {
    /// Features of each row, `[frames, dim]`: as many as were counted.
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
    /// is missing, is not of the shape or type that it should be, has other rows than another, or counts more
    /// features than there are.
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
        let mut features =
            read(&file, "video", video).map_err(|problem| wrong("video", problem))?;
        if let Some(counts) = read(&file, "feature_count", numbers::<1>)
            .map_err(|problem| wrong("feature_count", problem))?
        {
            counted(features.as_deref_mut(), &counts.1)
                .map_err(|problem| wrong("feature_count", problem))?;
        }
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

/// Leaves as many features in each row as its count says.
fn counted(features: Option<&mut [Array2<f32>]>, counts: &[i64]) -> Result<(), String> {
    let features = features.ok_or("`video`, whose features it counts, is not there")?;
    let rows = features.len();
    if counts.len() != rows {
        return Err(format!("it has {} rows for {rows} of video", counts.len()));
    }
    for (row, (features, &count)) in features.iter_mut().zip(counts).enumerate() {
        let frames = features.nrows();
        match usize::try_from(count) {
            Ok(count) if count <= frames => *features = features.slice(s![..count, ..]).to_owned(),
            _ => return Err(format!("it is {count} in row {row}, of {frames} features")),
        }
    }
    Ok(())
}

fn ids(tensor: &TensorView<'_>) -> Result<Vec<Vec<i64>>, String> {
    let ([rows, tokens], ids) = numbers(tensor)?;
    let row = |row: usize| ids.iter().skip(row * tokens).take(tokens).copied().collect();
    Ok((0..rows).map(row).collect())
}

/// The shape of a tensor of whole numbers, and these.
fn numbers<const N: usize>(tensor: &TensorView<'_>) -> Result<([usize; N], Vec<i64>), String> {
    let bytes = tensor.data();
    let numbers = match tensor.dtype() {
        Dtype::I32 => bytes.as_chunks().0.iter().map(|id| i32::from_le_bytes(*id).into()).collect(),
        Dtype::I64 => bytes.as_chunks().0.iter().map(|id| i64::from_le_bytes(*id)).collect(),
        other => return Err(format!("it holds `{other:?}`, expected whole numbers")),
    };
    Ok((dimensions(tensor)?, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// A file with two rows of three features, and these counts.
    fn read(counts: &[i64], video: bool) -> Result<Inputs> {
        let bytes =
            |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        let video = video.then(|| bytes(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
        let counts_bytes: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
        let view = |kind, shape, bytes| TensorView::new(kind, shape, bytes).unwrap();
        let video = video.as_ref().map(|bytes| ("video", view(Dtype::F32, vec![2, 3, 1], bytes)));
        let counts = ("feature_count", view(Dtype::I64, vec![counts.len()], &counts_bytes));
        let file = tempfile::NamedTempFile::new().unwrap();
        safetensors::serialize_to_file(video.into_iter().chain([counts]), None, file.path())
            .unwrap();
        Inputs::read(file.path())
    }

    #[test]
    fn features_are_as_many_as_counted() {
        let found = read(&[3, 1], true).unwrap();
        let rows: Vec<Vec<f32>> =
            found.features.unwrap().into_iter().map(|row| row.into_iter().collect()).collect();
        assert_eq!(rows, [vec![0.0, 1.0, 2.0], vec![3.0]]);
    }

    #[rstest]
    #[case::too_many(&[3, 4], true, "`feature_count` in `")]
    #[case::too_many(&[3, 4], true, "it is 4 in row 1, of 3 features")]
    #[case::less_than_none(&[-1, 3], true, "it is -1 in row 0")]
    #[case::other_rows(&[3], true, "it has 1 rows for 2 of video")]
    #[case::nothing_to_count(&[3], false, "`video`, whose features it counts, is not there")]
    fn refuses(#[case] counts: &[i64], #[case] video: bool, #[case] because: &str) {
        let error = read(counts, video).unwrap_err().to_string();
        assert!(error.contains(because), "{error}");
    }
}
