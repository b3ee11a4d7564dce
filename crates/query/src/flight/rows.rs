//! The rows of a running statement: in types that every client knows, within its time, until somebody stops it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use arrow_flight::{FlightData, encode::FlightDataEncoderBuilder, error::FlightError};
use datafusion::{
    arrow::{
        array::{RecordBatch, RecordBatchOptions},
        compute::cast,
        datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef},
    },
    common::runtime::SpawnedTask,
    error::DataFusionError,
    execution::SendableRecordBatchStream,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tonic::Status;

/// Batches that are computed before the client takes them.
const AHEAD: usize = 2;

/// Statements that run, by what their tickets call them.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<HashMap<u64, oneshot::Sender<()>>>);

impl Running {
    /// Stops a statement. Whether it ran.
    pub(super) fn cancel(&self, id: u64) -> bool {
        self.take(id).is_some() // whoever waits for its sender hears that it has gone
    }

    fn take(&self, id: u64) -> Option<oneshot::Sender<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }

    fn add(&self, id: u64) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        receiver
    }
}

/// A statement about to run.
pub(super) struct Statement {
    /// What it is called.
    pub(super) id: u64,
    /// How long it may run.
    pub(super) time: Duration,
    /// Its turn, which it gives back at its end.
    pub(super) permit: OwnedSemaphorePermit,
    /// Where it can be found.
    pub(super) running: Arc<Running>,
}

impl Statement {
    /// Sends `rows` in the columns of `schema`. Dropping the answer ends the work.
    pub(super) fn send(
        self,
        mut rows: SendableRecordBatchStream,
        schema: SchemaRef,
    ) -> impl Stream<Item = Result<FlightData, Status>> + Send + use<> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let stopped = self.running.add(self.id);
        let (why, columns) = (Arc::new(OnceLock::new()), Arc::clone(&schema));
        let because = Arc::clone(&why);
        let work = SpawnedTask::spawn(async move {
            let Self { id, time, permit, running } = self;
            let sent = async {
                while let Some(batch) = rows.next().await {
                    let batch = batch.map_err(|error| failed(&error));
                    let batch = batch.and_then(|batch| plain(&batch, &columns));
                    if sender.send(batch.map(Some)).await.is_err() {
                        return; // nobody reads on
                    }
                }
                let _ = sender.send(Ok(None)).await;
            };
            tokio::select! {
                () = sent => {}
                _ = stopped => {
                    let _ = because.set(Status::cancelled("the statement was cancelled"));
                }
                () = tokio::time::sleep(time) => {
                    let text = format!("the statement was not done within {} s", time.as_secs());
                    let _ = because.set(Status::deadline_exceeded(text));
                }
            }
            running.take(id);
            drop(permit);
        });
        let batches = stream::try_unfold((receiver, why, work), |mut reading| async {
            match reading.0.recv().await {
                Some(Ok(Some(batch))) => Ok(Some((batch, reading))),
                Some(Ok(None)) => Ok(None),
                Some(Err(status)) => Err(FlightError::from(status)),
                None => {
                    let ended = || Status::internal("the statement ended early");
                    Err(FlightError::from(reading.1.get().cloned().unwrap_or_else(ended)))
                }
            }
        });
        encoded(batches, schema)
    }
}

/// Batches as they are sent.
pub(super) fn encoded(
    batches: impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static,
    schema: SchemaRef,
) -> impl Stream<Item = Result<FlightData, Status>> + Send {
    FlightDataEncoderBuilder::new().with_schema(schema).build(batches).map_err(Status::from)
}

/// The columns of a result in types that every client knows: views and dictionaries as what they stand for.
pub(super) fn plain_schema(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(plain_field).collect::<Fields>();
    Arc::new(Schema::new(fields))
}

fn plain_field(field: &FieldRef) -> FieldRef {
    Arc::new(Field::new(field.name(), plain_type(field.data_type()), field.is_nullable()))
}

fn plain_type(known: &DataType) -> DataType {
    match known {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::List(item) => DataType::List(plain_field(item)),
        DataType::LargeList(item) => DataType::LargeList(plain_field(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        other => other.clone(),
    }
}

/// A batch in the columns of `schema`, which are in the same order.
fn plain(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, Status> {
    let wrong = |error: datafusion::arrow::error::ArrowError| Status::internal(error.to_string());
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type()));
    let columns = columns.collect::<Result<_, _>>().map_err(wrong)?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(wrong)
}

/// What a client is told of a statement that failed while it ran.
pub(super) fn failed(error: &DataFusionError) -> Status {
    let text = error.strip_backtrace().trim_end().to_owned();
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => Status::resource_exhausted(text),
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => Status::unavailable(text),
        // What is wrong with a value of a row, such as a time code that is none.
        DataFusionError::Execution(_) | DataFusionError::ArrowError(..) => {
            Status::invalid_argument(text)
        }
        _ => Status::internal(text),
    }
}
