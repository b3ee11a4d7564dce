//! The calls of Flight SQL.

use std::{pin::Pin, sync::Arc};

use arrow_flight::{
    FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse,
    IpcMessage, SchemaAsIpc, Ticket as FlightTicket,
    decode::FlightRecordBatchStream,
    error::FlightError,
    flight_service_server::FlightService,
    sql::{
        ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
        ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any,
        CommandGetCatalogs, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
        CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
        CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest,
        CommandStatementQuery, CommandStatementUpdate, DoPutPreparedStatementResult,
        ProstMessageExt, SqlInfo, TicketStatementQuery,
        metadata::SqlInfoData,
        server::{FlightSqlService, PeekableFlightDataStream},
    },
};
use bytes::Bytes;
use datafusion::{
    arrow::{
        array::RecordBatch,
        datatypes::{DataType, Field, Schema, SchemaRef},
        ipc::writer::IpcWriteOptions,
    },
    error::DataFusionError,
    logical_expr::LogicalPlan,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{
    AS_OF, ServeOptions, Token, metadata,
    nights::{Night, Nights},
    rows::{Id, Running, Statement, encoded, failed, plain_schema},
    tickets::{Handle, Ticket, read, read_parameters, write, write_parameters},
};
use crate::{AsOf, Error, Result as QueryResult, error::CauseFrom};

/// `CANCEL_RESULT_CANCELLED` of the protocol.
const CANCELLED: i32 = 1;
/// `CANCEL_RESULT_NOT_CANCELLABLE` of the protocol.
const NOT_CANCELLABLE: i32 = 3;

/// Rows, as they are sent.
type Rows = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;
/// The answers to a handshake.
type Handshake = Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>;

/// The tables of a place, to be asked.
pub(super) struct Service {
    nights: Nights,
    options: ServeOptions,
    turns: Arc<Semaphore>,
    running: Arc<Running>,
    sql_info: SqlInfoData,
}

impl Service {
    pub(super) fn new(nights: Nights, options: &ServeOptions) -> QueryResult<Self> {
        let sql_info = metadata::sql_info();
        Ok(Self {
            nights,
            turns: Arc::new(Semaphore::new(options.statements.get())),
            options: options.clone(),
            running: Arc::new(Running::default()),
            sql_info: sql_info.map_err(|source| Error::Serve { source: source.cause() })?,
        })
    }

    /// The night that a statement is about.
    async fn night(&self, as_of: Option<&str>) -> Result<Night, Status> {
        let as_of = as_of.map_or(AsOf::Newest, AsOf::parse);
        self.nights.get(&as_of).await.map_err(|error| refused(&error))
    }

    /// Plans a statement and answers with the ticket for its rows.
    async fn info(
        &self,
        statement: String,
        as_of: Option<&str>,
        parameters: Bytes,
        descriptor: FlightDescriptor,
    ) -> Result<Response<FlightInfo>, Status> {
        let night = self.night(as_of).await?;
        let plan = planned(&night, &statement, &parameters).await?;
        let id = rand::random::<Id>().to_vec();
        let ticket = Ticket { statement, night: night.version, id, parameters };
        let ticket = TicketStatementQuery { statement_handle: write(&ticket) };
        described(&ticket, &plain_schema(plan.schema().as_arrow()), descriptor)
    }

    /// A turn to run, or why there is none.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, Status> {
        let turn = Arc::clone(&self.turns).acquire_owned();
        match tokio::time::timeout(self.options.queue, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) => Err(Status::unavailable("the server is stopping")),
            Err(_) => Err(Status::resource_exhausted(format!(
                "{} statements run already; ask again later",
                self.options.statements
            ))),
        }
    }

    /// Runs the statement of a ticket.
    async fn run(&self, ticket: Ticket) -> Result<Response<Rows>, Status> {
        let id = ticket.id()?;
        let permit = self.turn().await?;
        let night = self.nights.get(&AsOf::Version(ticket.night)).await;
        let night = night.map_err(|error| refused(&error))?;
        let plan = planned(&night, &ticket.statement, &ticket.parameters).await?;
        let schema = plain_schema(plan.schema().as_arrow());
        let rows = night.session.run(plan).await.map_err(|error| refused(&error))?;
        let (time, running) = (self.options.statement_time, Arc::clone(&self.running));
        let statement = Statement { id, time, permit, running };
        Ok(Response::new(statement.send(rows, schema).boxed()))
    }

    /// Why a statement that is sent as an update is not run.
    async fn refuse_update(&self, statement: &str, as_of: Option<&str>) -> Status {
        let night = match self.night(as_of).await {
            Ok(night) => night,
            Err(status) => return status,
        };
        match night.session.plan(statement).await {
            Err(error) => refused(&error),
            Ok(_) => Status::invalid_argument("this gives rows: send it as a query"),
        }
    }
}

/// What a statement means in a night, its parameters filled in.
async fn planned(night: &Night, statement: &str, parameters: &[u8]) -> Result<LogicalPlan, Status> {
    let plan = night.session.plan(statement).await.map_err(|error| refused(&error))?;
    let values = read_parameters(parameters)?;
    if values.is_empty() {
        return Ok(plan);
    }
    plan.with_param_values(values).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// What a client is told of an error.
fn refused(error: &Error) -> Status {
    let text = error.with_causes();
    match error {
        Error::NoTables { .. } | Error::NotYet { .. } | Error::UnknownRun { .. } => {
            Status::not_found(text)
        }
        Error::Plan { .. } | Error::WhichNight { .. } | Error::SearchQuery { .. } => {
            Status::invalid_argument(text)
        }
        Error::ReadOnly { .. } | Error::WritesElsewhere { .. } => Status::permission_denied(text),
        Error::OpenTable { .. } => Status::unavailable(text),
        Error::Run { source } => match source.inner().downcast_ref::<DataFusionError>() {
            Some(error) => failed(error),
            None => Status::internal(text),
        },
        _ => Status::internal(text),
    }
}

/// The night that a call asks for.
fn as_of(metadata: &MetadataMap) -> Result<Option<String>, Status> {
    let Some(header) = metadata.get(AS_OF) else { return Ok(None) };
    let text = header.to_str().map(str::trim);
    let text = text.map_err(|_| Status::invalid_argument(format!("`{AS_OF}` is not text")))?;
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// Says which columns a call gives, and with what to fetch them.
fn described(
    ticket: &impl ProstMessageExt,
    schema: &Schema,
    descriptor: FlightDescriptor,
) -> Result<Response<FlightInfo>, Status> {
    let ticket = FlightTicket::new(ticket.as_any().encode_to_vec());
    let info = FlightInfo::new()
        .with_endpoint(FlightEndpoint::new().with_ticket(ticket))
        .with_descriptor(descriptor)
        .try_with_schema(schema)
        .map_err(|error| Status::internal(error.to_string()))?;
    Ok(Response::new(info))
}

/// A batch as the answer to a call.
fn answered(batch: Result<RecordBatch, FlightError>) -> Result<Response<Rows>, Status> {
    let batch = batch?;
    let schema = batch.schema();
    Ok(Response::new(encoded(stream::iter([Ok(batch)]), schema).boxed()))
}

/// A schema as the messages of Arrow have it.
fn schema_bytes(schema: &Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let message: IpcMessage = SchemaAsIpc::new(schema, &options).try_into().map_err(
        |error: datafusion::arrow::error::ArrowError| Status::internal(error.to_string()),
    )?;
    Ok(message.0)
}

/// The parameters of a plan, in order.
fn parameters(plan: &LogicalPlan) -> Result<SchemaRef, Status> {
    let types = plan.get_parameter_types();
    let types = types.map_err(|error| Status::invalid_argument(error.to_string()))?;
    let number = |name: &str| name.trim_start_matches('$').parse().unwrap_or(u32::MAX);
    let mut types: Vec<_> = types.into_iter().collect();
    types.sort_by_key(|(name, _)| number(name));
    let fields = types.into_iter().map(|(name, known)| {
        let known = known.unwrap_or(DataType::Null);
        Field::new(name, known, true)
    });
    Ok(plain_schema(&Schema::new(fields.collect::<Vec<_>>())))
}

#[tonic::async_trait]
impl FlightSqlService for Service {
    type FlightService = Self;

    async fn do_handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Handshake>, Status> {
        // Whoever comes as far as this has shown the token.
        let token = self.options.token.as_ref().map_or("none", Token::text);
        let payload = HandshakeResponse { protocol_version: 0, payload: token.to_owned().into() };
        let answers: Handshake = stream::iter([Ok(payload)]).boxed();
        let mut response = Response::new(answers);
        let header = format!("Bearer {token}").parse();
        let header = header.map_err(|_| Status::internal("the token cannot be sent"))?;
        response.metadata_mut().insert("authorization", header);
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let as_of = as_of(request.metadata())?;
        self.info(query.query, as_of.as_deref(), Bytes::new(), request.into_inner()).await
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        _: Request<FlightTicket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        self.run(read(&ticket.statement_handle)?).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<arrow_flight::Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let as_of = as_of(request.metadata())?;
        let night = self.night(as_of.as_deref()).await?;
        let plan = planned(&night, &query.query, &[]).await?;
        let handle = Handle { statement: query.query, as_of, parameters: Bytes::new() };
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: write(&handle),
            dataset_schema: schema_bytes(&plain_schema(plan.schema().as_arrow()))?,
            parameter_schema: schema_bytes(&*parameters(&plan)?)?,
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        _: ActionClosePreparedStatementRequest,
        _: Request<arrow_flight::Action>,
    ) -> Result<(), Status> {
        Ok(()) // nothing is kept of it
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let mut handle: Handle = read(&query.prepared_statement_handle)?;
        let messages = request.into_inner().map_err(FlightError::from);
        let mut batches = FlightRecordBatchStream::new_from_flight_data(messages);
        let mut row: Option<RecordBatch> = None;
        while let Some(batch) = batches.try_next().await? {
            if batch.num_rows() + row.as_ref().map_or(0, RecordBatch::num_rows) > 1 {
                return Err(Status::invalid_argument("a query takes one row of parameters"));
            }
            row = row.or((batch.num_rows() == 1).then_some(batch));
        }
        let wrong = |error: datafusion::arrow::error::ArrowError| {
            Status::invalid_argument(error.to_string())
        };
        let parameters = row.as_ref().map(write_parameters).transpose().map_err(wrong)?;
        handle.parameters = parameters.unwrap_or_default();
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(write(&handle)) })
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let handle: Handle = read(&query.prepared_statement_handle)?;
        let as_of = as_of(request.metadata())?.or(handle.as_of);
        let descriptor = request.into_inner();
        self.info(handle.statement, as_of.as_deref(), handle.parameters, descriptor).await
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightTicket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let Handle { statement, as_of: prepared, parameters } =
            read(&query.prepared_statement_handle)?;
        let as_of = as_of(request.metadata())?.or(prepared);
        let night = self.night(as_of.as_deref()).await?.version;
        let id = rand::random::<Id>().to_vec();
        self.run(Ticket { statement, night, id, parameters }).await
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        _: Request<arrow_flight::Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        let wrong = |_| Status::invalid_argument("this is not a query of this server");
        let info = FlightInfo::decode(&*query.info).map_err(wrong)?;
        let mut cancelled = false;
        for ticket in info.endpoint.into_iter().filter_map(|endpoint| endpoint.ticket) {
            let message = Any::decode(&*ticket.ticket).map_err(wrong)?;
            let query: Option<TicketStatementQuery> =
                message.unpack().map_err(|error| Status::invalid_argument(error.to_string()))?;
            if let Some(query) = query {
                let ticket = read::<Ticket>(&query.statement_handle)?;
                cancelled |= self.running.cancel(&ticket.id()?);
            }
        }
        let result = if cancelled { CANCELLED } else { NOT_CANCELLABLE };
        Ok(ActionCancelQueryResult { result })
    }

    async fn do_put_statement_update(
        &self,
        update: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let as_of = as_of(request.metadata())?;
        Err(self.refuse_update(&update.query, as_of.as_deref()).await)
    }

    async fn do_put_prepared_statement_update(
        &self,
        query: CommandPreparedStatementUpdate,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let handle: Handle = read(&query.prepared_statement_handle)?;
        Err(self.refuse_update(&handle.statement, handle.as_of.as_deref()).await)
    }

    async fn do_put_statement_ingest(
        &self,
        _: CommandStatementIngest,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(Status::permission_denied("refused, since this server only reads"))
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        described(&query, &metadata::catalogs(query)?.schema(), request.into_inner())
    }

    async fn do_get_catalogs(
        &self,
        query: CommandGetCatalogs,
        _: Request<FlightTicket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        answered(metadata::catalogs(query))
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = metadata::schemas(query.clone())?.schema();
        described(&query, &schema, request.into_inner())
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        _: Request<FlightTicket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        answered(metadata::schemas(query))
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = metadata::tables(query.clone(), None)?.schema();
        described(&query, &schema, request.into_inner())
    }

    async fn do_get_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightTicket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let night = self.night(as_of(request.metadata())?.as_deref()).await?;
        answered(metadata::tables(query, Some(&night.session)))
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        described(&query, &metadata::table_types()?.schema(), request.into_inner())
    }

    async fn do_get_table_types(
        &self,
        _: CommandGetTableTypes,
        _: Request<FlightTicket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        answered(metadata::table_types())
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        described(&query, &self.sql_info.schema(), request.into_inner())
    }

    async fn do_get_sql_info(
        &self,
        query: CommandGetSqlInfo,
        _: Request<FlightTicket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        answered(self.sql_info.record_batch(query.info))
    }

    async fn get_flight_info_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = metadata::primary_keys(&query.table)?.schema();
        described(&query, &schema, request.into_inner())
    }

    async fn do_get_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        _: Request<FlightTicket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        answered(metadata::primary_keys(&query.table))
    }

    async fn get_flight_info_exported_keys(
        &self,
        query: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        described(&query, &metadata::foreign_keys().schema(), request.into_inner())
    }

    async fn do_get_exported_keys(
        &self,
        _: CommandGetExportedKeys,
        _: Request<FlightTicket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        answered(Ok(metadata::foreign_keys()))
    }

    async fn get_flight_info_imported_keys(
        &self,
        query: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        described(&query, &metadata::foreign_keys().schema(), request.into_inner())
    }

    async fn do_get_imported_keys(
        &self,
        _: CommandGetImportedKeys,
        _: Request<FlightTicket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        answered(Ok(metadata::foreign_keys()))
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}
