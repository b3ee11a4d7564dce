//! Full-text search: an index of the published `events`, kept in a local folder and brought up to date from
//! the change data feed.
//!
//! The index is a copy that may be lost: it is built when it is first asked for, and again where it cannot be
//! continued. The Delta version that it holds is part of each of its commits, so one that is cut off leaves the
//! version before, and whoever asks about a night gets that night. `language` says what may be asked; `build` writes;
//! `relation` and `matches` are for SQL; `rewrite` finds where the index can answer `matches`, and `kept` does. Where there
//! is a text encoder, `vectors` has one for each caption, and `ranking` makes one list of what matches and what means alike.

mod build;
mod document;
mod kept;
mod language;
mod matches;
mod ranking;
mod relation;
mod rewrite;
mod vectors;

use std::{
    collections::HashMap,
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
};

use datafusion::{
    arrow::{array::RecordBatch, datatypes::SchemaRef},
    error::DataFusionError,
};
use tantivy::{
    DocAddress, DocSet, Index, IndexReader, ReloadPolicy, TantivyDocument, Term,
    collector::{Count, DocSetCollector, TopDocs},
    query::{BooleanQuery, EnableScoring, Occur, Query, RangeQuery, TermQuery},
    schema::IndexRecordOption,
};

pub(crate) use build::Source;
pub(crate) use kept::{Kept, Question};
pub(crate) use matches::Matches;
pub(crate) use relation::Search;
pub(crate) use rewrite::{answered, questions};

use ranking::{Near, Ranked};
use vectors::Vectors;

use crate::{Embedder, Error, Result, error::CauseFrom};

/// Hits that one question is given at most.
pub const MOST_HITS: usize = 10_000;

/// How events are searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchOptions {
    /// The folder that indexes are kept below, and vectors.
    pub folder: PathBuf,
    /// Who makes vectors of captions and questions. `None` where words alone are looked for.
    pub embedder: Option<Embedder>,
}

impl SearchOptions {
    /// By words alone, with indexes below a folder.
    #[must_use]
    pub fn below(folder: PathBuf) -> Self {
        Self { folder, embedder: None }
    }
}

/// An index of the events of one published version.
#[derive(Clone)]
pub struct SearchIndex {
    index: Index,
    reader: IndexReader,
    folder: PathBuf,
    version: Option<u64>,
    /// Those of its captions, where there is a text encoder.
    vectors: Option<Arc<Vectors>>,
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
    /// The best hits first: the columns of [`hits_schema`].
    pub rows: RecordBatch,
    /// How many events there are in all.
    pub total: usize,
}

/// The columns of hits: those of `events`; `bm25`, which is greater the better the words match, 0 where they do not;
/// `similarity`, the cosine of the caption and the question where the event is among the nearest; and `rrf`, which is
/// greater the better the hit is.
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
    /// With a text encoder, a question of plain words finds the nearest thousand events, too: both lists become one by
    /// reciprocal rank fusion, in which the words have as many hits as can be asked for at all.
    ///
    /// # Errors
    /// [`Error::SearchQuery`] for words that cannot be understood, [`Error::SearchIndex`] when the index
    /// cannot be read, [`Error::Embed`] when the text encoder fails.
    pub fn search(
        &self,
        words: &str,
        filters: &Filters,
        limit: usize,
        offset: usize,
    ) -> Result<Hits> {
        let query = self.question(words, filters)?;
        let (limit, offset) = (limit.min(MOST_HITS), offset.min(MOST_HITS));
        let near = self.near(words, filters, &query)?;
        if near.is_empty() {
            let (found, total) = self.by_words(&query, limit, offset)?;
            return Ok(Hits { rows: self.rows(&found)?, total });
        }
        let (found, matching) = self.by_words(&query, MOST_HITS, 0)?;
        let total = matching + near.iter().filter(|near| near.bm25.is_none()).count();
        let found = ranking::fused(found, &near);
        let page: Vec<_> = found.into_iter().skip(offset).take(limit).collect();
        Ok(Hits { rows: self.rows(&page)?, total })
    }

    /// All events of a video as rows of `events`, the first first. This computes. However many files the table has,
    /// none of them is read.
    ///
    /// # Errors
    /// As [`SearchIndex::search`].
    pub(crate) fn of_video(&self, video_id: &str) -> Result<RecordBatch> {
        let filters = Filters { video_id: Some(video_id.to_owned()), ..Filters::default() };
        let query = self.question("", &filters)?;
        let wrong = index_error(&self.folder);
        let searcher = self.reader.searcher();
        let places = searcher.search(&query, &DocSetCollector).map_err(wrong)?;
        let places: Vec<_> = places.into_iter().map(|at| (0.0, at)).collect();
        let rows = self.rows(&ranking::by_words(&places, 0))?;
        document::in_order(&rows).map_err(|source| Error::Run { source: source.cause() })
    }

    /// How many events [`SearchIndex::best`] finds at most. This computes.
    ///
    /// # Errors
    /// As [`SearchIndex::search`].
    pub(crate) fn count(&self, words: &str) -> Result<usize> {
        let query = self.question(words, &Filters::default())?;
        let count = self.reader.searcher().search(&query, &Count);
        let beside = if self.asks_by_meaning(words) { vectors::NEAREST } else { 0 };
        Ok(count.map_err(index_error(&self.folder))? + beside)
    }

    /// The best `limit` events. This computes, and takes memory for `limit` of them.
    ///
    /// # Errors
    /// As [`SearchIndex::search`].
    pub(crate) fn best(&self, words: &str, limit: usize) -> Result<Vec<Ranked>> {
        let query = self.question(words, &Filters::default())?;
        let near = self.near(words, &Filters::default(), &query)?;
        if near.is_empty() {
            return Ok(self.by_words(&query, limit, 0)?.0);
        }
        let (found, _) = self.by_words(&query, limit.max(MOST_HITS), 0)?;
        let mut found = ranking::fused(found, &near);
        found.truncate(limit);
        Ok(found)
    }

    /// The best `limit` events whose words match, after the first `offset`, and how many match in all.
    fn by_words(
        &self,
        query: &dyn Query,
        limit: usize,
        offset: usize,
    ) -> Result<(Vec<Ranked>, usize)> {
        let best = TopDocs::with_limit(limit.max(1)).and_offset(offset).order_by_score();
        let (mut found, total) = self
            .reader
            .searcher()
            .search(query, &(best, Count))
            .map_err(index_error(&self.folder))?;
        found.truncate(limit);
        Ok((ranking::by_words(&found, offset), total))
    }

    fn asks_by_meaning(&self, words: &str) -> bool {
        self.vectors.is_some() && language::is_plain(words)
    }

    /// The nearest events, the nearest first. None where meaning is not asked for.
    fn near(&self, words: &str, filters: &Filters, query: &dyn Query) -> Result<Vec<Near>> {
        let Some(vectors) = self.vectors.as_ref().filter(|_| self.asks_by_meaning(words)) else {
            return Ok(Vec::new());
        };
        let searcher = self.reader.searcher();
        let nearest = vectors.nearest(words, &searcher, &self.question("", filters)?)?;
        let matching = self.scores(query, nearest.iter().map(|(_, at)| *at).collect())?;
        let near = nearest.into_iter().map(|(similarity, at)| Near {
            at,
            similarity,
            bm25: matching.get(&at).copied(),
        });
        Ok(near.collect())
    }

    /// How well the words match in those of these places where they do.
    fn scores(
        &self,
        query: &dyn Query,
        mut places: Vec<DocAddress>,
    ) -> Result<HashMap<DocAddress, f32>> {
        let wrong = index_error(&self.folder);
        let searcher = self.reader.searcher();
        let weight =
            query.weight(EnableScoring::enabled_from_searcher(&searcher)).map_err(&wrong)?;
        let mut found = HashMap::new();
        places.sort_unstable();
        for places in places.chunk_by(|a, b| a.segment_ord == b.segment_ord) {
            let segment = searcher.segment_reader(places[0].segment_ord);
            let mut scorer = weight.scorer(segment, 1.0).map_err(&wrong)?;
            for at in places {
                if scorer.doc() < at.doc_id {
                    scorer.seek(at.doc_id);
                }
                if scorer.doc() == at.doc_id {
                    found.insert(*at, scorer.score());
                }
            }
        }
        Ok(found)
    }

    /// The events in these places as rows of [`hits_schema`].
    ///
    /// # Errors
    /// [`Error::SearchIndex`] when the index cannot be read.
    pub(crate) fn rows(&self, places: &[Ranked]) -> Result<RecordBatch> {
        let searcher = self.reader.searcher();
        let documents = places
            .iter()
            .map(|hit| Ok((*hit, searcher.doc::<TantivyDocument>(hit.at)?)))
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
        Ok(Self { index, reader, folder: folder.to_owned(), version, vectors: None })
    }

    /// The same with vectors of its captions, kept in `folder`.
    async fn with_vectors(self, folder: PathBuf, embedder: &Embedder) -> Result<Self> {
        let searcher = self.reader.searcher();
        let vectors = Vectors::open(searcher, folder, embedder.clone()).await?;
        Ok(Self { vectors: Some(Arc::new(vectors)), ..self })
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
