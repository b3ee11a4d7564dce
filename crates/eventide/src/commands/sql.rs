//! `eventide sql`: questions about the tables, from the command line, a file, a pipe or a person.

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use bytesize::ByteSize;
use clap::Args;
use eventide_catalog::Stores;
use eventide_query::{AsOf, Error, Format, Options, Session, Settings, Shell, TableStyle};
use miette::{IntoDiagnostic, WrapErr};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::{
    LAST_MOMENT, Stop, absolute, caption_table, cluster, model::search_options, tables_at,
};
use crate::{
    arguments::{CLUSTER_ENVIRONMENT, Common, ToolArguments},
    environment,
};

/// Arguments of `sql`.
#[derive(Debug, Args)]
#[command(after_help = CLUSTER_ENVIRONMENT)]
pub(crate) struct SqlArguments {
    /// What to run: one or more statements. Without it, statements come from standard input; from
    /// a terminal, that is a shell.
    #[arg(value_name = "SQL")]
    statements: Option<String>,
    /// Where the tables are.
    #[arg(long, env = "EVENTIDE_TABLES", value_name = "URI")]
    tables: String,
    /// Ask the tables as they were: after a run was published, at a version of `runs`, or at a time such as
    /// `2026-11-24` or `2026-11-24T06:30:00Z`.
    #[arg(long, value_name = "RUN|VERSION|TIME")]
    as_of: Option<AsOf>,
    /// Run the statements in a file.
    #[arg(long, short, value_name = "FILE", conflicts_with = "statements")]
    file: Option<PathBuf>,
    /// How results are written: table, csv, json, ndjson, or, with --out, parquet. If not given,
    /// what the name of the file says, else table.
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Write the result of one statement to a file, which is there whole or not at all.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Rows that a table shows. The other formats write all rows.
    #[arg(long, value_name = "ROWS", default_value_t = TableStyle::default().max_rows)]
    limit: usize,
    /// Say how long statements take.
    #[arg(long)]
    timing: bool,
    /// Memory that sorts, joins and groups may hold; what does not fit is spilled to disk.
    #[arg(long, value_name = "SIZE", default_value = "2GiB")]
    memory: ByteSize,
    /// What may be spilled to disk. A statement that needs more fails.
    #[arg(long, value_name = "SIZE", default_value = "32GiB")]
    spill: ByteSize,
    /// Have `caption(...)` done by the executors of this scheduler, `http://host:50050`; this machine does
    /// the rest of the query.
    #[arg(long, value_name = "URL", env = "EVENTIDE_CLUSTER")]
    cluster: Option<String>,
    /// Let statements write below this place: `COPY ... TO`, and `INSERT INTO` what
    /// `CREATE EXTERNAL TABLE` names. The published tables stay as they are.
    #[arg(long, value_name = "URI")]
    write: Option<String>,
    /// The bundle of a text encoder, as `eventide model import --text-encoder` makes it: plain words in `search(...)`
    /// find captions that mean alike, too. Each different caption is embedded once, on the cores of this machine, and kept.
    #[arg(long, value_name = "BUNDLE")]
    embeddings: Option<String>,
    /// The tools that `caption(...)` and the text encoder work with.
    #[command(flatten)]
    tools: ToolArguments,
}

/// Runs the statements. 1 if one of them failed, 2 if there are no tables to ask.
pub(super) async fn run(
    arguments: &SqlArguments,
    common: &Common,
    stores: &Arc<Stores>,
) -> Result<ExitCode, Stop> {
    let queries = TaskTracker::new();
    let (mut shell, interrupt) = shell(arguments, common, stores, &queries).await?;
    let listen = || tokio::spawn(pass_on_interrupts(interrupt));
    let asked = match (&arguments.statements, &arguments.file) {
        (Some(statements), _) => {
            listen();
            shell.run(statements).await
        }
        (None, Some(file)) => {
            let statements = std::fs::read(file)
                .into_diagnostic()
                .wrap_err_with(|| format!("cannot read `{}`", file.display()))
                .map_err(Stop::bad_job)?;
            listen();
            shell.run_lines(statements.as_slice()).await
        }
        (None, None) if io::stdin().is_terminal() => {
            let editor = shell.editor().map_err(stop)?;
            listen();
            let folder = environment::cache_folder();
            let kept = std::fs::create_dir_all(&folder).is_ok();
            shell.interact(editor, kept.then(|| folder.join("sql_history")).as_deref()).await
        }
        // Here Ctrl-C ends the program as it does by itself, also while it waits for a line.
        (None, None) => shell.run_lines(io::stdin().lock()).await,
    };
    queries.close();
    // What a cluster was asked and nobody reads to the end is stopped there.
    if tokio::time::timeout(LAST_MOMENT, queries.wait()).await.is_err() {
        tracing::warn!("the cluster may still be at work");
    }
    match asked {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.is_closed_pipe() => Ok(ExitCode::SUCCESS), // whoever reads has enough
        Err(error) => Err(stop(error)),
    }
}

async fn shell(
    arguments: &SqlArguments,
    common: &Common,
    stores: &Arc<Stores>,
    queries: &TaskTracker,
) -> Result<(Shell<io::Stdout, io::Stderr>, Arc<Notify>), Stop> {
    let place = |uri: &str| {
        let opened = stores.open(&absolute(uri)?);
        opened.map_err(|error| Stop::bad_job(miette::miette!("{}", super::chain(&error))))
    };
    let location = place(&arguments.tables)?;
    let options = Options {
        memory_bytes: usize::try_from(arguments.memory.as_u64()).unwrap_or(usize::MAX),
        spill_bytes: arguments.spill.as_u64(),
        ..Options::default()
    };
    let as_of = arguments.as_of.clone().unwrap_or_default();
    let session = Session::open_as_of(location.store, &location.uri, &options, &as_of);
    let mut session = session.await.map_err(stop)?;
    let embeddings = arguments.embeddings.as_deref();
    session.enable_search(search_options(embeddings, stores, &arguments.tools).await?);
    if let Some(uri) = &arguments.write {
        let writable = place(uri)?;
        session.allow_writing(writable.store, &writable.uri).map_err(stop)?;
    }
    let relation = match &arguments.cluster {
        Some(url) => {
            let tables = tables_at(&arguments.tables, stores)?;
            caption_table::relation_on(cluster(url)?, queries.clone(), tables)
        }
        None => caption_table::relation(arguments.tools.clone(), Arc::clone(stores)),
    };
    session.add_relation(Arc::new(relation)).map_err(stop)?;
    let settings = Settings {
        format: arguments.format.unwrap_or_default(),
        style: TableStyle {
            width: comfy_table::Table::new().width().filter(|width| *width > 0), // of the terminal
            max_rows: arguments.limit,
            ..TableStyle::default()
        },
        file: arguments.out.clone(),
        file_format: arguments.format,
        timing: arguments.timing,
        quiet: common.quiet,
    };
    let interrupt = Arc::new(Notify::new());
    let stop_statement = Arc::clone(&interrupt);
    Ok((Shell::new(session, settings, io::stdout(), io::stderr(), stop_statement), interrupt))
}

/// From now on Ctrl-C stops the statement that runs, not the program.
async fn pass_on_interrupts(interrupt: Arc<Notify>) {
    while tokio::signal::ctrl_c().await.is_ok() {
        interrupt.notify_waiters();
    }
}

#[expect(clippy::needless_pass_by_value, reason = "this is what `map_err` calls")]
pub(super) fn stop(error: Error) -> Stop {
    let text = super::chain(&error);
    let report = match error.help() {
        Some(help) => miette::miette!(help = help, "{text}"),
        None => miette::miette!("{text}"),
    };
    match error {
        Error::Interrupted => Stop::interrupted(report),
        Error::NoTables { .. }
        | Error::Address { .. }
        | Error::OpenTable { .. }
        | Error::NotYet { .. }
        | Error::UnknownRun { .. }
        | Error::WeakToken { .. }
        | Error::HeaderName { .. }
        | Error::NewerThanTables { .. }
        | Error::ChangesGone { .. }
        | Error::OtherTables { .. }
        | Error::NoVectors { .. }
        | Error::SearchAddress { .. } => Stop::bad_job(report),
        _ => Stop::failed(report),
    }
}
