//! What can go wrong between a checkpoint and a bundle.

use std::{io, path::PathBuf};

use eventide_model::manifest::Precision;

pub use crate::pickle::PickleError;

/// The result of what this crate does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, and in which file or tensor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// A file or folder cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The folder to be written is there already.
    #[error("`{}` is already there", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The file is not a `PyTorch` checkpoint that we can read.
    #[error("`{}` is not a PyTorch checkpoint", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        source: zip::result::ZipError,
    },
    /// The part of a `PyTorch` checkpoint that names the tensors cannot be read.
    #[error("`{}` is not a PyTorch checkpoint of weights", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        source: PickleError,
    },
    /// A part of a checkpoint cannot be read.
    #[error("cannot read `{entry}` in `{}`", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The part.
        entry: String,
        /// Where it goes wrong.
        source: zip::result::ZipError,
    },
    /// A part of a checkpoint is not what it should be.
    #[error("`{}` is damaged: `{entry}` {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The part.
        entry: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The checkpoint holds no tensors by name.
    #[error("`{}` holds no state dictionary", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a safetensors file.
    #[error("`{}` is not a safetensors file", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        source: safetensors::SafeTensorError,
    },
    /// A tensor that the model needs is not there.
    #[error("the tensor `{name}` is missing")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A tensor is there that the model has no place for.
    #[error("the tensor `{name}` has no place in this model")]
    Surplus {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape than the model needs.
    #[error("the tensor `{name}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// The shape that fits.
        expected: Vec<usize>,
        /// The shape that it has.
        found: Vec<usize>,
    },
    /// A tensor has another number of dimensions than the model needs.
    #[error("the tensor `{name}` has shape {found:?}, expected {rank} dimensions")]
    Rank {
        /// Its name.
        name: String,
        /// How many dimensions it should have.
        rank: usize,
        /// The shape that it has.
        found: Vec<usize>,
    },
    /// A tensor holds elements that are not floats.
    #[error("the tensor `{name}` holds `{element}`, expected floats")]
    Element {
        /// Its name.
        name: String,
        /// What it holds.
        element: String,
    },
    /// A tensor holds infinities or values that are no numbers.
    #[error("the tensor `{name}` holds values that are not finite")]
    NotFinite {
        /// Its name.
        name: String,
    },
    /// The tokenizer is not the one that the model was trained with.
    #[error(
        "{pieces} pieces of the tokenizer, {extra_ids} extra ids and {time_tokens} time tokens do not \
         make the vocabulary of {vocabulary}"
    )]
    Vocabulary {
        /// Pieces of the tokenizer.
        pieces: u32,
        /// Sentinels that follow them.
        extra_ids: u32,
        /// Time tokens after those.
        time_tokens: u32,
        /// Rows of the embedding table.
        vocabulary: u32,
    },
    /// The parts do not make a model.
    #[error("these files do not make a model")]
    Model {
        /// What does not fit.
        source: Box<eventide_model::Error>,
    },
    /// The model was run, and failed.
    #[error("the model cannot be run")]
    Run {
        /// What it said.
        source: Box<eventide_model::Error>,
    },
    /// A bundle cannot be written in that precision.
    #[error("a bundle of {} cannot be made {}", from.name(), to.name())]
    Precision {
        /// The precision that it has.
        from: Precision,
        /// The precision that was asked for.
        to: Precision,
    },
    /// Inputs of the network are missing or of another kind.
    #[error("`{name}` in `{}` is wrong: {problem}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Why it cannot be used.
        problem: String,
    },
    /// Two names of one tensor hold different values.
    #[error("the tensor `{name}` differs from `{tied}`, to which it is tied")]
    Tied {
        /// One name.
        name: String,
        /// The other.
        tied: String,
    },
    /// A size does not divide evenly.
    #[error("`{part}` is {whole}, which {by} does not divide")]
    Divide {
        /// The size, such as `vision.width`.
        part: &'static str,
        /// Its value.
        whole: usize,
        /// What should divide it.
        by: usize,
    },
    /// The positions of the vision encoder are not those of a square of patches and a class token.
    #[error("the vision encoder has {positions} positions, expected a square and one")]
    Square {
        /// How many there are.
        positions: usize,
    },
    /// The state of a training run cannot be written or read.
    #[error("the training state `{}` is of no use: {problem}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The loss or its gradients are no longer numbers.
    #[error(
        "the loss of step {step} is {loss}, the norm of its gradients {norm}: lower the learning rate"
    )]
    Diverged {
        /// The step, from 0.
        step: u32,
        /// The loss.
        loss: f32,
        /// The norm of the gradients.
        norm: f32,
    },
    /// What a step left behind is no longer made of numbers.
    #[error("after step {step} {what} is not finite: lower the learning rate")]
    Ruined {
        /// Steps done.
        step: u32,
        /// What it is: a tensor, or the figure by which the model is judged.
        what: String,
    },
    /// What a model said cannot be scored.
    #[error("cannot score the validation set")]
    Scores {
        /// Why.
        source: Box<eventide_eval::Error>,
    },
    /// The plan of a training run contradicts itself.
    #[error("{problem}")]
    Plan {
        /// How.
        problem: String,
    },
    /// What is to be learnt from cannot be.
    #[error("cannot learn from this data")]
    Data(#[from] crate::data::Error),
    /// The worlds of synthetic videos cannot be made again.
    #[error("cannot make the worlds of the synthetic videos again")]
    Synthetic(#[from] crate::synth::Error),
    /// Features of pictures have no variance that could be evened out.
    #[error("the vision encoder sees the same in all pictures, or nothing that is a number")]
    Features,
    /// Tables cannot be learnt from.
    #[error("cannot learn from the tables at `{tables}`")]
    Lake {
        /// Where they are.
        tables: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No vocabulary came of the data.
    #[error("cannot make a vocabulary")]
    NoVocabulary(#[from] crate::vocabulary::Error),
    /// A new model cannot have this tokenizer.
    #[error("`{}` cannot be the tokenizer of a new model", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<eventide_model::Error>,
    },
    /// A tokenizer is larger than the model is to be.
    #[error(
        "`{}` has {pieces} pieces, and `model.sizes.pieces` says at most {most}: raise it, or give another \
         `model.tokenizer`",
        path.display()
    )]
    Pieces {
        /// The file.
        path: PathBuf,
        /// Its pieces.
        pieces: u32,
        /// The most there may be.
        most: u32,
    },
    /// There is nothing to learn from.
    #[error("there is no example to train on")]
    NoExamples,
    /// The manifest cannot be written as JSON.
    #[error("cannot write the manifest of `{model_id}`")]
    Manifest {
        /// The model.
        model_id: String,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
}

impl From<eventide_model::Error> for Error {
    fn from(source: eventide_model::Error) -> Self {
        Self::Run { source: Box::new(source) }
    }
}
