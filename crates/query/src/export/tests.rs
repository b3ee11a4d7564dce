//! Exports of small tables, read back.

use datafusion::{
    arrow::array::Array,
    prelude::{ParquetReadOptions, SessionContext},
};
use object_store::local::LocalFileSystem;
use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::{
    Embed, Embedder,
    testing::{Lake, more_events},
};

fn place(uri: &str) -> Place {
    Place::new(Arc::new(LocalFileSystem::new()), uri).unwrap()
}

fn options(target: Target) -> ExportOptions {
    ExportOptions {
        target,
        since: Since::LastReceipt,
        index: "events".to_owned(),
        link: ExportOptions::MEDIA_FRAGMENT.to_owned(),
        thumbnail: None,
        embedder: None,
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
    assert!(
        names.iter().all(|name| ["speech", "language", "duration_ms", "thumbnail"].contains(name)
            || text.contains(name)),
        "{text}"
    );
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

#[tokio::test]
async fn another_destination_begins_with_everything() {
    let lake = Lake::with_a_night().await;
    let out = Out::new();
    let first = options(Target::Opensearch);
    let of_first = out.receipt(&lake, &first).await;
    let others = [
        ExportOptions { index: "others".to_owned(), ..first.clone() },
        ExportOptions { link: "https://site/{event_id}".to_owned(), ..first.clone() },
        ExportOptions {
            thumbnail: Some("https://site/{video_id}.jpg".to_owned()),
            ..first.clone()
        },
        options(Target::Elasticsearch),
    ];
    for other in &others {
        let receipt = out.receipt(&lake, other).await;
        assert_eq!((receipt.from_version, receipt.upserts), (None, 2), "{other:?}");
        assert_ne!(receipt.folder(), of_first.folder());
    }
    assert!(out.read(&of_first).contains("\"_index\":\"events\""), "its files are left alone");
    for known in others.iter().chain([&first]) {
        let again = out.export(&lake, known).await.unwrap();
        assert_eq!(again, Exported::UpToDate { version: 0 });
    }
    let place = out.place();
    let engine = SearchEngine::at("http://127.0.0.1:9", None).unwrap();
    let urls =
        [Destination::Folder(&place).url(), Destination::Engine(&engine, Some(&place)).url()];
    let names = urls.map(|url| Series::of(&first, "file:///lake", None, url));
    let [files, engine] = names.map(|series| Receipt::begin(&series, None, 0).folder());
    assert_ne!(files, engine);
}

#[tokio::test]
async fn tables_that_were_made_anew_are_exported_anew() {
    let lake = Lake::with_a_night().await;
    lake.add_a_second_night().await;
    let out = Out::new();
    let bulk = options(Target::Opensearch);
    assert_eq!(out.receipt(&lake, &bulk).await.to_version, 2);
    lake.make_anew().await;
    let anew = out.receipt(&lake, &bulk).await;
    assert_eq!((anew.from_version, anew.to_version, anew.upserts), (None, 0, 2));
}

#[rstest]
#[case::opensearch(
    Target::Opensearch,
    "{\"delete\":{\"_id\":\"ID\",\"_index\":\"events\",\"version\":1,\"version_type\":\"external_gte\"}}\n"
)]
#[case::elasticsearch(Target::Elasticsearch, "{\"delete\":{\"_id\":\"ID\"")]
#[case::quickwit(Target::Quickwit, "\"deleted\":true}\n")]
#[case::ndjson(Target::Ndjson, "{\"event_id\":\"ID\"")]
#[case::meilisearch(Target::Meilisearch, "[\"ID\"]")]
#[case::typesense(Target::Typesense, "event_id:[ID]\n")]
#[case::vespa(Target::Vespa, "{\"remove\":\"id:events:event::ID\"}\n")]
#[case::csv(Target::Csv, "ID,")]
#[tokio::test]
async fn what_has_gone_is_removed_in_the_targets_words(
    #[case] target: Target,
    #[case] expected: &str,
) {
    let lake = Lake::with_a_night().await;
    let out = Out::new();
    out.receipt(&lake, &options(target)).await;
    lake.add_a_second_night().await;
    let receipt = out.receipt(&lake, &options(target)).await;
    // The event that comes is the first of its video, as was the one that goes: it takes its place.
    assert_eq!((receipt.from_version, receipt.to_version), (Some(0), 2));
    lake.remove("events", "caption LIKE 'two%'").await;
    lake.publish("run-3", Some(3), None).await;
    let gone = out.receipt(&lake, &options(target)).await;
    assert_eq!((gone.upserts, gone.deletes), (0, 1));
    let id = eventide_schema::event_id(&eventide_schema::video_id("file:///a.mp4"), 0, 1);
    let expected = expected.replace("ID", &id).replace("\"version\":1", "\"version\":3");
    let text = out.read(&gone);
    assert!(text.contains(&expected), "{expected}: {text}");
}

#[tokio::test]
async fn parquet_is_read_back_as_it_was_written() {
    let lake = Lake::with_a_night().await;
    let out = Out::new();
    out.receipt(&lake, &options(Target::Parquet)).await;
    lake.remove("events", "caption LIKE 'two%'").await;
    lake.publish("run-2", Some(1), None).await;
    let gone = out.receipt(&lake, &options(Target::Parquet)).await;
    let file = out.folder.path().join(gone.parts[0].name.as_ref().unwrap());
    let context = SessionContext::new();
    let rows =
        context.read_parquet(file.to_str().unwrap(), ParquetReadOptions::default()).await.unwrap();
    let batches = rows.collect().await.unwrap();
    let names: Vec<_> = batches[0].schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, mappings::field_names().collect::<Vec<_>>());
    // The tables of this test tell changes by whole files: the other event is written again.
    let truths = documents::truths(&batches[0], "deleted").unwrap();
    let captions = documents::texts(&batches[0], "caption").unwrap();
    let removed = (0..captions.len()).filter(|row| truths.value(*row));
    assert_eq!(removed.map(|row| captions.value(row)).collect::<Vec<_>>(), ["two\nlines"]);
    assert_eq!((gone.upserts, gone.deletes), (1, 1));
}

#[tokio::test]
async fn everything_anew_leaves_no_file_of_a_video_that_has_gone() {
    let lake = Lake::with_a_night().await;
    let out = Out::new();
    let json_ld = options(Target::JsonLd);
    out.receipt(&lake, &json_ld).await;
    let folder = out.folder.path().join("json-ld");
    let name = format!("{}.jsonld", eventide_schema::video_id("file:///a.mp4"));
    let own = folder.join("about-this-folder.jsonld");
    std::fs::write(&own, "{}").unwrap();
    let version = lake.remove("events", "true").await;
    lake.publish("run-2", Some(version), None).await;
    let other_lake = Lake::with_a_night().await;
    let full = ExportOptions { since: Since::Full, ..json_ld };
    assert_eq!(out.receipt(&lake, &full).await.deletes, 1);
    assert!(!folder.join(&name).exists());
    assert!(own.exists(), "it is of no video");

    let stray = folder.join(format!("{}.jsonld", eventide_schema::video_id("file:///c.mp4")));
    std::fs::write(&stray, "{}").unwrap();
    out.receipt(&other_lake, &full).await;
    assert!(stray.exists(), "with files of two lakes, nobody knows whose it is");
}

#[tokio::test]
async fn parts_of_exports_that_never_ended_go() {
    let lake = Lake::with_a_night().await;
    let out = Out::new();
    let bulk = options(Target::Opensearch);
    let first = out.receipt(&lake, &bulk).await;
    lake.add_a_second_night().await;
    let series = out.folder.path().join("opensearch").join(&first.series);
    let stray = |versions: &str, hours: u64| {
        let file = series.join(versions).join("part-00000-abc.ndjson");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "of one that was killed").unwrap();
        let age = std::time::Duration::from_hours(hours);
        let file_times = std::fs::File::options().write(true).open(&file).unwrap();
        file_times.set_modified(std::time::SystemTime::now() - age).unwrap();
        file
    };
    let (old, at_work, newer) = (stray("0-1", 30), stray("full-1", 1), stray("0-9", 30));
    out.receipt(&lake, &bulk).await;
    assert!(!old.exists());
    assert!(at_work.exists() && newer.exists(), "somebody may be at it");
    assert!(!out.read(&first).is_empty(), "it has a receipt");
}

#[tokio::test]
async fn a_picture_is_named_by_its_template() {
    let lake = Lake::with_a_night().await;
    let out = Out::new();
    let thumbnail = Some("https://site/{video_id}.jpg".to_owned());
    let picture = format!("https://site/{}.jpg", eventide_schema::video_id("file:///a.mp4"));
    let documents = ExportOptions { thumbnail: thumbnail.clone(), ..options(Target::Ndjson) };
    assert!(out.read(&out.receipt(&lake, &documents).await).contains(&picture));
    out.receipt(&lake, &ExportOptions { thumbnail, ..options(Target::JsonLd) }).await;
    let name = format!("json-ld/{}.jsonld", eventide_schema::video_id("file:///a.mp4"));
    let text = std::fs::read_to_string(out.folder.path().join(name)).unwrap();
    let object: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(object["thumbnailUrl"], picture);
    assert!(object["uploadDate"].as_str().unwrap().ends_with('Z'), "{object}");
}

/// Three numbers a caption: how long it is, how many words it has, and 1.
fn embedder() -> Embedder {
    let embed: Embed = Arc::new(|texts: &[&str]| {
        #[expect(clippy::cast_precision_loss, reason = "captions are short")]
        let count = |count: usize| count as f32;
        let numbers = texts
            .iter()
            .flat_map(|text| [count(text.len()), count(text.split_whitespace().count()), 1.0]);
        Ok(numbers.collect())
    });
    Embedder { model: "a test".to_owned(), dimensions: 3, embed }
}

#[rstest]
#[case::elasticsearch(Target::Elasticsearch, "\"embedding\":[9.0,2.0,1.0]")]
#[case::vespa(Target::Vespa, "\"embedding\":[9.0,2.0,1.0]")]
#[case::typesense(Target::Typesense, "\"embedding\":[9.0,2.0,1.0]")]
#[case::meilisearch(Target::Meilisearch, "\"_vectors\":{\"captions\":[9.0,2.0,1.0]}")]
#[tokio::test]
async fn captions_have_vectors(#[case] target: Target, #[case] expected: &str) {
    let lake = Lake::with_a_night().await;
    let out = Out::new();
    let options = ExportOptions { embedder: Some(embedder()), ..options(target) };
    let text = out.read(&out.receipt(&lake, &options).await);
    assert!(text.contains(expected), "{text}");
    lake.remove("events", "caption LIKE 'two%'").await;
    lake.publish("run-2", Some(1), None).await;
    assert_eq!(out.receipt(&lake, &options).await.deletes, 1);
}

#[tokio::test]
async fn parquet_has_vectors_of_one_length() {
    let lake = Lake::with_a_night().await;
    let out = Out::new();
    let options = ExportOptions { embedder: Some(embedder()), ..options(Target::Parquet) };
    let receipt = out.receipt(&lake, &options).await;
    let file = out.folder.path().join(receipt.parts[0].name.as_ref().unwrap());
    let context = SessionContext::new();
    let rows =
        context.read_parquet(file.to_str().unwrap(), ParquetReadOptions::default()).await.unwrap();
    let column = rows.schema().as_arrow().field_with_name("embedding").unwrap().clone();
    assert!(column.data_type().to_string().contains('3'), "{column}");
    assert_eq!(rows.count().await.unwrap(), 2);
}

#[rstest]
#[case::csv(Target::Csv)]
#[case::quickwit(Target::Quickwit)]
#[case::subtitles(Target::Srt)]
#[tokio::test]
async fn what_has_no_place_for_vectors_is_told(#[case] target: Target) {
    let lake = Lake::with_a_night().await;
    let options = ExportOptions { embedder: Some(embedder()), ..options(target) };
    let error = Out::new().export(&lake, &options).await.unwrap_err();
    assert!(matches!(error, Error::NoVectors { .. }), "{error}");
}
