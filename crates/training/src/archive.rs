//! The files of `torch.save` and `torch.jit.save`: a zip of one pickle that names the tensors, and of
//! the storages that hold their values.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use half::{bf16, f16};
use zip::ZipArchive;

use crate::{
    error::{Error, Result},
    pickle::{Object, Pickle, REBUILD_PARAMETER, REBUILD_TENSOR, is_script},
};

/// Where `PyTorch` training scripts keep the weights beside the optimiser's state.
const STATE_KEYS: [&str; 2] = ["model", "state_dict"];

/// The longest pickle that is read, in bytes. That of a released model has a tenth of a million.
const LONGEST_PICKLE: u64 = 32 << 20;

/// The most modules within modules of a `TorchScript` archive.
const DEEPEST: usize = 64;

/// The most attributes that are looked at in all its modules. Modules may be named twice, so that a small
/// file can have more of them than any computer could look at.
const MOST_ATTRIBUTES: usize = 1_000_000;

/// What a storage holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Element {
    fn of_storage(class: &str) -> Option<Self> {
        Some(match class {
            "torch DoubleStorage" => Self::F64,
            "torch FloatStorage" => Self::F32,
            "torch HalfStorage" => Self::F16,
            "torch BFloat16Storage" => Self::BF16,
            "torch LongStorage" => Self::I64,
            "torch IntStorage" => Self::I32,
            "torch ShortStorage" => Self::I16,
            "torch CharStorage" => Self::I8,
            "torch ByteStorage" => Self::U8,
            "torch BoolStorage" => Self::Bool,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::Bool => "bool",
        }
    }

    /// The floats of some bytes, widened or rounded to `f32`; `None` if these are no floats.
    fn floats(self, bytes: &[u8]) -> Option<Vec<f32>> {
        Some(match self {
            Self::F64 => each(bytes, |value| round(f64::from_le_bytes(value))),
            Self::F32 => each(bytes, f32::from_le_bytes),
            Self::F16 => each(bytes, |value| f16::from_le_bytes(value).to_f32()),
            Self::BF16 => each(bytes, |value| bf16::from_le_bytes(value).to_f32()),
            _ => return None,
        })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "weights are float32 here")]
fn round(value: f64) -> f32 {
    value as f32
}

/// One value for each `N` bytes.
pub(crate) fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|chunk| value(*chunk)).collect()
}

/// A tensor of an archive: which storage it lies in, and how.
#[derive(Debug, Clone)]
struct Tensor {
    storage: String,
    element: Element,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Tensor {
    /// Its values out of those of its storage; `None` if it reaches beyond, or repeats some.
    fn view(&self, values: Vec<f32>) -> Option<Vec<f32>> {
        let count = self.shape.iter().try_fold(1_usize, |all, size| all.checked_mul(*size))?;
        let end = self.offset.checked_add(count)?;
        if end > values.len() || self.shape.len() != self.strides.len() {
            return None;
        }
        if count == 0 {
            return Some(Vec::new());
        }
        if self.is_row_major() {
            return if count == values.len() {
                Some(values)
            } else {
                Some(values[self.offset..end].to_vec())
            };
        }
        let mut places = vec![self.offset];
        for (&size, &stride) in self.shape.iter().zip(&self.strides) {
            let steps = || (0..size).map(|index| index.checked_mul(stride));
            places = places
                .iter()
                .flat_map(|place| steps().map(|step| place.checked_add(step?)))
                .collect::<Option<_>>()?;
        }
        places.into_iter().map(|place| values.get(place).copied()).collect()
    }

    fn is_row_major(&self) -> bool {
        let mut expected = 1_usize;
        self.shape.iter().zip(&self.strides).rev().all(|(&size, &stride)| {
            let fits = size <= 1 || stride == expected;
            expected = expected.saturating_mul(size.max(1));
            fits
        })
    }
}

/// An opened archive.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    zip: ZipArchive<Window>,
    /// Of the file, in bytes.
    length: u64,
    /// How the names of all entries begin.
    prefix: String,
    tensors: BTreeMap<String, Tensor>,
}

impl Archive {
    /// Opens an archive and reads the names of its tensors: those of a state dictionary, of one under
    /// `model` or `state_dict`, or of the modules of a `TorchScript` archive.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let window =
            Window::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let length = window.length;
        let zip = ZipArchive::new(window)
            .map_err(|source| Error::Checkpoint { path: path.to_owned(), source })?;
        let name = zip.file_names().flatten().find_map(|name| {
            let (folder, file) = name.split_once('/')?;
            (file == "data.pkl").then(|| format!("{folder}/"))
        });
        let prefix = name.ok_or_else(|| Error::Empty { path: path.to_owned() })?;
        let mut archive =
            Self { path: path.to_owned(), zip, length, prefix, tensors: BTreeMap::new() };
        if archive.read("byteorder", 16).is_ok_and(|order| order != b"little") {
            return Err(archive.damaged("byteorder", "says that numbers lie big end first"));
        }
        let pickle = Pickle::read(&archive.read("data.pkl", LONGEST_PICKLE)?)
            .map_err(|source| Error::Pickle { path: path.to_owned(), source })?;
        archive.tensors = tensors(&pickle)
            .ok_or_else(|| archive.damaged("data.pkl", "describes a tensor that cannot be"))?;
        if archive.tensors.is_empty() {
            return Err(Error::Empty { path: path.to_owned() });
        }
        Ok(archive)
    }

    /// The names and shapes of all tensors.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice()))
    }

    /// The values of a tensor.
    pub(crate) fn values(&self, name: &str) -> Result<Vec<f32>> {
        let tensor =
            self.tensors.get(name).ok_or_else(|| Error::Missing { name: name.to_owned() })?;
        let entry = format!("data/{}", tensor.storage);
        let element =
            || Error::Element { name: name.to_owned(), element: tensor.element.name().to_owned() };
        let values = tensor.element.floats(&self.read(&entry, u64::MAX)?).ok_or_else(element)?;
        tensor
            .view(values)
            .ok_or_else(|| self.damaged(&entry, &format!("has no room for the tensor `{name}`")))
    }

    /// The bytes of an entry, checked by its checksum.
    fn read(&self, entry: &str, longest: u64) -> Result<Vec<u8>> {
        let name = format!("{}{entry}", self.prefix);
        let broken = |source| Error::Entry { path: self.path.clone(), entry: name.clone(), source };
        // A clone shares the directory; a reader of its own lets several read at once.
        let mut zip = self.zip.clone();
        let mut file = zip.by_name(&name).map_err(broken)?;
        // PyTorch compresses nothing, so an entry is never longer than the file.
        let length = file.size();
        if length > longest || length != file.compressed_size() || length > self.length {
            return Err(self.damaged(entry, &format!("cannot have {length} bytes")));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        file.read_to_end(&mut bytes).map_err(|source| broken(source.into()))?;
        Ok(bytes)
    }

    fn damaged(&self, entry: &str, problem: &str) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            entry: format!("{}{entry}", self.prefix),
            problem: problem.to_owned(),
        }
    }
}

/// The tensors of a pickle by name; `None` if one makes no sense.
fn tensors(pickle: &Pickle) -> Option<BTreeMap<String, Tensor>> {
    let mut tensors = BTreeMap::new();
    if let Object::Call { name, state: Some(state), .. } = pickle.root()
        && is_script(name)
    {
        let mut walk = Walk { pickle, left: MOST_ATTRIBUTES, tensors };
        walk.collect(pickle.get(*state), "", DEEPEST)?;
        return Some(walk.tensors);
    }
    let under = |key| pickle.named(pickle.root()).find(|(name, _)| *name == key);
    for (_, inner) in STATE_KEYS.into_iter().filter_map(under) {
        collect(pickle, inner, &mut tensors)?;
        if !tensors.is_empty() {
            return Some(tensors);
        }
    }
    collect(pickle, pickle.root(), &mut tensors)?;
    Some(tensors)
}

/// The tensors of a state dictionary.
fn collect(
    pickle: &Pickle,
    dictionary: &Object,
    tensors: &mut BTreeMap<String, Tensor>,
) -> Option<()> {
    for (name, object) in pickle.named(dictionary) {
        if is_tensor(object) {
            tensors.insert(name.to_owned(), tensor(pickle, object)?);
        }
    }
    Some(())
}

/// A walk through the modules of a `TorchScript` archive.
struct Walk<'a> {
    pickle: &'a Pickle,
    /// How many attributes may still be looked at.
    left: usize,
    tensors: BTreeMap<String, Tensor>,
}

impl Walk<'_> {
    /// Collects the tensors of a module and of those within, which the way to each names.
    fn collect(&mut self, attributes: &Object, prefix: &str, depth: usize) -> Option<()> {
        let pickle = self.pickle;
        for (name, object) in pickle.named(attributes) {
            self.left = self.left.checked_sub(1)?;
            let name = format!("{prefix}{name}");
            match object {
                object if is_tensor(object) => {
                    self.tensors.insert(name, tensor(pickle, object)?);
                }
                Object::Call { name: class, state: Some(state), .. } if is_script(class) => {
                    let inner = format!("{name}.");
                    self.collect(pickle.get(*state), &inner, depth.checked_sub(1)?)?;
                }
                _ => {}
            }
        }
        Some(())
    }
}

fn is_tensor(object: &Object) -> bool {
    matches!(object, Object::Call { name, .. } if name == REBUILD_TENSOR || name == REBUILD_PARAMETER)
}

fn tensor(pickle: &Pickle, object: &Object) -> Option<Tensor> {
    let Object::Call { name, arguments, .. } = object else { return None };
    let arguments = pickle.get(*arguments);
    if name == REBUILD_PARAMETER {
        let [inner] = pickle.items(arguments)?;
        // A parameter holds a tensor, never another parameter.
        return matches!(inner, Object::Call { name, .. } if name == REBUILD_TENSOR)
            .then(|| tensor(pickle, inner))?;
    }
    let [storage, offset, shape, strides] = pickle.items(arguments)?;
    let Object::Outside(storage) = storage else { return None };
    let [_, class, key] = pickle.items(pickle.get(*storage))?;
    let (Object::Name(class), Object::Text(key)) = (class, key) else { return None };
    Some(Tensor {
        storage: key.clone(),
        element: Element::of_storage(class)?,
        offset: pickle.size(offset)?,
        shape: pickle.sizes(shape)?,
        strides: pickle.sizes(strides)?,
    })
}

/// A file that several read at once, each from a place of its own.
#[derive(Debug, Clone)]
struct Window {
    file: Arc<File>,
    length: u64,
    at: u64,
}

impl Window {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), length, at: 0 })
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// A module of which each attribute holds the one before, twice: 2^40 ways lead to the first.
    fn doubled() -> Vec<u8> {
        let mut pickle = b"\x80\x02c__torch__\nHolder\nq\x00".to_vec();
        for level in 1..=40_u8 {
            pickle.extend(b"h\x00)\x81}(X\x01\x00\x00\x00a");
            let before: &[u8] = if level == 1 { b"N" } else { &[b'h', level - 1] };
            pickle.extend([before, b"X\x01\x00\x00\x00b", before, b"ub", &[b'q', level]].concat());
        }
        pickle.push(b'.');
        pickle
    }

    #[test]
    fn modules_without_end_are_refused() {
        let pickle = Pickle::read(&doubled()).unwrap();
        assert!(tensors(&pickle).is_none());
        let of_itself = b"\x80\x02c__torch__\nHolder\n)\x81q\x00}X\x01\x00\x00\x00ah\x00sb.";
        assert!(tensors(&Pickle::read(of_itself).unwrap()).is_none());
    }

    #[rstest]
    #[case::whole(&[2, 2], &[2, 1], 0, Some(vec![0.0, 1.0, 2.0, 3.0]))]
    #[case::a_part(&[2], &[1], 1, Some(vec![1.0, 2.0]))]
    #[case::turned(&[2, 2], &[1, 2], 0, Some(vec![0.0, 2.0, 1.0, 3.0]))]
    #[case::strides_of_one_row(&[1, 4], &[9, 1], 0, Some(vec![0.0, 1.0, 2.0, 3.0]))]
    #[case::one_number(&[], &[], 3, Some(vec![3.0]))]
    #[case::empty(&[0, 5], &[5, 1], 0, Some(vec![]))]
    #[case::beyond(&[2, 2], &[2, 1], 1, None)]
    #[case::strides_beyond(&[2, 2], &[1, 3], 0, None)]
    #[case::repeated(&[1 << 20, 1 << 20], &[0, 0], 0, None)]
    #[case::overflowing(&[usize::MAX, 2], &[2, 1], 0, None)]
    #[case::no_strides(&[2, 2], &[], 0, None)]
    fn views(
        #[case] shape: &[usize],
        #[case] strides: &[usize],
        #[case] offset: usize,
        #[case] expected: Option<Vec<f32>>,
    ) {
        let (shape, strides) = (shape.to_vec(), strides.to_vec());
        let storage = "0".to_owned();
        let tensor = Tensor { storage, element: Element::F32, offset, shape, strides };
        let found = tensor.view(vec![0.0, 1.0, 2.0, 3.0]);
        assert_eq!(found, expected);
    }
}
