//! `eventide export`: the night's difference, or everything, for search engines and players.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use bytesize::ByteSize;
use clap::{ArgGroup, Args};
use eventide_catalog::Stores;
use eventide_query::{
    Embedder, Error,
    export::{
        Destination, ExportOptions, Exported, Place, Progress, Receipt, SearchEngine, Since,
        Target, can_have_vectors, export,
    },
};
use indicatif::{ProgressBar, ProgressStyle};
use miette::{IntoDiagnostic, WrapErr};
use serde_json::json;

use super::{
    Stop, absolute,
    index::told_to_stop,
    model::{DeviceArguments, open_embedder},
    sql,
};
use crate::{
    arguments::{Common, Format},
    environment, report,
};

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group = ArgGroup::new("destination").required(true).multiple(true).args(["out", "url"]))]
pub(crate) struct ExportArguments {
    /// Where the tables are.
    #[arg(long, env = "EVENTIDE_TABLES", value_name = "URI")]
    tables: String,
    /// What is written. Documents: opensearch, elasticsearch, quickwit, meilisearch, typesense, vespa, ndjson, csv,
    /// parquet. A file a video: webvtt (what is said), webvtt-chapters, webvtt-metadata, srt, json-ld.
    #[arg(long, value_name = "TARGET")]
    to: Target,
    /// The folder that is written to, in any store: files, and a receipt of each export. With --url it holds
    /// receipts only.
    #[arg(long, short, value_name = "URI")]
    out: Option<String>,
    /// The Elasticsearch or `OpenSearch` that takes the documents, `https://host:9200`.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// What has changed since this version of the table: of `events`, or of `transcripts` for what is said. If not
    /// given, since the newest receipt in --out; everything where there is none.
    #[arg(long, value_name = "VERSION", conflicts_with = "full")]
    since: Option<u64>,
    /// Everything that is there now. What has gone is removed from the index of --url, and of --out where each video
    /// has a file. Other files hold all there is: load them into an index of their own.
    #[arg(long)]
    full: bool,
    /// Name of the index; for Vespa, of the namespace.
    #[arg(long, value_name = "NAME", default_value = "events", value_parser = index_name)]
    index: String,
    /// Where a reader of a document is sent: `{uri}`, `{video_id}`, `{event_id}`, and `{start}` and `{end}` in
    /// seconds stand for what they name.
    #[arg(long, value_name = "TEMPLATE", default_value = ExportOptions::MEDIA_FRAGMENT)]
    link: String,
    /// The address of a picture of each document or video, likewise. Google's pages of videos want one.
    #[arg(long, value_name = "TEMPLATE")]
    thumbnail: Option<String>,
    /// The bundle of a text encoder, as `eventide model import --text-encoder` makes it: each document gets the vector of
    /// its caption, by which engines find what means alike.
    #[arg(long, value_name = "BUNDLE")]
    embeddings: Option<String>,
    /// What runs it.
    #[command(flatten)]
    device: DeviceArguments,
    /// Size of a file or request, about.
    #[arg(long, value_name = "SIZE", default_value = "10MiB", value_parser = part_size)]
    part_size: ByteSize,
    /// How the result is printed.
    #[arg(long, default_value = "text")]
    format: Format,
}

const EXAMPLES: &str = "\
Examples:
  eventide export --tables s3://lake/t --to opensearch --url https://search:9200 --out s3://lake/exports
      every night: what has changed since the last time, deletes included
  eventide export --tables lake --to opensearch --full --out exports
      files for `_bulk`: curl -H 'content-type: application/x-ndjson' --data-binary @FILE URL/_bulk
  eventide export --tables lake --to json-ld --out s3://site/key-moments --link 'https://site/{video_id}?t={start}' \\
      --thumbnail 'https://site/{video_id}.jpg'

Environment:
  EVENTIDE_SEARCH_AUTHORIZATION  the header `Authorization` for --url, such as `ApiKey ...` or `Basic ...`
  EVENTIDE_SEARCH_AUTHORIZATION_FILE  a file that holds it instead

Indexes are made with the mappings that `schemas/search` has. Run an export that was cut off again: it goes on
where it was. Twice is harmless, and an older export never wins over a newer one. With another --index, --url,
--link, --thumbnail or --embeddings it is another export, which begins with everything. An index holds the events of one lake.";

/// Sizes that a part may have.
const SMALLEST_PART: ByteSize = ByteSize::kib(4);
const LARGEST_PART: ByteSize = ByteSize::mib(512);
/// Characters of an index's name.
const LONGEST_NAME: usize = 128;

fn part_size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    if (SMALLEST_PART..=LARGEST_PART).contains(&size) {
        return Ok(size);
    }
    Err(format!("give {SMALLEST_PART} to {LARGEST_PART}"))
}

/// A name that every engine takes, and that means nothing in an address.
fn index_name(text: &str) -> Result<String, String> {
    let is_known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let begins_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if begins_well && text.len() <= LONGEST_NAME && text.chars().all(is_known) {
        return Ok(text.to_owned());
    }
    Err("an index is called by lower-case letters, digits, `-` and `_`, and begins with one of the first two".to_owned())
}

/// Exports. 1 if it fails on the way, 2 if it cannot begin.
pub(super) async fn run(
    arguments: &ExportArguments,
    common: &Common,
    stores: &Stores,
) -> Result<ExitCode, Stop> {
    let place = |uri: &str| {
        let opened = stores.open(&absolute(uri)?);
        let location =
            opened.map_err(|error| Stop::bad_job(miette::miette!("{}", super::chain(&error))))?;
        Place::new(location.store, &location.uri).map_err(sql::stop)
    };
    let tables = place(&arguments.tables)?;
    let out = arguments.out.as_deref().map(place).transpose()?;
    let engine = engine(arguments)?;
    let destination = match (&engine, &out) {
        (Some(engine), out) => Destination::Engine(engine, out.as_ref()),
        (None, Some(out)) => Destination::Folder(out),
        (None, None) => {
            return Err(Stop::bad_job(miette::miette!("give --out, --url, or both")));
        }
    };
    let options = options(arguments, embedder(arguments, stores).await?);
    let bar = bar(common);
    let mut told = |progress: Progress| bar.set_message(said(progress));
    let exported = tokio::select! {
        exported = export(&tables, &options, destination, &mut told) => exported,
        () = told_to_stop() => {
            let report = miette::miette!("interrupted: run the same command again, it goes on where it was");
            return Err(Stop::interrupted(report));
        }
    };
    bar.finish_and_clear();
    let exported = exported.map_err(sql::stop)?;
    print(&exported, arguments).map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}

fn engine(arguments: &ExportArguments) -> Result<Option<SearchEngine>, Stop> {
    let Some(url) = &arguments.url else { return Ok(None) };
    if !arguments.to.is_live() {
        let to = arguments.to;
        let report = miette::miette!(
            help = "--url goes with opensearch and elasticsearch; write files for others: --out",
            "{to} is not loaded over the network"
        );
        return Err(Stop::bad_job(report));
    }
    let authorization = environment::search_authorization()
        .into_diagnostic()
        .wrap_err("cannot read the file that `EVENTIDE_SEARCH_AUTHORIZATION_FILE` names")
        .map_err(Stop::bad_job)?;
    SearchEngine::at(url, authorization.as_deref()).map(Some).map_err(sql::stop)
}

/// Who makes vectors of captions, if that is asked for.
async fn embedder(arguments: &ExportArguments, stores: &Stores) -> Result<Option<Embedder>, Stop> {
    let Some(uri) = &arguments.embeddings else { return Ok(None) };
    if !can_have_vectors(arguments.to) {
        return Err(sql::stop(Error::NoVectors { target: arguments.to }));
    }
    open_embedder(uri, stores, &arguments.device).await.map(Some)
}

fn options(arguments: &ExportArguments, embedder: Option<Embedder>) -> ExportOptions {
    let since = match (arguments.full, arguments.since) {
        (true, _) => Since::Full,
        (false, Some(version)) => Since::Version(version),
        (false, None) => Since::LastReceipt,
    };
    ExportOptions {
        target: arguments.to,
        since,
        index: arguments.index.clone(),
        link: arguments.link.clone(),
        thumbnail: arguments.thumbnail.clone(),
        embedder,
        part_bytes: usize::try_from(arguments.part_size.as_u64()).unwrap_or(usize::MAX),
    }
}

/// A line for a terminal, nothing elsewhere.
fn bar(common: &Common) -> ProgressBar {
    if common.quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}

fn said(progress: Progress) -> String {
    let Progress { upserts, deletes, bytes } = progress;
    format!("{upserts} written, {deletes} removed, {}", ByteSize(bytes))
}

fn print(exported: &Exported, arguments: &ExportArguments) -> miette::Result<()> {
    let text = match (arguments.format, exported) {
        (Format::Json, Exported::Done(receipt)) => {
            serde_json::to_string_pretty(receipt).into_diagnostic()?
        }
        (Format::Json, Exported::UpToDate { version }) => {
            format!("{:#}", json!({ "to_version": version, "up_to_date": true }))
        }
        (Format::Json, Exported::NothingPublished) => {
            format!("{:#}", json!({ "to_version": null, "up_to_date": true }))
        }
        (Format::Text, Exported::NothingPublished) => "nothing is published yet".to_owned(),
        (Format::Text, Exported::UpToDate { version }) => {
            format!("nothing has changed since version {version}")
        }
        (Format::Text, Exported::Done(receipt)) => told(receipt, arguments),
    };
    report::text(&text)
}

/// A receipt for people.
fn told(receipt: &Receipt, arguments: &ExportArguments) -> String {
    let from = receipt
        .from_version
        .map_or("everything".to_owned(), |from| format!("what has changed since version {from}"));
    let counts =
        said(Progress { upserts: receipt.upserts, deletes: receipt.deletes, bytes: receipt.bytes });
    let where_to = receipt.url.as_deref().or(arguments.out.as_deref()).unwrap_or_default();
    let newer = match receipt.superseded {
        0 => String::new(),
        count => format!("; {count} were newer there, and were left as they are"),
    };
    format!(
        "{from} up to version {} of `{}`, to {where_to}: {counts}{newer}",
        receipt.to_version, receipt.table
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::plain("events", true)]
    #[case::dated("events-2026_11", true)]
    #[case::upper("Events", false)]
    #[case::path("a/../b", false)]
    #[case::hidden("_all", false)]
    #[case::empty("", false)]
    fn an_index_has_a_name_that_every_engine_takes(#[case] name: &str, #[case] taken: bool) {
        assert_eq!(index_name(name).is_ok(), taken);
    }

    #[rstest]
    #[case::usual("10MiB", true)]
    #[case::tiny("1", false)]
    #[case::huge("1GiB", false)]
    fn a_part_has_a_size_that_fits(#[case] size: &str, #[case] taken: bool) {
        assert_eq!(part_size(size).is_ok(), taken);
    }
}
