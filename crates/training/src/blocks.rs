//! What the transformers share: norms, linear layers and attention, in both styles.

use crate::graph::{Graph, MICROSOFT, float_attribute, integer_attribute, signed, word_attribute};

/// What is added to the score of a key that is masked. It swallows the score, as the smallest float
/// does in the reference, so that a row whose keys are all masked attends to them evenly; but two
/// of them do not make an infinity.
const MASKED: f32 = -1e30;

/// How values are normalised.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Norm {
    /// Layer norm: mean and variance, weight and bias.
    Layer,
    /// Root mean square, weight only.
    RootMeanSquare,
}

/// A residual stream: a sum whose last term may not have been added yet, since the fused norm adds.
pub(crate) struct Stream {
    sum: String,
    term: Option<String>,
    norm: Norm,
    eps: f32,
}

impl Stream {
    /// A stream that begins with `value`; its norms are all of one kind.
    pub(crate) fn new(value: String, norm: Norm, eps: f32) -> Self {
        Self { sum: value, term: None, norm, eps }
    }

    /// Adds the output of a layer.
    pub(crate) fn add(&mut self, graph: &mut Graph<'_>, term: String) {
        self.settle(graph);
        self.term = Some(term);
    }

    fn settle(&mut self, graph: &mut Graph<'_>) {
        if let Some(term) = self.term.take() {
            self.sum = graph.node("Add", &[&self.sum, &term]);
        }
    }

    /// The stream, normalised with the weights named `prefix`.
    pub(crate) fn normalise(&mut self, graph: &mut Graph<'_>, prefix: &str) -> String {
        if !graph.fused() {
            self.settle(graph);
        }
        let weight = graph.weight(&format!("{prefix}.weight"));
        let eps = float_attribute("epsilon", self.eps);
        if let Some(term) = self.term.take() {
            let wanted = [true, false, false, true];
            let [normalised, _, _, sum] = match self.norm {
                Norm::Layer => {
                    let bias = graph.weight(&format!("{prefix}.bias"));
                    let inputs = [self.sum.as_str(), &term, &weight, &bias];
                    graph.node_of(MICROSOFT, "SkipLayerNormalization", &inputs, wanted, vec![eps])
                }
                Norm::RootMeanSquare => {
                    let inputs = [self.sum.as_str(), &term, &weight];
                    let operator = "SkipSimplifiedLayerNormalization";
                    graph.node_of(MICROSOFT, operator, &inputs, wanted, vec![eps])
                }
            };
            self.sum = sum;
            return normalised;
        }
        match self.norm {
            Norm::Layer => {
                let bias = graph.weight(&format!("{prefix}.bias"));
                let attributes = vec![integer_attribute("axis", -1), eps];
                graph.node_with("LayerNormalization", &[&self.sum, &weight, &bias], attributes)
            }
            Norm::RootMeanSquare if graph.fused() => {
                let attributes = vec![integer_attribute("axis", -1), eps];
                graph.node_with("SimplifiedLayerNormalization", &[&self.sum, &weight], attributes)
            }
            Norm::RootMeanSquare => root_mean_square(graph, &self.sum, &weight, self.eps),
        }
    }
}

fn root_mean_square(graph: &mut Graph<'_>, value: &str, weight: &str, eps: f32) -> String {
    let squares = graph.node("Mul", &[value, value]);
    let axes = graph.integers(&[-1]);
    let mean = graph.node("ReduceMean", &[&squares, &axes]);
    let eps = graph.float(eps);
    let shifted = graph.node("Add", &[&mean, &eps]);
    let root = graph.node("Sqrt", &[&shifted]);
    let normalised = graph.node("Div", &[value, &root]);
    graph.node("Mul", &[&normalised, weight])
}

/// `value` times the weight `{prefix}.weight`, which lies as `[in, out]`.
pub(crate) fn linear(graph: &mut Graph<'_>, value: &str, prefix: &str) -> String {
    let name = format!("{prefix}.weight");
    if let Some([steps, scales]) = graph.quantised(&name) {
        return quantised_product(graph, value, &steps, &scales);
    }
    let weight = graph.weight(&name);
    graph.node("MatMul", &[value, &weight])
}

/// `value` times whole numbers `[in, out]` with a scale for each output. `value` is quantised to 8 bits
/// with one scale for all of it, as it comes.
fn quantised_product(graph: &mut Graph<'_>, value: &str, steps: &str, scales: &str) -> String {
    if graph.fused() {
        let inputs = [value, steps, scales];
        let operator = "DynamicQuantizeMatMul";
        let [product] = graph.node_of(MICROSOFT, operator, &inputs, [true], Vec::new());
        return product;
    }
    let [bytes, scale, zero] =
        graph.node_of("", "DynamicQuantizeLinear", &[value], [true; 3], Vec::new());
    let product = graph.node("MatMulInteger", &[&bytes, steps, &zero]);
    let to = crate::pb::DataType::Float as i64;
    let product = graph.node_with("Cast", &[&product], vec![integer_attribute("to", to)]);
    let scale = graph.node("Mul", &[&scale, scales]);
    graph.node("Mul", &[&product, &scale])
}

/// `linear`, plus `{prefix}.bias`.
pub(crate) fn affine(graph: &mut Graph<'_>, value: &str, prefix: &str) -> String {
    let product = linear(graph, value, prefix);
    let bias = graph.weight(&format!("{prefix}.bias"));
    graph.node("Add", &[&product, &bias])
}

/// GELU by the error function, or by a hyperbolic tangent.
pub(crate) fn gelu(graph: &mut Graph<'_>, value: &str, tanh: bool) -> String {
    let word = if tanh { "tanh" } else { "none" };
    graph.node_with("Gelu", &[value], vec![word_attribute("approximate", word)])
}

/// `x * sigmoid(1.702 x)`.
pub(crate) fn quick_gelu(graph: &mut Graph<'_>, value: &str) -> String {
    const ALPHA: f32 = 1.702;
    if graph.fused() {
        let attributes = vec![float_attribute("alpha", ALPHA)];
        let [output] = graph.node_of(MICROSOFT, "QuickGelu", &[value], [true], attributes);
        return output;
    }
    let alpha = graph.float(ALPHA);
    let scaled = graph.node("Mul", &[value, &alpha]);
    let gate = graph.node("Sigmoid", &[&scaled]);
    graph.node("Mul", &[value, &gate])
}

/// The heads of an attention layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    /// How many.
    pub(crate) count: usize,
    /// The width of one.
    pub(crate) width: usize,
    /// What the scores are multiplied by.
    pub(crate) scale: f32,
}

impl Heads {
    fn attributes(self) -> Vec<crate::pb::AttributeProto> {
        vec![
            integer_attribute("num_heads", signed(self.count)),
            float_attribute("scale", self.scale),
            float_attribute("mask_filter_value", MASKED),
        ]
    }

    fn inner(self) -> i64 {
        signed(self.count * self.width)
    }
}

/// What is added to the scores of an attention layer. Empty names are left out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scores {
    /// A bias, `[1, heads, queries, keys]`.
    pub(crate) bias: String,
    /// A mask of the keys made by [`key_mask`].
    pub(crate) mask: String,
}

/// A mask of keys, from `[batch, keys]` with 1 where there is one and 0 where not.
pub(crate) fn key_mask(graph: &mut Graph<'_>, mask: &str) -> String {
    if graph.fused() {
        let to = crate::pb::DataType::Int32 as i64;
        return graph.node_with("Cast", &[mask], vec![integer_attribute("to", to)]);
    }
    let to = crate::pb::DataType::Float as i64;
    let present = graph.node_with("Cast", &[mask], vec![integer_attribute("to", to)]);
    let one = graph.float(1.0);
    let absent = graph.node("Sub", &[&one, &present]);
    let masked = graph.float(MASKED);
    let added = graph.node("Mul", &[&absent, &masked]);
    let axes = graph.integers(&[1, 2]);
    graph.node("Unsqueeze", &[&added, &axes])
}

/// Attention of `query` `[batch, queries, inner]` over keys and values `[batch, keys, inner]`.
pub(crate) fn attention(
    graph: &mut Graph<'_>,
    [query, key, value]: [&str; 3],
    heads: Heads,
    scores: &Scores,
) -> String {
    if graph.fused() {
        let inputs = [query, key, value, "", &scores.mask, &scores.bias];
        return fused_attention(graph, &inputs, heads);
    }
    let key = split_heads(graph, key, heads);
    let value = split_heads(graph, value, heads);
    attention_over(graph, query, [&key, &value], heads, scores)
}

/// Attention of `query` `[batch, queries, inner]` over keys and values that are already split,
/// `[batch, heads, keys, width]`.
pub(crate) fn attention_over(
    graph: &mut Graph<'_>,
    query: &str,
    [key, value]: [&str; 2],
    heads: Heads,
    scores: &Scores,
) -> String {
    if graph.fused() {
        let inputs = [query, key, value, "", &scores.mask, &scores.bias];
        return fused_attention(graph, &inputs, heads);
    }
    let query = split_heads(graph, query, heads);
    let mixed = weigh(graph, &query, [key, value], heads.scale, scores);
    let merged = graph.transpose(&mixed, &[0, 2, 1, 3]);
    graph.reshape(&merged, &[0, 0, heads.inner()])
}

fn fused_attention(graph: &mut Graph<'_>, inputs: &[&str], heads: Heads) -> String {
    let attributes = heads.attributes();
    let [output] = graph.node_of(MICROSOFT, "MultiHeadAttention", inputs, [true], attributes);
    output
}

/// Attention of new positions over the past and themselves.
///
/// `query`, `key` and `value` are `[rows, new, inner]` and `past` holds keys and values
/// `[rows, heads, length, width]`. The answer is `[rows, new, inner]`, with the past longer by them.
/// What a position must not see yet, `bias` has to hide.
pub(crate) fn attention_step(
    graph: &mut Graph<'_>,
    [query, key, value]: [&str; 3],
    [past_key, past_value]: [&str; 2],
    heads: Heads,
    bias: &str,
) -> [String; 3] {
    if graph.fused() {
        let inputs = [query, key, value, "", "", bias, past_key, past_value];
        let attributes = heads.attributes();
        return graph.node_of(MICROSOFT, "MultiHeadAttention", &inputs, [true; 3], attributes);
    }
    let [query, key, value] = [query, key, value].map(|whole| split_heads(graph, whole, heads));
    let present_key = graph.concat(&[past_key, &key], 2);
    let present_value = graph.concat(&[past_value, &value], 2);
    let scores = Scores { bias: bias.to_owned(), mask: String::new() };
    let mixed = weigh(graph, &query, [&present_key, &present_value], heads.scale, &scores);
    let merged = graph.transpose(&mixed, &[0, 2, 1, 3]);
    let merged = graph.reshape(&merged, &[0, 0, heads.inner()]);
    [merged, present_key, present_value]
}

/// Softmax of the scores of queries and keys, times the values; all `[batch, heads, _, width]`.
fn weigh(
    graph: &mut Graph<'_>,
    query: &str,
    [key, value]: [&str; 2],
    scale: f32,
    added: &Scores,
) -> String {
    let turned = graph.transpose(key, &[0, 1, 3, 2]);
    let mut scores = graph.node("MatMul", &[query, &turned]);
    if (scale - 1.0).abs() > f32::EPSILON {
        let scale = graph.float(scale);
        scores = graph.node("Mul", &[&scores, &scale]);
    }
    for term in [&added.bias, &added.mask].into_iter().filter(|term| !term.is_empty()) {
        scores = graph.node("Add", &[&scores, term]);
    }
    let weights = graph.node_with("Softmax", &[&scores], vec![integer_attribute("axis", -1)]);
    graph.node("MatMul", &[&weights, value])
}

/// `[batch, positions, inner]` to `[batch, heads, positions, width]`.
pub(crate) fn split_heads(graph: &mut Graph<'_>, value: &str, heads: Heads) -> String {
    let split = graph.reshape(value, &[0, 0, signed(heads.count), signed(heads.width)]);
    graph.transpose(&split, &[0, 2, 1, 3])
}

/// A pre-norm block with biases: attention, then the feed-forward layer, both added to the stream.
pub(crate) fn biased_block(
    graph: &mut Graph<'_>,
    stream: &mut Stream,
    prefix: &str,
    heads: Heads,
    activation: impl Fn(&mut Graph<'_>, &str) -> String,
) {
    let normalised = stream.normalise(graph, &format!("{prefix}.attention_norm"));
    let packed = affine(graph, &normalised, &format!("{prefix}.attention.query_key_value"));
    let sizes = graph.integers(&[heads.inner(); 3]);
    let split = [true; 3];
    let axis = vec![integer_attribute("axis", -1)];
    let [query, key, value] = graph.node_of("", "Split", &[&packed, &sizes], split, axis);
    let mixed = attention(graph, [&query, &key, &value], heads, &Scores::default());
    let attended = affine(graph, &mixed, &format!("{prefix}.attention.output"));
    stream.add(graph, attended);

    let normalised = stream.normalise(graph, &format!("{prefix}.feed_forward_norm"));
    let wide = affine(graph, &normalised, &format!("{prefix}.feed_forward.input"));
    let active = activation(graph, &wide);
    let narrow = affine(graph, &active, &format!("{prefix}.feed_forward.output"));
    stream.add(graph, narrow);
}

/// Scale of attention that divides the scores by the root of the width of a head.
pub(crate) fn usual_scale(width: usize) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
    let width = width as f32;
    width.sqrt().recip()
}
