//! Scores of predicted against reference events, as the field of dense video captioning computes them.
//!
//! Pure functions over plain values: no files, no processes, no clock, no randomness. A caller reads predictions
//! and references (see [`forms`] for the JSON that the field exchanges), joins them in a [`Corpus`], and asks
//! for [`localisation`], [`dense`] captions, [`soda`], [`paragraph`] or [`clips`] scores; [`score`] gives all that dense
//! captioning papers print. [`figures`] puts names to scores, [`compare`] says whether two sets of them differ, and
//! [`gate`] whether they fell.
//!
//! Two programs set the conventions, and they do not agree everywhere: the scorer beside the `PyTorch` Vid2Seq
//! ("densevid" here, after the challenge scorer that it grew from) and the one beside the JAX original
//! ("scenic" here). Where they differ both figures are given, under names that tell them apart.
//!
//! METEOR 1.5 lives outside, behind [`SentenceScorer`]: it is a Java program with its own data. What this crate
//! offers instead is [`MeteorNative`], which is not the same measure and is never reported under its name.

pub mod bleu;
pub mod cider;
pub mod clips;
pub mod compare;
pub mod curves;
mod data;
pub mod dense;
mod error;
pub mod figures;
pub mod forms;
pub mod gate;
mod grams;
pub mod localisation;
mod meteor_native;
pub mod overlap;
pub mod paragraph;
pub mod rouge;
mod scorer;
mod scores;
pub mod soda;
pub mod tokens;
pub mod wordnet;

pub use data::{
    Annotations, Corpus, Event, LeftOut, MOST_PREDICTIONS, Span, Unpredicted, VideoCase,
};
pub use error::{Error, Result};
pub use meteor_native::MeteorNative;
pub use scorer::{CiderD, Pair, PairScores, ScorerError, SentenceScorer};
pub use scores::{Convention, Options, Scores, SodaCost, score, score_corpus};
