//! The commands, one file each, and what they share: start, errors, exit codes.

mod cancel;
pub(crate) mod caption;
mod caption_table;
mod check;
pub(crate) mod eval;
pub(crate) mod executor;
pub(crate) mod export;
pub(crate) mod flight;
mod index;
pub(crate) mod model;
pub(crate) mod optimize;
pub(crate) mod plan;
mod progress;
pub(crate) mod report;
pub(crate) mod runs;
pub(crate) mod scheduler;
mod schemas;
pub(crate) mod serve;
pub(crate) mod sql;
pub(crate) mod status;
pub(crate) mod synth;
#[cfg(feature = "train")]
pub(crate) mod train;
pub(crate) mod transcribe;
pub(crate) mod vacuum;

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use eventide_catalog::{Stores, Tables};
use eventide_engine::{Cluster, How, Night, Secret, SpeechIdentity, Worker};
use eventide_media::Sandbox;
use miette::{IntoDiagnostic, WrapErr};

use crate::{
    arguments::{Arguments, Command, JobArguments, ToolArguments},
    environment,
    job::{JobFile, Overrides},
    telemetry,
};

/// The job cannot be started: wrong file, wrong flags, missing tools, unreachable store.
const EXIT_BAD_JOB: u8 = 2;
/// Ended by Ctrl-C or SIGTERM.
const EXIT_INTERRUPTED: u8 = 130;

/// How long cancelled work may take to tidy up.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// Parses the command line, runs the command, and turns what it says into an exit code: 0 done,
/// 1 the run failed, 2 the job cannot be started, 130 interrupted.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let plain = |_: &_| -> Box<dyn miette::ReportHandler> {
        Box::new(miette::MietteHandlerOpts::new().wrap_lines(false).build())
    };
    // Addresses are to be copied whole. A second hook, which there is none of, would be refused.
    let _ = miette::set_hook(Box::new(plain));
    match run(arguments) {
        Ok(code) => code,
        Err(Stop { code, report }) => {
            eprintln!("{report:?}");
            ExitCode::from(code)
        }
    }
}

/// Why a command ends early.
#[derive(Debug)]
pub(crate) struct Stop {
    code: u8,
    report: miette::Report,
}

impl Stop {
    /// The job cannot be started.
    pub(crate) fn bad_job(report: impl Into<miette::Report>) -> Self {
        Self { code: EXIT_BAD_JOB, report: report.into() }
    }

    /// The run failed.
    pub(crate) fn failed(report: impl Into<miette::Report>) -> Self {
        Self { code: 1, report: report.into() }
    }

    /// A run that ended early: 2 where its model or its tables cannot be used at all, else 1.
    pub(crate) fn of_run(error: &eventide_engine::Error) -> Self {
        if error.is_about_the_job() {
            Self::bad_job(explained(error))
        } else {
            Self::failed(explained(error))
        }
    }

    /// The same, as a run that failed because of something.
    pub(crate) fn because(self, reason: &str) -> Self {
        Self { code: 1, report: self.report.wrap_err(reason.to_owned()) }
    }

    /// A person or a supervisor ended it.
    pub(crate) fn interrupted(report: impl Into<miette::Report>) -> Self {
        Self { code: EXIT_INTERRUPTED, report: report.into() }
    }
}

/// An error of the engine with what to do about it.
pub(crate) fn explained(error: &eventide_engine::Error) -> miette::Report {
    use eventide_engine::Error;
    let help = match error {
        Error::Untrained { .. } => {
            Some("train or import a model, or pass --allow-untrained to see it run all the same")
        }
        Error::Catalog(eventide_catalog::Error::EmptyListing { .. }) => {
            Some("check `corpus.uri`; if everything has really gone, set `run.allow-empty = true`")
        }
        Error::Tables(_) => Some("check `tables.uri`: the folder must be there to be written to"),
        Error::Manifest { .. }
        | Error::Catalog(
            eventide_catalog::Error::Unreachable { .. } | eventide_catalog::Error::Denied { .. },
        ) => Some(
            "check the address, the network, and what the environment says of the store: AWS_REGION, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...",
        ),
        Error::Bundle { .. } => Some("check that the folder is a whole bundle of this version"),
        Error::Language { .. } => Some("`eventide model inspect BUNDLE` says which it knows"),
        Error::Scheduler { .. } => Some(
            "check that the scheduler runs and listens at this address; then run the same command again: what has been finished is kept",
        ),
        Error::SchedulerAddress { .. } => Some("give it as `http://host:50050`"),
        Error::Refused { .. } => Some("look at the log of the scheduler"),
        Error::OnCluster { .. } => Some(
            "the executors' logs say more; run the same command again: what has been finished is kept",
        ),
        error => cluster_help(error).or_else(|| {
            let again = "run the same command again: what has been finished is kept";
            error.is_transient().then_some(again)
        }),
    };
    match help {
        Some(help) => miette::miette!(help = help, "{}", chain(error)),
        None => miette::miette!("{}", chain(error)),
    }
}

/// What to do about an error that only a cluster has.
fn cluster_help(error: &eventide_engine::Error) -> Option<&'static str> {
    use eventide_engine::Error;
    match error {
        Error::WeakSecret { .. } => {
            Some("make one by `openssl rand -hex 32`, and give it to every process of the cluster")
        }
        Error::NotAdmitted { .. } => Some(
            "set EVENTIDE_CLUSTER_TOKEN, or EVENTIDE_CLUSTER_TOKEN_FILE, to what the scheduler was started with",
        ),
        Error::OpenScheduler { .. } => Some(
            "start the scheduler with the same EVENTIDE_CLUSTER_TOKEN, or this process without one",
        ),
        Error::OtherBuild { .. } => {
            Some("use the same build of eventide for the client, the scheduler and the executors")
        }
        Error::NoExecutor { .. } => Some(
            "start executors by `eventide executor URL`; then run the same command again: what has been finished is kept. The job waits for `cluster.executors-grace`",
        ),
        Error::ExecutorsLost { .. } => Some(
            "a job finds such a video: `eventide index` leaves marks by which it is known, and makes a failure of it",
        ),
        Error::NoProgress { .. } => Some(
            "look at the logs of the executors; then run the same command again: what has been finished is kept. The job waits for `cluster.progress-grace`",
        ),
        Error::Unfit { .. } => Some(
            "take the device out of service, or look at the versions of its driver and of ONNX Runtime; `eventide model verify` tries it again",
        ),
        _ => None,
    }
}

/// An error and its causes, each on its own line. A cause that the line above has quoted is left out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut lines = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        if !lines.last().is_some_and(|above| above.contains(&line)) {
            lines.push(line);
        }
        cause = error.source();
    }
    lines.join("\n  because: ")
}

fn run(arguments: Arguments) -> Result<ExitCode, Stop> {
    let common = arguments.common;
    let _flush = telemetry::start(&common).map_err(Stop::bad_job)?;
    if let Command::Schemas { out } = &arguments.command {
        return schemas::run(out).map_err(Stop::failed);
    }
    if let Command::Model { command: model::ModelCommand::Import(import) } = &arguments.command {
        return model::import(import);
    }
    if let Command::Synth(synth) = &arguments.command {
        return synth::run(synth, &common);
    }
    let stores = Arc::new(Stores::new(environment::store_settings()));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .into_diagnostic()
        .wrap_err("cannot start the runtime")
        .map_err(Stop::failed)?;
    let ended = runtime.block_on(async {
        match arguments.command {
            Command::Index(index) => index::run(&index, &common, &stores).await,
            Command::Cancel(cancel) => cancel::run(&cancel, &stores).await,
            Command::Scheduler(scheduler) => scheduler::run(&scheduler, &stores).await,
            Command::Executor(executor) => executor::run(&executor, &stores).await,
            Command::Status(status) => status::run(&status, &stores).await,
            Command::Runs(runs) => runs::run(&runs, &stores).await,
            Command::Report(report) => report::run(&report, &stores).await,
            Command::Vacuum(vacuum) => vacuum::run(&vacuum, &stores).await,
            Command::Optimize(optimize) => optimize::run(&optimize, &stores).await,
            Command::Plan(job) => plan::run(&job, &stores).await,
            Command::Caption(caption) => caption::run(&caption, &stores).await,
            Command::Transcribe(transcribe) => transcribe::run(&transcribe, &common, &stores).await,
            Command::Check(job) => check::run(&job, &stores).await,
            Command::Model { command } => model::run(&command, &stores).await,
            Command::Eval(eval) => eval::run(&eval, &common, &stores).await,
            Command::Export(arguments) => export::run(&arguments, &common, &stores).await,
            Command::Flight(flight) => flight::run(&flight, &stores).await,
            Command::Sql(sql) => sql::run(&sql, &common, &stores).await,
            Command::Serve(serve) => serve::run(&serve, &stores).await,
            #[cfg(feature = "train")]
            Command::Train(train) => train::run(&train, &common, &stores).await,
            Command::Synth(_) | Command::Schemas { .. } => Ok(ExitCode::SUCCESS),
        }
    });
    // What still computes was cancelled; it gets a moment to end its children and remove its copies.
    runtime.shutdown_timeout(LAST_MOMENT);
    ended
}

/// A path is relative to the current folder; an address is what it is.
fn absolute(place: &str) -> Result<String, Stop> {
    if place.contains("://") {
        return Ok(place.to_owned());
    }
    let path = std::path::absolute(place)
        .into_diagnostic()
        .wrap_err_with(|| format!("`{place}` is not a path"))
        .map_err(Stop::bad_job)?;
    path.into_os_string()
        .into_string()
        .map_err(|path| Stop::bad_job(miette::miette!("{path:?} is not Unicode")))
}

/// The job that the command line names, on this machine or on the cluster that it names.
fn night_on(job: &JobArguments, cluster: Option<&str>) -> Result<Night, Stop> {
    let overrides = Overrides {
        tables: job.tables.as_deref(),
        bundle: job.bundle.as_deref(),
        speech_bundle: job.speech_bundle.as_deref(),
        allow_untrained: job.allow_untrained,
        cluster,
    };
    JobFile::load(&job.job, &overrides).map_err(Stop::bad_job)
}

/// The job that the command line names.
fn night(job: &JobArguments) -> Result<Night, Stop> {
    night_on(job, None)
}

/// The tables that the command line names.
fn tables_at(uri: &str, stores: &Stores) -> Result<Tables, Stop> {
    let tables = Tables::open(stores, &absolute(uri)?);
    tables.map_err(|error| Stop::bad_job(explained(&error.into())))
}

/// The cluster of this scheduler, with the token from the environment.
fn cluster(scheduler: &str) -> Result<Cluster, Stop> {
    Cluster::at(scheduler, secret()?).map_err(|e| Stop::of_run(&e))
}

/// The token of the cluster, if the environment has one.
fn secret() -> Result<Option<Secret>, Stop> {
    let text = environment::cluster_token()
        .into_diagnostic()
        .wrap_err("cannot read the file that `EVENTIDE_CLUSTER_TOKEN_FILE` names")
        .map_err(Stop::bad_job)?;
    text.as_deref().map(Secret::new).transpose().map_err(|e| Stop::of_run(&e))
}

/// Says it where anybody on the network may use this process.
fn warn_of_open_port(listen: std::net::IpAddr, secret: Option<&Secret>) {
    if !listen.is_loopback() && secret.is_none() {
        tracing::warn!(
            "whoever reaches {listen} can have this process work: set EVENTIDE_CLUSTER_TOKEN"
        );
    }
}

/// A worker for one video at a time, once the manifests of the bundles can be read and the tools are there; and what the
/// recogniser is called, where there is one.
async fn ready(
    how: &How,
    stores: &Stores,
    tools: &ToolArguments,
) -> Result<(Worker, Option<SpeechIdentity>), Stop> {
    let wrong = |error: eventide_engine::Error| Stop::bad_job(explained(&error));
    if let Some(model) = &how.model {
        model.identity(stores).await.map_err(wrong)?;
    }
    let identity = match &how.speech {
        Some(speech) => Some(speech.identity(stores).await.map_err(wrong)?),
        None => None,
    };
    let worker = worker(how.needs_runtime(), tools, Some(1))?;
    worker.tools.check().await.map_err(|source| wrong(eventide_engine::Error::Media(source)))?;
    Ok((worker, identity))
}

/// The worker that this process is.
fn worker(
    needs_runtime: bool,
    tools: &ToolArguments,
    videos_in_flight: Option<usize>,
) -> Result<Worker, Stop> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cache = environment::cache_folder();
    let scratch = environment::scratch_folder()
        .into_diagnostic()
        .wrap_err("cannot make a folder for copies of remote videos")
        .map_err(Stop::bad_job)?;
    std::fs::create_dir_all(&cache)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot make the cache folder `{}`", cache.display()))
        .map_err(Stop::bad_job)?;
    let onnxruntime = if needs_runtime {
        environment::onnxruntime(tools).map_err(Stop::bad_job)?
    } else {
        std::path::PathBuf::new() // there is no model
    };
    let sandbox = Sandbox::report();
    if sandbox.lacks_a_mechanism() {
        tracing::warn!(%sandbox, "this kernel sandboxes media children only in part");
    } else {
        tracing::info!(%sandbox, "media children are sandboxed");
    }
    Ok(Worker {
        tools: environment::media_tools(tools).map_err(Stop::bad_job)?,
        scratch: Arc::new(scratch),
        cache,
        onnxruntime,
        videos_in_flight: videos_in_flight.unwrap_or(cores),
        name: environment::worker_name(),
    })
}
