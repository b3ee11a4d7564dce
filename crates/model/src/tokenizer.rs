//! Text to token ids and back, by a SentencePiece model.
//!
//! Ids lie so: pieces, then the sentinels (`extra_ids`), then, from `time_tokens.first_id`, the time
//! tokens. Text only ever gives pieces: `</s>` or `<time=7>` in a subtitle is text, not a command.

use std::{fmt, fs};

use sentencepiece::SentencePieceProcessor;

use crate::{
    bundle::Bundle,
    error::{Error, Result},
    manifest::{Manifest, TextRule, TimeTokens, files},
};

/// A SentencePiece model and the ids that the bundle gives to what is no text.
pub struct Tokenizer {
    processor: SentencePieceProcessor,
    pieces: u32,
    text: TextRule,
    time_tokens: TimeTokens,
}

impl Tokenizer {
    /// Opens the tokenizer of a bundle.
    ///
    /// # Errors
    /// [`Error::Read`] if its file cannot be read, and as [`Tokenizer::new`].
    pub fn open(bundle: &Bundle) -> Result<Self> {
        let path = bundle.path(files::TOKENIZER);
        let model = fs::read(&path).map_err(|source| Error::Read { path, source })?;
        Self::new(&model, bundle.manifest())
    }

    /// Takes the bytes of a SentencePiece model, and the ids from a manifest.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the bytes are no such model, [`Error::Field`] if its pieces do not fit
    /// the ids of the manifest.
    pub fn new(model: &[u8], manifest: &Manifest) -> Result<Self> {
        let processor = SentencePieceProcessor::from_serialized_proto(model)
            .map_err(|source| Error::Tokenizer { source })?;
        let pieces = u32::try_from(processor.len()).unwrap_or(u32::MAX);
        let (text, time_tokens) = (manifest.text.clone(), manifest.time_tokens.clone());
        let after_sentinels = pieces.saturating_add(text.extra_ids);
        if after_sentinels > time_tokens.first_id {
            return Err(Error::Field {
                field: "time_tokens.first_id",
                problem: format!(
                    "`{}` is taken by the {pieces} pieces and {} extra ids of the tokenizer",
                    time_tokens.first_id, text.extra_ids
                ),
            });
        }
        let special = [
            ("text.pad_id", text.pad_id, processor.pad_id()),
            ("text.eos_id", text.eos_id, processor.eos_id()),
            ("text.unk_id", text.unk_id, Some(processor.unk_id())),
        ];
        if let Some((field, id, found)) = special.into_iter().find(|&(_, id, f)| f != Some(id)) {
            let found = found.map_or_else(|| "none".to_owned(), |found| format!("`{found}`"));
            let problem = format!("`{id}` where the tokenizer has {found}");
            return Err(Error::Field { field, problem });
        }
        Ok(Self { processor, pieces, text, time_tokens })
    }

    /// How many pieces the SentencePiece model in these bytes has.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if they are no such model.
    pub fn pieces_of(model: &[u8]) -> Result<u32> {
        let processor = SentencePieceProcessor::from_serialized_proto(model)
            .map_err(|source| Error::Tokenizer { source })?;
        Ok(u32::try_from(processor.len()).unwrap_or(u32::MAX))
    }

    /// Ids of the pieces of `text`, all in `0..pieces`; nothing is added. Characters that the model
    /// does not know give `unk_id`.
    ///
    /// # Errors
    /// [`Error::Encode`] if the library refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let pieces = self
            .processor
            .encode(text)
            .map_err(|source| Error::Encode { bytes: text.len(), source })?;
        Ok(pieces.into_iter().map(|piece| i64::from(piece.id)).collect())
    }

    /// The text of `ids`. Everything that is not text is left out: pad, end, unknown, sentinels, time
    /// tokens, ids outside the vocabulary.
    ///
    /// # Errors
    /// [`Error::Decode`] if the library refuses the pieces.
    pub fn decode(&self, ids: &[i64]) -> Result<String> {
        let pieces: Vec<u32> = ids.iter().filter_map(|&id| self.piece(id)).collect();
        if pieces.is_empty() {
            return Ok(String::new());
        }
        self.processor
            .decode_piece_ids(&pieces)
            .map_err(|source| Error::Decode { tokens: pieces.len(), source })
    }

    /// Whether `id` stands for a piece of text.
    #[must_use]
    pub fn is_text(&self, id: i64) -> bool {
        self.piece(id).is_some()
    }

    fn piece(&self, id: i64) -> Option<u32> {
        let special = [self.text.pad_id, self.text.eos_id, self.text.unk_id];
        let id = u32::try_from(id).ok()?;
        (id < self.pieces && !special.contains(&id)).then_some(id)
    }

    /// Number of pieces of the SentencePiece model.
    #[must_use]
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// The id of sentinel `index`: they count down from the last, which is the first sentinel.
    /// `None` past the number of sentinels.
    #[must_use]
    pub fn sentinel(&self, index: u32) -> Option<i64> {
        let after = self.pieces + self.text.extra_ids;
        (index < self.text.extra_ids).then(|| i64::from(after - 1 - index))
    }

    /// The text rules of the bundle.
    #[must_use]
    pub fn text_rule(&self) -> &TextRule {
        &self.text
    }

    /// The time tokens of the bundle.
    #[must_use]
    pub fn time_tokens(&self) -> &TimeTokens {
        &self.time_tokens
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tokenizer").field("pieces", &self.pieces).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, ids, t5, t5_model, tiny, tiny_model, vid_chapters};
    use proptest::prelude::*;
    use rstest::rstest;
    use sha2::{Digest, Sha256};

    /// Golden texts that the reference reads as commands, and we as text.
    const INJECTIONS: [&str; 3] =
        ["<extra_id_0> here", "<time=5> typed by hand", "</s> and <pad> and <unk>"];

    #[test]
    fn every_golden_text() {
        let tokenizer = t5(&vid_chapters());
        let golden = golden("sequences.json");
        let expected = golden["tokenizer"]["sha256"].as_str().unwrap();
        assert_eq!(format!("{:x}", Sha256::digest(t5_model())), expected);
        assert_eq!(tokenizer.pieces(), 32_000);
        let (mut equal, mut injections) = (0, 0);
        for case in golden["tokenise"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let found = tokenizer.encode(text).unwrap();
            if INJECTIONS.contains(&text) {
                assert_ne!(found, ids(&case["ids"]), "{text}");
                injections += 1;
                continue;
            }
            assert_eq!(found, ids(&case["ids"]), "{text}");
            let decoded = crate::parse::without_stray_spaces(&tokenizer.decode(&found).unwrap());
            assert_eq!(decoded, case["decoded"].as_str().unwrap(), "{text}");
            equal += 1;
        }
        assert_eq!((equal, injections), (16, 3));
    }

    /// What Scenic, whose tokenizer knows no special strings, makes of the same texts.
    #[rstest]
    #[case("<time=5> typed by hand")]
    #[case("</s> and <pad> and <unk>")]
    #[case("<extra_id_0> here")]
    fn commands_in_text_are_text(#[case] text: &str) {
        let tokenizer = t5(&vid_chapters());
        let found = tokenizer.encode(text).unwrap();
        let special = |id: &i64| [0, 1].contains(id) || *id >= 32_000;
        assert!(!found.iter().any(special), "{found:?}");
        // "<" is not in this vocabulary; the rest of the words is still there.
        let decoded = tokenizer.decode(&found).unwrap();
        let words: String = text.chars().filter(|&c| c != '<').collect();
        assert_eq!(decoded.replace(' ', ""), words.replace(' ', ""));
    }

    #[test]
    fn sentinels_count_down() {
        let tokenizer = t5(&vid_chapters());
        assert_eq!(tokenizer.sentinel(0), Some(32_099));
        assert_eq!(tokenizer.sentinel(99), Some(32_000));
        assert_eq!(tokenizer.sentinel(100), None);
    }

    #[test]
    fn what_is_no_text_is_left_out() {
        let tokenizer = t5(&vid_chapters());
        let with = [0, 8774, 2, 296, 32_099, 32_105, 5, 1, -3, 99_999];
        assert_eq!(tokenizer.decode(&with).unwrap(), "Hello world.");
        assert_eq!(tokenizer.decode(&[0, 1, 2]).unwrap(), "");
    }

    #[test]
    fn bytes_that_are_no_model_are_refused() {
        let error = Tokenizer::new(b"not a model", &vid_chapters()).unwrap_err();
        assert_eq!(error.to_string(), "the tokenizer is not a SentencePiece model");
    }

    #[test]
    fn time_tokens_do_not_lie_on_pieces() {
        let mut manifest = tiny();
        manifest.time_tokens.first_id = 299;
        let error = Tokenizer::new(&tiny_model(), &manifest).unwrap_err();
        assert!(error.to_string().contains("taken by the 200 pieces"), "{error}");
        manifest.time_tokens.first_id = 300;
        Tokenizer::new(&tiny_model(), &manifest).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn text_gives_only_pieces(text in ".*") {
            let tokenizer = Tokenizer::new(&tiny_model(), &tiny()).unwrap();
            for id in tokenizer.encode(&text).unwrap() {
                prop_assert!(id == 2 || tokenizer.is_text(id), "{}", id);
            }
        }
    }
}
