//! Rows as the lines or files that a reader takes.

use data_encoding::HEXLOWER;
use std::io::Write;

use datafusion::{
    arrow::{
        array::{Array, AsArray, RecordBatch, StructArray},
        csv::WriterBuilder,
        datatypes::{Field, FieldRef, Int64Type},
        error::ArrowError,
        json::writer::{EncoderOptions, make_encoder},
    },
    parquet::{
        arrow::ArrowWriter,
        basic::{Compression, ZstdLevel},
        errors::ParquetError,
        file::properties::WriterProperties,
    },
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    ExportOptions, Target,
    documents::{column, texts, truths},
};
use crate::{Error, Result, error::CauseFrom};

/// Rows of a Parquet file.
const PARQUET_ROWS: usize = 256 * 1024;
/// Identifiers in a file or request that deletes.
const IDS_AT_ONCE: usize = 1000;
/// Identifiers in a filter: it travels in the address of a request, of which servers take about 4,000 characters.
const IDS_IN_FILTER: usize = 50;

/// Bytes that go out together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// What the name of its file begins with.
    pub(super) kind: &'static str,
    pub(super) extension: &'static str,
    pub(super) body: Vec<u8>,
    pub(super) upserts: u64,
    pub(super) deletes: u64,
}

impl Part {
    /// The digest of its bytes, in hexadecimal.
    pub(super) fn sha256(&self) -> String {
        HEXLOWER.encode(&Sha256::digest(&self.body))
    }
}

/// Collects rows into parts.
pub(super) struct Encoder<'a> {
    options: &'a ExportOptions,
    lines: Vec<u8>,
    upserts: u64,
    deletes: u64,
    /// Identifiers of what is deleted, where that goes out by itself.
    removed: Vec<String>,
    /// Rows of a file that is written as a whole.
    rows: Vec<RecordBatch>,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(options: &'a ExportOptions) -> Self {
        Self {
            options,
            lines: Vec::new(),
            upserts: 0,
            deletes: 0,
            removed: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Takes rows; gives the parts that have become full.
    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<Vec<Part>> {
        let mut full = Vec::new();
        let deleted = truths(batch, "deleted")?;
        if matches!(self.options.target, Target::Csv | Target::Parquet) {
            let removed = deleted.true_count() as u64;
            self.deletes += removed;
            self.upserts += batch.num_rows() as u64 - removed;
            self.rows.push(batch.clone());
            if self.rows.iter().map(RecordBatch::num_rows).sum::<usize>() >= PARQUET_ROWS {
                full.push(self.table()?);
            }
            return Ok(full);
        }
        let ids = texts(batch, "event_id")?;
        let generations = column(batch, "generation")?.as_primitive::<Int64Type>();
        let whole: StructArray = batch.clone().into();
        let field: FieldRef = Field::new("document", whole.data_type().clone(), false).into();
        let encoding = EncoderOptions::default();
        let mut document = make_encoder(&field, &whole, &encoding).map_err(wrong_row)?;
        for row in 0..batch.num_rows() {
            let id = ids.value(row);
            let is_removed = deleted.value(row);
            let mut written = |out: &mut Vec<u8>| document.encode(row, out);
            self.line(id, generations.value(row), is_removed, &mut written);
            if self.lines.len() >= self.options.part_bytes {
                full.push(self.text());
            }
            if self.removed.len() >= IDS_AT_ONCE {
                full.push(self.removals());
            }
        }
        Ok(full)
    }

    /// The parts that are left.
    pub(super) fn finish(mut self) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        if !self.rows.is_empty() {
            parts.push(self.table()?);
        }
        if !self.lines.is_empty() {
            parts.push(self.text());
        }
        if !self.removed.is_empty() {
            parts.push(self.removals());
        }
        Ok(parts)
    }

    /// One document in the words of the target.
    fn line(
        &mut self,
        id: &str,
        version: i64,
        deleted: bool,
        document: &mut dyn FnMut(&mut Vec<u8>),
    ) {
        let target = self.options.target;
        if deleted && matches!(target, Target::Meilisearch | Target::Typesense) {
            self.removed.push(id.to_owned()); // counted when they go out
            return;
        }
        *(if deleted { &mut self.deletes } else { &mut self.upserts }) += 1;
        let out = &mut self.lines;
        match target {
            Target::Opensearch | Target::Elasticsearch => {
                action(self.options, id, version, deleted, out);
                if !deleted {
                    document(out);
                    out.push(b'\n');
                }
            }
            Target::Vespa => {
                let name = format!("id:{}:event::{id}", self.options.index);
                if deleted {
                    push_json(out, &json!({ "remove": name }));
                } else {
                    out.extend(br#"{"put":"#);
                    push_json(out, &Value::from(name));
                    out.extend(br#","fields":"#);
                    document(out);
                    out.push(b'}');
                }
                out.push(b'\n');
            }
            _ => {
                document(out);
                out.push(b'\n');
            }
        }
    }

    fn text(&mut self) -> Part {
        Part {
            kind: "part",
            extension: self.options.target.extension(),
            body: std::mem::take(&mut self.lines),
            upserts: std::mem::take(&mut self.upserts),
            deletes: std::mem::take(&mut self.deletes),
        }
    }

    /// The identifiers to delete, as the target's interface takes them.
    fn removals(&mut self) -> Part {
        let ids = std::mem::take(&mut self.removed);
        let mut body = Vec::new();
        let extension = if self.options.target == Target::Typesense {
            for some in ids.chunks(IDS_IN_FILTER) {
                body.extend(format!("event_id:[{}]\n", some.join(",")).into_bytes());
            }
            "txt"
        } else {
            push_json(&mut body, &Value::from(ids.clone()));
            "json"
        };
        Part { kind: "delete", extension, body, upserts: 0, deletes: ids.len() as u64 }
    }

    /// The rows so far as a file of their own.
    fn table(&mut self) -> Result<Part> {
        let rows = std::mem::take(&mut self.rows);
        let body = if self.options.target == Target::Csv {
            csv(&rows).map_err(wrong_row)?
        } else {
            parquet(&rows).map_err(|source| Error::Run { source: source.cause() })?
        };
        Ok(Part {
            kind: "part",
            extension: self.options.target.extension(),
            body,
            upserts: std::mem::take(&mut self.upserts),
            deletes: std::mem::take(&mut self.deletes),
        })
    }
}

/// The line of `_bulk` before a document, or instead of one that is deleted.
pub(super) fn action(
    options: &ExportOptions,
    id: &str,
    version: impl Into<Value>,
    deleted: bool,
    out: &mut Vec<u8>,
) {
    let what = json!({
        "_index": options.index, "_id": id,
        "version": version.into(), "version_type": "external_gte",
    });
    let action = if deleted { json!({ "delete": what }) } else { json!({ "index": what }) };
    push_json(out, &action);
    out.push(b'\n');
}

fn wrong_row(source: ArrowError) -> Error {
    Error::Run { source: source.cause() }
}

fn push_json(out: &mut Vec<u8>, value: &Value) {
    let _ = write!(out, "{value}"); // to memory: it cannot fail
}

fn csv(rows: &[RecordBatch]) -> std::result::Result<Vec<u8>, ArrowError> {
    let mut writer = WriterBuilder::new().with_header(true).build(Vec::new());
    for batch in rows {
        writer.write(batch)?;
    }
    Ok(writer.into_inner())
}

fn parquet(rows: &[RecordBatch]) -> std::result::Result<Vec<u8>, ParquetError> {
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), first.schema(), Some(properties))?;
    for batch in rows {
        writer.write(batch)?;
    }
    writer.into_inner()
}
