//! From released checkpoints to our weights: `VidChapters`' Vid2Seq and `OpenAI`'s CLIP.
//!
//! Sizes are read from the tensors; what tensors do not tell is given. It is strict: a tensor that
//! is missing, left over or of another shape is an error that names it. Only CLIP's text tower,
//! which comes in the same file as the vision encoder, is passed over.

use std::{borrow::Cow, collections::BTreeMap};

use eventide_model::manifest::{FeedForward, Gelu, T5, Temporal, Vision};

use crate::{
    checkpoint::Checkpoint,
    error::{Error, Result},
    presets::{CLIP_MEAN, CLIP_STD},
    tensors::{TensorSpec, t5_tensors, temporal_tensors, vision_tensors},
    weights::{Source, Weight, Weights},
};

/// What the tensors of a checkpoint do not tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// Heads of the vision encoder. CLIP's own have one for each 64 of its width, which `None`
    /// stands for.
    pub vision_heads: Option<u32>,
    /// Heads of the temporal encoder.
    pub temporal_heads: u32,
    /// Activation of the temporal encoder.
    pub temporal_activation: Gelu,
    /// Added to the variance in the layer norms of the temporal encoder.
    pub temporal_eps: f32,
    /// Distance from which all relative positions share a bucket.
    pub relative_max_distance: u32,
    /// Added to the mean square in the norms of the text encoder and decoder.
    pub text_eps: f32,
}

impl Default for Given {
    /// What all models released by `VidChapters` have.
    fn default() -> Self {
        Self {
            vision_heads: None,
            temporal_heads: 12,
            temporal_activation: Gelu::Erf,
            temporal_eps: 1e-5,
            relative_max_distance: 128,
            text_eps: 1e-6,
        }
    }
}

/// The sizes of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    /// Of the vision encoder.
    pub vision: Vision,
    /// Of the temporal encoder.
    pub temporal: Temporal,
    /// Of the text encoder and decoder.
    pub t5: T5,
}

/// The weights of a model where they lie in its checkpoints, under our names. They are read and turned
/// one at a time, when they are asked for.
#[derive(Debug)]
pub struct Released<'a> {
    tensors: BTreeMap<String, (TensorSpec, &'a Checkpoint)>,
}

impl<'a> Released<'a> {
    /// The vision encoder of a CLIP checkpoint.
    ///
    /// # Errors
    /// As [`import`], but for [`Error::NotFinite`], which only the values tell.
    pub fn vision(checkpoint: &'a Checkpoint, given: &Given) -> Result<(Vision, Self)> {
        let sizes = vision_sizes(checkpoint, given)?;
        Ok((sizes.clone(), Self::new(checkpoint, vision_tensors(&sizes), is_clip_text)?))
    }

    /// The temporal encoder and T5.
    ///
    /// # Errors
    /// As [`Released::vision`].
    pub fn vid2seq(checkpoint: &'a Checkpoint, given: &Given) -> Result<(Temporal, T5, Self)> {
        let t5 = t5_sizes(checkpoint, given)?;
        let temporal = temporal_sizes(checkpoint, given)?;
        let mut table = t5_tensors(&t5);
        table.extend(temporal_tensors(&temporal, t5.d_model));
        let released = Self::new(checkpoint, table, is_tied_name)?;
        Ok((temporal, t5, released))
    }

    /// All of a table, each of its shape; what is left over must be `passed_over`.
    pub(crate) fn new(
        checkpoint: &'a Checkpoint,
        table: Vec<TensorSpec>,
        passed_over: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        for tensor in &table {
            let found = checkpoint.shape(&tensor.source)?;
            if found != tensor.source_shape {
                return Err(Error::Shape {
                    name: tensor.source.clone(),
                    expected: tensor.source_shape.clone(),
                    found: found.to_vec(),
                });
            }
        }
        refuse_surplus(checkpoint, &table, passed_over)?;
        let named = |tensor: TensorSpec| (tensor.name.clone(), (tensor, checkpoint));
        Ok(Self { tensors: table.into_iter().map(named).collect() })
    }

    /// These and the tensors of another.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.tensors.extend(other.tensors);
        self
    }

    /// All of them in memory.
    fn collect(&self) -> Result<Weights> {
        self.tensors
            .values()
            .map(|(tensor, checkpoint)| Ok((tensor.name.clone(), take(checkpoint, tensor)?)))
            .collect()
    }
}

impl Source for Released<'_> {
    fn shapes(&self) -> Vec<(&str, &[usize])> {
        let tensors = self.tensors.iter();
        tensors.map(|(name, (tensor, _))| (name.as_str(), tensor.shape.as_slice())).collect()
    }

    fn weight(&self, name: &str) -> Result<Cow<'_, Weight>> {
        let missing = || Error::Missing { name: name.to_owned() };
        let (tensor, checkpoint) = self.tensors.get(name).ok_or_else(missing)?;
        take(checkpoint, tensor).map(Cow::Owned)
    }
}

/// Takes a whole model: `vid2seq` has the temporal encoder and T5, `clip` the vision encoder.
///
/// # Errors
/// Those of reading; and [`Error::Missing`], [`Error::Surplus`], [`Error::Shape`], [`Error::Rank`],
/// [`Error::NotFinite`], [`Error::Tied`], [`Error::Divide`], [`Error::Square`].
pub fn import(vid2seq: &Checkpoint, clip: &Checkpoint, given: &Given) -> Result<(Sizes, Weights)> {
    let (vision, released) = Released::vision(clip, given)?;
    let (temporal, t5, more) = Released::vid2seq(vid2seq, given)?;
    Ok((Sizes { vision, temporal, t5 }, released.with(more).collect()?))
}

/// Takes T5 alone, from a file whose names begin with `t5_model.`.
///
/// # Errors
/// As [`import`].
pub fn import_t5(checkpoint: &Checkpoint, given: &Given) -> Result<(T5, Weights)> {
    let sizes = t5_sizes(checkpoint, given)?;
    let weights = Released::new(checkpoint, t5_tensors(&sizes), is_tied_name)?.collect()?;
    Ok((sizes, weights))
}

/// Takes the temporal encoder alone, from a file whose names begin with `visual_encoder.`; `d_model`
/// is the width of the decoder that it is for.
///
/// # Errors
/// As [`import`].
pub fn import_temporal(
    checkpoint: &Checkpoint,
    d_model: u32,
    given: &Given,
) -> Result<(Temporal, Weights)> {
    let sizes = temporal_sizes(checkpoint, given)?;
    let table = temporal_tensors(&sizes, d_model);
    Ok((sizes, Released::new(checkpoint, table, |_| false)?.collect()?))
}

/// Takes the vision encoder from a CLIP checkpoint.
///
/// # Errors
/// As [`import`].
pub fn import_vision(checkpoint: &Checkpoint, given: &Given) -> Result<(Vision, Weights)> {
    let (sizes, released) = Released::vision(checkpoint, given)?;
    Ok((sizes, released.collect()?))
}

/// The names that T5 has for its one embedding table.
const TABLE: &str = "t5_model.shared.weight";
const TIED: [&str; 3] = [
    "t5_model.encoder.embed_tokens.weight",
    "t5_model.decoder.embed_tokens.weight",
    "t5_model.lm_head.weight",
];

fn is_tied_name(name: &str) -> bool {
    TIED.contains(&name)
}

/// Whether a tensor of a CLIP file belongs to the text tower or to the pairing of the two.
fn is_clip_text(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        "input_resolution",
        "context_length",
        "vocab_size",
        "positional_embedding",
        "text_projection",
        "logit_scale",
        "token_embedding.weight",
        "ln_final.weight",
        "ln_final.bias",
    ];
    NAMES.contains(&name) || name.starts_with("transformer.resblocks.")
}

fn vision_sizes(checkpoint: &Checkpoint, given: &Given) -> Result<Vision> {
    let [width, _, patch, _] = checkpoint.sizes("visual.conv1.weight")?;
    let [positions, _] = checkpoint.sizes("visual.positional_embedding")?;
    let [_, output_dim] = checkpoint.sizes("visual.proj")?;
    let [mlp, _] = checkpoint.sizes("visual.transformer.resblocks.0.mlp.c_fc.weight")?;
    let grid = positions.saturating_sub(1).isqrt();
    if grid == 0 || grid * grid + 1 != positions {
        return Err(Error::Square { positions });
    }
    let heads = given.vision_heads.unwrap_or_else(|| size(width / 64));
    divides("vision.width", width, heads)?;
    Ok(Vision {
        image_size: size(grid * patch),
        patch: size(patch),
        width: size(width),
        layers: layers(checkpoint, "visual.transformer.resblocks."),
        heads,
        mlp: size(mlp),
        output_dim: size(output_dim),
        layer_norm_eps: 1e-5,
        mean: CLIP_MEAN,
        std: CLIP_STD,
        std_eps: 1e-8,
    })
}

fn temporal_sizes(checkpoint: &Checkpoint, given: &Given) -> Result<Temporal> {
    let [_, positions, dim] = checkpoint.sizes("visual_encoder.pos_embed")?;
    let [mlp, _] = checkpoint.sizes("visual_encoder.blocks.0.mlp.fc1.weight")?;
    divides("temporal.dim", dim, given.temporal_heads)?;
    Ok(Temporal {
        dim: size(dim),
        depth: layers(checkpoint, "visual_encoder.blocks."),
        heads: given.temporal_heads,
        mlp: size(mlp),
        positions: size(positions),
        layer_norm_eps: given.temporal_eps,
        activation: given.temporal_activation,
        projection: checkpoint.contains("proj_v2t.weight"),
    })
}

fn t5_sizes(checkpoint: &Checkpoint, given: &Given) -> Result<T5> {
    let [vocab_size, d_model] = checkpoint.sizes(TABLE)?;
    let attention = "t5_model.encoder.block.0.layer.0.SelfAttention";
    let [buckets, heads] =
        checkpoint.sizes(&format!("{attention}.relative_attention_bias.weight"))?;
    let [inner, _] = checkpoint.sizes(&format!("{attention}.q.weight"))?;
    let feed_forward = "t5_model.encoder.block.0.layer.1.DenseReluDense";
    let gated = checkpoint.contains(&format!("{feed_forward}.wi_0.weight"));
    let wide = if gated { "wi_0" } else { "wi" };
    let [d_ff, _] = checkpoint.sizes(&format!("{feed_forward}.{wide}.weight"))?;
    divides("t5.heads * t5.d_kv", inner, size(heads))?;
    Ok(T5 {
        vocab_size: size(vocab_size),
        d_model: size(d_model),
        d_kv: size(inner / heads),
        heads: size(heads),
        d_ff: size(d_ff),
        encoder_layers: layers(checkpoint, "t5_model.encoder.block."),
        decoder_layers: layers(checkpoint, "t5_model.decoder.block."),
        relative_buckets: size(buckets),
        relative_max_distance: given.relative_max_distance,
        layer_norm_eps: given.text_eps,
        feed_forward: if gated { FeedForward::GatedGelu } else { FeedForward::Relu },
        tied: ties(checkpoint)?,
    })
}

/// Whether the output layer is the embedding table. The tables of the encoder and decoder always
/// are, so that others in their place are an error.
fn ties(checkpoint: &Checkpoint) -> Result<bool> {
    let table = checkpoint.weight(TABLE)?;
    let [encoder, decoder, head] = TIED;
    for name in [encoder, decoder] {
        if checkpoint.contains(name) && checkpoint.weight(name)? != table {
            return Err(Error::Tied { name: name.to_owned(), tied: TABLE.to_owned() });
        }
    }
    Ok(!checkpoint.contains(head) || checkpoint.weight(head)? == table)
}

/// How many blocks there are under `prefix`, by the highest number that follows it.
fn layers(checkpoint: &Checkpoint, prefix: &str) -> u32 {
    let numbers = checkpoint.names().filter_map(|name| {
        let (number, _) = name.strip_prefix(prefix)?.split_once('.')?;
        number.parse::<u32>().ok()
    });
    numbers.max().map_or(0, |last| last + 1)
}

fn divides(part: &'static str, whole: usize, by: u32) -> Result<()> {
    let by = by as usize;
    if by == 0 || !whole.is_multiple_of(by) {
        return Err(Error::Divide { part, whole, by });
    }
    Ok(())
}

fn size(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn take(checkpoint: &Checkpoint, tensor: &TensorSpec) -> Result<Weight> {
    let weight = checkpoint.weight(&tensor.source)?;
    if !weight.values().iter().all(|value| value.is_finite()) {
        return Err(Error::NotFinite { name: tensor.source.clone() });
    }
    Ok(if tensor.turned { weight.transposed() } else { weight.reshaped(&tensor.shape) })
}

fn refuse_surplus(
    checkpoint: &Checkpoint,
    table: &[TensorSpec],
    passed_over: impl Fn(&str) -> bool,
) -> Result<()> {
    let taken: std::collections::HashSet<&str> =
        table.iter().map(|tensor| tensor.source.as_str()).collect();
    match checkpoint.names().find(|&name| !taken.contains(name) && !passed_over(name)) {
        Some(name) => Err(Error::Surplus { name: name.to_owned() }),
        None => Ok(()),
    }
}
