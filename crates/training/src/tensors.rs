//! The tensors of a model: one table of their names and shapes, how they start before training, and
//! what they are called in the released checkpoints. Everything else reads this table.
//!
//! | part | names |
//! |---|---|
//! | vision encoder | `vision.patch_embedding.weight` `[width, 3, patch, patch]`, `vision.class_embedding`, `vision.position_embedding` `[1 + patches, width]`, `vision.input_norm`, blocks `vision.{i}`, `vision.output_norm`, `vision.projection.weight` |
//! | temporal encoder | `temporal.position_embedding` `[positions, dim]`, blocks `temporal.{i}`, `temporal.output_norm`, `temporal.projection` if it has one |
//! | a block of those two | `attention_norm`, `attention.query_key_value` (side by side), `attention.output`, `feed_forward_norm`, `feed_forward.input`, `feed_forward.output`, each with `weight` and `bias` |
//! | text | `text.embedding.weight` `[vocabulary, d_model]`, `text.head.weight` (the same shape) unless tied |
//! | text encoder, decoder | `text.encoder.relative_bias.weight` `[buckets, heads]`, blocks `text.encoder.{i}`, `text.encoder.output_norm.weight`; `decoder` likewise |
//! | a block of those two | `attention` (in the decoder `self_attention` and `cross_attention`) with `query`, `key`, `value`, `output`; `feed_forward` with `input`, `output` and, where gated, `gate`; each part's norm is `{part}_norm`; only `weight`s |
//!
//! A linear layer lies as `[in, out]`.

use eventide_model::manifest::{FeedForward, Manifest, T5, Temporal, Vision};

/// How a tensor starts before training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// All ones.
    Ones,
    /// All zeros.
    Zeros,
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
}

impl Start {
    /// Normal with the standard deviation that keeps the size of a sum of `terms`.
    pub(crate) fn normal(terms: usize) -> Self {
        Self::Normal(deviation(terms))
    }
}

/// A tensor that a model has.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorSpec {
    /// Our name.
    pub name: String,
    /// Our shape.
    pub shape: Vec<usize>,
    /// How it starts before training.
    pub start: Start,
    /// Its name in the released checkpoints (`VidChapters`, `OpenAI`'s CLIP).
    pub source: String,
    /// Its shape there.
    pub source_shape: Vec<usize>,
    /// Whether it is a matrix that lies there the other way round.
    pub turned: bool,
}

/// All tensors of the model that `manifest` describes.
#[must_use]
pub fn tensors(manifest: &Manifest) -> Vec<TensorSpec> {
    let mut table = vision_tensors(&manifest.vision);
    table.extend(temporal_tensors(&manifest.temporal, manifest.t5.d_model));
    table.extend(t5_tensors(&manifest.t5));
    table
}

/// The tensors of the vision encoder.
#[must_use]
pub fn vision_tensors(sizes: &Vision) -> Vec<TensorSpec> {
    let [width, mlp, output, patch] =
        [sizes.width, sizes.mlp, sizes.output_dim, sizes.patch].map(|size| size as usize);
    let grid = (sizes.image_size / sizes.patch.max(1)) as usize;
    let scale = deviation(width);
    let residual = scale * deviation(2 * sizes.layers as usize);
    let mut table = Table::default();
    let normal = |deviation| Start::Normal(deviation);
    let kernel = vec![width, 3, patch, patch];
    let start = normal(deviation(9 * patch * patch));
    table.add("vision.patch_embedding.weight", kernel, start, "visual.conv1.weight");
    let start = normal(scale);
    table.add("vision.class_embedding", vec![width], start, "visual.class_embedding");
    let positions = vec![1 + grid * grid, width];
    table.add("vision.position_embedding", positions, start, "visual.positional_embedding");
    table.norm("vision.input_norm", width, "visual.ln_pre");
    for layer in 0..sizes.layers {
        let to = format!("vision.{layer}");
        let from = format!("visual.transformer.resblocks.{layer}");
        table.norm(&format!("{to}.attention_norm"), width, &format!("{from}.ln_1"));
        table.turned(
            &format!("{to}.attention.query_key_value.weight"),
            [width, 3 * width],
            normal(scale),
            &format!("{from}.attn.in_proj_weight"),
        );
        table.add(
            &format!("{to}.attention.query_key_value.bias"),
            vec![3 * width],
            Start::Zeros,
            &format!("{from}.attn.in_proj_bias"),
        );
        for (part, [input, output], deviation, source) in [
            ("attention.output", [width, width], residual, "attn.out_proj"),
            ("feed_forward.input", [width, mlp], deviation(2 * width), "mlp.c_fc"),
            ("feed_forward.output", [mlp, width], residual, "mlp.c_proj"),
        ] {
            let (to, from) = (format!("{to}.{part}"), format!("{from}.{source}"));
            table.affine(&to, [input, output], normal(deviation), Start::Zeros, &from);
        }
        table.norm(&format!("{to}.feed_forward_norm"), width, &format!("{from}.ln_2"));
    }
    table.norm("vision.output_norm", width, "visual.ln_post");
    // CLIP multiplies with its projection from the right, so it lies as ours do.
    table.add("vision.projection.weight", vec![width, output], normal(scale), "visual.proj");
    table.0
}

/// The tensors of the temporal encoder; `d_model` is the width of the decoder.
#[must_use]
pub fn temporal_tensors(sizes: &Temporal, d_model: u32) -> Vec<TensorSpec> {
    let [dim, mlp, positions, d_model] =
        [sizes.dim, sizes.mlp, sizes.positions, d_model].map(|size| size as usize);
    let xavier = |[input, output]: [usize; 2]| {
        Start::Normal(std::f32::consts::SQRT_2 * deviation(input + output))
    };
    let bias = Start::Normal(1e-6);
    let mut table = Table::default();
    table.add(
        "temporal.position_embedding",
        vec![positions, dim],
        Start::Normal(0.02),
        "visual_encoder.pos_embed",
    );
    if let Some(embedding) = table.0.last_mut() {
        embedding.source_shape.insert(0, 1);
    }
    for layer in 0..sizes.depth {
        let (to, from) = (format!("temporal.{layer}"), format!("visual_encoder.blocks.{layer}"));
        table.norm(&format!("{to}.attention_norm"), dim, &format!("{from}.norm1"));
        table.norm(&format!("{to}.feed_forward_norm"), dim, &format!("{from}.norm2"));
        for (part, shape, source) in [
            ("attention.query_key_value", [dim, 3 * dim], "attn.qkv"),
            ("attention.output", [dim, dim], "attn.proj"),
            ("feed_forward.input", [dim, mlp], "mlp.fc1"),
            ("feed_forward.output", [mlp, dim], "mlp.fc2"),
        ] {
            let (to, from) = (format!("{to}.{part}"), format!("{from}.{source}"));
            table.affine(&to, shape, xavier(shape), bias, &from);
        }
    }
    table.norm("temporal.output_norm", dim, "visual_encoder.norm");
    if sizes.projection {
        let shape = [dim, d_model];
        table.affine("temporal.projection", shape, xavier(shape), bias, "proj_v2t");
    }
    table.0
}

/// The tensors of the text encoder and the decoder.
#[must_use]
pub fn t5_tensors(sizes: &T5) -> Vec<TensorSpec> {
    let [vocabulary, width, heads, buckets] =
        [sizes.vocab_size, sizes.d_model, sizes.heads, sizes.relative_buckets]
            .map(|size| size as usize);
    let mut table = Table::default();
    let shape = vec![vocabulary, width];
    let start = Start::Normal(1.0);
    table.add("text.embedding.weight", shape.clone(), start, "t5_model.shared.weight");
    if !sizes.tied {
        let start = Start::Normal(deviation(width));
        table.add("text.head.weight", shape, start, "t5_model.lm_head.weight");
    }
    for (stack, layers, crosses) in
        [("encoder", sizes.encoder_layers, false), ("decoder", sizes.decoder_layers, true)]
    {
        let (to, from) = (format!("text.{stack}"), format!("t5_model.{stack}"));
        table.add(
            &format!("{to}.relative_bias.weight"),
            vec![buckets, heads],
            Start::Normal(deviation(width)),
            &format!("{from}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
        );
        for layer in 0..layers {
            let to = format!("{to}.{layer}");
            let from = format!("{from}.block.{layer}.layer");
            if crosses {
                t5_attention(
                    &mut table,
                    sizes,
                    &format!("{to}.self_attention"),
                    [&from, "0", "SelfAttention"],
                );
                t5_attention(
                    &mut table,
                    sizes,
                    &format!("{to}.cross_attention"),
                    [&from, "1", "EncDecAttention"],
                );
                t5_feed_forward(&mut table, sizes, &to, &format!("{from}.2"));
            } else {
                t5_attention(
                    &mut table,
                    sizes,
                    &format!("{to}.attention"),
                    [&from, "0", "SelfAttention"],
                );
                t5_feed_forward(&mut table, sizes, &to, &format!("{from}.1"));
            }
        }
        table.scale(&format!("{to}.output_norm"), width, &format!("{from}.final_layer_norm"));
    }
    table.0
}

fn t5_attention(table: &mut Table, sizes: &T5, to: &str, [block, index, module]: [&str; 3]) {
    let [width, heads, head] = [sizes.d_model, sizes.heads, sizes.d_kv].map(|size| size as usize);
    let inner = heads * head;
    table.scale(&format!("{to}_norm"), width, &format!("{block}.{index}.layer_norm"));
    for (part, shape, deviation, source) in [
        ("query", [width, inner], deviation(width * head), "q"),
        ("key", [width, inner], deviation(width), "k"),
        ("value", [width, inner], deviation(width), "v"),
        ("output", [inner, width], deviation(inner), "o"),
    ] {
        let from = format!("{block}.{index}.{module}.{source}.weight");
        table.turned(&format!("{to}.{part}.weight"), shape, Start::Normal(deviation), &from);
    }
}

fn t5_feed_forward(table: &mut Table, sizes: &T5, to: &str, from: &str) {
    let (width, wide) = (sizes.d_model as usize, sizes.d_ff as usize);
    let parts: &[(&str, &str)] = match sizes.feed_forward {
        FeedForward::Relu => &[("input", "wi")],
        FeedForward::GatedGelu => &[("gate", "wi_0"), ("input", "wi_1")],
    };
    table.scale(&format!("{to}.feed_forward_norm"), width, &format!("{from}.layer_norm"));
    for (part, source) in parts {
        table.turned(
            &format!("{to}.feed_forward.{part}.weight"),
            [width, wide],
            Start::Normal(deviation(width)),
            &format!("{from}.DenseReluDense.{source}.weight"),
        );
    }
    table.turned(
        &format!("{to}.feed_forward.output.weight"),
        [wide, width],
        Start::Normal(deviation(wide)),
        &format!("{from}.DenseReluDense.wo.weight"),
    );
}

/// A table of tensors in the making.
#[derive(Default)]
pub(crate) struct Table(pub(crate) Vec<TensorSpec>);

impl Table {
    /// A tensor that lies in the checkpoint as it does here.
    pub(crate) fn add(&mut self, name: &str, shape: Vec<usize>, start: Start, source: &str) {
        self.0.push(TensorSpec {
            name: name.to_owned(),
            source_shape: shape.clone(),
            shape,
            start,
            source: source.to_owned(),
            turned: false,
        });
    }

    /// A matrix that lies in the checkpoint the other way round.
    pub(crate) fn turned(
        &mut self,
        name: &str,
        [input, output]: [usize; 2],
        start: Start,
        source: &str,
    ) {
        self.add(name, vec![input, output], start, source);
        if let Some(added) = self.0.last_mut() {
            added.source_shape.reverse();
            added.turned = true;
        }
    }

    pub(crate) fn affine(
        &mut self,
        name: &str,
        shape: [usize; 2],
        weight: Start,
        bias: Start,
        source: &str,
    ) {
        self.turned(&format!("{name}.weight"), shape, weight, &format!("{source}.weight"));
        self.add(&format!("{name}.bias"), vec![shape[1]], bias, &format!("{source}.bias"));
    }

    pub(crate) fn scale(&mut self, name: &str, width: usize, source: &str) {
        let source = format!("{source}.weight");
        self.add(&format!("{name}.weight"), vec![width], Start::Ones, &source);
    }

    pub(crate) fn norm(&mut self, name: &str, width: usize, source: &str) {
        self.scale(name, width, source);
        let source = format!("{source}.bias");
        self.add(&format!("{name}.bias"), vec![width], Start::Zeros, &source);
    }
}

/// The standard deviation that keeps the size of a sum of `terms`.
#[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
fn deviation(terms: usize) -> f32 {
    (terms.max(1) as f32).sqrt().recip()
}
