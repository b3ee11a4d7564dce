//! The weights of a model by name, as `f32` in memory, and their files.
//!
//! The names and shapes are those of [`tensors`](crate::tensors): linear layers lie as `[in, out]`,
//! which is what ONNX multiplies with.

use std::{borrow::Cow, collections::BTreeMap, fs, path::Path};

use eventide_model::manifest::Manifest;

use crate::{
    checkpoint::Checkpoint,
    error::{Error, Result},
    tensors::tensors,
};

/// Where the weights of a model come from, one at a time: not all of them need be in memory.
pub trait Source {
    /// The names and shapes of all tensors, sorted by name.
    fn shapes(&self) -> Vec<(&str, &[usize])>;

    /// One tensor.
    ///
    /// # Errors
    /// [`Error::Missing`], and what goes wrong where it is read.
    fn weight(&self, name: &str) -> Result<Cow<'_, Weight>>;
}

/// Checks that these are exactly the tensors of the model that `manifest` describes.
///
/// # Errors
/// [`Error::Missing`], [`Error::Shape`] or [`Error::Surplus`], with the first such tensor.
pub fn check(weights: &dyn Source, manifest: &Manifest) -> Result<()> {
    let expected = tensors(manifest);
    let mut found: BTreeMap<&str, &[usize]> = weights.shapes().into_iter().collect();
    for tensor in &expected {
        let missing = || Error::Missing { name: tensor.name.clone() };
        let shape = found.remove(tensor.name.as_str()).ok_or_else(missing)?;
        if shape != tensor.shape {
            return Err(Error::Shape {
                name: tensor.name.clone(),
                expected: tensor.shape.clone(),
                found: shape.to_vec(),
            });
        }
    }
    match found.keys().next() {
        Some(name) => Err(Error::Surplus { name: (*name).to_owned() }),
        None => Ok(()),
    }
}

/// One tensor of floats, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Weight {
    /// A tensor of this shape; `None` if the number of values is another.
    #[must_use]
    pub fn new(shape: Vec<usize>, values: Vec<f32>) -> Option<Self> {
        (shape.iter().product::<usize>() == values.len()).then_some(Self { shape, values })
    }

    /// Its dimensions.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its values, the last dimension fastest.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// A tensor of values that were made for this shape.
    pub(crate) fn filled(shape: Vec<usize>, values: Vec<f32>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        Self { shape, values }
    }

    /// The same values in another shape of as many elements.
    pub(crate) fn reshaped(self, shape: &[usize]) -> Self {
        Self::filled(shape.to_vec(), self.values)
    }

    /// The transpose of a matrix.
    #[must_use]
    pub fn transposed(&self) -> Self {
        let columns = self.shape.last().copied().unwrap_or(1);
        let rows = self.values.len() / columns.max(1);
        let mut values = Vec::with_capacity(self.values.len());
        for column in 0..columns {
            values.extend((0..rows).map(|row| self.values[row * columns + column]));
        }
        Self { shape: vec![columns, rows], values }
    }
}

/// All weights of a model, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weights(BTreeMap<String, Weight>);

impl Weights {
    /// Checks that these have the names and shapes of `others`.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Shape`] or [`Error::Surplus`], with the first such tensor.
    pub fn check_same(&self, others: &Self) -> Result<()> {
        for (name, other) in others.iter() {
            let weight = self.get(name).ok_or_else(|| Error::Missing { name: name.to_owned() })?;
            if weight.shape != other.shape {
                return Err(Error::Shape {
                    name: name.to_owned(),
                    expected: other.shape.clone(),
                    found: weight.shape.clone(),
                });
            }
        }
        match self.0.keys().find(|name| others.get(name).is_none()) {
            Some(name) => Err(Error::Surplus { name: name.clone() }),
            None => Ok(()),
        }
    }

    /// Reads a safetensors file with our names. Half-precision floats are widened.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Safetensors`], or [`Error::Element`] for a tensor without floats.
    pub fn read(path: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::read_safetensors(path)?;
        checkpoint.names().map(|name| Ok((name.to_owned(), checkpoint.weight(name)?))).collect()
    }

    /// Writes a safetensors file, aligned as in a bundle.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let error = |source| Error::Write { path: path.to_owned(), source };
        let mut file = fs::File::create(path).map_err(error)?;
        crate::layout::Layout::of(self).write(self, &mut file, error)
    }

    /// The tensor of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Weight> {
        self.0.get(name)
    }

    /// Puts a tensor in, in place of any of that name.
    pub fn insert(&mut self, name: String, weight: Weight) {
        self.0.insert(name, weight);
    }

    /// All tensors, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Weight)> {
        self.0.iter().map(|(name, weight)| (name.as_str(), weight))
    }

    /// The number of values in all tensors.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.0.values().map(|weight| weight.values.len()).sum()
    }

    /// Checks that these are exactly the tensors of the model that `manifest` describes.
    ///
    /// # Errors
    /// As [`check`].
    pub fn check(&self, manifest: &Manifest) -> Result<()> {
        check(self, manifest)
    }
}

impl Source for Weights {
    fn shapes(&self) -> Vec<(&str, &[usize])> {
        self.iter().map(|(name, weight)| (name, weight.shape())).collect()
    }

    fn weight(&self, name: &str) -> Result<Cow<'_, Weight>> {
        let missing = || Error::Missing { name: name.to_owned() };
        self.get(name).map(Cow::Borrowed).ok_or_else(missing)
    }
}

/// A safetensors file with our names, such as that of a bundle.
impl Source for Checkpoint {
    fn shapes(&self) -> Vec<(&str, &[usize])> {
        self.all_shapes().collect()
    }

    fn weight(&self, name: &str) -> Result<Cow<'_, Weight>> {
        Ok(Cow::Owned(self.weight(name)?))
    }
}

impl FromIterator<(String, Weight)> for Weights {
    fn from_iter<I: IntoIterator<Item = (String, Weight)>>(weights: I) -> Self {
        Self(weights.into_iter().collect())
    }
}

impl Extend<(String, Weight)> for Weights {
    fn extend<I: IntoIterator<Item = (String, Weight)>>(&mut self, weights: I) {
        self.0.extend(weights);
    }
}

impl IntoIterator for Weights {
    type Item = (String, Weight);
    type IntoIter = std::collections::btree_map::IntoIter<String, Weight>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
