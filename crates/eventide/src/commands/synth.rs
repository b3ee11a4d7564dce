//! `eventide synth`: narrated synthetic videos with known truth.

use std::{io::IsTerminal, num::NonZeroUsize, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};
use eventide_training::synth::{self, Recipe, Summary, looks};
use indicatif::{ProgressBar, ProgressStyle};

use super::{Stop, chain};
use crate::{
    arguments::{Common, Format, ToolArguments},
    environment, report,
};

/// Arguments of `synth`.
#[derive(Debug, Args)]
pub(crate) struct SynthArguments {
    /// Folder for `videos/`, `truth.json` and `synth.json`.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many videos it is to hold. Those that it holds already are kept.
    #[arg(long, value_name = "N")]
    videos: u32,
    /// Number from which all videos follow.
    #[arg(long, value_name = "S")]
    seed: u64,
    /// Which part of a data set: some of what happens in `val` and `test` never happens in `train`.
    #[arg(long, default_value = "train")]
    split: Split,
    /// Length of the shortest video.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = humantime::parse_duration)]
    shortest: Duration,
    /// Length of the longest video.
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = humantime::parse_duration)]
    longest: Duration,
    /// How many shapes are on stage at once, at most: 2 to 6.
    #[arg(long, value_name = "N", default_value_t = synth::CROWD)]
    crowd: u8,
    /// Videos that are drawn at once; one a core if not given.
    #[arg(long, value_name = "N", env = "EVENTIDE_WORKERS")]
    workers: Option<NonZeroUsize>,
    /// How the result is printed.
    #[arg(long, default_value = "text")]
    format: Format,
    /// Folder with `ffmpeg` and `ffprobe`; else they are looked for in `PATH`.
    #[command(flatten)]
    tools: ToolArguments,
}

/// A part of a data set.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Split {
    /// To learn from.
    Train,
    /// To choose by.
    Val,
    /// To report on.
    Test,
}

impl From<Split> for looks::Split {
    fn from(split: Split) -> Self {
        match split {
            Split::Train => Self::Train,
            Split::Val => Self::Val,
            Split::Test => Self::Test,
        }
    }
}

pub(super) fn run(arguments: &SynthArguments, common: &Common) -> Result<ExitCode, Stop> {
    let recipe = Recipe::new(arguments.seed, arguments.split.into())
        .with_lengths(arguments.shortest, arguments.longest)
        .and_then(|recipe| recipe.with_crowd(arguments.crowd))
        .map_err(|error| explained(&error))?;
    let ffmpeg = environment::media_tools(&arguments.tools).map_err(Stop::bad_job)?.ffmpeg;
    let workers = arguments.workers.or_else(|| std::thread::available_parallelism().ok());
    let shown = !common.quiet && std::io::stderr().is_terminal();
    let bar = if shown { bar(arguments.videos) } else { ProgressBar::hidden() };
    let tell = |summary: &Summary| {
        bar.set_position(u64::from(summary.videos));
        bar.set_message(format!("{} events", summary.events));
    };
    let (out, videos) = (&arguments.out, arguments.videos);
    let workers = workers.unwrap_or(NonZeroUsize::MIN);
    let summary = synth::generate(out, &recipe, videos, &ffmpeg, workers, &tell);
    bar.finish_and_clear();
    let summary = summary.map_err(|error| explained(&error))?;
    report::synth(&summary, arguments.format).map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}

fn bar(videos: u32) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{elapsed_precise} {bar:30} {pos}/{len} videos, {msg}, {eta} left",
    )
    .expect("the template is right");
    ProgressBar::new(u64::from(videos)).with_style(style)
}

/// An error with what to do about it.
fn explained(error: &synth::Error) -> Stop {
    let text = chain(error);
    match error {
        synth::Error::OtherRecipe { .. } | synth::Error::Recipe { .. } => Stop::bad_job(
            miette::miette!(help = "name another folder, or remove this one", "{text}"),
        ),
        synth::Error::Lengths { .. } | synth::Error::Crowd { .. } => {
            Stop::bad_job(miette::miette!("{text}"))
        }
        _ => Stop::failed(miette::miette!(
            help = "run the same command again: finished videos are kept",
            "{text}"
        )),
    }
}
