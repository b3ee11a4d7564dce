//! The program that brings wanted pictures of a video, and decodes no more than they depend on.
//!
//! [`eventide-media`] starts it in its sandbox, one run a video: the libraries of FFmpeg are linked into this process and
//! into no other of ours, so whatever a hostile file makes of them ends with it. It seeks to the key picture before each
//! wanted one, passes over pictures that no other depends on, and stops at the last wanted one. It brings all pictures or
//! fails: at the first sign of damage it gives up, and its caller goes the long way.
//!
//! [`eventide-media`]: ../eventide_media/index.html

mod cut;
mod scale;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;

/// Why not all pictures came.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    FFmpeg(#[from] ffmpeg_next::Error),
    #[error("stream {0} is no video that can be decoded")]
    NoStream(usize),
    #[error("no key picture at {0}")]
    NoKey(i64),
    #[error("no picture at {0}")]
    NoPicture(i64),
    #[error("a picture is damaged")]
    Damaged,
    #[error("pictures are turned or mirrored in a way that is not known here")]
    Turned,
    #[error("the form of the pictures changes")]
    Changed,
    #[error("cannot write pictures")]
    Write(#[from] io::Error),
}

type Result<T> = std::result::Result<T, Error>;

/// Brings wanted pictures of a video to standard output, as raw RGB, in the order of their time. Fails unless all come, whole.
#[derive(Debug, Parser)]
#[command(
    name = "eventide-decoder",
    version,
    after_help = "\
Example: the pictures at 6144 and 159847 ticks of a film, each small side 224 pixels
  eventide-decoder --stream 0 --filters scale=398:224,format=rgb24,crop=224:224:87:0 \\
    --wanted 0:6144,154215:159847 film.mp4 > pictures.rgb"
)]
struct Arguments {
    /// The video.
    file: PathBuf,
    /// The number of the stream in it.
    #[arg(long)]
    stream: usize,
    /// What is done to each picture once it is upright, in FFmpeg's words; it must end in `rgb24`.
    #[arg(long)]
    filters: String,
    /// Key picture and wanted picture, in ticks of the stream, increasing.
    #[arg(long, required = true, value_delimiter = ',', value_parser = wanted)]
    wanted: Vec<Wanted>,
    /// Threads of the decoder.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Most pixels of a picture.
    #[arg(long, default_value_t = 8192 * 8192)]
    max_pixels: u64,
    /// Containers that may be read, as FFmpeg names them.
    #[arg(long, default_value = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm")]
    containers: String,
}

/// A wanted picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    /// When the key picture that a decoder starts at for it is shown, in ticks.
    key: i64,
    /// When it is shown, in ticks.
    at: i64,
}

fn wanted(text: &str) -> std::result::Result<Wanted, String> {
    let parse = |text: &str| text.parse::<i64>().ok();
    let both = text.split_once(':').and_then(|(key, at)| Some((parse(key)?, parse(at)?)));
    let (key, at) = both.ok_or_else(|| format!("`{text}` is not of the form KEY:PICTURE"))?;
    if key > at {
        return Err(format!("the key picture of `{text}` comes after the picture"));
    }
    Ok(Wanted { key, at })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut pictures = io::stdout().lock();
    match cut::run(&arguments, &mut pictures).and_then(|()| Ok(pictures.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_wanted_picture_has_its_key_before_it() {
        assert_eq!(wanted("-40:12"), Ok(Wanted { key: -40, at: 12 }));
        for wrong in ["12", "a:b", "13:12", ""] {
            assert!(wanted(wrong).is_err(), "{wrong}");
        }
    }
}
