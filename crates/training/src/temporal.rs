//! `temporal.onnx`: features of frames to visual memory.

use eventide_model::manifest::{Gelu, Temporal};

use crate::{
    blocks::{Heads, Norm, Stream, affine, biased_block, gelu, usual_scale},
    error::Result,
    graph::{Graph, Size, Style},
    layout::Layout,
    pb::DataType,
};

/// The graph `features` f32 `[b, positions, dim]` to `memory` f32 `[b, positions, d_model]`.
/// Nothing is masked: rows of zeros stand for frames that the video does not have.
///
/// # Errors
/// [`Error::Missing`](crate::Error::Missing) if the layout lacks a weight.
pub(crate) fn temporal(
    sizes: &Temporal,
    d_model: usize,
    layout: &Layout,
    style: Style,
) -> Result<Vec<u8>> {
    let mut graph = Graph::new("temporal", layout, style);
    let positions = Size::Fixed(sizes.positions as usize);
    let shape = [Size::Named("b"), positions, Size::Fixed(sizes.dim as usize)];
    let features = graph.input("features", DataType::Float, &shape);

    let embedding = graph.weight("temporal.position_embedding");
    let placed = graph.node("Add", &[&features, &embedding]);
    let mut stream = Stream::new(placed, Norm::Layer, sizes.layer_norm_eps);
    let width = (sizes.dim / sizes.heads) as usize;
    let heads = Heads { count: sizes.heads as usize, width, scale: usual_scale(width) };
    let tanh = sizes.activation == Gelu::Tanh;
    for layer in 0..sizes.depth {
        let prefix = format!("temporal.{layer}");
        biased_block(&mut graph, &mut stream, &prefix, heads, |graph, value| {
            gelu(graph, value, tanh)
        });
    }
    let mut memory = stream.normalise(&mut graph, "temporal.output_norm");
    if sizes.projection {
        memory = affine(&mut graph, &memory, "temporal.projection");
    }
    graph.output(&memory, "memory", &[Size::Named("b"), positions, Size::Fixed(d_model)]);
    graph.finish()
}
