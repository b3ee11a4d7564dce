//! Where each weight lies in `model.safetensors`: the graphs point into that file, so that there is
//! one copy of the weights and any reader of safetensors can open it.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde_json::{Map, json};

use crate::weights::Weights;

/// The alignment of the data, and of every tensor whose size is a multiple of it.
pub const ALIGNMENT: usize = 64;

/// One tensor of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its first byte, counted from the start of the file.
    pub offset: usize,
    /// Its size in bytes: four for each element.
    pub length: usize,
}

/// The plan of a safetensors file of `f32` weights.
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
    /// Plans the file that holds `weights`.
    #[must_use]
    pub fn of(weights: &Weights) -> Self {
        let mut sizes: Vec<(&str, &[usize])> =
            weights.iter().map(|(name, weight)| (name, weight.shape())).collect();
        sizes.sort_by_key(|(name, shape)| (!bytes(shape).is_multiple_of(ALIGNMENT), *name));
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({ "format": "eventide" }));
        let mut end = 0;
        for (name, shape) in &sizes {
            let start = end;
            end += bytes(shape);
            let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, end] });
            header.insert((*name).to_owned(), entry);
        }
        let mut header = serde_json::Value::Object(header).to_string().into_bytes();
        // The length of the header comes first, in eight bytes; spaces after it are allowed.
        let padded = (8 + header.len()).next_multiple_of(ALIGNMENT) - 8;
        header.resize(padded, b' ');

        let mut offset = 8 + padded;
        let mut entries = BTreeMap::new();
        for (name, shape) in &sizes {
            let length = bytes(shape);
            entries.insert((*name).to_owned(), Entry { shape: shape.to_vec(), offset, length });
            offset += length;
        }
        let order = sizes.iter().map(|(name, _)| (*name).to_owned()).collect();
        Self { header, order, entries }
    }

    /// Where the weight of this name lies.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// Writes the file. `weights` are those that it was planned for.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write(&self, weights: &Weights, file: &mut impl Write) -> io::Result<()> {
        file.write_all(&(self.header.len() as u64).to_le_bytes())?;
        file.write_all(&self.header)?;
        let mut block = Vec::with_capacity(1 << 18);
        for weight in self.order.iter().filter_map(|name| weights.get(name)) {
            for values in weight.values().chunks(1 << 16) {
                block.clear();
                block.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                file.write_all(&block)?;
            }
        }
        Ok(())
    }
}

fn bytes(shape: &[usize]) -> usize {
    shape.iter().product::<usize>() * size_of::<f32>()
}
