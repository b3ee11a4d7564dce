//! `eventide optimize`: put the rows of the tables into fewer, larger, sorted files.

use std::process::ExitCode;

use bytesize::ByteSize;
use clap::Args;
use eventide_catalog::{OptimizeOptions, Optimized, Stores, Table};
use serde_json::json;

use super::{Stop, tables_at};
use crate::{
    arguments::{Format, TablesArguments},
    report,
};

/// Arguments of `optimize`.
#[derive(Debug, Args)]
pub(crate) struct OptimizeArguments {
    /// The tables.
    #[command(flatten)]
    tables: TablesArguments,
    /// How large a file becomes, about.
    #[arg(long, value_name = "SIZE", default_value = "128MiB")]
    file_size: ByteSize,
    /// Memory that sorting may hold; what does not fit is spilled to disk.
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    memory: ByteSize,
    /// What may be spilled to disk. A table that needs more is left as it is.
    #[arg(long, value_name = "SIZE", default_value = "256GiB")]
    spill: ByteSize,
}

pub(super) async fn run(arguments: &OptimizeArguments, stores: &Stores) -> Result<ExitCode, Stop> {
    let tables = tables_at(&arguments.tables.tables, stores)?;
    let options = OptimizeOptions {
        file_bytes: arguments.file_size.as_u64(),
        memory_bytes: usize::try_from(arguments.memory.as_u64()).unwrap_or(usize::MAX),
        spill_bytes: arguments.spill.as_u64(),
        ..OptimizeOptions::default()
    };
    let mut done = Vec::new();
    let nights = [Table::Events, Table::Videos, Table::Transcripts, Table::Runs];
    for table in nights.into_iter().chain([Table::Feedback]) {
        let optimized = tables.optimize(table, &options).await;
        done.extend(optimized.map_err(|error| Stop::of_run(&error.into()))?);
    }
    if done.is_empty() {
        let uri = &arguments.tables.tables;
        return Err(Stop::bad_job(miette::miette!("no tables at `{uri}`")));
    }
    let text = match arguments.tables.format {
        Format::Text => told(&done),
        Format::Json => {
            let table = |table: &Optimized| {
                json!({
                    "table": table.table.as_str(),
                    "rows": table.rows,
                    "files_before": table.before.count,
                    "bytes_before": table.before.bytes,
                    "files_after": table.after.count,
                    "bytes_after": table.after.bytes,
                    "version": table.version,
                })
            };
            format!("{:#}", json!({ "tables": done.iter().map(table).collect::<Vec<_>>() }))
        }
    };
    report::text(&text).map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}

/// A line for each table.
fn told(done: &[Optimized]) -> String {
    let rows = done.iter().map(|table| {
        vec![
            table.table.as_str().to_owned(),
            table.rows.to_string(),
            table.before.count.to_string(),
            ByteSize(table.before.bytes).to_string(),
            table.after.count.to_string(),
            ByteSize(table.after.bytes).to_string(),
            table.version.map_or_else(|| "as it was".to_owned(), |version| version.to_string()),
        ]
    });
    report::table(&["table", "rows", "files", "bytes", "files now", "bytes now", "version"], rows)
}
