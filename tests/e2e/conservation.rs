//! Conservation (T13): what must hold of the tables after each publication, asked in SQL.

use eventide_testkit::Program;
use serde_json::{Map, Value};

use crate::trial::{LIMIT, Trial};

/// Counts what must not be there: each column of the answer is 0.
const LAWS: &str = "
WITH doubled_videos AS (SELECT video_id FROM videos GROUP BY video_id HAVING count(*) > 1),
     doubled_events AS (SELECT event_id FROM events GROUP BY event_id HAVING count(*) > 1),
     told AS (SELECT video_id, source_version, run_id, count(*) AS told FROM events GROUP BY 1, 2, 3),
     miscounted AS (
       SELECT coalesce(videos.video_id, told.video_id) FROM videos FULL JOIN told
       ON videos.video_id = told.video_id AND videos.source_version = told.source_version AND videos.run_id = told.run_id
       WHERE coalesce(event_count, -1) <> coalesce(told, 0)),
     misjudged AS (SELECT 1 FROM videos WHERE (status = 'captioned') <> (event_count > 0)),
     stray AS (SELECT 1 FROM videos LEFT ANTI JOIN runs ON videos.run_id = runs.run_id),
     unbalanced AS (SELECT 1 FROM runs WHERE listed <> captioned + empty + failed + skipped + unchanged + pending),
     newest AS (SELECT listed FROM runs ORDER BY finished_at DESC LIMIT 1)
SELECT (SELECT count(*) FROM doubled_videos) AS videos_with_two_rows,
       (SELECT count(*) FROM doubled_events) AS events_with_two_rows,
       (SELECT count(*) FROM miscounted) AS videos_with_other_events_than_they_say,
       (SELECT count(*) FROM misjudged) AS captioned_without_events_or_the_reverse,
       (SELECT count(*) FROM stray) AS videos_of_runs_that_were_not_published,
       (SELECT count(*) FROM unbalanced) AS runs_whose_sum_is_off,
       (SELECT count(*) FROM videos) - (SELECT coalesce(max(listed), 0) FROM newest) AS more_videos_than_listed";

/// The rows that SQL gives of tables somewhere; `environment` tells where the store is.
pub(crate) fn ask<'a>(
    trial: &Trial,
    tables: &str,
    environment: impl IntoIterator<Item = (&'a str, String)>,
    query: &str,
) -> Vec<Map<String, Value>> {
    let arguments = ["sql", "--tables", tables, "--format", "json", query];
    let program: Program = trial.program(arguments).environment(environment);
    let finished = program.run(LIMIT).unwrap();
    finished.assert_code(0);
    serde_json::from_str(&finished.stdout).unwrap()
}

/// Fails unless nothing was lost and nothing doubled.
#[track_caller]
pub(crate) fn assert_conserved<'a>(
    trial: &Trial,
    tables: &str,
    environment: impl IntoIterator<Item = (&'a str, String)>,
) {
    let answer = ask(trial, tables, environment, LAWS).remove(0);
    assert!(answer.len() == 7 && answer.values().all(|count| *count == 0), "{answer:#?}");
}

/// Fails unless what is published of a night that goes on is whole, and gives how many videos that is.
#[track_caller]
pub(crate) fn assert_conserved_so_far<'a>(
    trial: &Trial,
    tables: &str,
    environment: impl IntoIterator<Item = (&'a str, String)>,
) -> usize {
    let query =
        LAWS.replace("SELECT (SELECT", "SELECT (SELECT count(*) FROM videos) AS seen, (SELECT");
    let mut answer = ask(trial, tables, environment, &query).remove(0);
    let seen = answer.remove("seen").unwrap();
    let more = answer.remove("more_videos_than_listed").unwrap();
    assert!(more.as_i64().unwrap() <= 0, "{more} videos more than listed");
    assert!(answer.len() == 6 && answer.values().all(|count| *count == 0), "{answer:#?}");
    seen.as_u64().unwrap().try_into().unwrap()
}

/// The laws can be broken: each is asked of tables that break it.
#[test]
fn the_laws_hold_of_a_night_and_of_nothing_less() {
    use eventide_testkit::Hostile;

    let trial = Trial::of_speech();
    for number in 1..=2 {
        trial.add_narrated(number);
    }
    trial.add_hostile(Hostile::NotVideo);
    trial.indexed();
    assert_conserved(&trial, "lake", []);
    let broken = |what: &str, with: &str| {
        let query = LAWS.replacen("WITH ", &format!("WITH {with}, "), 1);
        let answer = ask(&trial, "lake", [], &query).remove(0);
        assert_ne!(answer[what], 0, "{what}: {answer:#?}");
    };
    let twice = |table: &str| {
        let all = format!("SELECT * FROM eventide.published.{table}");
        format!("{table} AS ({all} UNION ALL {all})")
    };
    broken("videos_with_two_rows", &twice("videos"));
    broken("more_videos_than_listed", &twice("videos"));
    broken("events_with_two_rows", &twice("events"));
    broken(
        "videos_with_other_events_than_they_say",
        "events AS (SELECT * FROM eventide.published.events WHERE caption <> 'talk-1 ends.')",
    );
    broken(
        "captioned_without_events_or_the_reverse",
        "videos AS (SELECT * REPLACE ('empty' AS status) FROM eventide.published.videos)",
    );
    broken(
        "videos_of_runs_that_were_not_published",
        "runs AS (SELECT * FROM eventide.published.runs WHERE false)",
    );
    broken(
        "runs_whose_sum_is_off",
        "runs AS (SELECT * REPLACE (9 AS listed) FROM eventide.published.runs)",
    );
}
