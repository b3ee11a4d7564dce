//! Part files: Parquet files of a table, written and read row group by row group.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array, AsArray, RecordBatch, new_null_array},
    compute::{cast, max, max_string, min, min_string},
    datatypes::{DataType, Int64Type, SchemaRef},
};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use object_store::{ObjectStore, ObjectStoreExt, buffered::BufWriter, path::Path};
use parquet::{
    arrow::{
        ParquetRecordBatchStreamBuilder, ProjectionMask, arrow_reader::ArrowReaderOptions,
        async_reader::AsyncFileReader, async_writer::AsyncArrowWriter,
    },
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::{ParquetMetaData, ParquetMetaDataReader, SortingColumn},
        properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder},
    },
    schema::types::ColumnPath,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{Error, Location, Result};

/// Rows of a row group: the unit of reading, and what a writer holds in memory.
const ROW_GROUP_ROWS: usize = 128 * 1024;
/// Rows of a batch that is read.
const BATCH_ROWS: usize = 8 * 1024;
/// Bytes at the end of a file that are read at once, in the hope that its footer is in them.
const FOOTER_BYTES: usize = 64 * 1024;
/// Columns by whose values single rows are looked for.
const WITH_BLOOM_FILTER: [&str; 2] = ["video_id", "event_id"];
/// How often a Bloom filter says that a row group may have a value that it has not.
const FALSE_POSITIVES: f64 = 0.01;
/// The one text column whose bounds are kept in the log.
const TEXT_WITH_BOUNDS: &str = "video_id";

/// A Parquet file inside the folder of a table, which nobody sees until a commit names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartFile {
    /// Its name within the folder of the table.
    pub path: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// Delta's statistics of the file: JSON with the bounds of `video_id` and of the whole
    /// numbers.
    pub stats: String,
}

/// Writes one part file. Nothing is there before [`PartWriter::finish`].
pub(crate) struct PartWriter {
    writer: AsyncArrowWriter<BufWriter>,
    name: String,
    uri: String,
    bounds: Vec<Bounds>,
    rows: u64,
}

struct Bounds {
    column: usize,
    name: String,
    range: Option<(Value, Value)>,
    nulls: usize,
}

impl PartWriter {
    /// Starts the file `name` in the folder of a table.
    pub(crate) fn create(table: &Location, name: String, schema: &SchemaRef) -> Result<Self> {
        Self::start(table, name, schema, properties(schema).build())
    }

    /// The same, for a file that is large and read often: with Bloom filters by which one video or event is found.
    pub(crate) fn create_indexed(
        table: &Location,
        name: String,
        schema: &SchemaRef,
    ) -> Result<Self> {
        let mut indexed = properties(schema);
        for name in WITH_BLOOM_FILTER.into_iter().filter(|name| schema.index_of(name).is_ok()) {
            let column = ColumnPath::from(name);
            indexed = indexed
                .set_column_bloom_filter_enabled(column.clone(), true)
                .set_column_bloom_filter_fpp(column.clone(), FALSE_POSITIVES)
                .set_column_bloom_filter_max_ndv(column, ROW_GROUP_ROWS as u64);
        }
        Self::start(table, name, schema, indexed.build())
    }

    /// Bytes that it has about now.
    pub(crate) fn bytes_so_far(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    fn start(
        table: &Location,
        name: String,
        schema: &SchemaRef,
        properties: WriterProperties,
    ) -> Result<Self> {
        let path = table.child(&name);
        let uri = table.uri_of(&path);
        let file = BufWriter::new(Arc::clone(&table.store), path);
        let writer = AsyncArrowWriter::try_new(file, Arc::clone(schema), Some(properties))
            .map_err(|source| Error::Parquet { action: "start", uri: uri.clone(), source })?;
        let bounds = schema
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, f)| f.data_type() == &DataType::Int64 || f.name() == TEXT_WITH_BOUNDS)
            .map(|(column, f)| Bounds { column, name: f.name().clone(), range: None, nulls: 0 })
            .collect();
        Ok(Self { writer, name, uri, bounds, rows: 0 })
    }

    /// Adds rows, which must have the schema of the file.
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        for bounds in &mut self.bounds {
            bounds.widen(batch.column(bounds.column).as_ref());
        }
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch).await.map_err(|source| Error::Parquet {
            action: "write",
            uri: self.uri.clone(),
            source,
        })
    }

    /// Completes the file.
    pub(crate) async fn finish(mut self) -> Result<PartFile> {
        self.writer.finish().await.map_err(|source| Error::Parquet {
            action: "write",
            uri: self.uri.clone(),
            source,
        })?;
        let (mut least, mut most, mut nulls) = (Map::new(), Map::new(), Map::new());
        for Bounds { name, range, nulls: count, .. } in self.bounds {
            nulls.insert(name.clone(), json!(count));
            if let Some((low, high)) = range {
                least.insert(name.clone(), low);
                most.insert(name, high);
            }
        }
        let stats = json!({
            "numRecords": self.rows, "minValues": least, "maxValues": most, "nullCount": nulls,
        });
        Ok(PartFile {
            path: self.name,
            size_bytes: self.writer.bytes_written() as u64,
            rows: self.rows,
            stats: stats.to_string(),
        })
    }
}

impl Bounds {
    fn widen(&mut self, column: &dyn Array) {
        self.nulls += column.null_count();
        let range: Option<(Value, Value)> = match column.data_type() {
            DataType::Int64 => {
                let column = column.as_primitive::<Int64Type>();
                min(column).zip(max(column)).map(|(low, high)| (json!(low), json!(high)))
            }
            _ => column.as_string_opt::<i32>().and_then(|column| {
                min_string(column)
                    .zip(max_string(column))
                    .map(|(low, high)| (json!(low), json!(high)))
            }),
        };
        self.range = match (self.range.take(), range) {
            (Some((a, b)), Some((c, d))) => Some((lesser(a, c), greater(b, d))),
            (a, b) => a.or(b),
        };
    }
}

fn is_less(a: &Value, b: &Value) -> bool {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a < b,
        _ => a.as_str() < b.as_str(),
    }
}

fn lesser(a: Value, b: Value) -> Value {
    if is_less(&b, &a) { b } else { a }
}

fn greater(a: Value, b: Value) -> Value {
    if is_less(&a, &b) { b } else { a }
}

fn properties(schema: &SchemaRef) -> WriterPropertiesBuilder {
    let sorted = ["video_id", "start_ms"]
        .into_iter()
        .filter_map(|name| schema.index_of(name).ok())
        .filter_map(|column| i32::try_from(column).ok())
        .map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: false })
        .collect::<Vec<_>>();
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_sorting_columns((!sorted.is_empty()).then_some(sorted))
        .set_created_by("eventide".to_owned())
}

/// A Parquet file in a store, read by ranges.
pub(crate) struct StoredFile {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size_bytes: u64,
}

impl AsyncFileReader for StoredFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        let read = self.store.get_range(&self.path, range);
        async { read.await.map_err(|error| ParquetError::External(error.into())) }.boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move {
            let read = self.store.get_ranges(&self.path, &ranges).await;
            read.map_err(|error| ParquetError::External(error.into()))
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let size_bytes = self.size_bytes;
            let reader = ParquetMetaDataReader::new()
                .with_metadata_options(options.map(|o| o.metadata_options().clone()))
                .with_prefetch_hint(Some(FOOTER_BYTES));
            Ok(Arc::new(reader.load_and_finish(self, size_bytes).await?))
        }
        .boxed()
    }
}

/// A Parquet file that is open for reading.
pub(crate) struct PartReader {
    /// How to read on.
    pub(crate) builder: ParquetRecordBatchStreamBuilder<StoredFile>,
    /// Where it is.
    pub(crate) uri: String,
}

impl PartReader {
    /// Opens the file `path`, which lies in the store of `table`.
    pub(crate) async fn open(table: &Location, path: Path, size_bytes: u64) -> Result<Self> {
        let uri = table.uri_of(&path);
        let file = StoredFile { store: Arc::clone(&table.store), path, size_bytes };
        let builder = ParquetRecordBatchStreamBuilder::new(file)
            .await
            .map_err(|source| Error::Parquet { action: "open", uri: uri.clone(), source })?
            .with_batch_size(BATCH_ROWS);
        Ok(Self { builder, uri })
    }

    /// Only the columns of these names.
    pub(crate) fn columns(mut self, names: &[&str]) -> Self {
        let mask = ProjectionMask::columns(self.builder.parquet_schema(), names.iter().copied());
        self.builder = self.builder.with_projection(mask);
        self
    }
}

/// `batch` with exactly the columns of `schema`, in their order and types: another writer of the
/// table may have chosen other Arrow types for the same Delta types, or none of a column.
pub(crate) fn conform(batch: &RecordBatch, schema: &SchemaRef, uri: &str) -> Result<RecordBatch> {
    let wrong = |source| Error::Rows { uri: uri.to_owned(), source };
    let columns = schema
        .fields()
        .iter()
        .map(|field| {
            match batch.schema_ref().index_of(field.name()) {
                Ok(column) => cast(batch.column(column), field.data_type()),
                // A file from before the table had the column.
                Err(_) if field.is_nullable() => {
                    Ok(new_null_array(field.data_type(), batch.num_rows()))
                }
                Err(error) => Err(error),
            }
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(wrong)?;
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stores;
    use arrow::{
        array::{ArrayRef, Int64Array, StringArray},
        datatypes::{Field, Schema},
    };
    use futures::TryStreamExt;
    use object_store::{ObjectStoreExt, memory::InMemory};

    fn batch(ids: &[&str], starts: &[Option<i64>]) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("video_id", DataType::Utf8, false),
            Field::new("start_ms", DataType::Int64, true),
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(ids.to_vec())),
            Arc::new(Int64Array::from(starts.to_vec())),
        ];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    #[tokio::test]
    async fn a_part_tells_its_size_rows_and_bounds() {
        let stores = Stores::new(std::collections::BTreeMap::new());
        stores.insert("s3://b", Arc::new(InMemory::new()));
        let table = stores.open("s3://b/t").unwrap();
        let first = batch(&["b", "c"], &[Some(-5), None]);
        let mut writer = PartWriter::create(&table, "p".to_owned(), &first.schema()).unwrap();
        writer.write(&first).await.unwrap();
        writer.write(&batch(&["a"], &[Some(7)])).await.unwrap();
        assert!(table.store.head(&table.child("p")).await.is_err(), "not yet there");
        let part = writer.finish().await.unwrap();
        let stats: Value = serde_json::from_str(&part.stats).unwrap();
        let expected = json!({
            "numRecords": 3,
            "minValues": {"video_id": "a", "start_ms": -5},
            "maxValues": {"video_id": "c", "start_ms": 7},
            "nullCount": {"video_id": 0, "start_ms": 1},
        });
        assert_eq!(stats, expected);
        assert_eq!(table.store.head(&table.child("p")).await.unwrap().size, part.size_bytes);

        let reader = PartReader::open(&table, table.child("p"), part.size_bytes).await.unwrap();
        let rows: Vec<RecordBatch> =
            reader.columns(&["video_id"]).builder.build().unwrap().try_collect().await.unwrap();
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
        assert_eq!(rows[0].num_columns(), 1);
    }
}
