//! The files of annotations that people have, as text to values. Nothing is judged here but the form:
//! [`Example::new`](super::Example::new) does that.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use eventide_eval::forms::Entries;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    error::{Error, Result},
    example::Mark,
};

/// The forms that are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// `ActivityNet` Captions, and the truth of our synthetic videos:
    /// `{video: {"duration": s, "timestamps": [[start, end]], "sentences": [".."]}}`. One annotator a file.
    #[default]
    ActivityNet,
    /// `YouCook2`: `{"database": {video: {"duration": s, "subset": "training", "annotations":
    /// [{"segment": [start, end], "id": 0, "sentence": ".."}]}}}`.
    #[serde(rename = "youcook2")]
    YouCook2,
    /// `ViTT`: one after another `{"id": "..", "annotations": [{"timestamp": ms, "tag": ".."}]}`, an entry for each
    /// annotator of a video. An event lasts until the next one starts, the last until the end of the video, whose
    /// length is not told.
    Vitt,
    /// `VidChapters`: `{video: {"duration": s, "chapters": {"start": "title"}}}`, or the chapters as a list of
    /// `{"time": s, "label": ".."}` as its collecting scripts leave them. A chapter lasts until the next one.
    #[serde(rename = "vidchapters")]
    VidChapters,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::ActivityNet => "ActivityNet Captions",
            Self::YouCook2 => "YouCook2",
            Self::Vitt => "ViTT",
            Self::VidChapters => "VidChapters",
        }
    }
}

/// What a file says of one video.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotated {
    /// The name of the video.
    pub video_id: String,
    /// Its length in seconds, if the file tells it.
    pub duration: Option<f64>,
    /// The part of the data set that it belongs to, if the file tells it: `training`, `validation`.
    pub subset: Option<String>,
    /// The events of each annotator, as they stand in the file.
    pub references: Vec<Vec<Mark>>,
    /// The file of each annotator.
    pub files: Vec<PathBuf>,
}

/// The annotations of a file, or of several about the same videos.
#[derive(Debug, Clone, PartialEq)]
pub struct Annotations {
    /// The file, the first of several.
    pub path: PathBuf,
    /// What is said of each video, in the order of the file. No video is there twice.
    pub videos: Vec<Annotated>,
}

impl Annotations {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Form`] if it is of another form or has a number that is none, and
    /// [`Error::Twice`].
    pub fn read(path: &Path, form: Form) -> Result<Self> {
        let text = fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let mut videos = parse(&text, form).map_err(|source| Error::Form {
            path: path.to_owned(),
            form: form.name(),
            source,
        })?;
        for video in &mut videos {
            video.files = vec![path.to_owned(); video.references.len()];
        }
        let mut seen = BTreeSet::new();
        match videos.iter().find(|video| !seen.insert(video.video_id.as_str())) {
            Some(video) => {
                Err(Error::Twice { path: path.to_owned(), video_id: video.video_id.clone() })
            }
            None => Ok(Self { path: path.to_owned(), videos }),
        }
    }

    /// Adds the annotators of another file, such as `val_2.json` of `ActivityNet` to `val_1.json`. Videos that
    /// only that file has come last.
    pub fn add_annotators(&mut self, other: Self) {
        let places = self.videos.iter().enumerate();
        let places: BTreeMap<String, usize> =
            places.map(|(place, video)| (video.video_id.clone(), place)).collect();
        for video in other.videos {
            match places.get(&video.video_id).and_then(|&place| self.videos.get_mut(place)) {
                Some(same) => same.add(video),
                None => self.videos.push(video),
            }
        }
    }

    /// Keeps the videos of one part of the data set, as `training`. How many went.
    ///
    /// # Errors
    /// [`Error::Subset`] if none is of that part.
    pub fn keep_subset(&mut self, subset: &str) -> Result<usize> {
        let known: BTreeSet<&str> =
            self.videos.iter().filter_map(|video| video.subset.as_deref()).collect();
        if !known.contains(subset) {
            let known = known.into_iter().map(str::to_owned).collect();
            return Err(Error::Subset {
                path: self.path.clone(),
                subset: subset.to_owned(),
                known,
            });
        }
        let before = self.videos.len();
        self.videos.retain(|video| video.subset.as_deref() == Some(subset));
        Ok(before - self.videos.len())
    }

    /// Gives videos the names that `names` has for theirs, as `ViTT` needs it; the others go. Their names.
    pub fn rename(&mut self, names: &BTreeMap<String, String>) -> Vec<String> {
        let mut nameless = Vec::new();
        self.videos.retain_mut(|video| {
            let name = names.get(&video.video_id);
            match name {
                Some(name) => video.video_id.clone_from(name),
                None => nameless.push(std::mem::take(&mut video.video_id)),
            }
            name.is_some()
        });
        nameless
    }
}

impl Annotated {
    /// What a file says of one video.
    fn of_file(
        video_id: String,
        duration: Option<f64>,
        subset: Option<String>,
        references: Vec<Vec<Mark>>,
    ) -> Self {
        Self { video_id, duration, subset, references, files: Vec::new() }
    }

    /// Adds the annotators of another file.
    fn add(&mut self, other: Self) {
        self.references.extend(other.references);
        self.files.extend(other.files);
        self.duration = self.duration.or(other.duration);
        self.subset = self.subset.take().or(other.subset);
    }
}

/// Reads the names of videos for the ids that annotations have in their place: an object `{"id": "name"}`.
///
/// `ViTT` needs it: its ids are those of YouTube-8M, which a file of videos is seldom named by.
///
/// # Errors
/// [`Error::Read`], [`Error::Form`], [`Error::Twice`] if two ids have one name.
pub fn names(path: &Path) -> Result<BTreeMap<String, String>> {
    let text =
        fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let names: BTreeMap<String, String> = serde_json::from_str(&text).map_err(|source| {
        Error::Form { path: path.to_owned(), form: "names of videos by their ids", source }
    })?;
    let mut seen = BTreeSet::new();
    match names.values().find(|name| !seen.insert(name.as_str())) {
        Some(name) => Err(Error::Twice { path: path.to_owned(), video_id: name.clone() }),
        None => Ok(names),
    }
}

fn parse(text: &str, form: Form) -> serde_json::Result<Vec<Annotated>> {
    match form {
        Form::ActivityNet => {
            let file: Entries<ActivityNet> = serde_json::from_str(text)?;
            file.0.into_iter().map(|(video_id, entry)| entry.annotated(video_id)).collect()
        }
        Form::YouCook2 => {
            let file: YouCook2 = serde_json::from_str(text)?;
            Ok(file.database.0.into_iter().map(|(id, entry)| entry.annotated(id)).collect())
        }
        Form::Vitt => vitt(text),
        Form::VidChapters => {
            let file: Entries<VidChapters> = serde_json::from_str(text)?;
            file.0.into_iter().map(|(video_id, entry)| entry.annotated(video_id)).collect()
        }
    }
}

fn wrong(problem: String) -> serde_json::Error {
    serde::de::Error::custom(problem)
}

#[derive(Deserialize)]
struct ActivityNet {
    duration: Option<f64>,
    timestamps: Vec<(f64, f64)>,
    sentences: Vec<String>,
}

impl ActivityNet {
    fn annotated(self, video_id: String) -> serde_json::Result<Annotated> {
        let Self { duration, timestamps, sentences } = self;
        let (spans, captions) = (timestamps.len(), sentences.len());
        if spans != captions {
            return Err(wrong(format!("`{video_id}` has {spans} spans and {captions} captions")));
        }
        let mark = |((start, end), caption)| Mark { start, end: Some(end), caption };
        let references = vec![timestamps.into_iter().zip(sentences).map(mark).collect()];
        Ok(Annotated::of_file(video_id, duration, None, references))
    }
}

#[derive(Deserialize)]
struct YouCook2 {
    database: Entries<Recipe>,
}

#[derive(Deserialize)]
struct Recipe {
    duration: Option<f64>,
    subset: Option<String>,
    annotations: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    segment: (f64, f64),
    sentence: String,
}

impl Recipe {
    fn annotated(self, video_id: String) -> Annotated {
        let Self { duration, subset, annotations } = self;
        let mark = |Step { segment: (start, end), sentence: caption }| Mark {
            start,
            end: Some(end),
            caption,
        };
        let references = vec![annotations.into_iter().map(mark).collect()];
        Annotated::of_file(video_id, duration, subset, references)
    }
}

#[derive(Deserialize)]
struct Vitt {
    id: String,
    annotations: Vec<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    timestamp: f64,
    tag: String,
}

fn vitt(text: &str) -> serde_json::Result<Vec<Annotated>> {
    let mut videos: Vec<Annotated> = Vec::new();
    let mut places = BTreeMap::new();
    for entry in serde_json::Deserializer::from_str(text).into_iter() {
        let Vitt { id, annotations } = entry?;
        let starts =
            annotations.into_iter().map(|Tag { timestamp, tag }| (timestamp / 1000.0, tag));
        let reference = chapters(starts.collect());
        let place = *places.entry(id.clone()).or_insert(videos.len());
        match videos.get_mut(place) {
            Some(video) => video.references.push(reference),
            None => videos.push(Annotated::of_file(id, None, None, vec![reference])),
        }
    }
    Ok(videos)
}

#[derive(Deserialize)]
struct VidChapters {
    duration: Option<f64>,
    chapters: Chapters,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Chapters {
    Titles(Entries<String>),
    List(Vec<Chapter>),
}

#[derive(Deserialize)]
struct Chapter {
    time: f64,
    label: String,
}

impl VidChapters {
    fn annotated(self, video_id: String) -> serde_json::Result<Annotated> {
        let start = |(start, title): (String, String)| match start.parse::<f64>() {
            Ok(start) => Ok((start, title)),
            Err(_) => Err(wrong(format!("`{video_id}` has a chapter at `{start}`, no number"))),
        };
        let mut starts = match self.chapters {
            Chapters::Titles(titles) => {
                titles.0.into_iter().map(start).collect::<serde_json::Result<Vec<_>>>()?
            }
            Chapters::List(list) => {
                list.into_iter().map(|Chapter { time, label }| (time, label)).collect()
            }
        };
        // An object has no order.
        starts.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let references = vec![chapters(starts)];
        Ok(Annotated::of_file(video_id, self.duration, None, references))
    }
}

/// Events each of which lasts until the next one starts.
fn chapters(starts: Vec<(f64, String)>) -> Vec<Mark> {
    let ends: Vec<Option<f64>> =
        starts.iter().skip(1).map(|(start, _)| Some(*start)).chain([None]).collect();
    let mark = |((start, caption), end)| Mark { start, end, caption };
    starts.into_iter().zip(ends).map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn read(text: &str, form: Form) -> Result<Annotations> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        Annotations::read(file.path(), form)
    }

    /// Videos as lines: name, length, subset, then for each annotator the events.
    fn shown(found: &Annotations) -> Vec<String> {
        let mark = |mark: &Mark| {
            let end = mark.end.map_or("end".to_owned(), |end| end.to_string());
            format!("{}..{end} {}", mark.start, mark.caption)
        };
        let reference = |marks: &Vec<Mark>| marks.iter().map(mark).collect::<Vec<_>>().join(", ");
        let video = |video: &Annotated| {
            let duration = video.duration.map_or("?".to_owned(), |length| length.to_string());
            let subset = video.subset.as_deref().unwrap_or("-");
            let references: Vec<_> = video.references.iter().map(reference).collect();
            format!("{} {duration} {subset}: {}", video.video_id, references.join(" | "))
        };
        found.videos.iter().map(video).collect()
    }

    const ACTIVITY_NET: &str = r#"{
        "v_b": {"duration": 82.73, "timestamps": [[0.83, 19.86], [17.37, 60.81]],
                "sentences": ["A woman walks.", " She turns."]},
        "v_a": {"duration": 5, "timestamps": [], "sentences": []}}"#;
    const YOUCOOK2: &str = r#"{"database": {"GLd3aX16zBg": {"duration": 241.62, "subset": "training",
        "recipe_type": "113", "video_url": "https://example.org",
        "annotations": [{"segment": [90, 102], "id": 0, "sentence": "spread margarine"},
                        {"segment": [114, 127], "id": 1, "sentence": "place cheese"}]}}}"#;
    const VITT: &str = concat!(
        r#"{"id": "FmTp", "annotations": [{"timestamp": 260, "tag": "Opening"}, {"timestamp": 16000, "tag": "Technique"}]}"#,
        "\n",
        r#"{"id": "AAAA", "annotations": []}"#,
        "\n",
        r#"{"id": "FmTp", "annotations": [{"timestamp": 0, "tag": "Intro"}]}"#,
        "\n"
    );
    const VIDCHAPTERS: &str = r#"{
        "x": {"duration": 139.258, "title": "t", "view_count": 1, "chapters": {"106": "Tips", "41": "Needs"}},
        "y": {"duration": 60, "chapters": [{"time": 0, "label": "Intro"}, {"time": 12.5, "label": "Go"}]}}"#;

    #[rstest]
    #[case::activity_net(ACTIVITY_NET, Form::ActivityNet,
        &["v_b 82.73 -: 0.83..19.86 A woman walks., 17.37..60.81  She turns.", "v_a 5 -: "])]
    #[case::youcook2(YOUCOOK2, Form::YouCook2,
        &["GLd3aX16zBg 241.62 training: 90..102 spread margarine, 114..127 place cheese"])]
    #[case::vitt(VITT, Form::Vitt,
        &["FmTp ? -: 0.26..16 Opening, 16..end Technique | 0..end Intro", "AAAA ? -: "])]
    #[case::vidchapters(VIDCHAPTERS, Form::VidChapters,
        &["x 139.258 -: 41..106 Needs, 106..end Tips", "y 60 -: 0..12.5 Intro, 12.5..end Go"])]
    fn reads(#[case] text: &str, #[case] form: Form, #[case] expected: &[&str]) {
        assert_eq!(shown(&read(text, form).unwrap()), expected);
    }

    #[rstest]
    #[case::not_json(
        "once",
        Form::ActivityNet,
        "in the form of ActivityNet Captions: expected value"
    )]
    #[case::another_form(YOUCOOK2, Form::ActivityNet, "missing field `timestamps`")]
    #[case::another_form(
        ACTIVITY_NET,
        Form::YouCook2,
        "in the form of YouCook2: missing field `database`"
    )]
    #[case::not_a_number(
        r#"{"v": {"timestamps": [[NaN, 1]], "sentences": ["a"]}}"#,
        Form::ActivityNet,
        "expected value"
    )]
    #[case::beyond_numbers(
        r#"{"v": {"timestamps": [[1e999, 1]], "sentences": ["a"]}}"#,
        Form::ActivityNet,
        "out of range"
    )]
    #[case::uneven(
        r#"{"v": {"timestamps": [[0, 1]], "sentences": []}}"#,
        Form::ActivityNet,
        "`v` has 1 spans and 0 captions"
    )]
    #[case::twice(
        r#"{"v": {"timestamps": [], "sentences": []}, "v": {"timestamps": [], "sentences": []}}"#,
        Form::ActivityNet,
        "two entries for the video `v`"
    )]
    #[case::cut_off(&VITT[..VITT.len() - 10], Form::Vitt, "EOF")]
    #[case::no_time(
        r#"{"v": {"chapters": {"soon": "x"}}}"#,
        Form::VidChapters,
        "`v` has a chapter at `soon`"
    )]
    fn refuses(#[case] text: &str, #[case] form: Form, #[case] because: &str) {
        let error = read(text, form).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        let told = format!("{error}: {}", source.unwrap_or_default());
        assert!(told.contains(because), "{told}");
    }

    #[test]
    fn another_annotator_joins_by_video() {
        let second = r#"{"v_c": {"timestamps": [[1, 2]], "sentences": ["c"]},
                         "v_b": {"timestamps": [[3, 4]], "sentences": ["b"]}}"#;
        let mut found = read(ACTIVITY_NET, Form::ActivityNet).unwrap();
        found.add_annotators(read(second, Form::ActivityNet).unwrap());
        let references: Vec<_> =
            found.videos.iter().map(|v| (v.video_id.as_str(), v.references.len())).collect();
        assert_eq!(references, [("v_b", 2), ("v_a", 1), ("v_c", 1)]);
        assert_eq!(found.videos[0].files.len(), 2);
        assert_eq!(found.videos[0].files[0], found.path);
        assert_ne!(found.videos[0].files[1], found.path);
    }

    #[test]
    fn a_part_of_a_data_set_is_kept() {
        let two = r#"{"database": {"a": {"subset": "training", "annotations": []},
                                   "b": {"subset": "validation", "annotations": []}}}"#;
        let mut found = read(two, Form::YouCook2).unwrap();
        let error = found.keep_subset("train").unwrap_err().to_string();
        assert!(
            error.ends_with("no video of the subset `train`: there are `training`, `validation`"),
            "{error}"
        );
        assert_eq!(found.keep_subset("validation").unwrap(), 1);
        assert_eq!(found.videos[0].video_id, "b");

        let error = read(ACTIVITY_NET, Form::ActivityNet).unwrap().keep_subset("training");
        let error = error.unwrap_err().to_string();
        assert!(error.ends_with("it names no subsets"), "{error}");
    }

    #[test]
    fn videos_without_a_name_are_told() {
        let mut found = read(VITT, Form::Vitt).unwrap();
        let names = BTreeMap::from([("FmTp".to_owned(), "dQw4w9WgXcQ".to_owned())]);
        assert_eq!(found.rename(&names), ["AAAA"]);
        assert_eq!(found.videos[0].video_id, "dQw4w9WgXcQ");
        assert_eq!(found.videos.len(), 1);
    }

    #[rstest]
    #[case::right(r#"{"FmTp": "dQw4", "AAAA": "x"}"#, None)]
    #[case::no_names(r#"["FmTp"]"#, Some("in the form of names of videos by their ids"))]
    #[case::two_of_one_name(r#"{"FmTp": "x", "AAAA": "x"}"#, Some("two entries for the video `x`"))]
    fn names_are_read(#[case] text: &str, #[case] wrong: Option<&str>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let found = names(file.path());
        let told = found.as_ref().err().map(ToString::to_string);
        assert_eq!(told.is_some(), wrong.is_some(), "{told:?}");
        assert!(told.unwrap_or_default().contains(wrong.unwrap_or_default()));
        assert!(found.is_err() || found.unwrap()["FmTp"] == "dQw4");
    }
}
