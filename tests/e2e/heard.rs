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

/// A track that says this at the first second, and is longer than any recording.
fn subtitles(text: &str) -> String {
    format!("1\n00:00:01,000 --> 00:00:02,000\n{text}\n\n2\n00:00:50,000 --> 00:00:51,000\nEnd.\n")
}

/// The film has all kinds of words: beside it, in two languages inside it, and spoken. Only its sound has no language.
#[test]
fn words_come_from_the_first_source_that_has_any() {
    let trial = Trial::with_job("");
    add_whisper(&trial);
    let [german, french] = ["de", "fr"].map(|language| {
        let place = trial.folder().join(format!("{language}.srt"));
        fs::write(&place, format!("1\n00:00:01,000 --> 00:00:02,000\nWords in {language}.\n"))
            .unwrap();
        place.display().to_string()
    });
    let bare = add_film(&trial, "bare.mkv", "beckett.wav", "-c:v mpeg4 -c:a pcm_s16le");
    let film = bare.with_file_name("film.mkv");
    let tracks = format!(
        "-i {} -i {german} -i {french} -map 0 -map 1 -map 2 -c copy -metadata:s:s:0 language=ger \
         -metadata:s:s:1 language=fre {}",
        bare.display(),
        film.display()
    );
    eventide_testkit::tools().unwrap().run_ffmpeg(tracks.split(' ')).unwrap();
    fs::remove_file(bare).unwrap();
    let beside = film.with_extension("en.vtt");
    let (whole, broken) = ("WEBVTT\n\n00:01.000 --> 00:02.000\nBeside it.", "once upon a time");
    // The side-car, the sources in order, the language; the source, the language, the words, what is remarked.
    let cases = [
        (whole, "'sidecar', 'embedded', 'asr'", "auto", ["sidecar", "en", "Beside it.", "-"]),
        (whole, "'embedded', 'sidecar', 'asr'", "auto", ["embedded", "ger", "Words in de.", "-"]),
        (whole, "'asr', 'sidecar'", "auto", ["asr", "en", "Try again", "-"]),
        (
            broken,
            "'sidecar', 'embedded', 'asr'",
            "auto",
            ["embedded", "ger", "Words in de.", "damaged_subtitles"],
        ),
        (broken, "'sidecar', 'asr'", "auto", ["asr", "en", "Try again", "damaged_subtitles"]),
    ];
    for (sidecar, sources, language, expected) in cases {
        fs::write(&beside, sidecar).unwrap();
        let all = "\"sidecar\", \"embedded\", \"asr\"";
        let text = job("speech", &format!("language = \"{language}\"")).replace(all, sources);
        trial.write_job(&text);
        indexed(&trial);
        let video = &trial.rows("videos", "uri")[0];
        let text = |name: &str| video[name].as_str().unwrap_or("-");
        let [source, spoken, words, remark] = expected;
        assert_eq!(
            [text("transcript_source"), text("language"), text("reason_code")],
            [source, spoken, remark],
            "{sources}: {video:#}"
        );
        let events = trial.events();
        assert!(events.contains(words), "{sources}: {events}");
    }
}

/// Two tracks of subtitles and two of sound: the smallest Whisper knows one language, whose tracks are the second.
#[test]
fn the_tracks_of_the_language_that_is_asked_for_are_taken() {
    let trial = Trial::with_job("");
    add_whisper(&trial);
    let place = trial.folder().join("words.srt");
    fs::write(&place, subtitles("Words.")).unwrap();
    let place = place.display();
    let form = "-f lavfi -i anullsrc=d=9 -c:v mpeg4 -c:a pcm_s16le";
    let sounds = "-map 0 -map 2 -map 1 -metadata:s:a:0 language=ger -metadata:s:a:1 language=eng";
    add_film(&trial, "spoken.mkv", "beckett.wav", &format!("{form} {sounds}"));
    let tracks = "-map 0 -map 2 -map 2 -c:v mpeg4 -c:s srt";
    let languages = "-metadata:s:s:0 language=ger -metadata:s:s:1 language=eng";
    add_film(&trial, "read.mkv", "beckett.wav", &format!("-i {place} {tracks} {languages}"));
    let told = |language: &str| {
        trial.write_job(&job("speech", &format!("language = \"{language}\"")));
        indexed(&trial);
        let videos = trial.rows("videos", "uri");
        let text = |row: &Value, name: &str| row[name].as_str().unwrap_or("-").to_owned();
        videos
            .iter()
            .map(|row| format!("{} {}", text(row, "status"), text(row, "language")))
            .collect::<Vec<_>>()
    };
    assert_eq!(told("auto"), ["captioned ger", "empty -"], "the first tracks");
    assert_eq!(told("en"), ["captioned eng", "captioned en"]);
}

#[test]
fn a_sentence_is_no_longer_than_the_job_says() {
    let trial = Trial::with_job("");
    add_whisper(&trial);
    add_film(&trial, "spoken.mkv", "two_cities.wav", "-c:v mpeg4 -c:a flac");
    trial.write_job(&job("speech", "longest-sentence = \"2s\""));
    indexed(&trial);
    let spans = |table: &str| {
        let rows = trial.rows(table, "start_ms").into_iter();
        rows.map(|row| [&row["start_ms"], &row["end_ms"]].map(|ms| ms.as_i64().unwrap()))
            .collect::<Vec<_>>()
    };
    let (events, transcripts) = (spans("events"), spans("transcripts"));
    assert!(events.len() > 15, "{events:?}");
    assert!(events.iter().all(|[start, end]| end - start <= 2_001), "{events:?}");
    assert_eq!(events, transcripts);
}

/// What is left of a sound is heard, and is heard again whenever the film is looked at again.
#[test]
fn sound_that_breaks_off_is_told_and_not_taken_as_heard() {
    let trial = Trial::with_job("");
    add_whisper(&trial);
    trial.write_job(&job("speech", ""));
    let film = add_film(&trial, "cut.mkv", "two_cities.wav", "-c:v mpeg4 -c:a flac");
    let bytes = fs::read(&film).unwrap();
    fs::write(&film, &bytes[..bytes.len() / 2]).unwrap();
    let (run, said) = indexed(&trial);
    assert_eq!((&run["captioned"], times(&said, "listened")), (&1.into(), 1), "{said}");
    let video = &trial.rows("videos", "uri")[0];
    assert_eq!(
        (&video["stage"], &video["reason_code"]),
        (&"words".into(), &"damaged_sound".into())
    );
    let reason = video["reason"].as_str().unwrap();
    assert!(reason.contains("cut.mkv` is damaged: it breaks off at "), "{reason}");
    assert!(video["speech_digest"].is_null(), "{video:#}");
    let events = trial.events();
    assert!(events.contains("the best of times"), "{events}");
    assert_eq!(trial.rows("transcripts", "start_ms").len(), events.lines().count());

    let text =
        job("speech", "").replace("source = \"speech\"", "source = \"speech\"\nmax-events = 7");
    trial.write_job(&text);
    let (_, said) = indexed(&trial);
    assert_eq!((times(&said, "listened"), times(&said, "heard before")), (1, 0), "{said}");

    let finished =
        trial.program(["transcribe", "night.toml", "--format", "json"]).run(LIMIT).unwrap();
    finished.assert_code(0);
    let because = "not all of `";
    assert!(finished.stderr.contains(because), "{}", finished.stderr);
    assert!(finished.stderr.contains("(words: damaged_sound)"), "{}", finished.stderr);
    let told: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert!(told[0]["remark"].as_str().unwrap().contains("it breaks off at "), "{told:#}");
    assert!(told.to_string().contains("the best of times"), "{told:#}");
}

/// Flags win over the job, for what is heard; where nothing is heard they are refused.
#[test]
fn flags_hold_for_a_job() {
    let trial = Trial::with_job("");
    add_whisper(&trial);
    trial.write_job(&job("speech", ""));
    trial.add_narrated(1); // with a side-car
    add_film(&trial, "spoken.mkv", "two_cities.wav", "-t 6 -c:v mpeg4 -c:a pcm_s16le");
    let said = |flags: &[&str]| {
        let all = ["transcribe", "night.toml", "--format", "json"].iter().chain(flags).copied();
        let finished = trial.program(all).run(LIMIT).unwrap();
        finished.assert_code(0);
        let told: Vec<Value> = serde_json::from_str(&finished.stdout).unwrap();
        let of = |name: &str| told.iter().find(|row| file(row) == name).unwrap().clone();
        assert_eq!(of("talk-1.mp4")["source"], "sidecar");
        of("spoken.mkv")["sentences"].as_array().unwrap().clone()
    };
    let usual = said(&[]);
    assert!(!usual.is_empty());
    assert_eq!(said(&["--min-confidence", "1"]), [] as [Value; 0]);
    let flags = "--longest-sentence 1s --beams 1 --threads 1 --language en";
    let short = said(&flags.split(' ').collect::<Vec<_>>());
    assert!(short.len() > usual.len(), "{short:#?}");
    let length =
        |said: &Value| said["end_ms"].as_i64().unwrap() - said["start_ms"].as_i64().unwrap();
    assert!(short.iter().all(|said| length(said) <= 1_001), "{short:#?}");

    let refused = |text: &str, flags: &[&str], because: &str| {
        trial.write_job(text);
        let all = ["transcribe", "night.toml"].iter().chain(flags).copied();
        let finished = trial.program(all).run(LIMIT).unwrap();
        finished.assert_code(2);
        assert!(finished.stderr.contains(because), "{}", finished.stderr);
    };
    let own = job("speech", "");
    refused(&own, &["--language", "de"], "does not know the language `de`");
    refused(&own, &["--device", "cuda:9"], "cuda");
    let silent = own.replace(", \"asr\"", "").replace("[speech]\nbundle = \"whisper\"", "");
    for (flag, value) in [("--beams", "2"), ("--device", "cpu"), ("--model", "whisper")] {
        let because =
            format!("{flag} says how speech is heard, and the job `night.toml` hears none");
        refused(&silent, &[flag, value], &because);
    }
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
