//! The index over small lakes: built, continued, asked.

use std::sync::{Mutex, PoisonError};

use datafusion::arrow::{
    array::{Array, AsArray},
    datatypes::{Float32Type, Float64Type},
};
use futures::TryStreamExt;
use rstest::rstest;

use super::*;
use crate::{
    AsOf, Embed, Options, Session,
    testing::{Lake, events_like, events_of, more_events},
};

/// How many rows a statement gives, and the first column of all of them.
async fn asked(session: &Session, statement: &str) -> (usize, Vec<String>) {
    let rows = session.query(statement).await.unwrap_or_else(|e| panic!("{}", e.with_causes()));
    let batches: Vec<RecordBatch> = rows.try_collect().await.unwrap();
    let mut texts: Vec<String> = Vec::new();
    for batch in &batches {
        let column = datafusion::arrow::compute::cast(
            batch.column(0),
            &datafusion::arrow::datatypes::DataType::Utf8,
        );
        let column = column.unwrap();
        texts
            .extend(column.as_string::<i32>().iter().map(|text| text.unwrap_or("NULL").to_owned()));
    }
    texts.sort();
    (texts.len(), texts)
}

/// A session that may search, by indexes beside the tables.
fn searching(session: Session, lake: &Lake) -> Session {
    session.enable_search(words_alone(lake));
    session
}

/// Indexes beside the tables.
fn words_alone(lake: &Lake) -> SearchOptions {
    SearchOptions::below(lake.file("index"))
}

async fn two_nights() -> Lake {
    let lake = Lake::with_a_night().await;
    lake.add_a_second_night().await;
    lake
}

fn captions(index: &SearchIndex, words: &str) -> Vec<String> {
    captions_where(index, words, &Filters::default())
}

fn captions_where(index: &SearchIndex, words: &str, filters: &Filters) -> Vec<String> {
    let found =
        index.search(words, filters, 10, 0).unwrap_or_else(|e| panic!("{}", e.with_causes()));
    assert_eq!(found.total, found.rows.num_rows(), "{words}");
    let captions = found.rows.column_by_name("caption").unwrap().as_string::<i32>();
    let mut captions: Vec<_> = captions.iter().map(|c| c.unwrap().to_owned()).collect();
    captions.sort();
    captions
}

async fn index_of(session: &Session, lake: &Lake) -> SearchIndex {
    let index = session.search_index(&words_alone(lake)).await;
    index.unwrap_or_else(|error| panic!("{}", error.with_causes()))
}

#[rstest]
#[case::stem("pouring", 1)]
#[case::both("man water", 1)]
#[case::one_missing("man oil", 0)]
#[case::or("lines OR water", 2)]
#[case::not("NOT lines AND water", 1)]
#[case::not_with_a_sign("water -lines", 1)]
#[case::phrase("\"two lines\"", 1)]
#[case::wrong_phrase("\"lines two\"", 0)]
#[case::near("water NEAR man", 1)]
#[case::not_so_near("slowly NEAR/1 man", 0)]
#[case::prefix("wat*", 1)]
#[case::field("caption:lines", 1)]
#[case::other_field("speech:lines", 0)]
#[case::whole("", 2)]
#[case::span("start_ms:[1000 TO 100000]", 1)]
#[tokio::test]
async fn finds(#[case] words: &str, #[case] hits: usize) {
    let lake = Lake::with_a_night().await;
    let index = index_of(&lake.open().await.unwrap(), &lake).await;
    assert_eq!(captions(&index, words).len(), hits, "{words}");
}

#[rstest]
#[case::open_quote("\"water")]
#[case::brackets("((((((((((((((((((((((((((a")]
#[case::operators("AND OR NOT")]
#[case::unknown_field("colour:red")]
#[case::only_without("-water")]
#[case::long_expression(&"(a OR ".repeat(500))]
#[case::wrong_type("start_ms:soon")]
#[tokio::test]
async fn hostile_words_are_an_error(#[case] words: &str) {
    let lake = Lake::with_a_night().await;
    let index = index_of(&lake.open().await.unwrap(), &lake).await;
    let answer = index.search(words, &Filters::default(), 10, 0);
    assert!(
        matches!(answer, Err(Error::SearchQuery { .. })) || words == "-water" && answer.is_ok(),
        "{words}"
    );
}

#[tokio::test]
async fn a_second_night_that_removes_and_adds_equals_a_rebuild() {
    let lake = Lake::with_a_night().await;
    let first = index_of(&lake.open().await.unwrap(), &lake).await;
    assert_eq!((first.version(), captions(&first, "night").len()), (Some(0), 0));
    lake.add_a_second_night().await;
    let session = lake.open().await.unwrap();
    let second = index_of(&session, &lake).await;
    assert_eq!(second.version(), Some(2));
    let anew = session.search_index(&SearchOptions::below(lake.file("another"))).await.unwrap();
    for words in ["night", "water", "lines", "*"] {
        assert_eq!(captions(&second, words), captions(&anew, words), "{words}");
    }
    assert_eq!(captions(&second, ""), ["half of a night", "two\nlines"]);
    assert!(captions(&first, "night").is_empty(), "what was opened stays as it was");
}

#[tokio::test]
async fn events_of_a_video_are_those_of_the_table() {
    let lake = two_nights().await;
    let session = lake.open().await.unwrap();
    let index = index_of(&session, &lake).await;
    let video_id = eventide_schema::video_id("file:///a.mp4");
    let found = index.of_video(&video_id).unwrap();
    let statement = "SELECT * FROM events ORDER BY start_ms, end_ms, event_id";
    let rows = session.query(statement).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    let whole = |batches: &[RecordBatch]| {
        let schema = eventide_schema::tables::events_schema();
        let cast = |batch: &RecordBatch| {
            let columns = batch.columns().iter().zip(schema.fields());
            let columns = columns.map(|(column, field)| {
                datafusion::arrow::compute::cast(column, field.data_type()).unwrap()
            });
            RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
        };
        let batches: Vec<_> = batches.iter().map(cast).collect();
        datafusion::arrow::compute::concat_batches(&schema, &batches).unwrap()
    };
    assert_eq!((found.num_rows(), whole(&[found])), (2, whole(&rows)));
    assert_eq!(index.of_video("nothing").unwrap().num_rows(), 0);
}

#[tokio::test]
async fn filters_leave_out() {
    let lake = Lake::with_a_night().await;
    let index = index_of(&lake.open().await.unwrap(), &lake).await;
    let count = |filters: Filters| captions_where(&index, "", &filters).len();
    let text = |value: &str| Some(value.to_owned());
    assert_eq!(count(Filters { run_id: text("run-1"), ..Filters::default() }), 2);
    assert_eq!(count(Filters { run_id: text("run-2"), ..Filters::default() }), 0);
    assert_eq!(count(Filters { min_score: Some(-0.6), ..Filters::default() }), 1);
    assert_eq!(count(Filters { min_score: Some(-0.4), ..Filters::default() }), 0);
    assert_eq!(count(Filters { min_duration_ms: Some(1500), ..Filters::default() }), 2);
    assert_eq!(count(Filters { max_duration_ms: Some(1499), ..Filters::default() }), 0);
    let moment = 1_700_000_001_000_000;
    assert_eq!(count(Filters { since_us: Some(moment), ..Filters::default() }), 2);
    assert_eq!(count(Filters { until_us: Some(moment), ..Filters::default() }), 0);
}

#[tokio::test]
async fn sql_searches_and_matches() {
    let lake = Lake::with_a_night().await;
    let session = lake.open().await.unwrap();
    session.enable_search(words_alone(&lake));
    for (statement, rows) in [
        ("SELECT caption, bm25 FROM search('water NEAR man', 5)", 1),
        ("SELECT caption, bm25 FROM search('') WHERE start_ms > 0", 1),
        ("SELECT caption FROM events WHERE matches(caption, '\"two lines\"')", 1),
        ("SELECT caption FROM events WHERE matches(speech, 'water')", 0),
    ] {
        let stream =
            session.query(statement).await.unwrap_or_else(|e| panic!("{}", e.with_causes()));
        let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), rows, "{statement}");
        for batch in
            batches.iter().filter(|batch| statement.contains("NEAR") && batch.num_rows() > 0)
        {
            assert!(batch.column(1).as_primitive::<Float32Type>().value(0) > 0.0);
        }
    }
    let wrong = session.query("SELECT * FROM search('\"open')").await.err().unwrap();
    assert!(wrong.with_causes().contains("cannot understand"), "{}", wrong.with_causes());
}

#[tokio::test]
async fn who_asks_about_a_night_gets_no_other() {
    let lake = Lake::with_a_night().await;
    let opened_before = lake.open().await.unwrap();
    lake.add_a_second_night().await;
    let newest = searching(lake.open().await.unwrap(), &lake);
    let captions = "SELECT caption FROM search('')";
    assert_eq!(asked(&newest, captions).await.1, ["half of a night", "two\nlines"]);
    let earlier = lake.open_as_of(&AsOf::parse("run-1")).await.unwrap();
    for session in [opened_before, earlier] {
        let session = searching(session, &lake);
        let expected = ["a man pours \"water\", slowly", "two\nlines"];
        assert_eq!(asked(&session, captions).await.1, expected);
        let night = "SELECT caption FROM events WHERE matches(caption, 'night OR water')";
        assert_eq!(asked(&session, night).await.1, expected[..1]);
    }
    assert_eq!(asked(&newest, captions).await.0, 2);
}

#[tokio::test]
async fn indexes_of_earlier_nights_do_not_pile_up() {
    let lake = Lake::with_a_night().await;
    for night in 0..8 {
        let version = lake.append("events", more_events()).await;
        lake.publish(&format!("run-{}", night + 2), Some(version), None).await;
    }
    index_of(&lake.open().await.unwrap(), &lake).await;
    for night in 1..=8 {
        let session = lake.open_as_of(&AsOf::parse(&format!("run-{night}"))).await.unwrap();
        let index = index_of(&session, &lake).await;
        assert_eq!(captions_in(&index), night + 1);
    }
    let folders = std::fs::read_dir(lake.file("index")).unwrap().count();
    assert_eq!(folders, 5, "that of the newest night, and four more");
}

fn captions_in(index: &SearchIndex) -> usize {
    index.count("").unwrap()
}

#[rstest]
#[case::a_word("matches(caption, 'water')")]
#[case::either("matches(caption, 'water') OR start_ms > 0")]
#[case::none("matches(caption, 'elephant')")]
#[case::not("NOT matches(caption, 'water')")]
#[case::all("matches(caption, '')")]
#[case::and("matches(caption, 'water') AND matches(caption, 'man') AND start_ms = 0")]
#[case::null("matches(speech, 'water')")]
#[case::not_null("NOT matches(speech, 'water')")]
#[case::unknown("matches(speech, 'water') IS NULL")]
#[case::of_an_alias("matches(e.caption, 'water')")]
#[case::in_a_question("event_id IN (SELECT event_id FROM events WHERE matches(caption, 'lines'))")]
#[case::a_prefix("matches(caption, 'wat* OR \"two lines\"')")]
#[tokio::test]
async fn the_index_says_what_a_look_at_each_text_says(#[case] condition: &str) {
    let lake = two_nights().await;
    let (by_index, by_text) =
        (searching(lake.open().await.unwrap(), &lake), lake.open().await.unwrap());
    let statement = format!("SELECT caption FROM events e WHERE {condition}");
    assert_eq!(asked(&by_index, &statement).await, asked(&by_text, &statement).await);
    let explained = format!("EXPLAIN {statement}");
    let plan = asked_plan(&by_index, &explained).await;
    let is_read_from_index = !plan.contains("matches(");
    assert!(is_read_from_index, "{plan}");
}

/// What `EXPLAIN` says.
async fn asked_plan(session: &Session, statement: &str) -> String {
    let rows = session.query(statement).await.unwrap();
    let batches: Vec<RecordBatch> = rows.try_collect().await.unwrap();
    let text = |batch: &RecordBatch| {
        batch.column(1).as_string::<i32>().iter().flatten().collect::<Vec<_>>().join("\n")
    };
    batches.iter().map(text).collect()
}

#[rstest]
#[case::not_the_table(
    "WITH events AS (SELECT 'water' AS caption) SELECT caption FROM events WHERE matches(caption, 'water')",
    1
)]
#[case::another_text(
    "SELECT c FROM (SELECT upper(caption) AS c FROM events) e WHERE matches(c, 'LINES')",
    1
)]
#[case::renamed(
    "SELECT caption FROM (SELECT uri AS caption, event_id FROM events) e WHERE matches(caption, 'file')",
    2
)]
#[case::an_earlier_night(
    "SELECT caption FROM events_at('run-1') WHERE matches(caption, 'water')",
    1
)]
#[case::two_tables(
    "SELECT a.caption FROM events a JOIN events b USING (event_id) WHERE matches(b.caption, 'lines')",
    1
)]
#[case::outer(
    "SELECT v.uri FROM videos v LEFT JOIN events e USING (video_id) WHERE matches(e.caption, 'lines') IS NULL",
    1
)]
#[case::as_a_column("SELECT matches(caption, 'lines') FROM events", 2)]
#[tokio::test]
async fn only_the_published_events_are_looked_up(#[case] statement: &str, #[case] rows: usize) {
    let lake = two_nights().await;
    let session = searching(lake.open().await.unwrap(), &lake);
    assert_eq!(asked(&session, statement).await.0, rows, "{statement}");
}

#[tokio::test]
async fn no_hit_is_left_out_behind_a_condition() {
    let lake = lake_of("a man pours water", 1500).await;
    let session = searching(lake.open().await.unwrap(), &lake);
    for (question, hits) in [
        ("search('water')", 1500),
        ("search('water') WHERE start_ms >= 90000", 1499),
        ("search('water', 10)", 10),
        ("search('water', 10) WHERE start_ms < 0", 0),
        ("search('water') LIMIT 3", 3),
        ("search('elephant')", 0),
    ] {
        let rows = asked(&session, &format!("SELECT caption FROM {question}")).await.0;
        assert_eq!(rows, hits, "{question}");
    }
    let best = "SELECT score FROM search('water') ORDER BY bm25 DESC LIMIT 1";
    assert_eq!(asked(&session, best).await.0, 1);
}

/// A lake of one night, of so many events with the same caption.
async fn lake_of(caption: &str, events: usize) -> Lake {
    let lake = Lake::new();
    let version = lake.append("events", events_like(caption, events)).await;
    lake.publish("run-1", Some(version), None).await;
    lake
}

#[rstest]
#[case::of_another_field("matches(caption, 'speech:water')")]
#[case::an_open_quote("matches(caption, '\"water')")]
#[tokio::test]
async fn words_that_say_nothing_of_the_text_are_an_error(#[case] condition: &str) {
    let lake = Lake::with_a_night().await;
    let statement = format!("SELECT caption FROM events WHERE {condition}");
    let searching = searching(lake.open().await.unwrap(), &lake);
    for session in [searching, lake.open().await.unwrap()] {
        let error = match session.query(&statement).await {
            Err(error) => error.with_causes(),
            Ok(rows) => rows.try_collect::<Vec<_>>().await.unwrap_err().to_string(),
        };
        assert!(error.contains("cannot understand the words"), "{error}");
    }
}

#[tokio::test]
async fn words_have_no_more_memory_than_other_questions() {
    let lake = Lake::with_a_night().await;
    let little = Options { memory_bytes: 1 << 20, ..Options::default() };
    let session = lake.open_with(&little).await.unwrap();
    let rows = session.query("SELECT caption FROM events WHERE matches(caption, 'water')").await;
    let error = rows.unwrap().try_collect::<Vec<_>>().await.unwrap_err().to_string();
    assert!(error.contains("matches"), "{error}");
    let lake = lake_of("water", 20_000).await;
    let session = searching(lake.open_with(&little).await.unwrap(), &lake);
    let asked = session.query("SELECT caption FROM events WHERE matches(caption, 'water')").await;
    let error = asked.map(drop).unwrap_err().with_causes();
    assert!(error.contains("matches") && error.contains("esources exhausted"), "{error}");
}

/// Words that mean alike, for whoever makes vectors in tests.
const THEMES: [&[&str]; 3] =
    [&["water", "drink", "thirsty"], &["lines", "poem"], &["zither", "music", "instrument"]];

/// A text encoder that knows a few words, and what it was given.
#[derive(Clone, Default)]
struct Reader(Arc<Mutex<Vec<String>>>);

impl Reader {
    fn options(&self, lake: &Lake) -> SearchOptions {
        let read = Arc::clone(&self.0);
        let embed: Embed = Arc::new(move |texts: &[&str]| {
            let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
            read.extend(texts.iter().map(|text| (*text).to_owned()));
            let numbers = texts.iter().flat_map(|text| {
                let has = |theme: &[&str]| theme.iter().any(|word| text.contains(word));
                let known = THEMES.map(|theme| if has(theme) { 2.0 } else { 0.0 });
                known.into_iter().chain([1.0])
            });
            Ok(numbers.collect())
        });
        let embedder = Embedder { model: "a test".to_owned(), dimensions: THEMES.len() + 1, embed };
        SearchOptions { embedder: Some(embedder), ..words_alone(lake) }
    }

    async fn index_of(&self, session: &Session, lake: &Lake) -> SearchIndex {
        let index = session.search_index(&self.options(lake)).await;
        index.unwrap_or_else(|error| panic!("{}", error.with_causes()))
    }

    /// What it was given since it was last asked, in the order of the alphabet.
    fn taken(&self) -> Vec<String> {
        let mut taken = std::mem::take(&mut *self.0.lock().unwrap());
        taken.sort();
        taken
    }
}

/// The captions of the hits, the best first.
fn ranked(index: &SearchIndex, words: &str, filters: &Filters) -> Vec<String> {
    let found = index.search(words, filters, 10, 0).unwrap();
    assert_eq!(found.total, found.rows.num_rows(), "{words}");
    let captions = found.rows.column_by_name("caption").unwrap().as_string::<i32>();
    captions.iter().map(|caption| caption.unwrap().to_owned()).collect()
}

#[tokio::test]
async fn captions_that_mean_alike_are_found() {
    let (lake, reader) = (Lake::with_a_night().await, Reader::default());
    let session = lake.open().await.unwrap();
    let index = reader.index_of(&session, &lake).await;
    let all = Filters::default();
    let (water, lines) = ("a man pours \"water\", slowly", "two\nlines");
    assert_eq!(ranked(&index, "somebody is thirsty", &all), [water, lines]);
    assert_eq!(ranked(&index, "a poem", &all), [lines, water]);
    for exact in ["\"thirsty\"", "thirsty OR poem", "caption:poem", "poem*", "NOT poem AND poem"] {
        assert!(ranked(&index, exact, &all).is_empty(), "{exact}");
    }
    let other = Filters { run_id: Some("run-2".to_owned()), ..all };
    assert!(ranked(&index, "a poem", &other).is_empty());

    let found = index.search("poem", &Filters::default(), 1, 0).unwrap();
    assert_eq!((found.total, found.rows.num_rows()), (2, 1));
    let column = |name: &str| found.rows.column_by_name(name).unwrap();
    let number = |name: &str| column(name).as_primitive::<Float32Type>().value(0);
    assert!(number("bm25").abs() < 1e-6 && (number("similarity") - 1.0).abs() < 1e-6);
    let rrf = column("rrf").as_primitive::<Float64Type>().value(0);
    assert!((rrf - 1.0 / 61.0).abs() < 1e-9, "{rrf}");
    let by_words = index_of(&session, &lake).await;
    assert!(ranked(&by_words, "poem", &Filters::default()).is_empty(), "words alone");
    let rows = by_words.search("lines", &Filters::default(), 10, 0).unwrap().rows;
    assert!(rows.column_by_name("similarity").unwrap().is_null(0));
}

#[tokio::test]
async fn sql_finds_what_means_alike() {
    let (lake, reader) = (Lake::with_a_night().await, Reader::default());
    let session = lake.open().await.unwrap();
    session.enable_search(reader.options(&lake));
    let best = "SELECT caption FROM search('thirsty') ORDER BY rrf DESC LIMIT 1";
    assert_eq!(asked(&session, best).await.1, ["a man pours \"water\", slowly"]);
    assert_eq!(asked(&session, "SELECT caption FROM search('thirsty', 1)").await.0, 1);
    assert_eq!(asked(&session, "SELECT caption FROM search('thirsty')").await.0, 2);
    let matches = "SELECT caption FROM events WHERE matches(caption, 'thirsty')";
    assert_eq!(asked(&session, matches).await.0, 0, "that is of words");
}

#[tokio::test]
async fn a_rare_word_is_first_where_others_are_nearer() {
    let (lake, reader) = (Lake::new(), Reader::default());
    let captions = ["music is played", "an instrument", "Zither, the finest", "music again"];
    let version = lake.append("events", events_of(&captions)).await;
    lake.publish("run-1", Some(version), None).await;
    let index = reader.index_of(&lake.open().await.unwrap(), &lake).await;
    let found = ranked(&index, "zither", &Filters::default());
    assert_eq!((found.len(), &*found[0]), (4, "Zither, the finest"), "{found:?}");
}

#[tokio::test]
async fn a_caption_is_embedded_once() {
    let (lake, reader) = (Lake::with_a_night().await, Reader::default());
    let first = lake.open().await.unwrap();
    reader.index_of(&first, &lake).await;
    assert_eq!(reader.taken(), ["a man pours \"water\", slowly", "two\nlines"]);
    lake.add_a_second_night().await;
    let index = reader.index_of(&lake.open().await.unwrap(), &lake).await;
    assert_eq!(reader.taken(), ["half of a night"]);
    let found = ranked(&index, "thirsty", &Filters::default());
    assert!(found.iter().all(|caption| !caption.contains("water")), "it has gone: {found:?}");
    reader.index_of(&first, &lake).await;
    assert_eq!(reader.taken(), ["thirsty"], "the question, and nothing of an earlier night");

    let lake = lake_of("a man pours water", 1500).await;
    reader.index_of(&lake.open().await.unwrap(), &lake).await;
    assert_eq!(reader.taken(), ["a man pours water"]);
}

#[tokio::test]
async fn pages_of_a_long_answer_have_each_event_once() {
    let (lake, reader) = (Lake::new(), Reader::default());
    let captions: Vec<_> = (0..1200).map(|n| format!("music {}", "la ".repeat(n % 7))).collect();
    let captions: Vec<_> = captions.iter().map(String::as_str).collect();
    let version = lake.append("events", events_of(&captions)).await;
    lake.publish("run-1", Some(version), None).await;
    let index = reader.index_of(&lake.open().await.unwrap(), &lake).await;
    let mut seen = std::collections::BTreeSet::new();
    for page in 0..12 {
        let found = index.search("music", &Filters::default(), 100, 100 * page).unwrap();
        assert_eq!(found.total, 1200);
        let ids = found.rows.column_by_name("event_id").unwrap().as_string::<i32>();
        seen.extend(ids.iter().map(|id| id.unwrap().to_owned()));
    }
    assert_eq!(seen.len(), 1200);
}

#[tokio::test]
async fn parts_that_are_many_become_one() {
    let (lake, reader) = (Lake::with_a_night().await, Reader::default());
    let session = lake.open().await.unwrap();
    reader.index_of(&session, &lake).await;
    reader.taken();
    let parts = |lake: &Lake| -> Vec<PathBuf> {
        let folders = std::fs::read_dir(lake.file("index")).unwrap().map(|it| it.unwrap().path());
        let is_ours = |path: &PathBuf| path.to_string_lossy().contains("vectors-");
        let folder = folders.into_iter().find(is_ours).unwrap();
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let [part] = &parts(&lake)[..] else { panic!("{:?}", parts(&lake)) };
    let bytes = std::fs::read(part).unwrap();
    for copy in 0..40 {
        // Some end in the middle of a record, as nothing that is written here does.
        let end = bytes.len() - copy % 3;
        std::fs::write(part.with_file_name(format!("{copy}.vectors")), &bytes[..end]).unwrap();
    }
    for _ in 0..2 {
        let index = reader.index_of(&session, &lake).await;
        assert_eq!(ranked(&index, "a poem", &Filters::default())[0], "two\nlines");
        assert_eq!((parts(&lake).len(), reader.taken().len()), (1, 1), "the question alone");
    }
}

#[tokio::test]
async fn a_text_encoder_that_fails_is_told_of() {
    let lake = Lake::with_a_night().await;
    let embed: Embed = Arc::new(|_| Ok(vec![1.0]));
    let embedder = Embedder { model: "wrong".to_owned(), dimensions: 4, embed };
    let options = SearchOptions { embedder: Some(embedder), ..words_alone(&lake) };
    let error = lake.open().await.unwrap().search_index(&options).await.unwrap_err();
    assert!(matches!(error, Error::Embed { .. }), "{error}");
}
