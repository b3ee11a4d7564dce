//! `eventide model inspect`: what a bundle says about itself.

use std::{path::Path, process::ExitCode};

use bytesize::ByteSize;
use eventide_catalog::{Location, Stores};
use eventide_model::{
    Bundle,
    manifest::{FeedForward, Manifest, files},
};
use eventide_training::tensors::{TensorSpec, t5_tensors, temporal_tensors, vision_tensors};
use object_store::ObjectStoreExt;
use serde_json::{Value, json};

use super::{BundleArguments, unusable};
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
    let path = bundle.child(files::MANIFEST);
    let bytes = async { bundle.store.get(&path).await?.bytes().await };
    let bytes = bytes.await.map_err(|error| unreadable(&bundle.uri_of(&path), &error))?;
    let manifest = Bundle::read_manifest(Path::new(path.as_ref()), &bytes)
        .map_err(|error| unusable(&error))?;
    let Described { mut rows, mut document } = describe(&manifest);
    rows.insert(0, ("bundle", bundle.uri.clone()));
    document["bundle"] = json!(bundle.uri);
    let sizes = file_sizes(&bundle, &manifest).await?;
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
    manifest: &Manifest,
) -> Result<Vec<(String, Option<u64>)>, Stop> {
    let mut sizes = Vec::new();
    for name in manifest.files.keys() {
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
    let parameters = [
        count(&vision_tensors(vision)),
        count(&temporal_tensors(temporal, t5.d_model)),
        count(&t5_tensors(t5)),
    ];
    let digest = Bundle::digest_of(manifest);
    let form = match t5.feed_forward {
        FeedForward::Relu => "ReLU",
        FeedForward::GatedGelu => "gated GELU",
    };
    let mut rows = vec![
        ("model", manifest.model_id.clone()),
        ("digest", digest.clone()),
        ("trained", if manifest.trained { "yes" } else { "no: random weights" }.to_owned()),
        ("licence", manifest.licence.clone()),
        ("provenance", manifest.provenance.clone()),
        (
            "vision",
            format!(
                "{0} x {0} pixels, patches of {1}, {2} layers of {3}, {4} heads, features of {5}: {6} parameters",
                vision.image_size,
                vision.patch,
                vision.layers,
                vision.width,
                vision.heads,
                vision.output_dim,
                parameters[0]
            ),
        ),
        (
            "temporal",
            format!(
                "{} frames, {} layers of {}, {} heads{}: {} parameters",
                temporal.positions,
                temporal.depth,
                temporal.dim,
                temporal.heads,
                if temporal.projection { ", projected" } else { "" },
                parameters[1]
            ),
        ),
        (
            "text",
            format!(
                "{} + {} layers of {}, {} heads, {form}, vocabulary of {}, {} time tokens: {} parameters",
                t5.encoder_layers,
                t5.decoder_layers,
                t5.d_model,
                t5.heads,
                t5.vocab_size,
                manifest.time_tokens.bins,
                parameters[2]
            ),
        ),
        (
            "decoding",
            format!(
                "{} beams, length penalty {}, at most {} tokens",
                manifest.decoding.beams,
                manifest.decoding.length_penalty,
                manifest.decoding.max_output_tokens
            ),
        ),
    ];
    rows.extend(
        manifest.metrics.iter().map(|(name, value)| ("metric", format!("{name}: {value}"))),
    );
    let document = json!({
        "digest": digest,
        "parameters": {
            "vision": parameters[0],
            "temporal": parameters[1],
            "text": parameters[2],
            "all": parameters.iter().sum::<usize>(),
        },
        "manifest": manifest,
    });
    Described { rows, document }
}

/// How many values these tensors hold.
fn count(tensors: &[TensorSpec]) -> usize {
    tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum()
}
