//! Parameters and their optimiser between two steps: all that a checkpoint holds.

use std::{fs, ops::Range, path::Path};

use burn::{optim::GradientsParams, tensor::Device};
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use crate::{
    error::{Error, Result},
    optimiser::Optimiser,
    parameters::Parameters,
    weights::Weights,
};

/// Names of files in a checkpoint.
mod files {
    pub(super) const WEIGHTS: &str = "weights.safetensors";
    pub(super) const OPTIMISER: &str = "optimiser.bpk";
    pub(super) const STEP: &str = "step";
}

/// What is learnt, and how far.
#[derive(Debug)]
pub struct Learner {
    device: Device,
    parameters: Parameters,
    optimiser: Optimiser,
    step: u32,
}

impl Learner {
    /// Begins with `weights`. `device` keeps gradients.
    #[must_use]
    pub fn new(weights: &Weights, device: &Device, beta_2: f32, clip: f32) -> Self {
        Self {
            device: device.clone(),
            parameters: Parameters::new(weights, device),
            optimiser: Optimiser::new(beta_2, clip),
            step: 0,
        }
    }

    /// Steps done.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.step
    }

    /// The weights as they are now.
    #[must_use]
    pub fn weights(&self) -> Weights {
        self.parameters.weights()
    }

    /// The parameters.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The parameters, to be changed between two steps.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// Random numbers of this step, the same whenever it is taken.
    #[must_use]
    pub fn numbers(&self, seed: u64) -> StdRng {
        StdRng::seed_from_u64(seed ^ u64::from(self.step).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// Adds the gradients of a part of the step's loss.
    pub fn accumulate(&mut self, gradients: GradientsParams) {
        self.optimiser.accumulate(&self.parameters, gradients);
    }

    /// Steps by what was accumulated; `loss` is its value. The norm of the gradients before clipping.
    ///
    /// # Errors
    /// [`Error::Diverged`], after which nothing is changed.
    pub fn step(&mut self, loss: f32, rate: f64) -> Result<f32> {
        if !loss.is_finite() {
            return Err(Error::Diverged { step: self.step, loss, norm: f32::NAN });
        }
        let norm = self.optimiser.step(&mut self.parameters, rate);
        if !norm.is_finite() {
            return Err(Error::Diverged { step: self.step, loss, norm });
        }
        self.step += 1;
        Ok(norm)
    }

    /// Writes all that is needed to go on to `folder`, which appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::Write`] and [`Error::State`]; what `folder` held before is then still there.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let unwritable = |source| Error::Write { path: folder.to_owned(), source };
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(parent).map_err(unwritable)?;
        let partial = tempfile::Builder::new()
            .prefix(".checkpoint-")
            .tempdir_in(parent)
            .map_err(unwritable)?;
        self.weights().write(&partial.path().join(files::WEIGHTS))?;
        self.optimiser.save(&partial.path().join(files::OPTIMISER))?;
        fs::write(partial.path().join(files::STEP), self.step.to_string()).map_err(unwritable)?;
        // Between the two renames the folder is not there, but the one before is.
        let before = parent.join(".checkpoint-before");
        match fs::rename(folder, &before) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(unwritable(error));
            }
            Ok(()) | Err(_) => (),
        }
        fs::rename(partial.path(), folder).map_err(unwritable)?;
        let _ = partial.keep();
        match fs::remove_dir_all(before) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unwritable(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Goes on from what [`Learner::save`] wrote, of a run with the same settings.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::State`], [`Error::Safetensors`]; [`Error::Missing`] and the like if it is of
    /// another model.
    pub fn resume(&mut self, folder: &Path) -> Result<()> {
        let weights = Weights::read(&folder.join(files::WEIGHTS))?;
        weights.check_same(&self.parameters.weights())?;
        let path = folder.join(files::STEP);
        let step = fs::read_to_string(&path)
            .map_err(|source| Error::Read { path: path.clone(), source })?;
        let step = step.trim().parse().map_err(|error: std::num::ParseIntError| Error::State {
            path,
            problem: error.to_string(),
        })?;
        self.optimiser.load(&folder.join(files::OPTIMISER))?;
        self.parameters = Parameters::new(&weights, &self.device);
        self.step = step;
        Ok(())
    }
}

/// Which of `count` examples come at these places of a run: every epoch takes all of them once, in an order of its own.
pub(crate) fn in_turn(
    places: Range<usize>,
    count: usize,
    seed: u64,
) -> impl Iterator<Item = usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut epoch = None;
    places.map(move |place| {
        if epoch != Some(place / count) {
            epoch = Some(place / count);
            order.sort_unstable();
            let seed = seed.wrapping_add(1 + (place / count) as u64);
            order.shuffle(&mut StdRng::seed_from_u64(seed));
        }
        order[place % count]
    })
}
