//! Captions as vectors, a column of documents: what engines find the nearest by.

use std::{collections::HashMap, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, ListArray, RecordBatch, StructArray},
        compute::cast,
        datatypes::{DataType, Field, Fields, Float32Type, Schema},
    },
    execution::SendableRecordBatchStream,
    physical_plan::stream::RecordBatchStreamAdapter,
};
use futures::StreamExt;

use super::{
    ExportOptions, Target,
    documents::{texts, truths},
};
use crate::{Embedder, Error, Result, error::CauseFrom};

/// The column of vectors.
pub(super) const COLUMN: &str = "embedding";
/// What Meilisearch takes vectors by, and the name of ours among them.
pub(super) const MEILISEARCH: [&str; 2] = ["_vectors", "captions"];

/// Whether documents of a target can have vectors.
#[must_use]
pub fn can_have_vectors(target: Target) -> bool {
    !target.is_sidecar() && !matches!(target, Target::Csv | Target::Quickwit)
}

/// Documents with a column of vectors, if that is asked for. Those that are removed have none.
pub(super) fn embedded(
    documents: SendableRecordBatchStream,
    options: &ExportOptions,
) -> SendableRecordBatchStream {
    let Some(embedder) = options.embedder.clone() else { return documents };
    let field = field(options.target, embedder.dimensions);
    let mut fields = documents.schema().fields().to_vec();
    fields.push(Arc::new(field.clone()));
    let schema = Arc::new(Schema::new(fields));
    let columns = Arc::clone(&schema);
    let batches = documents.then(move |batch| {
        let (embedder, field, columns) = (embedder.clone(), field.clone(), Arc::clone(&columns));
        async move {
            let batch = batch?;
            let work = move || -> Result<RecordBatch> {
                let mut all = batch.columns().to_vec();
                all.push(vectors(&batch, &embedder, &field)?);
                RecordBatch::try_new(columns, all)
                    .map_err(|source| Error::Run { source: source.cause() })
            };
            let done = tokio::task::spawn_blocking(work).await;
            let external = |error: Box<dyn std::error::Error + Send + Sync>| {
                datafusion::error::DataFusionError::External(error)
            };
            done.map_err(|error| external(error.into()))?.map_err(|error| external(error.into()))
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

/// The column as a target takes it.
fn field(target: Target, dimensions: usize) -> Field {
    let list = DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true)));
    match target {
        Target::Meilisearch => {
            let [outer, inner] = MEILISEARCH;
            let inner = Fields::from(vec![Field::new(inner, list, true)]);
            Field::new(outer, DataType::Struct(inner), true)
        }
        Target::Parquet => {
            let item = Arc::new(Field::new_list_field(DataType::Float32, true));
            let dimensions = i32::try_from(dimensions).unwrap_or(i32::MAX);
            Field::new(COLUMN, DataType::FixedSizeList(item, dimensions), true)
        }
        _ => Field::new(COLUMN, list, true),
    }
}

fn vectors(batch: &RecordBatch, embedder: &Embedder, field: &Field) -> Result<ArrayRef> {
    let (captions, deleted) = (texts(batch, "caption")?, truths(batch, "deleted")?);
    let has_one = |row: &usize| !deleted.value(*row) && captions.is_valid(*row);
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut different: Vec<&str> = Vec::new();
    for row in (0..batch.num_rows()).filter(has_one) {
        let caption = captions.value(row);
        places.entry(caption).or_insert_with(|| {
            different.push(caption);
            different.len() - 1
        });
    }
    let found = embedder.vectors(&different)?;
    let vector = |row: usize| {
        let place = *places.get(captions.value(row))? * embedder.dimensions;
        let numbers = &found[place..place + embedder.dimensions];
        Some(numbers.iter().copied().map(Some).collect::<Vec<_>>())
    };
    let lists = (0..batch.num_rows()).map(|row| has_one(&row).then(|| vector(row)).flatten());
    let lists = ListArray::from_iter_primitive::<Float32Type, _, _>(lists);
    shaped(&lists, field).map_err(|source| Error::Run { source: source.cause() })
}

/// Lists in the type of a column.
fn shaped(
    lists: &ListArray,
    field: &Field,
) -> std::result::Result<ArrayRef, datafusion::arrow::error::ArrowError> {
    match field.data_type() {
        DataType::Struct(fields) => {
            let nulls = lists.nulls().cloned();
            let lists: ArrayRef = Arc::new(lists.clone());
            Ok(Arc::new(StructArray::try_new(fields.clone(), vec![lists], nulls)?))
        }
        other => cast(lists, other),
    }
}
