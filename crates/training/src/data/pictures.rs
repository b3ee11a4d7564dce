//! The pictures of a video that a model looks at, decoded by `media` and chosen by `pipeline`, as when a
//! model captions it: the whole video is the window.

use std::path::Path;

use eventide_media::{Error::InvalidRequest, Media, Probe};
use eventide_model::manifest::FrameRule;
use eventide_pipeline::sample;
use eventide_schema::TimeSpan;
use ndarray::Array4;

use super::{
    cache::{Pictures, Rows},
    error::{Error, Result},
};

/// Which pictures of a video are wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// Width and height in pixels.
    pub size: u32,
    /// Which seconds. More than a model looks at are of use where examples are cropped.
    pub rule: FrameRule,
}

/// The pictures of a video. Blocks.
///
/// # Errors
/// [`Error::Video`] if it cannot be read, [`Error::Wait`].
pub fn pictures(media: &Media, file: &Path, look: &Look) -> Result<Pictures> {
    let seen = |source| Error::Video { path: file.to_owned(), source };
    let (probe, sampled) = wait(async {
        let probe = probe(media, file).await?;
        let window = TimeSpan::new(0, probe.duration_us);
        let sampled = sample(media, file, &probe, window, look.size, &look.rule).await?;
        Ok((probe, sampled))
    })?
    .map_err(seen)?;
    let side = look.size as usize;
    let frames = sampled.frames;
    let shape = (frames.slots.len(), side, side, 3);
    let values = Array4::from_shape_vec(shape, frames.pixels)
        .map_err(|_| seen(InvalidRequest { what: "its pictures are not of the size asked for" }))?;
    Ok(Rows { values, slots: frames.slots, wanted: sampled.slots, duration_us: probe.duration_us })
}

/// How long a video is, in microseconds. Blocks.
///
/// # Errors
/// [`Error::Video`] if it cannot be read, [`Error::Wait`].
pub fn duration_us(media: &Media, file: &Path) -> Result<i64> {
    let probed = wait(probe(media, file))?;
    Ok(probed.map_err(|source| Error::Video { path: file.to_owned(), source })?.duration_us)
}

async fn probe(media: &Media, file: &Path) -> Result<Probe, eventide_media::Error> {
    let probe = media.probe(file).await?.value;
    probe.require_video(file)?;
    Ok(probe)
}

/// Waits on this thread.
fn wait<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(Error::Wait)?.block_on(work))
}
