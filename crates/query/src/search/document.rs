//! Events as documents of the index, and back.

use std::sync::Arc;

use datafusion::arrow::{
    array::{ArrayRef, AsArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray},
    compute::{SortColumn, cast, lexsort_to_indices, take_record_batch},
    datatypes::{DataType, Field, Float64Type, Int64Type, Schema as Columns, SchemaRef},
    error::ArrowError,
};
use eventide_schema::tables::events_schema;
use tantivy::{
    TantivyDocument,
    schema::{
        FAST, INDEXED, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions,
        Value,
    },
};

use super::ranking::Ranked;

/// Length of an event, which is not a column.
pub(super) const DURATION: &str = "duration_ms";
/// What all hits are listed by.
pub(super) const IDENTIFIERS: [&str; 2] = ["event_id", "video_id"];
/// Texts in which words are looked for.
pub(super) const TEXTS: [&str; 2] = [CAPTION, "speech"];
/// What is found by what it means, too: each different one has a number in its segment.
pub(super) const CAPTION: &str = "caption";

/// The fields: each column of `events` under its name, stored; `caption` and `speech` by the stems of their
/// English words, and as `caption_exact` and `speech_exact` by the words as they are.
pub(super) fn schema() -> Schema {
    let mut schema = Schema::builder();
    for column in events_schema().fields() {
        let name = column.name();
        match column.data_type() {
            DataType::Utf8 if TEXTS.contains(&name.as_str()) => {
                let stems = text("en_stem").set_stored();
                let stems = if name == CAPTION { stems.set_fast(None) } else { stems };
                schema.add_text_field(name, stems);
                schema.add_text_field(&exact(name), text("default"));
            }
            DataType::Utf8 if IDENTIFIERS.contains(&name.as_str()) => {
                schema.add_text_field(name, STRING | STORED | FAST);
            }
            DataType::Utf8 => {
                schema.add_text_field(name, STRING | STORED);
            }
            DataType::Float32 => {
                schema.add_f64_field(name, INDEXED | STORED | FAST);
            }
            _ => {
                schema.add_i64_field(name, INDEXED | STORED | FAST);
            }
        }
    }
    schema.add_i64_field(DURATION, INDEXED | FAST);
    schema.build()
}

/// The field that holds the words of `name` as they are.
pub(super) fn exact(name: &str) -> String {
    format!("{name}_exact")
}

/// A text whose words are found with their places.
pub(super) fn text(tokenizer: &str) -> TextOptions {
    let indexing = TextFieldIndexing::default()
        .set_tokenizer(tokenizer)
        .set_index_option(IndexRecordOption::WithFreqsAndPositions);
    TextOptions::default().set_indexing_options(indexing)
}

/// The columns of `events`, and `bm25`, `similarity`, `rrf`.
pub(super) fn hits_schema() -> SchemaRef {
    let mut columns: Vec<_> = events_schema().fields().iter().map(Arc::clone).collect();
    columns.push(Arc::new(Field::new("bm25", DataType::Float32, false)));
    columns.push(Arc::new(Field::new("similarity", DataType::Float32, true)));
    columns.push(Arc::new(Field::new("rrf", DataType::Float64, false)));
    Arc::new(Columns::new(columns))
}

/// Rows of `events`, whose columns may be of any type that holds the same, as documents.
pub(super) fn documents(
    rows: &RecordBatch,
    schema: &Schema,
) -> Result<Vec<TantivyDocument>, ArrowError> {
    let mut documents = vec![TantivyDocument::default(); rows.num_rows()];
    for column in events_schema().fields() {
        let name = column.name();
        let Some(values) = rows.column_by_name(name) else {
            continue; // a table of an earlier program
        };
        add(&mut documents, schema, name, values, column.data_type())?;
    }
    let bound = |name: &str| {
        let values = rows.column_by_name(name);
        values.map(|values| cast(values, &DataType::Int64)).transpose()
    };
    if let (Some(starts), Some(ends), Ok(field)) =
        (bound("start_ms")?, bound("end_ms")?, schema.get_field(DURATION))
    {
        let (starts, ends) = (starts.as_primitive::<Int64Type>(), ends.as_primitive::<Int64Type>());
        for (document, (start, end)) in documents.iter_mut().zip(starts.iter().zip(ends)) {
            if let (Some(start), Some(end)) = (start, end) {
                document.add_i64(field, end.saturating_sub(start));
            }
        }
    }
    Ok(documents)
}

/// Adds a column to the documents, row by row; NULL adds nothing.
fn add(
    documents: &mut [TantivyDocument],
    schema: &Schema,
    name: &str,
    values: &ArrayRef,
    kind: &DataType,
) -> Result<(), ArrowError> {
    let Ok(field) = schema.get_field(name) else { return Ok(()) };
    let rows = documents.iter_mut();
    match kind {
        DataType::Utf8 => {
            let exact = schema.get_field(&exact(name)).ok();
            let values = cast(values, &DataType::Utf8)?;
            for (document, value) in rows.zip(values.as_string::<i32>()) {
                let Some(value) = value else { continue };
                document.add_text(field, value);
                if let Some(exact) = exact {
                    document.add_text(exact, value);
                }
            }
        }
        DataType::Float32 => {
            let values = cast(values, &DataType::Float64)?;
            for (document, value) in rows.zip(values.as_primitive::<Float64Type>()) {
                if let Some(value) = value {
                    document.add_f64(field, value);
                }
            }
        }
        kind => {
            let values = cast(&cast(values, kind)?, &DataType::Int64)?;
            for (document, value) in rows.zip(values.as_primitive::<Int64Type>()) {
                if let Some(value) = value {
                    document.add_i64(field, value);
                }
            }
        }
    }
    Ok(())
}

/// Documents with their ranks as rows of [`hits_schema`].
pub(super) fn rows(
    documents: &[(Ranked, TantivyDocument)],
    schema: &Schema,
) -> Result<RecordBatch, ArrowError> {
    let mut columns = Vec::new();
    for column in events_schema().fields() {
        let field = schema.get_field(column.name()).ok();
        let values = documents.iter().map(|(_, document)| document.get_first(field?));
        let values: ArrayRef = match column.data_type() {
            DataType::Utf8 => Arc::new(values.map(|v| v?.as_str()).collect::<StringArray>()),
            DataType::Float32 => Arc::new(values.map(|v| v?.as_f64()).collect::<Float64Array>()),
            _ => Arc::new(values.map(|v| v?.as_i64()).collect::<Int64Array>()),
        };
        columns.push(cast(&values, column.data_type())?);
    }
    let ranks = || documents.iter().map(|(ranked, _)| ranked);
    columns.push(Arc::new(Float32Array::from_iter_values(ranks().map(|hit| hit.bm25))));
    columns.push(Arc::new(ranks().map(|hit| hit.similarity).collect::<Float32Array>()));
    columns.push(Arc::new(Float64Array::from_iter_values(ranks().map(|hit| hit.rrf))));
    RecordBatch::try_new(hits_schema(), columns)
}

/// Rows of [`hits_schema`] as rows of `events`, in the order of their starts and ends.
pub(super) fn in_order(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let events: Vec<_> = (0..events_schema().fields().len()).collect();
    let events = rows.project(&events)?;
    let keys = ["start_ms", "end_ms", "event_id"].map(|name| {
        let place = events.schema().index_of(name)?;
        Ok(SortColumn { values: Arc::clone(events.column(place)), options: None })
    });
    let keys: Vec<_> = keys.into_iter().collect::<Result<_, ArrowError>>()?;
    take_record_batch(&events, &lexsort_to_indices(&keys, None)?)
}
