//! Which rows are exported, and in what order.

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray},
        compute::cast,
        datatypes::DataType,
    },
    execution::SendableRecordBatchStream,
};

use super::{ExportOptions, Target, embeddings::embedded};
use crate::{Error, Result, Session, error::CauseFrom};

/// Columns of a document that the table `events` has, and under what name.
const OF_EVENTS: [&str; 17] = [
    "event_id",
    "video_id",
    "uri",
    "source_version",
    "window_index",
    "event_index",
    "start_ms",
    "end_ms",
    "time_resolution_ms",
    "caption",
    "speech",
    "language",
    "score",
    "source",
    "model_id",
    "model_digest",
    "run_id",
];

/// The rows between two versions of the tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) session: &'a Session,
    /// The version that the reader has; everything is new to it if none.
    pub(super) from: Option<u64>,
    /// The version that it is to have.
    pub(super) to: u64,
}

impl Rows<'_> {
    /// Documents as rows, sorted by video and time, each identifier once: the last change of an event is the one
    /// that counts, and within a commit what is written outranks what is removed.
    pub(super) async fn documents(
        &self,
        options: &ExportOptions,
    ) -> Result<SendableRecordBatchStream> {
        let link = link_expression(&options.link);
        let thumbnail = thumbnail_expression(options);
        let columns = OF_EVENTS.map(|name| format!("e.{name}")).join(", ");
        let id = if options.target == Target::Typesense { "e.event_id AS id, " } else { "" };
        let (rows, generation, deleted) = match self.from {
            None => ("events".to_owned(), self.to.to_string(), "false"),
            Some(from) => {
                self.session.add_changes("events", from + 1, self.to).await?;
                (last_changes(), "e._commit_version".to_owned(), "e._change_type = 'delete'")
            }
        };
        let documents = self
            .session
            .query(&format!(
                "SELECT {id}{columns}, {link} AS link, {thumbnail} AS thumbnail, v.duration_ms, \
                 CAST({generation} AS BIGINT) AS generation, e.indexed_at AS updated_at, {deleted} AS deleted \
                 FROM {rows} e LEFT JOIN videos v ON v.video_id = e.video_id \
                 ORDER BY e.video_id, e.start_ms, e.event_id"
            ))
            .await?;
        Ok(embedded(documents, options))
    }

    /// For side-cars: all that is told of each video that has changed, sorted by video and time. A video of which
    /// nothing is told any more has one row with no `start_ms`.
    pub(super) async fn of_videos(
        &self,
        options: &ExportOptions,
    ) -> Result<SendableRecordBatchStream> {
        let table = options.target.table();
        let videos = match self.from {
            None => format!("(SELECT DISTINCT video_id FROM {table})"),
            Some(from) => {
                self.session.add_changes(table, from + 1, self.to).await?;
                "(SELECT DISTINCT video_id FROM changes)".to_owned()
            }
        };
        let own = match table {
            "transcripts" => {
                "e.text, CAST(NULL AS TEXT) AS event_id, CAST(NULL AS TEXT) AS speech, e.confidence AS score"
            }
            _ => "e.caption AS text, e.event_id, e.speech, e.score",
        };
        let (link, thumbnail) = (link_expression(&options.link), thumbnail_expression(options));
        self.session
            .query(&format!(
                "SELECT c.video_id, coalesce(e.uri, v.uri) AS uri, v.duration_ms, e.start_ms, e.end_ms, \
                 {own}, {link} AS link, {thumbnail} AS thumbnail, coalesce(v.last_modified, e.indexed_at) AS uploaded_at \
                 FROM {videos} c LEFT JOIN {table} e ON e.video_id = c.video_id \
                 LEFT JOIN videos v ON v.video_id = c.video_id \
                 ORDER BY c.video_id, e.start_ms, e.end_ms, text"
            ))
            .await
    }
}

/// The last change of each event between the two versions.
fn last_changes() -> String {
    "(SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY event_id ORDER BY _commit_version DESC, \
     CASE _change_type WHEN 'delete' THEN 1 ELSE 0 END) AS place FROM changes \
     WHERE _change_type <> 'update_preimage') ranked WHERE place = 1)"
        .to_owned()
}

/// The SQL of the address of a picture; NULL where none was asked for.
fn thumbnail_expression(options: &ExportOptions) -> String {
    let none = || "CAST(NULL AS TEXT)".to_owned();
    options.thumbnail.as_deref().map_or_else(none, link_expression)
}

/// The SQL of a link: the template's text, with columns where it names them.
fn link_expression(template: &str) -> String {
    let seconds = |column: &str| format!("CAST(e.{column} AS DOUBLE) / 1000");
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        let (before, after) = rest.split_at(at);
        let named = after.find('}').and_then(|end| {
            let expression = match &after[1..end] {
                "uri" => "e.uri".to_owned(),
                "video_id" => "e.video_id".to_owned(),
                "event_id" => "e.event_id".to_owned(),
                "start" => seconds("start_ms"),
                "end" => seconds("end_ms"),
                _ => return None,
            };
            Some((expression, end + 1))
        });
        let (expression, length) = named.unwrap_or_else(|| (literal("{"), 1));
        parts.extend([literal(before), expression]);
        rest = &after[length..];
    }
    parts.push(literal(rest));
    parts.retain(|part| part != "''");
    match parts.len() {
        0 => "''".to_owned(),
        _ => format!("concat({})", parts.join(", ")),
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A column of a batch under its name.
pub(super) fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch
        .column_by_name(name)
        .ok_or_else(|| Error::Run { source: format!("the rows have no column `{name}`").cause() })
}

/// A column of texts, however the engine holds them.
pub(super) fn texts(batch: &RecordBatch, name: &str) -> Result<StringArray> {
    let cast = cast(column(batch, name)?, &DataType::Utf8);
    let cast = cast.map_err(|source| Error::Run { source: source.cause() })?;
    Ok(cast.as_string::<i32>().clone())
}

/// The text in a row, unless there is none.
pub(super) fn text(column: &StringArray, row: usize) -> Option<&str> {
    (!column.is_null(row)).then(|| column.value(row))
}

/// A column of truths.
pub(super) fn truths(batch: &RecordBatch, name: &str) -> Result<BooleanArray> {
    let cast = cast(column(batch, name)?, &DataType::Boolean);
    Ok(cast.map_err(|source| Error::Run { source: source.cause() })?.as_boolean().clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::fragment(
        ExportOptions::MEDIA_FRAGMENT,
        "concat(e.uri, '#t=', CAST(e.start_ms AS DOUBLE) / 1000, ',', CAST(e.end_ms AS DOUBLE) / 1000)"
    )]
    #[case::a_quote("it's {video_id}", "concat('it''s ', e.video_id)")]
    #[case::another_brace("{x}", "concat('{', 'x}')")]
    #[case::open("a{uri", "concat('a', '{', 'uri')")]
    #[case::nothing("", "''")]
    fn a_link_is_an_expression(#[case] template: &str, #[case] expected: &str) {
        assert_eq!(link_expression(template), expected);
    }
}
