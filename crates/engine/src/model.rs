//! The model of a job: its bundle brought here, checked and opened.

use std::path::PathBuf;

use eventide_catalog::{Stores, fetch_bundle};
use eventide_model::{
    Bundle,
    manifest::{Decoding, files},
    runtime::{Device, Runtime, SessionOptions},
};
use eventide_pipeline::CaptioningOptions;
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};

use crate::{Error, Worker};

/// The section `[model]` of a job, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelOptions {
    /// Where the bundle is.
    pub bundle: String,
    /// Where it runs.
    pub device: Device,
    /// Threads of one operator; 0 is one a core.
    pub threads: usize,
    /// Whether random weights will do.
    pub allow_untrained: bool,
}

impl ModelOptions {
    /// Name and digest of the bundle, from its manifest alone.
    ///
    /// # Errors
    /// When the manifest cannot be read, or says that the weights are random and that will not do.
    pub async fn identity(&self, stores: &Stores) -> Result<(String, String), Error> {
        let (path, bytes) = manifest(stores, &self.bundle, files::MANIFEST).await?;
        let manifest =
            Bundle::read_manifest(&path, &bytes).map_err(|source| self.unusable(source))?;
        if !manifest.trained && !self.allow_untrained {
            return Err(Error::Untrained { uri: self.bundle.clone() });
        }
        let digest = Bundle::digest_of(&manifest);
        Ok((manifest.model_id, digest))
    }

    fn unusable(&self, source: eventide_model::Error) -> Error {
        Error::Bundle { uri: self.bundle.clone(), source }
    }
}

/// The manifest of the bundle at `uri`, which is called `name`: its path, and what is in it.
///
/// # Errors
/// [`Error::Manifest`] where it cannot be read; when there is no such store.
pub(crate) async fn manifest(
    stores: &Stores,
    uri: &str,
    name: &str,
) -> Result<(PathBuf, Vec<u8>), Error> {
    let bundle = stores.open(uri)?;
    let path = bundle.child(name);
    let unreadable = |source| Error::Manifest { uri: bundle.uri_of(&path), source };
    let read = bundle.store.get(&path).await.map_err(unreadable)?;
    let bytes = read.bytes().await.map_err(unreadable)?;
    Ok((PathBuf::from(path.as_ref()), bytes.into()))
}

/// A bundle on this machine and what runs it.
pub(crate) struct Model {
    pub(crate) bundle: Bundle,
    pub(crate) runtime: Runtime,
    pub(crate) session: SessionOptions,
}

impl Model {
    /// Brings the bundle here, checks every file of it, and loads ONNX Runtime.
    pub(crate) async fn load(
        options: &ModelOptions,
        stores: &Stores,
        worker: &Worker,
    ) -> Result<Self, Error> {
        let folder = fetch_bundle(stores, &options.bundle, files::MANIFEST, &worker.cache).await?;
        let bundle = tokio::task::spawn_blocking(move || Bundle::open(&folder))
            .await
            .expect("opening a bundle does not panic")
            .map_err(|source| options.unusable(source))?;
        let runtime =
            Runtime::load(&worker.onnxruntime).map_err(|source| options.unusable(source.into()))?;
        let session = SessionOptions { device: options.device, threads: options.threads };
        Ok(Self { bundle, runtime, session })
    }

    /// The bundle's decoding, with what the job sets otherwise.
    pub(crate) fn decoding(&self, captioning: &CaptioningOptions) -> Decoding {
        let mut decoding = self.bundle.manifest().decoding.clone();
        if let Some(beams) = captioning.beams {
            decoding.beams = beams.get();
        }
        if let Some(length_penalty) = captioning.length_penalty {
            decoding.length_penalty = length_penalty;
        }
        if let Some(tokens) = captioning.max_output_tokens {
            decoding.max_output_tokens = tokens.get();
        }
        decoding
    }
}
