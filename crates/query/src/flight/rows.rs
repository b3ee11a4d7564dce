//! The rows of a running statement: in types that every client knows, within its time, until somebody stops it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
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

/// What a ticket calls a statement. It is drawn by lot, so that nobody can guess that of another.
pub(super) type Id = [u8; 16];

/// By what a ticket calls them, the statements that run for it: their numbers, and what stops them.
type Statements = HashMap<Id, Vec<(u64, oneshot::Sender<()>)>>;

/// Statements that run, by what their tickets call them. A ticket that is fetched twice has two.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<Statements>);

impl Running {
    /// Stops the statements of a ticket. Whether there were any.
    pub(super) fn cancel(&self, id: &Id) -> bool {
        self.lock().remove(id).is_some() // whoever waits for its sender hears that it has gone
    }

    fn lock(&self) -> MutexGuard<'_, Statements> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a statement, which is known until the answer is dropped.
    fn add(self: &Arc<Self>, id: Id) -> Known {
        let (sender, stopped) = oneshot::channel();
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        self.lock().entry(id).or_default().push((number, sender));
        Known { running: Arc::clone(self), id, number, stopped }
    }
}

/// Tells statements of one ticket from each other.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// A statement that can be found, for as long as it runs.
struct Known {
    running: Arc<Running>,
    id: Id,
    number: u64,
    /// Ends when somebody cancels it.
    stopped: oneshot::Receiver<()>,
}

impl Drop for Known {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        let Some(known) = running.get_mut(&self.id) else { return };
        known.retain(|(number, _)| *number != self.number);
        if known.is_empty() {
            running.remove(&self.id);
        }
    }
}

/// A statement about to run.
pub(super) struct Statement {
    /// What it is called.
    pub(super) id: Id,
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
        let mut known = self.running.add(self.id);
        let (why, columns) = (Arc::new(OnceLock::new()), Arc::clone(&schema));
        let because = Arc::clone(&why);
        let work = SpawnedTask::spawn(async move {
            let Self { time, permit, .. } = self;
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
                _ = &mut known.stopped => {
                    let _ = because.set(Status::cancelled("the statement was cancelled"));
                }
                () = tokio::time::sleep(time) => {
                    let text = format!("the statement was not done within {} s", time.as_secs());
                    let _ = because.set(Status::deadline_exceeded(text));
                }
            }
            drop((known, permit));
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

#[cfg(test)]
mod tests {
    use datafusion::{arrow::array::Int64Array, physical_plan::stream::RecordBatchStreamAdapter};
    use tokio::sync::Semaphore;

    use super::*;

    /// A statement that gives one row and then nothing, without an end.
    fn begun(
        running: &Arc<Running>,
        id: Id,
    ) -> impl Stream<Item = Result<FlightData, Status>> + Send {
        let column: datafusion::arrow::array::ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let schema = batch.schema();
        let rows = stream::iter([Ok(batch)]).chain(stream::pending());
        let rows = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), rows));
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let time = Duration::from_hours(1);
        Statement { id, time, permit, running: Arc::clone(running) }.send(rows, schema)
    }

    /// Waits for the end of a statement, and says why it ended.
    async fn end(rows: impl Stream<Item = Result<FlightData, Status>> + Send) -> Status {
        let ended = rows.try_for_each(|_| async { Ok(()) });
        let ended = tokio::time::timeout(Duration::from_secs(20), ended).await;
        ended.expect("it has ended").unwrap_err()
    }

    #[tokio::test]
    async fn who_fetches_a_ticket_again_stops_nobody() {
        let running = Arc::new(Running::default());
        let (first, second, other) =
            (begun(&running, [1; 16]), begun(&running, [1; 16]), begun(&running, [2; 16]));
        let mut first = Box::pin(first);
        assert!(first.next().await.unwrap().is_ok(), "the schema");
        assert!(
            first.next().await.unwrap().is_ok(),
            "the row, though the ticket was fetched again"
        );
        assert!(running.cancel(&[1; 16]));
        for rows in [end(first).await, end(second).await] {
            assert_eq!(rows.code(), tonic::Code::Cancelled);
        }
        assert!(!running.cancel(&[1; 16]), "they have ended");
        assert!(running.cancel(&[2; 16]), "another statement goes on");
        assert_eq!(end(other).await.code(), tonic::Code::Cancelled);
    }

    #[tokio::test]
    async fn what_nobody_reads_on_is_forgotten() {
        let running = Arc::new(Running::default());
        let mut rows = Box::pin(begun(&running, [1; 16]));
        assert!(rows.next().await.unwrap().is_ok());
        drop(rows);
        let forgotten = async {
            while !running.lock().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), forgotten).await.unwrap();
    }
}
