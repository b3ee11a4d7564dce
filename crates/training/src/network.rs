//! The network while it is trained: what the graphs of a bundle compute, with gradients.
//!
//! Names and shapes come from [`tensors`](crate::tensors), as those of the graphs do; a test compares the two on the
//! golden models. Shapes: `b` rows, `f` frames, `t` tokens, `m` = frames and text of a row.

use burn::tensor::{Device, Int, Tensor, TensorData, activation, module::layer_norm};
use eventide_model::manifest::{FeedForward, Gelu, Manifest};
use ndarray::Array2;

use crate::{dropout::Dropout, parameters::Parameters, relative::Buckets};

/// Added to the scores of keys that are not looked at: their share is zero, unless there is no other key.
const HIDDEN: f32 = -1e9;

/// One pass through the network.
#[derive(Debug)]
pub struct Network<'a> {
    manifest: &'a Manifest,
    parameters: &'a Parameters,
    device: Device,
    dropout: Dropout,
}

/// The form of an attention layer.
#[derive(Debug, Clone, Copy)]
struct Heads {
    count: usize,
    width: usize,
    scale: f64,
}

impl<'a> Network<'a> {
    /// A pass with these parameters.
    #[must_use]
    pub fn new(
        manifest: &'a Manifest,
        parameters: &'a Parameters,
        device: &Device,
        dropout: Dropout,
    ) -> Self {
        Self { manifest, parameters, device: device.clone(), dropout }
    }

    /// Features `[b, dim]` of pictures whose patches lie as rows: `[b, patches, 3 * patch * patch]`, normalised,
    /// channel by channel. `QuickGELU`, class token, projection; as `vision.onnx`.
    pub fn vision(&mut self, patches: Tensor<3>) -> Tensor<2> {
        let sizes = &self.manifest.vision;
        let (width, eps) = (sizes.width as usize, f64::from(sizes.layer_norm_eps));
        let head = width / sizes.heads as usize;
        let [rows, count, pixels] = patches.dims();
        let kernel = self.parameters.kernel("vision.patch_embedding.weight");
        let kernel = kernel.reshape([width, pixels]).transpose();
        let embedded = linear(patches, kernel, None);
        let class = self.parameters.vector("vision.class_embedding");
        let class = class.reshape([1, 1, width]).expand([rows, 1, width]);
        let positions = self.parameters.matrix("vision.position_embedding");
        let placed =
            Tensor::cat(vec![class, embedded], 1) + positions.reshape([1, count + 1, width]);
        let mut stream = self.norm(placed, "vision.input_norm", eps);
        let heads = Heads { count: sizes.heads as usize, width: head, scale: usual_scale(head) };
        for layer in 0..sizes.layers {
            let quick_gelu = |x: Tensor<3>| x.clone() * activation::sigmoid(x * 1.702);
            stream = self.biased_block(stream, &format!("vision.{layer}"), heads, eps, quick_gelu);
        }
        let class = stream.narrow(1, 0, 1);
        let class = self.norm(class, "vision.output_norm", eps).reshape([rows, width]);
        class.matmul(self.parameters.matrix("vision.projection.weight"))
    }

    /// Visual memory `[b, f, d_model]` of features `[b, f, dim]`; as `temporal.onnx`.
    pub fn temporal(&mut self, features: Tensor<3>) -> Tensor<3> {
        let sizes = &self.manifest.temporal;
        let eps = f64::from(sizes.layer_norm_eps);
        let (dim, count) = (sizes.dim as usize, sizes.heads as usize);
        let heads = Heads { count, width: dim / count, scale: usual_scale(dim / count) };
        let activation = match sizes.activation {
            Gelu::Erf => activation::gelu,
            Gelu::Tanh => activation::gelu_approximate,
        };
        let positions = self.parameters.matrix("temporal.position_embedding");
        let mut stream = self.dropout.apply(features + positions.unsqueeze());
        for layer in 0..sizes.depth {
            stream =
                self.biased_block(stream, &format!("temporal.{layer}"), heads, eps, activation);
        }
        let memory = self.norm(stream, "temporal.output_norm", eps);
        if sizes.projection { self.affine(memory, "temporal.projection") } else { memory }
    }

    /// Text memory `[b, t, d_model]`; as `text_encoder.onnx`.
    pub fn text(&mut self, ids: &Array2<i64>) -> Tensor<3> {
        let sizes = &self.manifest.t5;
        let (rows, length) = ids.dim();
        let bias = self.bias("encoder", length, Buckets::both_ways);
        let mask = Tensor::<1>::from_floats(self.hidden(ids).as_slice(), &self.device);
        let bias = bias + mask.reshape([rows, 1, 1, length]);
        let mut stream = self.embedded(ids);
        for layer in 0..sizes.encoder_layers {
            let prefix = format!("text.encoder.{layer}");
            let normalised = self.scale(stream.clone(), &format!("{prefix}.attention_norm"));
            let attended = self.t5_attention(
                &normalised,
                &normalised,
                &format!("{prefix}.attention"),
                Some(&bias),
            );
            stream = stream + self.dropout.apply(attended);
            stream = self.feed_forward(stream, &prefix);
        }
        let memory = self.scale(stream, "text.encoder.output_norm");
        self.dropout.apply(memory)
    }

    /// Logits `[b * t, vocabulary]` of the tokens that follow `ids`, each seen with those before it and with `memory`
    /// `[b, m, d_model]`; as `decoder.onnx` does one step at a time. `memory_mask` is that of [`Memory`].
    pub fn decode(&mut self, ids: &Array2<i64>, memory: &Memory) -> Tensor<2> {
        let sizes = &self.manifest.t5;
        let (rows, length) = ids.dim();
        let causal = Tensor::<2>::full([length, length], HIDDEN, &self.device).triu(1);
        let bias = self.bias("decoder", length, Buckets::backwards)
            + causal.reshape([1, 1, length, length]);
        let mut stream = self.embedded(ids);
        for layer in 0..sizes.decoder_layers {
            let prefix = format!("text.decoder.{layer}");
            let normalised = self.scale(stream.clone(), &format!("{prefix}.self_attention_norm"));
            let name = format!("{prefix}.self_attention");
            let attended = self.t5_attention(&normalised, &normalised, &name, Some(&bias));
            stream = stream + self.dropout.apply(attended);
            let normalised = self.scale(stream.clone(), &format!("{prefix}.cross_attention_norm"));
            let name = format!("{prefix}.cross_attention");
            let attended =
                self.t5_attention(&normalised, &memory.rows, &name, memory.mask.as_ref());
            stream = stream + self.dropout.apply(attended);
            stream = self.feed_forward(stream, &prefix);
        }
        let hidden = self.scale(stream, "text.decoder.output_norm");
        let hidden = self.dropout.apply(hidden);
        let width = sizes.d_model as usize;
        let hidden = hidden.reshape([rows * length, width]);
        if sizes.tied {
            let scaled = hidden * f64::from(sizes.d_model).sqrt().recip();
            scaled.matmul(self.parameters.matrix("text.embedding.weight").transpose())
        } else {
            hidden.matmul(self.parameters.matrix("text.head.weight").transpose())
        }
    }

    /// What the decoder looks at: all of the video, and of the text what is no padding.
    ///
    /// # Panics
    /// If neither is given.
    #[must_use]
    pub fn memory(
        &self,
        video: Option<Tensor<3>>,
        text: Option<(Tensor<3>, &Array2<i64>)>,
    ) -> Memory {
        let mask = text.as_ref().map(|(_, ids)| {
            let (rows, length) = ids.dim();
            let frames = video.as_ref().map_or(0, |video| video.dims()[1]);
            let mut mask = Vec::with_capacity(rows * (frames + length));
            for row in self.hidden(ids).chunks(length) {
                mask.extend(std::iter::repeat_n(0.0, frames));
                mask.extend(row);
            }
            let mask = TensorData::new(mask, [rows, 1, 1, frames + length]);
            Tensor::from_data(mask, &self.device)
        });
        let parts: Vec<_> = video.into_iter().chain(text.map(|(text, _)| text)).collect();
        Memory { rows: Tensor::cat(parts, 1), mask }
    }

    /// For each token 0, for padding [`HIDDEN`]; row by row.
    fn hidden(&self, ids: &Array2<i64>) -> Vec<f32> {
        let pad = i64::from(self.manifest.text.pad_id);
        ids.iter().map(|&id| if id == pad { HIDDEN } else { 0.0 }).collect()
    }

    fn embedded(&mut self, ids: &Array2<i64>) -> Tensor<3> {
        let (rows, length) = ids.dim();
        let table = self.parameters.matrix("text.embedding.weight");
        let width = self.manifest.t5.d_model as usize;
        let embedded =
            table.select(0, whole_numbers(ids, &self.device)).reshape([rows, length, width]);
        self.dropout.apply(embedded)
    }

    /// `[1, heads, length, length]`: what a stack adds to the score of key `j` for query `i`.
    fn bias(&self, stack: &str, length: usize, bucket: fn(Buckets, i32) -> i32) -> Tensor<4> {
        let sizes = &self.manifest.t5;
        let buckets =
            Buckets { count: sizes.relative_buckets, max_distance: sizes.relative_max_distance };
        let positions = || 0..i32::try_from(length).unwrap_or(i32::MAX);
        let of_pair =
            |query: i32| positions().map(move |key| i64::from(bucket(buckets, key - query)));
        let indices: Vec<i64> = positions().flat_map(of_pair).collect();
        let indices = TensorData::new(indices, [length * length]);
        let indices = Tensor::<1, Int>::from_data(indices, &self.device);
        let table = self.parameters.matrix(&format!("text.{stack}.relative_bias.weight"));
        let bias = table.select(0, indices).reshape([1, length, length, sizes.heads as usize]);
        bias.permute([0, 3, 1, 2])
    }

    fn t5_attention(
        &mut self,
        queries: &Tensor<3>,
        keys: &Tensor<3>,
        prefix: &str,
        bias: Option<&Tensor<4>>,
    ) -> Tensor<3> {
        let sizes = &self.manifest.t5;
        // T5 does not scale its scores.
        let heads = Heads { count: sizes.heads as usize, width: sizes.d_kv as usize, scale: 1.0 };
        let weight = |part: &str| self.parameters.matrix(&format!("{prefix}.{part}.weight"));
        let query = linear(queries.clone(), weight("query"), None);
        let key = linear(keys.clone(), weight("key"), None);
        let value = linear(keys.clone(), weight("value"), None);
        let output = weight("output");
        let mixed = self.attention([query, key, value], heads, bias);
        linear(mixed, output, None)
    }

    /// `[b, q, heads * width]` of queries `[b, q, ..]`, keys and values `[b, k, ..]`; `bias` is added to the scores
    /// `[b, heads, q, k]`.
    fn attention(
        &mut self,
        projected: [Tensor<3>; 3],
        heads: Heads,
        bias: Option<&Tensor<4>>,
    ) -> Tensor<3> {
        let [query, key, value] = projected.map(|part| {
            let [rows, length, _] = part.dims();
            part.reshape([rows, length, heads.count, heads.width]).swap_dims(1, 2)
        });
        let [rows, _, length, _] = query.dims();
        let query =
            if (heads.scale - 1.0).abs() > f64::EPSILON { query * heads.scale } else { query };
        let scores = query.matmul(key.swap_dims(2, 3));
        let scores = match bias {
            Some(bias) => scores + bias.clone(),
            None => scores,
        };
        let shares = self.dropout.apply(activation::softmax(scores, 3));
        shares.matmul(value).swap_dims(1, 2).reshape([rows, length, heads.count * heads.width])
    }

    fn feed_forward(&mut self, stream: Tensor<3>, prefix: &str) -> Tensor<3> {
        let normalised = self.scale(stream.clone(), &format!("{prefix}.feed_forward_norm"));
        let weight =
            |part: &str| self.parameters.matrix(&format!("{prefix}.feed_forward.{part}.weight"));
        let wide = linear(normalised.clone(), weight("input"), None);
        let active = match self.manifest.t5.feed_forward {
            FeedForward::Relu => activation::relu(wide),
            FeedForward::GatedGelu => {
                activation::gelu_approximate(linear(normalised, weight("gate"), None)) * wide
            }
        };
        let output = weight("output");
        let active = self.dropout.apply(active);
        stream + self.dropout.apply(linear(active, output, None))
    }

    /// A block of the vision or the temporal encoder: attention and feed-forward, each after its norm.
    fn biased_block(
        &mut self,
        stream: Tensor<3>,
        prefix: &str,
        heads: Heads,
        eps: f64,
        activation: impl Fn(Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        let normalised = self.norm(stream.clone(), &format!("{prefix}.attention_norm"), eps);
        let together = self.affine(normalised, &format!("{prefix}.attention.query_key_value"));
        let width = heads.count * heads.width;
        let projected = [0, 1, 2].map(|part| together.clone().narrow(2, part * width, width));
        let mixed = self.attention(projected, heads, None);
        let attended = self.affine(mixed, &format!("{prefix}.attention.output"));
        let stream = stream + self.dropout.apply(attended);
        let normalised = self.norm(stream.clone(), &format!("{prefix}.feed_forward_norm"), eps);
        let wide = activation(self.affine(normalised, &format!("{prefix}.feed_forward.input")));
        let narrow = self.affine(wide, &format!("{prefix}.feed_forward.output"));
        stream + self.dropout.apply(narrow)
    }

    fn affine(&self, value: Tensor<3>, prefix: &str) -> Tensor<3> {
        let weight = self.parameters.matrix(&format!("{prefix}.weight"));
        linear(value, weight, Some(self.parameters.vector(&format!("{prefix}.bias"))))
    }

    fn norm(&self, value: Tensor<3>, prefix: &str, eps: f64) -> Tensor<3> {
        let weight = self.parameters.vector(&format!("{prefix}.weight"));
        layer_norm(value, weight, Some(self.parameters.vector(&format!("{prefix}.bias"))), eps)
    }

    /// T5's norm: by the root of the mean square.
    fn scale(&self, value: Tensor<3>, prefix: &str) -> Tensor<3> {
        let weight = self.parameters.vector(&format!("{prefix}.weight"));
        let eps = f64::from(self.manifest.t5.layer_norm_eps);
        let size = (value.clone().square().mean_dim(2) + eps).sqrt();
        value / size * weight.unsqueeze()
    }
}

/// All ids, row by row.
fn whole_numbers(ids: &Array2<i64>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = ids.iter().copied().collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

/// What the decoder looks at.
#[derive(Debug, Clone)]
pub struct Memory {
    /// `[b, m, d_model]`.
    pub rows: Tensor<3>,
    /// `[b, 1, 1, m]`, added to the scores.
    pub mask: Option<Tensor<4>>,
}

/// `value [b, n, in]` times `weight [in, out]`, plus `bias`.
fn linear(value: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    let [rows, length, width] = value.dims();
    let out = weight.dims()[1];
    let product = value.reshape([rows * length, width]).matmul(weight);
    let sum = match bias {
        Some(bias) => product + bias.unsqueeze(),
        None => product,
    };
    sum.reshape([rows, length, out])
}

#[expect(clippy::cast_precision_loss, reason = "widths are far below 2^52")]
fn usual_scale(width: usize) -> f64 {
    (width as f64).sqrt().recip()
}
