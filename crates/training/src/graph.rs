//! A small builder of ONNX graphs. Weights are not in the graph: it points into `model.safetensors`.

use std::collections::BTreeMap;

use prost::Message as _;
use safetensors::Dtype;

use eventide_model::manifest::files;

use crate::{
    error::{Error, Result},
    layout::{Entry, Layout, scale_of},
    pb::{
        AttributeProto, AttributeType, DataType, DimensionProto, EXTERNAL, GraphProto, ModelProto,
        NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto,
        TensorTypeProto, TypeProto, ValueInfoProto,
    },
};

/// Which operators the graphs are written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// With ONNX Runtime's own fused operators: faster, and for ONNX Runtime only.
    #[default]
    Fused,
    /// Plain ONNX, operator set 21: any runtime reads it.
    Portable,
}

/// The version of ONNX's own operator set that we write.
const OPERATOR_SET: i64 = 21;
/// The version of the file format that goes with it.
const IR_VERSION: i64 = 10;
/// The domain of ONNX Runtime's fused operators.
pub(crate) const MICROSOFT: &str = "com.microsoft";

/// A size of an input or output.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Size {
    /// Known when the graph is built.
    Fixed(usize),
    /// Known when it runs; equal names are equal sizes.
    Named(&'static str),
}

/// A graph in the making. Values are known by their names.
pub(crate) struct Graph<'a> {
    layout: &'a Layout,
    style: Style,
    body: GraphProto,
    /// The weights that are used so far, and what their values are called as floats.
    weights: BTreeMap<String, String>,
    missing: Option<String>,
}

impl<'a> Graph<'a> {
    pub(crate) fn new(name: &str, layout: &'a Layout, style: Style) -> Self {
        let body = GraphProto { name: Some(name.to_owned()), ..GraphProto::default() };
        Self { layout, style, body, weights: BTreeMap::new(), missing: None }
    }

    pub(crate) fn fused(&self) -> bool {
        self.style == Style::Fused
    }

    /// Declares an input.
    pub(crate) fn input(&mut self, name: &str, element: DataType, shape: &[Size]) -> String {
        self.body.input.push(value_info(name, element, shape));
        name.to_owned()
    }

    /// Declares `value` to be the output `name`. The value takes that name.
    pub(crate) fn output(&mut self, value: &str, name: &str, shape: &[Size]) {
        let values = self.body.node.iter_mut().flat_map(|node| {
            let NodeProto { input, output, .. } = node;
            input.iter_mut().chain(output)
        });
        for used in values.filter(|used| *used == value) {
            name.clone_into(used);
        }
        self.body.output.push(value_info(name, DataType::Float, shape));
    }

    /// The weight of this name as floats, from where it lies in `model.safetensors`.
    pub(crate) fn weight(&mut self, name: &str) -> String {
        if let Some(value) = self.weights.get(name) {
            return value.clone();
        }
        let element = self.initializer(name);
        let value = match element {
            Some(Dtype::F16) => {
                let to = integer_attribute("to", DataType::Float as i64);
                self.node_with("Cast", &[name], vec![to])
            }
            _ => name.to_owned(),
        };
        self.weights.insert(name.to_owned(), value.clone());
        value
    }

    /// The whole numbers of the weight of this name and their scales, if that is how it lies in
    /// `model.safetensors`.
    pub(crate) fn quantised(&mut self, name: &str) -> Option<[String; 2]> {
        let is_quantised = self.layout.entry(name).is_some_and(|entry| entry.element == Dtype::I8);
        is_quantised.then(|| {
            let parts = [name.to_owned(), scale_of(name)];
            for part in &parts {
                if !self.weights.contains_key(part) {
                    self.initializer(part);
                    self.weights.insert(part.clone(), part.clone());
                }
            }
            parts
        })
    }

    /// Points to a tensor of `model.safetensors`. The answer is what it holds.
    fn initializer(&mut self, name: &str) -> Option<Dtype> {
        let Some(entry) = self.layout.entry(name) else {
            self.missing = Some(name.to_owned());
            return None;
        };
        let Entry { shape, offset, length, element, .. } = entry;
        let data_type = match element {
            Dtype::F16 => DataType::Float16,
            Dtype::I8 => DataType::Int8,
            _ => DataType::Float,
        };
        self.body.initializer.push(TensorProto {
            dims: shape.iter().map(|&size| signed(size)).collect(),
            data_type: Some(data_type as i32),
            name: Some(name.to_owned()),
            raw_data: None,
            external_data: vec![
                pair("location", files::WEIGHTS),
                pair("offset", &offset.to_string()),
                pair("length", &length.to_string()),
            ],
            data_location: Some(EXTERNAL),
        });
        Some(*element)
    }

    /// A constant list of 64-bit integers.
    pub(crate) fn integers(&mut self, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(DataType::Int64, &[values.len()], bytes)
    }

    /// A constant 64-bit integer.
    pub(crate) fn integer(&mut self, value: i64) -> String {
        self.constant(DataType::Int64, &[], value.to_le_bytes().to_vec())
    }

    /// A constant list of 32-bit integers, for indices.
    pub(crate) fn indices(&mut self, values: &[i32]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(DataType::Int32, &[values.len()], bytes)
    }

    /// A constant list of floats.
    pub(crate) fn floats(&mut self, values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(DataType::Float, &[values.len()], bytes)
    }

    /// A constant float.
    pub(crate) fn float(&mut self, value: f32) -> String {
        self.constant(DataType::Float, &[], value.to_le_bytes().to_vec())
    }

    fn constant(&mut self, element: DataType, shape: &[usize], bytes: Vec<u8>) -> String {
        let dims: Vec<i64> = shape.iter().map(|&size| signed(size)).collect();
        let same = self.body.initializer.iter().find(|tensor| {
            tensor.raw_data.as_ref() == Some(&bytes)
                && tensor.dims == dims
                && tensor.data_type == Some(element as i32)
        });
        if let Some(name) = same.and_then(|tensor| tensor.name.clone()) {
            return name;
        }
        let name = format!("constant_{}", self.body.initializer.len());
        self.body.initializer.push(TensorProto {
            dims,
            data_type: Some(element as i32),
            name: Some(name.clone()),
            raw_data: Some(bytes),
            ..TensorProto::default()
        });
        name
    }

    /// Adds an operator of ONNX itself with one output.
    pub(crate) fn node(&mut self, operator: &str, inputs: &[&str]) -> String {
        self.node_with(operator, inputs, Vec::new())
    }

    /// Adds an operator of ONNX itself with attributes and one output.
    pub(crate) fn node_with(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        let output = self.fresh(operator, 0);
        self.push("", operator, inputs, vec![output.clone()], attributes);
        output
    }

    /// Adds an operator of a domain, with as many outputs as `wanted` has entries; those that are
    /// `false` are left out.
    pub(crate) fn node_of<const N: usize>(
        &mut self,
        domain: &str,
        operator: &str,
        inputs: &[&str],
        wanted: [bool; N],
        attributes: Vec<AttributeProto>,
    ) -> [String; N] {
        let mut index = 0;
        let outputs = wanted.map(|wanted| {
            let name = if wanted { self.fresh(operator, index) } else { String::new() };
            index += 1;
            name
        });
        self.push(domain, operator, inputs, outputs.to_vec(), attributes);
        outputs
    }

    fn fresh(&self, operator: &str, index: usize) -> String {
        format!("{operator}_{}_{index}", self.body.node.len())
    }

    fn push(
        &mut self,
        domain: &str,
        operator: &str,
        inputs: &[&str],
        output: Vec<String>,
        attribute: Vec<AttributeProto>,
    ) {
        let name = format!("{operator}_{}", self.body.node.len());
        self.body.node.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output,
            name: Some(name),
            op_type: Some(operator.to_owned()),
            attribute,
            domain: Some(domain.to_owned()),
        });
    }

    /// The sizes of some dimensions of `value`, as a list of integers.
    pub(crate) fn sizes(&mut self, value: &str, start: i64, end: i64) -> String {
        let attributes = vec![integer_attribute("start", start), integer_attribute("end", end)];
        self.node_with("Shape", &[value], attributes)
    }

    /// `value` in another shape; a 0 keeps the size of that dimension, a -1 takes what is left.
    pub(crate) fn reshape(&mut self, value: &str, shape: &[i64]) -> String {
        let shape = self.integers(shape);
        self.node("Reshape", &[value, &shape])
    }

    /// `value` with its dimensions in another order.
    pub(crate) fn transpose(&mut self, value: &str, order: &[i64]) -> String {
        self.node_with("Transpose", &[value], vec![integers_attribute("perm", order)])
    }

    /// Entries of `value` along `axis`.
    pub(crate) fn gather(&mut self, value: &str, indices: &str, axis: i64) -> String {
        self.node_with("Gather", &[value, indices], vec![integer_attribute("axis", axis)])
    }

    /// `values` one after the other along `axis`.
    pub(crate) fn concat(&mut self, values: &[&str], axis: i64) -> String {
        self.node_with("Concat", values, vec![integer_attribute("axis", axis)])
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// [`Error::Missing`] if a weight was asked for that the layout lacks.
    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        if let Some(name) = self.missing {
            return Err(Error::Missing { name });
        }
        let domains: &[(&str, i64)] = match self.style {
            Style::Fused => &[("", OPERATOR_SET), (MICROSOFT, 1)],
            Style::Portable => &[("", OPERATOR_SET)],
        };
        let opset_import = domains.iter().map(|&(domain, version)| OperatorSetIdProto {
            domain: Some(domain.to_owned()),
            version: Some(version),
        });
        let model = ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some("eventide".to_owned()),
            graph: Some(self.body),
            opset_import: opset_import.collect(),
        };
        Ok(model.encode_to_vec())
    }
}

/// An integer setting.
pub(crate) fn integer_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, AttributeType::Int) }
}

/// A setting that is a list of integers.
pub(crate) fn integers_attribute(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

/// A float setting.
pub(crate) fn float_attribute(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, AttributeType::Float) }
}

/// A setting that is a word.
pub(crate) fn word_attribute(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.as_bytes().to_vec()), ..attribute(name, AttributeType::String) }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(kind as i32),
        ..AttributeProto::default()
    }
}

fn value_info(name: &str, element: DataType, shape: &[Size]) -> ValueInfoProto {
    let dimension = |size: &Size| match *size {
        Size::Fixed(size) => DimensionProto { dim_value: Some(signed(size)), dim_param: None },
        Size::Named(name) => DimensionProto { dim_value: None, dim_param: Some(name.to_owned()) },
    };
    let shape = TensorShapeProto { dim: shape.iter().map(dimension).collect() };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: Some(element as i32),
                shape: Some(shape),
            }),
        }),
    }
}

fn pair(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: Some(key.to_owned()), value: Some(value.to_owned()) }
}

/// A size as ONNX writes it.
pub(crate) fn signed(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
