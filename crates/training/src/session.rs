//! A whole run of training: steps, scores on the validation set now and then, checkpoints, and the best model at the end.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use eventide_model::{
    bundle::Bundle,
    manifest::{Decoding, Manifest},
    runtime::{Runtime, SessionOptions},
    vid2seq::Vid2Seq,
};
use serde::{Deserialize, Serialize};

use crate::{
    bundle::write_bundle,
    error::{Error, Result},
    graph::Style,
    trainer::{Progress, Sample, Shown, Trainer},
    validation::{Scores, predict, scores},
    weights::Weights,
};

/// Names in the folder of a run.
mod names {
    pub(super) const LAST: &str = "last";
    pub(super) const BEST: &str = "best.safetensors";
    pub(super) const METRICS: &str = "metrics.ndjson";
    pub(super) const TRIAL: &str = "trial";
}

/// One line of a run's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The step.
    #[serde(flatten)]
    pub progress: Progress,
    /// Seconds since the run began or was resumed.
    pub seconds: f64,
    /// Scores on the validation set, where it was looked at after this step.
    #[serde(flatten)]
    pub scores: Option<Scores>,
}

/// What a run needs beside its trainer.
#[derive(Debug)]
pub struct Session<'a> {
    /// The whole model's weights, of which the trainer learns a part.
    pub weights: Weights,
    /// What the model is.
    pub manifest: &'a Manifest,
    /// Its tokenizer's file.
    pub tokenizer: &'a [u8],
    /// What runs it for validation.
    pub runtime: &'a Runtime,
    /// Where checkpoints and metrics go.
    pub folder: PathBuf,
    /// Steps from one look at the validation set, and one checkpoint, to the next.
    pub every: NonZeroU32,
    /// How the validation set is decoded.
    pub decoding: Decoding,
    /// What the model is shown of it.
    pub shown: Shown,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ended {
    /// Steps done.
    pub steps: u32,
    /// The best scores and the step that had them.
    pub best: Option<(u32, Scores)>,
}

impl Session<'_> {
    /// Trains to the end of the schedule, `steps` in all, or until `told` says to stop.
    ///
    /// A folder that holds a checkpoint is gone on from. `told` hears of every step.
    ///
    /// # Errors
    /// Those of [`Trainer::step`], [`Learner::save`](crate::learner::Learner::save) and [`predict`]. The last
    /// checkpoint and the best weights stay.
    pub fn run(
        &self,
        trainer: &mut Trainer<'_>,
        steps: u32,
        training: &[Sample],
        validation: &[Sample],
        told: &mut dyn FnMut(&Metric) -> bool,
    ) -> Result<Ended> {
        fs::create_dir_all(&self.folder).map_err(|source| unwritable(&self.folder, source))?;
        let last = self.folder.join(names::LAST);
        if last.exists() {
            trainer.learner_mut().resume(&last)?;
        }
        let mut best = self.forget_after(trainer.learner().steps())?;
        let begun = std::time::Instant::now();
        while trainer.learner().steps() < steps {
            let progress = trainer.step(training)?;
            let due = progress.step.is_multiple_of(self.every.get()) || progress.step == steps;
            let looked_at = due && !validation.is_empty();
            let scores = looked_at.then(|| self.validate(trainer, validation)).transpose()?;
            if let Some(scores) = scores
                && best.is_none_or(|(_, before)| scores.better_than(&before))
            {
                best = Some((progress.step, scores));
                self.keep_best(trainer)?;
            }
            let metric = Metric { progress, seconds: begun.elapsed().as_secs_f64(), scores };
            self.append(&metric)?;
            let stop = told(&metric);
            if due || stop {
                trainer.learner().save(&last)?;
            }
            if stop {
                break;
            }
        }
        if validation.is_empty() {
            self.keep_best(trainer)?;
        }
        Ok(Ended { steps: trainer.learner().steps(), best })
    }

    /// The whole model as it was at its best.
    ///
    /// # Errors
    /// [`Error::Read`] if the run has not come so far.
    pub fn best(&self) -> Result<Weights> {
        let mut weights = self.weights.clone();
        weights.extend(Weights::read(&self.folder.join(names::BEST))?);
        Ok(weights)
    }

    /// All metrics of the run so far, by step.
    ///
    /// # Errors
    /// [`Error::Read`], and [`Error::State`] for a damaged line.
    pub fn metrics(&self) -> Result<Vec<Metric>> {
        read_metrics(&self.folder.join(names::METRICS))
    }

    /// Drops metrics of steps after `step`, which will be taken again. The best scores of the others.
    fn forget_after(&self, step: u32) -> Result<Option<(u32, Scores)>> {
        let path = self.folder.join(names::METRICS);
        if !path.exists() {
            return Ok(None);
        }
        let mut metrics = read_metrics(&path)?;
        metrics.retain(|metric| metric.progress.step <= step);
        let lines: Vec<String> = metrics.iter().map(line).collect();
        fs::write(&path, lines.concat()).map_err(|source| unwritable(&path, source))?;
        let mut best: Option<(u32, Scores)> = None;
        for metric in metrics {
            if let Some(scores) = metric.scores
                && best.is_none_or(|(_, before)| scores.better_than(&before))
            {
                best = Some((metric.progress.step, scores));
            }
        }
        Ok(best)
    }

    fn append(&self, metric: &Metric) -> Result<()> {
        let path = self.folder.join(names::METRICS);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(line(metric).as_bytes()))
            .map_err(|source| unwritable(&path, source))
    }

    fn keep_best(&self, trainer: &Trainer<'_>) -> Result<()> {
        let (path, partial) =
            (self.folder.join(names::BEST), self.folder.join(format!(".{}", names::BEST)));
        trainer.learner().weights().write(&partial)?;
        fs::rename(&partial, &path).map_err(|source| unwritable(&path, source))
    }

    /// What the model would say now, as it will be run: through its graphs.
    fn validate(&self, trainer: &Trainer<'_>, samples: &[Sample]) -> Result<Scores> {
        let mut weights = self.weights.clone();
        weights.extend(trainer.learner().weights());
        let folder = self.folder.join(names::TRIAL);
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|source| unwritable(&folder, source))?;
        }
        write_bundle(&folder, self.manifest, &weights, self.tokenizer, Style::Fused)?;
        let bundle = Bundle::open(&folder)?;
        let mut model = Vid2Seq::load(&bundle, self.runtime, &SessionOptions::default())?;
        let predicted = predict(&mut model, samples, self.shown, &self.decoding)?;
        fs::remove_dir_all(&folder).map_err(|source| unwritable(&folder, source))?;
        scores(&predicted, samples)
    }
}

fn line(metric: &Metric) -> String {
    let text = serde_json::to_string(metric).expect("numbers under fixed names are JSON");
    text + "\n"
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
