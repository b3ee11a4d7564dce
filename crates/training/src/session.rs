//! A whole run of training: steps, a look at the validation set now and then, checkpoints, and the best weights at the
//! end. What is learnt is behind [`Lessons`].

use std::{
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    learner::Learner,
    trainer::Progress,
    validation::Scores,
    weights::Weights,
};

/// Names in the folder of a run.
mod names {
    pub(super) const LAST: &str = "last";
    pub(super) const BEST: &str = "best.safetensors";
    pub(super) const METRICS: &str = "metrics.ndjson";
}

/// What a run goes through.
pub trait Lessons {
    /// Takes the next step.
    ///
    /// # Errors
    /// [`Error::Diverged`] and others, after which nothing was changed.
    fn step(&mut self) -> Result<Progress>;

    /// What is learnt, and how far.
    fn learner(&self) -> &Learner;

    /// The same, to go on from a checkpoint.
    fn learner_mut(&mut self) -> &mut Learner;

    /// How good the model is now; `None` where there is nothing to judge it on.
    ///
    /// # Errors
    /// Where the model cannot be run.
    fn judge(&mut self) -> Result<Option<Judgement>>;
}

/// How good a model was on the validation set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Judgement {
    /// A model that tells events.
    Events(Scores),
    /// A model that writes speech or sees: one number.
    Other {
        /// Mean loss on the validation set, or 1 less the share of pictures that find their caption.
        loss: f64,
    },
}

impl Judgement {
    /// More is better. `SODA_c` for events, since it takes places and captions together.
    fn worth(self) -> f64 {
        match self {
            Self::Events(scores) => scores.soda_c,
            Self::Other { loss } => -loss,
        }
    }
}

/// One line of a run's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The step.
    #[serde(flatten)]
    pub progress: Progress,
    /// Seconds since the run began or was resumed.
    pub seconds: f64,
    /// How good the model was after this step, where that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judgement: Option<Judgement>,
}

/// A run, and where it keeps itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Where checkpoints and metrics go.
    pub folder: PathBuf,
    /// Steps from one look at the validation set, and one checkpoint, to the next.
    pub every: NonZeroU32,
    /// All steps.
    pub steps: u32,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ended {
    /// Steps done.
    pub steps: u32,
    /// The step after which the model was best, and how good it was.
    pub best: Option<(u32, Judgement)>,
}

impl Session {
    /// Goes through all lessons, or until `told`, which hears of every step, says to stop.
    ///
    /// A folder that holds a checkpoint is gone on from.
    ///
    /// # Errors
    /// Those of the lessons, and [`Error::Write`], [`Error::Read`], [`Error::State`] for the folder. The last
    /// checkpoint and the best weights stay.
    pub fn run(
        &self,
        lessons: &mut dyn Lessons,
        told: &mut dyn FnMut(&Metric) -> bool,
    ) -> Result<Ended> {
        fs::create_dir_all(&self.folder).map_err(|source| unwritable(&self.folder, source))?;
        let last = self.folder.join(names::LAST);
        if last.exists() {
            lessons.learner_mut().resume(&last)?;
        }
        let mut best = self.forget_after(lessons.learner().steps())?;
        let begun = std::time::Instant::now();
        while lessons.learner().steps() < self.steps {
            let progress = lessons.step()?;
            let due = progress.step.is_multiple_of(self.every.get()) || progress.step == self.steps;
            let judgement = if due { lessons.judge()? } else { None };
            if improves(best, judgement) || (due && judgement.is_none()) {
                best = judgement.map(|judgement| (progress.step, judgement)).or(best);
                self.keep_best(lessons.learner())?;
            }
            let metric = Metric { progress, seconds: begun.elapsed().as_secs_f64(), judgement };
            self.append(&metric)?;
            let stop = told(&metric);
            if due || stop {
                lessons.learner().save(&last)?;
            }
            if stop {
                break;
            }
        }
        Ok(Ended { steps: lessons.learner().steps(), best })
    }

    /// The weights that were learnt, as they were at their best.
    ///
    /// # Errors
    /// [`Error::Read`] if the run has not come so far.
    pub fn best(&self) -> Result<Weights> {
        Weights::read(&self.folder.join(names::BEST))
    }

    /// Drops metrics of steps after `step`, which will be taken again. The best scores of the others.
    fn forget_after(&self, step: u32) -> Result<Option<(u32, Judgement)>> {
        let path = self.folder.join(names::METRICS);
        if !path.exists() {
            return Ok(None);
        }
        let mut metrics = read_metrics(&path)?;
        metrics.retain(|metric| metric.progress.step <= step);
        let lines: Vec<String> = metrics.iter().map(line).collect();
        fs::write(&path, lines.concat()).map_err(|source| unwritable(&path, source))?;
        let best = metrics.iter().fold(None, |best, metric| {
            let now = metric.judgement.map(|judgement| (metric.progress.step, judgement));
            if improves(best, metric.judgement) { now } else { best }
        });
        Ok(best)
    }

    fn append(&self, metric: &Metric) -> Result<()> {
        let path = self.folder.join(names::METRICS);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(line(metric).as_bytes()))
            .map_err(|source| unwritable(&path, source))
    }

    fn keep_best(&self, learner: &Learner) -> Result<()> {
        let (path, partial) =
            (self.folder.join(names::BEST), self.folder.join(format!(".{}", names::BEST)));
        learner.weights().write(&partial)?;
        fs::rename(&partial, &path).map_err(|source| unwritable(&path, source))
    }
}

fn improves(best: Option<(u32, Judgement)>, judgement: Option<Judgement>) -> bool {
    judgement.is_some_and(|now| best.is_none_or(|(_, before)| now.worth() > before.worth()))
}

fn line(metric: &Metric) -> String {
    let text = serde_json::to_string(metric).expect("numbers under fixed names are JSON");
    text + "\n"
}

/// All metrics so far of the run that keeps itself in `folder`, by step.
///
/// # Errors
/// [`Error::Read`], and [`Error::State`] for a damaged line.
pub fn metrics(folder: &Path) -> Result<Vec<Metric>> {
    read_metrics(&folder.join(names::METRICS))
}

fn read_metrics(path: &Path) -> Result<Vec<Metric>> {
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(unreadable)?;
    let lines = BufReader::new(file).lines();
    let metric = |line: std::io::Result<String>| {
        serde_json::from_str(&line.map_err(unreadable)?)
            .map_err(|error| Error::State { path: path.to_owned(), problem: error.to_string() })
    };
    lines.map(metric).collect()
}

fn unwritable(path: &Path, source: std::io::Error) -> Error {
    Error::Write { path: path.to_owned(), source }
}
