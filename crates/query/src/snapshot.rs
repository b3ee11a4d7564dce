//! Which versions of the tables make up one night.
//!
//! `runs` is written last. The versions that its rows name are whole; a newer version of another
//! table may be half of a night that is still being published, so it is not looked at.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{AsArray, RecordBatch},
        datatypes::{Int64Type, SchemaRef},
    },
    catalog::TableProvider,
    common::DataFusionError,
    datasource::empty::EmptyTable,
    prelude::SessionContext,
};
use deltalake_core::{
    DeltaTable, DeltaTableError,
    delta_datafusion::DeltaScanNext,
    logstore::{StorageConfig, default_logstore},
};
use eventide_schema::tables::{events_schema, transcripts_schema, videos_schema};
use object_store::{ObjectStore, path::Path, prefix::PrefixStore};
use url::Url;

use crate::{Error, Result, error::CauseFrom};

/// A table of a session.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name in SQL.
    pub name: &'static str,
    /// The Delta version that is read. `None` where no run has published a row of it.
    pub version: Option<u64>,
    /// What a row of it is.
    pub rows_are: &'static str,
    /// Its columns.
    pub columns: SchemaRef,
}

/// Makes the tables below `url` known to `context`, and says which these are.
pub(crate) async fn register(
    context: &SessionContext,
    store: &Arc<dyn ObjectStore>,
    url: &Url,
) -> Result<Vec<Table>> {
    let runs = open(store, url, "runs", None).await?;
    let runs = runs.ok_or_else(|| Error::NoTables { uri: url.as_str().to_owned() })?;
    let runs = add(context, runs, "runs", "a published run").await?;
    let Published { events, videos, transcripts } = published(context, &runs.columns)
        .await
        .map_err(|source| Error::OpenTable { uri: format!("{url}runs"), source: source.cause() })?;
    let current = Current { context, store, url };
    Ok(vec![
        current.add("events", "a captioned span of a video", events, events_schema()).await?,
        runs,
        current
            .add("transcripts", "a sentence that is said", transcripts, transcripts_schema())
            .await?,
        current
            .add("videos", "a listed object and what became of it", videos, videos_schema())
            .await?,
    ])
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
    context: &SessionContext,
    columns: &SchemaRef,
) -> std::result::Result<Published, DataFusionError> {
    let known = columns.index_of("transcripts_version").is_ok();
    let transcripts = if known { "max(transcripts_version)" } else { "CAST(NULL AS BIGINT)" };
    let newest =
        format!("SELECT max(events_version), max(videos_version), {transcripts} FROM runs");
    let batches = context.sql(&newest).await?.collect().await?;
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

/// Where the tables are, and what they are added to.
struct Current<'a> {
    context: &'a SessionContext,
    store: &'a Arc<dyn ObjectStore>,
    url: &'a Url,
}

impl Current<'_> {
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
            name_it(self.context, name, empty)?;
            return Ok(Table { name, version: None, rows_are, columns });
        };
        match open(self.store, self.url, name, Some(version)).await? {
            Some(table) => add(self.context, table, name, rows_are).await,
            None => Err(Error::OpenTable {
                uri: format!("{}{name}", self.url),
                source: format!("it is gone, though a run names its version {version}").cause(),
            }),
        }
    }
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

/// Adds an open table. The provider gets no handle to the log, so it can only read.
pub(crate) async fn add(
    context: &SessionContext,
    table: DeltaTable,
    name: &'static str,
    rows_are: &'static str,
) -> Result<Table> {
    let uri = table.table_url().to_string();
    let failed =
        |source: DeltaTableError| Error::OpenTable { uri: uri.clone(), source: source.cause() };
    let state = context.state();
    table.update_datafusion_session(&state).map_err(failed)?;
    let snapshot = table.snapshot().map_err(failed)?.snapshot().clone();
    let provider = DeltaScanNext::builder()
        .with_eager_snapshot(snapshot)
        .with_session(Arc::new(state))
        .await
        .map_err(|source| Error::OpenTable { uri: uri.clone(), source: source.cause() })?;
    let columns = provider.schema();
    name_it(context, name, provider)?;
    Ok(Table { name, version: table.version(), rows_are, columns })
}

fn name_it(context: &SessionContext, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
    context
        .register_table(name, table)
        .map(drop)
        .map_err(|source| Error::Engine { source: source.cause() })
}
