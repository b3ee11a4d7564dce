//! The words of a subtitle stream inside a container.

use std::{ffi::OsString, path::Path};

use eventide_schema::{SidecarFormat, Transcript, TranscriptSource};

use crate::{
    Error, Limits, Probe, Tools,
    child::{self, Budget, Launch},
    probe, sidecar,
};

/// Codecs that FFmpeg turns into plain timed text.
const TEXT: [&str; 13] = [
    "subrip",
    "srt",
    "webvtt",
    "mov_text",
    "ass",
    "ssa",
    "text",
    "microdvd",
    "mpl2",
    "sami",
    "subviewer",
    "realtext",
    "stl",
];

/// Whether subtitles of this codec are text.
pub(crate) fn is_text(codec: &str) -> bool {
    TEXT.contains(&codec)
}

pub(crate) async fn embedded(
    tools: &Tools,
    limits: &Limits,
    budget: &mut Budget,
    file: &Path,
    probe: &Probe,
    index: u32,
) -> Result<Transcript, Error> {
    let unsupported = |codec: &str| Error::UnsupportedSubtitles {
        file: child::name(file),
        stream: index,
        codec: codec.to_owned(),
    };
    let stream = probe.subtitles.iter().find(|stream| stream.index == index);
    let stream = stream.ok_or_else(|| unsupported("no subtitle stream"))?;
    if !stream.is_text {
        return Err(unsupported(&stream.codec));
    }
    let mut arguments = probe::guarded();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&["-nostdin", "-nostats", "-v", "level+error", "-copyts", "-i"]);
    arguments.push(child::input(file)?);
    let map = format!("0:{index}");
    arguments.extend(["-map", &map, "-f", "srt", "pipe:1"].map(OsString::from));
    let mut said = Vec::new();
    let launch = Launch { tool: &tools.ffmpeg, file, arguments };
    let mut output = child::keep(&mut said, limits.text);
    let exit = child::run(launch, limits, budget, &mut output, &mut |_| ()).await?;
    drop(output);
    if let Some(error) = exit.broken_limit(file, limits) {
        return Err(error);
    }
    if !exit.is_success() {
        return Err(Error::DamagedSubtitles { detail: exit.detail() });
    }
    let language = stream.language.as_deref();
    let mut transcript = sidecar::parse_sidecar(&said, SidecarFormat::Srt, language)?;
    transcript.source = TranscriptSource::Embedded;
    for cue in &mut transcript.cues {
        cue.span = cue.span.shifted(probe.start_us.saturating_neg());
    }
    Ok(transcript)
}
