//! `eventide train`: a model learns from videos, their words and what happens in them.

mod lake;
mod marks;
mod record;

use std::{
    collections::VecDeque,
    io::IsTerminal,
    num::NonZeroUsize,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use eventide_catalog::Stores;
use eventide_media::{Limits, Media};
use eventide_model::runtime::{Device, Runtime};
use eventide_training::{
    data::{self, features::Progress, folder::Report},
    plan::Plan,
    run::{Listener, Outcome, Surroundings, processor, run as carry_out},
    session::{Judgement, Metric, metrics},
};
use indicatif::{FormattedDuration, ProgressBar, ProgressStyle};
use serde_json::json;

use self::lake::LakeVideos;
use super::{Stop, chain, index::told_to_stop};
use crate::{
    arguments::{Common, Format, ToolArguments},
    commands::model::device,
    environment, report, train_file,
};

/// Arguments of `train`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TrainArguments {
    /// The training file. Examples are in `jobs/train/`.
    #[arg(value_name = "TRAIN.toml")]
    file: PathBuf,
    /// Where is learnt: `cpu`, or `cuda:N` in a program built with the feature `cuda`. Given several times, the batches
    /// of a step (`optimiser.accumulate`) are shared out among all of them.
    #[arg(long = "device", default_value = "cpu", value_parser = device)]
    devices: Vec<Device>,
    /// Videos that are read at once; one a core if not given.
    #[arg(long, value_name = "N", env = "EVENTIDE_WORKERS")]
    workers: Option<NonZeroUsize>,
    /// How the result is printed.
    #[arg(long, default_value = "text")]
    format: Format,
    /// The tools that do the work.
    #[command(flatten)]
    tools: ToolArguments,
}

const EXAMPLES: &str = "\
Examples:
  eventide train jobs/train/vision.toml        a vision encoder, then
  eventide train jobs/train/pre-train.toml     speech, then
  eventide train jobs/train/fine-tune.toml     events; refine.toml goes on with more videos

Data are videos with annotations of ActivityNet Captions, YouCook2, ViTT or VidChapters, synthetic videos, or tables of
`eventide index`. Of several annotators of a video each is learnt from. Videos without a file, and those whose events
cannot be (an end before the start, more than a second past the end of the video, no words), are left out; the log
counts and names them.

An interrupted run goes on where it was, to the bit, when the same command is given again. While it runs, its folder
holds a learning curve (curve.png), its figures as a table (metrics.parquet) and step by step (metrics.ndjson).";

pub(super) async fn run(
    arguments: &TrainArguments,
    common: &Common,
    stores: &Arc<Stores>,
) -> Result<ExitCode, Stop> {
    let plan = train_file::load(&arguments.file).map_err(Stop::bad_job)?;
    let bad = |error: &dyn std::error::Error| Stop::bad_job(miette::miette!("{}", chain(error)));
    let mut learns_on = VecDeque::new();
    for &device in &arguments.devices {
        learns_on.push_back(processor(device).map_err(|error| bad(&error))?);
    }
    let tools = environment::media_tools(&arguments.tools).map_err(Stop::bad_job)?;
    let library = environment::onnxruntime(&arguments.tools).map_err(Stop::bad_job)?;
    let runtime = Runtime::load(&library).map_err(|error| bad(&error))?;
    let workers = arguments.workers.or_else(|| std::thread::available_parallelism().ok());
    let shown = Shown::new(&plan, !common.quiet && std::io::stderr().is_terminal());
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let scratch = environment::scratch_folder().map_err(|error| bad(&error))?;
    let handle = tokio::runtime::Handle::current();
    let lake = LakeVideos::new(Arc::clone(stores), handle, scratch.path());
    let mut work = tokio::task::spawn_blocking(move || {
        let surroundings = Surroundings {
            media: &Media::new(tools, Limits::default()),
            runtime: &runtime,
            workers: workers.unwrap_or(NonZeroUsize::MIN),
            device: learns_on.pop_front().unwrap_or_default(),
            more_devices: learns_on.into(),
            lake: &|tables| lake.examples(tables),
            elsewhere: &lake,
        };
        let mut listener = Listener {
            prepared: &|progress| shown.prepared(progress),
            joined: &mut joined,
            unseen: &|error| tracing::warn!("left out: {}", chain(error)),
            stepped: &mut |metric| {
                shown.stepped(metric);
                asked.load(Ordering::Relaxed)
            },
        };
        let outcome = carry_out(&plan, &surroundings, &mut listener);
        if outcome.is_ok() {
            shown.record();
        }
        outcome
    });
    let outcome = tokio::select! {
        outcome = &mut work => outcome,
        () = told_to_stop() => {
            stop.store(true, Ordering::Relaxed);
            work.await
        }
    };
    let outcome = outcome.map_err(|panic| Stop::failed(miette::miette!("{panic}")))?;
    ended(&outcome.map_err(|error| explained(&error))?, arguments.format)
}

fn ended(outcome: &Outcome, format: Format) -> Result<ExitCode, Stop> {
    let Some(bundle) = &outcome.bundle else {
        return Err(Stop::interrupted(miette::miette!(
            help = "run the same command again: it goes on from here",
            "interrupted after {} steps",
            outcome.ended.steps
        )));
    };
    let best = outcome.ended.best;
    let text = match format {
        Format::Json => format!(
            "{:#}",
            json!({
                "bundle": bundle,
                "steps": outcome.ended.steps,
                "best_step": best.map(|(step, _)| step),
                "validation": best.map(|(_, judgement)| judgement),
            })
        ),
        Format::Text => {
            let best = best.map_or_else(
                || "not judged: there is no `data.validation`".to_owned(),
                |(step, judgement)| format!("after step {step}: {}", told(judgement)),
            );
            report::two_columns(&[
                ("bundle", bundle.display().to_string()),
                ("steps", outcome.ended.steps.to_string()),
                ("best", best),
            ])
        }
    };
    report::print(&text).map_err(|error| Stop::failed(miette::miette!("{error}")))?;
    Ok(ExitCode::SUCCESS)
}

fn told(judgement: Judgement) -> String {
    match judgement {
        Judgement::Events(scores) => format!(
            "SODA_c {:.3} (meteor_native), CIDEr {:.3}, F1 {:.3}",
            scores.soda_c, scores.cider, scores.f1
        ),
        Judgement::Other { loss } => format!("loss {loss:.3}"),
    }
}

/// An error with what to do about it.
fn explained(error: &eventide_training::Error) -> Stop {
    use eventide_training::Error;
    let text = chain(error);
    match error {
        Error::Data(data::Error::Fetch { .. }) => Stop::failed(miette::miette!(
            help = "run the same command again: what was computed is kept",
            "{text}"
        )),
        Error::Plan { .. }
        | Error::Data(_)
        | Error::Lake { .. }
        | Error::NoExamples
        | Error::Tokenizer { .. }
        | Error::Pieces { .. }
        | Error::NoVocabulary(_) => Stop::bad_job(miette::miette!("{text}")),
        Error::Exists { .. } => Stop::bad_job(miette::miette!(
            help = "remove it, or name another place in `model.out`",
            "{text}"
        )),
        Error::Diverged { .. } | Error::Ruined { .. } => Stop::failed(miette::miette!(
            help = "the last checkpoint is whole; remove the folder of the run to begin anew",
            "{text}"
        )),
        _ => Stop::failed(miette::miette!(
            help = "run the same command again: what was computed and learnt is kept",
            "{text}"
        )),
    }
}

/// Names of one kind that are told of what was left out; the others are only counted.
const NAMED: usize = 10;

/// Tells what there is to learn from, and what was left out.
fn joined(what: &str, examples: usize, report: &Report) {
    tracing::info!(
        what,
        examples,
        annotated = report.annotated,
        accounts = report.accounts,
        other_subset = report.other_subset,
        nameless = report.nameless.len(),
        without_file = report.without_file.len(),
        without_annotation = report.without_annotation.len(),
        without_mark = report.without_mark,
        silent = report.silent,
        faulty = report.faulty.len(),
        "examples"
    );
    let left_out = |why: &str, ids: &[String]| {
        if !ids.is_empty() {
            let more = if ids.len() > NAMED { ", ..." } else { "" };
            let named = ids[..ids.len().min(NAMED)].join(", ");
            tracing::warn!(what, count = ids.len(), "left out, {why}: {named}{more}");
        }
    };
    left_out("no name is known for these ids", &report.nameless);
    left_out("there is no file of these videos", &report.without_file);
    for fault in &report.faulty {
        tracing::warn!(what, "left out: {}", chain(fault));
    }
}

/// What a person sees of a run.
struct Shown {
    bar: ProgressBar,
    plan: Plan,
    seen: Mutex<Seen>,
}

/// What is known of the steps so far: means in which the last step weighs [`NEW`], and when a line was last written.
struct Seen {
    loss: Option<f32>,
    tokens_per_second: Option<f64>,
    told: Instant,
}

/// How much of a mean is that of the last step.
const NEW: f32 = 0.05;
/// However seldom a model is judged, a line tells of the run after this time.
const SILENCE: Duration = Duration::from_mins(1);

impl Shown {
    fn new(plan: &Plan, visible: bool) -> Self {
        let bar = if visible { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style =
            ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} {prefix} {msg}")
                .expect("the template is right");
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_secs(1));
        let seen = Seen { loss: None, tokens_per_second: None, told: Instant::now() };
        Self { bar, plan: plan.clone(), seen: Mutex::new(seen) }
    }

    fn prepared(&self, progress: &Progress) {
        self.bar.set_length(progress.videos as u64);
        self.bar.set_position(progress.done as u64);
        self.bar.set_prefix("videos");
        let left = FormattedDuration(self.bar.eta());
        self.bar.set_message(format!(
            "{} kept, {} failed, {left} left",
            progress.cached, progress.failed
        ));
        if progress.done == progress.videos {
            tracing::info!(
                videos = progress.videos,
                kept = progress.cached,
                failed = progress.failed,
                pictures = progress.pictures,
                "prepared"
            );
        }
    }

    fn stepped(&self, metric: &Metric) {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Metric { progress, judgement, .. } = metric;
        let before = seen.loss.unwrap_or(progress.loss);
        let loss = before + NEW * (progress.loss - before);
        let before = seen.tokens_per_second.unwrap_or(metric.tokens_per_second);
        let pace = before + f64::from(NEW) * (metric.tokens_per_second - before);
        (seen.loss, seen.tokens_per_second) = (Some(loss), Some(pace));
        let left = FormattedDuration(Duration::from_secs_f64(metric.seconds_left));
        let step = progress.step;
        self.bar.set_length(self.plan.optimiser.steps.get().into());
        self.bar.set_prefix("steps");
        self.bar.set_position(step.into());
        self.bar.set_message(format!("loss {loss:.3}, {pace:.0} tokens/s, {left} left"));
        let due = step.is_multiple_of(self.plan.run.every.get()) || judgement.is_some();
        if due || seen.told.elapsed() > SILENCE {
            let judged = judgement.map(told).unwrap_or_default();
            let (norm, tokens_per_second) = (progress.norm, pace.round());
            tracing::info!(step, loss, norm, tokens_per_second, %left, judged, "learning");
            seen.told = Instant::now();
        }
        if due {
            self.record();
        }
    }

    /// Writes the learning curve and the table of figures. A run is worth more than its record.
    fn record(&self) {
        let folder = &self.plan.run.folder;
        let written = metrics(folder)
            .map_err(|error| chain(&error))
            .and_then(|metrics| record::write(folder, &metrics).map_err(|e| e.to_string()));
        if let Err(error) = written {
            tracing::warn!(folder = %folder.display(), "no learning curve: {error}");
        }
    }
}
