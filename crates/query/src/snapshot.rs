//! Which versions of the tables make up one night.
//!
//! `runs` is written last. The versions that its rows name are whole; a newer version of another
//! table may be half of a night that is still being published, so it is not looked at, unless its commit
//! only puts the same rows into other files. A version of `runs` stands for the whole night: whoever
//! names it gets the tables as they were when it was the newest.

use std::{fmt, str::FromStr, sync::Arc};

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use datafusion::{
    arrow::{
        array::{AsArray, RecordBatch},
        datatypes::{Int64Type, SchemaRef},
    },
    catalog::TableProvider,
    common::{DataFusionError, TableReference},
    datasource::empty::EmptyTable,
    prelude::{SessionContext, col, lit},
};
use deltalake_core::{
    DeltaTable, DeltaTableError,
    delta_datafusion::{DeltaCdfTableProvider, DeltaScanNext},
    logstore::{LogStoreRef, StorageConfig, default_logstore},
};
use eventide_schema::tables::{events_schema, feedback_schema, transcripts_schema, videos_schema};
use object_store::{ObjectStore, path::Path, prefix::PrefixStore};
use serde::Deserialize;
use url::Url;

use crate::{
    Error, Result,
    error::{Cause, CauseFrom},
};

/// A table of a session.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name in SQL.
    pub name: &'static str,
    /// The Delta version that is read. `None` where no run has published a row of it.
    pub version: Option<u64>,
    /// The identity of the Delta table: one that is made anew at the same place has another.
    pub id: Option<String>,
    /// What a row of it is.
    pub rows_are: &'static str,
    /// Its columns.
    pub columns: SchemaRef,
}

/// The night that is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AsOf {
    /// The newest that is published.
    #[default]
    Newest,
    /// The one that this run published, all its parts included.
    Run(String),
    /// A version of the table `runs`, from 1.
    Version(u64),
    /// The one that was the newest then.
    Time(DateTime<Utc>),
}

impl AsOf {
    /// What a person writes: a version as a number, a time such as `2026-11-24`, `2026-11-24 06:30` (UTC) or
    /// `2026-11-24T06:30:00+01:00`, else the name of a run.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        if let Ok(version) = text.parse() {
            return Self::Version(version);
        }
        match time(text) {
            Some(time) => Self::Time(time),
            None => Self::Run(text.to_owned()),
        }
    }
}

impl FromStr for AsOf {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(Self::parse(text))
    }
}

impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("now"),
            Self::Run(run) => write!(f, "run {run}"),
            Self::Version(version) => write!(f, "version {version}"),
            Self::Time(time) => write!(f, "{}", time.format("%Y-%m-%dT%H:%M:%SZ")),
        }
    }
}

/// A moment as people write it; without a zone it is UTC, without a time of day midnight.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let zoned = DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
    let plain =
        |format| NaiveDateTime::parse_from_str(text, format).ok().map(|time| time.and_utc());
    let day = || {
        let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        day.and_hms_opt(0, 0, 0).map(|time| time.and_utc())
    };
    let formats = ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"];
    zoned.or_else(|| formats.into_iter().find_map(plain)).or_else(day)
}

/// Where the tables are.
#[derive(Clone)]
pub(crate) struct Lake {
    /// The whole store.
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The folder of the tables, which ends in `/`.
    pub(crate) url: Url,
}

/// Makes the tables of a night known to `context` in one of its schemas, and says which these are.
pub(crate) async fn register(
    context: &SessionContext,
    schema: &str,
    lake: &Lake,
    as_of: &AsOf,
) -> Result<Vec<Table>> {
    let Lake { store, url } = lake;
    let into = Schema { context, name: schema };
    let runs = runs_as_of(lake, as_of).await?;
    let runs = into.add(runs, "runs", "a published run").await?;
    let Published { events, videos, transcripts } = published(&into, &runs.columns)
        .await
        .map_err(|source| Error::OpenTable { uri: format!("{url}runs"), source: source.cause() })?;
    if *as_of != AsOf::Newest && is_empty(&into).await? {
        return Err(Error::NotYet { as_of: as_of.to_string() });
    }
    let current = Current { into, store, url };
    Ok(vec![
        current.add("events", "a captioned span of a video", events, events_schema()).await?,
        current.feedback().await?,
        runs,
        current
            .add("transcripts", "a sentence that is said", transcripts, transcripts_schema())
            .await?,
        current
            .add("videos", "a listed object and what became of it", videos, videos_schema())
            .await?,
    ])
}

/// The table `runs` of a night.
async fn runs_as_of(lake: &Lake, as_of: &AsOf) -> Result<DeltaTable> {
    let none = || Error::NoTables { uri: lake.url.as_str().to_owned() };
    let newest = || open(&lake.store, &lake.url, "runs", None);
    match as_of {
        AsOf::Newest => newest().await?.ok_or_else(none),
        AsOf::Version(version) => {
            let runs = newest().await?.ok_or_else(none)?;
            if runs.version().is_some_and(|newest| *version > newest) {
                return Err(Error::NotYet { as_of: as_of.to_string() });
            }
            runs_at(lake, *version).await
        }
        AsOf::Time(time) => {
            let mut runs = newest().await?.ok_or_else(none)?;
            let uri = runs.table_url().to_string();
            let gone = |source: DeltaTableError| Error::OpenTable { uri, source: source.cause() };
            runs.load_with_datetime(*time).await.map_err(gone)?;
            Ok(runs)
        }
        AsOf::Run(run) => {
            let newest = newest().await?.ok_or_else(none)?.version().unwrap_or(0);
            runs_at(lake, version_of(lake, run, newest).await?).await
        }
    }
}

async fn runs_at(lake: &Lake, version: u64) -> Result<DeltaTable> {
    let runs = open(&lake.store, &lake.url, "runs", Some(version)).await?;
    runs.ok_or_else(|| Error::NoTables { uri: lake.url.as_str().to_owned() })
}

/// The oldest version of `runs` that has every row of a run that the newest has. Looks back in steps that
/// double, so that only about as far back as the run is versions are opened.
async fn version_of(lake: &Lake, run: &str, newest: u64) -> Result<u64> {
    let all = rows_of(lake, run, newest).await?;
    if all == 0 {
        return Err(Error::UnknownRun { run: run.to_owned() });
    }
    let (mut has, mut step) = (newest, 1);
    let mut lacks = loop {
        if has == 0 {
            return Ok(0);
        }
        let earlier = has.saturating_sub(step);
        if rows_of(lake, run, earlier).await? < all {
            break earlier;
        }
        (has, step) = (earlier, step * 2);
    };
    while has - lacks > 1 {
        let middle = lacks + (has - lacks) / 2;
        if rows_of(lake, run, middle).await? < all {
            lacks = middle;
        } else {
            has = middle;
        }
    }
    Ok(has)
}

/// How many rows of `runs` a run has at a version: one for each part.
async fn rows_of(lake: &Lake, run: &str, version: u64) -> Result<usize> {
    let context = SessionContext::new();
    let into = Schema { context: &context, name: "public" };
    into.add(runs_at(lake, version).await?, "runs", "a published run").await?;
    let wrong = |source: DataFusionError| Error::OpenTable {
        uri: format!("{}runs", lake.url),
        source: source.cause(),
    };
    let rows = context.table(into.reference("runs")).await.map_err(wrong)?;
    let rows = rows.filter(col("run_id").eq(lit(run))).map_err(wrong)?;
    rows.count().await.map_err(wrong)
}

/// Versions of the other tables.
#[derive(Debug, Default)]
struct Published {
    events: Option<u64>,
    videos: Option<u64>,
    transcripts: Option<u64>,
}

/// The newest versions of the other tables that a published run names.
///
/// A run that had nothing to change names none, so it is the largest that counts, not the last. Runs of
/// an earlier program know no transcripts.
async fn published(
    schema: &Schema<'_>,
    columns: &SchemaRef,
) -> std::result::Result<Published, DataFusionError> {
    let known = columns.index_of("transcripts_version").is_ok();
    let transcripts = if known { "max(transcripts_version)" } else { "CAST(NULL AS BIGINT)" };
    let runs = schema.reference("runs").to_quoted_string();
    let newest =
        format!("SELECT max(events_version), max(videos_version), {transcripts} FROM {runs}");
    let batches = schema.context.sql(&newest).await?.collect().await?;
    let version = |batch: &RecordBatch, column: usize| {
        let values = batch.column(column).as_primitive::<Int64Type>();
        values.iter().flatten().next().and_then(|version| u64::try_from(version).ok())
    };
    Ok(batches.first().map_or(Published::default(), |batch| Published {
        events: version(batch, 0),
        videos: version(batch, 1),
        transcripts: version(batch, 2),
    }))
}

/// Whether no run is in `runs`.
async fn is_empty(schema: &Schema<'_>) -> Result<bool> {
    let counted = async { schema.context.table(schema.reference("runs")).await?.count().await };
    let rows = counted.await.map_err(|source| Error::Engine { source: source.cause() })?;
    Ok(rows == 0)
}

/// The tables other than `runs`: where they are, and what they are added to.
struct Current<'a> {
    into: Schema<'a>,
    store: &'a Arc<dyn ObjectStore>,
    url: &'a Url,
}

impl Current<'_> {
    /// What people say is part of no night: it is the newest that is there, if any.
    async fn feedback(&self) -> Result<Table> {
        let (name, rows_are) = ("feedback", "what a person says about an event");
        match open(self.store, self.url, name, None).await? {
            Some(table) => self.into.add(table, name, rows_are).await,
            None => self.add(name, rows_are, None, feedback_schema()).await,
        }
    }

    /// Adds a table at a version; an empty one where no version was ever published.
    async fn add(
        &self,
        name: &'static str,
        rows_are: &'static str,
        version: Option<u64>,
        columns: SchemaRef,
    ) -> Result<Table> {
        let Some(version) = version else {
            let empty = Arc::new(EmptyTable::new(Arc::clone(&columns)));
            self.into.name(name, empty)?;
            return Ok(Table { name, version: None, id: None, rows_are, columns });
        };
        let wrong = |source: crate::error::Cause| Error::OpenTable {
            uri: format!("{}{name}", self.url),
            source,
        };
        let gone =
            || wrong(format!("it is gone, though a run names its version {version}").cause());
        let mut table = open(self.store, self.url, name, Some(version)).await?.ok_or_else(gone)?;
        let rearranged = rearranged(&table.log_store(), version).await.map_err(wrong)?;
        if rearranged > version {
            table.load_version(rearranged).await.map_err(|source| wrong(source.cause()))?;
        }
        self.into.add(table, name, rows_are).await
    }
}

/// The newest version that has exactly the rows of `version`, since each commit between only puts them into
/// other files, as `eventide optimize` does.
async fn rearranged(
    log: &LogStoreRef,
    version: u64,
) -> std::result::Result<u64, crate::error::Cause> {
    let mut newest = version;
    while let Some(entry) = log.read_commit_entry(newest + 1).await.map_err(CauseFrom::cause)?
        && only_rearranges(&entry)
    {
        newest += 1;
    }
    Ok(newest)
}

/// Whether a commit says of itself, and of each file, that no row changes.
fn only_rearranges(entry: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct File {
        data_change: bool,
    }
    #[derive(Deserialize)]
    struct Info {
        operation: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Line {
        add: Option<File>,
        remove: Option<File>,
        commit_info: Option<Info>,
    }
    let mut says_so = false;
    for line in serde_json::Deserializer::from_slice(entry).into_iter::<Line>() {
        let Ok(Line { add, remove, commit_info }) = line else { return false };
        if add.is_some_and(|file| file.data_change) || remove.is_some_and(|file| file.data_change) {
            return false;
        }
        says_so |= commit_info.and_then(|info| info.operation).is_some_and(|o| o == "OPTIMIZE");
    }
    says_so
}

/// What changed in a table from one version to another, both included.
pub(crate) async fn changes(
    lake: &Lake,
    name: &'static str,
    from: u64,
    to: u64,
) -> Result<Arc<dyn TableProvider>> {
    let table = open(&lake.store, &lake.url, name, Some(to)).await?;
    let gone = |source: Cause| Error::ChangesGone { table: name, from, to, source };
    let table = table.ok_or_else(|| gone("the table is gone".cause()))?;
    let feed = table.scan_cdf().with_starting_version(from).with_ending_version(to);
    // Its files are looked for now: a version that has been cleaned away is told before the first row.
    let session = SessionContext::new();
    feed.clone().build(&session.state(), None).await.map_err(|source| gone(source.cause()))?;
    let provider = DeltaCdfTableProvider::try_new(feed).map_err(|source| gone(source.cause()))?;
    Ok(Arc::new(provider))
}

/// Opens a table, the newest version if none is given. `None` when there is none.
pub(crate) async fn open(
    store: &Arc<dyn ObjectStore>,
    url: &Url,
    name: &str,
    version: Option<u64>,
) -> Result<Option<DeltaTable>> {
    let uri = format!("{url}{name}");
    let failed =
        |source: DeltaTableError| Error::OpenTable { uri: uri.clone(), source: source.cause() };
    let address = Url::parse(&uri).map_err(|source| Error::Address { uri: uri.clone(), source })?;
    let folder = Path::from_url_path(address.path())
        .map_err(|source| failed(object_store::Error::from(source).into()))?;
    let prefixed = Arc::new(PrefixStore::new(Arc::clone(store), folder));
    let log = default_logstore(prefixed, Arc::clone(store), &address, &StorageConfig::default());
    let mut table = DeltaTable::new(log);
    if !table.verify_deltatable_existence().await.map_err(failed)? {
        return Ok(None);
    }
    match version {
        Some(version) => table.load_version(version).await.map_err(failed)?,
        None => table.load().await.map_err(failed)?,
    }
    Ok(Some(table))
}

/// Adds an open table to the default schema of `context`.
pub(crate) async fn add(
    context: &SessionContext,
    table: DeltaTable,
    name: &'static str,
    rows_are: &'static str,
) -> Result<Table> {
    let state = context.state();
    let schema = &state.config().options().catalog.default_schema;
    Schema { context, name: schema }.add(table, name, rows_are).await
}

/// A schema of a session, to which tables are added.
struct Schema<'a> {
    context: &'a SessionContext,
    name: &'a str,
}

impl Schema<'_> {
    fn reference(&self, table: &str) -> TableReference {
        TableReference::partial(self.name, table)
    }

    /// Adds an open table. The provider gets no handle to the log, so it can only read.
    async fn add(
        &self,
        table: DeltaTable,
        name: &'static str,
        rows_are: &'static str,
    ) -> Result<Table> {
        let uri = table.table_url().to_string();
        let failed =
            |source: DeltaTableError| Error::OpenTable { uri: uri.clone(), source: source.cause() };
        let state = self.context.state();
        table.update_datafusion_session(&state).map_err(failed)?;
        let known = table.snapshot().map_err(failed)?;
        let (id, snapshot) = (known.metadata().id().to_owned(), known.snapshot().clone());
        let provider = DeltaScanNext::builder()
            .with_eager_snapshot(snapshot)
            .with_session(Arc::new(state))
            .await
            .map_err(|source| Error::OpenTable { uri: uri.clone(), source: source.cause() })?;
        let columns = provider.schema();
        self.name(name, provider)?;
        Ok(Table { name, version: table.version(), id: Some(id), rows_are, columns })
    }

    fn name(&self, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
        self.context
            .register_table(self.reference(name), table)
            .map(drop)
            .map_err(|source| Error::Engine { source: source.cause() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::version("12", "version 12")]
    #[case::day("2026-11-24", "2026-11-24T00:00:00Z")]
    #[case::minute("2026-11-24 06:30", "2026-11-24T06:30:00Z")]
    #[case::second("2026-11-24T06:30:01", "2026-11-24T06:30:01Z")]
    #[case::zoned("2026-11-24T06:30:00+01:00", "2026-11-24T05:30:00Z")]
    #[case::run("0199-abc", "run 0199-abc")]
    fn a_moment_is_read(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(AsOf::parse(text).to_string(), expected);
    }

    #[rstest]
    #[case::it_does(
        r#"{"remove":{"path":"a","dataChange":false}}
           {"add":{"path":"b","dataChange":false}}
           {"commitInfo":{"operation":"OPTIMIZE"}}"#,
        true
    )]
    #[case::a_row_changes(
        r#"{"add":{"path":"b","dataChange":true}} {"commitInfo":{"operation":"OPTIMIZE"}}"#,
        false
    )]
    #[case::another_operation(r#"{"commitInfo":{"operation":"WRITE"}}"#, false)]
    #[case::damaged("{", false)]
    fn a_commit_rearranges_or_not(#[case] entry: &str, #[case] expected: bool) {
        assert_eq!(only_rearranges(entry.as_bytes()), expected);
    }
}
