//! Predictions from our own tables, as the newest published run has them.

use std::collections::{BTreeMap, BTreeSet};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Float64Type, Int64Type},
};
use eventide_catalog::Location;
use eventide_eval::{Annotations, Event, Span};
use eventide_query::{Error, Options, Session};
use futures::TryStreamExt;

use super::{
    arguments::Ids,
    read::{Source, cannot_read},
};
use crate::commands::{Stop, chain};

/// Videos that were looked at to the end: those without events were found empty.
const FINISHED: &str = "SELECT arrow_cast(video_id, 'Utf8'), arrow_cast(uri, 'Utf8') FROM videos \
     WHERE status IN ('captioned', 'empty') ORDER BY video_id";
/// The others.
const UNFINISHED: &str = "SELECT count(*) FROM videos WHERE status NOT IN ('captioned', 'empty')";
/// Events in the order in which they were found.
const EVENTS: &str = "SELECT arrow_cast(video_id, 'Utf8'), arrow_cast(uri, 'Utf8'), \
     arrow_cast(caption, 'Utf8'), arrow_cast(start_ms, 'Int64'), arrow_cast(end_ms, 'Int64'), \
     arrow_cast(score, 'Float64') FROM events ORDER BY video_id, window_index, event_index";

/// Reads the tables below `location`, or those beside it if it is a table of them.
pub(super) async fn read(place: &str, location: &Location, ids: Ids) -> Result<Source, Stop> {
    let whole = location.uri.trim_end_matches('/');
    let folder = whole.strip_suffix("/events").unwrap_or(whole);
    let options = Options::default();
    let session = Session::open(location.store.clone(), folder, &options).await;
    let session = session.map_err(|error| not_tables(place, &error))?;
    let mut names = Names { ids, uris: BTreeMap::new() };
    let mut videos: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    for batch in rows(&session, FINISHED).await? {
        for row in 0..batch.num_rows() {
            videos.entry(names.of(&batch, row, place)?).or_default();
        }
    }
    for batch in rows(&session, EVENTS).await? {
        for row in 0..batch.num_rows() {
            let name = names.of(&batch, row, place)?;
            videos.entry(name).or_default().push(event(&batch, row));
        }
    }
    let unfinished = rows(&session, UNFINISHED).await?;
    let unfinished = unfinished.first().map_or(0, |batch| integer(batch, 0, 0));
    let annotations = Annotations::collect(videos).map_err(|error| cannot_read(place, &error))?;
    Ok(Source {
        place: place.to_owned(),
        annotations,
        unfinished: usize::try_from(unfinished).unwrap_or(0),
    })
}

async fn rows(session: &Session, statement: &str) -> Result<Vec<RecordBatch>, Stop> {
    let stream = session.query(statement).await.map_err(|error| failed(&error))?;
    stream.try_collect().await.map_err(|error| failed(&error))
}

fn failed(error: &dyn std::error::Error) -> Stop {
    Stop::failed(miette::miette!("cannot read the tables\n  because: {}", chain(error)))
}

/// What videos are called, and whose name that is.
struct Names {
    ids: Ids,
    uris: BTreeMap<String, String>,
}

impl Names {
    /// The name of a row's video. Two videos of one name would be scored as one.
    fn of(&mut self, batch: &RecordBatch, row: usize, place: &str) -> Result<String, Stop> {
        let (id, uri) = (text(batch, 0, row), text(batch, 1, row));
        let name = match self.ids {
            Ids::VideoId => id,
            Ids::Uri => uri,
            Ids::Stem => stem(uri),
        };
        match self.uris.get(name) {
            Some(known) if known == uri => {}
            Some(known) => {
                let both = BTreeSet::from([&**known, uri]);
                return Err(Stop::bad_job(miette::miette!(
                    help = "score by another name: --ids uri, or --ids video-id",
                    "two videos of `{place}` are called `{name}`: {both:?}"
                )));
            }
            None => {
                self.uris.insert(name.to_owned(), uri.to_owned());
            }
        }
        Ok(name.to_owned())
    }
}

/// The name of a file without its folder and its extension.
pub(in crate::commands) fn stem(uri: &str) -> &str {
    let file = uri.rsplit('/').next().unwrap_or(uri);
    file.rsplit_once('.').map_or(file, |(stem, _)| if stem.is_empty() { file } else { stem })
}

fn event(batch: &RecordBatch, row: usize) -> Event {
    let scores = batch.column(5).as_primitive::<Float64Type>();
    Event {
        span: Span::new(seconds(integer(batch, 3, row)), seconds(integer(batch, 4, row))),
        caption: text(batch, 2, row).to_owned(),
        score: scores.is_valid(row).then(|| scores.value(row)),
    }
}

fn text(batch: &RecordBatch, column: usize, row: usize) -> &str {
    batch.column(column).as_string::<i32>().value(row)
}

fn integer(batch: &RecordBatch, column: usize, row: usize) -> i64 {
    batch.column(column).as_primitive::<Int64Type>().value(row)
}

#[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}

fn not_tables(place: &str, error: &Error) -> Stop {
    let text = chain(error);
    match error {
        Error::NoTables { .. } => Stop::bad_job(miette::miette!(
            help = "name a JSON file, or a folder that `eventide index` has published tables to",
            "there is neither a file nor are there tables at `{place}`"
        )),
        _ => Stop::bad_job(miette::miette!("{text}")),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("s3://bucket/a/v_abc.mp4", "v_abc")]
    #[case("file:///videos/talk.en.mp4", "talk.en")]
    #[case("s3://bucket/noextension", "noextension")]
    #[case("s3://bucket/.hidden", ".hidden")]
    fn stems(#[case] uri: &str, #[case] expected: &str) {
        assert_eq!(stem(uri), expected);
    }
}
