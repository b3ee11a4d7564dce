//! Bytes to pictures and subtitles, and drawn pictures to a file ([`encode`]). FFmpeg does the
//! decoding, always as a sandboxed child process.
//!
//! What comes in is hostile until shown otherwise. So no decoder runs in this process: each look
//! at a file is a child with no network, no file but that one, no way to write, and limits on
//! processor time, memory, wall time and output ([`Limits`], [`Sandbox`]). Each thing that can go
//! wrong has a name ([`Error::reason_code`]).
//!
//! The pictures are those of the reference program, byte for byte: one a second ([`slots`]), short
//! side scaled, centre cropped. This room knows no model: the caller says which slots it wants.

mod child;
mod cues;
pub mod encode;
mod error;
mod frames;
mod grid;
mod limits;
mod pictures;
mod probe;
mod sandbox;
mod sidecar;
mod sound;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use eventide_schema::Transcript;
use tokio::sync::mpsc;

pub use error::Error;
pub use frames::{Exactness, FrameRequest, Frames};
pub use grid::slots;
pub use limits::{Limits, Tools, Versions};
pub use probe::{AudioStream, Probe, SubtitleStream, VideoStream};
pub use sandbox::{Force, Sandbox, SandboxReport};
pub use sidecar::parse_sidecar;
pub use sound::SAMPLE_RATE;

use child::Budget;

/// A result, and the processor time that its child processes took.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured<T> {
    /// The result.
    pub value: T,
    /// User and system time of the children, in milliseconds.
    pub core_ms: u64,
}

/// Reads media files through sandboxed children. Cheap to clone; clones share one meter.
///
/// Every method waits for children and computes next to nothing itself. Dropping a future kills
/// the process group of the child that it waits for.
#[derive(Debug, Clone)]
pub struct Media {
    tools: Tools,
    limits: Limits,
    spent_us: Arc<AtomicU64>,
}

impl Media {
    /// A reader with these tools and limits, and a meter at zero.
    #[must_use]
    pub fn new(tools: Tools, limits: Limits) -> Self {
        Self { tools, limits, spent_us: Arc::default() }
    }

    /// The same reader with a meter of its own, at zero: one a video tells what that video cost.
    #[must_use]
    pub fn metered(&self) -> Self {
        Self::new(self.tools.clone(), self.limits.clone())
    }

    /// Processor time in milliseconds of all children of this meter that have ended, those whose
    /// work failed or was dropped included.
    #[must_use]
    pub fn core_ms(&self) -> u64 {
        self.spent_us.load(Ordering::Relaxed) / 1000
    }

    /// The limits on each call.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What is in `file`: its streams, and when its pictures are shown.
    ///
    /// Reads the whole file once, without decoding it, so that a header that lies about the
    /// length does no harm. A file without pictures is no error here: see
    /// [`Probe::require_video`].
    ///
    /// # Errors
    /// [`Error::EmptyFile`], [`Error::Read`], [`Error::Damaged`],
    /// [`Error::UnsupportedContainer`], [`Error::TooManyPictures`], [`Error::TooLong`], and what
    /// any child may end with: [`Error::Deadline`], [`Error::CpuLimit`], [`Error::MemoryLimit`],
    /// [`Error::OutputLimit`], [`Error::Crashed`], [`Error::Spawn`].
    pub async fn probe(&self, file: &Path) -> Result<Measured<Probe>, Error> {
        let mut budget = self.budget();
        let value = probe::probe(&self.tools, &self.limits, &mut budget, file).await?;
        Ok(budget.measured(value))
    }

    /// The pictures of the wanted slots, scaled and cropped.
    ///
    /// # Errors
    /// [`Error::NoVideoStream`], [`Error::TooManyPixels`], [`Error::InvalidRequest`],
    /// [`Error::NoFrames`] where not one wanted slot has its picture, and what any child may end
    /// with (see [`Media::probe`]).
    pub async fn frames(
        &self,
        file: &Path,
        probe: &Probe,
        request: &FrameRequest<'_>,
    ) -> Result<Measured<Frames>, Error> {
        let mut budget = self.budget();
        let value =
            frames::frames(&self.tools, &self.limits, &mut budget, file, probe, request).await?;
        Ok(budget.measured(value))
    }

    /// The words of subtitle stream `index` of the container.
    ///
    /// Times count from the first picture, as all times of a video do.
    ///
    /// # Errors
    /// [`Error::UnsupportedSubtitles`] where there is no such stream or it holds pictures of
    /// text, [`Error::DamagedSubtitles`], and what any child may end with (see [`Media::probe`]).
    pub async fn embedded_cues(
        &self,
        file: &Path,
        probe: &Probe,
        index: u32,
    ) -> Result<Measured<Transcript>, Error> {
        let mut budget = self.budget();
        let value =
            cues::embedded(&self.tools, &self.limits, &mut budget, file, probe, index).await?;
        Ok(budget.measured(value))
    }

    /// Sends the sound of stream `index` of the container through `pieces`: 16 kHz, one channel, from
    /// the first picture to the last. The decoder waits while `pieces` is full, so `wall` is how long
    /// that may take in all; the other limits are those of every call. What is damaged or breaks off is heard
    /// as far as it goes: the answer is the [`Error::DamagedSound`] that tells of it, `None` for a sound that is
    /// whole as far as can be told. A loss of less than a second is not told.
    ///
    /// # Errors
    /// [`Error::NoSound`] where there is no such stream, [`Error::DamagedSound`] where nothing of it
    /// can be decoded, and what any child may end with (see [`Media::probe`]).
    pub async fn sound(
        &self,
        file: &Path,
        probe: &Probe,
        index: u32,
        wall: Duration,
        pieces: mpsc::Sender<Vec<f32>>,
    ) -> Result<Measured<Option<Error>>, Error> {
        let limits = Limits { wall, ..self.limits.clone() };
        let mut budget = Budget::new(&limits, Arc::clone(&self.spent_us));
        let sounding =
            sound::sound(&self.tools, &limits, &mut budget, (file, probe), index, pieces);
        let damage = sounding.await?;
        Ok(budget.measured(damage))
    }

    fn budget(&self) -> Budget {
        Budget::new(&self.limits, Arc::clone(&self.spent_us))
    }
}

/// Microseconds of `duration`, at most `u64::MAX`.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
