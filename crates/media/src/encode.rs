//! Drawn pictures to a video file, for videos that we make ourselves. Reads no media; what is drawn is the caller's.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

/// How much of what the encoder says is kept, in bytes.
const SAID: u64 = 4096;

/// Why a video was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The encoder could not be started or waited for.
    #[error("cannot start `{}`", tool.display())]
    Spawn {
        /// The program.
        tool: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file system does not take the file.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The encoder gave up.
    #[error("the encoder failed on `{}`: {detail}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What the encoder says.
        detail: String,
    },
    /// The encoder took too long and was killed.
    #[error("`{}` was not encoded within {limit:?}", path.display())]
    Deadline {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: Duration,
    },
    /// The settings make no video.
    #[error("cannot encode {width}x{height} pixels, {pictures} pictures at {rate} a second")]
    Settings {
        /// Width in pixels; even and positive in a video.
        width: u32,
        /// Height in pixels; even and positive in a video.
        height: u32,
        /// How many pictures.
        pictures: u32,
        /// Pictures a second.
        rate: u32,
    },
}

/// What is made of drawn pictures: H.264 in MP4, with a quiet synthetic sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encode {
    /// Picture width in pixels, even.
    pub width: u32,
    /// Picture height in pixels, even.
    pub height: u32,
    /// Pictures a second.
    pub rate: u32,
    /// How many pictures.
    pub pictures: u32,
    /// Pitch of the tone in Hz, and seed of the noise under it.
    pub tone: u16,
    /// Wall time that it may take.
    pub deadline: Duration,
}

impl Encode {
    /// Draws picture after picture and writes the video `to`, which appears whole or not at all.
    ///
    /// `draw` gets the number of the picture, from 0, and its bytes to fill: rows from the top, red, green, blue.
    /// Blocks. The encoder is killed when the deadline passes, or when `draw` panics. Two calls on one path at once
    /// get in each other's way.
    ///
    /// # Errors
    /// All of [`Error`].
    pub fn run(
        self,
        ffmpeg: &Path,
        to: &Path,
        mut draw: impl FnMut(u32, &mut [u8]),
    ) -> Result<(), Error> {
        let picture = self.picture_bytes()?;
        let partial = partial(to);
        let encoded = self.encode(ffmpeg, to, &partial, |stdin| {
            let mut bytes = vec![0; picture];
            (0..self.pictures).try_for_each(|number| {
                draw(number, &mut bytes);
                stdin.write_all(&bytes)
            })
        });
        let unwritable = |source| Error::Write { path: to.to_owned(), source };
        let placed = encoded.and_then(|()| fs::rename(&partial, to).map_err(unwritable));
        if placed.is_err() {
            // It may never have been made; the error that is told says why.
            let _ = fs::remove_file(&partial);
        }
        placed
    }

    /// Bytes of a picture, where these settings make a video.
    fn picture_bytes(self) -> Result<usize, Error> {
        let Self { width, height, rate, pictures, .. } = self;
        let even = |size: u32| size > 0 && size.is_multiple_of(2);
        (even(width) && even(height) && rate > 0 && pictures > 0)
            .then(|| usize::try_from(u64::from(width) * u64::from(height) * 3).ok())
            .flatten()
            .ok_or(Error::Settings { width, height, pictures, rate })
    }

    /// Runs the encoder over what `feed` writes.
    fn encode(
        self,
        ffmpeg: &Path,
        to: &Path,
        partial: &Path,
        feed: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<(), Error> {
        let spawned = |source| Error::Spawn { tool: ffmpeg.to_owned(), source };
        let mut child = self.command(ffmpeg, partial).spawn().map_err(spawned)?;
        let (Some(mut stdin), Some(stderr)) = (child.stdin.take(), child.stderr.take()) else {
            unreachable!("both are piped")
        };
        let child = KillOnDrop(Mutex::new(child));
        let limit = self.deadline;
        let (written, said, in_time) = thread::scope(|scope| {
            let (done, ended) = mpsc::channel::<()>();
            let watch = scope.spawn({
                let child = &child;
                move || child.watch(&ended, limit)
            });
            let listen = scope.spawn(|| listen(stderr));
            // Where it panics, dropping `done` ends the watch, which then kills.
            let written = feed(&mut stdin);
            drop(stdin);
            // The encoder says nothing more once it has ended, by itself or killed.
            let said = listen.join().unwrap_or_default();
            let _ = done.send(());
            (written, said, watch.join().unwrap_or(false))
        });
        let status = child.wait().map_err(spawned)?;
        if !in_time {
            return Err(Error::Deadline { path: to.to_owned(), limit });
        }
        if !status.success() {
            let detail = if said.is_empty() { status.to_string() } else { said };
            return Err(Error::Failed { path: to.to_owned(), detail });
        }
        written.map_err(|source| Error::Write { path: to.to_owned(), source })
    }

    fn command(self, ffmpeg: &Path, to: &Path) -> Command {
        let Self { width, height, rate, pictures, tone, .. } = self;
        let length = f64::from(pictures) / f64::from(rate);
        let pictures =
            format!("-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {rate} -i pipe:0");
        let hum = format!("sine=frequency={tone}:sample_rate=16000:duration={length}");
        let noise =
            format!("anoisesrc=seed={tone}:sample_rate=16000:amplitude=0.02:duration={length}");
        let mix = "[1:a]volume=0.05[hum];[hum][2:a]amix=inputs=2[sound]";
        let sound = format!("-f lavfi -i {hum} -f lavfi -i {noise} -filter_complex {mix}");
        let video = "-map 0:v -c:v libx264 -preset veryfast -crf 23 -pix_fmt yuv420p -threads 1";
        let line = format!(
            "-nostdin -hide_banner -loglevel error -y {pictures} {sound} {video} \
             -map [sound] -c:a aac -b:a 24k -ac 1 -movflags +faststart -f mp4"
        );
        let mut command = Command::new(ffmpeg);
        command
            .args(line.split_whitespace())
            .arg(to)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }
}

/// Where the file grows: beside its place, under a name that no listing takes for a video.
fn partial(to: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(to.file_name().unwrap_or_default());
    name.push(".partial");
    // An absolute path, so that a name that begins with a dash is no option.
    std::path::absolute(to).unwrap_or_else(|_| to.to_owned()).with_file_name(name)
}

/// What the encoder says until it ends, on one line; of much, the beginning.
fn listen(mut stderr: impl io::Read) -> String {
    let mut said = Vec::new();
    // A pipe that breaks ends what is said; the exit status tells the rest.
    let _ = stderr.by_ref().take(SAID).read_to_end(&mut said);
    let _ = io::copy(&mut stderr, &mut io::sink());
    String::from_utf8_lossy(&said).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The encoder, which does not outlive this value.
struct KillOnDrop(Mutex<Child>);

impl KillOnDrop {
    /// Waits for a word on `ended`; kills the encoder where none comes in time. Whether it came.
    fn watch(&self, ended: &mpsc::Receiver<()>, limit: Duration) -> bool {
        match ended.recv_timeout(limit) {
            Ok(()) => true,
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => {
                self.kill();
                false
            }
        }
    }

    fn kill(&self) {
        // It fails only where the encoder has ended already.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).kill();
    }

    fn wait(&self) -> io::Result<std::process::ExitStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).wait()
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.kill();
        let _ = self.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Encode = Encode {
        width: 16,
        height: 16,
        rate: 8,
        pictures: 16,
        tone: 200,
        deadline: Duration::from_mins(1),
    };

    /// What comes of it where this program stands in for the encoder.
    fn check(settings: Encode, tool: &str, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("drawn.mp4");
        let error = settings.run(Path::new(tool), &to, |_, bytes| bytes.fill(1)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_the_encoder_says_is_told() {
        check(SMALL, "/bin/cat", "drawn.mp4`: /bin/cat: invalid option");
    }

    #[test]
    fn an_encoder_that_says_nothing_has_a_status() {
        check(SMALL, "/bin/false", "drawn.mp4`: exit status: 1");
    }

    #[test]
    fn odd_sizes_are_refused() {
        let odd = Encode { width: 15, ..SMALL };
        check(odd, "/bin/true", "cannot encode 15x16 pixels, 16 pictures at 8 a second");
    }

    #[test]
    fn a_missing_encoder_is_named() {
        check(SMALL, "/nowhere/ffmpeg", "cannot start `/nowhere/ffmpeg`");
    }
}
