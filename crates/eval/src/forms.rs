//! The JSON forms in which the field exchanges events, as text to values. Reading files is the caller's.
//!
//! * ActivityNet's predictions: `{"results": {video: [{"sentence": "..", "timestamp": [start, end]}]}}`, in which an event
//!   may have a `score` (or a `proposal_score`, as PDVC writes);
//! * ActivityNet's references: `{video: {"duration": d, "timestamps": [[start, end]], "sentences": [".."]}}`, which are also
//!   those of `YouCook2`, `ViTT` and VidChapters;
//! * VidChapters' chapters: `{video: {"duration": d, "chapters": [{"time": start, "label": ".."}]}}`, where a chapter ends
//!   as the next one begins, and the last one with the video;
//! * VidChapters' captioned clips: `{"results": {clip: {"sentence": "..", "gt": ".."}}}`, predictions and references in one.
//!
//! Times are seconds. Keys that nobody scores by (`version`, `external_data`) are passed over; a video that one text lists
//! twice is an error, where most parsers keep the last.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{Annotations, Error, Event, Result, Span};

/// What an entry should have, for a person.
const KNOWN: &str = "a list of `sentence` and `timestamp`, or `timestamps` and `sentences`, or `chapters`, or a clip's `sentence` and `gt`";

/// What a text is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What a model says.
    Predictions,
    /// What an annotator says.
    References,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Predictions => "predictions",
            Self::References => "references",
        }
    }
}

/// Reads predictions in any of the forms.
///
/// # Errors
///
/// As [`read`].
pub fn predictions(json: &str) -> Result<Annotations> {
    read(json, Side::Predictions)
}

/// Reads one reference set in any of the forms.
///
/// # Errors
///
/// As [`read`].
pub fn references(json: &str) -> Result<Annotations> {
    read(json, Side::References)
}

/// Reads events in any of the forms. `side` decides what is taken of a text that holds both.
///
/// # Errors
///
/// [`Error::Form`] if `json` is of no such form, [`Error::NoVideos`] if it is empty, [`Error::Unknown`] for an entry that is not, [`Error::Uneven`] if a
/// video's lists differ in length, [`Error::NoDuration`] for chapters without an end; else as [`Annotations::insert`].
pub fn read(json: &str, side: Side) -> Result<Annotations> {
    let file: File =
        serde_json::from_str(json).map_err(|source| Error::Form { form: side.name(), source })?;
    if file.0.is_empty() {
        return Err(Error::NoVideos { form: side.name() });
    }
    let mut annotations = Annotations::new();
    for (video, entry) in file.0 {
        let events = match entry {
            Entry::Listed(events) => events.into_iter().map(Listed::event).collect(),
            Entry::Described(described) => {
                let (events, cut_off) = described.events(&video, side)?;
                annotations.count_cut_off(cut_off);
                events
            }
            Entry::Other => return Err(Error::Unknown { video, expected: KNOWN }),
        };
        annotations.insert(&video, events)?;
    }
    Ok(annotations)
}

/// The entries of a file: those below `results`, or all.
struct File(Vec<(String, Entry)>);

/// What a file says of one video.
enum Entry {
    Listed(Vec<Listed>),
    Described(Box<Described>),
    /// Nothing that could be events.
    Other,
}

/// An event of a list.
#[derive(Deserialize)]
struct Listed {
    sentence: String,
    timestamp: (f64, f64),
    #[serde(default, alias = "proposal_score")]
    score: Option<f64>,
}

impl Listed {
    fn event(self) -> Event {
        let (start, end) = self.timestamp;
        Event { span: Span { start, end }, caption: self.sentence, score: self.score }
    }
}

#[derive(Deserialize)]
struct Described {
    timestamps: Option<Vec<(f64, f64)>>,
    sentences: Option<Vec<String>>,
    duration: Option<f64>,
    chapters: Option<Vec<Chapter>>,
    sentence: Option<String>,
    gt: Option<String>,
}

#[derive(Deserialize)]
struct Chapter {
    time: f64,
    label: String,
}

impl Described {
    /// The events, and how many were left out because they end after the video.
    fn events(self, video: &str, side: Side) -> Result<(Vec<Event>, usize)> {
        let clip = match side {
            Side::Predictions => self.sentence,
            Side::References => self.gt,
        };
        match (self.timestamps, self.sentences, self.chapters, clip) {
            (Some(timestamps), Some(sentences), None, None) => {
                Ok((paired(video, timestamps, sentences)?, 0))
            }
            (None, None, Some(chapters), None) => {
                let video = video.to_owned();
                let duration = self.duration.ok_or(Error::NoDuration { video })?;
                Ok(chaptered(chapters, duration))
            }
            (None, None, None, Some(caption)) => Ok((vec![Event::new(0.0, 0.0, &caption)], 0)),
            _ => Err(Error::Unknown { video: video.to_owned(), expected: KNOWN }),
        }
    }
}

fn paired(video: &str, timestamps: Vec<(f64, f64)>, sentences: Vec<String>) -> Result<Vec<Event>> {
    if timestamps.len() != sentences.len() {
        let (spans, captions) = (timestamps.len(), sentences.len());
        return Err(Error::Uneven { video: video.to_owned(), spans, captions });
    }
    let events = timestamps.into_iter().zip(sentences);
    Ok(events
        .map(|((start, end), caption)| Event { span: Span { start, end }, caption, score: None })
        .collect())
}

/// Chapters as events; those that end before they start or after the video are left out and counted.
fn chaptered(chapters: Vec<Chapter>, duration: f64) -> (Vec<Event>, usize) {
    let starts: Vec<f64> = chapters.iter().map(|chapter| chapter.time).collect();
    let ends = starts.iter().copied().skip(1).chain([duration]);
    let number = chapters.len();
    let events: Vec<_> = chapters
        .into_iter()
        .zip(ends)
        .filter(|(chapter, end)| chapter.time <= *end && *end <= duration)
        .map(|(chapter, end)| Event::new(chapter.time, end, &chapter.label))
        .collect();
    let cut_off = number - events.len();
    (events, cut_off)
}

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FileVisitor)
    }
}

struct FileVisitor;

impl<'de> Visitor<'de> for FileVisitor {
    type Value = File;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with one entry a video, or with `results`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<File, A::Error> {
        let (mut entries, mut results) = (Vec::new(), None);
        while let Some(key) = map.next_key::<String>()? {
            if key == "results" {
                results = Some(map.next_value::<Entries<Entry>>()?.0);
            } else if results.is_some() {
                map.next_value::<IgnoredAny>()?;
            } else {
                entries.push((key, map.next_value()?));
            }
        }
        Ok(File(results.unwrap_or(entries)))
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(KNOWN)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Entry, A::Error> {
        let mut events = Vec::new();
        while let Some(event) = seq.next_element()? {
            events.push(event);
        }
        Ok(Entry::Listed(events))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
        let described = Described::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Entry::Described(Box::new(described)))
    }

    fn visit_str<E>(self, _: &str) -> Result<Entry, E> {
        Ok(Entry::Other)
    }

    fn visit_unit<E>(self) -> Result<Entry, E> {
        Ok(Entry::Other)
    }
}

/// The entries of an object as they come, so that one that comes twice is seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Entries<T>(pub Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

struct EntriesVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
    type Value = Entries<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with one entry a video")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}
