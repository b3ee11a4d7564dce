//! Videos as the world really has them: damaged, odd, and meant to harm. Each kind is made anew from a drawn card.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::footage::{H264, TestCard, words};
use crate::scrambled;
use crate::tools::Tools;

/// A kind of bad video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hostile {
    /// No byte at all.
    Empty,
    /// 64 KiB of zeros.
    Zeros,
    /// Words, by the name of a video.
    NotVideo,
    /// A list of other files, among them one of the machine's own, by the name of a video. A player that follows it
    /// gives the machine's secrets away.
    Playlist,
    /// An MP4 that ends before its index: an upload that was cut off.
    CutBeforeIndex,
    /// An MP4 whose index is whole and promises pictures that are not there.
    CutAfterIndex,
    /// A whole index, and 400 flipped bits in the pictures; the seed decides which.
    BitFlips(u64),
    /// Sound only.
    AudioOnly,
    /// Sound, and a picture of the sleeve that poses as a video stream.
    CoverArtOnly,
    /// Pictures lying on their side, with a note to turn them.
    Rotated,
    /// Pictures whose distance changes from 40 ms to 500 ms half-way.
    VariableRate,
    /// A thousand pictures a second.
    ThousandRate,
    /// No picture between the second and the thirty-second second.
    GapInTheMiddle,
    /// The first picture comes three seconds after the sound.
    LatePictures,
    /// A single picture of 16 x 16 pixels.
    Tiny,
    /// A single picture of 8192 x 8192 pixels, whose file is small and whose pixels fill 200 MB.
    HugePicture,
    /// 8 MB of attachment before the first picture.
    LongHeader,
    /// Two sound tracks and two pictures streams of different size.
    ManyStreams,
    /// One picture a second.
    OneRate,
    /// A copy that begins between two key pictures: an edit list hides the pictures before.
    EditList,
    /// Two whole MP4 files, one behind the other.
    Concatenated,
    /// A transport stream whose times jump back to the beginning half-way.
    JumpingTimes,
    /// A picture of 64 x 64 pixels that says it has 32,000 x 32,000.
    HugeClaim,
}

/// What a careful program can do with a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readable {
    /// It has pictures to look at.
    Yes,
    /// It has none, and must end as a failure with a reason.
    No,
    /// Some pictures may be had; either end is right, as long as the program lives.
    Perhaps,
}

impl Hostile {
    /// One of each kind.
    pub const ALL: [Self; 23] = [
        Self::Empty,
        Self::Zeros,
        Self::NotVideo,
        Self::Playlist,
        Self::CutBeforeIndex,
        Self::CutAfterIndex,
        Self::BitFlips(1),
        Self::AudioOnly,
        Self::CoverArtOnly,
        Self::Rotated,
        Self::VariableRate,
        Self::ThousandRate,
        Self::GapInTheMiddle,
        Self::LatePictures,
        Self::Tiny,
        Self::HugePicture,
        Self::LongHeader,
        Self::ManyStreams,
        Self::OneRate,
        Self::EditList,
        Self::Concatenated,
        Self::JumpingTimes,
        Self::HugeClaim,
    ];

    /// What a careful program can do with it.
    #[must_use]
    pub fn readable(self) -> Readable {
        match self {
            Self::Empty
            | Self::Zeros
            | Self::NotVideo
            | Self::Playlist
            | Self::CutBeforeIndex
            | Self::AudioOnly
            | Self::CoverArtOnly => Readable::No,
            // A program may well refuse a picture of that size: a limit on memory is a reason.
            Self::CutAfterIndex | Self::BitFlips(_) | Self::HugePicture | Self::HugeClaim => {
                Readable::Perhaps
            }
            Self::Rotated
            | Self::VariableRate
            | Self::ThousandRate
            | Self::GapInTheMiddle
            | Self::LatePictures
            | Self::Tiny
            | Self::LongHeader
            | Self::ManyStreams
            | Self::OneRate
            | Self::EditList
            | Self::Concatenated
            | Self::JumpingTimes => Readable::Yes,
        }
    }

    /// The name of the file that [`make`](Self::make) writes, one for each kind and seed.
    #[must_use]
    pub fn file_name(self) -> String {
        let stem = match self {
            Self::Empty => "empty.mp4",
            Self::Zeros => "zeros.mp4",
            Self::NotVideo => "not-video.mp4",
            Self::Playlist => "playlist.mp4",
            Self::CutBeforeIndex => "cut-before-index.mp4",
            Self::CutAfterIndex => "cut-after-index.mp4",
            Self::BitFlips(seed) => return format!("bit-flips-{seed}.mp4"),
            Self::AudioOnly => "audio-only.m4a",
            Self::CoverArtOnly => "cover-art-only.m4a",
            Self::Rotated => "rotated.mp4",
            Self::VariableRate => "variable-rate.mp4",
            Self::ThousandRate => "thousand-rate.mp4",
            Self::GapInTheMiddle => "gap-in-the-middle.mp4",
            Self::LatePictures => "late-pictures.mkv",
            Self::Tiny => "tiny.mp4",
            Self::HugePicture => "huge-picture.mkv",
            Self::LongHeader => "long-header.mkv",
            Self::ManyStreams => "many-streams.mkv",
            Self::OneRate => "one-rate.mp4",
            Self::EditList => "edit-list.mp4",
            Self::Concatenated => "concatenated.mp4",
            Self::JumpingTimes => "jumping-times.ts",
            Self::HugeClaim => "huge-claim.mkv",
        };
        stem.to_owned()
    }

    /// Writes one into `folder` and gives its path.
    ///
    /// # Errors
    /// Those of [`Tools::run_ffmpeg`], and [`Error::File`].
    pub fn make(self, tools: &Tools, folder: &Path) -> Result<PathBuf> {
        let to = folder.join(self.file_name());
        match self {
            Self::Empty => write(&to, b""),
            Self::Zeros => write(&to, &vec![0; 65_536]),
            Self::NotVideo => write(&to, &b"This is a letter, not a film.\n".repeat(200)),
            Self::Playlist => write(&to, PLAYLIST.as_bytes()),
            Self::CutBeforeIndex => cut(&card(tools, &to, &[])?, &to, 700),
            Self::CutAfterIndex => cut(&card(tools, &to, INDEX_FIRST)?, &to, 500),
            Self::BitFlips(seed) => flip(&card(tools, &to, INDEX_FIRST)?, &to, seed),
            Self::Rotated => rotate(tools, &card(tools, &to, &[])?, &to),
            Self::EditList => cut_by_time(tools, &card(tools, &to, &[])?, &to),
            Self::Concatenated => double(&card(tools, &to, INDEX_FIRST)?, &to),
            Self::JumpingTimes => drawn(self, tools, &to).and_then(|()| double(&to, &to)),
            Self::HugeClaim => drawn(self, tools, &to).and_then(|()| claim(&to)),
            _ => drawn(self, tools, &to),
        }?;
        Ok(to)
    }
}

const INDEX_FIRST: &[&str] = &["-movflags", "+faststart"];

/// Names a file that every machine has and an address that no machine has.
const PLAYLIST: &str = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\nfile:///etc/passwd\n\
                        #EXTINF:1.0,\nhttp://127.0.0.1:9/secret.ts\n#EXT-X-ENDLIST\n";

const PICTURES: &str = "-f lavfi -i testsrc2=size=320x240:rate=25:duration=4";
const SMALL_PICTURES: &str = "-f lavfi -i testsrc2=size=160x120:rate=10:duration=4";
const TONE: &str = "-f lavfi -i sine=sample_rate=16000:duration=4";
const SLEEVE: &str = "-f lavfi -i color=c=teal:size=64x64:rate=1:duration=1";
const HUGE_PICTURE: &str = "-f lavfi -i color=c=gray:size=8192x8192:rate=1 -frames:v 1";
const UNEVEN: &str = "-fps_mode vfr -video_track_timescale 1000";

/// The kinds that one run of ffmpeg makes, each by its arguments in one line.
fn drawn(kind: Hostile, tools: &Tools, to: &Path) -> Result<()> {
    let attachment = to.with_extension("attachment");
    let line = match kind {
        Hostile::AudioOnly => format!("{TONE} -c:a aac"),
        Hostile::CoverArtOnly => {
            let outputs =
                "-map 0 -map 1 -c:a aac -c:v mjpeg -frames:v 1 -disposition:v:0 attached_pic";
            format!("{TONE} {SLEEVE} {outputs}")
        }
        Hostile::VariableRate => {
            let times = "setpts='if(lt(N,50),N*40,2000+(N-50)*500)/1000/TB'";
            format!("{PICTURES} -vf {times} {UNEVEN} {H264}")
        }
        Hostile::ThousandRate => {
            format!("-f lavfi -i testsrc2=size=64x64:rate=1000:duration=2 {H264}")
        }
        Hostile::GapInTheMiddle => {
            let times = "setpts='if(lt(N,50),N*40,30000+N*40)/1000/TB'";
            format!("{PICTURES} -vf {times} {UNEVEN} {H264}")
        }
        Hostile::LatePictures => format!("-itsoffset 3 {PICTURES} {TONE} -c:a aac {H264}"),
        Hostile::Tiny => format!("-f lavfi -i color=c=red:size=16x16:rate=25 -frames:v 1 {H264}"),
        Hostile::LongHeader => {
            write(&attachment, &noise(8_000_000))?;
            format!("{PICTURES} {H264} -metadata:s:t mimetype=application/octet-stream")
        }
        Hostile::ManyStreams => {
            let streams = "-map 0 -map 1 -map 2 -map 2 -c:a aac";
            format!("{SMALL_PICTURES} {PICTURES} {TONE} {streams} {H264}")
        }
        Hostile::OneRate => {
            format!("-f lavfi -i testsrc2=size=160x120:rate=1:duration=8 {H264}")
        }
        Hostile::JumpingTimes => format!("{SMALL_PICTURES} -f mpegts {H264}"),
        Hostile::HugeClaim => {
            "-f lavfi -i color=c=gray:size=64x64:rate=1 -frames:v 1 -c:v png -pix_fmt gray"
                .to_owned()
        }
        _ => format!("{HUGE_PICTURE} -c:v mjpeg -pix_fmt yuvj420p -q:v 31"),
    };
    let mut arguments = words(&line);
    if attachment.exists() {
        arguments.extend(["-attach".to_owned(), attachment.display().to_string()]);
    }
    arguments.push(to.display().to_string());
    tools.run_ffmpeg(arguments)?;
    if attachment.exists() {
        fs::remove_file(&attachment).map_err(Error::file("remove", &attachment))?;
    }
    Ok(())
}

/// The good video that a bad one is made from, as a file beside it.
fn card(tools: &Tools, to: &Path, options: &[&str]) -> Result<PathBuf> {
    let (drawn, whole) = (to.with_extension("drawn.mp4"), to.with_extension("whole.mp4"));
    TestCard { length: Duration::from_secs(4), ..TestCard::default() }.draw(tools, &drawn)?;
    let (drawn_name, whole_name) = (drawn.display().to_string(), whole.display().to_string());
    let words = ["-i", &drawn_name, "-c", "copy"]
        .into_iter()
        .chain(options.iter().copied())
        .chain([&*whole_name]);
    tools.run_ffmpeg(words)?;
    fs::remove_file(&drawn).map_err(Error::file("remove", &drawn))?;
    Ok(whole)
}

/// Moves `per_thousand` of the bytes to `to`.
fn cut(whole: &Path, to: &Path, per_thousand: usize) -> Result<()> {
    let bytes = take(whole)?;
    write(to, &bytes[..bytes.len() * per_thousand / 1000])
}

/// Flips 400 bits behind the first quarter, where the pictures are.
fn flip(whole: &Path, to: &Path, seed: u64) -> Result<()> {
    let mut bytes = take(whole)?;
    let (start, mut state) = (bytes.len() / 4, seed);
    for _ in 0..400 {
        state = scrambled(state);
        let bit = usize::try_from(state % (8 * (bytes.len() - start) as u64)).unwrap_or_default();
        bytes[start + bit / 8] ^= 1 << (bit % 8);
    }
    write(to, &bytes)
}

/// Notes that the pictures are to be turned; the way to say it changed between versions of ffmpeg.
fn rotate(tools: &Tools, whole: &Path, to: &Path) -> Result<()> {
    let (from, place) = (whole.display().to_string(), to.display().to_string());
    let new = tools.run_ffmpeg(["-display_rotation", "90", "-i", &from, "-c", "copy", &place]);
    if new.is_err() {
        tools.run_ffmpeg(["-i", &from, "-c", "copy", "-metadata:s:v:0", "rotate=90", &place])?;
    }
    fs::remove_file(whole).map_err(Error::file("remove", whole))
}

/// Copies what comes after 1.3 seconds, which is no place of a key picture.
fn cut_by_time(tools: &Tools, whole: &Path, to: &Path) -> Result<()> {
    let (from, place) = (whole.display().to_string(), to.display().to_string());
    tools.run_ffmpeg(["-ss", "1.3", "-i", &from, "-c", "copy", &place])?;
    fs::remove_file(whole).map_err(Error::file("remove", whole))
}

/// The bytes of a file twice.
fn double(whole: &Path, to: &Path) -> Result<()> {
    write(to, &take(whole)?.repeat(2))
}

/// Changes the size in the header of the PNG picture in a file.
fn claim(file: &Path) -> Result<()> {
    let mut bytes = take(file)?;
    let header = bytes.windows(4).position(|word| word == b"IHDR");
    if let Some(size) = header.and_then(|at| bytes.get_mut(at + 4..at + 12)) {
        size.copy_from_slice(&[0, 0, 0x7D, 0, 0, 0, 0x7D, 0]);
    }
    write(file, &bytes)
}

fn take(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).map_err(Error::file("read", path))?;
    fs::remove_file(path).map_err(Error::file("remove", path))?;
    Ok(bytes)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(Error::file("write", path))
}

/// Bytes that no compression makes smaller, always the same.
fn noise(length: usize) -> Vec<u8> {
    let words = std::iter::successors(Some(7), |state| Some(scrambled(*state)));
    words.flat_map(u64::to_le_bytes).take(length).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rstest::rstest;

    use super::*;
    use crate::footage::tests::probe;
    use crate::tools::tools;

    fn check(kind: Hostile, entry: &str, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = kind.make(&tools().unwrap(), folder.path()).unwrap();
        assert_eq!(probe(&path, entry), expected, "{kind:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{kind:?} leaves files behind");
    }

    #[rstest]
    #[case::empty(Hostile::Empty, "format=format_name", "")]
    #[case::zeros(Hostile::Zeros, "format=format_name", "")]
    #[case::not_video(Hostile::NotVideo, "stream=codec_type", "")]
    #[case::cut_before_index(Hostile::CutBeforeIndex, "format=format_name", "")]
    #[case::cut_after_index(Hostile::CutAfterIndex, "stream=nb_frames", "100\n64")]
    #[case::bit_flips(Hostile::BitFlips(7), "stream=nb_frames", "100\n64")]
    #[case::audio_only(Hostile::AudioOnly, "stream=codec_type", "audio")]
    #[case::cover_art_only(
        Hostile::CoverArtOnly,
        "stream=codec_type:stream_disposition=attached_pic",
        "audio\n0\nvideo\n1"
    )]
    #[case::rotated(Hostile::Rotated, "stream=width:stream_side_data=rotation", "320\n90")]
    #[case::variable_rate(Hostile::VariableRate, "stream=nb_frames,duration", "26.520000\n100")]
    #[case::thousand_rate(Hostile::ThousandRate, "stream=r_frame_rate,nb_frames", "1000/1\n2000")]
    #[case::gap_in_the_middle(
        Hostile::GapInTheMiddle,
        "stream=nb_frames,duration",
        "34.000000\n100"
    )]
    #[case::tiny(Hostile::Tiny, "stream=width,height,nb_frames", "16\n16\n1")]
    #[case::huge_picture(Hostile::HugePicture, "stream=width,height", "8192\n8192")]
    #[case::long_header(Hostile::LongHeader, "stream=codec_type", "video\nattachment")]
    #[case::many_streams(Hostile::ManyStreams, "stream=codec_type", "video\nvideo\naudio\naudio")]
    fn is_what_it_says(#[case] kind: Hostile, #[case] entry: &str, #[case] expected: &str) {
        check(kind, entry, expected);
    }

    #[test]
    fn late_pictures_are_late() {
        let folder = tempfile::tempdir().unwrap();
        let path = Hostile::LatePictures.make(&tools().unwrap(), folder.path()).unwrap();
        let starts = probe(&path, "stream=start_time");
        let video: f64 = starts.lines().next().unwrap().parse().unwrap();
        assert!((video - 3.0).abs() < 0.1, "{starts}");
    }

    #[test]
    fn a_playlist_names_a_file_of_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let path = Hostile::Playlist.make(&tools().unwrap(), folder.path()).unwrap();
        assert!(fs::read_to_string(path).unwrap().contains("file:///etc/passwd"));
    }

    #[test]
    fn a_seed_decides_which_bits_are_flipped() {
        let folder = tempfile::tempdir().unwrap();
        let make = |seed| {
            fs::read(Hostile::BitFlips(seed).make(&tools().unwrap(), folder.path()).unwrap())
                .unwrap()
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }

    #[test]
    fn every_kind_has_its_own_file() {
        let names: HashSet<_> = Hostile::ALL.into_iter().map(Hostile::file_name).collect();
        assert_eq!(names.len(), Hostile::ALL.len());
    }
}
