//! What search engines should know of the fields of a document: mappings, schemas, settings.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{
    Target,
    embeddings::{COLUMN, MEILISEARCH},
};

/// What a field is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Searched word by word.
    Text,
    /// Looked up and grouped by as a whole.
    Keyword,
    /// Kept and shown, never searched.
    Shown,
    Long,
    Float,
    Moment,
    Truth,
}

/// The fields of a document, in the order in which exports write them.
const FIELDS: [(&str, Kind); 23] = [
    ("event_id", Kind::Keyword),
    ("video_id", Kind::Keyword),
    ("uri", Kind::Keyword),
    ("source_version", Kind::Shown),
    ("window_index", Kind::Long),
    ("event_index", Kind::Long),
    ("start_ms", Kind::Long),
    ("end_ms", Kind::Long),
    ("time_resolution_ms", Kind::Long),
    ("caption", Kind::Text),
    ("speech", Kind::Text),
    ("language", Kind::Keyword),
    ("score", Kind::Float),
    ("source", Kind::Keyword),
    ("model_id", Kind::Keyword),
    ("model_digest", Kind::Keyword),
    ("run_id", Kind::Keyword),
    ("link", Kind::Shown),
    ("thumbnail", Kind::Shown),
    ("duration_ms", Kind::Long),
    ("generation", Kind::Long),
    ("updated_at", Kind::Moment),
    ("deleted", Kind::Truth),
];

/// Where the mapping of an index says which events the index holds.
pub(super) const MARK: &str = "eventide";

/// How long a deleted document is remembered, so that an older load cannot bring it back.
const DELETES_REMEMBERED: &str = "7d";

/// The names of all fields, in the order in which exports write them.
pub fn field_names() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|(name, _)| *name)
}

/// What the engine of a target is told before the first document, with vectors of so many numbers, if any. `None`
/// where there is nothing to tell.
#[must_use]
pub fn of(target: Target, dimensions: Option<usize>) -> Option<String> {
    let mut object = match target {
        Target::Opensearch | Target::Elasticsearch => elastic(),
        Target::Quickwit => quickwit(),
        Target::Meilisearch => meilisearch(),
        Target::Typesense => typesense(),
        Target::Vespa => return Some(vespa(dimensions)),
        _ => return None,
    };
    if let Some(dimensions) = dimensions {
        add_vectors(&mut object, target, dimensions);
    }
    Some(format!("{object:#}\n"))
}

/// Tells of the field of vectors, whose nearest are found by the angle between them.
fn add_vectors(object: &mut Value, target: Target, dimensions: usize) {
    match target {
        Target::Elasticsearch => {
            object["mappings"]["properties"][COLUMN] = json!({
                "type": "dense_vector", "dims": dimensions, "index": true, "similarity": "cosine",
            });
        }
        Target::Opensearch => {
            object["settings"]["index"]["knn"] = Value::from(true);
            object["mappings"]["properties"][COLUMN] = json!({
                "type": "knn_vector", "dimension": dimensions,
                "method": { "name": "hnsw", "engine": "lucene", "space_type": "cosinesimil" },
            });
        }
        Target::Meilisearch => {
            let [_, name] = MEILISEARCH;
            object["embedders"] =
                json!({ name: { "source": "userProvided", "dimensions": dimensions } });
        }
        Target::Typesense => {
            let field = json!({
                "name": COLUMN, "type": "float[]", "num_dim": dimensions, "optional": true,
            });
            if let Some(fields) = object["fields"].as_array_mut() {
                fields.push(field);
            }
        }
        _ => {}
    }
}

/// The files that are published, by name.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    let targets = Target::ALL.into_iter();
    let file = |(name, target)| {
        let extension = if target == Target::Vespa { "sd" } else { "json" };
        of(target, None).map(|text| (format!("{name}.{extension}"), text))
    };
    targets.filter_map(file).collect()
}

fn names(wanted: &[Kind]) -> Vec<&'static str> {
    let fields = FIELDS.iter().filter(|(_, kind)| wanted.contains(kind));
    fields.map(|(name, _)| *name).collect()
}

/// Index settings and mappings. A field that is not known is an error, not a guess.
fn elastic() -> Value {
    let property = |kind| match kind {
        Kind::Text => {
            json!({ "type": "text", "analyzer": "english", "fields": { "exact": { "type": "text", "analyzer": "standard" } } })
        }
        Kind::Keyword => json!({ "type": "keyword" }),
        Kind::Shown => json!({ "type": "keyword", "index": false, "doc_values": false }),
        Kind::Long => json!({ "type": "long" }),
        Kind::Float => json!({ "type": "float" }),
        Kind::Moment => json!({ "type": "date" }),
        Kind::Truth => json!({ "type": "boolean" }),
    };
    let properties: Map<_, _> =
        FIELDS.iter().map(|(name, kind)| ((*name).to_owned(), property(*kind))).collect();
    json!({
        "settings": { "index": { "gc_deletes": DELETES_REMEMBERED } },
        "mappings": { "dynamic": "strict", "properties": properties },
    })
}

/// An index of all generations: of an event, the document of the highest `generation` counts, unless `deleted`.
fn quickwit() -> Value {
    let mapping = |(name, kind): &(&str, Kind)| {
        let mut field = match kind {
            Kind::Text => {
                json!({ "type": "text", "tokenizer": "en_stem", "record": "position", "stored": true })
            }
            Kind::Keyword => json!({ "type": "text", "tokenizer": "raw", "fast": true }),
            Kind::Shown => json!({ "type": "text", "indexed": false }),
            Kind::Long => json!({ "type": "i64", "fast": true }),
            Kind::Float => json!({ "type": "f64", "fast": true }),
            Kind::Moment => json!({
                "type": "datetime", "input_formats": ["rfc3339"], "fast": true,
                "fast_precision": "seconds",
            }),
            Kind::Truth => json!({ "type": "bool", "fast": true }),
        };
        field["name"] = Value::from(*name);
        field
    };
    json!({
        "version": "0.8",
        "index_id": "events",
        "doc_mapping": {
            "mode": "strict",
            "field_mappings": FIELDS.iter().map(mapping).collect::<Vec<_>>(),
            "timestamp_field": "updated_at",
        },
        "search_settings": { "default_search_fields": names(&[Kind::Text]) },
        "indexing_settings": { "commit_timeout_secs": 30 },
    })
}

/// Settings; the primary key is given when documents are added: `?primaryKey=event_id`.
fn meilisearch() -> Value {
    let filterable = [Kind::Keyword, Kind::Long, Kind::Float, Kind::Moment, Kind::Truth];
    json!({
        "searchableAttributes": names(&[Kind::Text]),
        "filterableAttributes": names(&filterable),
        "sortableAttributes": names(&[Kind::Long, Kind::Float, Kind::Moment]),
    })
}

fn typesense() -> Value {
    let field = |(name, kind): &(&str, Kind)| {
        let of = match kind {
            Kind::Text | Kind::Keyword | Kind::Shown | Kind::Moment => "string",
            Kind::Long => "int64",
            Kind::Float => "float",
            Kind::Truth => "bool",
        };
        let mut field = json!({ "name": name, "type": of, "optional": *name != "event_id" });
        match kind {
            Kind::Text => field["stem"] = Value::from(true),
            Kind::Shown => field["index"] = Value::from(false),
            Kind::Keyword => field["facet"] = Value::from(true),
            Kind::Long | Kind::Float | Kind::Truth | Kind::Moment => {}
        }
        field
    };
    json!({ "name": "events", "fields": FIELDS.iter().map(field).collect::<Vec<_>>() })
}

/// A schema in Vespa's own language.
fn vespa(dimensions: Option<usize>) -> String {
    let field = |(name, kind): &(&str, Kind)| {
        let (of, how) = match kind {
            Kind::Text => ("string", "indexing: summary | index\n            index: enable-bm25"),
            Kind::Keyword => ("string", "indexing: summary | attribute"),
            Kind::Shown | Kind::Moment => ("string", "indexing: summary"),
            Kind::Long => ("long", "indexing: summary | attribute"),
            Kind::Float => ("float", "indexing: summary | attribute"),
            Kind::Truth => ("bool", "indexing: summary | attribute"),
        };
        format!("        field {name} type {of} {{\n            {how}\n        }}\n")
    };
    let mut fields: String = FIELDS.iter().map(field).collect();
    let mut nearest = String::new();
    if let Some(dimensions) = dimensions {
        let kind = format!("tensor<float>(x[{dimensions}])");
        let _ = write!(
            // cannot fail
            fields,
            "        field {COLUMN} type {kind} {{\n            indexing: attribute | index\n            attribute {{\n                \
             distance-metric: angular\n            }}\n        }}\n"
        );
        nearest = format!(
            "    rank-profile nearest {{\n        inputs {{\n            query(q) {kind}\n        }}\n        first-phase {{\n            \
             expression: closeness(field, {COLUMN})\n        }}\n    }}\n"
        );
    }
    let text = names(&[Kind::Text]);
    let rank = text.iter().map(|name| format!("bm25({name})")).collect::<Vec<_>>().join(" + ");
    format!(
        "schema event {{\n    document event {{\n{fields}    }}\n    fieldset default {{\n        fields: {}\n    }}\n    \
         rank-profile default {{\n        first-phase {{\n            expression: {rank}\n        }}\n    }}\n{nearest}}}\n",
        text.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::can_have_vectors;

    #[test]
    fn an_engine_that_takes_vectors_is_told_how_long_they_are() {
        for (name, target) in Target::ALL {
            let Some(plain) = of(target, None) else { continue };
            let told = of(target, Some(384)).unwrap();
            assert_eq!(told.contains("384"), can_have_vectors(target), "{name}: {told}");
            assert!(!plain.contains("384"));
        }
    }

    #[test]
    fn each_engine_knows_each_field() {
        let files = files();
        assert_eq!(files.len(), 6);
        for (file, text) in files {
            if file == "meilisearch.json" {
                continue; // it takes any field, and is told of those that are searched, filtered and sorted by
            }
            for name in field_names() {
                assert!(text.contains(name), "{file}: {name}");
            }
        }
    }
}
