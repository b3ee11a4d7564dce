//! `eventide schemas`: the published contracts, generated from the Rust types.

use std::{fs, path::Path, process::ExitCode};

use arrow::datatypes::Schema;
use eventide_model::manifest::Manifest;
use eventide_model::sentence::SentenceManifest;
use eventide_model::speech::SpeechManifest;
use eventide_schema::tables::{
    events_schema, feedback_schema, runs_schema, transcripts_schema, videos_schema,
};
use eventide_training::plan::Plan;
use miette::{IntoDiagnostic, WrapErr};
use schemars::schema_for;
use serde_json::{Value, json};

use crate::{commands::eval::EvalReport, job::JobFile};

/// The columns of a table, as JSON that a person can read.
fn columns(table: &str, key: &[&str], schema: &Schema) -> Value {
    let columns: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| {
            json!({
                "name": field.name(),
                "type": field.data_type().to_string(),
                "nullable": field.is_nullable(),
            })
        })
        .collect();
    json!({ "table": table, "key": key, "columns": columns })
}

/// Every file, by its path below the folder of schemas.
fn all() -> Vec<(String, String)> {
    let own = ours().into_iter().map(|(name, schema)| (name.to_owned(), format!("{schema:#}\n")));
    let search = eventide_query::export::mappings::files();
    own.chain(search.into_iter().map(|(name, text)| (format!("search/{name}"), text))).collect()
}

/// Every schema of ours under its file name.
fn ours() -> Vec<(&'static str, Value)> {
    vec![
        ("events.json", columns("events", &["event_id"], &events_schema())),
        ("videos.json", columns("videos", &["video_id"], &videos_schema())),
        (
            "transcripts.json",
            columns("transcripts", &["video_id", "sentence_index"], &transcripts_schema()),
        ),
        ("runs.json", columns("runs", &["run_id", "part"], &runs_schema())),
        ("feedback.json", columns("feedback", &[], &feedback_schema())),
        ("openapi.json", eventide_query::open_api()),
        ("job.schema.json", schema_for!(JobFile).to_value()),
        ("eval.schema.json", schema_for!(EvalReport).to_value()),
        ("train.schema.json", schema_for!(Plan).to_value()),
        ("bundle.schema.json", schema_for!(Manifest).to_value()),
        ("speech.schema.json", schema_for!(SpeechManifest).to_value()),
        ("sentence.schema.json", schema_for!(SentenceManifest).to_value()),
    ]
}

pub(super) fn run(out: &Path) -> miette::Result<ExitCode> {
    let search = out.join("search");
    fs::create_dir_all(&search)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot make `{}`", search.display()))?;
    for (name, text) in all() {
        let path = out.join(name);
        fs::write(&path, text)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_schemas_are_those_of_the_code() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
        for (name, text) in all() {
            let published = fs::read_to_string(folder.join(&name)).unwrap_or_default();
            assert!(published == text, "schemas/{name} is stale: run `cargo xtask schemas`");
        }
    }
}
