//! Which events an index of a search engine holds, and those among them that are not in the tables any more.
//!
//! An index holds the events of one table. Its mapping says which: the versions of another table mean nothing to it, so
//! that older documents would win over newer ones, and be taken for what has gone.

use reqwest::{Method, StatusCode, header::CONTENT_TYPE};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{ExportOptions, bulk::SearchEngine, mappings, receipt::Receipt};
use crate::{Error, Result, error::CauseFrom};

/// Documents that are asked for at a time.
const AT_ONCE: usize = 1000;

/// Makes the index with our mapping, unless it is there. Then it must be of the same table, or say nothing of that; it
/// does from now on.
///
/// # Errors
/// [`Error::OtherTables`], [`Error::SearchEngine`].
pub(super) async fn ensure_index(
    engine: &SearchEngine,
    options: &ExportOptions,
    receipt: &Receipt,
) -> Result<()> {
    if is_there(engine, options).await? {
        return mark(engine, options, receipt).await;
    }
    let dimensions = options.embedder.as_ref().map(|embedder| embedder.dimensions);
    let mapping = mappings::of(options.target, dimensions).unwrap_or_default();
    let mut index: Value =
        serde_json::from_str(&mapping).map_err(|source| Error::Run { source: source.cause() })?;
    index["mappings"]["_meta"] = json!({ mappings::MARK: marked(receipt) });
    let made = put(engine, &options.index, &index).await?;
    if made.status() == StatusCode::BAD_REQUEST && is_there(engine, options).await? {
        return mark(engine, options, receipt).await; // somebody else has made it meanwhile
    }
    engine.accepted(made).await.map(drop)
}

async fn is_there(engine: &SearchEngine, options: &ExportOptions) -> Result<bool> {
    let found = engine.send(engine.request(Method::HEAD, &options.index)).await?;
    if found.status() == StatusCode::NOT_FOUND {
        return Ok(false);
    }
    engine.accepted(found).await.map(|_| true)
}

async fn put(engine: &SearchEngine, path: &str, body: &Value) -> Result<reqwest::Response> {
    let request = engine.request(Method::PUT, path).header(CONTENT_TYPE, "application/json");
    engine.send(request.body(body.to_string())).await
}

/// What a mapping says of the events.
fn marked(receipt: &Receipt) -> Value {
    json!({ "tables": receipt.tables, "table_id": receipt.table_id })
}

/// Verifies whose events an index holds, or has it say so.
async fn mark(engine: &SearchEngine, options: &ExportOptions, receipt: &Receipt) -> Result<()> {
    #[derive(Deserialize)]
    struct Index {
        #[serde(default)]
        mappings: Mappings,
    }
    #[derive(Default, Deserialize)]
    struct Mappings {
        #[serde(default, rename = "_meta")]
        meta: Map<String, Value>,
    }
    let path = format!("{}/_mapping", options.index);
    let found = engine.send(engine.request(Method::GET, &path)).await?;
    let found = engine.accepted(found).await?;
    let indexes: std::collections::BTreeMap<String, Index> = serde_json::from_slice(&found)
        .map_err(|_| engine.refused(format!("`{path}` gives no mappings")))?;
    for (name, index) in indexes {
        let mut meta = index.mappings.meta;
        let mark = meta.get(mappings::MARK).map(|mark| &mark["table_id"]);
        let is_ours = mark.map(|id| id.as_str() == receipt.table_id.as_deref());
        match is_ours {
            Some(true) => {}
            Some(false) => return Err(Error::OtherTables { index: name }),
            None => {
                meta.insert(mappings::MARK.to_owned(), marked(receipt));
                let mapping = json!({ "_meta": meta });
                let put = put(engine, &format!("{name}/_mapping"), &mapping).await?;
                engine.accepted(put).await?;
            }
        }
    }
    Ok(())
}

/// The documents of an index that are of earlier versions, by their identifiers.
pub(super) struct Stale<'a> {
    engine: &'a SearchEngine,
    index: &'a str,
    before: u64,
    /// The last that was given.
    after: Option<String>,
}

impl<'a> Stale<'a> {
    /// Those of versions before this one. What was written until now is looked at.
    pub(super) async fn before(
        engine: &'a SearchEngine,
        index: &'a str,
        before: u64,
    ) -> Result<Self> {
        let refresh = engine.request(Method::POST, &format!("{index}/_refresh"));
        engine.accepted(engine.send(refresh).await?).await?;
        Ok(Self { engine, index, before, after: None })
    }

    /// Some more of them; `None` where there are none.
    pub(super) async fn more(&mut self) -> Result<Option<Vec<String>>> {
        #[derive(Deserialize)]
        struct Answer {
            hits: Hits,
        }
        #[derive(Deserialize)]
        struct Hits {
            hits: Vec<Hit>,
        }
        #[derive(Deserialize)]
        struct Hit {
            #[serde(rename = "_id")]
            id: String,
        }
        let mut question = json!({
            "size": AT_ONCE, "_source": false, "track_total_hits": false,
            "query": { "range": { "generation": { "lt": self.before } } },
            "sort": [{ "event_id": "asc" }],
        });
        if let Some(after) = &self.after {
            question["search_after"] = json!([after]);
        }
        let request = self
            .engine
            .request(Method::POST, &format!("{}/_search", self.index))
            .header(CONTENT_TYPE, "application/json")
            .body(question.to_string());
        let body = self.engine.accepted(self.engine.send(request).await?).await?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| self.engine.refused("this is no answer to `_search`".to_owned()))?;
        let ids: Vec<_> = answer.hits.hits.into_iter().map(|hit| hit.id).collect();
        self.after = ids.last().cloned();
        Ok((!ids.is_empty()).then_some(ids))
    }
}
