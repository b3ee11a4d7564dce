//! The sound of a video as recognisers take it, piece by piece.

use std::{ffi::OsString, path::Path};

use tokio::sync::mpsc;

use crate::{
    AudioStream, Error, Limits, Probe, Tools,
    child::{self, Budget, Launch, Overflow},
    probe,
};

/// Samples a second of the sound that is given out; there is one channel.
pub const SAMPLE_RATE: u32 = 16_000;
/// Bytes of a sample.
const SAMPLE: usize = size_of::<f32>();
/// Microseconds that the sound may end before its header says: encoders pad, and headers round.
const SLACK_US: i64 = 1_000_000;
/// Packets that may be lost without a word, a fifth of a second or so: a recording of a broadcast begins in the
/// middle of one, and what ends some files is no sound.
const FEW_PACKETS: usize = 9;
/// What FFmpeg says of a packet that cannot be decoded, before version 6 and since.
const LOST_PACKET: [&str; 2] =
    ["Error while decoding stream", "Error submitting packet to decoder"];
/// What it says where it goes on behind a part of the file that makes no sense, in Matroska and Ogg: seconds of sound
/// may lie there.
const BROKEN_FILE: [&str; 3] = [
    "exceeds containing master element",
    "invalid as first byte of an EBML number",
    "CRC mismatch",
];

/// Sends the sound of stream `index` through `pieces`. The answer says what is wrong where a part of it is lost.
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
) -> Result<Option<Error>, Error> {
    let stream = probe.audio.iter().find(|stream| stream.index == index);
    let no_sound = || Error::NoSound { file: child::name(file), stream: index };
    let stream = stream.ok_or_else(no_sound)?;
    let launch = Launch { tool: &tools.ffmpeg, file, arguments: arguments(file, probe, index)? };
    let most = most_bytes(limits, probe);
    let mut left = most;
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
                return Err(Overflow::Bytes(most));
            }
            // Whoever listened has given up, and drops the future that runs this; there is no more
            // to be done.
            let _ = pieces.send(samples).await;
            Ok(())
        });
        later
    };
    let (mut lost, mut broken) = (0, None);
    let mut messages = |line: &str| {
        lost += usize::from(says(line, &LOST_PACKET));
        broken = broken.take().or_else(|| says(line, &BROKEN_FILE).then(|| child::one_line(line)));
    };
    let exit = child::run_slowly(launch, limits, budget, &mut output, &mut messages).await?;
    if let Some(error) = exit.broken_limit(file, limits) {
        return Err(error);
    }
    let heard = most - left;
    let damaged = |detail| Error::DamagedSound { file: child::name(file), detail };
    if !exit.is_success() && heard == 0 {
        return Err(damaged(exit.detail()));
    }
    // What breaks off is heard as far as it goes.
    let heard_us = i64::try_from(heard / SAMPLE * 125 / 2).unwrap_or(i64::MAX);
    Ok(loss(probe, stream, heard_us, lost)
        .or(broken)
        .or_else(|| (!exit.is_success()).then(|| exit.detail()))
        .map(damaged))
}

fn says(line: &str, what: &[&str]) -> bool {
    what.iter().any(|words| line.contains(words))
}

/// What is lost of a sound of which so much was heard, and of which so many packets were not: `None` where it
/// is nothing to speak of.
fn loss(probe: &Probe, stream: &AudioStream, heard_us: i64, lost: usize) -> Option<String> {
    if lost > FEW_PACKETS {
        return Some(format!("{lost} pieces of it cannot be decoded"));
    }
    // Sound that goes on behind the last picture is not asked for; pictures may be cut off, too.
    let pictures_us = probe.claimed_us.map_or(probe.duration_us, |us| us.max(probe.duration_us));
    let claimed_us = match &probe.video {
        Some(_) => stream.claimed_end_us?.min(pictures_us),
        None => stream.claimed_end_us?,
    };
    let tenths = |us: i64| format!("{}.{} s", us / 1_000_000, us / 100_000 % 10);
    (heard_us + SLACK_US < claimed_us)
        .then(|| format!("it breaks off at {} of {}", tenths(heard_us), tenths(claimed_us)))
}

fn arguments(file: &Path, probe: &Probe, index: u32) -> Result<Vec<OsString>, Error> {
    let mut arguments = probe::guarded();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&["-nostdin", "-nostats", "-v", "level+error", "-vn", "-sn", "-dn", "-copyts", "-i"]);
    arguments.push(child::input(file)?);
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    let (map, start) = (format!("0:{index}"), seconds(probe.start_us));
    let end = length(probe).map_or_else(String::new, |us| format!(",atrim=end={}", seconds(us)));
    let filter = format!(
        "asetpts=PTS-({start})/TB,aresample={SAMPLE_RATE}:async=1:first_pts=0,\
         aformat=sample_fmts=flt:channel_layouts=mono{end}"
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

/// The length of the sound, in microseconds; `None` where a file that is sound alone does not say.
fn length(probe: &Probe) -> Option<i64> {
    (probe.video.is_some() || probe.duration_us > 0).then_some(probe.duration_us)
}

/// Bytes of a sound that is as long as the video, and a second more; of the longest one where nobody knows.
fn most_bytes(limits: &Limits, probe: &Probe) -> usize {
    let longest = || i64::try_from(limits.length.as_micros()).unwrap_or(i64::MAX);
    let us = u64::try_from(length(probe).unwrap_or_else(longest)).unwrap_or_default();
    let samples = us.saturating_add(1_000_000).saturating_mul(SAMPLE_RATE.into()) / 1_000_000;
    usize::try_from(samples).unwrap_or(usize::MAX).saturating_mul(SAMPLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::five_one("[error] Error while decoding stream #0:1: Invalid data found", true, false)]
    #[case::seven(
        "[aist#0:1/aac @ 0x5] [dec:aac @ 0x6] [error] Error submitting packet to decoder: Invalid data",
        true,
        false
    )]
    #[case::a_tag_behind_the_sound("[mp3float @ 0x5] [error] Header missing", false, false)]
    #[case::matroska(
        "[matroska,webm @ 0x5] [error] Element at 0x12c ending at 0x6fff exceeds containing master element ending at 0x500",
        false,
        true
    )]
    #[case::ogg("[ogg @ 0x5] [error] CRC mismatch!", false, true)]
    fn what_is_lost_is_told(#[case] line: &str, #[case] packet: bool, #[case] file: bool) {
        assert_eq!((says(line, &LOST_PACKET), says(line, &BROKEN_FILE)), (packet, file));
    }
}
