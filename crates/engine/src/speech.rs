//! The recogniser of a job: its bundle named, brought here, checked and opened.

use eventide_catalog::{Stores, fetch_bundle};
use eventide_model::{
    runtime::{Device, Runtime, SessionOptions},
    speech::{SpeechBundle, manifest::files},
};
use eventide_pipeline::{LimitOptions, ListeningOptions, Recognition, Transcriber};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Worker, model::manifest};

/// Raised whenever the program itself would hear something else in the same sound.
const RULES_VERSION: u32 = 3;

/// Windows that a processor reads together. Its memory grows by some 90 MB with each of them, while its time a window
/// hardly shrinks.
const WINDOWS_ON_PROCESSOR: usize = 2;

/// The section `[speech]` of a job, resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpeechOptions {
    /// Where the speech bundle is.
    pub bundle: String,
    /// Where it runs.
    pub device: Device,
    /// Threads of one operator; 0 is one a core.
    pub threads: usize,
    /// What is asked of it.
    pub listening: ListeningOptions,
}

/// What a recogniser is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpeechIdentity {
    /// Name of the bundle.
    pub model_id: String,
    /// Digest of the bundle.
    pub model_digest: String,
    /// Stands for all that decides what is heard in a sound.
    pub speech_digest: String,
}

impl SpeechOptions {
    /// What it is called, from the manifest of the bundle alone.
    ///
    /// # Errors
    /// When the manifest cannot be read, or the model does not know the language that it is to hear.
    pub async fn identity(&self, stores: &Stores) -> Result<SpeechIdentity, Error> {
        let (path, bytes) = manifest(stores, &self.bundle, files::MANIFEST).await?;
        let manifest =
            SpeechBundle::read_manifest(&path, &bytes).map_err(|source| self.unusable(source))?;
        if let Some(language) = &self.listening.language {
            let languages = &manifest.tokens.languages;
            let knows = if languages.is_empty() {
                language == "en"
            } else {
                languages.contains_key(language)
            };
            if !knows {
                let (uri, language) = (self.bundle.clone(), language.clone());
                return Err(Error::Language { uri, language });
            }
        }
        let model_digest = SpeechBundle::digest_of(&manifest);
        let speech_digest = speech_digest(&model_digest, &self.listening);
        Ok(SpeechIdentity { model_id: manifest.model_id, model_digest, speech_digest })
    }

    /// Brings the bundle here, checks every file of it, and opens it.
    ///
    /// # Errors
    /// When the bundle cannot be brought here or be used.
    pub(crate) async fn load(
        &self,
        stores: &Stores,
        worker: &Worker,
        limits: &LimitOptions,
    ) -> Result<Recognition, Error> {
        let folder = fetch_bundle(stores, &self.bundle, files::MANIFEST, &worker.cache).await?;
        let bundle = tokio::task::spawn_blocking(move || SpeechBundle::open(&folder))
            .await
            .expect("opening a bundle does not panic")
            .map_err(|source| self.unusable(source))?;
        let digest = speech_digest(bundle.digest(), &self.listening);
        let runtime =
            Runtime::load(&worker.onnxruntime).map_err(|source| self.unusable(source.into()))?;
        let session = SessionOptions { device: self.device, threads: self.threads };
        let mut recognition = self.listening.recognition();
        if self.device == Device::Cpu {
            recognition.batch = WINDOWS_ON_PROCESSOR;
        }
        let start = Transcriber::start(bundle, runtime, session, recognition).await;
        Ok(Recognition {
            transcriber: start.map_err(Error::Captioner)?,
            options: self.listening.transcription(limits.wall),
            digest,
        })
    }

    fn unusable(&self, source: eventide_model::Error) -> Error {
        Error::Bundle { uri: self.bundle.clone(), source }
    }
}

/// 16 hexadecimal digits that stand for a bundle and what is asked of it.
fn speech_digest(model_digest: &str, listening: &ListeningOptions) -> String {
    let text = serde_json::json!([RULES_VERSION, model_digest, listening]).to_string();
    let mut digits = format!("{:x}", Sha256::digest(text.as_bytes()));
    digits.truncate(16);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{num::NonZeroU32, time::Duration};

    #[test]
    fn the_digest_changes_with_what_changes_words() {
        let plain = ListeningOptions::default();
        let others = [
            ListeningOptions { language: Some("de".to_owned()), ..plain.clone() },
            ListeningOptions { min_confidence: 0.7, ..plain.clone() },
            ListeningOptions { beams: NonZeroU32::MIN, ..plain.clone() },
            ListeningOptions { previous_text: true, ..plain.clone() },
            ListeningOptions { longest_sentence: Duration::from_secs(9), ..plain.clone() },
        ];
        let mut digests: Vec<_> =
            others.iter().map(|options| speech_digest("m", options)).collect();
        digests.extend([speech_digest("m", &plain), speech_digest("other", &plain)]);
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), 7);
        assert_eq!(speech_digest("m", &plain), speech_digest("m", &plain.clone()));
    }
}
