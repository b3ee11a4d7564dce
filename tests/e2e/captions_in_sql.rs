//! `caption(...)` in SQL: captions that are made while they are read.

use eventide_testkit::Hostile;
use serde_json::Value;

use crate::trial::{LIMIT, Trial};

/// A night of three talks and a broken file.
fn night() -> Trial {
    let trial = Trial::of_speech();
    for number in 1..=3 {
        trial.add_narrated(number);
    }
    trial.add_hostile(Hostile::NotVideo);
    trial.indexed();
    trial
}

/// The rows that a query gives, each as its values in the order of their names.
fn ask(trial: &Trial, query: &str) -> Vec<Vec<Value>> {
    let finished =
        trial.program(["sql", "--tables", "lake", "--format", "json", query]).run(LIMIT).unwrap();
    finished.assert_code(0);
    let rows: Vec<serde_json::Map<String, Value>> = serde_json::from_str(&finished.stdout).unwrap();
    rows.into_iter().map(|row| row.into_iter().map(|(_, value)| value).collect()).collect()
}

#[test]
fn a_corpus_is_a_table() {
    let trial = night();
    let rows = ask(
        &trial,
        "SELECT caption, start_ms FROM caption('corpus', source => 'speech') \
         WHERE uri LIKE '%talk-2%' ORDER BY start_ms",
    );
    let expected = [("talk-2 begins.", 0), ("talk-2 ends.", 3000)];
    assert_eq!(rows, expected.map(|(caption, start)| vec![Value::from(caption), start.into()]));

    let failed =
        "SELECT status, caption FROM caption(job => 'night.toml') WHERE status <> 'captioned'";
    assert_eq!(ask(&trial, failed), [vec![Value::Null, "failed".into()]]);
}

#[test]
fn it_joins_what_was_published() {
    let trial = night();
    let same = "WITH now AS (SELECT * FROM caption(job => 'night.toml')) \
                SELECT count(*) FROM events JOIN now USING (video_id, window_index, event_index) \
                WHERE events.caption = now.caption AND events.start_ms = now.start_ms";
    assert_eq!(ask(&trial, same), [vec![Value::from(6)]]);
}

#[test]
fn videos_that_a_filter_leaves_out_are_not_looked_at() {
    let trial = night();
    let explain = "EXPLAIN ANALYZE SELECT caption FROM caption('corpus', source => 'speech') \
                   WHERE uri LIKE '%talk-3%'";
    let text = format!("{:?}", ask(&trial, explain));
    assert!(text.contains("CaptionExec: corpus=") && text.contains("videos=1"), "{text}");
}

#[test]
fn a_call_that_makes_no_sense_is_told_why() {
    let trial = night();
    for (call, why) in [
        ("caption()", "needs a corpus or a job"),
        ("caption('corpus')", "needs a model"),
        ("caption('corpus', source => 'dreams')", "is no source"),
        ("caption(jobb => 'night.toml')", "no argument `jobb`"),
    ] {
        let query = format!("SELECT * FROM {call}");
        let finished = trial.program(["sql", "--tables", "lake", &*query]).run(LIMIT).unwrap();
        finished.assert_code(1);
        assert!(finished.stderr.contains(why), "{call}: {}", finished.stderr);
    }
}
