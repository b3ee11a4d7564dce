//! The sound of a video as recognisers take it, piece by piece.

use std::{ffi::OsString, path::Path};

use tokio::sync::mpsc;

use crate::{
    Error, Limits, Probe, Tools,
    child::{self, Budget, Launch, Overflow},
    probe,
};

/// Samples a second of the sound that is given out; there is one channel.
pub const SAMPLE_RATE: u32 = 16_000;
/// Bytes of a sample.
const SAMPLE: usize = size_of::<f32>();

/// Sends the sound of stream `index` through `pieces`.
///
/// Silence stands where there is none: the first sample is that of the first picture, and the sound
/// is not longer than the video.
pub(crate) async fn sound(
    tools: &Tools,
    limits: &Limits,
    budget: &mut Budget,
    (file, probe): (&Path, &Probe),
    index: u32,
    pieces: mpsc::Sender<Vec<f32>>,
) -> Result<(), Error> {
    if !probe.audio.iter().any(|stream| stream.index == index) {
        return Err(Error::NoSound { file: child::name(file), stream: index });
    }
    let launch = Launch { tool: &tools.ffmpeg, file, arguments: arguments(file, probe, index)? };
    let mut left = most_bytes(probe);
    let mut part = Vec::new();
    let mut output = |bytes: &[u8]| {
        let over = bytes.len() > left;
        left -= bytes.len().min(left);
        part.extend_from_slice(bytes);
        let whole = part.len() / SAMPLE * SAMPLE;
        let samples: Vec<f32> =
            part[..whole].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        part.drain(..whole);
        let pieces = pieces.clone();
        let later: child::Later = Box::pin(async move {
            if over {
                return Err(Overflow::Bytes(most_bytes(probe)));
            }
            // Whoever listened has given up, and drops the future that runs this; there is no more
            // to be done.
            let _ = pieces.send(samples).await;
            Ok(())
        });
        later
    };
    let exit = child::run_slowly(launch, limits, budget, &mut output, &mut |_| ()).await?;
    if let Some(error) = exit.broken_limit(file, limits) {
        return Err(error);
    }
    let heard = left < most_bytes(probe);
    if exit.is_success() || heard {
        // A stream that breaks off is heard as far as it goes.
        return Ok(());
    }
    Err(Error::DamagedSound { file: child::name(file), detail: exit.detail() })
}

fn arguments(file: &Path, probe: &Probe, index: u32) -> Result<Vec<OsString>, Error> {
    let mut arguments = probe::guarded();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&["-nostdin", "-nostats", "-v", "level+error", "-vn", "-sn", "-dn", "-copyts", "-i"]);
    arguments.push(child::input(file)?);
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    let (map, start) = (format!("0:{index}"), seconds(probe.start_us));
    let filter = format!(
        "asetpts=PTS-({start})/TB,aresample={SAMPLE_RATE}:async=1:first_pts=0,\
         aformat=sample_fmts=flt:channel_layouts=mono,atrim=end={}",
        seconds(probe.duration_us)
    );
    add(&["-map", &map, "-af", &filter, "-f", "f32le", "pipe:1"]);
    Ok(arguments)
}

/// Seconds as FFmpeg reads them, exact to the microsecond.
fn seconds(us: i64) -> String {
    let sign = if us < 0 { "-" } else { "" };
    let us = us.unsigned_abs();
    format!("{sign}{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// Bytes of a sound that is as long as the video, and a second more.
fn most_bytes(probe: &Probe) -> usize {
    let us = u64::try_from(probe.duration_us).unwrap_or_default() + 1_000_000;
    let samples = us.saturating_mul(SAMPLE_RATE.into()) / 1_000_000;
    usize::try_from(samples).unwrap_or(usize::MAX).saturating_mul(SAMPLE)
}
