//! `matches(caption, 'words')` answered by the kept index: the events that match as a set, and a function that looks
//! rows up in it.

use std::{
    collections::{BTreeSet, HashSet},
    hash::{Hash, Hasher},
    sync::Arc,
};

use datafusion::{
    arrow::{
        array::{AsArray, BooleanArray},
        compute::cast,
        datatypes::DataType,
    },
    common::{Result as EngineResult, ScalarValue, exec_err},
    execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
};
use tantivy::{
    SegmentReader,
    query::{EnableScoring, Weight},
};
use tokio::sync::OnceCell;

use super::{SearchIndex, SearchOptions, Source, document, index_error, language, matches};
use crate::{Error, Result, error::CauseFrom};

/// Videos that are named one by one, so that files and row groups without any of them are not read. The engine looks at
/// no longer lists.
const VIDEOS_NAMED: usize = 20;
/// Bytes that an identifier takes in a set beside its own.
const BESIDE: usize = 48;

/// The index of a session, built or updated when it is first asked.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) source: Source,
    pub(crate) options: SearchOptions,
    index: OnceCell<SearchIndex>,
}

impl Kept {
    pub(crate) fn new(source: Source, options: SearchOptions) -> Arc<Self> {
        Arc::new(Self { source, options, index: OnceCell::new() })
    }

    /// The index. The work goes on where whoever asked gives up: it may take longer than people wait, and would else
    /// never be done.
    pub(crate) async fn get(self: &Arc<Self>) -> Result<SearchIndex> {
        let own = Arc::clone(self);
        let work = tokio::spawn(async move {
            let index = own.index.get_or_try_init(|| own.source.index(&own.options)).await;
            index.cloned()
        });
        work.await.map_err(|source| Error::Run { source: source.cause() })?
    }
}

/// What `matches` is asked of the table `events`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Question {
    /// The text that is looked at: `caption` or `speech`.
    pub(crate) field: &'static str,
    /// The words.
    pub(crate) words: String,
}

impl Question {
    /// The question about a column of `events`, if it can be asked of the index.
    pub(crate) fn of(column: &str, words: &str) -> Option<Self> {
        let field = document::TEXTS.into_iter().find(|field| *field == column)?;
        Some(Self { field, words: words.to_owned() })
    }
}

/// The events that match.
#[derive(Debug)]
pub(crate) struct Found {
    question: Question,
    events: HashSet<Box<str>>,
    /// Their videos, where these are few.
    videos: Option<BTreeSet<Box<str>>>,
    /// What they take of the memory of all statements.
    _memory: MemoryReservation,
}

impl Found {
    /// Whether no event matches.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The videos of the events, where these are few.
    pub(crate) fn videos(&self) -> Option<impl Iterator<Item = &str>> {
        self.videos.as_ref().map(|videos| videos.iter().map(AsRef::as_ref))
    }
}

impl SearchIndex {
    /// The events that match. This computes.
    ///
    /// # Errors
    /// [`Error::SearchQuery`], [`Error::SearchIndex`], and [`Error::Run`] where there is too little memory.
    pub(crate) fn matching(&self, question: Question, pool: &Arc<dyn MemoryPool>) -> Result<Found> {
        // What words may say is the same with and without an index.
        matches::understood(&question.words)?;
        let query = language::parse(&self.index, &[question.field], &question.words)?;
        let searcher = self.reader.searcher();
        let weight = query.weight(EnableScoring::disabled_from_searcher(&searcher));
        let weight = weight.map_err(index_error(&self.folder))?;
        let memory = MemoryConsumer::new("matches").register(pool);
        let (mut events, mut videos) = (HashSet::new(), Some(BTreeSet::new()));
        for segment in searcher.segment_readers() {
            let rows = self.rows_of(segment, weight.as_ref())?;
            let [of_events, of_videos] =
                document::IDENTIFIERS.map(|name| self.ids(segment, name, &rows));
            let (of_events, of_videos) = (of_events?, of_videos?);
            for event in of_events {
                let taken = memory.try_grow(event.len() + BESIDE);
                taken.map_err(|source| Error::Run { source: source.cause() })?;
                events.insert(event);
            }
            videos = videos.and_then(|mut videos: BTreeSet<_>| {
                videos.extend(of_videos);
                (videos.len() <= VIDEOS_NAMED).then_some(videos)
            });
        }
        Ok(Found { question, events, videos, _memory: memory })
    }

    /// The rows of a segment that match and are still there.
    fn rows_of(&self, segment: &SegmentReader, weight: &dyn Weight) -> Result<Vec<u32>> {
        let mut rows = Vec::new();
        let alive = segment.alive_bitset();
        let mut add = |found: &[u32]| {
            rows.extend(found.iter().filter(|row| alive.is_none_or(|alive| alive.is_alive(**row))));
        };
        let looked = weight.for_each_no_score(segment, &mut add);
        looked.map_err(index_error(&self.folder))?;
        Ok(rows)
    }

    /// The different identifiers of rows of a segment.
    fn ids(&self, segment: &SegmentReader, name: &str, rows: &[u32]) -> Result<Vec<Box<str>>> {
        let wrong = index_error(&self.folder);
        let Some(column) = segment.fast_fields().str(name).map_err(&wrong)? else {
            return Ok(Vec::new());
        };
        let mut numbers: Vec<_> = rows.iter().flat_map(|row| column.term_ords(*row)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut ids = Vec::with_capacity(numbers.len());
        let read = column.dictionary().sorted_ords_to_term_cb(numbers.into_iter(), |id| {
            ids.push(String::from_utf8_lossy(id).into());
            Ok(())
        });
        read.map_err(|source| wrong(source.into()))?;
        Ok(ids)
    }
}

/// Whether an event is among those that were found. It stands in plans where `matches` stood.
#[derive(Debug)]
pub(crate) struct InIndex {
    found: Arc<Found>,
    name: String,
    signature: Signature,
}

impl InIndex {
    pub(crate) fn new(found: Arc<Found>) -> Self {
        let Question { field, words } = &found.question;
        let name = format!("matches_in_index({field}, '{}')", words.replace('\'', "''"));
        Self { found, name, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl PartialEq for InIndex {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.found, &other.found)
    }
}

impl Eq for InIndex {}

impl Hash for InIndex {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for InIndex {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let [ids] = args.args.as_slice() else { return exec_err!("one identifier is looked up") };
        let is_constant = matches!(ids, ColumnarValue::Scalar(_));
        let ids = cast(
            &ids.to_array(if is_constant { 1 } else { args.number_rows })?,
            &DataType::Utf8View,
        )?;
        let ids = ids.as_string_view().iter();
        let answers: BooleanArray =
            ids.map(|id| id.map(|id| self.found.events.contains(id))).collect();
        if is_constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&answers, 0)?));
        }
        Ok(ColumnarValue::Array(Arc::new(answers)))
    }
}
