//! A vocabulary of one's own: a unigram language model over pieces of words, as a SentencePiece model file.
//!
//! The file stands in for T5's: ids 0 `<pad>`, 1 `</s>`, 2 `<unk>`, then the pieces from the likeliest on, `▁` for a
//! space. Text is taken as it comes (no Unicode normalisation), but for spaces at either end and doubled ones.
//! `tokenizers` estimates the pieces (Kudo 2018, "Subword Regularization"); what is ours is how sentences fall into
//! words, and the file.

mod pb;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use prost::Message as _;
use regex::Regex;
use tokenizers::models::unigram::{Unigram, UnigramTrainer};

use pb::{ModelProto, NormalizerSpec, SentencePiece, TrainerSpec, Type};

/// The pieces that are no text, in the order of their ids.
const SPECIAL: [(&str, Type); 3] =
    [("<pad>", Type::Control), ("</s>", Type::Control), ("<unk>", Type::Unknown)];
/// What stands for a space in a piece: U+2581.
const SPACE: char = '▁';
/// The most characters of text, so that the library's 32-bit counts of pieces of up to 16 characters hold.
const MOST_CHARACTERS: u64 = u32::MAX as u64 / 16;
/// How much less likely than the one before the library makes each character that it has kept only to have all.
const STEP: f64 = 0.0001;

/// A trained vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    /// The bytes of a SentencePiece model file.
    pub model: Vec<u8>,
    /// How many pieces it has, the three special ones among them.
    pub pieces: u32,
}

/// Why a vocabulary was not trained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing to learn from.
    #[error("no sentence has a character in it to learn pieces from")]
    Empty,
    /// Counts would overflow.
    #[error("more than {MOST_CHARACTERS} characters of text: give a sample of the sentences")]
    TooLong,
    /// Not every character of the text can be a piece.
    #[error(
        "{pieces} pieces are too few for the {characters} different characters of the sentences: \
         at least {least} are needed"
    )]
    TooFewPieces {
        /// What was asked for.
        pieces: u32,
        /// The different characters.
        characters: usize,
        /// The fewest pieces for them.
        least: usize,
    },
    /// The thread to train on could not be started.
    #[error("cannot start a thread to train a vocabulary on")]
    Thread {
        /// What the system said.
        source: rayon::ThreadPoolBuildError,
    },
    /// The library gave up.
    #[error("cannot train a vocabulary of {pieces} pieces")]
    Train {
        /// What was asked for.
        pieces: u32,
        /// What the library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Trains a vocabulary of at most `pieces` pieces, the special ones among them: fewer where the
/// estimation finds no use for more. [`Vocabulary::pieces`] tells how many there are.
///
/// A piece is part of one word and has only digits, only punctuation and symbols, or neither; the first of a word
/// begins with the space before it. Each character of the sentences is a piece, so that all of their text comes back
/// from its ids; other characters are `<unk>`, NUL always. The same sentences, in whatever order, give the same bytes.
/// Runs on one thread, for sums of floating-point numbers depend on their order.
///
/// The library prunes until the pieces are few enough, and has no limit of rounds: were most of the pieces without
/// any other spelling, it would not end. Ask for well more pieces than there are characters.
///
/// # Errors
/// [`Error`].
pub fn train(
    sentences: impl IntoIterator<Item: AsRef<str>>,
    pieces: u32,
) -> Result<Vocabulary, Error> {
    let words = count(sentences)?;
    let alphabet: BTreeSet<char> = words.keys().flat_map(|word| word.chars()).collect();
    let least = SPECIAL.len() + alphabet.len() + 1;
    if (pieces as usize) < least {
        return Err(Error::TooFewPieces { pieces, characters: alphabet.len(), least });
    }
    let mut learnt = estimate(with_ends(words), pieces)?;
    settle(&mut learnt, alphabet.len());
    let file = file(&learnt);
    let pieces = u32::try_from(file.pieces.len()).unwrap_or(u32::MAX);
    Ok(Vocabulary { model: file.encode_to_vec(), pieces })
}

/// How often each stretch of text occurs that pieces may be cut from.
fn count(sentences: impl IntoIterator<Item: AsRef<str>>) -> Result<BTreeMap<String, u32>, Error> {
    static RUNS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\p{N}+|[\p{P}\p{S}]+|[^\p{N}\p{P}\p{S}]+").expect("a regular expression")
    });
    let mut counts = BTreeMap::new();
    let mut characters = 0;
    for sentence in sentences {
        let sentence = sentence.as_ref();
        // A newline after each word would double the text at most.
        characters += 2 * sentence.len() as u64;
        if characters > MOST_CHARACTERS {
            return Err(Error::TooLong);
        }
        for word in sentence.split([' ', SPACE, '\0']) {
            for run in RUNS.find_iter(word) {
                let space = if run.start() == 0 { "▁" } else { "" };
                *counts.entry(format!("{space}{}", run.as_str())).or_default() += 1;
            }
        }
    }
    if counts.is_empty() { Err(Error::Empty) } else { Ok(counts) }
}

/// Each word once more, with a space behind it, as one that never occurs.
///
/// The library begins from those parts of words that it finds with different characters behind them. Without these, it
/// would never consider the end of a word whose ends are all alike: most words, in text of a small world.
fn with_ends(words: BTreeMap<String, u32>) -> Vec<(String, u32)> {
    let both = |(word, count)| [(format!("{word}{SPACE}"), 0), (word, count)];
    words.into_iter().flat_map(both).collect()
}

/// Pieces and the logarithms of their probabilities.
fn estimate(words: Vec<(String, u32)>, pieces: u32) -> Result<Vec<(String, f64)>, Error> {
    let mut trainer = UnigramTrainer::default();
    trainer.show_progress = false;
    trainer.vocab_size = pieces.saturating_sub(3);
    let mut model = Unigram::default();
    let one_thread = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .map_err(|source| Error::Thread { source })?;
    one_thread
        .install(|| trainer.do_train(words, &mut model))
        .map_err(|source| Error::Train { pieces, source })?;
    Ok(model.iter().cloned().collect())
}

/// Sorts the pieces, the likeliest first.
///
/// Characters that are of use only to spell what has no better pieces come from the library with the lowest score and
/// up, in an order that changes between runs: here all of them get the lowest.
fn settle(pieces: &mut [(String, f64)], characters: usize) {
    let lowest = pieces.iter().map(|(_, score)| *score).fold(f64::INFINITY, f64::min);
    #[expect(clippy::cast_precision_loss, reason = "there are at most 1 114 112 characters")]
    let highest = lowest + STEP * characters as f64;
    for (piece, score) in pieces.iter_mut() {
        if *score < highest && piece.chars().count() == 1 {
            *score = lowest;
        }
    }
    pieces.sort_by(|(a, score_a), (b, score_b)| score_b.total_cmp(score_a).then_with(|| a.cmp(b)));
}

fn file(learnt: &[(String, f64)]) -> ModelProto {
    let piece = |text: &str, score, r#type: Type| SentencePiece {
        piece: Some(text.to_owned()),
        score: Some(score),
        r#type: Some(r#type.into()),
    };
    let special = SPECIAL.iter().map(|&(text, r#type)| piece(text, 0.0, r#type));
    #[expect(clippy::cast_possible_truncation, reason = "the file holds 32-bit scores")]
    let learnt = learnt.iter().map(|(text, score)| piece(text, *score as f32, Type::Normal));
    let pieces: Vec<_> = special.chain(learnt).collect();
    let trainer_spec = TrainerSpec {
        model_type: Some(pb::UNIGRAM),
        vocab_size: i32::try_from(pieces.len()).ok(),
        pad_id: Some(0),
        eos_id: Some(1),
        unk_id: Some(2),
        bos_id: Some(pb::NONE),
    };
    let normalizer_spec = NormalizerSpec {
        name: Some("identity".to_owned()),
        add_dummy_prefix: Some(true),
        remove_extra_whitespaces: Some(true),
        escape_whitespaces: Some(true),
    };
    ModelProto { pieces, trainer_spec: Some(trainer_spec), normalizer_spec: Some(normalizer_spec) }
}

#[cfg(test)]
mod tests;
