//! Tables as training data: what was said and seen in the videos of earlier runs.

use std::{collections::BTreeMap, path::PathBuf};

use arrow::{array::AsArray, array::RecordBatch, datatypes::Int64Type};
use eventide_catalog::Stores;
use eventide_query::{Options, Session};
use eventide_schema::{Cue, EventSource, TimeSpan};
use eventide_training::data::{Example, folder::Report};
use futures::TryStreamExt as _;
use url::Url;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Videos that were looked at to the end.
const VIDEOS: &str = "SELECT arrow_cast(video_id, 'Utf8'), arrow_cast(uri, 'Utf8'), \
     arrow_cast(duration_ms, 'Int64') FROM videos \
     WHERE status IN ('captioned', 'empty') AND duration_ms IS NOT NULL ORDER BY video_id";
/// Their events, the first first.
const EVENTS: &str = "SELECT arrow_cast(video_id, 'Utf8'), arrow_cast(source, 'Utf8'), \
     arrow_cast(caption, 'Utf8'), arrow_cast(start_ms, 'Int64'), arrow_cast(end_ms, 'Int64') \
     FROM events ORDER BY video_id, start_ms, end_ms, window_index, event_index";

/// An example for each video of the tables whose file is on this machine.
pub(super) async fn examples(
    tables: &str,
    stores: &Stores,
) -> Result<(Vec<Example>, Report), Failure> {
    let location = stores.open(tables)?;
    let session = Session::open(location.store.clone(), &location.uri, &Options::default()).await?;
    let mut events: BTreeMap<String, Vec<(EventSource, Cue)>> = BTreeMap::new();
    for batch in rows(&session, EVENTS).await? {
        for row in 0..batch.num_rows() {
            events.entry(text(&batch, 0, row).to_owned()).or_default().push(event(&batch, row));
        }
    }
    let (mut examples, mut report) = (Vec::new(), Report::default());
    for batch in rows(&session, VIDEOS).await? {
        for row in 0..batch.num_rows() {
            report.annotated += 1;
            let (video, uri) = (text(&batch, 0, row), text(&batch, 1, row));
            let Some(file) = file(uri) else {
                report.without_file.push(uri.to_owned());
                continue;
            };
            let told = events.get(video).map_or(&[][..], Vec::as_slice);
            let duration_us = integer(&batch, 2, row) * 1000;
            let example = Example::of_rows(video, file, duration_us, told);
            let example = example.map_err(|fault| format!("video `{uri}`: {fault}"))?;
            report.silent += usize::from(example.speech.is_empty());
            examples.push(example);
        }
    }
    Ok((examples, report))
}

/// The file of a video, where it is one of this machine and still there.
fn file(uri: &str) -> Option<PathBuf> {
    let path = Url::parse(uri).ok()?.to_file_path().ok()?;
    path.is_file().then_some(path)
}

fn event(batch: &RecordBatch, row: usize) -> (EventSource, Cue) {
    let source = match text(batch, 1, row) {
        "speech" => EventSource::Speech,
        _ => EventSource::Vid2Seq,
    };
    let span = TimeSpan::new(integer(batch, 3, row) * 1000, integer(batch, 4, row) * 1000);
    (source, Cue { span, text: text(batch, 2, row).to_owned() })
}

async fn rows(session: &Session, statement: &str) -> Result<Vec<RecordBatch>, Failure> {
    Ok(session.query(statement).await?.try_collect().await?)
}

fn text(batch: &RecordBatch, column: usize, row: usize) -> &str {
    batch.column(column).as_string::<i32>().value(row)
}

fn integer(batch: &RecordBatch, column: usize, row: usize) -> i64 {
    batch.column(column).as_primitive::<Int64Type>().value(row)
}
