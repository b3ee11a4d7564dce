//! Tokens to text by a byte-level vocabulary (`tokenizer.json`, as GPT-2 introduced it). Recognition
//! never has to go the other way.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result};

/// The bytes that each token stands for, and the tokens that stand for no text.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    pieces: Vec<Vec<u8>>,
    added: BTreeMap<String, u32>,
}

/// What we read of `tokenizer.json`.
#[derive(Deserialize)]
struct File {
    added_tokens: Vec<Added>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
}

#[derive(Deserialize)]
struct Model {
    vocab: BTreeMap<String, u32>,
}

/// Ids from which on a vocabulary is not believed.
const MOST_TOKENS: u32 = 1 << 20;

impl Vocabulary {
    /// Takes the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] if they are no such file, or a token is not made of byte signs.
    pub fn new(json: &[u8]) -> Result<Self> {
        let wrong = |problem: String| Error::Vocabulary { problem };
        let file: File = serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))?;
        let added: BTreeMap<String, u32> =
            file.added_tokens.into_iter().map(|token| (token.content, token.id)).collect();
        let signs = byte_signs();
        let mut pieces = Vec::new();
        for (spelling, id) in file.model.vocab {
            if added.contains_key(&spelling) {
                continue;
            }
            if id >= MOST_TOKENS {
                return Err(wrong(format!("`{spelling}` has the id {id}")));
            }
            let bytes: Option<Vec<u8>> =
                spelling.chars().map(|sign| signs.get(&sign).copied()).collect();
            let bytes = bytes.ok_or_else(|| wrong(format!("`{spelling}` is not made of bytes")))?;
            let place = id as usize;
            if pieces.len() <= place {
                pieces.resize(place + 1, Vec::new());
            }
            pieces[place] = bytes;
        }
        Ok(Self { pieces, added })
    }

    /// The id of a token that stands for no text, by its spelling.
    #[must_use]
    pub fn id(&self, spelling: &str) -> Option<u32> {
        self.added.get(spelling).copied()
    }

    /// All tokens that stand for no text: their spelling and id.
    pub fn added(&self) -> impl Iterator<Item = (&str, u32)> {
        self.added.iter().map(|(spelling, id)| (spelling.as_str(), *id))
    }

    /// The bytes that tokens stand for: text in UTF-8, perhaps with a character cut at either end.
    /// Special tokens and times stand for nothing.
    #[must_use]
    pub fn bytes(&self, tokens: &[i64]) -> Vec<u8> {
        let piece = |id: &i64| usize::try_from(*id).ok().and_then(|id| self.pieces.get(id));
        tokens.iter().filter_map(piece).flatten().copied().collect()
    }

    /// The text of some tokens; bytes that are no characters become the replacement sign.
    #[must_use]
    pub fn text(&self, tokens: &[i64]) -> String {
        String::from_utf8_lossy(&self.bytes(tokens)).into_owned()
    }
}

/// The sign that stands for each byte: itself where it can be printed, else one from 256 on in order.
fn byte_signs() -> BTreeMap<char, u8> {
    let mut next = 256;
    (0..=255_u8)
        .map(|byte| {
            let sign = match byte {
                b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
                _ => {
                    next += 1;
                    char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
                }
            };
            (sign, byte)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        let json = br#"{"added_tokens": [{"id": 5, "content": "<|en|>", "special": true}],
            "model": {"vocab": {"Hi": 0, "\u0120there": 1, "\u00c3": 2, "\u00a9": 3, "\u010a": 4}}}"#;
        Vocabulary::new(json).unwrap()
    }

    #[test]
    fn signs_become_bytes() {
        let vocabulary = vocabulary();
        assert_eq!(vocabulary.text(&[0, 1, 4]), "Hi there\n");
        assert_eq!(vocabulary.text(&[2, 3]), "é", "a character of two tokens");
        assert_eq!(vocabulary.text(&[2]), "\u{fffd}");
        assert_eq!(vocabulary.text(&[0, 5, 99, -1]), "Hi", "special tokens say nothing");
        assert_eq!(vocabulary.id("<|en|>"), Some(5));
    }

    #[test]
    fn every_byte_has_one_sign() {
        assert_eq!(byte_signs().len(), 256);
    }

    #[test]
    fn another_kind_of_vocabulary_is_refused() {
        let json = r#"{"added_tokens": [], "model": {"vocab": {"▁the": 0}}}"#;
        let error = Vocabulary::new(json.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            error,
            "the vocabulary is not one of byte-level pieces: `▁the` is not made of bytes"
        );
    }
}
