//! Texts to vectors: word pieces, the network, its mean, to length 1.

use ndarray::{Array1, Array2, Ix2, s};
use tokenizers::{Encoding, Tokenizer, TruncationParams};

use crate::{
    bundle::read,
    error::{Error, Result},
    runtime::{Runtime, Session, SessionOptions, Tensor},
    sentence::{SentenceBundle, manifest::files},
};

/// Sentences that go through the network together. They are as long as the longest of them.
const TOGETHER: usize = 32;

/// An opened sentence bundle.
#[derive(Debug)]
pub struct SentenceEncoder {
    session: Session,
    tokenizer: Tokenizer,
    width: usize,
}

impl SentenceEncoder {
    /// Opens the graph and the tokenizer of a bundle.
    ///
    /// # Errors
    /// [`Error::Runtime`] where the graph cannot be opened, or the device not be had; [`Error::Read`] and
    /// [`Error::WordPieces`] for the tokenizer.
    pub fn load(
        bundle: &SentenceBundle,
        runtime: &Runtime,
        options: &SessionOptions,
    ) -> Result<Self> {
        let session = runtime.open_frugal(&bundle.path(files::ENCODER), options)?;
        let json = read(&bundle.path(files::TOKENIZER))?;
        let manifest = bundle.manifest();
        let tokenizer = tokenizer(&json, manifest.most_tokens as usize)?;
        Ok(Self { session, tokenizer, width: manifest.bert.width as usize })
    }

    /// How many numbers a vector has.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// The vectors of texts, a row each, in their order and of length 1. What of a text is too long is not looked at.
    ///
    /// # Errors
    /// [`Error::Runtime`], [`Error::Shape`], [`Error::WordPieces`].
    pub fn encode(&mut self, texts: &[&str]) -> Result<Array2<f32>> {
        let mut vectors = Array2::zeros((texts.len(), self.width));
        for (place, texts) in texts.chunks(TOGETHER).enumerate() {
            let encoded = self.tokenizer.encode_batch(texts.to_vec(), true);
            let encoded = encoded.map_err(|error| wrong(&error))?;
            let found = self.run(&encoded)?;
            let start = place * TOGETHER;
            vectors.slice_mut(s![start..start + texts.len(), ..]).assign(&found);
        }
        Ok(vectors)
    }

    fn run(&mut self, encoded: &[Encoding]) -> Result<Array2<f32>> {
        let longest = encoded.iter().map(Encoding::len).max().unwrap_or(0);
        let mut tokens = Array2::<i64>::zeros((encoded.len(), longest));
        let mut mask = Array2::<i64>::zeros((encoded.len(), longest));
        for (row, encoding) in encoded.iter().enumerate() {
            for (column, id) in encoding.get_ids().iter().enumerate() {
                tokens[[row, column]] = i64::from(*id);
                mask[[row, column]] = 1;
            }
        }
        let positions: Array1<i64> = (0..).take(longest).collect();
        let inputs = [
            ("tokens", Tensor::from_array(tokens)?),
            ("mask", Tensor::from_array(mask)?),
            ("positions", Tensor::from_array(positions)?),
        ];
        let inputs: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, tensor)).collect();
        let vectors = self.session.run(&inputs)?.take("sentences")?;
        let vectors = vectors.view::<f32>()?.into_dimensionality::<Ix2>();
        let expected = [encoded.len(), self.width];
        match vectors {
            Ok(vectors) if vectors.shape() == expected => Ok(vectors.to_owned()),
            _ => Err(wrong(&"the network gives vectors of another shape")),
        }
    }
}

/// A tokenizer that cuts off what is too long, and adds nothing to what is short.
fn tokenizer(json: &[u8], most_tokens: usize) -> Result<Tokenizer> {
    let mut tokenizer = Tokenizer::from_bytes(json).map_err(|error| wrong(&error))?;
    let truncation = TruncationParams { max_length: most_tokens, ..TruncationParams::default() };
    tokenizer.with_padding(None);
    tokenizer.with_truncation(Some(truncation)).map_err(|error| wrong(&error))?;
    Ok(tokenizer)
}

fn wrong(problem: &dyn std::fmt::Display) -> Error {
    Error::WordPieces { problem: problem.to_string() }
}
