//! `matches(caption, 'garlic NEAR pan')` in SQL: whether a text matches, by the language of `search`.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, AsArray, BooleanArray, StringArray},
        compute::cast,
        datatypes::DataType,
    },
    common::{Result, exec_err},
    error::DataFusionError,
    logical_expr::{
        ColumnarValue, DocSection, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature,
        Volatility,
    },
    scalar::ScalarValue,
};
use tantivy::{Index, TantivyDocument, collector::DocSetCollector, schema::Schema};

use super::{document, language};

/// The field of the text, and bytes that an index of one batch may gather.
const TEXT: &str = "text";
const MEMORY: usize = 32 << 20;

/// The function. Each batch is indexed in memory and asked, so that an answer here is one of `search`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Matches {
    signature: Signature,
    documentation: Documentation,
}

impl Matches {
    pub(crate) fn new() -> Self {
        let documentation = Documentation::builder(
            DocSection { include: true, label: "Search", description: None },
            "Whether a text matches words: phrases, AND, OR, NOT, NEAR, and `gar*` for what begins so.",
            "matches(text, words)",
        );
        Self {
            signature: Signature::exact(vec![DataType::Utf8; 2], Volatility::Immutable),
            documentation: documentation
                .with_sql_example(
                    "SELECT caption FROM events WHERE matches(caption, 'garlic NEAR pan')",
                )
                .build(),
        }
    }
}

impl ScalarUDFImpl for Matches {
    fn name(&self) -> &'static str {
        "matches"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [text, words] = args.args.as_slice() else {
            return exec_err!("matches takes a text and words");
        };
        let ColumnarValue::Scalar(words) = words else {
            return exec_err!("the words of matches are the same for every row");
        };
        let Some(words) = words.try_as_str().flatten() else {
            return Ok(ColumnarValue::Scalar(ScalarValue::Boolean(None)));
        };
        let is_constant = matches!(text, ColumnarValue::Scalar(_));
        let texts =
            cast(&text.to_array(if is_constant { 1 } else { args.number_rows })?, &DataType::Utf8)?;
        let answers = answers(texts.as_string::<i32>(), words)
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        if is_constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&answers, 0)?));
        }
        Ok(ColumnarValue::Array(Arc::new(answers)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// Whether each text matches; NULL where there is none.
fn answers(texts: &StringArray, words: &str) -> crate::Result<BooleanArray> {
    let found = found(texts, words)?;
    let row = |row: usize| texts.is_valid(row).then(|| found[row]);
    Ok((0..texts.len()).map(row).collect())
}

fn found(texts: &StringArray, words: &str) -> crate::Result<Vec<bool>> {
    let wrong = super::index_error(std::path::Path::new("memory"));
    let mut schema = Schema::builder();
    let stems = schema.add_text_field(TEXT, document::text("en_stem"));
    let exact = schema.add_text_field(&document::exact(TEXT), document::text("default"));
    let builder = Index::builder().schema(schema.build());
    let mut writer = builder
        .single_segment_index_writer::<TantivyDocument>(
            tantivy::directory::RamDirectory::create(),
            MEMORY,
        )
        .map_err(&wrong)?;
    for text in texts {
        let mut document = TantivyDocument::default();
        document.add_text(stems, text.unwrap_or_default());
        document.add_text(exact, text.unwrap_or_default());
        writer.add_document(document).map_err(&wrong)?;
    }
    let index = writer.finalize().map_err(&wrong)?;
    let query = language::parse(&index, &[TEXT], words)?;
    let searcher = index.reader().map_err(&wrong)?.searcher();
    let mut found = vec![false; texts.len()];
    for hit in searcher.search(&query, &DocSetCollector).map_err(&wrong)? {
        if let Some(row) = found.get_mut(hit.doc_id as usize) {
            *row = true; // one segment, in the order in which they were added
        }
    }
    Ok(found)
}
