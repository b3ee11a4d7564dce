//! Videos by their URI, out of the stores of the catalog.

use eventide_catalog::Stores;
use eventide_pipeline::{Located, Sources};
use url::Url;

/// The stores of the catalog, as the pipeline wants them.
#[derive(Debug, Clone)]
pub(crate) struct StoreSources(pub(crate) Stores);

impl Sources for StoreSources {
    fn locate(&self, uri: &str) -> Result<Located, String> {
        let location = self.0.open(uri).map_err(|error| error.to_string())?;
        let local = Url::parse(uri)
            .ok()
            .filter(|url| url.scheme() == "file")
            .and_then(|url| url.to_file_path().ok());
        Ok(Located { store: location.store, path: location.prefix, local })
    }
}
