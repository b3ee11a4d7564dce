//! Weights while they are trained: the same names and shapes as in the bundle, as parameters with gradients.

use std::collections::BTreeMap;

use burn::{
    module::{Module, Param, ParamId},
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData},
};

use crate::weights::{Weight, Weights};

/// The tensors that an optimiser steps, by rank. Their ids follow from their order, so that the state of an
/// optimiser fits after a restart.
#[derive(Module, Debug, Default)]
pub struct Tensors {
    vectors: Vec<Param<Tensor<1>>>,
    matrices: Vec<Param<Tensor<2>>>,
    kernels: Vec<Param<Tensor<4>>>,
}

/// Where a tensor lies in [`Tensors`].
#[derive(Debug, Clone, Copy)]
enum Place {
    Vector(usize),
    Matrix(usize),
    Kernel(usize),
}

/// Parameters by name.
#[derive(Debug)]
pub struct Parameters {
    places: BTreeMap<String, Place>,
    tensors: Tensors,
}

impl Parameters {
    /// Parameters that start as these weights, which have one, two or four dimensions.
    ///
    /// # Panics
    /// If a weight has another number of dimensions: no model has such a one.
    #[must_use]
    pub fn new(weights: &Weights, device: &Device) -> Self {
        let mut places = BTreeMap::new();
        let mut tensors = Tensors::default();
        for (number, (name, weight)) in (1..).zip(weights.iter()) {
            let id = ParamId::from(number);
            let place = match weight.shape().len() {
                1 => Place::Vector(push(&mut tensors.vectors, id, weight, device)),
                2 => Place::Matrix(push(&mut tensors.matrices, id, weight, device)),
                4 => Place::Kernel(push(&mut tensors.kernels, id, weight, device)),
                rank => unreachable!("`{name}` has {rank} dimensions"),
            };
            places.insert(name.to_owned(), place);
        }
        Self { places, tensors }
    }

    /// The values as they are now.
    ///
    /// # Panics
    /// If the device does not give them: it has run out of memory.
    #[must_use]
    pub fn weights(&self) -> Weights {
        let weight = |place: &Place| match *place {
            Place::Vector(index) => pull(&self.tensors.vectors[index]),
            Place::Matrix(index) => pull(&self.tensors.matrices[index]),
            Place::Kernel(index) => pull(&self.tensors.kernels[index]),
        };
        self.places.iter().map(|(name, place)| (name.clone(), weight(place))).collect()
    }

    /// The same values as leaves of other graphs, on `device`.
    #[must_use]
    pub fn fork(&self, device: &Device) -> Self {
        Self { places: self.places.clone(), tensors: self.tensors.clone().fork(device) }
    }

    /// The gradients of a loss, and its value.
    ///
    /// # Panics
    /// If the device does not give the value: it has run out of memory.
    #[must_use]
    pub fn gradients(&self, loss: &Tensor<1>) -> (GradientsParams, f32) {
        let gradients = GradientsParams::from_grads(loss.backward(), &self.tensors);
        (gradients, floats(loss.clone()).iter().sum())
    }

    /// A tensor of one dimension.
    ///
    /// # Panics
    /// If there is none of this name, as for the other two: the names come from [`tensors`](crate::tensors).
    #[must_use]
    pub fn vector(&self, name: &str) -> Tensor<1> {
        match self.places.get(name) {
            Some(&Place::Vector(index)) => self.tensors.vectors[index].val(),
            _ => unreachable!("no vector is called `{name}`"),
        }
    }

    /// A tensor of two dimensions.
    ///
    /// # Panics
    /// If there is none of this name.
    #[must_use]
    pub fn matrix(&self, name: &str) -> Tensor<2> {
        match self.places.get(name) {
            Some(&Place::Matrix(index)) => self.tensors.matrices[index].val(),
            _ => unreachable!("no matrix is called `{name}`"),
        }
    }

    /// A tensor of four dimensions.
    ///
    /// # Panics
    /// If there is none of this name.
    #[must_use]
    pub fn kernel(&self, name: &str) -> Tensor<4> {
        match self.places.get(name) {
            Some(&Place::Kernel(index)) => self.tensors.kernels[index].val(),
            _ => unreachable!("no kernel is called `{name}`"),
        }
    }

    /// All tensors, as an optimiser takes them.
    #[must_use]
    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// Replaces all tensors by what `change` makes of them.
    pub fn change(&mut self, change: impl FnOnce(Tensors) -> Tensors) {
        self.tensors = change(std::mem::take(&mut self.tensors));
    }

    /// Replaces a matrix by what `change` makes of it, which is not part of any gradient.
    pub fn change_matrix(&mut self, name: &str, change: impl FnOnce(Tensor<2>) -> Tensor<2>) {
        if let Some(&Place::Matrix(index)) = self.places.get(name) {
            let parameter = &mut self.tensors.matrices[index];
            let changed = |value: Tensor<2>| change(value.inner()).autodiff().require_grad();
            *parameter = parameter.clone().map(changed);
        }
    }
}

fn push<const D: usize>(
    place: &mut Vec<Param<Tensor<D>>>,
    id: ParamId,
    weight: &Weight,
    device: &Device,
) -> usize {
    let data = TensorData::new(weight.values().to_vec(), weight.shape().to_vec());
    let value = Tensor::<D>::from_data(data, device).require_grad();
    place.push(Param::initialized(id, value));
    place.len() - 1
}

fn pull<const D: usize>(parameter: &Param<Tensor<D>>) -> Weight {
    let value = parameter.val();
    let shape = value.dims().to_vec();
    Weight::filled(shape, floats(value))
}

/// The values of a tensor, row-major.
///
/// # Panics
/// If the device does not give them: it has run out of memory.
#[must_use]
pub fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.inner().try_into_vec_as::<f32>().expect("a tensor of floats can be read")
}
