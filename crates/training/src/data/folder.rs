//! Videos in a folder, their words beside them, and what annotations say of them, joined into examples.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use eventide_media::parse_sidecar;
use eventide_schema::{Cue, SidecarFormat};

use super::{
    annotations::{Annotated, Annotations, Form},
    error::{Error, Fault, Result},
    example::{Example, seconds},
};
use crate::synth;

/// Extensions of files that are taken for videos.
const VIDEOS: [&str; 14] = [
    "3gp", "avi", "flv", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "ogv", "ts", "webm",
    "wmv",
];

/// The videos in a folder and the folders in it, by their names without extension.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Videos {
    files: BTreeMap<String, VideoFile>,
}

/// A video, and the subtitle file that lies beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoFile {
    /// The video.
    pub path: PathBuf,
    /// `NAME.vtt`, `NAME.srt` or Whisper's `NAME.json`, in this order; else the first of `NAME.LANGUAGE.vtt`
    /// and so on.
    pub sidecar: Option<(PathBuf, SidecarFormat)>,
}

impl Videos {
    /// Looks through a folder. Links are followed; files whose name begins with a dot are passed over.
    ///
    /// # Errors
    /// [`Error::Read`]; [`Error::TwoFiles`] if two videos have one name.
    pub fn list(folder: &Path) -> Result<Self> {
        let mut paths = Vec::new();
        walk(folder, &mut paths)?;
        paths.sort();
        let sidecars = sidecars(&paths);
        let mut files: BTreeMap<String, VideoFile> = BTreeMap::new();
        for path in paths.into_iter().filter(|path| is_video(path)) {
            let (Some(video_id), stem) = (name(path.file_stem()), path.with_extension("")) else {
                continue;
            };
            let sidecar = sidecars.get(&stem).map(|(_, path, format)| (path.clone(), *format));
            if let Some(first) = files.get(&video_id) {
                let first = first.path.clone();
                return Err(Error::TwoFiles { video_id, first, second: path });
            }
            files.insert(video_id, VideoFile { path, sidecar });
        }
        Ok(Self { files })
    }

    /// The file of a video.
    #[must_use]
    pub fn get(&self, video_id: &str) -> Option<&VideoFile> {
        self.files.get(video_id)
    }

    /// All of them by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &VideoFile)> {
        self.files.iter().map(|(video_id, file)| (video_id.as_str(), file))
    }

    /// Annotations that say nothing: for videos that are learnt from by what is said in them alone.
    #[must_use]
    pub fn unannotated(&self, folder: &Path) -> Annotations {
        let nothing = |video_id: &String| Annotated {
            video_id: video_id.clone(),
            duration: None,
            subset: None,
            references: Vec::new(),
            files: Vec::new(),
        };
        Annotations { path: folder.to_owned(), videos: self.files.keys().map(nothing).collect() }
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable = |source| Error::Read { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if name(path.file_name()).is_none_or(|name| name.starts_with('.')) {
            continue;
        }
        if path.is_dir() {
            walk(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

fn name(part: Option<&std::ffi::OsStr>) -> Option<String> {
    part.and_then(|part| part.to_str()).map(str::to_owned)
}

fn is_video(path: &Path) -> bool {
    name(path.extension()).is_some_and(|ending| VIDEOS.contains(&&*ending.to_ascii_lowercase()))
}

/// The best subtitle file for each path of a video without its extension.
fn sidecars(paths: &[PathBuf]) -> BTreeMap<PathBuf, (bool, PathBuf, SidecarFormat)> {
    let mut best: BTreeMap<PathBuf, (bool, PathBuf, SidecarFormat)> = BTreeMap::new();
    for path in paths {
        let Some(format) = name(path.extension()).and_then(|e| SidecarFormat::from_extension(&e))
        else {
            continue;
        };
        let stem = path.with_extension("");
        for (in_language, stem) in [(false, stem.clone()), (true, stem.with_extension(""))] {
            let better = |(other, _, known): &(bool, PathBuf, SidecarFormat)| {
                (in_language, format) < (*other, *known)
            };
            if best.get(&stem).is_none_or(better) {
                best.insert(stem, (in_language, path.clone(), format));
            }
        }
    }
    best
}

/// What becomes of a video whose annotations or words are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Faulty {
    /// It ends the work with an error.
    #[default]
    Refuse,
    /// It is left out and told of in the report, as the reference leaves out videos of `ViTT`.
    LeaveOut,
}

/// What became of annotations and files.
#[derive(Debug, Default)]
pub struct Report {
    /// Videos that there are annotations for.
    pub annotated: usize,
    /// Those of them that have no file.
    pub without_file: Vec<String>,
    /// Files that have no annotation.
    pub without_annotation: Vec<PathBuf>,
    /// Those of another part of the data set than the one asked for. They are not among `annotated`.
    pub other_subset: usize,
    /// Ids in annotations that no name of a video is known for. They are not among `annotated`.
    pub nameless: Vec<String>,
    /// Videos of tables that nobody has marked an event of, where that was asked for. They are not among `annotated`.
    pub without_mark: usize,
    /// Annotators of all examples: how often a video is told of.
    pub accounts: usize,
    /// Examples in which nothing is said.
    pub silent: usize,
    /// Videos that are wrong and were left out.
    pub faulty: Vec<Error>,
}

impl Report {
    /// Counts an example.
    pub fn count(&mut self, example: &Example) {
        self.accounts += example.references.len();
        self.silent += usize::from(example.speech.is_empty());
    }
}

/// An example for each video that has annotations and a file, in the order of the annotations, and what became of
/// the rest.
///
/// `duration` is asked for the length in microseconds of a file where the annotations do not tell it: the cache of
/// features knows it of each video that was prepared, [`duration_us`](super::pictures::duration_us) of any.
///
/// # Errors
/// [`Error::Fault`], [`Error::Words`], [`Error::Read`] and what `duration` says, for the first video that is wrong
/// under [`Faulty::Refuse`].
pub fn join(
    annotations: &Annotations,
    videos: &Videos,
    duration: &dyn Fn(&Path) -> Result<i64>,
    faulty: Faulty,
) -> Result<(Vec<Example>, Report)> {
    let known: BTreeSet<&str> = annotations.videos.iter().map(|v| v.video_id.as_str()).collect();
    let strangers = videos.iter().filter(|(video_id, _)| !known.contains(video_id));
    let mut report = Report {
        annotated: annotations.videos.len(),
        without_annotation: strangers.map(|(_, file)| file.path.clone()).collect(),
        ..Report::default()
    };
    let mut examples = Vec::new();
    for video in &annotations.videos {
        let Some(file) = videos.get(&video.video_id) else {
            report.without_file.push(video.video_id.clone());
            continue;
        };
        match (example(&annotations.path, video, file, duration), faulty) {
            (Ok(example), _) => {
                report.count(&example);
                examples.push(example);
            }
            (Err(error), Faulty::LeaveOut) => report.faulty.push(error),
            (Err(error), Faulty::Refuse) => return Err(error),
        }
    }
    Ok((examples, report))
}

fn example(
    path: &Path,
    video: &Annotated,
    file: &VideoFile,
    duration: &dyn Fn(&Path) -> Result<i64>,
) -> Result<Example> {
    let Annotated { video_id, references, .. } = video;
    let length = match video.duration {
        Some(seconds) => seconds,
        None => seconds(duration(&file.path)?),
    };
    let speech = words(file)?;
    let wrong = |fault: Fault| {
        let told_by = fault.annotator().and_then(|annotator| video.files.get(annotator));
        let path = told_by.map_or(path, PathBuf::as_path).to_owned();
        Error::Fault { path, video_id: video_id.clone(), fault }
    };
    Example::new(video_id, file.path.clone(), Some(length), speech, references).map_err(wrong)
}

/// What the subtitle file of a video says; nothing where there is none.
fn words(file: &VideoFile) -> Result<Vec<Cue>> {
    let Some((path, format)) = &file.sidecar else { return Ok(Vec::new()) };
    let bytes = fs::read(path).map_err(|source| Error::Read { path: path.clone(), source })?;
    let transcript = parse_sidecar(&bytes, *format, None)
        .map_err(|source| Error::Words { path: path.clone(), source })?;
    Ok(transcript.cues)
}

/// The examples of a folder that [`synth::generate`] made.
///
/// # Errors
/// [`Error::Read`], [`Error::Form`], and as [`join`] under [`Faulty::Refuse`].
pub fn synthetic(folder: &Path) -> Result<(Vec<Example>, Report)> {
    let truth = folder.join(synth::TRUTH);
    let annotations = Annotations::read(&truth, Form::ActivityNet)?;
    let untold = |_: &Path| {
        let fault = Fault::NoDuration;
        Err(Error::Fault { path: truth.clone(), video_id: String::new(), fault })
    };
    join(&annotations, &Videos::list(&folder.join(synth::VIDEOS))?, &untold, Faulty::Refuse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const WORDS: &str = "WEBVTT\n\n00:01.000 --> 00:02.000\nhi\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    /// What a file says of its length.
    const PROBED: fn(&Path) -> Result<i64> = |_| Ok(20_000_000);

    #[rstest]
    #[case::plain(&["a.mp4", "a.en.vtt", "a.srt"], Some("a.srt"))]
    #[case::by_kind(&["a.mp4", "a.json", "a.srt", "a.vtt"], Some("a.vtt"))]
    #[case::in_a_language(&["a.mp4", "a.fr.srt", "a.de.srt"], Some("a.de.srt"))]
    #[case::of_another(&["a.mp4", "b.vtt", "b.mkv"], None)]
    #[case::dots_in_the_name(&["a.b.mp4", "a.b.vtt"], Some("a.b.vtt"))]
    fn words_lie_beside(#[case] names: &[&str], #[case] expected: Option<&str>) {
        let files: Vec<_> = names.iter().map(|&name| (name, "")).collect();
        let folder = folder(&files);
        let videos = Videos::list(folder.path()).unwrap();
        let id = names[0].strip_suffix(".mp4").unwrap();
        let found = videos.get(id).unwrap().sidecar.as_ref().map(|(path, _)| path.clone());
        assert_eq!(found, expected.map(|name| folder.path().join(name)));
    }

    #[test]
    fn two_videos_of_one_name_are_refused() {
        let folder = folder(&[("one/a.mp4", ""), ("two/a.MKV", "")]);
        let error = Videos::list(folder.path()).unwrap_err().to_string();
        assert!(error.contains("one/a.mp4") && error.contains("two/a.MKV"), "{error}");
    }

    #[test]
    fn nothing_is_skipped_in_silence() {
        let truth = r#"{"a": {"duration": 9, "timestamps": [[1, 2]], "sentences": ["x"]},
                        "gone": {"duration": 9, "timestamps": [[1, 2]], "sentences": ["x"]},
                        "b": {"timestamps": [[15, 16]], "sentences": ["y"]},
                        "bad": {"duration": 9, "timestamps": [[1, 2], [3, 2]], "sentences": ["x", "z"]},
                        "mute": {"duration": 9, "timestamps": [], "sentences": []}}"#;
        let folder = folder(&[
            ("truth.json", truth),
            ("v/a.mp4", ""),
            ("v/a.vtt", WORDS),
            ("v/b.mp4", ""),
            ("v/bad.mp4", ""),
            ("v/mute.mp4", ""),
            ("v/mute.vtt", "once upon a time"),
            ("v/stranger.mp4", ""),
        ]);
        let path = folder.path().join("truth.json");
        let annotations = Annotations::read(&path, Form::ActivityNet).unwrap();
        let videos = Videos::list(&folder.path().join("v")).unwrap();

        let error = join(&annotations, &videos, &PROBED, Faulty::Refuse).unwrap_err().to_string();
        let expected = "truth.json`: video `bad`: event 1 of annotator 0 starts at 3 and ends at 2";
        assert!(error.contains(expected), "{error}");

        let (examples, report) = join(&annotations, &videos, &PROBED, Faulty::LeaveOut).unwrap();
        let ids: Vec<_> = examples.iter().map(|example| example.video_id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(examples[0].speech.len(), 1);
        assert_eq!(examples[1].duration_us(), 20_000_000);
        assert_eq!((report.annotated, report.silent), (5, 1));
        assert_eq!(report.without_file, ["gone"]);
        assert_eq!(report.without_annotation, [folder.path().join("v/stranger.mp4")]);
        let faulty: Vec<_> = report.faulty.iter().map(ToString::to_string).collect();
        assert!(faulty[0].contains("`bad`") && faulty[1].contains("mute.vtt"), "{faulty:?}");
    }

    #[test]
    fn videos_without_annotations_are_learnt_from_by_their_words() {
        let folder = folder(&[("a.mp4", ""), ("a.vtt", WORDS)]);
        let videos = Videos::list(folder.path()).unwrap();
        let annotations = videos.unannotated(folder.path());
        let (examples, _) = join(&annotations, &videos, &PROBED, Faulty::Refuse).unwrap();
        assert_eq!((examples[0].speech.len(), examples[0].events()), (1, [].as_slice()));
    }
}
