//! Results on standard output, as text or as JSON.

use std::io::{self, Write};

use bytesize::ByteSize;
use chrono::DateTime;
use comfy_table::{Cell, CellAlignment, Table, presets};
use eventide_query::{functions::timecode, subtitles};
use eventide_schema::{Outcome, tables::RunRow};
use eventide_training::synth::Summary;
use miette::{IntoDiagnostic, WrapErr};
use serde_json::json;

use crate::{
    arguments::Format,
    commands::{
        caption::{CaptionFormat, Form, Told},
        plan::Forecast,
    },
};

/// Prints what a run has published.
pub(crate) fn run(run: &RunRow, format: Format) -> miette::Result<()> {
    let text = match format {
        Format::Json => serde_json::to_string_pretty(run).into_diagnostic()?,
        Format::Text => run_text(run),
    };
    print(&text).into_diagnostic().wrap_err("cannot print the result")
}

fn run_text(run: &RunRow) -> String {
    let wall_s = (run.finished_at_ms - run.started_at_ms).max(0) / 1000;
    let started = DateTime::from_timestamp_millis(run.started_at_ms)
        .map(|at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string())
        .unwrap_or_default();
    let mut rows = vec![
        ("run", run.run_id.clone()),
        ("job", run.job.clone()),
        ("started", format!("{started}, took {wall_s} s")),
        ("listed", run.listed.to_string()),
        ("captioned", run.captioned.to_string()),
        ("empty", run.empty.to_string()),
        ("failed", run.failed.to_string()),
        ("skipped", run.skipped.to_string()),
        ("unchanged", run.unchanged.to_string()),
        ("removed", run.removed.to_string()),
        ("events", run.events.to_string()),
        ("video", hours(run.video_ms)),
        (
            "cost",
            format!(
                "{:.1} core-s, {:.1} device-s, {} read",
                seconds(run.core_ms),
                seconds(run.device_ms),
                ByteSize(run.bytes_read)
            ),
        ),
    ];
    let versions = [run.events_version, run.videos_version, run.transcripts_version];
    rows.push((
        "published",
        match versions {
            [None, None, None] => "nothing had changed".to_owned(),
            versions => {
                let [events, videos, transcripts] = versions.map(version);
                format!("events {events}, videos {videos}, transcripts {transcripts}")
            }
        },
    ));
    two_columns(&rows)
}

fn version(version: Option<i64>) -> String {
    version.map_or_else(|| "as before".to_owned(), |version| format!("version {version}"))
}

/// A length of video.
pub(crate) fn hours(milliseconds: u64) -> String {
    format!("{:.2} h", seconds(milliseconds) / 3600.0)
}

#[expect(clippy::cast_precision_loss, reason = "for a person to read")]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

/// Prints what a run would do.
pub(crate) fn forecast(forecast: &Forecast, format: Format) -> miette::Result<()> {
    let text = match format {
        Format::Json => serde_json::to_string_pretty(forecast).into_diagnostic()?,
        Format::Text => forecast_text(forecast),
    };
    print(&text).into_diagnostic().wrap_err("cannot print the forecast")
}

fn forecast_text(forecast: &Forecast) -> String {
    let device = forecast
        .device_seconds
        .map_or_else(|| "unknown".to_owned(), |seconds| format!("about {seconds:.0} s"));
    two_columns(&[
        ("listed", forecast.listed.to_string()),
        ("to index", forecast.videos.to_string()),
        ("new", forecast.new.to_string()),
        ("changed", forecast.changed.to_string()),
        ("other parameters", forecast.other_parameters.to_string()),
        ("tried again", forecast.retried.to_string()),
        ("finished before", forecast.adopted.to_string()),
        ("skipped", forecast.skipped.to_string()),
        ("unchanged", forecast.unchanged.to_string()),
        ("gone", forecast.removed.to_string()),
        ("heard before", forecast.heard_before.to_string()),
        ("shards", forecast.shards.to_string()),
        ("to read", ByteSize(forecast.bytes).to_string()),
        ("video", format!("about {:.2} h", forecast.video_hours)),
        ("cores", format!("about {:.0} core-s", forecast.core_seconds)),
        ("device", device),
        ("estimated from", forecast.estimated_from.to_owned()),
    ])
}

/// Prints what a check has found. The names of the findings are lower-case words; in JSON `-` stands
/// between them.
pub(crate) fn findings(findings: &[(&str, String)], format: Format) -> io::Result<()> {
    let text = match format {
        Format::Json => {
            let object: serde_json::Map<_, _> = findings
                .iter()
                .map(|(what, found)| (what.replace(' ', "-"), json!(found)))
                .collect();
            serde_json::Value::Object(object).to_string()
        }
        Format::Text => {
            let rows: Vec<_> =
                findings.iter().map(|(what, found)| (*what, found.clone())).collect();
            two_columns(&rows)
        }
    };
    print(&text)
}

/// Prints what a data set of synthetic videos holds.
pub(crate) fn synth(summary: &Summary, format: Format) -> miette::Result<()> {
    let Summary { videos, kept, narrated, events, video_ms } = *summary;
    let text = match format {
        Format::Json => serde_json::to_string_pretty(summary).into_diagnostic()?,
        Format::Text => two_columns(&[
            ("videos", format!("{videos}, of them {kept} kept")),
            ("narrated", narrated.to_string()),
            ("events", events.to_string()),
            ("length", format!("{:.2} h", seconds(video_ms) / 3600.0)),
        ]),
    };
    print(&text).into_diagnostic().wrap_err("cannot print the result")
}

/// Prints what is told of one video.
pub(crate) fn captions(
    outcome: &Outcome,
    form: Form,
    told: &[Told],
    format: CaptionFormat,
) -> miette::Result<()> {
    let text = match format {
        CaptionFormat::Json => format!("{:#}", captions_json(outcome, form, told)),
        CaptionFormat::Vtt => web_vtt(told),
        CaptionFormat::Text => captions_text(outcome, form, told),
    };
    print(&text).into_diagnostic().wrap_err("cannot print the captions")
}

fn captions_json(outcome: &Outcome, form: Form, told: &[Told]) -> serde_json::Value {
    let told = told.iter().map(|told| {
        json!({
            "start_ms": told.span.start_ms(),
            "end_ms": told.span.end_ms(),
            "caption": told.caption,
            "score": told.score,
        })
    });
    let what = match form {
        Form::Events => "events",
        Form::Paragraph => "paragraphs",
        Form::Clips => "clips",
    };
    json!({
        "uri": outcome.video.uri,
        "status": outcome.status.as_str(),
        "remark": outcome.failure.as_ref().map(|failure| &failure.reason),
        "duration_ms": outcome.media.duration_us.map(|us| us / 1000),
        "transcript_source": outcome.transcript.source.as_str(),
        "frames_used": outcome.frames_used,
        what: told.collect::<Vec<_>>(),
    })
}

fn captions_text(outcome: &Outcome, form: Form, told: &[Told]) -> String {
    if told.iter().all(|told| told.caption.is_empty()) {
        let why = outcome.failure.as_ref().map_or("", |failure| failure.reason.as_str());
        return format!("nothing: {why}").trim_end_matches([':', ' ']).to_owned();
    }
    if form == Form::Paragraph {
        let captions: Vec<_> = told.iter().map(|told| told.caption.as_str()).collect();
        return captions.join("\n");
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["start", "end", "caption"]);
    for Told { span, caption, .. } in told {
        table.add_row([timecode(span.start_ms()), timecode(span.end_ms()), caption.clone()]);
    }
    table.trim_fmt()
}

/// Subtitles as WebVTT. Captions hold no line breaks.
pub(crate) fn web_vtt(told: &[Told]) -> String {
    let cue = |told: &Told| (told.span.start_ms(), told.span.end_ms(), told.caption.clone());
    let mut text = subtitles::web_vtt(&told.iter().map(cue).collect::<Vec<_>>());
    text.truncate(text.trim_end().len());
    text
}

/// Prints what is to be said of something: lines as text, or the object that holds more.
pub(crate) fn described(
    rows: &[(&str, String)],
    document: &serde_json::Value,
    format: Format,
) -> miette::Result<()> {
    let text = match format {
        Format::Json => format!("{document:#}"),
        Format::Text => two_columns(rows),
    };
    print(&text).into_diagnostic().wrap_err("cannot print the result")
}

/// Prints a text as it is.
pub(crate) fn text(text: &str) -> miette::Result<()> {
    print(text).into_diagnostic().wrap_err("cannot print the result")
}

/// The runs as a table, one on a line.
pub(crate) fn runs_text(runs: &[RunRow]) -> String {
    let rows = runs.iter().map(|run| {
        let hours = seconds(run.video_ms) / 3600.0;
        let per_hour = |milliseconds| match run.video_ms {
            0 => "-".to_owned(),
            _ => format!("{:.1}", seconds(milliseconds) / hours),
        };
        let started = DateTime::from_timestamp_millis(run.started_at_ms);
        let started = started.map(|at| at.format("%Y-%m-%d %H:%M").to_string());
        vec![
            run.run_id.clone(),
            run.job.clone(),
            started.unwrap_or_default(),
            format!("{} s", (run.finished_at_ms - run.started_at_ms).max(0) / 1000),
            run.listed.to_string(),
            run.captioned.to_string(),
            run.failed.to_string(),
            run.unchanged.to_string(),
            run.events.to_string(),
            format!("{hours:.2}"),
            per_hour(run.core_ms),
            per_hour(run.device_ms),
        ]
    });
    let header = [
        "run",
        "job",
        "started (UTC)",
        "took",
        "listed",
        "captioned",
        "failed",
        "unchanged",
        "events",
        "video h",
        "core-s/h",
        "device-s/h",
    ];
    table(&header, rows)
}

/// A table with a header; the first column is text, the others stand to the right.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

pub(crate) fn two_columns(rows: &[(&str, String)]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for (name, value) in rows {
        table.add_row([Cell::new(name).set_alignment(CellAlignment::Right), Cell::new(value)]);
    }
    table.to_string()
}

/// A closed pipe is no fault: whoever read has read enough.
pub(crate) fn print(text: &str) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
