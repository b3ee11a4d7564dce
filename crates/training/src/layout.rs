//! Where each weight lies in `model.safetensors`: the graphs point into that file, so that there is
//! one copy of the weights and any reader of safetensors can open it.
//!
//! | precision | what lies there |
//! |---|---|
//! | fp32 | every tensor as `F32` |
//! | fp16 | matrices as `F16`, the others as `F32` |
//! | int8 | linear layers but for the output layer as `I8` `[in, out]` with `{name}.scale` `F32` `[out]`, the others as `F32` |

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, Write},
};

use eventide_model::manifest::{Manifest, Precision};
use half::f16;
use safetensors::Dtype;
use serde_json::{Map, json};

use crate::{
    error::{Error, Result},
    quantise::{int8, scales},
    tensors::{TensorSpec, tensors},
    weights::{Source, Weight},
};

/// The alignment of the data, and of every tensor whose size is a multiple of it.
pub const ALIGNMENT: usize = 64;

/// One tensor of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// What it holds.
    pub element: Dtype,
    /// Its first byte, counted from the start of the file.
    pub offset: usize,
    /// Its size in bytes.
    pub length: usize,
    /// The weight that it is made of, and how.
    source: String,
    form: Form,
}

/// How a tensor of the file is made of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Floats,
    Halves,
    /// Whole numbers with a scale for each column.
    Int8,
    /// Those scales.
    Scales,
}

impl Form {
    fn element(self) -> Dtype {
        match self {
            Self::Floats | Self::Scales => Dtype::F32,
            Self::Halves => Dtype::F16,
            Self::Int8 => Dtype::I8,
        }
    }

    /// The bytes of `weight` in this form.
    fn bytes(self, weight: &Weight) -> Vec<u8> {
        let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
        match self {
            Self::Floats => floats(weight.values()),
            Self::Halves => {
                let halves = weight.values().iter().map(|value| f16::from_f32(*value));
                halves.flat_map(f16::to_le_bytes).collect()
            }
            Self::Int8 => int8(weight),
            Self::Scales => floats(&scales(weight)),
        }
    }
}

/// The plan of a safetensors file of weights.
///
/// The format allows no gaps between tensors, so those whose size is a multiple of [`ALIGNMENT`]
/// come first and are all aligned; the others, which are small, follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    header: Vec<u8>,
    order: Vec<String>,
    entries: BTreeMap<String, Entry>,
}

impl Layout {
    /// Plans the file that holds `weights` as they are.
    #[must_use]
    pub fn of(weights: &impl Source) -> Self {
        let shapes = weights.shapes();
        Self::plan(shapes.iter().map(|(name, shape)| planned(name, name, shape, Form::Floats)))
    }

    /// Plans the file of the model that `manifest` describes, in its precision.
    #[must_use]
    pub fn of_model(manifest: &Manifest) -> Self {
        Self::of_tensors(&tensors(manifest), manifest.precision)
    }

    /// Plans the file of these tensors in a precision.
    #[must_use]
    pub fn of_tensors(table: &[TensorSpec], precision: Precision) -> Self {
        let planned = table.iter().flat_map(|tensor| {
            let (name, shape) = (tensor.name.as_str(), tensor.shape.as_slice());
            let as_it_is = |form| vec![planned(name, name, shape, form)];
            match precision {
                Precision::Fp16 if shape.len() > 1 => as_it_is(Form::Halves),
                // Those that lie the other way round in a checkpoint are the linear layers.
                Precision::Int8 if tensor.turned => vec![
                    planned(name, name, shape, Form::Int8),
                    planned(&scale_of(name), name, &shape[1..], Form::Scales),
                ],
                Precision::Fp32 | Precision::Fp16 | Precision::Int8 => as_it_is(Form::Floats),
            }
        });
        Self::plan(planned)
    }

    fn plan(tensors: impl Iterator<Item = (String, Entry)>) -> Self {
        let mut tensors: Vec<(String, Entry)> = tensors.collect();
        tensors.sort_by(|(a, first), (b, second)| {
            let key = |entry: &Entry| !entry.length.is_multiple_of(ALIGNMENT);
            key(first).cmp(&key(second)).then_with(|| a.cmp(b))
        });
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({ "format": "eventide" }));
        let mut end = 0;
        for (name, entry) in &mut tensors {
            entry.offset = end;
            end += entry.length;
            let described = json!({
                "dtype": entry.element.to_string(),
                "shape": entry.shape,
                "data_offsets": [entry.offset, end],
            });
            header.insert(name.clone(), described);
        }
        let mut header = serde_json::Value::Object(header).to_string().into_bytes();
        // The length of the header comes first, in eight bytes; spaces after it are allowed.
        let padded = (8 + header.len()).next_multiple_of(ALIGNMENT) - 8;
        header.resize(padded, b' ');
        for (_, entry) in &mut tensors {
            entry.offset += 8 + padded;
        }
        let order = tensors.iter().map(|(name, _)| name.clone()).collect();
        Self { header, order, entries: tensors.into_iter().collect() }
    }

    /// Where the tensor of this name lies.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// Writes the file, one weight at a time. `weights` has those that it was planned for.
    ///
    /// # Errors
    /// What `weights` says, [`Error::Shape`] for one that is not as planned; and of the writer, which
    /// `failed` makes an error of.
    pub fn write(
        &self,
        weights: &dyn Source,
        file: &mut impl Write,
        failed: impl Fn(io::Error) -> Error,
    ) -> Result<()> {
        file.write_all(&(self.header.len() as u64).to_le_bytes()).map_err(&failed)?;
        file.write_all(&self.header).map_err(&failed)?;
        // A matrix and its scales follow one another, and are made of one weight.
        let mut last: Option<(&str, Cow<'_, Weight>)> = None;
        for (name, entry) in
            self.order.iter().filter_map(|name| Some((name, self.entries.get(name)?)))
        {
            let weight = match last.take() {
                Some((source, weight)) if source == entry.source => weight,
                _ => weights.weight(&entry.source)?,
            };
            let bytes = entry.form.bytes(&weight);
            if bytes.len() != entry.length {
                return Err(Error::Shape {
                    name: name.clone(),
                    expected: entry.shape.clone(),
                    found: weight.shape().to_vec(),
                });
            }
            file.write_all(&bytes).map_err(&failed)?;
            last = Some((&entry.source, weight));
        }
        Ok(())
    }
}

fn planned(name: &str, source: &str, shape: &[usize], form: Form) -> (String, Entry) {
    let element = form.element();
    let length = shape.iter().product::<usize>() * element.bitsize() / 8;
    let (shape, source) = (shape.to_vec(), source.to_owned());
    (name.to_owned(), Entry { shape, element, offset: 0, length, source, form })
}

/// The name of the scales of a quantised matrix.
pub(crate) fn scale_of(name: &str) -> String {
    format!("{name}.scale")
}
