//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::{
    caption::CaptionArguments, eval::EvalArguments, executor::ExecutorArguments,
    export::ExportArguments, flight::FlightArguments, model::ModelCommand,
    optimize::OptimizeArguments, report::ReportArguments, runs::RunsArguments,
    scheduler::SchedulerArguments, serve::ServeArguments, sql::SqlArguments,
    status::StatusArguments, synth::SynthArguments, transcribe::TranscribeArguments,
    vacuum::VacuumArguments,
};

/// Turns a corpus of videos in object storage into tables of captioned events.
#[derive(Debug, Parser)]
#[command(name = "eventide", version = eventide_engine::BUILD, about, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// What is settled for every command.
    #[command(flatten)]
    pub(crate) common: Common,
}

const EXAMPLES: &str = "\
Examples:
  eventide caption talk.mp4 --bundle models/m  what happens in one video, and when
  eventide transcribe talk.mp4 --model models/w  what is said in it, and when
  eventide check jobs/nightly.toml             is the job file right, are its stores there?
  eventide plan  jobs/nightly.toml             what would be done, and what it would cost
  eventide index jobs/nightly.toml             do it; run it again after any interruption
  eventide sql --tables lake/ \"SELECT caption, start_ms FROM events LIMIT 10\"
  eventide export --tables lake/ --to opensearch --url https://search:9200 --out exports/";

/// What the processes of a cluster read of the environment and have no flag for.
pub(crate) const CLUSTER_ENVIRONMENT: &str = "\
Environment:
  EVENTIDE_CLUSTER_TOKEN       what every process of the cluster must have
  EVENTIDE_CLUSTER_TOKEN_FILE  a file that holds it instead";

/// What is settled for every command.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Which messages are logged, to standard error: a level, or `target=level,...`.
    #[arg(
        long,
        global = true,
        env = "EVENTIDE_LOG",
        default_value = "warn",
        value_name = "FILTER"
    )]
    pub(crate) log: String,
    /// How messages are logged.
    #[arg(long, global = true, env = "EVENTIDE_LOG_FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Where traces are sent: the address of an OpenTelemetry collector, `http://127.0.0.1:4318` (OTLP over HTTP, as
    /// JSON). All spans of a run are one trace. `OTEL_SERVICE_NAME` says what this process is called there.
    #[arg(long, global = true, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub(crate) otlp: Option<String>,
    /// Show no progress.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// How messages are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line a message, for people.
    Text,
    /// One JSON object a message, for collectors.
    Json,
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Index what is new, changed or gone, and publish the tables.
    Index(IndexArguments),
    /// Print what `index` would do and what it would cost. Changes nothing.
    Plan(JobArguments),
    /// Check a job file, its stores, its model and the tools. Changes nothing.
    Check(JobArguments),
    /// Caption one video, without a job or tables: what to try first.
    Caption(CaptionArguments),
    /// Say what is said in videos and sounds, and when: subtitles by speech recognition.
    Transcribe(TranscribeArguments),
    /// Make a model bundle of a released checkpoint; look at one, check it, try it.
    Model {
        /// What to do.
        #[command(subcommand)]
        command: ModelCommand,
    },
    /// Stop a job that runs on a cluster. What it has finished is kept.
    Cancel(CancelArguments),
    /// Serve a cluster: hand the shards of jobs to executors.
    Scheduler(SchedulerArguments),
    /// Work for a cluster: index the shards that a scheduler gives.
    Executor(ExecutorArguments),
    /// Print what a cluster is at, and what waits to be published.
    Status(StatusArguments),
    /// Print the published runs, with what each did and cost.
    Runs(RunsArguments),
    /// Write a page about a published run: costs, workers, the slowest videos, failures.
    Report(ReportArguments),
    /// Remove what killed processes left beside the tables. Tells only, unless --delete is given.
    Vacuum(VacuumArguments),
    /// Put the rows of the tables into fewer, larger, sorted files. Changes no row.
    Optimize(OptimizeArguments),
    /// Query the tables: one statement, or a shell.
    Sql(SqlArguments),
    /// Write the night's difference, or everything, for search engines and players.
    Export(ExportArguments),
    /// Serve the tables to others, over Flight SQL: ADBC, JDBC, ODBC.
    Flight(FlightArguments),
    /// Serve a page to find and watch events, and the HTTP API behind it.
    Serve(ServeArguments),
    /// Score predicted against reference events, as the field of dense video captioning does.
    Eval(EvalArguments),
    /// Train a model, or go on with it.
    #[cfg(feature = "train")]
    Train(crate::commands::train::TrainArguments),
    /// Make narrated synthetic videos with known truth, to train on and to score against.
    Synth(SynthArguments),
    /// Write the published schemas.
    #[command(hide = true)]
    Schemas {
        /// Folder to write to.
        #[arg(long)]
        out: PathBuf,
    },
}

/// A job and what the command line changes of it.
#[derive(Debug, Args)]
pub(crate) struct JobArguments {
    /// The job file.
    #[arg(value_name = "JOB.toml")]
    pub(crate) job: PathBuf,
    /// Where the tables are, instead of the job's `tables.uri`.
    #[arg(long, env = "EVENTIDE_TABLES", value_name = "URI")]
    pub(crate) tables: Option<String>,
    /// Where the model bundle is, instead of the job's `model.bundle`.
    #[arg(long, env = "EVENTIDE_BUNDLE", value_name = "URI")]
    pub(crate) bundle: Option<String>,
    /// Where the speech bundle is, instead of the job's `speech.bundle`.
    #[arg(long, env = "EVENTIDE_SPEECH_BUNDLE", value_name = "URI")]
    pub(crate) speech_bundle: Option<String>,
    /// Use a bundle whose weights are random; its captions mean nothing.
    #[arg(long)]
    pub(crate) allow_untrained: bool,
    /// How the result is printed.
    #[arg(long, default_value = "text")]
    pub(crate) format: Format,
    /// The tools that do the work.
    #[command(flatten)]
    pub(crate) tools: ToolArguments,
}

/// Arguments of `index`.
#[derive(Debug, Args)]
#[command(after_help = CLUSTER_ENVIRONMENT)]
pub(crate) struct IndexArguments {
    /// The job.
    #[command(flatten)]
    pub(crate) job: JobArguments,
    /// Videos that are worked on at once; one a core if not given.
    #[arg(long, value_name = "N", env = "EVENTIDE_WORKERS")]
    pub(crate) workers: Option<std::num::NonZeroUsize>,
    /// Have the work done by the executors of this scheduler, `http://host:50050`, instead of the job's
    /// `cluster.scheduler`.
    #[arg(long, value_name = "URL", env = "EVENTIDE_CLUSTER", conflicts_with = "workers")]
    pub(crate) cluster: Option<String>,
}

/// Arguments of `cancel`.
#[derive(Debug, Args)]
pub(crate) struct CancelArguments {
    /// The job.
    #[command(flatten)]
    pub(crate) job: JobArguments,
    /// The scheduler that it runs under, instead of the job's `cluster.scheduler`.
    #[arg(long, value_name = "URL", env = "EVENTIDE_CLUSTER")]
    pub(crate) cluster: Option<String>,
}

/// Tables, and how what is found in them is printed.
#[derive(Debug, Args)]
pub(crate) struct TablesArguments {
    /// Where the tables are.
    #[arg(long, env = "EVENTIDE_TABLES", value_name = "URI")]
    pub(crate) tables: String,
    /// How the result is printed.
    #[arg(long, default_value = "text")]
    pub(crate) format: Format,
}

/// Where the tools are.
#[derive(Debug, Clone, Args)]
pub(crate) struct ToolArguments {
    /// Folder with `ffmpeg`, `ffprobe`, `libonnxruntime.so` and, if not beside this program, `eventide-decoder`; else they are
    /// looked for in `PATH`.
    #[arg(long, env = "EVENTIDE_TOOLS", value_name = "DIR")]
    pub(crate) tools: Option<PathBuf>,
    /// The ONNX Runtime library.
    #[arg(long, env = "ORT_DYLIB_PATH", value_name = "FILE")]
    pub(crate) onnxruntime: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
