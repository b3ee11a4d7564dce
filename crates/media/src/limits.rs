//! The tools that decode, and what one look at one file may cost.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    Error,
    child::{self, Budget, Launch},
};

/// Where the two programs of FFmpeg are, 5.1 or later, and the decoder of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// The decoder.
    pub ffmpeg: PathBuf,
    /// The one that tells about streams.
    pub ffprobe: PathBuf,
    /// `eventide-decoder`, which brings far pictures of a video in one run. Without it `ffmpeg` is started for each of
    /// them: the same pictures, but several times the processor time.
    pub decoder: Option<PathBuf>,
}

/// What the tools call themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// Such as `5.1.9-0+deb12u1`.
    pub ffmpeg: String,
    /// The same of `ffprobe`.
    pub ffprobe: String,
    /// The same of `eventide-decoder`, where there is one.
    pub decoder: Option<String>,
}

impl Tools {
    /// Runs the tools in the sandbox and asks for their versions.
    ///
    /// # Errors
    /// [`Error::Spawn`] where a tool cannot be started, [`Error::Tool`] where it answers anything
    /// else than a version.
    pub async fn check(&self) -> Result<Versions, Error> {
        let decoder = match &self.decoder {
            Some(decoder) => Some(version(decoder, "--version", "eventide-decoder").await?),
            None => None,
        };
        Ok(Versions {
            ffmpeg: version(&self.ffmpeg, "-version", "version").await?,
            ffprobe: version(&self.ffprobe, "-version", "version").await?,
            decoder,
        })
    }
}

/// The word after `before` in what the tool answers to `question`.
async fn version(tool: &Path, question: &str, before: &str) -> Result<String, Error> {
    let limits = Limits { wall: Duration::from_secs(30), ..Limits::default() };
    let mut budget = Budget::new(&limits, Arc::default());
    let mut said = Vec::new();
    let launch = Launch { tool, file: tool, arguments: vec![question.into()] };
    let exit =
        child::run(launch, &limits, &mut budget, &mut child::keep(&mut said, 1 << 16), &mut |_| ())
            .await?;
    let text = String::from_utf8_lossy(&said);
    let word = text.split_whitespace().skip_while(|&word| word != before).nth(1);
    match word {
        Some(version) if exit.is_success() => Ok(version.to_owned()),
        _ => Err(Error::Tool { tool: tool.to_owned(), detail: exit.detail() }),
    }
}

/// What one call on one file may cost. Every bound that a hostile file can meet is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Wall time of a call, over all its children.
    pub wall: Duration,
    /// Processor time of a call, over all its children. Enforced in whole seconds, rounded up.
    pub cpu: Duration,
    /// Address space of a child, in bytes. Libraries and thread stacks count: below some
    /// 512 MiB a tool that is linked dynamically may not even start.
    pub memory: u64,
    /// Pixels of a picture, before and after scaling.
    pub pixels: u64,
    /// Pictures of a video; each takes 8 bytes of this process while the video is worked on.
    pub pictures: usize,
    /// Length of a video.
    pub length: Duration,
    /// Slots of one request.
    pub slots: usize,
    /// Bytes of subtitles, and of what is told about streams.
    pub text: usize,
    /// Threads of the decoder. With more than one, decoders may fail to tell of a damaged picture
    /// (seen with H.264 in FFmpeg 5.1), so that what counts as missing varies from run to run.
    pub threads: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall: Duration::from_mins(15),
            cpu: Duration::from_mins(30),
            memory: 4 << 30,
            pixels: 8192 * 8192,
            pictures: 8_000_000,
            length: Duration::from_hours(48),
            slots: 1000,
            text: 16 << 20,
            threads: NonZeroU32::MIN,
        }
    }
}
