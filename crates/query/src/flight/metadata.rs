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
    array::{ArrayRef, Int32Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};

use crate::{
    Session,
    session::{CATALOG, SCHEMA},
};

use super::rows::plain_schema;

/// The columns by which a row of a table is told from all others.
const KEYS: [(&str, &str); 2] = [("events", "event_id"), ("videos", "video_id")];

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

/// The columns that tell the rows of a table apart, where one does.
pub(super) fn primary_keys(table: &str) -> Answer {
    let keys: Vec<_> = KEYS.into_iter().filter(|(of, _)| *of == table).collect();
    let text = |value: fn(&(&'static str, &'static str)) -> &'static str| -> ArrayRef {
        Arc::new(keys.iter().map(|key| Some(value(key))).collect::<StringArray>())
    };
    let columns = vec![
        ("catalog_name", text(|_| CATALOG), true),
        ("db_schema_name", text(|_| SCHEMA), true),
        ("table_name", text(|(table, _)| table), false),
        ("column_name", text(|(_, column)| column), false),
        ("key_name", text(|(_, column)| column), true),
        ("key_sequence", Arc::new(Int32Array::from(vec![1; keys.len()])) as ArrayRef, false),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

/// Keys that point from one table to another, in either direction: none is kept.
pub(super) fn foreign_keys() -> RecordBatch {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let rule = |name: &str| Field::new(name, DataType::UInt8, false);
    let schema = Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        rule("update_rule"),
        rule("delete_rule"),
    ]);
    RecordBatch::new_empty(Arc::new(schema))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::events("events", 1)]
    #[case::videos("videos", 1)]
    #[case::none_tells("transcripts", 0)]
    #[case::unknown("cars", 0)]
    fn a_key_is_known(#[case] table: &str, #[case] columns: usize) {
        assert_eq!(primary_keys(table).unwrap().num_rows(), columns);
    }
}
