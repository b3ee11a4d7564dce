//! `encoder.onnx`, `decoder.onnx` and `aligner.onnx`: Whisper.

use eventide_model::speech::Whisper;

use crate::{
    blocks::{
        Heads, Norm, Scores, Stream, affine, attention, attention_over, attention_step, gelu,
        linear, split_heads, usual_scale,
    },
    error::Result,
    graph::{Graph, Size, Style, integer_attribute, integers_attribute},
    layout::Layout,
    pb::DataType,
};

const BATCH: Size = Size::Named("b");
const ROWS: Size = Size::Named("rows");
const LENGTH: Size = Size::Named("length");

/// The graph `mel` f32 `[b, mel_bands, 2 * audio_positions]` to `memory` f32 `[b, audio_positions,
/// width]`, and `cross_key_i` and `cross_value_i` f32 `[b, heads, audio_positions, head]` of every
/// decoder layer.
///
/// # Errors
/// [`Error::Missing`](crate::Error::Missing) if the layout lacks a weight.
pub(crate) fn encoder(sizes: &Whisper, layout: &Layout, style: Style) -> Result<Vec<u8>> {
    let mut graph = Graph::new("encoder", layout, style);
    let [bands, positions] = [sizes.mel_bands, sizes.audio_positions].map(|size| size as usize);
    let shape = [BATCH, Size::Fixed(bands), Size::Fixed(2 * positions)];
    let mel = graph.input("mel", DataType::Float, &shape);
    let halved = convolved(&mut graph, &mel, 0, 1);
    let halved = convolved(&mut graph, &halved, 1, 2);
    let rows = graph.transpose(&halved, &[0, 2, 1]);
    let table = graph.weight("audio.position_embedding");
    let placed = graph.node("Add", &[&rows, &table]);
    let mut stream = Stream::new(placed, Norm::Layer, sizes.layer_norm_eps);
    for layer in 0..sizes.encoder_layers {
        let prefix = format!("audio.{layer}");
        let normalised = stream.normalise(&mut graph, &format!("{prefix}.attention_norm"));
        let [query, key, value] =
            projections(&mut graph, &normalised, &format!("{prefix}.attention"));
        let heads = heads(sizes.width, sizes.encoder_heads);
        let mixed = attention(&mut graph, [&query, &key, &value], heads, &Scores::default());
        let attended = affine(&mut graph, &mixed, &format!("{prefix}.attention.output"));
        stream.add(&mut graph, attended);
        feed_forward(&mut graph, &mut stream, &prefix);
    }
    let memory = stream.normalise(&mut graph, "audio.output_norm");
    for layer in 0..sizes.decoder_layers {
        let prefix = format!("speech.{layer}.cross_attention");
        let key = linear(&mut graph, &memory, &format!("{prefix}.key"));
        let value = affine(&mut graph, &memory, &format!("{prefix}.value"));
        for (part, projected) in [("key", key), ("value", value)] {
            let split = split_heads(&mut graph, &projected, decoder_heads(sizes));
            graph.output(&split, &format!("cross_{part}_{layer}"), &cross(sizes));
        }
    }
    let width = Size::Fixed(sizes.width as usize);
    graph.output(&memory, "memory", &[BATCH, Size::Fixed(positions), width]);
    graph.finish()
}

/// Some positions of the decoder. Inputs: `tokens` and `positions` i64 `[rows, length]`, `mask` f32
/// `[1 or rows, 1, length, past + length]` (added to the scores), `row_index` i64 `[rows]` (the row of
/// the past that each row goes on from), `cross_key_i`, `cross_value_i`, and `past_key_i`,
/// `past_value_i` f32 `[_, heads, past, head]`. Outputs: `logits` f32 `[rows, vocab]` of the last
/// position, and `present_key_i`, `present_value_i`, longer than the past by `length`.
///
/// There may be several rows to a window, as many for each. Cross-attention takes them as query
/// positions, so that the sound is read once for all of them.
///
/// # Errors
/// [`Error::Missing`](crate::Error::Missing) if the layout lacks a weight.
pub(crate) fn decoder(sizes: &Whisper, layout: &Layout, style: Style) -> Result<Vec<u8>> {
    let mut graph = Graph::new("decoder", layout, style);
    let inputs = Inputs::declare(&mut graph);
    let index = graph.input("row_index", DataType::Int64, &[ROWS]);
    let cross: Vec<[String; 2]> = (0..sizes.decoder_layers)
        .map(|layer| declare(&mut graph, "cross", layer, &cross(sizes)))
        .collect();
    let past: Vec<[String; 2]> = (0..sizes.decoder_layers)
        .map(|layer| declare(&mut graph, "past", layer, &cache(sizes, "kept", "past")))
        .collect();
    let mut stream = inputs.embedded(&mut graph, sizes);
    let mut presents = Vec::new();
    for (layer, (cross, past)) in cross.iter().zip(&past).enumerate() {
        let prefix = format!("speech.{layer}");
        let past = [0, 1].map(|part: usize| graph.gather(&past[part], &index, 0));
        let past = [past[0].as_str(), &past[1]];
        presents.push(inputs.self_attention(&mut graph, &mut stream, sizes, &prefix, past));
        cross_attention(&mut graph, &mut stream, sizes, &prefix, cross);
        feed_forward(&mut graph, &mut stream, &prefix);
    }
    let normalised = stream.normalise(&mut graph, "speech.output_norm");
    let last = graph.integer(-1);
    let last = graph.gather(&normalised, &last, 1);
    let table = graph.weight("speech.embedding.weight");
    let logits = graph.node_with("Gemm", &[&last, &table], vec![integer_attribute("transB", 1)]);
    graph.output(&logits, "logits", &[ROWS, Size::Fixed(sizes.vocab_size as usize)]);
    for (layer, present) in presents.iter().enumerate() {
        for (part, value) in ["key", "value"].iter().zip(present) {
            let shape = cache(sizes, "rows", "present");
            graph.output(value, &format!("present_{part}_{layer}"), &shape);
        }
    }
    graph.finish()
}

/// Where the alignment heads look while whole texts are read. Inputs: `tokens` and `positions` i64
/// `[rows, length]`, `mask` f32 `[1, 1, length, length]`, and `cross_key_i`, `cross_value_i` of a window
/// a row. The output is `scores` f32 `[rows, alignment_heads, length, audio_positions]`, before the
/// softmax.
///
/// # Errors
/// [`Error::Missing`](crate::Error::Missing) if the layout lacks a weight.
pub(crate) fn aligner(sizes: &Whisper, layout: &Layout, style: Style) -> Result<Vec<u8>> {
    let mut graph = Graph::new("aligner", layout, style);
    let inputs = Inputs::declare(&mut graph);
    let layers = sizes.alignment_heads.iter().map(|[layer, _]| layer + 1).max().unwrap_or(0);
    let mut stream = inputs.embedded(&mut graph, sizes);
    let mut scores = Vec::new();
    for layer in 0..layers {
        let prefix = format!("speech.{layer}");
        let cross = declare(&mut graph, "cross", layer, &cross(sizes));
        inputs.self_attention_alone(&mut graph, &mut stream, sizes, &prefix);
        let query = cross_attention(&mut graph, &mut stream, sizes, &prefix, &cross);
        let wanted = sizes.alignment_heads.iter().filter(|[of, _]| *of == layer);
        let wanted: Vec<i64> = wanted.map(|[_, head]| i64::from(*head)).collect();
        if !wanted.is_empty() {
            scores.push(looks(&mut graph, sizes, [&query, &cross[0]], &wanted));
        }
        if layer + 1 < layers {
            feed_forward(&mut graph, &mut stream, &prefix);
        }
    }
    let scores: Vec<&str> = scores.iter().map(String::as_str).collect();
    let scores = graph.concat(&scores, 1);
    let shape = [
        ROWS,
        Size::Fixed(sizes.alignment_heads.len()),
        LENGTH,
        Size::Fixed(sizes.audio_positions as usize),
    ];
    graph.output(&scores, "scores", &shape);
    graph.finish()
}

/// The scores of some heads, `[rows, heads, length, audio_positions]`.
fn looks(
    graph: &mut Graph<'_>,
    sizes: &Whisper,
    [query, key]: [&str; 2],
    wanted: &[i64],
) -> String {
    let wanted = graph.integers(wanted);
    let heads = decoder_heads(sizes);
    let query = split_heads(graph, query, heads);
    let query = graph.gather(&query, &wanted, 1);
    let key = graph.gather(key, &wanted, 1);
    let turned = graph.transpose(&key, &[0, 1, 3, 2]);
    let scores = graph.node("MatMul", &[&query, &turned]);
    let scale = graph.float(heads.scale);
    graph.node("Mul", &[&scores, &scale])
}

/// What all layers of the decoder share.
struct Inputs {
    tokens: String,
    positions: String,
    mask: String,
}

impl Inputs {
    fn declare(graph: &mut Graph<'_>) -> Self {
        let mask = [Size::Named("masks"), Size::Fixed(1), LENGTH, Size::Named("seen")];
        Self {
            tokens: graph.input("tokens", DataType::Int64, &[ROWS, LENGTH]),
            positions: graph.input("positions", DataType::Int64, &[ROWS, LENGTH]),
            mask: graph.input("mask", DataType::Float, &mask),
        }
    }

    fn embedded(&self, graph: &mut Graph<'_>, sizes: &Whisper) -> Stream {
        let words = graph.weight("speech.embedding.weight");
        let words = graph.gather(&words, &self.tokens, 0);
        let places = graph.weight("speech.position_embedding");
        let places = graph.gather(&places, &self.positions, 0);
        let sum = graph.node("Add", &[&words, &places]);
        Stream::new(sum, Norm::Layer, sizes.layer_norm_eps)
    }

    fn self_attention(
        &self,
        graph: &mut Graph<'_>,
        stream: &mut Stream,
        sizes: &Whisper,
        prefix: &str,
        past: [&str; 2],
    ) -> [String; 2] {
        let normalised = stream.normalise(graph, &format!("{prefix}.self_attention_norm"));
        let [query, key, value] =
            projections(graph, &normalised, &format!("{prefix}.self_attention"));
        let parts = [query.as_str(), &key, &value];
        let [mixed, key, value] =
            attention_step(graph, parts, past, decoder_heads(sizes), &self.mask);
        let attended = affine(graph, &mixed, &format!("{prefix}.self_attention.output"));
        stream.add(graph, attended);
        [key, value]
    }

    fn self_attention_alone(
        &self,
        graph: &mut Graph<'_>,
        stream: &mut Stream,
        sizes: &Whisper,
        prefix: &str,
    ) {
        let normalised = stream.normalise(graph, &format!("{prefix}.self_attention_norm"));
        let [query, key, value] =
            projections(graph, &normalised, &format!("{prefix}.self_attention"));
        let scores = Scores { bias: self.mask.clone(), mask: String::new() };
        let mixed = attention(graph, [&query, &key, &value], decoder_heads(sizes), &scores);
        let attended = affine(graph, &mixed, &format!("{prefix}.self_attention.output"));
        stream.add(graph, attended);
    }
}

/// The answer is the projected query, `[rows, length, width]`.
fn cross_attention(
    graph: &mut Graph<'_>,
    stream: &mut Stream,
    sizes: &Whisper,
    prefix: &str,
    [key, value]: &[String; 2],
) -> String {
    let normalised = stream.normalise(graph, &format!("{prefix}.cross_attention_norm"));
    let query = affine(graph, &normalised, &format!("{prefix}.cross_attention.query"));
    let windows = graph.sizes(key, 0, 1);
    let rest = graph.integers(&[-1, i64::from(sizes.width)]);
    let shape = graph.concat(&[&windows, &rest], 0);
    let by_window = graph.node("Reshape", &[&query, &shape]);
    let heads = decoder_heads(sizes);
    let mixed = attention_over(graph, &by_window, [key, value], heads, &Scores::default());
    let shape = graph.sizes(&query, 0, 3);
    let by_row = graph.node("Reshape", &[&mixed, &shape]);
    let attended = affine(graph, &by_row, &format!("{prefix}.cross_attention.output"));
    stream.add(graph, attended);
    query
}

fn projections(graph: &mut Graph<'_>, value: &str, prefix: &str) -> [String; 3] {
    [
        affine(graph, value, &format!("{prefix}.query")),
        linear(graph, value, &format!("{prefix}.key")),
        affine(graph, value, &format!("{prefix}.value")),
    ]
}

fn feed_forward(graph: &mut Graph<'_>, stream: &mut Stream, prefix: &str) {
    let normalised = stream.normalise(graph, &format!("{prefix}.feed_forward_norm"));
    let wide = affine(graph, &normalised, &format!("{prefix}.feed_forward.input"));
    let active = gelu(graph, &wide, false);
    let narrow = affine(graph, &active, &format!("{prefix}.feed_forward.output"));
    stream.add(graph, narrow);
}

/// A convolution over three pictures, with GELU.
fn convolved(graph: &mut Graph<'_>, value: &str, index: u32, stride: i64) -> String {
    let weight = graph.weight(&format!("audio.conv.{index}.weight"));
    let bias = graph.weight(&format!("audio.conv.{index}.bias"));
    let attributes = vec![
        integers_attribute("kernel_shape", &[3]),
        integers_attribute("pads", &[1, 1]),
        integers_attribute("strides", &[stride]),
    ];
    let sum = graph.node_with("Conv", &[value, &weight, &bias], attributes);
    gelu(graph, &sum, false)
}

fn declare(graph: &mut Graph<'_>, kind: &str, layer: u32, shape: &[Size]) -> [String; 2] {
    ["key", "value"]
        .map(|part| graph.input(&format!("{kind}_{part}_{layer}"), DataType::Float, shape))
}

fn cross(sizes: &Whisper) -> [Size; 4] {
    let heads = Size::Fixed(sizes.decoder_heads as usize);
    let positions = Size::Fixed(sizes.audio_positions as usize);
    [BATCH, heads, positions, Size::Fixed(sizes.head_width())]
}

fn cache(sizes: &Whisper, rows: &'static str, length: &'static str) -> [Size; 4] {
    let heads = Size::Fixed(sizes.decoder_heads as usize);
    [Size::Named(rows), heads, Size::Named(length), Size::Fixed(sizes.head_width())]
}

fn decoder_heads(sizes: &Whisper) -> Heads {
    heads(sizes.width, sizes.decoder_heads)
}

fn heads(width: u32, count: u32) -> Heads {
    let head = (width / count) as usize;
    Heads { count: count as usize, width: head, scale: usual_scale(head) }
}
