//! Results in the formats that others read. A batch at a time: never all rows in memory, but for
//! the few that a table shows.

use std::{
    collections::HashSet,
    fmt, fs,
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    str::FromStr,
};

use datafusion::{
    arrow::{
        array::RecordBatch,
        csv,
        datatypes::{Schema, SchemaRef},
        error::ArrowError,
        json,
    },
    execution::SendableRecordBatchStream,
    parquet::{
        arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
        basic::{Compression, ZstdLevel},
        errors::ParquetError,
        file::properties::WriterProperties,
    },
};
use futures::StreamExt;

use crate::{
    Error, Result,
    error::CauseFrom,
    table::{self, TableStyle},
};

/// Rows of a row group in Parquet files, which are what its writer holds in memory.
const ROW_GROUP_ROWS: usize = 128 * 1024;

/// How results are written.
///
/// Moments of the clock are ISO 8601 in all of the texts. The same rows give the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people. Shows as many rows as its style says.
    #[default]
    Table,
    /// With a header. NULL and the empty text look alike.
    Csv,
    /// One array of objects.
    Json,
    /// One object a line.
    Ndjson,
    /// Zstandard, with the types of Parquet alone, which every reader knows.
    Parquet,
}

impl Format {
    /// Every format, by its name.
    pub const ALL: [(&'static str, Self); 5] = [
        ("table", Self::Table),
        ("csv", Self::Csv),
        ("json", Self::Json),
        ("ndjson", Self::Ndjson),
        ("parquet", Self::Parquet),
    ];

    /// The format that the end of a file's name stands for. `None` for another end.
    #[must_use]
    pub fn of_path(path: &Path) -> Option<Self> {
        let end = path.extension()?.to_str()?.to_ascii_lowercase();
        match end.as_str() {
            "txt" => Some(Self::Table),
            "jsonl" => Some(Self::Ndjson),
            "table" => None,
            end => end.parse().ok(),
        }
    }

    /// Whether a row in this format can hold only one value under a name.
    fn needs_distinct_names(self) -> bool {
        matches!(self, Self::Json | Self::Ndjson | Self::Parquet)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, format)| format == self).map(|(name, _)| name);
        f.pad(name.unwrap_or(&""))
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let format = Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, format)| *format);
        format.ok_or_else(|| Error::UnknownFormat { text: text.to_owned() })
    }
}

/// What has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Rows.
    pub rows: usize,
    /// Whether there were more, which a table does not show.
    pub more: bool,
}

/// Writes `results` to `writer` as they come. `style` is for tables only.
///
/// # Errors
/// [`Error::Run`] when the query fails on its way, [`Error::Write`] when `writer` does,
/// [`Error::Encode`] and [`Error::DuplicateColumn`] when the rows do not fit the format. What
/// was written before stays.
pub async fn write_results(
    results: SendableRecordBatchStream,
    format: Format,
    style: &TableStyle,
    writer: &mut (impl Write + Send),
) -> Result<Written> {
    let schema = results.schema();
    if format.needs_distinct_names() {
        check_names(&schema)?;
    }
    match format {
        Format::Table => write_table(results, style, writer).await,
        Format::Parquet => write_parquet(results, writer).await,
        Format::Csv => write_text(results, CsvText::new(&schema), writer).await,
        Format::Json => {
            let text = JsonText(json_options().build::<_, json::writer::JsonArray>(Vec::new()));
            write_text(results, text, writer).await
        }
        Format::Ndjson => {
            let text = JsonText(json_options().build::<_, json::writer::LineDelimited>(Vec::new()));
            write_text(results, text, writer).await
        }
    }
}

/// Writes `results` to a file that is there whole or not at all.
///
/// # Errors
/// Those of [`write_results`], and [`Error::WriteFile`]. A file that was at `path` before is then
/// as it was.
pub async fn write_file(
    results: SendableRecordBatchStream,
    format: Format,
    style: &TableStyle,
    path: &Path,
) -> Result<Written> {
    let failed = |source: io::Error| Error::WriteFile { path: path.to_owned(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .prefix(".eventide-")
        .permissions(fs::Permissions::from_mode(0o666)) // less what the umask takes
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .map_err(failed)?;
    let mut writer = BufWriter::new(file.as_file_mut());
    let written = match write_results(results, format, style, &mut writer).await {
        Err(Error::Write { source }) => return Err(failed(source)),
        written => written?,
    };
    writer.flush().map_err(failed)?;
    drop(writer);
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(written)
}

fn check_names(schema: &Schema) -> Result<()> {
    let mut seen = HashSet::new();
    match schema.fields().iter().find(|field| !seen.insert(field.name())) {
        Some(field) => Err(Error::DuplicateColumn { name: field.name().clone() }),
        None => Ok(()),
    }
}

/// The next rows, or none at the end. Never an empty batch.
async fn next_rows(results: &mut SendableRecordBatchStream) -> Result<Option<RecordBatch>> {
    while let Some(batch) = results.next().await {
        let batch = batch.map_err(|source| Error::Run { source: source.cause() })?;
        if batch.num_rows() > 0 {
            return Ok(Some(batch));
        }
    }
    Ok(None)
}

async fn write_table(
    mut results: SendableRecordBatchStream,
    style: &TableStyle,
    writer: &mut impl Write,
) -> Result<Written> {
    let schema = results.schema();
    let (mut batches, mut rows, mut more) = (Vec::new(), 0, false);
    while let Some(batch) = next_rows(&mut results).await? {
        let room = batch.num_rows().min(style.max_rows - rows);
        batches.push(batch.slice(0, room));
        rows += room;
        if room < batch.num_rows() {
            more = true;
            break;
        }
    }
    let text = table::render(&schema, &batches, style)
        .map_err(|source| Error::Encode { format: Format::Table, source: source.cause() })?;
    write_all(writer, text.as_bytes())?;
    Ok(Written { rows, more })
}

async fn write_parquet(
    mut results: SendableRecordBatchStream,
    writer: &mut (impl Write + Send),
) -> Result<Written> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build();
    let options =
        ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let failed = |source: ParquetError| match source {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => Error::Write { source: *source },
            Err(source) => Error::Encode { format: Format::Parquet, source: source.cause() },
        },
        source => Error::Encode { format: Format::Parquet, source: source.cause() },
    };
    let mut file =
        ArrowWriter::try_new_with_options(writer, results.schema(), options).map_err(failed)?;
    let mut rows = 0;
    while let Some(batch) = next_rows(&mut results).await? {
        rows += batch.num_rows();
        file.write(&batch).map_err(failed)?;
    }
    file.close().map_err(failed)?;
    Ok(Written { rows, more: false })
}

/// Rows to text, into memory, so that faults of the writer are told from faults of the format.
trait Text {
    /// The format.
    const FORMAT: Format;

    /// Text of some rows.
    fn rows(&mut self, batch: &RecordBatch) -> std::result::Result<Vec<u8>, ArrowError>;

    /// Text after all rows.
    fn end(&mut self) -> std::result::Result<Vec<u8>, ArrowError>;
}

async fn write_text<T: Text>(
    mut results: SendableRecordBatchStream,
    mut text: T,
    writer: &mut impl Write,
) -> Result<Written> {
    let failed = |source: ArrowError| Error::Encode { format: T::FORMAT, source: source.cause() };
    let mut rows = 0;
    while let Some(batch) = next_rows(&mut results).await? {
        rows += batch.num_rows();
        write_all(writer, &text.rows(&batch).map_err(failed)?)?;
    }
    write_all(writer, &text.end().map_err(failed)?)?;
    Ok(Written { rows, more: false })
}

fn write_all(writer: &mut impl Write, bytes: &[u8]) -> Result<()> {
    writer.write_all(bytes).and_then(|()| writer.flush()).map_err(|source| Error::Write { source })
}

struct CsvText {
    schema: SchemaRef,
    begun: bool,
}

impl CsvText {
    fn new(schema: &SchemaRef) -> Self {
        Self { schema: SchemaRef::clone(schema), begun: false }
    }
}

impl Text for CsvText {
    const FORMAT: Format = Format::Csv;

    fn rows(&mut self, batch: &RecordBatch) -> std::result::Result<Vec<u8>, ArrowError> {
        let mut writer = csv::WriterBuilder::new().with_header(!self.begun).build(Vec::new());
        self.begun = true;
        writer.write(batch)?;
        Ok(writer.into_inner())
    }

    fn end(&mut self) -> std::result::Result<Vec<u8>, ArrowError> {
        if self.begun {
            return Ok(Vec::new());
        }
        self.rows(&RecordBatch::new_empty(SchemaRef::clone(&self.schema)))
    }
}

/// Every object has every key: a NULL is written out.
fn json_options() -> json::WriterBuilder {
    json::WriterBuilder::new().with_explicit_nulls(true)
}

struct JsonText<F: json::writer::JsonFormat>(json::Writer<Vec<u8>, F>);

impl Text for JsonText<json::writer::JsonArray> {
    const FORMAT: Format = Format::Json;

    fn rows(&mut self, batch: &RecordBatch) -> std::result::Result<Vec<u8>, ArrowError> {
        self.0.write(batch)?;
        Ok(std::mem::take(self.0.get_mut()))
    }

    fn end(&mut self) -> std::result::Result<Vec<u8>, ArrowError> {
        self.0.finish()?;
        self.0.get_mut().push(b'\n');
        Ok(std::mem::take(self.0.get_mut()))
    }
}

impl Text for JsonText<json::writer::LineDelimited> {
    const FORMAT: Format = Format::Ndjson;

    fn rows(&mut self, batch: &RecordBatch) -> std::result::Result<Vec<u8>, ArrowError> {
        self.0.write(batch)?;
        Ok(std::mem::take(self.0.get_mut()))
    }

    fn end(&mut self) -> std::result::Result<Vec<u8>, ArrowError> {
        self.0.finish()?;
        Ok(std::mem::take(self.0.get_mut()))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::Cursor,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use datafusion::{
        arrow::{
            array::{Int64Array, StringArray},
            datatypes::{DataType, Field},
        },
        error::DataFusionError,
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
        physical_plan::stream::RecordBatchStreamAdapter,
    };
    use futures::stream;
    use rstest::rstest;

    use super::*;
    use crate::{Layout, testing::Lake};

    const ROWS_A_BATCH: usize = 1000;

    fn style() -> TableStyle {
        TableStyle { layout: Layout::Rows, ..TableStyle::default() }
    }

    async fn text(lake: &Lake, statement: &str, format: Format) -> String {
        let mut written = Vec::new();
        let results = lake.open().await.unwrap().query(statement).await.unwrap();
        write_results(results, format, &style(), &mut written).await.unwrap();
        String::from_utf8(written).unwrap()
    }

    /// Batches of 1000 rows, counted as they are asked for.
    fn counted(batches: usize, asked: &Arc<AtomicUsize>) -> SendableRecordBatchStream {
        let schema = Arc::new(Schema::new(vec![
            Field::new("row", DataType::Int64, false),
            Field::new("caption", DataType::Utf8, false),
        ]));
        let (asked, columns) = (Arc::clone(asked), Arc::clone(&schema));
        let rows = stream::iter(0..batches).map(move |batch| {
            asked.fetch_add(1, Ordering::Relaxed);
            let first = i64::try_from(batch * ROWS_A_BATCH).unwrap();
            let numbers = Int64Array::from_iter_values(first..first + 1000);
            let captions = StringArray::from(vec!["something happens"; ROWS_A_BATCH]);
            Ok(RecordBatch::try_new(columns.clone(), vec![Arc::new(numbers), Arc::new(captions)])?)
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }

    /// A writer that fails when more batches were asked for than it has been given.
    struct Prompt {
        asked: Arc<AtomicUsize>,
        lines: usize,
    }

    impl Write for Prompt {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let asked = self.asked.load(Ordering::Relaxed);
            assert!(asked * ROWS_A_BATCH <= self.lines + ROWS_A_BATCH, "rows are held back");
            self.lines += bytes.windows(9).filter(|text| text == b"something").count();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[rstest]
    #[case::csv(Format::Csv)]
    #[case::json(Format::Json)]
    #[case::ndjson(Format::Ndjson)]
    #[tokio::test]
    async fn rows_are_written_as_they_come(#[case] format: Format) {
        let asked = Arc::new(AtomicUsize::new(0));
        let mut writer = Prompt { asked: Arc::clone(&asked), lines: 0 };
        let results = counted(100, &asked);
        let written = write_results(results, format, &style(), &mut writer).await.unwrap();
        assert_eq!(written, Written { rows: 100_000, more: false });
        assert_eq!(writer.lines, 100_000);
    }

    #[tokio::test]
    async fn a_table_stops_asking_when_it_is_full() {
        let asked = Arc::new(AtomicUsize::new(0));
        let style = TableStyle { max_rows: 1500, ..style() };
        let mut text = Vec::new();
        let written =
            write_results(counted(100, &asked), Format::Table, &style, &mut text).await.unwrap();
        assert_eq!(written, Written { rows: 1500, more: true });
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[rstest]
    #[case::exactly_full(1000, false)]
    #[case::one_too_many(999, true)]
    #[case::none(0, true)]
    #[tokio::test]
    async fn a_table_knows_whether_there_is_more(#[case] max_rows: usize, #[case] more: bool) {
        let style = TableStyle { max_rows, ..style() };
        let results = counted(1, &Arc::default());
        let written = write_results(results, Format::Table, &style, &mut Vec::new()).await.unwrap();
        assert_eq!(written, Written { rows: max_rows, more });
    }

    const ALL_KINDS: &str = "SELECT event_id, start_ms, score, caption, speech, indexed_at, \
        score > 0 AS sure, start_ms / 7.0 AS part FROM events ORDER BY start_ms";

    fn read(format: Format, bytes: Vec<u8>, schema: SchemaRef) -> Vec<RecordBatch> {
        let input = Cursor::new(bytes);
        match format {
            Format::Csv => {
                let reader = csv::ReaderBuilder::new(schema).with_header(true).build(input);
                reader.unwrap().map(|batch| batch.unwrap()).collect()
            }
            Format::Ndjson => {
                let reader = json::ReaderBuilder::new(schema).build(input);
                reader.unwrap().map(|batch| batch.unwrap()).collect()
            }
            Format::Json => {
                let rows: Vec<serde_json::Value> = serde_json::from_reader(input).unwrap();
                let mut decoder = json::ReaderBuilder::new(schema).build_decoder().unwrap();
                decoder.serialize(&rows).unwrap();
                decoder.flush().unwrap().into_iter().collect()
            }
            format => unreachable!("{format} is read from a file"),
        }
    }

    #[rstest]
    #[case::csv(Format::Csv)]
    #[case::json(Format::Json)]
    #[case::ndjson(Format::Ndjson)]
    #[tokio::test]
    async fn comes_back_from(#[case] format: Format) {
        let lake = Lake::with_a_night().await;
        let session = lake.open().await.unwrap();
        let schema = session.query(ALL_KINDS).await.unwrap().schema();
        let written = text(&lake, ALL_KINDS, format).await;
        let rows = read(format, written.into_bytes(), Arc::clone(&schema));
        let back = table::render(&schema, &rows, &style()).unwrap();
        assert_eq!(back, text(&lake, ALL_KINDS, Format::Table).await);
    }

    #[tokio::test]
    async fn comes_back_from_parquet() {
        let lake = Lake::with_a_night().await;
        let path = lake.file("out.parquet");
        let results = lake.open().await.unwrap().query(ALL_KINDS).await.unwrap();
        let written = write_file(results, Format::Parquet, &style(), &path).await.unwrap();
        assert_eq!(written.rows, 2);
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
        let schema = Arc::clone(reader.schema());
        assert_eq!(schema.field_with_name("caption").unwrap().data_type(), &DataType::Utf8);
        let rows: Vec<_> = reader.build().unwrap().map(|batch| batch.unwrap()).collect();
        let back = table::render(&schema, &rows, &style()).unwrap();
        assert_eq!(back, text(&lake, ALL_KINDS, Format::Table).await);
    }

    #[tokio::test]
    async fn many_rows_go_to_parquet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.parquet");
        let results = counted(140, &Arc::default());
        write_file(results, Format::Parquet, &style(), &path).await.unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 140_000);
        assert_eq!(reader.metadata().num_row_groups(), 2);
    }

    #[rstest]
    #[case::csv(Format::Csv, "caption,start_ms\n")]
    #[case::json(Format::Json, "[]\n")]
    #[case::ndjson(Format::Ndjson, "")]
    #[case::table(
        Format::Table,
        "+---------+----------+\n| caption | start_ms |\n+---------+----------+\n+---------+----------+\n"
    )]
    #[tokio::test]
    async fn no_rows(#[case] format: Format, #[case] expected: &str) {
        let lake = Lake::with_a_night().await;
        let none = "SELECT caption, start_ms FROM events WHERE false";
        assert_eq!(text(&lake, none, format).await, expected);
    }

    #[tokio::test]
    async fn no_rows_in_parquet_keep_the_columns() {
        let lake = Lake::with_a_night().await;
        let path = lake.file("none.parquet");
        let none = "SELECT caption, indexed_at FROM events WHERE false";
        let results = lake.open().await.unwrap().query(none).await.unwrap();
        write_file(results, Format::Parquet, &style(), &path).await.unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
        let names: Vec<_> = reader.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names, ["caption", "indexed_at"]);
    }

    #[rstest]
    #[case::csv(Format::Csv, "finished_at\n2023-11-14T22:13:21.500Z\n")]
    #[case::ndjson(Format::Ndjson, "{\"finished_at\":\"2023-11-14T22:13:21.500Z\"}\n")]
    #[tokio::test]
    async fn moments_are_iso_8601(#[case] format: Format, #[case] expected: &str) {
        let lake = Lake::with_a_night().await;
        assert_eq!(text(&lake, "SELECT finished_at FROM runs", format).await, expected);
    }

    #[tokio::test]
    async fn json_is_valid_whatever_the_values() {
        let lake = Lake::with_a_night().await;
        let odd = "SELECT 'NaN'::double AS a, 'inf'::double AS b, chr(1) || '\"\\' AS c, NULL AS d";
        let rows: serde_json::Value =
            serde_json::from_str(&text(&lake, odd, Format::Json).await).unwrap();
        assert_eq!(rows, serde_json::json!([{"a": null, "b": null, "c": "\u{1}\"\\", "d": null}]));
    }

    #[tokio::test]
    async fn two_columns_of_a_name_are_not_lost_in_json() {
        let lake = Lake::with_a_night().await;
        let session = lake.open().await.unwrap();
        let twice = "SELECT a.uri, b.uri FROM videos a JOIN videos b USING (video_id)";
        let results = session.query(twice).await.unwrap();
        let error =
            write_results(results, Format::Json, &style(), &mut Vec::new()).await.unwrap_err();
        assert!(matches!(&error, Error::DuplicateColumn { name } if name == "uri"), "{error}");
    }

    struct ClosedPipe;

    impl Write for ClosedPipe {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_closed_pipe_stops_the_query() {
        for format in [Format::Table, Format::Csv, Format::Json, Format::Ndjson] {
            let asked = Arc::new(AtomicUsize::new(0));
            let results = counted(100, &asked);
            let error =
                write_results(results, format, &style(), &mut ClosedPipe).await.unwrap_err();
            assert!(error.is_closed_pipe(), "{format}: {}", error.with_causes());
            assert!(asked.load(Ordering::Relaxed) <= 1);
        }
    }

    #[tokio::test]
    async fn a_query_that_fails_leaves_the_file_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        fs::write(&path, "before").unwrap();
        let good = counted(2, &Arc::default());
        let schema = good.schema();
        let broken = stream::iter([Err(DataFusionError::Execution("the disk is gone".to_owned()))]);
        let results = Box::pin(RecordBatchStreamAdapter::new(schema, good.chain(broken)));
        let error = write_file(results, Format::Csv, &style(), &path).await.unwrap_err();
        assert!(matches!(error, Error::Run { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_file_is_replaced_and_others_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        let usual = folder.path().join("usual");
        File::create(&usual).unwrap();
        fs::write(&path, "before").unwrap();
        write_file(counted(1, &Arc::default()), Format::Csv, &style(), &path).await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1001);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&usual));
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_named() {
        let path = Path::new("/no/such/folder/out.csv");
        let results = counted(1, &Arc::default());
        let error = write_file(results, Format::Csv, &style(), path).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot write `/no/such/folder/out.csv`");
    }

    #[rstest]
    #[case::parquet("a/b.parquet", Some(Format::Parquet))]
    #[case::capitals("b.CSV", Some(Format::Csv))]
    #[case::json_lines("b.jsonl", Some(Format::Ndjson))]
    #[case::text("b.txt", Some(Format::Table))]
    #[case::unknown("b.xlsx", None)]
    #[case::none("csv", None)]
    fn a_name_tells_the_format(#[case] path: &str, #[case] format: Option<Format>) {
        assert_eq!(Format::of_path(Path::new(path)), format);
    }

    #[test]
    fn formats_have_names() {
        for (name, format) in Format::ALL {
            assert_eq!(name.parse::<Format>().unwrap(), format);
            assert_eq!(format.to_string(), name);
            let listed = "xml".parse::<Format>().unwrap_err().to_string();
            assert!(listed.contains(name), "{listed}");
        }
    }
}
