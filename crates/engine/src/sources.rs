//! Videos by their URI, out of the stores of the catalog.

use std::sync::Arc;

use eventide_catalog::Stores;
use eventide_pipeline::{Located, Sources};

/// The stores of the catalog, as the pipeline wants them.
#[derive(Debug, Clone)]
pub struct StoreSources(pub Arc<Stores>);

impl Sources for StoreSources {
    fn locate(&self, uri: &str) -> Result<Located, String> {
        let location = self.0.open(uri).map_err(|error| error.to_string())?;
        let local = location.local_path(&location.prefix);
        Ok(Located { store: location.store, path: location.prefix, local })
    }
}
