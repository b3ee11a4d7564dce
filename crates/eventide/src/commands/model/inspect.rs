//! `eventide model inspect`: what a bundle says about itself.

use std::{path::Path, process::ExitCode};

use bytesize::ByteSize;
use eventide_catalog::{Location, Stores};
use eventide_model::{
    Bundle,
    manifest::{Decoding, FeedForward, Manifest, T5, Temporal, Vision},
    sentence::{Bert, SentenceBundle, SentenceManifest},
    speech::{SpeechBundle, SpeechManifest, Whisper},
};
use eventide_training::{
    sentence::bert_tensors,
    tensors::{TensorSpec, t5_tensors, temporal_tensors, vision_tensors},
    whisper::whisper_tensors,
};
use object_store::ObjectStoreExt;
use serde_json::{Value, json};

use super::{BundleArguments, Kind, unusable};
use crate::{
    commands::{Stop, absolute},
    report,
};

/// A bundle in words: lines for a person, and one object for a program.
pub(super) struct Described {
    pub(super) rows: Vec<(&'static str, String)>,
    pub(super) document: Value,
}

pub(super) async fn run(arguments: &BundleArguments, stores: &Stores) -> Result<ExitCode, Stop> {
    let uri = absolute(&arguments.bundle)?;
    let bundle = stores.open(&uri).map_err(|error| unusable(&error))?;
    let kind = Kind::of(&bundle).await;
    let path = bundle.child(kind.manifest());
    let bytes = async { bundle.store.get(&path).await?.bytes().await };
    let bytes = bytes.await.map_err(|error| unreadable(&bundle.uri_of(&path), &error))?;
    let place = Path::new(path.as_ref());
    let (described, listed) = match kind {
        Kind::Captioner => {
            let manifest =
                Bundle::read_manifest(place, &bytes).map_err(|error| unusable(&error))?;
            (describe(&manifest), manifest.files)
        }
        Kind::Recogniser => {
            let manifest =
                SpeechBundle::read_manifest(place, &bytes).map_err(|error| unusable(&error))?;
            (describe_speech(&manifest), manifest.files)
        }
        Kind::TextEncoder => {
            let manifest =
                SentenceBundle::read_manifest(place, &bytes).map_err(|error| unusable(&error))?;
            (describe_sentence(&manifest), manifest.files)
        }
    };
    let Described { mut rows, mut document } = described;
    rows.insert(0, ("bundle", bundle.uri.clone()));
    document["bundle"] = json!(bundle.uri);
    let sizes = file_sizes(&bundle, listed.keys()).await?;
    for (name, size) in &sizes {
        let size = size.map_or_else(|| "missing".to_owned(), |size| ByteSize(size).to_string());
        rows.push(("file", format!("{name}: {size}")));
    }
    document["file_sizes"] = sizes.into_iter().collect();
    report::described(&rows, &document, arguments.format).map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}

/// The size of each listed file; `None` for one that is not there.
async fn file_sizes(
    bundle: &Location,
    names: impl Iterator<Item = &String>,
) -> Result<Vec<(String, Option<u64>)>, Stop> {
    let mut sizes = Vec::new();
    for name in names {
        let path = bundle.child(name);
        let size = match bundle.store.head(&path).await {
            Ok(object) => Some(object.size),
            Err(object_store::Error::NotFound { .. }) => None,
            Err(error) => return Err(unreadable(&bundle.uri_of(&path), &error)),
        };
        sizes.push((name.clone(), size));
    }
    Ok(sizes)
}

fn unreadable(uri: &str, error: &object_store::Error) -> Stop {
    Stop::bad_job(miette::miette!("cannot read `{uri}`\n  because: {error}"))
}

/// All that a manifest says, and what follows from it.
pub(super) fn describe(manifest: &Manifest) -> Described {
    let Manifest { vision, temporal, t5, .. } = manifest;
    let parameters = Parameters {
        vision: count(&vision_tensors(vision)),
        temporal: count(&temporal_tensors(temporal, t5.d_model)),
        text: count(&t5_tensors(t5)),
    };
    let digest = Bundle::digest_of(manifest);
    let mut rows = vec![
        ("model", manifest.model_id.clone()),
        ("digest", digest.clone()),
        ("trained", if manifest.trained { "yes" } else { "no: random weights" }.to_owned()),
        ("precision", manifest.precision.name().to_owned()),
        ("licence", manifest.licence.clone()),
        ("provenance", manifest.provenance.clone()),
        ("vision", vision_text(vision, parameters.vision)),
        ("temporal", temporal_text(temporal, parameters.temporal)),
        ("text", text_text(manifest, parameters.text)),
        ("decoding", decoding_text(&manifest.decoding)),
    ];
    rows.extend(
        manifest.metrics.iter().map(|(name, value)| ("metric", format!("{name}: {value}"))),
    );
    let document = json!({
        "digest": digest,
        "parameters": {
            "vision": parameters.vision,
            "temporal": parameters.temporal,
            "text": parameters.text,
            "all": parameters.vision + parameters.temporal + parameters.text,
        },
        "manifest": manifest,
    });
    Described { rows, document }
}

/// The same of a recogniser.
pub(super) fn describe_speech(manifest: &SpeechManifest) -> Described {
    let SpeechManifest { whisper, tokens, .. } = manifest;
    let digest = SpeechBundle::digest_of(manifest);
    let parameters = count(&whisper_tensors(whisper));
    let Whisper { mel_bands, width, encoder_layers, decoder_layers, vocab_size, .. } = whisper;
    let languages = match tokens.languages.len() {
        0 => "en".to_owned(),
        _ => tokens.languages.keys().map(String::as_str).collect::<Vec<_>>().join(" "),
    };
    let rows = vec![
        ("model", manifest.model_id.clone()),
        ("digest", digest.clone()),
        ("precision", manifest.precision.name().to_owned()),
        ("licence", manifest.licence.clone()),
        ("provenance", manifest.provenance.clone()),
        (
            "whisper",
            format!(
                "{mel_bands} mel bands, {encoder_layers} + {decoder_layers} layers of {width}, vocabulary of \
                 {vocab_size}: {parameters} parameters"
            ),
        ),
        ("languages", languages),
    ];
    let document =
        json!({ "digest": digest, "parameters": { "all": parameters }, "manifest": manifest });
    Described { rows, document }
}

/// The same of a text encoder.
pub(super) fn describe_sentence(manifest: &SentenceManifest) -> Described {
    let Bert { width, layers, heads, vocab_size, .. } = manifest.bert;
    let digest = SentenceBundle::digest_of(manifest);
    let parameters = count(&bert_tensors(&manifest.bert));
    let rows = vec![
        ("model", manifest.model_id.clone()),
        ("digest", digest.clone()),
        ("precision", manifest.precision.name().to_owned()),
        ("licence", manifest.licence.clone()),
        ("provenance", manifest.provenance.clone()),
        (
            "text encoder",
            format!(
                "{layers} layers of {width}, {heads} heads, vocabulary of {vocab_size}, at most {} tokens: {parameters} \
                 parameters",
                manifest.most_tokens
            ),
        ),
    ];
    let document =
        json!({ "digest": digest, "parameters": { "all": parameters }, "manifest": manifest });
    Described { rows, document }
}

/// How many values the parts of a model hold.
struct Parameters {
    vision: usize,
    temporal: usize,
    text: usize,
}

fn vision_text(vision: &Vision, parameters: usize) -> String {
    let Vision { image_size, patch, layers, width, heads, output_dim, .. } = vision;
    format!(
        "{image_size} x {image_size} pixels, patches of {patch}, {layers} layers of {width}, {heads} heads, \
         features of {output_dim}: {parameters} parameters"
    )
}

fn temporal_text(temporal: &Temporal, parameters: usize) -> String {
    let Temporal { positions, depth, dim, heads, .. } = temporal;
    let projected = if temporal.projection { ", projected" } else { "" };
    format!(
        "{positions} frames, {depth} layers of {dim}, {heads} heads{projected}: {parameters} parameters"
    )
}

fn text_text(manifest: &Manifest, parameters: usize) -> String {
    let T5 { encoder_layers, decoder_layers, d_model, heads, vocab_size, .. } = manifest.t5;
    let form = match manifest.t5.feed_forward {
        FeedForward::Relu => "ReLU",
        FeedForward::GatedGelu => "gated GELU",
    };
    let bins = manifest.time_tokens.bins;
    format!(
        "{encoder_layers} + {decoder_layers} layers of {d_model}, {heads} heads, {form}, vocabulary of \
         {vocab_size}, {bins} time tokens: {parameters} parameters"
    )
}

fn decoding_text(decoding: &Decoding) -> String {
    let Decoding { beams, length_penalty, max_output_tokens, .. } = decoding;
    format!("{beams} beams, length penalty {length_penalty}, at most {max_output_tokens} tokens")
}

/// How many values these tensors hold.
fn count(tensors: &[TensorSpec]) -> usize {
    tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum()
}
