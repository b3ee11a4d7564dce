//! The one door for set-up, the demo, tests and checks of the repository: `cargo xtask --help`.
//!
//! It is built before anything is installed, so it names few and light dependencies, and it works without a network
//! once the cache is warm. What a command does is in the module of its name.

use std::error::Error as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod arrows;
mod bench;
mod bench_cluster;
mod bench_decode;
mod bench_end;
mod bench_eval;
mod bench_faults;
mod bench_import;
mod bench_model;
mod bench_page;
mod bench_speech;
mod bench_sql;
mod children;
mod corpus;
mod debian;
mod demo;
mod demo_model;
mod error;
mod fetch;
mod narration;
mod parts;
mod python;
mod results;
mod schemas;
mod setup;
mod suite;

mod workspace;

use error::Result;
use setup::Scope;
use workspace::Workspace;

/// Chores of the Eventide repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Install what building, testing and the demo need, and link it into `target/tools`.
    Setup {
        /// What to prepare for.
        #[arg(long, value_enum, default_value_t = Scope::Test)]
        scope: Scope,
    },
    /// Make the demo corpus of real videos.
    Corpus {
        /// Where to; the truth about the narrated videos goes to a folder `truth` beside it.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Set up, make the corpus, index it and show the tables.
    Demo {
        /// A program that is built already.
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
    },
    /// Train the demo's model where `target/train` does not hold it, score it on unseen videos, and put it into `jobs`. Takes
    /// hours, and goes on where it was.
    DemoModel {
        /// A program that is built already.
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
    },
    /// Set up and run the tests of the workspace; what follows goes to `cargo test` as it is.
    Test {
        /// Arguments of `cargo test`, for instance `-p eventide-model`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Compare the arrows between the crates with those that the design allows.
    Arrows,
    /// Write the published contracts in `schemas/` anew.
    Schemas {
        /// Change nothing; fail where a contract differs from the types.
        #[arg(long)]
        check: bool,
    },
    /// Ask the claims of the Vid2Seq paper of small models; writes their figures into `docs/results.json` and the page
    /// `docs/results.md`. Takes hours, and goes on where it was.
    Results {
        /// A claim that is asked, several times if need be; all of them if none is named. The figures of the others stay.
        #[arg(long = "claim", value_name = "NAME", value_parser = results::names())]
        claims: Vec<String>,
        /// Train nothing; make the page of the figures there are.
        #[arg(long, conflicts_with = "claims")]
        render: bool,
        /// How much is done.
        #[command(flatten)]
        effort: results::Effort,
        /// A program that is built already.
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
    },
    /// Measure, beside a peer, in one run on this machine.
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Time and memory of importing, running and quantising a checkpoint of full size. Takes 6 GB of disk.
    Import {
        /// The cargo profile of the program.
        #[arg(long, default_value = "fast")]
        profile: String,
    },
    /// Video-hours a core-hour of a whole run over the demo corpus, and where the time goes.
    Night {
        /// The cargo profile of the program.
        #[arg(long, default_value = "fast")]
        profile: String,
    },
    /// What a cluster costs beside its work: shards of a known time on executors against the ideal schedule, and a
    /// night without changes over many objects; writes both to `docs/benchmarks.md`.
    Cluster {
        /// The cargo profile of the program.
        #[arg(long, default_value = "fast")]
        profile: String,
        /// A program that is built already, with `eventide-testkit` beside it.
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
        /// How much is done.
        #[command(flatten)]
        scale: bench_cluster::Scale,
    },
    /// Core-seconds to see a hundred frames of a long film, by codec, beside `ffmpeg` and `PyAV`; writes them to
    /// `docs/benchmarks.md`.
    Decode {
        /// The cargo profile of the program.
        #[arg(long, default_value = "fast")]
        profile: String,
        /// A program that is built already, with `eventide-decoder` and `eventide-testkit` beside it.
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
        /// How much is done.
        #[command(flatten)]
        scale: bench_decode::Scale,
    },
    /// Videos an hour of `eventide index`, beside a straightforward program in Python with the same weights that must find the
    /// same events; and how well a plan foretells a run. Writes both to `docs/benchmarks.md`.
    End {
        /// The cargo profile of the program.
        #[arg(long, default_value = "fast")]
        profile: String,
        /// A program that is built already, with `eventide-testkit` beside it.
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
        /// How much is done, and with what.
        #[command(flatten)]
        scale: bench_end::Scale,
    },
    /// Scores of made-up predictions by `eventide eval` and by the Python programs, which must agree; writes the
    /// medians to `docs/benchmarks.md`.
    Eval {
        /// The cargo profile of the program.
        #[arg(long, default_value = "fast")]
        profile: String,
    },
    /// Ten questions about ten million events, by `eventide sql` and by `DuckDB` on the same files, which must agree; writes the
    /// medians to `docs/benchmarks.md`.
    Sql {
        /// The cargo profile of the program.
        #[arg(long, default_value = "release")]
        profile: String,
        /// A program that is built already, with `eventide-testkit` beside it.
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
        /// How many events.
        #[arg(long, default_value_t = 10_000_000)]
        events: u64,
    },
    /// The page's server over a million events: what words, filters, later pages and videos take, one by one and several at
    /// once; writes it to `docs/benchmarks.md`.
    Page {
        /// The cargo profile of the program.
        #[arg(long, default_value = "release")]
        profile: String,
        /// A program that is built already, with `eventide-testkit` beside it.
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
        /// How many events.
        #[arg(long, default_value_t = 1_000_000)]
        events: u64,
    },
    /// Rows of so many videos through the real operators, with a model that says which video it saw, and faults.
    Identity {
        /// The cargo profile of the program.
        #[arg(long, default_value = "fast")]
        profile: String,
        /// How many videos.
        #[arg(long, default_value_t = 1_000_000)]
        videos: u64,
    },
    /// Damaged files through the sandboxed decoder: each must end in a result or a reason, in its limits.
    Mutations {
        /// The cargo profile of the program.
        #[arg(long, default_value = "fast")]
        profile: String,
        /// How many files, of four kinds.
        #[arg(long, default_value_t = 10_000)]
        files: u64,
    },
    /// Nights on a cluster over a corpus that changes, while processes are killed at random.
    Soak {
        /// The cargo profile of the program.
        #[arg(long, default_value = "fast")]
        profile: String,
        /// How long.
        #[arg(long, default_value_t = 20)]
        minutes: u64,
    },
    /// Pictures encoded and sequences generated on one thread, beside `PyTorch`, transformers and `CTranslate2` with the same
    /// weights, which must agree; writes the medians to `docs/benchmarks.md`. Takes 11 GB of disk, which it keeps.
    Model {
        /// The cargo profile of the program.
        #[arg(long, default_value = "fast")]
        profile: String,
        /// A program that is built already, with `eventide-testkit` beside it.
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
    },
    /// Speech recognition beside `faster-whisper` with the same weights: wrong words and processor time; writes both
    /// to `docs/benchmarks.md`.
    Speech {
        /// The cargo profile of the program.
        #[arg(long, default_value = "fast")]
        profile: String,
        /// A program that is built already, with `eventide-testkit` beside it.
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().chore) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(inner) = cause {
                eprintln!("  because: {inner}");
                cause = inner.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<()> {
    let workspace = Workspace::locate()?;
    match chore {
        Chore::Setup { scope } => setup::run(&workspace, scope),
        Chore::Corpus { out } => {
            let out = out.unwrap_or_else(|| workspace.demo().join("corpus"));
            corpus::run(&workspace, &out)
        }
        Chore::Demo { program } => demo::run(&workspace, program),
        Chore::DemoModel { program } => demo_model::run(&workspace, program),
        Chore::Test { arguments } => suite::run(&workspace, &arguments),
        Chore::Arrows => arrows::run(&workspace),
        Chore::Results { render: true, .. } => results::render(&workspace),
        Chore::Results { claims, effort, program, .. } => {
            results::run(&workspace, &claims, effort, program)
        }
        Chore::Bench(Bench::Night { profile }) => bench::night(&workspace, &profile),
        Chore::Bench(Bench::Decode { profile, program, scale }) => {
            bench_decode::run(&workspace, &profile, program, &scale)
        }
        Chore::Bench(Bench::End { profile, program, scale }) => {
            bench_end::run(&workspace, &profile, program, scale)
        }
        Chore::Bench(Bench::Eval { profile }) => bench_eval::run(&workspace, &profile),
        Chore::Bench(Bench::Identity { profile, videos }) => {
            bench_faults::identity(&workspace, &profile, videos)
        }
        Chore::Bench(Bench::Mutations { profile, files }) => {
            bench_faults::mutations(&workspace, &profile, files)
        }
        Chore::Bench(Bench::Soak { profile, minutes }) => {
            bench_faults::soak(&workspace, &profile, minutes)
        }
        Chore::Bench(Bench::Import { profile }) => bench_import::run(&workspace, &profile),
        Chore::Bench(Bench::Cluster { profile, program, scale }) => {
            bench_cluster::run(&workspace, &profile, program, scale)
        }
        Chore::Bench(Bench::Page { profile, program, events }) => {
            bench_page::run(&workspace, &profile, program, events)
        }
        Chore::Bench(Bench::Sql { profile, program, events }) => {
            bench_sql::run(&workspace, &profile, program, events)
        }
        Chore::Bench(Bench::Model { profile, program }) => {
            bench_model::run(&workspace, &profile, program)
        }
        Chore::Bench(Bench::Speech { profile, program }) => {
            bench_speech::run(&workspace, &profile, program)
        }
        Chore::Schemas { check } => schemas::run(&workspace, check),
    }
}
