//! `encoder.onnx` of a sentence bundle: a BERT, the mean of its last layer, to length 1.

use eventide_model::sentence::Bert;

use crate::{
    blocks::{Heads, Norm, Scores, Stream, affine, attention, gelu, key_mask, usual_scale},
    error::Result,
    graph::{Graph, Size, Style, integer_attribute},
    layout::Layout,
    pb::DataType,
};

const ROWS: Size = Size::Named("rows");
const LENGTH: Size = Size::Named("length");
/// Keeps the length of a vector of nothing from being 0.
const SMALLEST: f32 = 1e-12;

/// The graph `tokens` and `mask` i64 `[rows, length]` (1 where there is a token) and `positions` i64 `[length]` to
/// `sentences` f32 `[rows, width]`, each of length 1.
///
/// # Errors
/// [`Error::Missing`](crate::Error::Missing) if the layout lacks a weight.
pub(super) fn encoder(sizes: &Bert, layout: &Layout, style: Style) -> Result<Vec<u8>> {
    let mut graph = Graph::new("encoder", layout, style);
    let tokens = graph.input("tokens", DataType::Int64, &[ROWS, LENGTH]);
    let mask = graph.input("mask", DataType::Int64, &[ROWS, LENGTH]);
    let positions = graph.input("positions", DataType::Int64, &[LENGTH]);
    let first = graph.integer(0);
    let parts = [
        ("embedding.weight", &tokens),
        ("position_embedding", &positions),
        ("type_embedding", &first),
    ];
    let [words, places, kind] = parts.map(|(name, indices)| {
        let table = graph.weight(&format!("sentence.{name}"));
        graph.gather(&table, indices, 0)
    });
    let sum = graph.node("Add", &[&words, &places]);
    let sum = graph.node("Add", &[&sum, &kind]);
    let mut value = Stream::new(sum, Norm::Layer, sizes.layer_norm_eps)
        .normalise(&mut graph, "sentence.input_norm");
    let scores = Scores { bias: String::new(), mask: key_mask(&mut graph, &mask) };
    for layer in 0..sizes.layers {
        value = block(&mut graph, value, sizes, &scores, &format!("sentence.{layer}"));
    }
    let sentences = pooled(&mut graph, &value, &mask);
    graph.output(&sentences, "sentences", &[ROWS, Size::Fixed(sizes.width as usize)]);
    graph.finish()
}

/// A block whose norms come behind what is added.
fn block(
    graph: &mut Graph<'_>,
    value: String,
    sizes: &Bert,
    scores: &Scores,
    prefix: &str,
) -> String {
    let width = (sizes.width / sizes.heads.max(1)) as usize;
    let heads = Heads { count: sizes.heads as usize, width, scale: usual_scale(width) };
    let parts = ["query", "key", "value"];
    let [query, key, own] =
        parts.map(|part| affine(graph, &value, &format!("{prefix}.attention.{part}")));
    let mixed = attention(graph, [&query, &key, &own], heads, scores);
    let attended = affine(graph, &mixed, &format!("{prefix}.attention.output"));
    let value = added(graph, value, attended, sizes, &format!("{prefix}.attention_norm"));
    let wide = affine(graph, &value, &format!("{prefix}.feed_forward.input"));
    let active = gelu(graph, &wide, false);
    let narrow = affine(graph, &active, &format!("{prefix}.feed_forward.output"));
    added(graph, value, narrow, sizes, &format!("{prefix}.feed_forward_norm"))
}

/// The norm of a sum.
fn added(graph: &mut Graph<'_>, value: String, term: String, sizes: &Bert, norm: &str) -> String {
    let mut stream = Stream::new(value, Norm::Layer, sizes.layer_norm_eps);
    stream.add(graph, term);
    stream.normalise(graph, norm)
}

/// The mean of `[rows, length, width]` over what `mask` says is there, to length 1.
fn pooled(graph: &mut Graph<'_>, value: &str, mask: &str) -> String {
    let to = integer_attribute("to", DataType::Float as i64);
    let mask = graph.node_with("Cast", &[mask], vec![to]);
    let [second, last] = [1, -1].map(|axis| graph.integers(&[axis]));
    let mask = graph.node("Unsqueeze", &[&mask, &last]);
    let seen = graph.node("Mul", &[value, &mask]);
    let flat = || vec![integer_attribute("keepdims", 0)];
    // To divide by the count would not change where it points.
    let sum = graph.node_with("ReduceSum", &[&seen, &second], flat());
    let length = graph.node("ReduceL2", &[&sum, &last]);
    let smallest = graph.float(SMALLEST);
    let length = graph.node("Max", &[&length, &smallest]);
    graph.node("Div", &[&sum, &length])
}
