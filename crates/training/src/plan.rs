//! A training file: what is trained, on what, and how. Read from TOML by the program; plain data here.

use std::{num::NonZeroU32, path::PathBuf};

use eventide_model::manifest::{
    Decoding, FeedForward, FramePick, FrameRule, Gelu, Manifest, Normalise, Quantise, Scoring, T5,
    Temporal, TextRule, TimeTokens, Vision,
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::{Value, from_value};

use crate::{
    data::{annotations::Form, drawn::Drawn},
    presets::{CLIP_MEAN, CLIP_STD},
};

/// A training file. Paths are relative to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Plan {
    /// What is trained.
    pub model: Model,
    /// What it learns from.
    pub data: Data,
    /// What it learns.
    pub objective: Objective,
    /// How fast.
    #[serde(default)]
    pub optimiser: Optimisation,
    /// Where the run keeps itself.
    pub run: Run,
}

/// What is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Model {
    /// The name of the model: lower-case letters, digits, `-`, `.`.
    pub id: String,
    /// The bundle to write; it must not be there yet.
    pub out: PathBuf,
    /// The bundle to go on from. Its vision encoder is taken in any case, and its tokenizer unless another is given.
    #[serde(default)]
    pub start: Option<PathBuf>,
    /// Sizes of a new model; where there is a `start`, only its vision encoder and its tokenizer are taken.
    #[serde(default)]
    pub sizes: Option<Sizes>,
    /// A SentencePiece model, such as T5's `spiece.model`, that a new model is to have: of at most `sizes.pieces` pieces,
    /// with the ids 0 for padding, 1 for the end and 2 for what is unknown. Without it, and without a `start`, pieces are
    /// learnt from the training data.
    #[serde(default)]
    pub tokenizer: Option<PathBuf>,
    /// SPDX expression of the weights' licence.
    pub licence: String,
    /// How the weights were made, for a person.
    #[serde(default)]
    pub provenance: String,
}

/// Sizes of a new model. The rules are those of `VidChapters` (`vid2seq.md` §0).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sizes {
    /// Side of the pictures in pixels, a multiple of `patch`.
    pub picture: u32,
    /// Side of a patch in pixels.
    pub patch: u32,
    /// Width of the vision encoder.
    pub vision_width: u32,
    /// Blocks of the vision encoder.
    pub vision_layers: u32,
    /// Size of a picture's feature, and width of the temporal encoder.
    pub feature: u32,
    /// Frames of a window.
    pub frames: u32,
    /// Blocks of the temporal encoder.
    pub temporal_layers: u32,
    /// Width of the text encoder and the decoder.
    pub width: u32,
    /// Blocks of the text encoder.
    pub encoder_layers: u32,
    /// Blocks of the decoder.
    pub decoder_layers: u32,
    /// Attention heads, everywhere; they divide all widths.
    pub heads: u32,
    /// Most pieces of the vocabulary, which is that of `tokenizer` or learnt from the training data. Of no effect where
    /// the tokenizer of a `start` is taken.
    pub pieces: u32,
    /// Time tokens.
    pub time_tokens: u32,
    /// Most tokens of what is written.
    pub output_tokens: u32,
}

/// The sentinels of the denoising objective, as in T5.
const EXTRA_IDS: u32 = 100;
/// A feed-forward layer is this many times as wide as what it is in.
const MLP: u32 = 4;

impl Sizes {
    /// The manifest of an untrained model of these sizes with a vocabulary of so many pieces.
    #[must_use]
    pub fn manifest(&self, model: &Model, pieces: u32) -> Manifest {
        Manifest {
            model_id: model.id.clone(),
            licence: model.licence.clone(),
            provenance: model.provenance.clone(),
            vision: self.vision(),
            temporal: Temporal {
                dim: self.feature,
                depth: self.temporal_layers,
                heads: self.heads,
                mlp: MLP * self.feature,
                positions: self.frames,
                layer_norm_eps: 1e-5,
                activation: Gelu::Erf,
                projection: self.feature != self.width,
            },
            t5: T5 {
                vocab_size: pieces + EXTRA_IDS + self.time_tokens,
                d_model: self.width,
                d_kv: self.width / self.heads.max(1),
                heads: self.heads,
                d_ff: MLP * self.width,
                encoder_layers: self.encoder_layers,
                decoder_layers: self.decoder_layers,
                relative_buckets: 32,
                relative_max_distance: 128,
                layer_norm_eps: 1e-6,
                feed_forward: FeedForward::Relu,
                tied: true,
            },
            frames: FrameRule { count: self.frames, pick: FramePick::Floor },
            time_tokens: TimeTokens {
                bins: self.time_tokens,
                first_id: pieces + EXTRA_IDS,
                quantise: Quantise::VidChapters,
            },
            text: TextRule {
                pad_id: 0,
                eos_id: 1,
                unk_id: 2,
                extra_ids: EXTRA_IDS,
                max_input_tokens: 1000,
                normalise: Normalise::VidChapters,
            },
            decoding: Decoding {
                beams: 4,
                length_penalty: 1.0,
                max_output_tokens: self.output_tokens,
                scoring: Scoring::Length,
            },
            ..crate::presets::tiny()
        }
    }

    fn vision(&self) -> Vision {
        Vision {
            image_size: self.picture,
            patch: self.patch,
            width: self.vision_width,
            layers: self.vision_layers,
            heads: self.heads,
            mlp: MLP * self.vision_width,
            output_dim: self.feature,
            layer_norm_eps: 1e-5,
            mean: CLIP_MEAN,
            std: CLIP_STD,
            std_eps: 1e-8,
        }
    }
}

/// What a model learns from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Data {
    /// What is learnt from.
    pub training: Source,
    /// What the model is judged on, now and then, and the best kept.
    #[serde(default)]
    pub validation: Option<Source>,
    /// Folder for features of pictures and for pictures. They are computed once.
    pub cache: PathBuf,
    /// Share of the training videos that is used, in `0..=1`: few-shot training.
    #[serde(default = "all")]
    pub share: f64,
    /// Whether each sentence is an example by itself, without what is before and after: pre-training on clips.
    #[serde(default)]
    pub clips: bool,
}

fn all() -> f64 {
    1.0
}

/// Videos and what is known of them.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Source {
    /// A folder that `eventide synth` made.
    Synthetic(PathBuf),
    /// Synthetic videos that are drawn as they are needed.
    Drawn(Drawn),
    /// A folder of videos, with their subtitles beside them, and files of annotations.
    Annotated(Annotated),
    /// What `eventide index` has published.
    Lake(Lake),
}

/// Told by one of its keys, so that whatever else is wrong is named.
impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let source = match &value {
            Value::Object(keys) if keys.contains_key("drawn") => from_value(value).map(Self::Drawn),
            Value::Object(keys) if keys.contains_key("tables") => from_value(value).map(Self::Lake),
            Value::Object(keys) if keys.contains_key("videos") => {
                from_value(value).map(Self::Annotated)
            }
            Value::String(folder) => Ok(Self::Synthetic(folder.into())),
            _ => {
                let expected = "expected a folder that `eventide synth` made, or a table with one of `drawn`, `videos`, `tables`";
                return Err(D::Error::custom(expected));
            }
        };
        source.map_err(D::Error::custom)
    }
}

/// Tables that `eventide index` has published: `transcripts` are what is said, `events` what happens. Where tables of an
/// earlier program have no transcripts, their events of speech are what is said. Videos in object stores are brought here
/// while they are looked at, once; one that is gone or was replaced since is left out, counted and named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lake {
    /// Their folder, or its address.
    pub tables: String,
    /// Whether what people have said about events, in table `feedback`, is learnt from. If not given, events are taken
    /// as they were found.
    #[serde(default)]
    pub feedback: Option<FeedbackUse>,
}

/// Which videos of tables are learnt from, where people have marked events. Of an event the last mark counts: a wrong one
/// is left out, an edited one has the caption and the bounds that it was given, a right one stays. So does one that
/// nobody has marked, as the whole of a video is learnt. Marks of events that a later run has replaced are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FeedbackUse {
    /// Those of which an event is marked.
    Marked,
    /// All of them; where nothing is marked, events are as they were found.
    All,
}

/// A folder of videos and files that say what happens in them.
///
/// Left out, counted and named are videos without a file, and those of which something cannot be: an event that ends before
/// it starts or runs more than a second over the end, one without words, subtitles that cannot be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Annotated {
    /// The videos; names without extension are ids.
    pub videos: PathBuf,
    /// What happens in them: a file, or several by several annotators, each of whom is learnt from. Nothing if there is
    /// no file, as for pre-training.
    #[serde(default)]
    pub annotations: Files,
    /// How the files are written.
    #[serde(default)]
    pub form: Form,
    /// The part of the data set that is taken, as the files name it: `training` or `validation` of `YouCook2`. All of
    /// it if not given.
    #[serde(default)]
    pub subset: Option<String>,
    /// A JSON file `{"id": "name"}` with the names of videos for the ids in the annotations: those of `ViTT` are ids of
    /// YouTube-8M.
    #[serde(default)]
    pub names: Option<PathBuf>,
}

/// One file, or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Files {
    /// One.
    One(PathBuf),
    /// Several, or none.
    Several(Vec<PathBuf>),
}

impl Default for Files {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Files {
    /// The files.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        match self {
            Self::One(path) => std::slice::from_ref(path),
            Self::Several(paths) => paths,
        }
    }

    /// The same, to be changed.
    pub fn paths_mut(&mut self) -> &mut [PathBuf] {
        match self {
            Self::One(path) => std::slice::from_mut(path),
            Self::Several(paths) => paths,
        }
    }
}

/// What is learnt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Objective {
    /// `vision`: pictures and what is seen in them, of synthetic videos. Else one or two of `speech` (generative
    /// pre-training), `denoising` and `events` (fine-tuning); their losses are added.
    pub tasks: Vec<Lesson>,
    /// Whether the model sees pictures.
    #[serde(default = "yes")]
    pub video: bool,
    /// Whether it hears speech.
    #[serde(default = "yes")]
    pub speech: bool,
}

fn yes() -> bool {
    true
}

/// One thing to learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Lesson {
    /// The vision encoder by itself, contrastively.
    Vision,
    /// All that is said, from pictures alone.
    Speech,
    /// What is hidden of what is said.
    Denoising,
    /// What happens.
    Events,
}

/// How fast is learnt. Adam with a linear warm-up and half a cosine down to zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Optimisation {
    /// Steps of the run.
    pub steps: NonZeroU32,
    /// Examples that go through the network at once.
    pub batch: usize,
    /// Batches of a step, which go through the network side by side: as many as there are cores take the least time.
    pub accumulate: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Steps in which it is reached.
    pub warm_up: u32,
    /// Decay of Adam's second moment.
    pub beta_2: f32,
    /// Largest norm of the gradients.
    pub clip: f32,
    /// Share of each target that is spread over the vocabulary.
    pub label_smoothing: f64,
    /// Share of values that is dropped.
    pub dropout: f32,
    /// How often a video is cut to a random part, in `0..=1`.
    pub crop: f64,
    /// Where all chance comes from.
    pub seed: u64,
}

impl Default for Optimisation {
    fn default() -> Self {
        Self {
            steps: NonZeroU32::new(1000).unwrap_or(NonZeroU32::MIN),
            batch: 32,
            accumulate: 1,
            learning_rate: 3e-4,
            warm_up: 100,
            beta_2: 0.999,
            clip: 1.0,
            label_smoothing: 0.1,
            dropout: 0.1,
            crop: 0.5,
            seed: 1,
        }
    }
}

/// Where a run keeps itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Run {
    /// Folder for checkpoints, metrics and the learning curve. A run that was interrupted goes on from there.
    pub folder: PathBuf,
    /// Steps from one look at the validation set, and one checkpoint, to the next.
    pub every: NonZeroU32,
    /// Beams with which the validation set is decoded; 1 is greedy.
    #[serde(default = "greedy")]
    pub beams: u32,
    /// Where the events of the validation set begin and end.
    #[serde(default)]
    pub bounds: Bounds,
    /// Most validation videos that are looked at before the end.
    #[serde(default)]
    pub validation_videos: Option<usize>,
}

/// Where events begin and end when a model is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Bounds {
    /// Where the model says: one stage.
    #[default]
    Model,
    /// Where the sentences of the transcript do, each of which is captioned by itself: two stages.
    Transcript,
}

fn greedy() -> u32 {
    1
}
