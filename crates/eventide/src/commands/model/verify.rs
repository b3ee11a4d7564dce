//! `eventide model verify`: is a bundle whole, and does it say here what it said where it was made?

use std::{process::ExitCode, time::Instant};

use clap::Args;
use eventide_catalog::Stores;
use eventide_model::{
    Bundle, Error, Vid2Seq,
    golden::{Clip, Expected, said},
    runtime::SessionOptions,
    sentence,
    speech::{self, Recogniser, RecognitionOptions, SpeechBundle},
};
use eventide_training::golden::painted;
use serde_json::json;

use super::{
    BundleArguments, DeviceArguments, Kind, failed, fetch, load, load_runtime, open,
    open_text_encoder, unusable,
};
use crate::{
    commands::{Stop, absolute},
    report,
};

/// Arguments of `model verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// The bundle.
    #[command(flatten)]
    bundle: BundleArguments,
    /// What runs it.
    #[command(flatten)]
    device: DeviceArguments,
}

/// What came of the clip.
struct Tried {
    found: Expected,
    /// By how much its scores differ at most from what is expected; `None` where nothing is.
    off_by: Option<f64>,
    pictures: usize,
    seconds: f64,
}

pub(super) async fn run(arguments: &VerifyArguments, stores: &Stores) -> Result<ExitCode, Stop> {
    let place = stores.open(&absolute(&arguments.bundle.bundle)?);
    match Kind::of(&place.map_err(|error| unusable(&error))?).await {
        Kind::Captioner => {}
        Kind::Recogniser => return verify_recogniser(arguments, stores).await,
        Kind::TextEncoder => return verify_text_encoder(arguments, stores).await,
    }
    let bundle = open(&arguments.bundle, stores).await?;
    let mut model = load(&bundle, &arguments.device)?;
    let tried = try_out(&bundle, &mut model)?;
    let manifest = bundle.manifest();
    let (files, tokens) = (manifest.files.len(), tried.found.greedy.tokens.len());
    let golden = match tried.off_by {
        Some(off_by) => format!("all sequences as expected, scores within {off_by:.1e}"),
        None => {
            "none: the bundle was made by an earlier program; a clip was made up, and nothing is \
                 known of what it should give"
                .to_owned()
        }
    };
    let rows = [
        ("model", manifest.model_id.clone()),
        ("digest", bundle.digest().to_owned()),
        ("precision", manifest.precision.name().to_owned()),
        ("files", format!("all {files} are whole")),
        ("device", arguments.device.device.to_string()),
        ("golden clip", golden),
        (
            "ran",
            format!("{} pictures to {tokens} tokens in {:.2} s", tried.pictures, tried.seconds),
        ),
    ];
    let document = json!({
        "model_id": manifest.model_id,
        "digest": bundle.digest(),
        "precision": manifest.precision.name(),
        "files": files,
        "device": arguments.device.device.to_string(),
        "golden": tried.off_by.is_some(),
        "score_difference": tried.off_by,
        "said": tried.found,
        "seconds": tried.seconds,
    });
    report::described(&rows, &document, arguments.bundle.format).map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}

async fn verify_recogniser(arguments: &VerifyArguments, stores: &Stores) -> Result<ExitCode, Stop> {
    let folder = fetch(&arguments.bundle.bundle, stores, speech::manifest::files::MANIFEST).await?;
    let bundle = SpeechBundle::open(&folder).map_err(|error| unusable(&error))?;
    let runtime = load_runtime(&arguments.device.tools)?;
    let DeviceArguments { device, threads, .. } = arguments.device;
    let session = SessionOptions { device, threads };
    let mut recogniser =
        Recogniser::load(&bundle, &runtime, &session, RecognitionOptions::default())
            .map_err(|error| unusable(&error))?;
    let start = Instant::now();
    let off_by = speech::golden::verify(&bundle, &mut recogniser).map_err(|error| stop(&error))?;
    let seconds = start.elapsed().as_secs_f64();
    let golden = match off_by {
        Some(off_by) => {
            format!("the text as expected, its confidence within {off_by:.1e}, in {seconds:.2} s")
        }
        None => "none: the bundle was made by an earlier program, and nothing was heard".to_owned(),
    };
    let (manifest, files) = (bundle.manifest(), bundle.manifest().files.len());
    let rows = [
        ("model", manifest.model_id.clone()),
        ("digest", bundle.digest().to_owned()),
        ("precision", manifest.precision.name().to_owned()),
        ("files", format!("all {files} are whole")),
        ("device", device.to_string()),
        ("golden sound", golden),
    ];
    let document = json!({
        "model_id": manifest.model_id,
        "digest": bundle.digest(),
        "precision": manifest.precision.name(),
        "files": files,
        "device": device.to_string(),
        "golden": off_by.is_some(),
        "confidence_difference": off_by,
        "seconds": seconds,
    });
    report::described(&rows, &document, arguments.bundle.format).map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}

async fn verify_text_encoder(
    arguments: &VerifyArguments,
    stores: &Stores,
) -> Result<ExitCode, Stop> {
    let uri = &arguments.bundle.bundle;
    let (bundle, mut encoder) = open_text_encoder(uri, stores, &arguments.device).await?;
    let off_by = sentence::golden::verify(&bundle, &mut encoder).map_err(|error| stop(&error))?;
    let golden = match off_by {
        Some(off_by) => format!("all vectors as expected, their numbers within {off_by:.1e}"),
        None => "none".to_owned(),
    };
    let (manifest, files) = (bundle.manifest(), bundle.manifest().files.len());
    let device = arguments.device.device.to_string();
    let rows = [
        ("model", manifest.model_id.clone()),
        ("digest", bundle.digest().to_owned()),
        ("precision", manifest.precision.name().to_owned()),
        ("files", format!("all {files} are whole")),
        ("device", device.clone()),
        ("golden sentences", golden),
    ];
    let document = json!({
        "model_id": manifest.model_id,
        "digest": bundle.digest(),
        "precision": manifest.precision.name(),
        "files": files,
        "device": device,
        "golden": off_by.is_some(),
        "number_difference": off_by,
    });
    report::described(&rows, &document, arguments.bundle.format).map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}

/// Shows the model the golden clip, or one that is made up where there is none.
fn try_out(bundle: &Bundle, model: &mut Vid2Seq) -> Result<Tried, Stop> {
    let expected = Expected::of(bundle).map_err(|error| stop(&error))?;
    let clip = match Clip::of(bundle).map_err(|error| stop(&error))? {
        Some(clip) => clip,
        None => painted(bundle.manifest(), model.tokenizer(), 0).map_err(|error| failed(&error))?,
    };
    let start = Instant::now();
    let found = said(model, &clip).map_err(|error| stop(&error))?;
    let seconds = start.elapsed().as_secs_f64();
    let compared = expected.map(|expected| expected.compare(&found, bundle.manifest().precision));
    Ok(Tried {
        off_by: compared.transpose().map_err(|error| stop(&error))?,
        found,
        pictures: clip.count,
        seconds,
    })
}

fn stop(error: &Error) -> Stop {
    match error {
        Error::Golden { .. } => Stop::failed(miette::miette!(
            help = "its files are whole, so look at what runs them: ONNX Runtime's version, the device",
            "{}",
            crate::commands::chain(error)
        )),
        _ => failed(error),
    }
}
