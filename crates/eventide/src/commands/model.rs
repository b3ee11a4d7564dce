//! `eventide model`: bundles are made, looked at, checked and tried.

mod embed;
mod import;
mod inspect;
mod quantize;
mod run;
mod verify;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use clap::{
    Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use eventide_catalog::{Location, Stores, fetch_bundle};
use eventide_model::{
    Bundle, Vid2Seq,
    manifest::{Precision, files},
    runtime::{Device, Runtime, SessionOptions},
    sentence::{self, SentenceBundle, SentenceEncoder},
    speech,
};
use eventide_query::{Embed, Embedder, SearchOptions};
use miette::{IntoDiagnostic, WrapErr};
use object_store::ObjectStoreExt;

use super::{Stop, absolute};
use crate::{
    arguments::{Format, ToolArguments},
    environment,
    job::DeviceOption,
};

/// What is done with a model.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Make a bundle of a released checkpoint: Vid2Seq with its CLIP model and its tokenizer, Whisper, or a text encoder.
    Import(import::ImportArguments),
    /// Make a smaller bundle of a bundle, and say how far it is from it.
    Quantize(quantize::QuantizeArguments),
    /// Print what a bundle says about itself. Reads its manifest only.
    Inspect(BundleArguments),
    /// Check the digest of every file of a bundle, and what it says of its golden clip on a device.
    Verify(verify::VerifyArguments),
    /// Run the bare network on tensors: features or frames, and token ids.
    Run(run::RunArguments),
    /// Print the vectors of texts, such as a search engine is asked for the nearest captions with.
    Embed(embed::EmbedArguments),
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
#[derive(Debug, Clone, Args)]
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

impl DeviceArguments {
    /// Every core of this machine, and these tools.
    pub(crate) fn cores(tools: &ToolArguments) -> Self {
        Self { device: Device::Cpu, threads: 0, tools: tools.clone() }
    }
}

/// `cpu` or `cuda:N`.
pub(crate) fn device(text: &str) -> Result<Device, String> {
    DeviceOption::try_from(text.to_owned()).map(Device::from)
}

/// Makes a bundle, which needs neither a store nor a runtime.
pub(super) fn import(arguments: &import::ImportArguments) -> Result<ExitCode, Stop> {
    import::run(arguments)
}

pub(super) async fn run(command: &ModelCommand, stores: &Stores) -> Result<ExitCode, Stop> {
    match command {
        ModelCommand::Import(arguments) => import::run(arguments),
        ModelCommand::Quantize(arguments) => quantize::run(arguments, stores).await,
        ModelCommand::Inspect(arguments) => inspect::run(arguments, stores).await,
        ModelCommand::Verify(arguments) => verify::run(arguments, stores).await,
        ModelCommand::Run(arguments) => run::run(arguments, stores).await,
        ModelCommand::Embed(arguments) => embed::run(arguments, stores).await,
    }
}

/// What a bundle holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A model that captions.
    Captioner,
    /// A model that recognises speech.
    Recogniser,
    /// A model that makes vectors of sentences.
    TextEncoder,
}

impl Kind {
    /// What lies in a folder; a captioner where that cannot be told.
    async fn of(bundle: &Location) -> Self {
        let captioner = bundle.store.head(&bundle.child(files::MANIFEST)).await;
        if matches!(captioner, Err(object_store::Error::NotFound { .. })) {
            for kind in [Self::Recogniser, Self::TextEncoder] {
                if bundle.store.head(&bundle.child(kind.manifest())).await.is_ok() {
                    return kind;
                }
            }
        }
        Self::Captioner
    }

    /// The name of its manifest.
    fn manifest(self) -> &'static str {
        match self {
            Self::Captioner => files::MANIFEST,
            Self::Recogniser => speech::manifest::files::MANIFEST,
            Self::TextEncoder => sentence::manifest::files::MANIFEST,
        }
    }
}

/// The text encoder of a bundle at a place, and the bundle.
pub(crate) async fn open_text_encoder(
    uri: &str,
    stores: &Stores,
    device: &DeviceArguments,
) -> Result<(SentenceBundle, SentenceEncoder), Stop> {
    let folder = fetch(uri, stores, sentence::manifest::files::MANIFEST).await?;
    let bundle = SentenceBundle::open(&folder).map_err(|error| unusable(&error))?;
    let runtime = load_runtime(&device.tools)?;
    let options = SessionOptions { device: device.device, threads: device.threads };
    let encoder = SentenceEncoder::load(&bundle, &runtime, &options);
    encoder.map(|encoder| (bundle, encoder)).map_err(|error| unusable(&error))
}

/// Who makes vectors by the text encoder of a bundle at a place, one caller after the other.
pub(crate) async fn open_embedder(
    uri: &str,
    stores: &Stores,
    device: &DeviceArguments,
) -> Result<Embedder, Stop> {
    let (bundle, encoder) = open_text_encoder(uri, stores, device).await?;
    let (model, dimensions) = (bundle.digest().to_owned(), encoder.width());
    let encoder = Mutex::new(encoder);
    let embed: Embed = Arc::new(move |texts: &[&str]| {
        let mut encoder = encoder.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(encoder.encode(texts)?.into_iter().collect())
    });
    Ok(Embedder { model, dimensions, embed })
}

/// How events are searched: by words, and by meaning where a text encoder is given.
pub(crate) async fn search_options(
    embeddings: Option<&str>,
    stores: &Stores,
    tools: &ToolArguments,
) -> Result<SearchOptions, Stop> {
    let folder = environment::cache_folder().join("search");
    let embedder = match embeddings {
        Some(uri) => Some(open_embedder(uri, stores, &DeviceArguments::cores(tools)).await?),
        None => None,
    };
    Ok(SearchOptions { folder, embedder })
}

/// The bundle at a place, brought to this machine; every file of it was checked.
async fn open(arguments: &BundleArguments, stores: &Stores) -> Result<Bundle, Stop> {
    let folder = fetch(&arguments.bundle, stores, files::MANIFEST).await?;
    Bundle::open(&folder).map_err(|error| unusable(&error))
}

/// The folder on this machine of the bundle at a place.
async fn fetch(uri: &str, stores: &Stores, manifest: &str) -> Result<PathBuf, Stop> {
    let cache = environment::cache_folder();
    std::fs::create_dir_all(&cache)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot make the cache folder `{}`", cache.display()))
        .map_err(Stop::bad_job)?;
    fetch_bundle(stores, &absolute(uri)?, manifest, &cache).await.map_err(|error| unusable(&error))
}

/// The sessions of a bundle.
fn load(bundle: &Bundle, arguments: &DeviceArguments) -> Result<Vid2Seq, Stop> {
    let runtime = load_runtime(&arguments.tools)?;
    let options = SessionOptions { device: arguments.device, threads: arguments.threads };
    Vid2Seq::load(bundle, &runtime, &options).map_err(|error| unusable(&error))
}

/// ONNX Runtime.
fn load_runtime(tools: &ToolArguments) -> Result<Runtime, Stop> {
    let library: PathBuf = environment::onnxruntime(tools).map_err(Stop::bad_job)?;
    Runtime::load(&library).map_err(|error| unusable(&error))
}

/// The names of some precisions on the command line.
fn precisions<const N: usize>(allowed: [Precision; N]) -> impl TypedValueParser<Value = Precision> {
    PossibleValuesParser::new(allowed.map(Precision::name)).map(move |name| {
        let named = allowed.into_iter().find(|precision| precision.name() == name);
        named.unwrap_or_default() // the parser lets no other name through
    })
}

/// Nothing was begun: a file, a bundle or an option is wrong.
fn unusable(error: &dyn std::error::Error) -> Stop {
    Stop::bad_job(miette::miette!("{}", super::chain(error)))
}

/// The model ran and failed.
fn failed(error: &dyn std::error::Error) -> Stop {
    Stop::failed(miette::miette!("{}", super::chain(error)))
}
