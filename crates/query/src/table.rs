//! Rows as a table that fits a terminal, for people.

use comfy_table::{CellAlignment, ContentArrangement, Table};
use datafusion::arrow::{
    array::RecordBatch,
    datatypes::Schema,
    error::ArrowError,
    util::display::{ArrayFormatter, FormatOptions},
};

/// Borders of the tables that `DataFusion` prints.
const BORDERS: &str = "||--+-++|    ++++++";
/// Columns of a terminal below which a column of a table is no longer read well, borders included.
const NARROWEST_COLUMN: usize = 9;

/// How rows are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// As [`Layout::Rows`] where the columns fit the width, else as [`Layout::Records`].
    #[default]
    Auto,
    /// A line for each row.
    Rows,
    /// A line for each value.
    Records,
}

/// How a table is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableStyle {
    /// Characters a line may take; as many as it needs if none.
    pub width: Option<u16>,
    /// Rows that are printed at most. What comes after them is not even computed.
    pub max_rows: usize,
    /// How rows are laid out.
    pub layout: Layout,
}

impl Default for TableStyle {
    /// 100 rows, however wide.
    fn default() -> Self {
        Self { width: None, max_rows: 100, layout: Layout::Auto }
    }
}

impl TableStyle {
    fn is_by_record(&self, columns: usize) -> bool {
        match self.layout {
            Layout::Rows => false,
            Layout::Records => true,
            Layout::Auto => {
                self.width.is_some_and(|width| columns * NARROWEST_COLUMN > usize::from(width))
            }
        }
    }
}

/// The rows as text that ends in a new line.
pub(crate) fn render(
    schema: &Schema,
    batches: &[RecordBatch],
    style: &TableStyle,
) -> Result<String, ArrowError> {
    let names: Vec<String> = schema.fields().iter().map(|field| visible(field.name())).collect();
    let rows = cells(batches)?;
    if style.is_by_record(names.len()) {
        return Ok(records(&names, &rows));
    }
    let mut table = Table::new();
    table.load_preset(BORDERS).force_no_tty();
    if let Some(width) = style.width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.set_header(names).add_rows(rows);
    for (column, field) in table.column_iter_mut().zip(schema.fields()) {
        if field.data_type().is_numeric() {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    Ok(format!("{table}\n"))
}

/// The values of all rows as text.
fn cells(batches: &[RecordBatch]) -> Result<Vec<Vec<String>>, ArrowError> {
    let options = FormatOptions::new().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let text = columns.iter().map(|column| column.value(row).try_to_string());
            rows.push(text.map(|text| Ok(visible(&text?))).collect::<Result<_, ArrowError>>()?);
        }
    }
    Ok(rows)
}

fn records(names: &[String], rows: &[Vec<String>]) -> String {
    let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        text.extend(["-[ ", &(number + 1).to_string(), " ]", &"-".repeat(widest), "\n"]);
        for (name, value) in names.iter().zip(row) {
            text.extend([&format!("{name:<widest$}"), " | ", value, "\n"]);
        }
    }
    text
}

/// The text with every control character made visible: captions and speech come from strangers'
/// videos, and a terminal obeys what it is sent.
fn visible(text: &str) -> String {
    let mut seen = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            seen.extend(character.escape_default());
        } else {
            seen.push(character);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use datafusion::arrow::{
        array::{Float64Array, Int64Array, StringArray},
        datatypes::{DataType, Field},
    };

    fn rows() -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("caption", DataType::Utf8, true),
            Field::new("start_ms", DataType::Int64, false),
            Field::new("score", DataType::Float64, true),
        ]);
        let captions = StringArray::from(vec![
            Some("a man pours water into a tall glass"),
            None,
            Some("日本"),
        ]);
        RecordBatch::try_new(
            Arc::new(schema),
            vec![
                Arc::new(captions),
                Arc::new(Int64Array::from(vec![0, 90_000, 7])),
                Arc::new(Float64Array::from(vec![Some(-0.5), None, Some(1.0)])),
            ],
        )
        .unwrap()
    }

    fn rendered(style: &TableStyle) -> String {
        let rows = rows();
        render(&rows.schema(), &[rows], style).unwrap()
    }

    #[test]
    fn a_wide_table() {
        insta::assert_snapshot!(rendered(&TableStyle::default()));
    }

    #[test]
    fn a_table_that_fits_its_width() {
        let style = TableStyle { width: Some(40), ..TableStyle::default() };
        let text = rendered(&style);
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn columns_that_do_not_fit_are_turned_into_lines() {
        let style = TableStyle { width: Some(20), ..TableStyle::default() };
        insta::assert_snapshot!(rendered(&style));
    }

    #[test]
    fn no_rows_leave_the_header() {
        let schema = rows().schema();
        insta::assert_snapshot!(render(&schema, &[], &TableStyle::default()).unwrap());
    }

    #[test]
    fn a_terminal_is_not_given_orders() {
        assert_eq!(
            visible("\u{1b}[2J\u{9b}1m a\nb\t\u{7f}é"),
            "\\u{1b}[2J\\u{9b}1m a\\nb\\t\\u{7f}é"
        );
    }
}
