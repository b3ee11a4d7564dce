//! Checkpoints as others leave them: `PyTorch`'s zip of pickles, and safetensors. Tensors are read
//! one at a time, and no code in a pickle is ever run.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use candle_core::{DType, pickle::PthTensors};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::Metadata};

use crate::{
    error::{Error, Result},
    weights::Weight,
};

/// Where `PyTorch` training scripts keep the weights beside the optimiser's state.
const STATE_KEYS: [&str; 2] = ["model", "state_dict"];

/// An opened checkpoint: the names and shapes of its tensors, and the way to their values.
pub struct Checkpoint {
    path: PathBuf,
    tensors: BTreeMap<String, Stored>,
    file: File,
}

/// What is known of a tensor before its values are read.
struct Stored {
    /// Its name in the file.
    name: String,
    shape: Vec<usize>,
}

enum File {
    Pickle(PthTensors),
    Safetensors { bytes: Vec<u8>, start: usize, metadata: Metadata },
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Checkpoint").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Checkpoint {
    /// Opens a file: safetensors if its name ends so, else a `PyTorch` checkpoint.
    ///
    /// # Errors
    /// Those of [`Checkpoint::read_pytorch`] and [`Checkpoint::read_safetensors`].
    pub fn read(path: &Path) -> Result<Self> {
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            Self::read_safetensors(path)
        } else {
            Self::read_pytorch(path)
        }
    }

    /// Opens a checkpoint that `torch.save` wrote: a state dictionary, or a dictionary that has one
    /// under `model` or `state_dict`.
    ///
    /// # Errors
    /// [`Error::Read`] if the file cannot be opened, [`Error::Checkpoint`] if it is another kind of
    /// file, [`Error::Empty`] if there is no state dictionary in it.
    pub fn read_pytorch(path: &Path) -> Result<Self> {
        fs::File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        for key in STATE_KEYS.map(Some).into_iter().chain([None]) {
            // A key that is not there is an error like any other; the last try tells which it was.
            let pickle = match PthTensors::new(path, key) {
                Ok(pickle) => pickle,
                Err(_) if key.is_some() => continue,
                Err(source) => return Err(Error::Checkpoint { path: path.to_owned(), source }),
            };
            let infos = pickle.tensor_infos();
            if infos.is_empty() {
                continue;
            }
            let tensors = infos.iter().map(|(name, info)| {
                let shape = info.layout.shape().dims().to_vec();
                (name.clone(), Stored { name: name.clone(), shape })
            });
            let tensors = tensors.collect();
            return Ok(Self { path: path.to_owned(), tensors, file: File::Pickle(pickle) });
        }
        Err(Error::Empty { path: path.to_owned() })
    }

    /// Opens a safetensors file.
    ///
    /// # Errors
    /// [`Error::Read`] and [`Error::Safetensors`].
    pub fn read_safetensors(path: &Path) -> Result<Self> {
        let bytes =
            fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let (length, metadata) = SafeTensors::read_metadata(&bytes)
            .map_err(|source| Error::Safetensors { path: path.to_owned(), source })?;
        let tensors = metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| (name.clone(), Stored { name, shape: info.shape.clone() }));
        let tensors = tensors.collect();
        let file = File::Safetensors { bytes, start: length + 8, metadata };
        Ok(Self { path: path.to_owned(), tensors, file })
    }

    /// The same tensors with `prefix` before every name, for a file that holds one part of a model.
    #[must_use]
    pub fn prefixed(mut self, prefix: &str) -> Self {
        self.tensors = self
            .tensors
            .into_iter()
            .map(|(name, stored)| (format!("{prefix}{name}"), stored))
            .collect();
        self
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The dimensions of a tensor.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.stored(name)?.shape)
    }

    /// The `N` dimensions of a tensor.
    ///
    /// # Errors
    /// [`Error::Missing`], and [`Error::Rank`] if it has another number of them.
    pub fn sizes<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let shape = self.shape(name)?;
        shape.try_into().map_err(|_| Error::Rank {
            name: name.to_owned(),
            rank: N,
            found: shape.to_vec(),
        })
    }

    /// The values of a tensor, widened to `f32` or rounded to it.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Element`] if it does not hold floats, and [`Error::Checkpoint`]
    /// if the file is damaged.
    pub fn weight(&self, name: &str) -> Result<Weight> {
        let stored = self.stored(name)?;
        let values = match &self.file {
            File::Pickle(pickle) => self.pickled(pickle, name, &stored.name)?,
            File::Safetensors { bytes, start, metadata } => {
                let info = metadata
                    .info(&stored.name)
                    .ok_or_else(|| Error::Missing { name: name.to_owned() })?;
                let (from, to) = info.data_offsets;
                floats(name, info.dtype, &bytes[start + from..start + to])?
            }
        };
        let found = stored.shape.clone();
        let length = values.len();
        Weight::new(found.clone(), values).ok_or_else(|| Error::Shape {
            name: name.to_owned(),
            expected: vec![length],
            found,
        })
    }

    fn stored(&self, name: &str) -> Result<&Stored> {
        self.tensors.get(name).ok_or_else(|| Error::Missing { name: name.to_owned() })
    }

    fn pickled(&self, pickle: &PthTensors, name: &str, stored: &str) -> Result<Vec<f32>> {
        let damaged = |source| Error::Checkpoint { path: self.path.clone(), source };
        let tensor = pickle
            .get(stored)
            .map_err(damaged)?
            .ok_or_else(|| Error::Missing { name: name.to_owned() })?;
        if !tensor.dtype().is_float() {
            let element = tensor.dtype().as_str().to_owned();
            return Err(Error::Element { name: name.to_owned(), element });
        }
        let tensor = tensor.to_dtype(DType::F32).and_then(|tensor| tensor.flatten_all());
        tensor.and_then(|tensor| tensor.to_vec1()).map_err(damaged)
    }
}

fn floats(name: &str, element: Dtype, bytes: &[u8]) -> Result<Vec<f32>> {
    match element {
        Dtype::F32 => Ok(each(bytes, f32::from_le_bytes)),
        Dtype::F16 => Ok(each(bytes, |half| f16::from_le_bytes(half).to_f32())),
        Dtype::BF16 => Ok(each(bytes, |half| bf16::from_le_bytes(half).to_f32())),
        other => Err(Error::Element { name: name.to_owned(), element: format!("{other:?}") }),
    }
}

fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|chunk| value(*chunk)).collect()
}
