//! What recognisers have heard in earlier runs, found by video: so that another caption model does not pay
//! for recognition again.

use std::collections::{BTreeMap, HashMap};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Float32Type, Int32Type, Int64Type},
};
use eventide_schema::{Cue, TimeSpan, Transcript, TranscriptSource, Video};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;

use crate::{
    Error, Location, Result, Table, Tables,
    parts::{PartReader, conform},
    tables::{data_files, optional_text, read_concurrency, text},
};

/// The published transcripts, and which file holds those of each video: some 100 bytes a video.
#[derive(Debug)]
pub struct Transcripts {
    folder: Location,
    /// Path and size.
    files: Vec<(Path, u64)>,
    places: HashMap<Box<str>, usize>,
}

impl Tables {
    /// The transcripts that the newest published run left. Reads one column of the table.
    ///
    /// # Errors
    /// Whatever keeps the table from being read.
    pub async fn transcripts(&self) -> Result<Transcripts> {
        let folder = self.folder(Table::Transcripts);
        let mut transcripts = Transcripts { folder, files: Vec::new(), places: HashMap::new() };
        let Some(snapshot) = self.snapshot().await? else { return Ok(transcripts) };
        let version = Some(snapshot.transcripts_version);
        let Some(delta) = self.delta(Table::Transcripts, version).await? else {
            return Ok(transcripts);
        };
        let files = data_files(&transcripts.folder, &delta)?;
        transcripts.files = files.into_iter().map(|file| (file.path, file.size_bytes)).collect();
        transcripts.places = transcripts.find().await?;
        Ok(transcripts)
    }
}

impl Transcripts {
    /// Whether no transcript is published.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// What the recogniser that `speech_digest` stands for has heard in these videos, by `video_id`.
    /// Those of which there are no words, or those of another version, are left out.
    ///
    /// # Errors
    /// Whatever keeps the table from being read.
    pub async fn of(
        &self,
        videos: &[&Video],
        speech_digest: &str,
    ) -> Result<HashMap<String, Transcript>> {
        let mut wanted: BTreeMap<usize, HashMap<String, String>> = BTreeMap::new();
        for video in videos {
            if let Some(file) = self.places.get(video.video_id.as_str()) {
                let versions = wanted.entry(*file).or_default();
                versions.insert(video.video_id.clone(), video.source_version.clone());
            }
        }
        let mut reads = futures::stream::iter(wanted)
            .map(|(file, versions)| self.read(file, versions, speech_digest))
            .buffer_unordered(read_concurrency());
        let mut found = HashMap::new();
        while let Some(transcripts) = reads.try_next().await? {
            found.extend(transcripts);
        }
        Ok(found)
    }

    /// The file that holds the rows of each video; all rows of a video are written together.
    async fn find(&self) -> Result<HashMap<Box<str>, usize>> {
        let mut reads = futures::stream::iter(0..self.files.len())
            .map(|file| async move {
                let mut ids: Vec<Box<str>> = Vec::new();
                let take = |batch: &RecordBatch| {
                    for id in batch.column(0).as_string::<i32>().iter().flatten() {
                        if ids.last().is_none_or(|last| **last != *id) {
                            ids.push(id.into());
                        }
                    }
                };
                self.scan(file, &["video_id"], take).await?;
                Ok::<_, Error>((file, ids))
            })
            .buffer_unordered(read_concurrency());
        let mut places = HashMap::new();
        while let Some((file, ids)) = reads.try_next().await? {
            places.extend(ids.into_iter().map(|id| (id, file)));
        }
        Ok(places)
    }

    /// The transcripts of one file that are of these versions and of this recogniser.
    async fn read(
        &self,
        file: usize,
        versions: HashMap<String, String>,
        speech_digest: &str,
    ) -> Result<HashMap<String, Transcript>> {
        let columns = [
            "video_id",
            "source_version",
            "sentence_index",
            "start_ms",
            "end_ms",
            "text",
            "language",
            "confidence",
            "speech_digest",
        ];
        let mut sentences: HashMap<String, Vec<Sentence>> = HashMap::new();
        let take = |batch: &RecordBatch| {
            let ids = batch.column(0).as_string::<i32>();
            let is_wanted = |row: &usize| {
                let digest = optional_text(batch, "speech_digest", *row);
                let version = versions.get(ids.value(*row));
                version.is_some_and(|version| *version == text(batch, "source_version", *row))
                    && digest.as_deref() == Some(speech_digest)
            };
            for row in (0..batch.num_rows()).filter(is_wanted) {
                let video = sentences.entry(ids.value(row).to_owned()).or_default();
                video.push(Sentence::of(batch, row));
            }
        };
        self.scan(file, &columns, take).await?;
        Ok(sentences.into_iter().map(|(id, sentences)| (id, transcript(sentences))).collect())
    }

    /// Reads some columns of a file.
    async fn scan(
        &self,
        file: usize,
        columns: &[&str],
        mut take: impl FnMut(&RecordBatch),
    ) -> Result<()> {
        let (path, size_bytes) = &self.files[file];
        let schema = Table::Transcripts.schema();
        let indices: Vec<_> =
            columns.iter().filter_map(|name| schema.index_of(name).ok()).collect();
        let wrong = |source| Error::Rows { uri: self.folder.uri.clone(), source };
        let schema = schema.project(&indices).map_err(wrong)?.into();
        let reader = PartReader::open(&self.folder, path.clone(), *size_bytes).await?;
        let PartReader { builder, uri } = reader.columns(columns);
        let wrong = |source| Error::Parquet { action: "read", uri: uri.clone(), source };
        let mut batches = builder.build().map_err(wrong)?;
        while let Some(batch) = batches.try_next().await.map_err(wrong)? {
            take(&conform(&batch, &schema, &uri)?);
        }
        Ok(())
    }
}

/// A sentence as it stands in the table.
struct Sentence {
    index: i32,
    cue: Cue,
    confidence: f32,
    language: Option<String>,
}

impl Sentence {
    fn of(batch: &RecordBatch, row: usize) -> Self {
        let index = batch.column(2).as_primitive::<Int32Type>().value(row);
        let us = |column: usize| {
            batch.column(column).as_primitive::<Int64Type>().value(row).saturating_mul(1000)
        };
        let span = TimeSpan::new(us(3), us(4));
        let confidence = batch.column(7).as_primitive::<Float32Type>();
        let confidence = if confidence.is_valid(row) { confidence.value(row) } else { 0.0 };
        let (text, language) = (text(batch, "text", row), optional_text(batch, "language", row));
        Self { index, cue: Cue { span, text }, confidence, language }
    }
}

/// The sentences in the order in which they were heard.
fn transcript(mut sentences: Vec<Sentence>) -> Transcript {
    sentences.sort_by_key(|sentence| sentence.index);
    let language = sentences.first().and_then(|sentence| sentence.language.clone());
    let (cues, confidences) = sentences.into_iter().map(|s| (s.cue, s.confidence)).unzip();
    Transcript { source: TranscriptSource::Asr, language, cues, confidences }
}
