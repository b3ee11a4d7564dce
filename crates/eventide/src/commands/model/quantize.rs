//! `eventide model quantize`: a bundle becomes a smaller one, which says how far it is from it.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use eventide_catalog::Stores;
use eventide_model::manifest::Precision;
use eventide_training::{Error, convert::convert};
use serde_json::json;

use super::{BundleArguments, inspect::describe, load_runtime, open, precisions, unusable};
use crate::{arguments::ToolArguments, commands::Stop, report};

/// Arguments of `model quantize`.
#[derive(Debug, Args)]
pub(crate) struct QuantizeArguments {
    /// The bundle, of full precision.
    #[command(flatten)]
    bundle: BundleArguments,
    /// How the weights are to lie: `fp16` halves them on the disk, `int8` quarters most of them and is
    /// faster on processors.
    #[arg(long, value_parser = precisions([Precision::Fp16, Precision::Int8]))]
    precision: Precision,
    /// The folder of the new bundle, which must not be there yet.
    #[arg(long, value_name = "BUNDLE")]
    out: PathBuf,
    /// The tools that do the work.
    #[command(flatten)]
    tools: ToolArguments,
}

pub(super) async fn run(arguments: &QuantizeArguments, stores: &Stores) -> Result<ExitCode, Stop> {
    let runtime = load_runtime(&arguments.tools)?;
    let bundle = open(&arguments.bundle, stores).await?;
    let manifest = convert(&bundle, arguments.precision, &arguments.out, &runtime)
        .map_err(|error| stop(&error))?;
    let mut described = describe(&manifest);
    described.rows.insert(0, ("bundle", arguments.out.display().to_string()));
    described.document["bundle"] = json!(arguments.out);
    report::described(&described.rows, &described.document, arguments.bundle.format)
        .map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}

fn stop(error: &Error) -> Stop {
    match error {
        Error::Precision { .. } => Stop::bad_job(miette::miette!(
            help = "give the bundle of full precision that it was made of",
            "{}",
            crate::commands::chain(error)
        )),
        Error::Exists { .. } => Stop::bad_job(miette::miette!(
            help = "a bundle is never written over: name another folder, or remove this one",
            "{}",
            crate::commands::chain(error)
        )),
        Error::Run { .. } | Error::Write { .. } => super::failed(error),
        _ => unusable(error),
    }
}
