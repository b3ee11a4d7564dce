//! `eventide model embed`: the vectors of texts.

use std::process::ExitCode;

use clap::Args;
use eventide_catalog::Stores;
use serde_json::json;

use super::{DeviceArguments, failed, open_text_encoder};
use crate::{commands::Stop, report};

/// Arguments of `model embed`.
#[derive(Debug, Args)]
pub(crate) struct EmbedArguments {
    /// The bundle of a text encoder: a folder, or an address such as `s3://bucket/models/minilm`.
    #[arg(value_name = "BUNDLE")]
    bundle: String,
    /// The texts. Of each a line is printed: a JSON list of numbers, of length 1 as a vector.
    #[arg(value_name = "TEXT", required = true)]
    texts: Vec<String>,
    /// What runs it.
    #[command(flatten)]
    device: DeviceArguments,
}

pub(super) async fn run(arguments: &EmbedArguments, stores: &Stores) -> Result<ExitCode, Stop> {
    let (_, mut encoder) = open_text_encoder(&arguments.bundle, stores, &arguments.device).await?;
    let texts: Vec<&str> = arguments.texts.iter().map(String::as_str).collect();
    let vectors = encoder.encode(&texts).map_err(|error| failed(&error))?;
    let lines: Vec<_> =
        vectors.outer_iter().map(|vector| json!(vector.to_vec()).to_string()).collect();
    report::text(&lines.join("\n")).map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}
