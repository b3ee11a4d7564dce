//! What can go wrong with a file, by name.

use std::{io, path::PathBuf, time::Duration};

/// Why a file gave nothing. `file` is always a bare file name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file has no bytes.
    #[error("`{file}` is empty")]
    EmptyFile {
        /// The file.
        file: String,
    },
    /// The file system does not give the file.
    #[error("cannot read `{file}`")]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        source: io::Error,
    },
    /// Not a video, or a broken one.
    #[error("`{file}` is damaged or no media file: {detail}")]
    Damaged {
        /// The file.
        file: String,
        /// What the tool says, on one line.
        detail: String,
    },
    /// A container that is not read on purpose: playlists, stills, devices, anything that opens
    /// other files.
    #[error("the container of `{file}` is not one that is read: {detail}")]
    UnsupportedContainer {
        /// The file.
        file: String,
        /// What the tool says, on one line.
        detail: String,
    },
    /// Sound or subtitles only; a cover picture is no video.
    #[error("no video stream in `{file}` (found: {found})")]
    NoVideoStream {
        /// The file.
        file: String,
        /// The kinds of stream that there are.
        found: String,
    },
    /// Of the wanted pictures, not one could be decoded.
    #[error("none of {wanted} wanted pictures of `{file}` could be decoded: {detail}")]
    NoFrames {
        /// The file.
        file: String,
        /// How many were wanted.
        wanted: usize,
        /// What the tool says, on one line.
        detail: String,
    },
    /// A picture is larger than the limit, as stored or once its short side is scaled.
    #[error("pictures of {width}x{height} in `{file}` are over the limit of {limit} pixels")]
    TooManyPixels {
        /// The file.
        file: String,
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
        /// The limit in pixels.
        limit: u64,
    },
    /// More pictures than the limit.
    #[error("`{file}` has more than {limit} pictures")]
    TooManyPictures {
        /// The file.
        file: String,
        /// The limit.
        limit: usize,
    },
    /// The timestamps of the pictures are further apart than the longest video may be.
    #[error("the pictures of `{file}` span {seconds} s, over the limit of {limit:?}")]
    TooLong {
        /// The file.
        file: String,
        /// The span in whole seconds.
        seconds: i64,
        /// The limit.
        limit: Duration,
    },
    /// Subtitles that are pictures, in an unknown codec, or not there.
    #[error("stream {stream} of `{file}` holds no subtitles that can be read as text ({codec})")]
    UnsupportedSubtitles {
        /// The file.
        file: String,
        /// Index of the stream in the container.
        stream: u32,
        /// Its codec, or what it is instead.
        codec: String,
    },
    /// There is no such sound.
    #[error("stream {stream} of `{file}` is no sound")]
    NoSound {
        /// The file.
        file: String,
        /// Index of the stream in the container.
        stream: u32,
    },
    /// Sound that cannot be decoded, or not all of it.
    #[error("the sound of `{file}` is damaged: {detail}")]
    DamagedSound {
        /// The file.
        file: String,
        /// What the decoder said, or what is lost.
        detail: String,
    },
    /// Subtitles that make no sense.
    #[error("damaged subtitles: {detail}")]
    DamagedSubtitles {
        /// What is wrong, and where.
        detail: String,
    },
    /// Wall time is up.
    #[error("`{file}` took longer than {limit:?}")]
    Deadline {
        /// The file.
        file: String,
        /// The limit.
        limit: Duration,
    },
    /// Processor time is up.
    #[error("`{file}` took more than {limit:?} of processor time")]
    CpuLimit {
        /// The file.
        file: String,
        /// The limit.
        limit: Duration,
    },
    /// A child asked for more memory than it may have.
    #[error("`{file}` needs more than {limit} bytes of memory: {detail}")]
    MemoryLimit {
        /// The file.
        file: String,
        /// The limit in bytes of address space.
        limit: u64,
        /// What the tool says, on one line.
        detail: String,
    },
    /// A child wrote more than there can be.
    #[error("more than {limit} bytes came out of `{file}`")]
    OutputLimit {
        /// The file.
        file: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// A child was ended by a signal that this crate did not send.
    #[error("the decoder was ended by signal {signal} on `{file}`: {detail}")]
    Crashed {
        /// The file.
        file: String,
        /// Number of the signal.
        signal: i32,
        /// What the tool says, on one line.
        detail: String,
    },
    /// A child could not be started or waited for.
    #[error("cannot start `{}`", tool.display())]
    Spawn {
        /// The program.
        tool: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A tool starts but is not FFmpeg.
    #[error("`{}` does not answer as FFmpeg: {detail}", tool.display())]
    Tool {
        /// The program.
        tool: PathBuf,
        /// What it says, on one line.
        detail: String,
    },
    /// The caller asks for what cannot be: a fault of the program, not of the file.
    #[error("invalid request: {what}")]
    InvalidRequest {
        /// The rule that the request breaks.
        what: &'static str,
    },
}

impl Error {
    /// A stable word in `snake_case` that people count and filter by.
    #[must_use]
    pub fn reason_code(&self) -> &'static str {
        match self {
            Self::EmptyFile { .. } => "empty_file",
            Self::Read { .. } => "unreadable",
            Self::Damaged { .. } => "damaged",
            Self::UnsupportedContainer { .. } => "unsupported_container",
            Self::NoVideoStream { .. } => "no_video_stream",
            Self::NoFrames { .. } => "no_frames",
            Self::TooManyPixels { .. } => "too_many_pixels",
            Self::TooManyPictures { .. } => "too_many_pictures",
            Self::TooLong { .. } => "too_long",
            Self::UnsupportedSubtitles { .. } => "unsupported_subtitles",
            Self::DamagedSubtitles { .. } => "damaged_subtitles",
            Self::NoSound { .. } => "no_sound",
            Self::DamagedSound { .. } => "damaged_sound",
            Self::Deadline { .. } => "deadline",
            Self::CpuLimit { .. } => "cpu_limit",
            Self::MemoryLimit { .. } => "memory_limit",
            Self::OutputLimit { .. } => "output_limit",
            Self::Crashed { .. } => "decoder_crashed",
            Self::Spawn { .. } => "spawn_failed",
            Self::Tool { .. } => "tool_unusable",
            Self::InvalidRequest { .. } => "invalid_request",
        }
    }

    /// Whether the same call may well succeed later: the machine was short of processes, files or
    /// memory when a child should start. Whatever a file itself causes is final.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let Self::Spawn { source, .. } = self else { return false };
        let passing = [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE, libc::EINTR];
        source.raw_os_error().is_some_and(|code| passing.contains(&code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::no_more_processes(libc::EAGAIN, true)]
    #[case::no_more_files(libc::EMFILE, true)]
    #[case::no_such_tool(libc::ENOENT, false)]
    #[case::not_allowed(libc::EACCES, false)]
    fn passes_by_itself(#[case] code: i32, #[case] transient: bool) {
        let source = io::Error::from_raw_os_error(code);
        let error = Error::Spawn { tool: PathBuf::from("ffmpeg"), source };
        assert_eq!(error.is_transient(), transient);
    }
}
