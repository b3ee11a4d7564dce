//! `matches(caption, 'garlic NEAR pan')` in SQL: whether a text matches, by the language of `search`.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use datafusion::{
    arrow::{
        array::{Array, AsArray, BooleanArray, StringArray},
        compute::cast,
        datatypes::DataType,
    },
    common::{Result, exec_err},
    execution::memory_pool::{MemoryConsumer, MemoryPool},
    logical_expr::{
        ColumnarValue, DocSection, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature,
        Volatility,
    },
    scalar::ScalarValue,
};
use tantivy::{Index, TantivyDocument, collector::DocSetCollector, schema::Schema};

use super::{document, language, within_statement};

/// The field of the text, and bytes that an index of one batch may gather.
const TEXT: &str = "text";
const MEMORY: usize = 32 << 20;

/// The function. Each batch is indexed in memory and asked, so that an answer here is one of `search`. Where it is a
/// condition on the published events, `rewrite` has the kept index asked instead.
#[derive(Debug)]
pub(crate) struct Matches {
    signature: Signature,
    documentation: Documentation,
    pool: Arc<dyn MemoryPool>,
}

impl PartialEq for Matches {
    fn eq(&self, other: &Self) -> bool {
        self.signature == other.signature
    }
}

impl Eq for Matches {}

impl Hash for Matches {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signature.hash(state);
    }
}

impl Matches {
    /// The function, which takes its memory from `pool`.
    pub(crate) fn new(pool: Arc<dyn MemoryPool>) -> Self {
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
            pool,
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
        let memory = MemoryConsumer::new("matches").register(&self.pool);
        memory.try_grow(MEMORY + 2 * texts.get_array_memory_size())?; // until the batch is answered
        let answers = answers(texts.as_string::<i32>(), words).map_err(within_statement)?;
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
    let index = index(texts).map_err(&wrong)?;
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

/// Texts as the rows of an index in memory, in their order.
fn index(texts: &StringArray) -> tantivy::Result<Index> {
    let mut schema = Schema::builder();
    let stems = schema.add_text_field(TEXT, document::text("en_stem"));
    let exact = schema.add_text_field(&document::exact(TEXT), document::text("default"));
    let builder = Index::builder().schema(schema.build());
    let mut writer = builder.single_segment_index_writer::<TantivyDocument>(
        tantivy::directory::RamDirectory::create(),
        MEMORY,
    )?;
    for text in texts {
        let mut document = TantivyDocument::default();
        document.add_text(stems, text.unwrap_or_default());
        document.add_text(exact, text.unwrap_or_default());
        writer.add_document(document)?;
    }
    writer.finalize()
}

/// Whether words say something about a text, and of nothing else: whoever asks about one names no other field.
pub(super) fn understood(words: &str) -> crate::Result<()> {
    let nothing = StringArray::from(Vec::<&str>::new());
    let index = index(&nothing).map_err(super::index_error(std::path::Path::new("memory")))?;
    language::parse(&index, &[TEXT], words).map(drop)
}
