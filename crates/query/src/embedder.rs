//! Who makes vectors of captions. It comes from outside: nothing here runs a network.

use std::{fmt, sync::Arc};

use crate::{Error, Result, error::CauseFrom};

/// Makes vectors of texts, one after the other as long as each other: as many numbers as there are dimensions for each
/// text, in their order.
pub type Embed = Arc<
    dyn Fn(&[&str]) -> std::result::Result<Vec<f32>, Box<dyn std::error::Error + Send + Sync>>
        + Send
        + Sync,
>;

/// Who makes vectors of captions.
#[derive(Clone)]
pub struct Embedder {
    /// What tells this model from others, such as the digest of its bundle.
    pub model: String,
    /// How many numbers a vector has.
    pub dimensions: usize,
    /// Does it. It is called where threads may be kept busy.
    pub embed: Embed,
}

impl Embedder {
    /// The vectors of texts, `dimensions` numbers each, in their order. This computes.
    ///
    /// # Errors
    /// [`Error::Embed`], also where there are more or fewer numbers than there should be.
    pub(crate) fn vectors(&self, texts: &[&str]) -> Result<Vec<f32>> {
        let found = (self.embed)(texts).map_err(|error| Error::Embed { source: error.cause() })?;
        if found.len() == texts.len() * self.dimensions {
            return Ok(found);
        }
        let source = "there are more or fewer numbers than there should be".cause();
        Err(Error::Embed { source })
    }
}

impl fmt::Debug for Embedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, dimensions, .. } = self;
        f.debug_struct("Embedder")
            .field("model", model)
            .field("dimensions", dimensions)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Embedder {
    fn eq(&self, other: &Self) -> bool {
        self.model == other.model && self.dimensions == other.dimensions
    }
}

impl Eq for Embedder {}
