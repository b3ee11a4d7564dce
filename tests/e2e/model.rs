//! A night with a captioning model: one of random weights, and one that was trained on an invented task, so that it
//! writes events. Their words mean nothing, but every step of the way is the real one.

use eventide_testkit::{Hostile, Readable, bundles};

use crate::trial::{LIMIT, Trial};

fn job(captioning: &str) -> Trial {
    Trial::with_job(&format!(
        "[model]\nbundle = \"bundle\"\nthreads = 1\n[captioning]\nmax-output-tokens = 40\n{captioning}"
    ))
}

/// With a model of random weights.
fn trial(captioning: &str) -> Trial {
    let trial = job(captioning);
    bundles::tiny(&trial.folder().join("bundle"), 7).unwrap();
    trial
}

/// With a model that writes events.
fn eventful(captioning: &str) -> Trial {
    let trial = job(captioning);
    bundles::golden(&trial.folder().join("bundle")).unwrap();
    trial
}

#[test]
fn what_the_model_writes_becomes_rows_of_its_video() {
    let trial = eventful("");
    for number in 1..=3 {
        trial.add_narrated(number);
    }
    let run = trial.indexed();
    assert_eq!((&run["captioned"], &run["failed"]), (&3.into(), &0.into()), "{run:#}");
    let videos = trial.rows("videos", "uri");
    for event in trial.rows("events", "uri,start_ms") {
        let video = videos.iter().find(|video| video["video_id"] == event["video_id"]).unwrap();
        assert_eq!(event["uri"], video["uri"]);
        assert_eq!(event["source"], "vid2seq");
        assert_eq!(event["model_digest"], video["model_digest"]);
        let millis = |name: &str| event[name].as_i64().unwrap();
        let duration = video["duration_ms"].as_i64().unwrap();
        assert!(0 <= millis("start_ms") && millis("start_ms") < millis("end_ms"), "{event:#}");
        assert!(millis("end_ms") <= duration, "{event:#}");
        assert_eq!(millis("time_resolution_ms"), (duration + 98) / 99);
        assert!(event["score"].as_f64().unwrap() < 0.0, "{event:#}");
        assert!(!event["caption"].as_str().unwrap().is_empty());
    }
}

/// Where key frames will do, events say how exact their times are; other frames are other rows.
#[test]
fn key_frames_tell_how_far_they_lie() {
    let trial = eventful("frames = \"keyframe\"");
    trial.add_narrated(1);
    assert_eq!(trial.indexed()["captioned"], 1);
    let video = trial.rows("videos", "uri").remove(0);
    assert_eq!(video["frames_used"], 5, "{video:#}");
    let finest = (video["duration_ms"].as_i64().unwrap() + 98) / 99;
    let events = trial.rows("events", "start_ms");
    assert!(!events.is_empty());
    for event in events {
        let resolution = event["time_resolution_ms"].as_i64().unwrap();
        assert!(finest < resolution && resolution <= 2000, "a key every two seconds: {event:#}");
    }
    assert_eq!(trial.indexed()["unchanged"], 1);
    let job = std::fs::read_to_string(trial.folder().join("night.toml")).unwrap();
    trial.write_job(&job.replace("frames = \"keyframe\"", ""));
    assert_eq!(trial.indexed()["captioned"], 1);
}

#[test]
fn random_weights_are_refused() {
    let trial = trial("");
    trial.add_narrated(1);
    let finished = trial.index().run(LIMIT).unwrap();
    finished.assert_code(2);
    assert!(finished.stderr.contains("--allow-untrained"), "{}", finished.stderr);
    assert!(!trial.lake().exists());
}

#[test]
fn every_video_is_looked_at_and_ends_in_one_state() {
    let trial = trial("");
    for number in 1..=3 {
        trial.add_narrated(number);
    }
    let finished = trial.index().arguments(["--allow-untrained"]).run(LIMIT).unwrap();
    finished.assert_code(0);
    let videos = trial.rows("videos", "uri");
    assert_eq!(videos.len(), 3);
    for video in &videos {
        assert_eq!(video["frames_used"], 5, "one a second: {video:#}");
        assert_eq!(video["windows"], 1);
        assert_eq!(video["transcript_source"], "sidecar");
        assert_ne!(video["model_digest"], "none");
        let events = video["event_count"].as_u64().unwrap();
        match video["status"].as_str().unwrap() {
            "captioned" => assert!(events > 0),
            "empty" => assert!(video["reason_code"].is_string(), "{video:#}"),
            other => panic!("{other}: {video:#}"),
        }
    }
}

#[test]
fn the_rows_do_not_depend_on_how_many_are_worked_on_at_once() {
    let rows = |workers: &str| {
        let trial = eventful("window = \"2s\"\noverlap = \"1s\"\nbeams = 2\n");
        for number in 1..=4 {
            trial.add_narrated(number);
        }
        trial.index().arguments(["--workers", workers]).run(LIMIT).unwrap().assert_code(0);
        let videos = trial.rows("videos", "uri");
        assert!(videos.iter().all(|video| video["windows"] == 4), "{videos:#?}");
        let scores: Vec<_> = trial
            .rows("events", "uri,window_index,event_index")
            .iter()
            .map(|event| event["score"].to_string())
            .collect();
        (trial.events(), trial.videos(), scores)
    };
    let alone = rows("1");
    assert!(alone.2.len() >= 4, "too few events to tell: {alone:?}");
    assert_eq!(alone, rows("4"), "to the last digit of a score");
}

#[test]
fn every_kind_of_bad_video_ends_in_one_state_and_harms_no_other() {
    let trial = trial("");
    trial.add_narrated(1);
    for kind in Hostile::ALL {
        trial.add_hostile(kind);
    }
    let finished = trial.index().arguments(["--allow-untrained"]).run(LIMIT).unwrap();
    finished.assert_code(0);
    let videos = trial.rows("videos", "uri");
    assert_eq!(videos.len(), 1 + Hostile::ALL.len());
    let row = |name: &str| {
        let end = format!("/{name}");
        videos.iter().find(|video| video["uri"].as_str().unwrap().ends_with(&end)).unwrap()
    };
    assert_ne!(row("talk-1.mp4")["status"], "failed");
    for kind in Hostile::ALL {
        let video = row(&kind.file_name());
        let failed = video["status"] == "failed";
        match kind.readable() {
            Readable::Yes => assert!(!failed, "{kind:?}: {video:#}"),
            Readable::No => assert!(failed, "{kind:?}: {video:#}"),
            Readable::Perhaps => {}
        }
        if failed {
            assert!(video["reason_code"].is_string() && video["stage"].is_string(), "{video:#}");
        }
    }
}

#[test]
fn another_model_captions_everything_anew() {
    let trial = trial("");
    trial.add_narrated(1);
    trial.index().arguments(["--allow-untrained"]).run(LIMIT).unwrap().assert_code(0);
    bundles::tiny(&trial.folder().join("other"), 8).unwrap();
    let other = trial.folder().join("other").display().to_string();
    let arguments = ["--allow-untrained", "--bundle", other.as_str()];
    let finished = trial.index().arguments(arguments).run(LIMIT).unwrap();
    finished.assert_code(0);
    let run: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!((&run["planned"], &run["unchanged"]), (&1.into(), &0.into()));
}

#[test]
fn a_damaged_bundle_is_refused() {
    let trial = trial("");
    trial.add_narrated(1);
    std::fs::write(trial.folder().join("bundle/decoder.onnx"), "not a graph").unwrap();
    let finished = trial.index().arguments(["--allow-untrained"]).run(LIMIT).unwrap();
    finished.assert_code(2);
    assert!(finished.stderr.contains("decoder.onnx"), "{}", finished.stderr);
    assert!(!trial.lake().exists(), "something was written");
}
