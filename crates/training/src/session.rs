//! A whole run of training: steps, a look at the validation set now and then, checkpoints, and the best weights at the
//! end. What is learnt is behind [`Lessons`].

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    bundle::unwritable,
    durable::{replace, sync},
    error::{Error, Result},
    learner::{Learner, recover},
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
    /// Tokens that were to be written a second of this step, without what was judged and kept meanwhile.
    #[serde(default)]
    pub tokens_per_second: f64,
    /// Seconds that the rest of the run takes if it goes on as it went since it began or was resumed.
    #[serde(default)]
    pub seconds_left: f64,
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
    /// A folder that holds a checkpoint is gone on from, whatever its last run died of. What is written is on the disk
    /// in this order: the history, the checkpoint, the best weights; so these are never those of a step that is not
    /// known yet.
    ///
    /// # Errors
    /// Those of the lessons; [`Error::Ruined`] for weights or a judgement that are no numbers; [`Error::Write`],
    /// [`Error::Read`], [`Error::State`] for the folder. The last checkpoint and the best weights stay.
    pub fn run(
        &self,
        lessons: &mut dyn Lessons,
        told: &mut dyn FnMut(&Metric) -> bool,
    ) -> Result<Ended> {
        let mut best = self.resume(lessons)?;
        let last = self.folder.join(names::LAST);
        let pace = Pace::new(self.steps, lessons.learner().steps());
        while lessons.learner().steps() < self.steps {
            let metric = self.take_step(lessons, &pace)?;
            self.append(&metric)?;
            let stop = told(&metric);
            let due = self.is_due(metric.progress.step);
            if due || stop {
                let history = self.folder.join(names::METRICS);
                sync(&history).map_err(unwritable(&history))?;
                lessons.learner().save(&last)?;
            }
            if due && (metric.judgement.is_none() || improves(best, metric.judgement)) {
                best = metric.judgement.map(|judged| (metric.progress.step, judged)).or(best);
                self.keep_best(lessons.learner())?;
            }
            if stop {
                break;
            }
        }
        Ok(Ended { steps: lessons.learner().steps(), best })
    }

    /// Goes on from the checkpoint, if there is one. The step after which the model was best so far, and how good it
    /// was.
    fn resume(&self, lessons: &mut dyn Lessons) -> Result<Option<(u32, Judgement)>> {
        fs::create_dir_all(&self.folder).map_err(unwritable(&self.folder))?;
        let last = self.folder.join(names::LAST);
        if recover(&last)? {
            lessons.learner_mut().resume(&last)?;
        }
        let steps = lessons.learner().steps();
        let best = self.forget_after(steps)?;
        // A death between the checkpoint and the best weights leaves those of an earlier step.
        let is_best = best.map_or_else(|| self.is_due(steps), |(step, _)| step == steps);
        let learner = lessons.learner();
        if steps > 0 && is_best && self.best().ok() != Some(learner.weights()) {
            self.keep_best(learner)?;
        }
        Ok(best)
    }

    fn is_due(&self, step: u32) -> bool {
        step.is_multiple_of(self.every.get()) || step == self.steps
    }

    /// One step, and how good the model is after it if that is due.
    fn take_step(&self, lessons: &mut dyn Lessons, pace: &Pace) -> Result<Metric> {
        let begun = Instant::now();
        let progress = lessons.step()?;
        let took = begun.elapsed();
        let judgement = if self.is_due(progress.step) { judged(lessons)? } else { None };
        Ok(pace.metric(progress, took, judgement))
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
        let mut metrics = if path.exists() { read_metrics(&path)? } else { Vec::new() };
        metrics.retain(|metric| metric.progress.step <= step);
        let known = metrics.last().map_or(0, |metric| metric.progress.step);
        if known < step {
            // The best weights could be taken for worse than what comes next.
            let problem = format!(
                "it ends with step {known}, and the checkpoint beside it is of step {step}: put the whole file back, or \
                 remove the folder to begin anew"
            );
            return Err(Error::State { path, problem });
        }
        let lines: String = metrics.iter().map(line).collect();
        replace(&path, |path| fs::write(path, lines).map_err(unwritable(path)))?;
        let best = metrics.iter().fold(None, |best, metric| {
            let now = metric.judgement.map(|judgement| (metric.progress.step, judgement));
            if improves(best, metric.judgement) { now } else { best }
        });
        Ok(best)
    }

    fn append(&self, metric: &Metric) -> Result<()> {
        let path = self.folder.join(names::METRICS);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(line(metric).as_bytes())).map_err(unwritable(&path))
    }

    fn keep_best(&self, learner: &Learner) -> Result<()> {
        let weights = learner.sound_weights()?;
        replace(&self.folder.join(names::BEST), |path| weights.write(path))
    }
}

/// How fast a run goes since it began or was resumed.
#[derive(Debug)]
struct Pace {
    begun: Instant,
    /// All steps of the run.
    steps: u32,
    /// Those that were done before.
    before: u32,
}

impl Pace {
    fn new(steps: u32, before: u32) -> Self {
        Self { begun: Instant::now(), steps, before }
    }

    /// The line of a step that took so long.
    fn metric(&self, progress: Progress, took: Duration, judgement: Option<Judgement>) -> Metric {
        let seconds = self.begun.elapsed().as_secs_f64();
        let (done, left) = (progress.step - self.before, self.steps - progress.step);
        #[expect(clippy::cast_precision_loss, reason = "a step has far fewer than 2^52 tokens")]
        let tokens = progress.tokens as f64;
        Metric {
            progress,
            seconds,
            tokens_per_second: tokens / took.as_secs_f64().max(f64::EPSILON),
            seconds_left: seconds / f64::from(done.max(1)) * f64::from(left),
            judgement,
        }
    }
}

/// How good a model is whose weights are numbers; a judgement that is none cannot be kept.
fn judged(lessons: &mut dyn Lessons) -> Result<Option<Judgement>> {
    lessons.learner().sound_weights()?;
    let judgement = lessons.judge()?;
    match judgement {
        Some(judgement) if !judgement.worth().is_finite() => {
            let step = lessons.learner().steps();
            Err(Error::Ruined { step, what: "the validation loss".to_owned() })
        }
        judgement => Ok(judgement),
    }
}

fn improves(best: Option<(u32, Judgement)>, judgement: Option<Judgement>) -> bool {
    judgement.is_some_and(|now| best.is_none_or(|(_, before)| now.worth() > before.worth()))
}

fn line(metric: &Metric) -> String {
    let text = serde_json::to_string(metric).expect("numbers under fixed names are JSON");
    text + "\n"
}

/// All metrics so far of the run that keeps itself in `folder`, by step. A last line that was cut off as it was written
/// is left out: its step will be taken again.
///
/// # Errors
/// [`Error::Read`], and [`Error::State`] for another damaged line.
pub fn metrics(folder: &Path) -> Result<Vec<Metric>> {
    read_metrics(&folder.join(names::METRICS))
}

fn read_metrics(path: &Path) -> Result<Vec<Metric>> {
    let bytes = fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let lines = bytes[..whole].split_inclusive(|&byte| byte == b'\n');
    let metric = |(number, line): (usize, &[u8])| {
        serde_json::from_slice(line).map_err(|error| Error::State {
            path: path.to_owned(),
            problem: format!("line {number}: {error}"),
        })
    };
    (1..).zip(lines).map(metric).collect()
}

#[cfg(test)]
mod tests;
