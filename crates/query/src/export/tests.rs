//! Exports of small tables, read back.

use object_store::local::LocalFileSystem;
use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::testing::{Lake, more_events};

fn place(uri: &str) -> Place {
    Place::new(Arc::new(LocalFileSystem::new()), uri).unwrap()
}

fn options(target: Target) -> ExportOptions {
    ExportOptions {
        target,
        since: Since::LastReceipt,
        index: "events".to_owned(),
        link: ExportOptions::MEDIA_FRAGMENT.to_owned(),
        part_bytes: 1 << 20,
    }
}

struct Out {
    folder: TempDir,
}

impl Out {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    fn place(&self) -> Place {
        place(Url::from_directory_path(self.folder.path()).unwrap().as_str())
    }

    async fn export(&self, lake: &Lake, options: &ExportOptions) -> Result<Exported> {
        let place_of = self.place();
        let destination = Destination::Folder(&place_of);
        export(&place(&lake.uri()), options, destination, &mut |_| {}).await
    }

    async fn receipt(&self, lake: &Lake, options: &ExportOptions) -> Receipt {
        match self.export(lake, options).await.unwrap_or_else(|e| panic!("{}", e.with_causes())) {
            Exported::Done(receipt) => *receipt,
            other => panic!("{other:?}"),
        }
    }

    fn read(&self, receipt: &Receipt) -> String {
        let read = |part: &PartReceipt| {
            std::fs::read_to_string(self.folder.path().join(part.name.as_ref().unwrap())).unwrap()
        };
        receipt.parts.iter().map(read).collect()
    }
}

#[tokio::test]
async fn everything_then_nothing_then_the_difference() {
    let lake = Lake::with_a_night().await;
    let out = Out::new();
    let bulk = options(Target::Opensearch);
    let first = out.receipt(&lake, &bulk).await;
    assert_eq!(
        (first.from_version, first.to_version, first.upserts, first.deletes),
        (None, 0, 2, 0)
    );
    let text = out.read(&first);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0]["index"]["_id"], lines[1]["event_id"]);
    assert_eq!(lines[0]["index"]["version_type"], "external_gte");
    assert_eq!(lines[1]["link"], "file:///a.mp4#t=0.0,1.5");
    assert_eq!(lines[1]["updated_at"], "2023-11-14T22:13:21Z");
    let again = out.export(&lake, &bulk).await.unwrap();
    assert_eq!(again, Exported::UpToDate { version: 0 });

    let second = lake.append("events", more_events()).await;
    lake.publish("run-2", Some(second), None).await;
    let difference = out.receipt(&lake, &bulk).await;
    let versions = (difference.from_version, difference.to_version, difference.upserts);
    assert_eq!(versions, (Some(0), 1, 1));
    let text = out.read(&difference);
    assert!(text.contains("half of a night") && text.contains("\"version\":1"), "{text}");
}

#[tokio::test]
async fn the_same_export_gives_the_same_bytes_and_leaves_no_others() {
    let lake = Lake::with_a_night().await;
    let out = Out::new();
    let full = ExportOptions { since: Since::Full, ..options(Target::Ndjson) };
    let first = out.receipt(&lake, &full).await;
    let stale = out.folder.path().join(first.folder()).join("part-00009-abc.ndjson");
    std::fs::write(&stale, "of an earlier program").unwrap();
    let other = ExportOptions { part_bytes: 1, ..full.clone() };
    let parts = out.receipt(&lake, &other).await;
    assert_eq!((parts.parts.len(), parts.bytes), (2, first.bytes));
    assert!(!stale.exists());
    assert_eq!(out.receipt(&lake, &full).await, first);
}

#[rstest]
#[case::quickwit(Target::Quickwit, "\"deleted\":false")]
#[case::meilisearch(Target::Meilisearch, "\"event_id\"")]
#[case::typesense(Target::Typesense, "{\"id\":")]
#[case::vespa(Target::Vespa, "{\"put\":\"id:events:event::")]
#[case::csv(Target::Csv, "event_id,video_id,uri")]
#[tokio::test]
async fn speaks_the_targets_language(#[case] target: Target, #[case] expected: &str) {
    let lake = Lake::with_a_night().await;
    let out = Out::new();
    let receipt = out.receipt(&lake, &options(target)).await;
    assert_eq!((receipt.upserts, receipt.parts.len()), (2, 1));
    let text = out.read(&receipt);
    assert!(text.contains(expected), "{text}");
    let names: Vec<_> = mappings::field_names().collect();
    assert!(names.iter().all(|name| ["speech", "language", "duration_ms"].contains(name) || text.contains(name)), "{text}");
}

#[tokio::test]
async fn a_file_a_video() {
    let lake = Lake::with_a_night().await;
    let out = Out::new();
    let receipt = out.receipt(&lake, &options(Target::JsonLd)).await;
    assert_eq!((receipt.upserts, receipt.deletes), (1, 0));
    let name = format!("json-ld/{}.jsonld", eventide_schema::video_id("file:///a.mp4"));
    let text = std::fs::read_to_string(out.folder.path().join(name)).unwrap();
    let object: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(object["hasPart"].as_array().unwrap().len(), 2, "{text}");
}

#[tokio::test]
async fn nothing_is_published_of_what_was_never_said() {
    let lake = Lake::with_a_night().await;
    let out = Out::new();
    let exported = out.export(&lake, &options(Target::Srt)).await.unwrap();
    assert_eq!(exported, Exported::NothingPublished);
}

#[tokio::test]
async fn a_version_of_other_tables_is_told() {
    let lake = Lake::with_a_night().await;
    let out = Out::new();
    let since = ExportOptions { since: Since::Version(7), ..options(Target::Ndjson) };
    let error = out.export(&lake, &since).await.unwrap_err();
    assert!(matches!(error, Error::NewerThanTables { given: 7, newest: 0 }), "{error}");
}
