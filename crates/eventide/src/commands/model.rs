//! `eventide model`: bundles are made, looked at, checked and tried.

mod import;
mod inspect;
mod run;
mod verify;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use eventide_catalog::{Stores, fetch_bundle};
use eventide_model::{
    Bundle, Vid2Seq,
    runtime::{Device, Runtime, SessionOptions},
};
use miette::{IntoDiagnostic, WrapErr};

use super::{Stop, absolute};
use crate::{
    arguments::{Format, ToolArguments},
    environment,
    job::DeviceOption,
};

/// What is done with a model.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Make a bundle of a released checkpoint, its CLIP model and its tokenizer.
    Import(import::ImportArguments),
    /// Print what a bundle says about itself. Reads its manifest only.
    Inspect(BundleArguments),
    /// Check the digest of every file of a bundle, open it on a device and run it.
    Verify(verify::VerifyArguments),
    /// Run the bare network on tensors: features or frames, and token ids.
    Run(run::RunArguments),
}

/// A bundle, and how what is found is printed.
#[derive(Debug, Args)]
pub(crate) struct BundleArguments {
    /// The bundle: a folder, or an address such as `s3://bucket/models/base`.
    #[arg(value_name = "BUNDLE")]
    bundle: String,
    /// How the result is printed.
    #[arg(long, default_value = "text")]
    format: Format,
}

/// What runs a bundle.
#[derive(Debug, Args)]
pub(crate) struct DeviceArguments {
    /// Where it runs: `cpu`, or `cuda:N`.
    #[arg(long, default_value = "cpu", value_parser = device)]
    device: Device,
    /// Threads of one operator; 0 is one a core.
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    /// The tools that do the work.
    #[command(flatten)]
    tools: ToolArguments,
}

fn device(text: &str) -> Result<Device, String> {
    DeviceOption::try_from(text.to_owned()).map(Device::from)
}

/// Makes a bundle, which needs neither a store nor a runtime.
pub(super) fn import(arguments: &import::ImportArguments) -> Result<ExitCode, Stop> {
    import::run(arguments)
}

pub(super) async fn run(command: &ModelCommand, stores: &Stores) -> Result<ExitCode, Stop> {
    match command {
        ModelCommand::Import(arguments) => import::run(arguments),
        ModelCommand::Inspect(arguments) => inspect::run(arguments, stores).await,
        ModelCommand::Verify(arguments) => verify::run(arguments, stores).await,
        ModelCommand::Run(arguments) => run::run(arguments, stores).await,
    }
}

/// The bundle at a place, brought to this machine; every file of it was checked.
async fn open(arguments: &BundleArguments, stores: &Stores) -> Result<Bundle, Stop> {
    let cache = environment::cache_folder();
    std::fs::create_dir_all(&cache)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot make the cache folder `{}`", cache.display()))
        .map_err(Stop::bad_job)?;
    let folder = fetch_bundle(stores, &absolute(&arguments.bundle)?, &cache)
        .await
        .map_err(|error| unusable(&error))?;
    Bundle::open(&folder).map_err(|error| unusable(&error))
}

/// The sessions of a bundle.
fn load(bundle: &Bundle, arguments: &DeviceArguments) -> Result<Vid2Seq, Stop> {
    let library: PathBuf = environment::onnxruntime(&arguments.tools).map_err(Stop::bad_job)?;
    let runtime = Runtime::load(&library).map_err(|error| unusable(&error))?;
    let options = SessionOptions { device: arguments.device, threads: arguments.threads };
    Vid2Seq::load(bundle, &runtime, &options).map_err(|error| unusable(&error))
}

/// Nothing was begun: a file, a bundle or an option is wrong.
fn unusable(error: &dyn std::error::Error) -> Stop {
    Stop::bad_job(miette::miette!("{}", super::chain(error)))
}

/// The model ran and failed.
fn failed(error: &dyn std::error::Error) -> Stop {
    Stop::failed(miette::miette!("{}", super::chain(error)))
}
