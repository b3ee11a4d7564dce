//! How a video is captioned, and what a worker process has to do it with.

use std::{path::PathBuf, sync::Arc};

use eventide_catalog::Stores;
use eventide_media::{Limits, Media, Tools};
use eventide_pipeline::{
    Captioner, CaptioningOptions, LimitOptions, Pipeline, Scratch, TranscriptOption,
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, OwnFolder,
    model::{Model, ModelOptions},
    sources::StoreSources,
    speech::SpeechOptions,
};

/// What a worker process has.
#[derive(Debug, Clone)]
pub struct Worker {
    /// The media tools.
    pub tools: Tools,
    /// Folder for copies of remote videos. It goes with the last worker that has it.
    pub scratch: Arc<OwnFolder>,
    /// Folder for model bundles; it exists.
    pub cache: PathBuf,
    /// The ONNX Runtime library.
    pub onnxruntime: PathBuf,
    /// Videos in flight.
    pub videos_in_flight: usize,
    /// Host and process, for the `videos` table.
    pub name: String,
}

/// How a video is captioned, whatever becomes of its captions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct How {
    /// Where words may come from.
    pub transcripts: Vec<TranscriptOption>,
    /// What is captioned and how.
    pub captioning: CaptioningOptions,
    /// What one video may cost.
    pub limits: LimitOptions,
    /// The model; `None` where events come from speech.
    pub model: Option<ModelOptions>,
    /// The recogniser; `None` where `transcripts` does not name it.
    pub speech: Option<SpeechOptions>,
}

impl How {
    /// Whether there is something that runs on ONNX Runtime.
    #[must_use]
    pub fn needs_runtime(&self) -> bool {
        self.model.is_some() || self.speech.is_some()
    }

    /// What takes one video to its outcome, the models loaded.
    ///
    /// # Errors
    /// When the bundle cannot be brought here or be used.
    pub async fn pipeline(self, stores: &Arc<Stores>, worker: &Worker) -> Result<Pipeline, Error> {
        let captioner = match &self.model {
            Some(model) => {
                let model = Model::load(model, stores, worker).await?;
                let decoding = model.decoding(&self.captioning);
                let start = Captioner::start(model.bundle, model.runtime, model.session, decoding);
                Some(start.await.map_err(Error::Captioner)?)
            }
            None => None,
        };
        let speech = match &self.speech {
            Some(speech) => Some(speech.load(stores, worker, &self.limits).await?),
            None => None,
        };
        Ok(Pipeline {
            speech,
            media: Media::new(worker.tools.clone(), child_limits(&self.limits)),
            captioner,
            sources: Arc::new(StoreSources(Arc::clone(stores))),
            scratch: Scratch::new(worker.scratch.path().to_owned(), self.limits.scratch),
            captioning: self.captioning,
            transcripts: self.transcripts,
            limits: self.limits,
            watcher: None,
        })
    }
}

/// The limits of one media child.
fn child_limits(limits: &LimitOptions) -> Limits {
    Limits {
        wall: limits.wall,
        cpu: limits.cpu,
        memory: limits.memory.as_u64(),
        ..Limits::default()
    }
}
