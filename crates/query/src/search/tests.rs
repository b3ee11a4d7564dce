//! The index over small lakes: built, continued, asked.

use datafusion::arrow::{array::AsArray, datatypes::Float32Type};
use futures::TryStreamExt;
use rstest::rstest;

use super::*;
use crate::{
    Session,
    testing::{Lake, more_events},
};

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
    let index = session.search_index(&lake.file("index")).await;
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
    lake.remove("events", "caption LIKE 'a man%'").await;
    let version = lake.append("events", more_events()).await;
    lake.publish("run-2", Some(version), None).await;
    let session = lake.open().await.unwrap();
    let second = index_of(&session, &lake).await;
    assert_eq!(second.version(), Some(2));
    let anew = session.search_index(&lake.file("another")).await.unwrap();
    for words in ["night", "water", "lines", "*"] {
        assert_eq!(captions(&second, words), captions(&anew, words), "{words}");
    }
    assert_eq!(captions(&second, ""), ["half of a night", "two\nlines"]);
    assert!(captions(&first, "night").is_empty(), "what was opened stays as it was");
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
    session.enable_search(lake.file("index"));
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
