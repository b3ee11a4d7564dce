//! `text_encoder.onnx`, `cross.onnx` and `decoder.onnx`: T5, of version 1.0 or 1.1.

use eventide_model::manifest::{FeedForward, T5};

use crate::{
    blocks::{
        Heads, Norm, Scores, Stream, attention, attention_over, attention_step, gelu, key_mask,
        linear, split_heads,
    },
    error::Result,
    graph::{Graph, Size, Style, float_attribute, integer_attribute, signed},
    layout::Layout,
    pb::DataType,
    relative::Buckets,
};

const BATCH: Size = Size::Named("b");
const LENGTH: Size = Size::Named("length");
const MEMORY: Size = Size::Named("memory_length");
const BEAMS: Size = Size::Named("beams");
const ROWS: Size = Size::Named("rows");

/// The graph `input_ids` i64 `[b, length]`, `attention_mask` i64 `[b, length]` to `memory` f32
/// `[b, length, d_model]`, for lengths up to `positions`.
///
/// # Errors
/// [`Error::Missing`](crate::Error::Missing) if the layout lacks a weight.
pub(crate) fn text_encoder(
    sizes: &T5,
    positions: usize,
    layout: &Layout,
    style: Style,
) -> Result<Vec<u8>> {
    let mut graph = Graph::new("text_encoder", layout, style);
    let ids = graph.input("input_ids", DataType::Int64, &[BATCH, LENGTH]);
    let mask = graph.input("attention_mask", DataType::Int64, &[BATCH, LENGTH]);

    let bias = encoder_bias(&mut graph, &ids, buckets(sizes), positions);
    let scores = Scores { bias, mask: key_mask(&mut graph, &mask) };
    let table = graph.weight("text.embedding.weight");
    let embedded = graph.gather(&table, &ids, 0);
    let mut stream = Stream::new(embedded, Norm::RootMeanSquare, sizes.layer_norm_eps);
    for layer in 0..sizes.encoder_layers {
        let prefix = format!("text.encoder.{layer}");
        let normalised = stream.normalise(&mut graph, &format!("{prefix}.attention_norm"));
        let projected = ["query", "key", "value"]
            .map(|part| linear(&mut graph, &normalised, &format!("{prefix}.attention.{part}")));
        let [query, key, value] = &projected;
        let mixed = attention(&mut graph, [query, key, value], heads(sizes), &scores);
        let attended = linear(&mut graph, &mixed, &format!("{prefix}.attention.output"));
        stream.add(&mut graph, attended);
        feed_forward(&mut graph, &mut stream, &prefix, sizes.feed_forward);
    }
    let memory = stream.normalise(&mut graph, "text.encoder.output_norm");
    graph.output(&memory, "memory", &[BATCH, LENGTH, Size::Fixed(sizes.d_model as usize)]);
    graph.finish()
}

/// The graph `memory` f32 `[b, memory_length, d_model]` to `cross_key_i` and `cross_value_i` f32
/// `[b, heads, memory_length, d_kv]` of every decoder layer.
///
/// # Errors
/// [`Error::Missing`](crate::Error::Missing) if the layout lacks a weight.
pub(crate) fn cross(sizes: &T5, layout: &Layout, style: Style) -> Result<Vec<u8>> {
    let mut graph = Graph::new("cross", layout, style);
    let shape = [BATCH, MEMORY, Size::Fixed(sizes.d_model as usize)];
    let memory = graph.input("memory", DataType::Float, &shape);
    for layer in 0..sizes.decoder_layers {
        for part in ["key", "value"] {
            let prefix = format!("text.decoder.{layer}.cross_attention.{part}");
            let projected = linear(&mut graph, &memory, &prefix);
            let split = split_heads(&mut graph, &projected, heads(sizes));
            graph.output(&split, &format!("cross_{part}_{layer}"), &cache(sizes, BATCH, MEMORY));
        }
    }
    graph.finish()
}

/// One step of the decoder, at most `positions` of them. Inputs: `tokens` i64 `[b, beams]`,
/// `memory_mask` i64 `[b, memory_length]`, `beam_index` i64 `[rows]` (the row of the past that each
/// row goes on from; `rows = b * beams`), `cross_key_i`, `cross_value_i`, and `past_key_i`,
/// `past_value_i` f32 `[rows, heads, past, d_kv]`, whose length is 0 at the first step. Outputs:
/// `logits` f32 `[rows, vocab]` and `present_key_i`, `present_value_i`, one longer than the past.
///
/// Cross-attention takes the beams of a video as query positions, so that the memory is read once
/// for all of them.
///
/// # Errors
/// [`Error::Missing`](crate::Error::Missing) if the layout lacks a weight.
pub(crate) fn decoder(
    sizes: &T5,
    positions: usize,
    layout: &Layout,
    style: Style,
) -> Result<Vec<u8>> {
    let mut graph = Graph::new("decoder", layout, style);
    let tokens = graph.input("tokens", DataType::Int64, &[BATCH, BEAMS]);
    let mask = graph.input("memory_mask", DataType::Int64, &[BATCH, MEMORY]);
    let beams = graph.input("beam_index", DataType::Int64, &[ROWS]);
    let caches: Vec<Caches> =
        (0..sizes.decoder_layers).map(|layer| Caches::declare(&mut graph, sizes, layer)).collect();

    let mask = key_mask(&mut graph, &mask);
    let bias = match caches.first() {
        Some(first) => decoder_bias(&mut graph, &first.past[0], buckets(sizes), positions),
        None => String::new(),
    };
    let step = Step { sizes, shape: step_shape(&mut graph, &tokens, sizes), beams, bias, mask };
    let table = graph.weight("text.embedding.weight");
    let embedded = graph.gather(&table, &tokens, 0);
    let mut stream = Stream::new(embedded, Norm::RootMeanSquare, sizes.layer_norm_eps);
    let mut presents = Vec::new();
    for (layer, caches) in caches.iter().enumerate() {
        let prefix = format!("text.decoder.{layer}");
        presents.push(step.self_attention(&mut graph, &mut stream, &prefix, caches));
        step.cross_attention(&mut graph, &mut stream, &prefix, caches);
        feed_forward(&mut graph, &mut stream, &prefix, sizes.feed_forward);
    }
    let normalised = stream.normalise(&mut graph, "text.decoder.output_norm");
    let logits = logits(&mut graph, &normalised, sizes);
    graph.output(&logits, "logits", &[ROWS, Size::Fixed(sizes.vocab_size as usize)]);
    for (layer, [key, value]) in presents.iter().enumerate() {
        let shape = cache(sizes, ROWS, Size::Named("present"));
        graph.output(key, &format!("present_key_{layer}"), &shape);
        graph.output(value, &format!("present_value_{layer}"), &shape);
    }
    graph.finish()
}

/// The keys and values that one decoder layer is given; keys first.
struct Caches {
    cross: [String; 2],
    past: [String; 2],
}

impl Caches {
    fn declare(graph: &mut Graph<'_>, sizes: &T5, layer: u32) -> Self {
        let mut declare = |kind: &str, shape: &[Size]| {
            ["key", "value"]
                .map(|part| graph.input(&format!("{kind}_{part}_{layer}"), DataType::Float, shape))
        };
        Self {
            cross: declare("cross", &cache(sizes, BATCH, MEMORY)),
            past: declare("past", &cache(sizes, ROWS, Size::Named("past"))),
        }
    }
}

/// What all layers of a decoder step share.
struct Step<'a> {
    sizes: &'a T5,
    /// `[b, beams, inner]`, as a list of integers.
    shape: String,
    beams: String,
    bias: String,
    mask: String,
}

impl Step<'_> {
    fn self_attention(
        &self,
        graph: &mut Graph<'_>,
        stream: &mut Stream,
        prefix: &str,
        caches: &Caches,
    ) -> [String; 2] {
        let inner = signed((self.sizes.heads * self.sizes.d_kv) as usize);
        let normalised = stream.normalise(graph, &format!("{prefix}.self_attention_norm"));
        let [query, key, value] = ["query", "key", "value"].map(|part| {
            let projected = linear(graph, &normalised, &format!("{prefix}.self_attention.{part}"));
            graph.reshape(&projected, &[-1, 1, inner])
        });
        let [past_key, past_value] =
            [0, 1].map(|part: usize| graph.gather(&caches.past[part], &self.beams, 0));
        let past = [past_key.as_str(), past_value.as_str()];
        let [mixed, present_key, present_value] =
            attention_step(graph, [&query, &key, &value], past, heads(self.sizes), &self.bias);
        let rows = graph.node("Reshape", &[&mixed, &self.shape]);
        let attended = linear(graph, &rows, &format!("{prefix}.self_attention.output"));
        stream.add(graph, attended);
        [present_key, present_value]
    }

    fn cross_attention(
        &self,
        graph: &mut Graph<'_>,
        stream: &mut Stream,
        prefix: &str,
        caches: &Caches,
    ) {
        let normalised = stream.normalise(graph, &format!("{prefix}.cross_attention_norm"));
        let query = linear(graph, &normalised, &format!("{prefix}.cross_attention.query"));
        let [key, value] = &caches.cross;
        let scores = Scores { bias: String::new(), mask: self.mask.clone() };
        let mixed = attention_over(graph, &query, [key, value], heads(self.sizes), &scores);
        let attended = linear(graph, &mixed, &format!("{prefix}.cross_attention.output"));
        stream.add(graph, attended);
    }
}

fn heads(sizes: &T5) -> Heads {
    // T5 does not scale its scores: its weights were drawn for that.
    Heads { count: sizes.heads as usize, width: sizes.d_kv as usize, scale: 1.0 }
}

fn buckets(sizes: &T5) -> Buckets {
    Buckets { count: sizes.relative_buckets, max_distance: sizes.relative_max_distance }
}

fn cache(sizes: &T5, rows: Size, length: Size) -> [Size; 4] {
    [rows, Size::Fixed(sizes.heads as usize), length, Size::Fixed(sizes.d_kv as usize)]
}

fn step_shape(graph: &mut Graph<'_>, tokens: &str, sizes: &T5) -> String {
    let rows = graph.sizes(tokens, 0, 2);
    let inner = graph.integers(&[signed((sizes.heads * sizes.d_kv) as usize)]);
    graph.concat(&[&rows, &inner], 0)
}

fn feed_forward(graph: &mut Graph<'_>, stream: &mut Stream, prefix: &str, form: FeedForward) {
    let normalised = stream.normalise(graph, &format!("{prefix}.feed_forward_norm"));
    let wide = linear(graph, &normalised, &format!("{prefix}.feed_forward.input"));
    let active = match form {
        FeedForward::Relu => graph.node("Relu", &[&wide]),
        FeedForward::GatedGelu => {
            let gate = linear(graph, &normalised, &format!("{prefix}.feed_forward.gate"));
            let gate = gelu(graph, &gate, true);
            graph.node("Mul", &[&gate, &wide])
        }
    };
    let narrow = linear(graph, &active, &format!("{prefix}.feed_forward.output"));
    stream.add(graph, narrow);
}

/// `[b, beams, d_model]` to `[rows, vocab]`.
fn logits(graph: &mut Graph<'_>, hidden: &str, sizes: &T5) -> String {
    let rows = graph.reshape(hidden, &[-1, signed(sizes.d_model as usize)]);
    let mut attributes = vec![integer_attribute("transB", 1)];
    let name = if sizes.tied {
        #[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
        let width = sizes.d_model as f32;
        attributes.push(float_attribute("alpha", width.sqrt().recip()));
        "text.embedding.weight"
    } else {
        "text.head.weight"
    };
    let table = graph.weight(name);
    graph.node_with("Gemm", &[&rows, &table], attributes)
}

/// The bias of every distance, `[heads, distances]`: small buckets' ids in the graph, the weights
/// where they lie. ONNX Runtime computes it once, when it opens the graph.
fn distance_bias(graph: &mut Graph<'_>, weight: &str, buckets: &[i32]) -> String {
    let table = graph.weight(weight);
    let buckets = graph.indices(buckets);
    let by_distance = graph.gather(&table, &buckets, 0);
    graph.transpose(&by_distance, &[1, 0])
}

/// `[1, heads, length, length]`: the entry for query `i` and key `j` is that of distance `j - i`.
fn encoder_bias(graph: &mut Graph<'_>, ids: &str, buckets: Buckets, positions: usize) -> String {
    let last = i32::try_from(positions).unwrap_or(i32::MAX).saturating_sub(1).max(0);
    let by_distance: Vec<i32> =
        (-last..=last).map(|relative| buckets.both_ways(relative)).collect();
    let table = distance_bias(graph, "text.encoder.relative_bias.weight", &by_distance);

    let size = graph.sizes(ids, 1, 2);
    let length = graph.node("Squeeze", &[&size]);
    let (zero, one) = (graph.integer(0), graph.integer(1));
    let range = graph.node("Range", &[&zero, &length, &one]);
    let (down, across) = (graph.integers(&[1]), graph.integers(&[0]));
    let queries = graph.node("Unsqueeze", &[&range, &down]);
    let keys = graph.node("Unsqueeze", &[&range, &across]);
    let relative = graph.node("Sub", &[&keys, &queries]);
    let middle = graph.integer(i64::from(last));
    let index = graph.node("Add", &[&relative, &middle]);
    let bias = graph.gather(&table, &index, 1);
    graph.node("Unsqueeze", &[&bias, &across])
}

/// `[1, heads, 1, past + 1]`: the entry for key `j` is that of distance `past - j`. The table runs
/// from the farthest to the nearest, so it is the last `past + 1` entries.
fn decoder_bias(
    graph: &mut Graph<'_>,
    past_key: &str,
    buckets: Buckets,
    positions: usize,
) -> String {
    let positions = i32::try_from(positions).unwrap_or(i32::MAX).max(1);
    let by_distance: Vec<i32> =
        (1 - positions..=0).map(|relative| buckets.backwards(relative)).collect();
    let table = distance_bias(graph, "text.decoder.relative_bias.weight", &by_distance);

    let past = graph.sizes(past_key, 2, 3);
    // Counted from the end, so that a past that is too long gets too short a bias and fails.
    let nearest = graph.integers(&[-1]);
    let start = graph.node("Sub", &[&nearest, &past]);
    let end = graph.integers(&[i64::from(positions)]);
    let distances = graph.integers(&[1]);
    let bias = graph.node("Slice", &[&table, &start, &end, &distances]);
    let axes = graph.integers(&[0, 2]);
    graph.node("Unsqueeze", &[&bias, &axes])
}
