//! What the API answers: rows of the tables under the names that the tables give them, or why there is no answer.
//!
//! The schemas of rows are those of the tables, so that what is documented is what is sent.

use std::borrow::Cow;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use datafusion::{
    arrow::{
        array::RecordBatch,
        datatypes::{DataType, SchemaRef},
    },
    physical_plan::{SendableRecordBatchStream, stream::RecordBatchStreamAdapter},
};
use eventide_schema::tables::{
    events_schema, feedback_schema, runs_schema, transcripts_schema, videos_schema,
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type, schema::SchemaType},
};

use crate::{Error, Format, TableStyle, error::CauseFrom, hits_schema, write_results};

/// Why there is no answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Failure {
    #[serde(skip)]
    status: StatusCode,
    /// What is wrong, for people.
    #[schema(value_type = String)]
    error: Cow<'static, str>,
    /// What is wrong, for programs: `no_tables`, `unknown`, `query`, `refused`, `failed`.
    #[schema(value_type = String)]
    reason_code: &'static str,
}

impl Failure {
    pub(super) fn new(
        status: StatusCode,
        reason_code: &'static str,
        error: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, error: error.into(), reason_code }
    }

    /// No run was published yet.
    pub(super) fn no_tables() -> Self {
        let error = "no run has been published yet; the first is shown as soon as it is";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_tables", error)
    }

    /// There is no such thing.
    pub(super) fn unknown(error: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown", error)
    }
}

impl From<Error> for Failure {
    /// What was asked wrongly is told; what goes wrong here is logged, and told without where things are.
    fn from(error: Error) -> Self {
        let text = error.with_causes();
        if matches!(error, Error::SearchQuery { .. }) {
            return Self::new(StatusCode::BAD_REQUEST, "query", text);
        }
        tracing::warn!(error = text, "a question failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "the question failed")
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}

/// Defines a type that stands for the rows of a table.
macro_rules! row {
    ($name:ident, $columns:expr, $what:literal) => {
        #[doc = $what]
        #[derive(Debug)]
        pub(super) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                row_schema(&$columns, $what)
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }
        }
    };
}

row!(Event, events_schema(), "A row of `events`: a captioned span of a video.");
row!(Hit, hits_schema(), "A row of `events`, and how well it fits what was looked for.");
row!(Video, videos_schema(), "A row of `videos`: a listed object and what became of it.");
row!(Transcript, transcripts_schema(), "A row of `transcripts`: a sentence that is said.");
row!(FeedbackRow, feedback_schema(), "A row of `feedback`: what a person says about an event.");
row!(Run, runs_schema(), "A row of `runs`: a published run.");

/// The columns of a table as the properties of an object. Each is there; those that may be NULL may be null.
fn row_schema(columns: &SchemaRef, what: &str) -> RefOr<Schema> {
    let object = ObjectBuilder::new().schema_type(Type::Object).description(Some(what));
    let with_all = columns.fields().iter().fold(object, |object, column| {
        let (kind, format) = kind(column.data_type());
        let kind = if column.is_nullable() {
            SchemaType::from_iter([kind, Type::Null])
        } else {
            SchemaType::new(kind)
        };
        let value =
            ObjectBuilder::new().schema_type(kind).format(format.map(SchemaFormat::KnownFormat));
        object.property(column.name(), value).required(column.name())
    });
    with_all.into()
}

/// How a value of a column is written as JSON.
fn kind(column: &DataType) -> (Type, Option<KnownFormat>) {
    match column {
        DataType::Boolean => (Type::Boolean, None),
        DataType::Int32 => (Type::Integer, Some(KnownFormat::Int32)),
        DataType::Int64 => (Type::Integer, Some(KnownFormat::Int64)),
        DataType::Float32 => (Type::Number, Some(KnownFormat::Float)),
        DataType::Float64 => (Type::Number, Some(KnownFormat::Double)),
        DataType::Timestamp(..) => (Type::String, Some(KnownFormat::DateTime)),
        _ => (Type::String, None),
    }
}

/// A batch as a stream of rows.
pub(super) fn stream_of(rows: RecordBatch) -> SendableRecordBatchStream {
    let schema = rows.schema();
    Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter([Ok(rows)])))
}

/// Rows as a JSON list.
pub(super) async fn json_of(rows: SendableRecordBatchStream) -> crate::Result<Value> {
    let mut text = Vec::new();
    write_results(rows, Format::Json, &TableStyle::default(), &mut text).await?;
    if text.is_empty() {
        return Ok(json!([]));
    }
    serde_json::from_slice(&text).map_err(|source| Error::Run { source: source.cause() })
}
