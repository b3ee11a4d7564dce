//! What was computed from videos, kept on the disk: one small safetensors file a video.
//!
//! | in a file | holds |
//! |---|---|
//! | tensor `rows` | a row for each picture that is there: `[n, dim]` float16 features or `[n, side, side, 3]` bytes |
//! | tensor `slots` | `[n]` 64-bit: which second of the video's grid each row is of, increasing |
//! | tensor `wanted` | `[m]` 64-bit: the seconds that were asked for, those without a picture included |
//! | `version` | of which state of the video: its size and when it was written |
//! | `duration_us` | how long the video is |
//! | `digest` | SHA-256 of the three tensors |
//!
//! A file that is missing, damaged, or of another state of the video is one that is not there.

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use half::f16;
use ndarray::{Array, Dimension, Ix2, Ix4};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use sha2::{Digest as _, Sha256};

use super::error::{Error, Result};

/// Rows that were computed from a video, one for each picture that is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows<T, D: Dimension> {
    /// The rows, in the order of time.
    pub values: Array<T, D>,
    /// The second of the video's grid that each row is of, increasing.
    pub slots: Vec<usize>,
    /// The seconds that were asked for, increasing: `slots`, and those that lost their picture.
    pub wanted: Vec<usize>,
    /// Length of the video in microseconds.
    pub duration_us: i64,
}

/// Features `[n, dim]` of the pictures of a video.
pub type Features = Rows<f16, Ix2>;
/// Pictures `[n, side, side, 3]` of a video: rows from the top; red, green, blue.
pub type Pictures = Rows<u8, Ix4>;

/// An element of rows, and the dimensions that rows of it have.
pub trait Kept: Copy {
    /// The dimensions of the rows.
    type Shape: Dimension;
    /// Its name in a file.
    const DTYPE: Dtype;

    /// The bytes of some elements, little-endian.
    fn bytes(elements: &[Self]) -> Vec<u8>;

    /// The elements of some bytes.
    fn elements(bytes: &[u8]) -> Vec<Self>;
}

impl Kept for f16 {
    type Shape = Ix2;
    const DTYPE: Dtype = Dtype::F16;

    fn bytes(elements: &[Self]) -> Vec<u8> {
        elements.iter().flat_map(|element| element.to_le_bytes()).collect()
    }

    fn elements(bytes: &[u8]) -> Vec<Self> {
        bytes.as_chunks().0.iter().map(|bytes| Self::from_le_bytes(*bytes)).collect()
    }
}

impl Kept for u8 {
    type Shape = Ix4;
    const DTYPE: Dtype = Dtype::U8;

    fn bytes(elements: &[Self]) -> Vec<u8> {
        elements.to_vec()
    }

    fn elements(bytes: &[u8]) -> Vec<Self> {
        bytes.to_vec()
    }
}

/// A folder of files that were computed in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The part of `folder` for what is computed in the way that `key` names, such as a digest. It is
    /// made where it is not there.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn open(folder: &Path, key: &str) -> Result<Self> {
        let folder = folder.join(key);
        match fs::create_dir_all(&folder) {
            Ok(()) => Ok(Self { folder }),
            Err(source) => Err(Error::Write { path: folder, source }),
        }
    }

    /// What is kept of the present state of a video; `None` where that is to be computed.
    ///
    /// # Errors
    /// [`Error::Read`] where the video is not there.
    pub fn get<T: Kept>(&self, video: &Path) -> Result<Option<Rows<T, T::Shape>>> {
        Ok(self.get_named(&name(video)?, &version(video)?))
    }

    /// What is kept of a video that is no file but follows from what `name` and `version` say together.
    #[must_use]
    pub fn get_named<T: Kept>(&self, name: &str, version: &str) -> Option<Rows<T, T::Shape>> {
        parse(&fs::read(self.place(name)).ok()?, version)
    }

    /// Keeps what was computed of the present state of a video. The file appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::Read`] where the video is not there, [`Error::Write`], [`Error::Cache`].
    pub fn put<T: Kept>(&self, video: &Path, rows: &Rows<T, T::Shape>) -> Result<()> {
        self.put_named(&name(video)?, version(video)?, rows)
    }

    /// Keeps what was computed of a video that is no file, likewise.
    ///
    /// # Errors
    /// [`Error::Write`], [`Error::Cache`].
    pub fn put_named<T: Kept>(
        &self,
        name: &str,
        version: String,
        rows: &Rows<T, T::Shape>,
    ) -> Result<()> {
        let place = self.place(name);
        let bytes = written(rows, version)
            .map_err(|source| Error::Cache { path: place.clone(), source })?;
        let write = || {
            let mut file =
                tempfile::Builder::new().prefix(".partial-").tempfile_in(&self.folder)?;
            file.write_all(&bytes)?;
            file.persist(&place)?;
            Ok(())
        };
        write().map_err(|source| Error::Write { path: place.clone(), source })
    }

    /// Where the file of a video is: named after the video, so that a new state of it takes the place of an old one.
    fn place(&self, name: &str) -> PathBuf {
        self.folder.join(eventide_schema::video_id(name)).with_extension("safetensors")
    }
}

/// The name of a video that is a file: where it lies.
fn name(video: &Path) -> Result<String> {
    let path = std::path::absolute(video)
        .map_err(|source| Error::Read { path: video.to_owned(), source })?;
    Ok(path.to_string_lossy().into_owned())
}

/// The state of a file: its size and when it was written, in nanoseconds.
fn version(video: &Path) -> Result<String> {
    let unreadable = |source| Error::Read { path: video.to_owned(), source };
    let metadata = fs::metadata(video).map_err(unreadable)?;
    let written = metadata.modified().map_err(unreadable)?;
    let written = written.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    Ok(format!("{}-{written}", metadata.len()))
}

fn written<T: Kept>(
    rows: &Rows<T, T::Shape>,
    version: String,
) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let values = T::bytes(&rows.values.iter().copied().collect::<Vec<_>>());
    let (slots, wanted) = (seconds(&rows.slots), seconds(&rows.wanted));
    let metadata = HashMap::from([
        ("version".to_owned(), version),
        ("duration_us".to_owned(), rows.duration_us.to_string()),
        ("digest".to_owned(), digest(&[&values, &slots, &wanted])),
    ]);
    let shape = rows.values.shape().to_vec();
    let tensors = [
        ("rows", TensorView::new(T::DTYPE, shape, &values)?),
        ("slots", TensorView::new(Dtype::I64, vec![rows.slots.len()], &slots)?),
        ("wanted", TensorView::new(Dtype::I64, vec![rows.wanted.len()], &wanted)?),
    ];
    safetensors::serialize(tensors, Some(metadata))
}

/// What a file holds, if it is whole and of this version.
fn parse<T: Kept>(bytes: &[u8], version: &str) -> Option<Rows<T, T::Shape>> {
    let (_, header) = SafeTensors::read_metadata(bytes).ok()?;
    let told = header.metadata().as_ref()?;
    let file = SafeTensors::deserialize(bytes).ok()?;
    let [values, slots, wanted] = ["rows", "slots", "wanted"].map(|name| file.tensor(name).ok());
    let (values, slots, wanted) = (values?, slots?, wanted?);
    let found = digest(&[values.data(), slots.data(), wanted.data()]);
    if told.get("version")? != version
        || *told.get("digest")? != found
        || values.dtype() != T::DTYPE
    {
        return None;
    }
    let shape =
        Array::<T, ndarray::IxDyn>::from_shape_vec(values.shape(), T::elements(values.data()));
    Some(Rows {
        values: shape.ok()?.into_dimensionality().ok()?,
        slots: whole(slots.data()),
        wanted: whole(wanted.data()),
        duration_us: told.get("duration_us")?.parse().ok()?,
    })
}

fn seconds(slots: &[usize]) -> Vec<u8> {
    slots.iter().flat_map(|&slot| (slot as u64).to_le_bytes()).collect()
}

fn whole(bytes: &[u8]) -> Vec<usize> {
    let number =
        |bytes: &[u8; 8]| usize::try_from(u64::from_le_bytes(*bytes)).unwrap_or(usize::MAX);
    bytes.as_chunks().0.iter().map(number).collect()
}

fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    format!("{:x}", hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use rstest::rstest;

    fn features() -> Features {
        let values = Array2::from_shape_fn((2, 3), |(row, column)| {
            f16::from_f32(if row == 0 { 0.5 } else { -2.0 } * if column == 0 { 1.0 } else { 3.0 })
        });
        Rows { values, slots: vec![0, 2], wanted: vec![0, 1, 2], duration_us: 3_100_000 }
    }

    /// A cache, and a video of three bytes.
    fn cache() -> (tempfile::TempDir, Cache, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let video = folder.path().join("a.mp4");
        fs::write(&video, b"abc").unwrap();
        let cache = Cache::open(folder.path(), "key").unwrap();
        (folder, cache, video)
    }

    #[test]
    fn what_was_kept_is_there() {
        let (_folder, cache, video) = cache();
        assert_eq!(cache.get::<f16>(&video).unwrap(), None);
        cache.put(&video, &features()).unwrap();
        assert_eq!(cache.get(&video).unwrap(), Some(features()));
        assert_eq!(cache.get::<u8>(&video).unwrap(), None, "it holds features, not pictures");
        let names = fs::read_dir(&cache.folder).unwrap().count();
        assert_eq!(names, 1, "nothing is left half written");
    }

    #[test]
    fn a_video_that_changes_is_another() {
        let (_folder, cache, video) = cache();
        cache.put(&video, &features()).unwrap();
        fs::write(&video, b"abcd").unwrap();
        assert_eq!(cache.get::<f16>(&video).unwrap(), None);
    }

    #[rstest]
    #[case::cut_off(|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1))]
    #[case::empty(|bytes: &mut Vec<u8>| bytes.clear())]
    #[case::one_bit(|bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1)]
    #[case::a_length_beyond_the_file(|bytes: &mut Vec<u8>| bytes[..8].fill(255))]
    fn a_damaged_file_is_not_there(#[case] damage: fn(&mut Vec<u8>)) {
        let (_folder, cache, video) = cache();
        cache.put(&video, &features()).unwrap();
        let place = cache.place(&name(&video).unwrap());
        let mut bytes = fs::read(&place).unwrap();
        damage(&mut bytes);
        fs::write(&place, bytes).unwrap();
        assert_eq!(cache.get::<f16>(&video).unwrap(), None);
        cache.put(&video, &features()).unwrap();
        assert_eq!(cache.get(&video).unwrap(), Some(features()));
    }

    #[test]
    fn a_video_that_is_not_there_is_named() {
        let (folder, cache, _) = cache();
        let error = cache.get::<f16>(&folder.path().join("b.mp4")).unwrap_err().to_string();
        assert!(error.contains("b.mp4"), "{error}");
    }
}
