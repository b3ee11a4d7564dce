//! A stand-in for the media tools that takes as long for a file as the file says: what a night costs beside its work.
//!
//! The first line of a file is a number of milliseconds, and what is told of it is that it is a video of one picture that
//! is shown for so long. It is called as `ffprobe` or `ffmpeg`; of its arguments it looks for the file, the last of them,
//! and whether the pictures are asked for, which takes no time. Of several files one is worked on after the other, as a
//! device would: each copy of this program stands for a device of its own.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::thread;
use std::time::Duration;

/// Bytes in which the number must stand.
const FIRST_LINE: u64 = 64;
/// The file of the program that runs, which one at a time may hold.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Whether a program was called by the name of a tool that this can stand in for.
#[must_use]
pub fn is_called(name: &OsString) -> bool {
    let name = std::path::Path::new(name).file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| ["ffmpeg", "ffprobe"].contains(&name))
}

/// What the tool prints, after the time that the file takes.
///
/// # Errors
/// Where there is no file, or no number in it.
pub fn answer(arguments: &[OsString]) -> io::Result<String> {
    if arguments.iter().any(|argument| argument == "-version") {
        return Ok("stand-in version 1".to_owned());
    }
    let file = arguments.last().and_then(|file| file.to_str()).unwrap_or_default();
    let file = File::open(file.trim_start_matches("file:"))?;
    let mut line = String::new();
    BufReader::new(file.take(FIRST_LINE)).read_line(&mut line)?;
    let milliseconds = line.trim().parse().map_err(io::Error::other)?;
    if arguments.iter().any(|argument| argument.to_string_lossy().starts_with("packet=")) {
        return Ok(format!("0,0,{milliseconds},K__"));
    }
    let time = Duration::from_millis(milliseconds);
    let device = File::open(THIS_PROGRAM)?;
    device.lock()?;
    thread::sleep(time);
    drop(device);
    let seconds = time.as_secs_f64();
    Ok(format!(
        "{{\"format\": {{\"format_name\": \"mp4\", \"duration\": \"{seconds}\"}},
          \"streams\": [{{\"index\": 0, \"codec_name\": \"h264\", \"codec_type\": \"video\", \"width\": 64,
                       \"height\": 64, \"time_base\": \"1/1000\"}}]}}"
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::*;

    #[test]
    fn it_takes_as_long_as_the_file_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.mp4");
        fs::write(&path, "30\n and then anything").unwrap();
        let argument = OsString::from(format!("file:{}", path.display()));
        let start = Instant::now();
        let said = answer(&["-v".into(), argument.clone()]).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert!(said.contains("\"duration\": \"0.03\""), "{said}");
        let pictures = answer(&["-show_entries".into(), "packet=pts".into(), argument]).unwrap();
        assert_eq!(pictures, "0,0,30,K__");
        assert!(answer(&["nowhere".into()]).is_err());
    }

    #[test]
    fn files_wait_for_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.mp4");
        fs::write(&path, "30\n").unwrap();
        let start = Instant::now();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| answer(&[path.clone().into_os_string()]).unwrap());
            }
        });
        assert!(start.elapsed() >= Duration::from_millis(90));
    }

    #[test]
    fn it_goes_by_the_name_that_it_is_called() {
        assert!(is_called(&"/tools/ffprobe".into()));
        assert!(!is_called(&"/target/eventide-testkit".into()));
    }
}
