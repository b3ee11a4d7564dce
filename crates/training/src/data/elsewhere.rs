//! Videos that are not on this machine.

use std::path::Path;

use eventide_pipeline::Fetched;

use super::error::Result;

/// Knows videos in object stores, by what their examples have for a file: their address.
pub trait Elsewhere: Sync {
    /// The state of a video; `None` if it is none of these.
    fn version(&self, file: &Path) -> Option<String>;

    /// Brings a video here for as long as the answer is kept. Blocks.
    ///
    /// # Errors
    /// [`Error::Unfetched`](super::Error::Unfetched) if it cannot be had, [`Error::Fetch`](super::Error::Fetch) if
    /// something else fails.
    fn fetch(&self, file: &Path) -> Result<Fetched>;
}
