//! What a server says of itself and of its tables: catalogs, schemas, tables, and what its SQL can do.

use std::sync::Arc;

use arrow_flight::{
    error::FlightError,
    sql::{
        CommandGetCatalogs, CommandGetDbSchemas, CommandGetTables, SqlInfo, SqlNullOrdering,
        SqlSupportedCaseSensitivity, SqlSupportedTransaction,
        metadata::{SqlInfoData, SqlInfoDataBuilder},
    },
};
use datafusion::arrow::{
    array::{RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};

use crate::{
    Session,
    session::{CATALOG, SCHEMA},
};

use super::rows::plain_schema;

/// What kind of table the published ones are.
const TABLE: &str = "TABLE";

/// A part of an answer, or why there is none.
type Answer = Result<RecordBatch, FlightError>;

/// What clients ask a server about itself.
pub(super) fn sql_info() -> Result<SqlInfoData, FlightError> {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Eventide");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, "1.5"); // of the format
    info.append(SqlInfo::FlightSqlServerReadOnly, true);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    info.append(SqlInfo::FlightSqlServerStatementTimeout, 0_i32);
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0_i32);
    for changes in [SqlInfo::SqlDdlCatalog, SqlInfo::SqlDdlSchema, SqlInfo::SqlDdlTable] {
        info.append(changes, false);
    }
    let lower = SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32;
    let exact = SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32;
    info.append(SqlInfo::SqlIdentifierCase, lower);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(SqlInfo::SqlQuotedIdentifierCase, exact);
    info.append(SqlInfo::SqlAllTablesAreSelectable, true);
    info.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
    info.build()
}

/// The one catalog.
pub(super) fn catalogs(command: CommandGetCatalogs) -> Answer {
    let mut catalogs = command.into_builder();
    catalogs.append(CATALOG);
    catalogs.build()
}

/// The one schema.
pub(super) fn schemas(command: CommandGetDbSchemas) -> Answer {
    let mut schemas = command.into_builder();
    schemas.append(CATALOG, SCHEMA);
    schemas.build()
}

/// The tables of a session that fit the command, with their columns if it asks for them; of no session, none.
pub(super) fn tables(command: CommandGetTables, session: Option<&Session>) -> Answer {
    let mut tables = command.into_builder();
    for table in session.into_iter().flat_map(Session::tables) {
        tables.append(CATALOG, SCHEMA, table.name, TABLE, &plain_schema(&table.columns))?;
    }
    tables.build()
}

/// The one type of tables.
pub(super) fn table_types() -> Answer {
    let types = StringArray::from(vec![TABLE]);
    let schema = Schema::new(vec![Field::new("table_type", DataType::Utf8, false)]);
    Ok(RecordBatch::try_new(Arc::new(schema), vec![Arc::new(types)])?)
}
