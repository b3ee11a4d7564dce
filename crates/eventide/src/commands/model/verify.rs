//! `eventide model verify`: is a bundle whole, and does it run here?

use std::{process::ExitCode, time::Instant};

use clap::Args;
use eventide_catalog::Stores;
use eventide_model::{
    Hypothesis, Vid2Seq, WindowInput,
    manifest::{Decoding, Manifest},
};
use serde_json::json;

use super::{BundleArguments, DeviceArguments, failed, load, open};
use crate::{commands::Stop, report};

/// Pictures of the window that is tried.
const FRAMES: usize = 2;
/// Tokens of its words.
const WORDS: u32 = 16;
/// Most tokens that are generated for it.
const MOST_TOKENS: u32 = 32;

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

pub(super) async fn run(arguments: &VerifyArguments, stores: &Stores) -> Result<ExitCode, Stop> {
    let bundle = open(&arguments.bundle, stores).await?;
    let mut model = load(&bundle, &arguments.device)?;
    let start = Instant::now();
    let found = try_out(&mut model).map_err(|error| failed(&error))?;
    let again = try_out(&mut model).map_err(|error| failed(&error))?;
    let seconds = start.elapsed().as_secs_f64() / 2.0;
    if found.tokens != again.tokens {
        let report = miette::miette!("the same window gave other tokens when it was run again");
        return Err(Stop::failed(report));
    }
    let (files, tokens) = (bundle.manifest().files.len(), found.tokens.len());
    let rows = [
        ("model", bundle.manifest().model_id.clone()),
        ("digest", bundle.digest().to_owned()),
        ("files", format!("all {files} are whole")),
        ("device", arguments.device.device.to_string()),
        (
            "ran",
            format!(
                "{FRAMES} frames and {WORDS} tokens to {tokens} tokens in {seconds:.2} s, twice alike"
            ),
        ),
    ];
    let document = json!({
        "model_id": bundle.manifest().model_id,
        "digest": bundle.digest(),
        "files": files,
        "device": arguments.device.device.to_string(),
        "tokens": found.tokens,
        "score": found.score,
        "seconds": seconds,
    });
    report::described(&rows, &document, arguments.bundle.format).map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}

/// One window of made-up pictures and words, always the same, through every part of the model.
fn try_out(model: &mut Vid2Seq) -> eventide_model::Result<Hypothesis> {
    let Manifest { vision, temporal, text, time_tokens, decoding, .. } = model.manifest().clone();
    let frames = FRAMES.min(temporal.positions as usize);
    let side = vision.image_size as usize;
    // Multiplied by a large odd number, the high bits of a count look random.
    let noise = (0..u32::MAX).map(|count| count.wrapping_mul(0x9e37_79b1).to_be_bytes()[0]);
    let pictures: Vec<u8> = noise.take(frames * side * side * 3).collect();
    let features = model.encode_frames(&pictures, frames, &|| false)?;
    let words = WORDS.min(text.max_input_tokens) - 1;
    let first_word = time_tokens.first_id.min(text.unk_id + 1);
    let input_ids = (0..words)
        .map(|word| first_word + word % (time_tokens.first_id - first_word).max(1))
        .chain([text.eos_id])
        .map(i64::from);
    let window = WindowInput { features: Some(features), input_ids: Some(input_ids.collect()) };
    let decoding =
        Decoding { max_output_tokens: decoding.max_output_tokens.min(MOST_TOKENS), ..decoding };
    let found = model.generate(std::slice::from_ref(&window), &decoding, &|| false)?;
    // A search gives each window at least one sequence.
    found.into_iter().flatten().next().ok_or(eventide_model::Error::EmptyWindow { window: 0 })
}
