//! A session: the query engine with the tables of one night and the time functions.
//!
//! `snapshot` decides which versions of the tables these are; `output` writes what a query gives.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, OnceLock, atomic::AtomicU64},
};

use datafusion::{
    arrow::datatypes::SchemaRef,
    datasource::listing::ListingTableUrl,
    error::DataFusionError,
    execution::{
        SendableRecordBatchStream,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::{FairSpillPool, TrackConsumersPool},
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    logical_expr::{Documentation, LogicalPlan, ScalarUDF, planner::RelationPlanner},
    physical_plan::stream::RecordBatchReceiverStream,
    prelude::{SessionConfig, SessionContext},
};
use futures::StreamExt;
use object_store::ObjectStore;
use url::Url;

use crate::{
    AsOf, Error, Result, earlier,
    error::CauseFrom,
    functions,
    permission::Permission,
    search::{self, Kept, Matches, Search, SearchIndex, SearchOptions, Source},
    snapshot::{self, Lake, Table},
};

/// The catalog and schema that the tables are in, as `information_schema` shows them.
pub(crate) const CATALOG: &str = "eventide";
pub(crate) const SCHEMA: &str = "published";

/// Consumers of memory that an error about too little of it names.
const NAMED_CONSUMERS: NonZeroUsize = const { NonZeroUsize::new(3).unwrap() };

/// Batches of up to 8192 rows that are computed before somebody asks for them.
const BATCHES_AHEAD: usize = 2;

/// What a session may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Bytes of memory that sorts, joins and groups may hold. What does not fit is spilled.
    pub memory_bytes: usize,
    /// Bytes that may be spilled to disk. A query that needs more fails.
    pub spill_bytes: u64,
    /// Folder that is spilled to; the system's temporary folder if none.
    pub spill_folder: Option<PathBuf>,
    /// Partitions that are worked on at once; one a core if none.
    pub partitions: Option<NonZeroUsize>,
}

impl Default for Options {
    /// 2 GiB of memory, 32 GiB of spill in the temporary folder, every core.
    fn default() -> Self {
        Self { memory_bytes: 2 << 30, spill_bytes: 32 << 30, spill_folder: None, partitions: None }
    }
}

/// The tables `events`, `videos` and `runs` of one night, ready for questions.
///
/// The versions are settled when the session opens: a run that is published later is not seen.
pub struct Session {
    context: SessionContext,
    tables: Vec<Table>,
    permission: Permission,
    lake: Lake,
    /// How many earlier nights statements have named.
    earlier: AtomicU64,
    /// The index that statements may ask, where there is one.
    kept: OnceLock<Arc<Kept>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("tables", &self.tables).finish_non_exhaustive()
    }
}

impl Session {
    /// Opens the newest published tables below `uri`, such as `s3://bucket/lake`, with `store` as the whole of
    /// its bucket, or the file system from its root.
    ///
    /// # Errors
    /// [`Error::NoTables`] when nothing was published here; [`Error::Address`],
    /// [`Error::OpenTable`], [`Error::Engine`].
    pub async fn open(store: Arc<dyn ObjectStore>, uri: &str, options: &Options) -> Result<Self> {
        Self::open_as_of(store, uri, options, &AsOf::Newest).await
    }

    /// Opens the tables of an earlier night.
    ///
    /// # Errors
    /// Those of [`Session::open`], [`Error::NotYet`] and [`Error::UnknownRun`]. [`Error::OpenTable`] also where
    /// the night is so old that its log or files have been cleaned away.
    pub async fn open_as_of(
        store: Arc<dyn ObjectStore>,
        uri: &str,
        options: &Options,
        as_of: &AsOf,
    ) -> Result<Self> {
        let mut session = Self::shared(store, uri, options, runtime(options)?, as_of).await?;
        session.permission.views = true;
        Ok(session)
    }

    /// Opens tables for the statements of many people at a time, which share the memory of `runtime`, and
    /// none of which may leave a view behind.
    pub(crate) async fn shared(
        store: Arc<dyn ObjectStore>,
        uri: &str,
        options: &Options,
        runtime: Arc<RuntimeEnv>,
        as_of: &AsOf,
    ) -> Result<Self> {
        let wrong = |source| Error::Address { uri: uri.to_owned(), source };
        let url = Url::parse(&format!("{}/", uri.trim_end_matches('/'))).map_err(wrong)?;
        let context = engine(options, runtime);
        let permission =
            Permission { published: place(url.clone())?, writable: None, views: false };
        let lake = Lake { store, url };
        let tables = snapshot::register(&context, SCHEMA, &lake, as_of).await?;
        let (earlier, kept) = (AtomicU64::new(0), OnceLock::new());
        Ok(Self { context, tables, permission, lake, earlier, kept })
    }

    /// The index of `events`, kept where the options say: built if it is not there, else brought to the
    /// version of this session.
    ///
    /// # Errors
    /// [`Error::SearchIndex`], [`Error::OpenTable`], [`Error::Run`], [`Error::Embed`].
    pub async fn search_index(&self, options: &SearchOptions) -> Result<SearchIndex> {
        self.events().index(options).await
    }

    /// Lets statements ask `search('words')`, by an index that is kept where the options say, and has it answer
    /// `matches(caption, 'words')` where it can.
    pub fn enable_search(&self, options: SearchOptions) {
        let kept = self.kept.get_or_init(|| Kept::new(self.events(), options));
        self.context.register_udtf("search", Arc::new(Search(Arc::clone(kept))));
    }

    /// The plan with what the index can answer in place of `matches(...)`. Without an index, or where it cannot be
    /// used, the plan stays as it is.
    async fn by_index(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let wrong = |source: DataFusionError| Error::Plan { source: source.cause() };
        let Some(kept) = self.kept.get() else { return Ok(plan) };
        let questions = search::questions(&plan).map_err(wrong)?;
        if questions.is_empty() {
            return Ok(plan);
        }
        let index = match kept.get().await {
            Ok(index) => index,
            Err(error) => {
                let error = error.with_causes();
                tracing::warn!(error, "every text is looked at, as there is no search index");
                return Ok(plan);
            }
        };
        let pool = Arc::clone(&self.context.runtime_env().memory_pool);
        let ask = move || {
            let answer = |question: search::Question| {
                let found = index.matching(question.clone(), &pool)?;
                Ok((question, Arc::new(found)))
            };
            questions.into_iter().map(answer).collect::<Result<BTreeMap<_, _>>>()
        };
        let answers = tokio::task::spawn_blocking(ask).await;
        let answers = answers.map_err(|source| Error::Run { source: source.cause() })??;
        search::answered(plan, &answers).map_err(wrong)
    }

    /// The events as the index reads them.
    fn events(&self) -> Source {
        let events = self.tables.iter().find(|table| table.name == "events");
        Source {
            store: Arc::clone(&self.lake.store),
            url: self.lake.url.clone(),
            version: events.and_then(|table| table.version),
            runtime: self.context.runtime_env(),
        }
    }

    /// Lets statements write below `uri`, with `store` as the whole of its bucket, or the file system from
    /// its root: `COPY ... TO`, and `INSERT INTO` what `CREATE EXTERNAL TABLE` names. Never the published
    /// tables.
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::Engine`].
    pub fn allow_writing(&mut self, store: Arc<dyn ObjectStore>, uri: &str) -> Result<()> {
        let wrong = |source| Error::Address { uri: uri.to_owned(), source };
        let url = Url::parse(&format!("{}/", uri.trim_end_matches('/'))).map_err(wrong)?;
        self.context.register_object_store(&url, store);
        self.permission.writable = Some(place(url)?);
        Ok(())
    }

    /// Lets statements read from what `planner` makes of a table's name, as of `caption(...)`.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub fn add_relation(&self, planner: Arc<dyn RelationPlanner>) -> Result<()> {
        let added = self.context.register_relation_planner(planner);
        added.map_err(|source| Error::Engine { source: source.cause() })
    }

    /// Runs one statement. Its rows come as they are found; dropping the stream ends the work.
    ///
    /// # Errors
    /// [`Error::Plan`] for a wrong statement, [`Error::ReadOnly`] for one that would change
    /// anything, be it a table, a file or a setting, or [`Error::WritesElsewhere`] where it may change
    /// something else; [`Error::Run`] when it fails at once.
    pub async fn query(&self, statement: &str) -> Result<SendableRecordBatchStream> {
        let plan = self.plan(statement).await?;
        Ok(on_its_own_task(self.run(plan).await?))
    }

    /// What one statement means, as far as it may be asked.
    pub(crate) async fn plan(&self, statement: &str) -> Result<LogicalPlan> {
        let plan = |source: DataFusionError| Error::Plan { source: source.cause() };
        let state = self.context.state();
        let dialect = state.config().options().sql_parser.dialect;
        let parsed = state.sql_to_statement(statement, &dialect).map_err(plan)?;
        let (parsed, nights) = earlier::named(parsed, &self.earlier)?;
        // They are needed for as long as names are looked up; then the plan has the tables.
        let _nights = earlier::open(&self.context, &self.lake, nights).await?;
        let logical = state.statement_to_plan(parsed).await.map_err(plan)?;
        self.permission.verify(&logical, &self.tables)?;
        Ok(logical)
    }

    /// The rows of a plan, computed as they are asked for.
    pub(crate) async fn run(&self, plan: LogicalPlan) -> Result<SendableRecordBatchStream> {
        let wrong = |source: DataFusionError| Error::Plan { source: source.cause() };
        let plan = self.by_index(plan).await?;
        let frame = self.context.execute_logical_plan(plan).await.map_err(wrong)?;
        frame.execute_stream().await.map_err(|source| Error::Run { source: source.cause() })
    }

    /// Adds what changed in a table from one version to another, both included, as the table `changes`: its
    /// columns, `_change_type`, `_commit_version` and `_commit_timestamp`.
    pub(crate) async fn add_changes(&self, table: &'static str, from: u64, to: u64) -> Result<()> {
        let changes = snapshot::changes(&self.lake, table, from, to).await?;
        let added = self.context.register_table("changes", changes);
        added.map(drop).map_err(|source| Error::Engine { source: source.cause() })
    }

    /// The tables, by name.
    #[must_use]
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The columns of a table. `None` when there is no such table.
    #[must_use]
    pub fn columns(&self, table: &str) -> Option<&SchemaRef> {
        self.tables.iter().find(|known| known.name == table).map(|known| &known.columns)
    }

    /// The names of all functions: scalar, aggregate, window, and those that stand for tables. Sorted.
    #[must_use]
    pub fn function_names(&self) -> BTreeSet<String> {
        let state = self.context.state();
        let names = state.scalar_functions().keys();
        let names = names.chain(state.aggregate_functions().keys());
        let names = names.chain(state.window_functions().keys());
        names.chain(state.table_functions().keys()).cloned().collect()
    }

    /// What is written about a function, where something is.
    #[must_use]
    pub fn function_documentation(&self, name: &str) -> Option<Documentation> {
        let state = self.context.state();
        let scalar = state.scalar_functions().get(name).and_then(|f| f.documentation());
        let aggregate = || state.aggregate_functions().get(name).and_then(|f| f.documentation());
        let window = || state.window_functions().get(name).and_then(|f| f.documentation());
        let search = || (name == "search").then(Search::documentation);
        scalar.or_else(aggregate).or_else(window).cloned().or_else(search)
    }
}

/// An address as the query engine knows it.
fn place(url: Url) -> Result<ListingTableUrl> {
    let unknown = |source: DataFusionError| Error::Engine { source: source.cause() };
    ListingTableUrl::try_new(url, None).map_err(unknown)
}

/// The same rows, computed by a task that ends when they are dropped: a join may compute for long
/// between two rows, and whoever waits for them must be able to turn to something else.
fn on_its_own_task(mut rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let mut channel = RecordBatchReceiverStream::builder(rows.schema(), BATCHES_AHEAD);
    let sender = channel.tx();
    channel.spawn(async move {
        while let Some(batch) = rows.next().await {
            if sender.send(batch).await.is_err() {
                break; // nobody reads on
            }
        }
        Ok(())
    });
    channel.build()
}

/// Memory and disk for statements, within their limits.
pub(crate) fn runtime(options: &Options) -> Result<Arc<RuntimeEnv>> {
    let spill = match &options.spill_folder {
        Some(folder) => DiskManagerMode::Directories(vec![folder.clone()]),
        None => DiskManagerMode::OsTmpDirectory,
    };
    let memory = FairSpillPool::new(options.memory_bytes);
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(TrackConsumersPool::new(memory, NAMED_CONSUMERS)))
        .with_disk_manager_builder(
            DiskManagerBuilder::default()
                .with_mode(spill)
                .with_max_temp_directory_size(options.spill_bytes),
        )
        .build_arc()
        .map_err(|source| Error::Engine { source: source.cause() })
}

fn engine(options: &Options, runtime: Arc<RuntimeEnv>) -> SessionContext {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_information_schema(true);
    if let Some(partitions) = options.partitions {
        config = config.with_target_partitions(partitions.get());
    }
    let context = SessionContext::new_with_config_rt(config, runtime);
    for function in functions::all() {
        context.register_udf(ScalarUDF::new_from_impl(function));
    }
    let pool = Arc::clone(&context.runtime_env().memory_pool);
    context.register_udf(ScalarUDF::new_from_impl(Matches::new(pool)));
    context
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Format, TableStyle, Written,
        testing::{Lake, more_events},
        write_results,
    };
    use rstest::rstest;
    use tempfile::TempDir;

    async fn csv(session: &Session, statement: &str) -> Result<String> {
        let mut text = Vec::new();
        let results = session.query(statement).await?;
        let Written { .. } =
            write_results(results, Format::Csv, &TableStyle::default(), &mut text).await?;
        Ok(String::from_utf8(text).unwrap())
    }

    async fn check(session: &Session, statement: &str, expected: &str) {
        let text = csv(session, statement).await.unwrap_or_else(|e| panic!("{}", e.with_causes()));
        assert_eq!(text.lines().skip(1).collect::<Vec<_>>().join("\n"), expected, "{statement}");
    }

    #[tokio::test]
    async fn sees_what_was_published() {
        let lake = Lake::with_a_night().await;
        let session = lake.open().await.unwrap();
        check(&session, "SELECT count(*) FROM events", "2").await;
        check(&session, "SELECT status FROM videos ORDER BY uri", "captioned\nfailed").await;
        check(&session, "SELECT run_id, events_version FROM runs", "run-1,0").await;
        let joined =
            "SELECT v.uri, e.start_ms FROM events e JOIN videos v USING (video_id) ORDER BY 2";
        check(&session, joined, "file:///a.mp4,0\nfile:///a.mp4,90000").await;
        check(
            &session,
            "SELECT caption FROM events WHERE start_ms > 0 AND caption LIKE 'two%'",
            "\"two\nlines\"",
        )
        .await;
    }

    #[tokio::test]
    async fn half_of_a_night_is_not_seen() {
        let lake = Lake::with_a_night().await;
        let half = lake.append("events", more_events()).await;
        let before = lake.open().await.unwrap();
        check(&before, "SELECT count(*) FROM events", "2").await;
        lake.publish("run-2", Some(half), None).await;
        check(&before, "SELECT count(*) FROM events", "2").await;
        check(&before, "SELECT count(*) FROM runs", "1").await;
        let after = lake.open().await.unwrap();
        check(&after, "SELECT count(*) FROM events", "3").await;
        check(&after, "SELECT count(*) FROM videos", "2").await;
    }

    #[tokio::test]
    async fn an_earlier_night_is_seen_whole() {
        let lake = Lake::with_a_night().await;
        let second = lake.append("events", more_events()).await;
        lake.publish("run-2", Some(second), None).await;
        let day_before = AsOf::parse("2001-01-01");
        for (as_of, events) in [("run-1", "2"), ("0", "2"), ("run-2", "3"), ("1", "3")] {
            let session = lake.open_as_of(&AsOf::parse(as_of)).await.unwrap();
            check(&session, "SELECT count(*) FROM events", events).await;
        }
        let session = lake.open().await.unwrap();
        let difference = "SELECT caption FROM events EXCEPT SELECT caption FROM events_at('run-1')";
        check(&session, difference, "half of a night").await;
        check(&session, "SELECT count(*) FROM runs_at(0) r, runs_at(1) s", "2").await;
        let schemas = "SELECT DISTINCT table_schema FROM information_schema.tables ORDER BY 1";
        check(&session, schemas, "information_schema\npublished").await;
        for (as_of, because) in [
            (day_before, "OpenTable"),
            (AsOf::Version(7), "NotYet"),
            (AsOf::Run("run-3".to_owned()), "UnknownRun"),
        ] {
            let error = lake.open_as_of(&as_of).await.map(drop);
            if because != "OpenTable" {
                assert!(format!("{error:?}").contains(because), "{as_of}: {error:?}");
            }
        }
    }

    #[rstest]
    #[case::no_moment("SELECT * FROM events_at()", "one run, version or time")]
    #[case::not_constant("SELECT * FROM events_at(now())", "one run, version or time")]
    #[case::unknown_run("SELECT * FROM events_at('run-9')", "no run `run-9`")]
    #[case::unknown_table("SELECT * FROM cars_at('run-9')", "cars_at")]
    #[tokio::test]
    async fn a_night_that_is_not_there_is_told(#[case] statement: &str, #[case] because: &str) {
        let lake = Lake::with_a_night().await;
        let session = lake.open().await.unwrap();
        let error = csv(&session, statement).await.unwrap_err();
        assert!(error.with_causes().contains(because), "{}", error.with_causes());
    }

    #[tokio::test]
    async fn a_night_without_changes_hides_nothing() {
        let lake = Lake::with_a_night().await;
        lake.publish("run-2", None, None).await;
        check(&lake.open().await.unwrap(), "SELECT count(*) FROM events", "2").await;
    }

    #[tokio::test]
    async fn before_anything_is_published_there_are_no_tables() {
        let lake = Lake::new();
        lake.append("events", more_events()).await;
        let error = lake.open().await.unwrap_err();
        assert!(matches!(error, Error::NoTables { .. }));
        let expected = format!("no tables at `{}`: run `eventide index` first", lake.uri());
        assert_eq!(error.to_string(), expected);
    }

    #[tokio::test]
    async fn a_corpus_without_events_has_empty_tables() {
        let lake = Lake::new();
        lake.publish("run-1", None, None).await;
        let session = lake.open().await.unwrap();
        check(&session, "SELECT count(caption) FROM events", "0").await;
        check(&session, "SELECT uri FROM videos", "").await;
    }

    #[tokio::test]
    async fn a_table_that_has_gone_is_named() {
        let lake = Lake::with_a_night().await;
        std::fs::remove_dir_all(lake.file("videos")).unwrap();
        let error = lake.open().await.unwrap_err().with_causes();
        assert!(error.contains("/videos`") && error.contains("version 0"), "{error}");
    }

    #[tokio::test]
    async fn a_version_that_was_never_written_is_an_error() {
        let lake = Lake::with_a_night().await;
        lake.publish("run-2", Some(7), None).await;
        let error = lake.open().await.unwrap_err();
        assert!(
            matches!(&error, Error::OpenTable { uri, .. } if uri.ends_with("events")),
            "{error}"
        );
    }

    #[rstest]
    #[case::insert("INSERT INTO runs SELECT * FROM runs")]
    #[case::insert_overwrite("INSERT OVERWRITE runs SELECT * FROM runs")]
    #[case::delete("DELETE FROM events")]
    #[case::update("UPDATE events SET caption = 'x'")]
    #[case::drop("DROP TABLE events")]
    #[case::create_table("CREATE TABLE mine AS SELECT 1")]
    #[case::create_view("CREATE OR REPLACE VIEW events AS SELECT 1")]
    #[case::drop_view("DROP VIEW videos")]
    #[case::create_schema("CREATE SCHEMA mine")]
    #[case::external("CREATE EXTERNAL TABLE passwords STORED AS CSV LOCATION '/etc/passwd'")]
    #[case::copy("COPY events TO 'FOLDER/out.csv' STORED AS CSV")]
    #[case::explained_copy("EXPLAIN ANALYZE COPY events TO 'FOLDER/out.csv' STORED AS CSV")]
    #[case::explained_insert("EXPLAIN ANALYZE INSERT INTO runs SELECT * FROM runs")]
    #[case::memory_limit("SET datafusion.runtime.memory_limit = '100G'")]
    #[case::prepare("PREPARE p AS SELECT 1")]
    #[tokio::test]
    async fn refuses_to_change(#[case] statement: &str) {
        let lake = Lake::with_a_night().await;
        let session = lake.open().await.unwrap();
        let statement = statement.replace("FOLDER", lake.file("").to_str().unwrap());
        let error = csv(&session, &statement).await.unwrap_err();
        assert!(matches!(error, Error::ReadOnly { .. }), "{}", error.with_causes());
        assert_eq!(lake.listing(), ["events", "runs", "videos"]);
        let reopened = lake.open().await.unwrap();
        check(&reopened, "SELECT count(*) FROM events", "2").await;
        check(&reopened, "SELECT count(*) FROM runs", "1").await;
    }

    #[tokio::test]
    async fn a_view_lives_as_long_as_its_session() {
        let lake = Lake::with_a_night().await;
        let session = lake.open().await.unwrap();
        csv(&session, "CREATE VIEW first AS SELECT caption FROM events WHERE start_ms = 0")
            .await
            .unwrap();
        check(&session, "SELECT count(*) FROM first", "1").await;
        assert_eq!(lake.listing(), ["events", "runs", "videos"]);
        let error = csv(&lake.open().await.unwrap(), "SELECT * FROM first").await.unwrap_err();
        assert!(matches!(error, Error::Plan { .. }), "{}", error.with_causes());
    }

    /// A session over some tables that may write to a folder, and that folder.
    async fn writing_session(lake: &Lake) -> (Session, TempDir) {
        let (mut session, out) = (lake.open().await.unwrap(), TempDir::new().unwrap());
        let uri = Url::from_directory_path(out.path()).unwrap();
        let store = Arc::new(object_store::local::LocalFileSystem::new());
        session.allow_writing(store, uri.as_str()).unwrap();
        (session, out)
    }

    #[tokio::test]
    async fn below_a_place_that_is_named_it_writes() {
        let lake = Lake::with_a_night().await;
        let (session, out) = writing_session(&lake).await;
        let out = out.path().display();
        check(&session, &format!("COPY events TO '{out}/events.csv' STORED AS CSV"), "2").await;
        let columns = "caption VARCHAR, start_ms BIGINT";
        for statement in [
            format!(
                "CREATE EXTERNAL TABLE kept ({columns}) STORED AS PARQUET LOCATION '{out}/kept/'"
            ),
            "INSERT INTO kept SELECT caption, start_ms FROM events".to_owned(),
            "INSERT INTO kept SELECT caption, start_ms FROM events".to_owned(),
        ] {
            csv(&session, &statement).await.unwrap_or_else(|e| panic!("{}", e.with_causes()));
        }
        check(&session, "SELECT count(*), count(DISTINCT caption) FROM kept", "4,2").await;
    }

    #[rstest]
    #[case::elsewhere("COPY events TO '/tmp/elsewhere.csv' STORED AS CSV", "is not below it")]
    #[case::out_of_it("COPY events TO 'OUT/../x.csv' STORED AS CSV", "x.csv")]
    #[case::read_elsewhere(
        "CREATE EXTERNAL TABLE p STORED AS CSV LOCATION '/etc/'",
        "not below it"
    )]
    #[case::published("INSERT INTO runs SELECT * FROM runs", "`runs` is a published table")]
    #[case::hidden("CREATE EXTERNAL TABLE events STORED AS CSV LOCATION 'OUT/'", "published table")]
    #[case::overwrite("INSERT OVERWRITE runs SELECT * FROM runs", "would lose rows")]
    #[case::delete("DELETE FROM events", "would lose rows")]
    #[case::setting(
        "SET datafusion.runtime.memory_limit = '100G'",
        "not for a session of questions"
    )]
    #[tokio::test]
    async fn elsewhere_it_does_not(#[case] statement: &str, #[case] because: &str) {
        let lake = Lake::with_a_night().await;
        let (session, out) = writing_session(&lake).await;
        let statement = statement.replace("OUT", out.path().to_str().unwrap());
        let error = csv(&session, &statement).await.unwrap_err();
        assert!(error.with_causes().contains(because), "{}", error.with_causes());
        assert_eq!(lake.listing(), ["events", "runs", "videos"]);
    }

    #[tokio::test]
    async fn the_providers_cannot_write_either() {
        let lake = Lake::with_a_night().await;
        let session = lake.open().await.unwrap();
        let rows = session.context.table("runs").await.unwrap();
        let written = rows.write_table("runs", datafusion::dataframe::DataFrameWriteOptions::new());
        let error = written.await.unwrap_err().to_string();
        assert!(error.contains("log_store"), "{error}");
        check(&lake.open().await.unwrap(), "SELECT count(*) FROM runs", "1").await;
    }

    #[rstest]
    #[case::column("SELECT captoin FROM events", "caption")]
    #[case::table("SELECT * FROM evnts", "evnts")]
    #[case::function("SELECT timecod(1)", "timecode")]
    #[case::syntax("SELEC 1", "SELEC")]
    #[case::file("SELECT * FROM '/etc/passwd.csv'", "/etc/passwd.csv")]
    #[case::two("SELECT 1; SELECT 2", "single SQL statement")]
    #[case::wrong_type("SELECT timecode('noon')", "timecode(Int64)")]
    #[tokio::test]
    async fn a_wrong_statement_is_explained(#[case] statement: &str, #[case] because: &str) {
        let lake = Lake::with_a_night().await;
        let session = lake.open().await.unwrap();
        let error = csv(&session, statement).await.unwrap_err();
        assert!(error.with_causes().contains(because), "{}", error.with_causes());
    }

    #[rstest]
    #[case::constant("SELECT timecode(3723004)", "01:02:03.004")]
    #[case::column(
        "SELECT timecode(start_ms) FROM events ORDER BY start_ms",
        "00:00:00.000\n00:01:30.000"
    )]
    #[case::int32("SELECT timecode(CAST(5 AS INT))", "00:00:00.005")]
    #[case::back("SELECT parse_timecode(timecode(start_ms)) - start_ms FROM events", "0\n0")]
    #[case::filter("SELECT start_ms FROM events WHERE start_ms >= parse_timecode('1:30')", "90000")]
    #[case::overlaps(
        "SELECT overlaps(start_ms, end_ms, 91499, 95000) FROM events ORDER BY start_ms",
        "false\ntrue"
    )]
    #[case::overlap_ms(
        "SELECT overlap_ms(start_ms, end_ms, 1000, 91000) FROM events ORDER BY start_ms",
        "500\n1000"
    )]
    #[case::iou("SELECT iou(0, 10, 5, 15) > 0.33, iou(0, 10, 0, 10)", "true,1.0")]
    #[case::null_constants(
        "SELECT timecode(NULL) IS NULL, parse_timecode(NULL) IS NULL, iou(0, 1, NULL, 2) IS NULL",
        "true,true,true"
    )]
    #[case::null_rows(
        "SELECT overlaps(s, 10, 0, 5), overlap_ms(s, 10, 0, 5), timecode(s) FROM (VALUES (0), (NULL)) t(s) ORDER BY s",
        "true,5,00:00:00.000\n,,"
    )]
    #[case::no_rows(
        "SELECT timecode(start_ms), iou(start_ms, 1, 2, 3) FROM events WHERE false",
        ""
    )]
    #[tokio::test]
    async fn functions_answer_in_sql(#[case] statement: &str, #[case] expected: &str) {
        check(&Lake::with_a_night().await.open().await.unwrap(), statement, expected).await;
    }

    #[tokio::test]
    async fn a_bad_time_code_in_a_row_fails_the_statement() {
        let lake = Lake::with_a_night().await;
        let session = lake.open().await.unwrap();
        let error = csv(&session, "SELECT parse_timecode(caption) FROM events").await.unwrap_err();
        assert!(error.with_causes().contains("is not a time code"), "{}", error.with_causes());
    }

    #[tokio::test]
    async fn memory_and_spill_have_limits() {
        let lake = Lake::with_a_night().await;
        let spill = lake.file("spill");
        std::fs::create_dir(&spill).unwrap();
        let sort = "SELECT max(length(t)) FROM (SELECT t, row_number() OVER (ORDER BY t) AS n \
            FROM (SELECT repeat(v::text, 9) AS t FROM generate_series(1, 300000) g(v))) WHERE n > 0";
        let small = Options {
            memory_bytes: 16 << 20,
            spill_folder: Some(spill),
            partitions: NonZeroUsize::new(1),
            ..Options::default()
        };
        check(&lake.open_with(&small).await.unwrap(), sort, "54").await;
        let smaller = Options { spill_bytes: 1 << 20, ..small };
        let session = lake.open_with(&smaller).await.unwrap();
        let error = csv(&session, sort).await.unwrap_err();
        assert!(matches!(error, Error::Run { .. }), "{}", error.with_causes());
    }

    #[tokio::test]
    async fn its_functions_are_documented() {
        let lake = Lake::with_a_night().await;
        let session = lake.open().await.unwrap();
        for function in functions::all() {
            use datafusion::logical_expr::ScalarUDFImpl;
            let about = session.function_documentation(function.name()).unwrap();
            let example = about.sql_example.unwrap();
            csv(&session, &example).await.unwrap_or_else(|e| panic!("{}", e.with_causes()));
        }
    }
}
