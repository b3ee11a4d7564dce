//! Speech recognition inside jobs: which words a video gets, where they are kept, and that they are not heard twice.

use std::fs;

use eventide_testkit::{Finished, bundles};
use rstest::rstest;
use serde_json::Value;

use crate::speech::{add_film, add_whisper, mute_film};
use crate::trial::{LIMIT, Trial};

/// A job that hears what is said where no subtitles tell it; `more` goes into `[speech]`.
fn job(source: &str, more: &str) -> String {
    format!(
        "[corpus]\nuri = \"corpus\"\ntranscripts = [\"sidecar\", \"embedded\", \"asr\"]\n[tables]\nuri = \"lake\"\n\
         [model]\nbundle = \"bundle\"\n[captioning]\nsource = \"{source}\"\n[speech]\nbundle = \"whisper\"\n{more}\n"
    )
}

/// A corpus with every kind of words, and the job.
pub(crate) fn trial() -> Trial {
    let trial = Trial::with_job("");
    add_whisper(&trial);
    trial.write_job(&job("speech", ""));
    trial.add_narrated(1); // with a side-car
    add_film(&trial, "spoken.mkv", "beckett.wav", "-ac 1 -ar 8000 -c:a pcm_s16le");
    add_film(&trial, "broken.mkv", "beckett.wav", "-c:a flac -bsf:a noise=amount=1 -c:v mpeg4");
    mute_film(&trial, "mute.mp4");
    trial
}

/// Indexes with its messages, which must succeed.
fn indexed(trial: &Trial) -> (Value, String) {
    let finished = trial.index().arguments(["--log", "info"]).run(LIMIT).unwrap();
    finished.assert_code(0);
    (serde_json::from_str(&finished.stdout).unwrap(), finished.stderr)
}

/// The rows of a table without what every run changes.
fn lasting(trial: &Trial, table: &str, order: &str) -> Vec<Value> {
    let mut rows = trial.rows(table, order);
    for row in &mut rows {
        let row = row.as_object_mut().unwrap();
        row.retain(|name, _| name != "run_id" && name != "indexed_at");
    }
    rows
}

fn file(row: &Value) -> &str {
    row["uri"].as_str().unwrap().rsplit('/').next().unwrap()
}

fn times(said: &str, what: &str) -> usize {
    said.lines().filter(|line| line.contains(what)).count()
}

#[test]
fn words_are_read_else_heard_else_there_are_none() {
    let trial = trial();
    let (run, said) = indexed(&trial);
    assert_eq!((&run["captioned"], &run["empty"]), (&2.into(), &2.into()), "{run:#}");
    assert_eq!(times(&said, "listened"), 1, "one film has sound that can be heard\n{said}");
    let videos = trial.rows("videos", "uri");
    let told: Vec<_> = videos
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap_or("-");
            (file(row), text("transcript_source"), text("language"), text("reason_code"))
        })
        .collect();
    let expected = [
        ("broken.mkv", "none", "-", "damaged_sound"),
        ("mute.mp4", "none", "-", "no_transcript"),
        ("spoken.mkv", "asr", "en", "-"),
        ("talk-1.mp4", "sidecar", "-", "-"),
    ];
    assert_eq!(told, expected);
    let heard: Vec<_> = videos.iter().map(|row| row["speech_digest"].is_string()).collect();
    assert_eq!(heard, [false, false, true, false]);

    let events = trial.events();
    let spoken = |text: &str| text.lines().filter(|line| line.starts_with("spoken")).count();
    assert!(events.contains("Try again"), "{events}");
    let transcripts = trial.rows("transcripts", "uri,start_ms");
    let of = |name: &str| transcripts.iter().filter(|row| file(row) == name).collect::<Vec<_>>();
    assert_eq!((of("spoken.mkv").len(), of("talk-1.mp4").len()), (spoken(&events), 2));
    for row in of("spoken.mkv") {
        assert_eq!((&row["source"], &row["language"]), (&"asr".into(), &"en".into()), "{row:#}");
        assert!(row["confidence"].as_f64().is_some_and(|c| (0.0..=1.0).contains(&c)), "{row:#}");
        assert_eq!(row["model_digest"].as_str().unwrap().len(), 64);
        assert!(row["start_ms"].as_i64() < row["end_ms"].as_i64(), "{row:#}");
        let event = format!(
            "spoken.mkv {}-{} {}\n",
            row["start_ms"],
            row["end_ms"],
            row["text"].as_str().unwrap()
        );
        assert!(events.contains(&event), "{event}{events}");
    }
    for row in of("talk-1.mp4") {
        assert_eq!((&row["source"], &row["model_digest"]), (&"sidecar".into(), &"none".into()));
        assert!(row["confidence"].is_null() && row["speech_digest"].is_null(), "{row:#}");
    }

    let asked = "SELECT count(*) AS n FROM transcripts WHERE source = 'asr' AND confidence > 0";
    let sql = ["sql", "--tables", "lake", "--format", "json", asked];
    let sql = trial.program(sql).run(LIMIT).unwrap();
    sql.assert_code(0);
    let sql: Value = serde_json::from_str(&sql.stdout).unwrap();
    assert_eq!(sql[0]["n"], of("spoken.mkv").len());
}

#[test]
fn the_words_of_a_corpus_can_be_had_without_tables() {
    let trial = trial();
    let asked = ["transcribe", "night.toml", "--format", "srt", "--out", "said"];
    let finished = trial.program(asked).run(LIMIT).unwrap();
    finished.assert_code(1);
    for because in ["broken.mkv` (words: damaged_sound)", "mute.mp4` (words: no_sound)"] {
        assert!(finished.stderr.contains(because), "{}", finished.stderr);
    }
    let read = |name: &str| fs::read_to_string(trial.folder().join("said").join(name)).unwrap();
    assert!(read("spoken.srt").contains("Try again"), "{}", read("spoken.srt"));
    assert!(read("talk-1.srt").contains("talk-1 begins."), "{}", read("talk-1.srt"));
    assert!(!trial.lake().exists());
}

#[test]
fn what_was_heard_is_not_heard_again_for_another_caption_model() {
    let trial = trial();
    bundles::golden(&trial.folder().join("bundle")).unwrap();
    indexed(&trial);
    let transcripts = lasting(&trial, "transcripts", "uri,start_ms");

    let (same, said) = indexed(&trial);
    assert_eq!((&same["unchanged"], &same["planned"]), (&4.into(), &0.into()), "{same:#}");
    assert_eq!(times(&said, "listened"), 0, "{said}");

    trial.write_job(&job("vid2seq", ""));
    let planned = trial.planned();
    assert_eq!((&planned["videos"], &planned["heard_before"]), (&4.into(), &1.into()));
    let (captioned, said) = indexed(&trial);
    assert_eq!(captioned["planned"], 4);
    assert_eq!((times(&said, "listened"), times(&said, "heard before")), (0, 1), "{said}");
    assert_eq!(lasting(&trial, "transcripts", "uri,start_ms"), transcripts);
    // The model reads what was heard: without it, it is another input.
    let events = trial.rows("events", "uri,start_ms");
    let spoken = events.iter().filter(|row| file(row) == "spoken.mkv");
    assert!(spoken.clone().any(|row| row["speech"].is_string()), "{events:#?}");
    assert!(spoken.clone().all(|row| row["source"] == "vid2seq"));

    trial.write_job(&job("vid2seq", "beams = 1"));
    let (other, said) = indexed(&trial);
    assert_eq!(other["planned"], 4, "another recogniser is another parameter");
    assert_eq!((times(&said, "listened"), times(&said, "heard before")), (1, 0), "{said}");
    assert_eq!(trial.distinct("transcripts", "speech_digest"), 1, "the old words are gone");

    // And where the tables hold the right words of a film that is gone, they go with it.
    fs::remove_file(trial.corpus().join("spoken.mkv")).unwrap();
    indexed(&trial);
    let left = trial.rows("transcripts", "uri,start_ms");
    assert!(left.iter().all(|row| row["source"] == "sidecar"), "{left:#?}");
}

#[test]
fn silence_is_not_listened_to_again() {
    let trial = Trial::with_job("");
    add_whisper(&trial);
    trial.write_job(&job("speech", ""));
    let tools = eventide_testkit::tools().unwrap();
    let place = trial.corpus().join("silent.mkv").display().to_string();
    let silence =
        "-f lavfi -i color=s=64x64:r=5:d=9 -f lavfi -i anullsrc=r=44100:cl=stereo:d=9 -c:v mpeg4";
    tools.run_ffmpeg(silence.split(' ').chain([&*place])).unwrap();
    let (_, said) = indexed(&trial);
    assert_eq!(times(&said, "listened"), 1, "{said}");
    assert_eq!(trial.videos(), "silent.mkv empty no_transcript\n");
    trial.write_job(
        &format!("{}[run]\nname = \"other\"\n", job("speech", ""))
            .replace("source = \"speech\"", "source = \"speech\"\nmax-events = 7"),
    );
    let (run, said) = indexed(&trial);
    assert_eq!(run["planned"], 1);
    assert_eq!((times(&said, "listened"), times(&said, "heard before")), (0, 1), "{said}");
}

/// Fails unless the job is refused by every command, for this reason, and nothing is written.
fn check_refused(trial: &Trial, because: &str) {
    for command in ["check", "plan", "index"] {
        let finished: Finished = trial.program([command, "night.toml"]).run(LIMIT).unwrap();
        finished.assert_code(2);
        assert!(finished.stderr.contains(because), "{command}: {}", finished.stderr);
        assert!(!trial.lake().exists(), "{command} wrote something");
    }
}

#[rstest]
#[case::not_there("bundle = \"gone\"", "gone/speech.json")]
#[case::another_kind("bundle = \"corpus\"", "corpus/speech.json")]
#[case::a_typo("bundle = \"gone\"\nmin_confidence = 0.5", "unknown field `min_confidence`")]
#[case::no_probability("bundle = \"gone\"\nmin-confidence = 1.5", "`1.5` is not from 0 to 1")]
fn a_recogniser_that_cannot_be_never_starts_a_job(#[case] speech: &str, #[case] because: &str) {
    let trial = Trial::with_job("");
    trial.add_narrated(1);
    let whole = job("speech", "").replace("bundle = \"whisper\"", speech);
    trial.write_job(&whole);
    check_refused(&trial, because);
}

#[test]
fn a_language_that_the_recogniser_does_not_know_never_starts_a_job() {
    let trial = Trial::with_job("");
    add_whisper(&trial);
    trial.write_job(&job("speech", "language = \"de\""));
    check_refused(&trial, "does not know the language `de`");
    trial.write_job(&job("speech", "language = \"en\""));
    let checked = trial.program(["check", "night.toml"]).run(LIMIT).unwrap();
    checked.assert_code(0);
    assert!(checked.stdout.contains("whisper-tiny-en ("), "{}", checked.stdout);
}
