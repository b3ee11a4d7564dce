//! Full-text search: an index of the published `events`, kept in a local folder and brought up to date from
//! the change data feed.
//!
//! The index is a copy that may be lost: it is built when it is first asked for, and again where it cannot be
//! continued. The Delta version that it holds is part of each of its commits, so one that is cut off leaves the
//! version before, and whoever asks about a night gets that night. `language` says what may be asked; `build` writes;
//! `relation` and `matches` are for SQL; `rewrite` finds where the index can answer `matches`, and `kept` does.

mod build;
mod document;
mod kept;
mod language;
mod matches;
mod relation;
mod rewrite;

use std::{
    ops::Bound,
    path::{Path, PathBuf},
};

use datafusion::{
    arrow::{array::RecordBatch, datatypes::SchemaRef},
    error::DataFusionError,
};
use tantivy::{
    DocAddress, Index, IndexReader, ReloadPolicy, TantivyDocument, Term,
    collector::{Count, TopDocs},
    query::{BooleanQuery, Occur, Query, RangeQuery, TermQuery},
    schema::IndexRecordOption,
};

pub(crate) use build::Source;
pub(crate) use kept::{Kept, Question};
pub(crate) use matches::Matches;
pub(crate) use relation::Search;
pub(crate) use rewrite::{answered, questions};

use crate::{Error, Result, error::CauseFrom};

/// Hits that one question is given at most.
pub const MOST_HITS: usize = 10_000;

/// An index of the events of one published version.
#[derive(Clone)]
pub struct SearchIndex {
    index: Index,
    reader: IndexReader,
    folder: PathBuf,
    version: Option<u64>,
}

impl std::fmt::Debug for SearchIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { folder, version, .. } = self;
        f.debug_struct("SearchIndex").field("folder", folder).field("version", version).finish()
    }
}

/// What hits must be, besides matching the words. What is `None` is not asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filters {
    /// The run that found the event.
    pub run_id: Option<String>,
    /// The model that found it.
    pub model_id: Option<String>,
    /// The language of the speech.
    pub language: Option<String>,
    /// `vid2seq` or `speech`.
    pub source: Option<String>,
    /// The video.
    pub video_id: Option<String>,
    /// The least mean log-probability; events without one are left out.
    pub min_score: Option<f64>,
    /// Indexed at this moment or later, microseconds since 1970 (UTC).
    pub since_us: Option<i64>,
    /// Indexed before this moment, likewise.
    pub until_us: Option<i64>,
    /// The least length of the event, milliseconds.
    pub min_duration_ms: Option<i64>,
    /// The greatest length of the event, milliseconds.
    pub max_duration_ms: Option<i64>,
}

/// What a question found.
#[derive(Debug, Clone)]
pub struct Hits {
    /// The best hits first: the columns of `events`, and `bm25`.
    pub rows: RecordBatch,
    /// How many events match in all.
    pub total: usize,
}

/// The columns of hits: those of `events`, and `bm25`, which is greater the better an event matches.
#[must_use]
pub fn hits_schema() -> SchemaRef {
    document::hits_schema()
}

impl SearchIndex {
    /// The version of `events` that is held. `None` where none was ever published.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.version
    }

    /// The best `limit` events (at most [`MOST_HITS`]), after the first `offset` of them. No words match
    /// every event. This computes: call it where threads may be kept busy.
    ///
    /// # Errors
    /// [`Error::SearchQuery`] for words that cannot be understood, [`Error::SearchIndex`] when the index
    /// cannot be read.
    pub fn search(
        &self,
        words: &str,
        filters: &Filters,
        limit: usize,
        offset: usize,
    ) -> Result<Hits> {
        let wrong = index_error(&self.folder);
        let query = self.question(words, filters)?;
        let searcher = self.reader.searcher();
        let best = TopDocs::with_limit(limit.clamp(1, MOST_HITS))
            .and_offset(offset.min(MOST_HITS))
            .order_by_score();
        let (mut found, total) = searcher.search(&query, &(best, Count)).map_err(&wrong)?;
        found.truncate(limit);
        Ok(Hits { rows: self.rows(&found)?, total })
    }

    /// How many events match. This computes.
    ///
    /// # Errors
    /// As [`SearchIndex::search`].
    pub(crate) fn count(&self, words: &str) -> Result<usize> {
        let query = self.question(words, &Filters::default())?;
        self.reader.searcher().search(&query, &Count).map_err(index_error(&self.folder))
    }

    /// Where the best `limit` events are, with their scores. This computes, and takes memory for `limit` of them.
    ///
    /// # Errors
    /// As [`SearchIndex::search`].
    pub(crate) fn best(&self, words: &str, limit: usize) -> Result<Vec<(f32, DocAddress)>> {
        let query = self.question(words, &Filters::default())?;
        let best = TopDocs::with_limit(limit.max(1)).order_by_score();
        let found = self.reader.searcher().search(&query, &best);
        found.map_err(index_error(&self.folder))
    }

    /// The events in these places as rows of [`hits_schema`].
    ///
    /// # Errors
    /// [`Error::SearchIndex`] when the index cannot be read.
    pub(crate) fn rows(&self, places: &[(f32, DocAddress)]) -> Result<RecordBatch> {
        let searcher = self.reader.searcher();
        let documents = places
            .iter()
            .map(|(score, at)| Ok((*score, searcher.doc::<TantivyDocument>(*at)?)))
            .collect::<tantivy::Result<Vec<_>>>()
            .map_err(index_error(&self.folder))?;
        let rows = document::rows(&documents, &self.index.schema());
        rows.map_err(|source| Error::Run { source: source.cause() })
    }

    /// The words and the filters as one question.
    fn question(&self, words: &str, filters: &Filters) -> Result<BooleanQuery> {
        let words = language::parse(&self.index, &["caption", "speech"], words)?;
        let mut parts = vec![(Occur::Must, words)];
        for (field, value) in filters.equal() {
            let term = Term::from_field_text(self.field(field)?, value);
            let query = TermQuery::new(term, IndexRecordOption::Basic);
            parts.push((Occur::Must, unscored(Box::new(query))));
        }
        if let Some(score) = filters.min_score {
            let least = Bound::Included(Term::from_field_f64(self.field("score")?, score));
            parts.push((Occur::Must, unscored(range(least, Bound::Unbounded))));
        }
        for (field, least, most) in filters.between() {
            let field = self.field(field)?;
            let term = |value: i64| Term::from_field_i64(field, value);
            if least != Bound::Unbounded || most != Bound::Unbounded {
                parts.push((Occur::Must, unscored(range(least.map(term), most.map(term)))));
            }
        }
        Ok(BooleanQuery::new(parts))
    }

    fn field(&self, name: &str) -> Result<tantivy::schema::Field> {
        self.index.schema().get_field(name).map_err(index_error(&self.folder))
    }

    /// The index as it was last committed.
    fn open(index: Index, folder: &Path, version: Option<u64>) -> Result<Self> {
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into();
        let reader = reader.map_err(index_error(folder))?;
        Ok(Self { index, reader, folder: folder.to_owned(), version })
    }
}

impl Filters {
    fn equal(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("run_id", &self.run_id),
            ("model_id", &self.model_id),
            ("language", &self.language),
            ("source", &self.source),
            ("video_id", &self.video_id),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }

    fn between(&self) -> [(&'static str, Bound<i64>, Bound<i64>); 2] {
        let least = |value: Option<i64>| value.map_or(Bound::Unbounded, Bound::Included);
        let before = self.until_us.map_or(Bound::Unbounded, Bound::Excluded);
        [
            ("indexed_at", least(self.since_us), before),
            (document::DURATION, least(self.min_duration_ms), least(self.max_duration_ms)),
        ]
    }
}

fn range(least: Bound<Term>, most: Bound<Term>) -> Box<dyn Query> {
    Box::new(RangeQuery::new(least, most))
}

/// A condition that makes no hit better than another.
fn unscored(query: Box<dyn Query>) -> Box<dyn Query> {
    Box::new(tantivy::query::BoostQuery::new(query, 0.0))
}

/// An error within a statement. What is wrong with words is told whole, as with anything that a person wrote.
fn within_statement(error: Error) -> DataFusionError {
    match error {
        Error::SearchQuery { .. } => DataFusionError::Execution(error.with_causes()),
        other => DataFusionError::External(Box::new(other)),
    }
}

/// What is wrong with the index in `folder`.
fn index_error(folder: &Path) -> impl Fn(tantivy::TantivyError) -> Error {
    let folder = folder.to_owned();
    move |source| Error::SearchIndex { folder: folder.clone(), source: source.cause() }
}

#[cfg(test)]
mod tests;
