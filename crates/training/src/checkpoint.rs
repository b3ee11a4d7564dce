//! Checkpoints as others leave them: `PyTorch`'s zip of pickles, and safetensors. Tensors are read
//! one at a time, and no code in a pickle is ever run.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File as DiskFile,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensorError, tensor::Metadata};

use crate::{
    archive::{Archive, each},
    error::{Error, Result},
    weights::Weight,
};

mod huggingface;

/// An opened checkpoint: the names and shapes of its tensors, and the way to their values.
pub struct Checkpoint {
    path: PathBuf,
    tensors: BTreeMap<String, Stored>,
    file: File,
}

/// What is known of a tensor before its values are read.
#[derive(Debug, Clone)]
struct Stored {
    /// The tensors of the file that it is made of, one below the other; most often one.
    parts: Vec<String>,
    /// Whether it is a matrix that lies in the file the other way round.
    turned: bool,
    /// Its shape as it is given out.
    shape: Vec<usize>,
}

impl Stored {
    fn as_it_is(name: &str, shape: &[usize]) -> Self {
        Self { parts: vec![name.to_owned()], turned: false, shape: shape.to_vec() }
    }
}

enum File {
    Archive(Archive),
    Safetensors { file: DiskFile, start: u64, metadata: Metadata },
}

/// The longest header of a safetensors file that is read, in bytes: what the format allows.
const LONGEST_HEADER: u64 = 100_000_000;

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

    /// Opens what `torch.save` or `torch.jit.save` wrote: a state dictionary, a dictionary that has
    /// one under `model` or `state_dict`, or a `TorchScript` module.
    ///
    /// # Errors
    /// [`Error::Read`] if the file cannot be opened, [`Error::Checkpoint`] if it is another kind of
    /// file, [`Error::Pickle`] if it names code or is damaged, [`Error::Entry`] and
    /// [`Error::Damaged`] likewise, [`Error::Empty`] if there are no tensors in it.
    pub fn read_pytorch(path: &Path) -> Result<Self> {
        let archive = Archive::open(path)?;
        let tensors = archive
            .shapes()
            .map(|(name, shape)| (name.to_owned(), Stored::as_it_is(name, shape)))
            .collect();
        Ok(Self { path: path.to_owned(), tensors, file: File::Archive(archive) })
    }

    /// Opens a safetensors file.
    ///
    /// # Errors
    /// [`Error::Read`], and [`Error::Safetensors`] if it is another kind of file or cut short.
    pub fn read_safetensors(path: &Path) -> Result<Self> {
        let unreadable = |source| Error::Read { path: path.to_owned(), source };
        let wrong = |source| Error::Safetensors { path: path.to_owned(), source };
        let file = DiskFile::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let header = header(&file, length).map_err(unreadable)?.map_err(wrong)?;
        let start = 8 + header.len() as u64;
        let metadata = serde_json::from_slice::<Metadata>(&header)
            .map_err(SafeTensorError::InvalidHeaderDeserialization)
            .map_err(wrong)?;
        // Reading it has compared shapes, types and places; what is left is that all of it is there.
        if metadata.data_len() as u64 != length - start {
            return Err(wrong(SafeTensorError::MetadataIncompleteBuffer));
        }
        let tensors = metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| (name.clone(), Stored::as_it_is(&name, &info.shape)));
        let tensors = tensors.collect();
        Ok(Self {
            path: path.to_owned(),
            tensors,
            file: File::Safetensors { file, start, metadata },
        })
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

    /// The same tensors under `OpenAI`'s names, if they are a CLIP model under Hugging Face's; else as
    /// they are.
    ///
    /// # Errors
    /// [`Error::Missing`] for a part of an attention layer that is not there.
    pub fn with_openai_names(mut self) -> Result<Self> {
        if self.contains("vision_model.embeddings.class_embedding") {
            self.tensors = huggingface::renamed(&self.tensors)?;
        }
        Ok(self)
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

    /// The names and shapes of all tensors, sorted by name.
    pub(crate) fn all_shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, stored)| (name.as_str(), stored.shape.as_slice()))
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
        let mut values = Vec::new();
        for part in &stored.parts {
            let part = self.values(name, part)?;
            if values.is_empty() {
                values = part;
            } else {
                values.extend(part);
            }
        }
        let found = stored.shape.clone();
        let lies = match found[..] {
            [rows, columns] if stored.turned => vec![columns, rows],
            _ => found.clone(),
        };
        let length = values.len();
        let weight = Weight::new(lies, values).ok_or_else(|| Error::Shape {
            name: name.to_owned(),
            expected: vec![length],
            found,
        })?;
        Ok(if stored.turned { weight.transposed() } else { weight })
    }

    fn stored(&self, name: &str) -> Result<&Stored> {
        self.tensors.get(name).ok_or_else(|| Error::Missing { name: name.to_owned() })
    }

    /// The values of a tensor of the file, `part`, for the tensor `name`.
    fn values(&self, name: &str, part: &str) -> Result<Vec<f32>> {
        match &self.file {
            File::Archive(archive) => archive.values(part),
            File::Safetensors { file, start, metadata } => {
                let info =
                    metadata.info(part).ok_or_else(|| Error::Missing { name: name.to_owned() })?;
                let (from, to) = info.data_offsets;
                let mut bytes = vec![0; to - from];
                file.read_exact_at(&mut bytes, start + from as u64)
                    .map_err(|source| Error::Read { path: self.path.clone(), source })?;
                floats(name, info.dtype, &bytes)
            }
        }
    }
}

/// The header of a safetensors file of `length` bytes: a length in eight bytes, then JSON.
fn header(file: &DiskFile, length: u64) -> io::Result<Result<Vec<u8>, SafeTensorError>> {
    if length < 8 {
        return Ok(Err(SafeTensorError::HeaderTooSmall));
    }
    let mut size = [0; 8];
    file.read_exact_at(&mut size, 0)?;
    let size = u64::from_le_bytes(size);
    if size > LONGEST_HEADER {
        return Ok(Err(SafeTensorError::HeaderTooLarge));
    }
    if size > length - 8 {
        return Ok(Err(SafeTensorError::InvalidHeaderLength));
    }
    let mut header = vec![0; usize::try_from(size).unwrap_or_default()];
    file.read_exact_at(&mut header, 8)?;
    Ok(Ok(header))
}

/// The floats of some bytes, widened to `f32`.
pub(crate) fn floats(name: &str, element: Dtype, bytes: &[u8]) -> Result<Vec<f32>> {
    match element {
        Dtype::F32 => Ok(each(bytes, f32::from_le_bytes)),
        Dtype::F16 => Ok(each(bytes, |half| f16::from_le_bytes(half).to_f32())),
        Dtype::BF16 => Ok(each(bytes, |half| bf16::from_le_bytes(half).to_f32())),
        other => Err(Error::Element { name: name.to_owned(), element: format!("{other:?}") }),
    }
}
