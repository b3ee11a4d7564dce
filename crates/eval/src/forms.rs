//! The JSON forms in which the field exchanges events: ActivityNet's, as text to values.
//!
//! Reading files is the caller's. Keys that nobody scores by (`version`, `external_data`, `duration`) are passed over; a
//! video that one text lists twice is an error, where most parsers keep the last.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use crate::{Annotations, Error, Event, Result, Span};

/// Reads predictions: `{"results": {video: [{"sentence": "..", "timestamp": [start, end]}]}}`, times in seconds.
///
/// # Errors
///
/// [`Error::Form`] if `json` is not of that form; else as [`Annotations::insert`].
pub fn predictions(json: &str) -> Result<Annotations> {
    let file: Predictions = parse(json, "predictions")?;
    Annotations::collect(file.results.0.into_iter().map(|(video, events)| {
        let events = events
            .into_iter()
            .map(|Predicted { sentence, timestamp: (start, end) }| Event {
                span: Span { start, end },
                caption: sentence,
            })
            .collect();
        (video, events)
    }))
}

/// Reads one reference set: `{video: {"timestamps": [[start, end]], "sentences": [".."]}}`, times in seconds.
///
/// # Errors
///
/// [`Error::Form`] if `json` is not of that form, [`Error::Uneven`] if a video's lists differ in length; else as
/// [`Annotations::insert`].
pub fn references(json: &str) -> Result<Annotations> {
    let file: Entries<Annotated> = parse(json, "references")?;
    let mut annotations = Annotations::new();
    for (video, Annotated { timestamps, sentences }) in file.0 {
        if timestamps.len() != sentences.len() {
            let (spans, captions) = (timestamps.len(), sentences.len());
            return Err(Error::Uneven { video, spans, captions });
        }
        let events = timestamps
            .into_iter()
            .zip(sentences)
            .map(|((start, end), caption)| Event { span: Span { start, end }, caption })
            .collect();
        annotations.insert(&video, events)?;
    }
    Ok(annotations)
}

fn parse<'a, T: Deserialize<'a>>(json: &'a str, form: &'static str) -> Result<T> {
    serde_json::from_str(json).map_err(|source| Error::Form { form, source })
}

#[derive(Deserialize)]
struct Predictions {
    results: Entries<Vec<Predicted>>,
}

#[derive(Deserialize)]
struct Predicted {
    sentence: String,
    timestamp: (f64, f64),
}

#[derive(Deserialize)]
struct Annotated {
    timestamps: Vec<(f64, f64)>,
    sentences: Vec<String>,
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
