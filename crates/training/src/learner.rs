//! Parameters and their optimiser between two steps: all that a checkpoint holds.

use std::{fs, io, ops::Range, path::Path};

use burn::{optim::GradientsParams, tensor::Device};
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use crate::{
    bundle::{parent, unwritable},
    durable::{remove_folder, sync},
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

/// How the names begin of what lies beside a checkpoint while it is written.
const BESIDE: &str = ".checkpoint-";
/// The checkpoint before, until the new one has its place.
const BEFORE: &str = ".checkpoint-before";

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

    /// The weights as they are now, if all of them are numbers.
    ///
    /// # Errors
    /// [`Error::Ruined`] with the first tensor that is not made of finite numbers.
    pub fn sound_weights(&self) -> Result<Weights> {
        let weights = self.weights();
        let ruined =
            weights.iter().find(|(_, weight)| !weight.values().iter().all(|v| v.is_finite()));
        match ruined {
            Some((name, _)) => {
                Err(Error::Ruined { step: self.step, what: format!("the tensor `{name}`") })
            }
            None => Ok(weights),
        }
    }

    /// Writes all that is needed to go on to `folder`, of which a parent holds one only. It is on the disk when this
    /// returns. Whatever dies meanwhile, [`recover`] finds it whole, or the one before.
    ///
    /// # Errors
    /// [`Error::Ruined`], [`Error::Write`]; what `folder` held before is then still there.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let weights = self.sound_weights()?;
        let parent = parent(folder);
        fs::create_dir_all(parent).map_err(unwritable(parent))?;
        let partial = tempfile::Builder::new().prefix(BESIDE).tempdir_in(parent);
        let partial = partial.map_err(unwritable(folder))?;
        let place = |name| partial.path().join(name);
        weights.write(&place(files::WEIGHTS))?;
        self.optimiser.save(&place(files::OPTIMISER))?;
        fs::write(place(files::STEP), self.step.to_string()).map_err(unwritable(folder))?;
        for name in [files::WEIGHTS, files::OPTIMISER, files::STEP] {
            sync(&place(name)).map_err(unwritable(folder))?;
        }
        sync(partial.path()).and_then(|()| take_place(partial, folder)).map_err(unwritable(folder))
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

/// Puts a whole checkpoint in the place of `folder`. Between the two renames `folder` is not there, but the one before is,
/// beside it.
fn take_place(partial: tempfile::TempDir, folder: &Path) -> io::Result<()> {
    let parent = parent(folder);
    let before = parent.join(BEFORE);
    if folder.exists() {
        remove_folder(&before)?;
        fs::rename(folder, &before)?;
    }
    if let Err(error) = fs::rename(partial.path(), folder) {
        let _ = fs::rename(&before, folder);
        return Err(error);
    }
    let _ = partial.keep();
    sync(parent)?;
    remove_folder(&before)
}

/// Whether there is a checkpoint at `folder`. The one before is put back where a death within [`Learner::save`] left
/// it beside its place; whatever else such deaths left is removed.
///
/// # Errors
/// [`Error::Write`].
pub fn recover(folder: &Path) -> Result<bool> {
    let parent = parent(folder);
    let put_right = || -> io::Result<()> {
        let before = parent.join(BEFORE);
        if !folder.exists() && before.exists() {
            fs::rename(&before, folder)?;
            sync(parent)?;
        }
        for entry in fs::read_dir(parent)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(BESIDE) {
                remove_folder(&entry.path())?;
            }
        }
        Ok(())
    };
    if !parent.exists() {
        return Ok(false);
    }
    put_right().map_err(unwritable(folder))?;
    Ok(folder.exists())
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
