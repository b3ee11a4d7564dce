//! What a client carries from one call to the next. Nothing of it is kept here, so that a server may be restarted, or
//! stand beside others, and no client can fill its memory with statements that it prepares.

use bytes::Bytes;
use datafusion::{
    arrow::{
        array::RecordBatch,
        error::ArrowError,
        ipc::{reader::StreamReader, writer::StreamWriter},
    },
    common::ScalarValue,
};
use prost::Message;
use tonic::Status;

use super::rows::Id;

/// A statement that is planned: its rows are fetched with it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Ticket {
    /// The statement.
    #[prost(string, tag = "1")]
    pub(super) statement: String,
    /// The version of `runs` that stands for its night.
    #[prost(uint64, tag = "2")]
    pub(super) night: u64,
    /// What it is called while it runs, to be cancelled by.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) id: Vec<u8>,
    /// Its parameters, as one row of Arrow IPC; none where empty.
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) parameters: Bytes,
}

impl Ticket {
    /// What the statement is called.
    pub(super) fn id(&self) -> Result<Id, Status> {
        let id = self.id.as_slice().try_into();
        id.map_err(|_| Status::invalid_argument("this is not a ticket of this server"))
    }
}

/// A prepared statement.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Handle {
    /// The statement.
    #[prost(string, tag = "1")]
    pub(super) statement: String,
    /// The night that was asked for when it was prepared.
    #[prost(string, optional, tag = "2")]
    pub(super) as_of: Option<String>,
    /// The parameters that are bound, as in [`Ticket`].
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) parameters: Bytes,
}

/// Reads what a client sends back.
pub(super) fn read<T: Message + Default>(bytes: &[u8]) -> Result<T, Status> {
    T::decode(bytes).map_err(|_| Status::invalid_argument("this is not a ticket of this server"))
}

/// Bytes for a client to send back.
pub(super) fn write(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// One row of parameters as bytes.
pub(super) fn write_parameters(row: &RecordBatch) -> Result<Bytes, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &row.schema())?;
    writer.write(row)?;
    writer.into_inner().map(Bytes::from)
}

/// The parameters that [`write_parameters`] wrote, in order.
pub(super) fn read_parameters(bytes: &[u8]) -> Result<Vec<ScalarValue>, Status> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let wrong = |_| Status::invalid_argument("the parameters are damaged");
    let row = StreamReader::try_new(bytes, None).and_then(|mut rows| rows.next().transpose());
    let Some(row) = row.map_err(wrong)?.filter(|row| row.num_rows() == 1) else {
        return Err(Status::invalid_argument("the parameters are damaged"));
    };
    let values = row.columns().iter().map(|column| ScalarValue::try_from_array(column, 0));
    values.collect::<Result<_, _>>().map_err(|error| Status::invalid_argument(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[test]
    fn parameters_come_back() {
        let columns: [(&str, ArrayRef); 2] = [
            ("$1", Arc::new(Int64Array::from(vec![7]))),
            ("$2", Arc::new(StringArray::from(vec!["pan"]))),
        ];
        let row = RecordBatch::try_from_iter(columns).unwrap();
        let handle = Handle { parameters: write_parameters(&row).unwrap(), ..Handle::default() };
        let back: Handle = read(&write(&handle)).unwrap();
        let expected = [ScalarValue::Int64(Some(7)), ScalarValue::from("pan")];
        assert_eq!(read_parameters(&back.parameters).unwrap(), expected);
        assert!(read_parameters(&[]).unwrap().is_empty());
        assert!(read_parameters(b"no").is_err());
        assert!(read::<Ticket>(&[0xff]).is_err());
    }
}
