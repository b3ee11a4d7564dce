//! Speech recognition on the command line, by the weights of real Whispers: a release becomes a bundle, and the bundle
//! says what is said in files.

use std::fs;
use std::path::PathBuf;

use eventide_testkit::{Finished, bundles, tools, whisper};
use eventide_training::Style;
use rstest::rstest;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::trial::{LIMIT, Trial};

/// A trial with a recogniser.
fn trial() -> Trial {
    let trial = Trial::of_speech();
    add_whisper(&trial);
    trial
}

/// Adds the speech bundle `whisper`, of the smallest Whisper.
pub(crate) fn add_whisper(trial: &Trial) {
    add_whisper_of(trial, whisper::Size::TinyEnglish);
}

/// Adds the speech bundle `whisper`.
pub(crate) fn add_whisper_of(trial: &Trial, size: whisper::Size) {
    let place = trial.folder().join("whisper");
    whisper::bundle(&tools().unwrap(), size, &place, Style::default()).unwrap();
}

/// Adds a film without sound.
pub(crate) fn mute_film(trial: &Trial, name: &str) {
    let place = trial.corpus().join(name).display().to_string();
    let film = "-f lavfi -i color=s=64x64:r=5:d=2 -c:v mpeg4".split(' ');
    tools().unwrap().run_ffmpeg(film.chain([&*place])).unwrap();
}

/// Adds a film that is dark, whose sound is a recording, in any form.
pub(crate) fn add_film(trial: &Trial, name: &str, recording: &str, form: &str) -> PathBuf {
    let tools = tools().unwrap();
    let path = trial.corpus().join(name);
    let (recording, place) = (tools.recording(recording).unwrap(), path.display().to_string());
    let recording = recording.display().to_string();
    let pictures = "-f lavfi -i color=s=64x64:r=5:d=60 -i".split(' ');
    let arguments = pictures.chain([&*recording]).chain(form.split(' '));
    tools.run_ffmpeg(arguments.chain(["-shortest", &*place])).unwrap();
    path
}

fn transcribe(trial: &Trial, arguments: &[&str]) -> Finished {
    let all = ["transcribe", "--model", "whisper"].into_iter().chain(arguments.iter().copied());
    trial.program(all).run(LIMIT).unwrap()
}

#[test]
fn a_released_whisper_becomes_a_bundle_that_tells_what_it_is() {
    let trial = Trial::of_speech();
    let release = trial.folder().join("whisper-tiny.en");
    fs::create_dir(&release).unwrap();
    whisper::release(&tools().unwrap(), whisper::Size::TinyEnglish, &release).unwrap();
    let run = |arguments: &[&str]| {
        let all = ["model"].into_iter().chain(arguments.iter().copied());
        let finished = trial.program(all.chain(["--format", "json"])).run(LIMIT).unwrap();
        finished.assert_code(0);
        serde_json::from_str::<Value>(&finished.stdout).unwrap()
    };
    let import = ["import", "--whisper", "whisper-tiny.en", "--licence", "MIT", "--out", "bundle"];
    let imported = run(&import);
    assert_eq!(imported["manifest"]["model_id"], "whisper-tiny.en");
    assert_eq!(imported["parameters"]["all"], 37_760_256);
    let inspected = run(&["inspect", "bundle"]);
    assert_eq!(inspected["digest"], imported["digest"]);
    let weights = fs::metadata(trial.folder().join("bundle/model.safetensors")).unwrap().len();
    assert_eq!(inspected["file_sizes"]["model.safetensors"], weights);
    let verified = run(&["verify", "bundle"]);
    assert_eq!((&verified["digest"], &verified["files"]), (&imported["digest"], &8.into()));
    assert_eq!(verified["golden"], true, "{verified:#}");
    let expected = fs::read(trial.folder().join("bundle/golden/expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    assert_eq!(expected["text"], "The Earth turns slowly in the dark.");

    let again = trial.program(["model"].into_iter().chain(import)).run(LIMIT).unwrap();
    again.assert_code(2);
    assert!(again.stderr.contains("never written over"), "{}", again.stderr);
    expect_another_word(&trial, &expected);
    let other = trial.program(["model", "verify", "bundle"]).run(LIMIT).unwrap();
    other.assert_code(1);
    assert!(other.stderr.contains("the text is `The Earth"), "{}", other.stderr);
    fs::write(trial.folder().join("bundle/encoder.onnx"), "?").unwrap();
    let damaged = trial.program(["model", "verify", "bundle"]).run(LIMIT).unwrap();
    damaged.assert_code(2);
    assert!(damaged.stderr.contains("encoder.onnx` is damaged"), "{}", damaged.stderr);
}

#[test]
fn half_floats_hear_the_same() {
    let trial = trial();
    let release = trial.folder().join("release");
    fs::create_dir(&release).unwrap();
    whisper::release(&tools().unwrap(), whisper::Size::TinyEnglish, &release).unwrap();
    let run = |arguments: &[&str]| {
        let finished = trial.program(arguments.iter().copied()).run(LIMIT).unwrap();
        finished.assert_code(0);
        finished.stdout
    };
    let import = ["model", "import", "--whisper", "release", "--licence", "MIT", "--out", "half"];
    run(&[&import[..], &["--precision", "fp16"]].concat());
    let size = |bundle: &str| {
        fs::metadata(trial.folder().join(bundle).join("model.safetensors")).unwrap().len()
    };
    assert!(size("half") * 100 < size("whisper") * 51, "{} of {}", size("half"), size("whisper"));
    let verified = run(&["model", "verify", "half", "--format", "json"]);
    let verified: Value = serde_json::from_str(&verified).unwrap();
    assert_eq!(verified["golden"], true, "{verified:#}");
    let film = add_film(&trial, "film.mkv", "beckett.wav", "-ac 1 -c:a pcm_s16le");
    let film = film.display().to_string();
    let said = |bundle: &str| run(&["transcribe", &film, "--model", bundle]);
    assert_eq!(said("half"), said("whisper"));
}

/// Makes `bundle` expect another token of its golden sound, and list the file that says so.
fn expect_another_word(trial: &Trial, expected: &Value) {
    let bundle = trial.folder().join("bundle");
    let mut expected = expected.clone();
    expected["tokens"][1] = 7.into();
    let text = expected.to_string();
    fs::write(bundle.join("golden/expected.json"), &text).unwrap();
    let manifest = bundle.join("speech.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    json["files"]["golden/expected.json"] = format!("{:x}", Sha256::digest(text)).into();
    fs::write(manifest, json.to_string()).unwrap();
}

#[rstest]
#[case::nothing(&["--out", "b"], "--whisper")]
#[case::both(&["--out", "b", "--whisper", "w", "--vid2seq", "v", "--clip", "c", "--tokenizer", "t"], "cannot be used with")]
#[case::no_clip(&["--out", "b", "--vid2seq", "v"], "--clip")]
#[case::not_there(&["--out", "b", "--whisper", "gone"], "gone/tokenizer.json")]
#[case::no_voice(&["--out", "b", "--whisper", "gone", "--voice", "v.onnx"], "gone/tokenizer.json")]
#[case::int8(&["--out", "b", "--whisper", "gone", "--precision", "int8"], "int8")]
fn an_import_that_cannot_be_is_refused(#[case] arguments: &[&str], #[case] because: &str) {
    let trial = Trial::of_speech();
    let all = ["model", "import"].into_iter().chain(arguments.iter().copied());
    let finished = trial.program(all).run(LIMIT).unwrap();
    finished.assert_code(2);
    assert!(finished.stderr.contains(because), "{}", finished.stderr);
    assert!(!trial.folder().join("b").exists());
}

#[test]
fn what_is_said_is_printed_in_every_form() {
    let trial = trial();
    let film = add_film(&trial, "film.mp4", "beckett.wav", "-ac 6 -ar 48000 -c:a aac");
    let found = transcribe(&trial, &["corpus/film.mp4", "--format", "json"]);
    found.assert_code(0);
    assert_eq!(found.stderr, "", "no progress without a terminal");
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    let (found, sentences) = (&found[0], found[0]["sentences"].as_array().unwrap());
    assert_eq!((&found["language"], &found["model_id"]), (&"en".into(), &"whisper-tiny-en".into()));
    let text = |sentence: &Value| sentence["text"].as_str().unwrap().to_owned();
    assert!(sentences.iter().any(|said| text(said).contains("Try again")), "{found:#}");
    for sentence in sentences {
        let confidence = sentence["confidence"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&confidence), "{sentence:#}");
        assert!(sentence["start_ms"].as_u64() < sentence["end_ms"].as_u64(), "{sentence:#}");
    }
    let (first, count) = (text(&sentences[0]), sentences.len());

    let table = transcribe(&trial, &["corpus/film.mp4"]);
    table.assert_code(0);
    assert_eq!(table.stdout.lines().count(), count + 1, "{}", table.stdout);
    assert!(table.stdout.contains(&first), "{}", table.stdout);

    // The film once more, as a sound alone, and a file of subtitles for each.
    let recording = tools().unwrap().recording("beckett.wav").unwrap();
    fs::copy(recording, trial.corpus().join("sound.wav")).unwrap();
    let both = ["corpus/film.mp4", "corpus/sound.wav"];
    for format in ["srt", "vtt"] {
        let written = transcribe(&trial, &[both[0], both[1], "--format", format, "--out", "said"]);
        written.assert_code(0);
        assert_eq!(written.stdout, "");
    }
    let read = |name: &str| fs::read_to_string(trial.folder().join("said").join(name)).unwrap();
    let srt = read("film.srt");
    assert!(srt.starts_with("1\n00:00:0") && srt.contains(&format!("\n{first}\n")), "{srt}");
    assert!(read("sound.vtt").starts_with("WEBVTT\n\n00:00:0"), "{}", read("sound.vtt"));

    // Subtitles are words of the film like any others.
    fs::copy(trial.folder().join("said/film.srt"), film.with_extension("srt")).unwrap();
    let spoken = ["caption", "corpus/film.mp4", "--source", "speech", "--format", "json"];
    let spoken = trial.program(spoken).run(LIMIT).unwrap();
    let spoken: Value = serde_json::from_str(&spoken.stdout).unwrap();
    assert_eq!(spoken["transcript_source"], "sidecar");
    assert!(spoken["events"][0]["caption"].as_str().unwrap().starts_with(&first), "{spoken:#}");
}

#[test]
fn a_film_is_captioned_with_what_is_heard_in_it() {
    let trial = trial();
    bundles::golden(&trial.folder().join("bundle")).unwrap();
    add_film(&trial, "film.mkv", "beckett.wav", "-ac 1 -ar 8000 -c:a pcm_s16le");
    let caption = |arguments: &[&str]| {
        let all = ["caption", "corpus/film.mkv", "--format", "json"].into_iter();
        trial.program(all.chain(arguments.iter().copied())).run(LIMIT).unwrap()
    };
    let told = |arguments: &[&str]| {
        let finished = caption(arguments);
        finished.assert_code(0);
        serde_json::from_str::<Value>(&finished.stdout).unwrap()
    };
    let hears = ["--speech-bundle", "whisper"];
    let spoken = told(&[&hears[..], &["--source", "speech"]].concat());
    assert_eq!(
        (&spoken["transcript_source"], &spoken["status"]),
        (&"asr".into(), &"captioned".into())
    );
    assert!(spoken["events"].to_string().contains("Try again"), "{spoken:#}");
    let model = ["--bundle", "bundle"];
    let captioned = told(&[&hears[..], &model].concat());
    assert_eq!(captioned["transcript_source"], "asr");
    assert_ne!(captioned["events"].as_array().map(Vec::len), Some(0), "{captioned:#}");
    assert_eq!(told(&model)["transcript_source"], "none", "nothing hears it");

    fs::write(trial.folder().join("whisper/encoder.onnx"), "?").unwrap();
    for (bundle, because) in
        [("whisper", "encoder.onnx` is damaged"), ("bundle", "bundle/speech.json")]
    {
        let refused = caption(&["--source", "speech", "--speech-bundle", bundle]);
        refused.assert_code(2);
        assert!(refused.stderr.contains(because), "{}", refused.stderr);
    }
}

/// What is refused: the arguments, the exit code, and what is said.
const REFUSED: [(&[&str], i32, &str); 14] = [
    (&[], 2, "<FILE>..."),
    (&["corpus/gone.mp4"], 2, "gone.mp4"),
    (&["gone.toml"], 2, "gone.toml"),
    (&["corpus/mute.mp4", "--no-model"], 2, "no speech bundle is given"),
    (&["corpus/mute.mp4", "--model", "gone"], 2, "gone/speech.json"),
    (&["corpus/mute.mp4", "--language", "de"], 2, "does not know the language `de`"),
    (&["corpus/mute.mp4", "--language", "German"], 2, "expected `auto` or the code"),
    (&["corpus/mute.mp4", "--min-confidence", "3"], 2, "is not from 0 to 1"),
    (&["corpus/mute.mp4", "--longest-sentence", "10ms"], 2, "10ms is too short: 1s is the least"),
    (&["corpus/mute.mp4", "b.mp4", "--format", "srt"], 2, "--out FOLDER"),
    (&["a/x.mp4", "b/x.mp4", "--out", "said"], 2, "would be written to"),
    (&["corpus/mute.mp4"], 1, "(words: no_sound)"),
    (&["corpus/broken.mkv"], 1, "(words: damaged_sound)"),
    (&["words.txt"], 1, "(probe: "),
];

#[test]
fn what_cannot_be_heard_is_said() {
    let trial = trial();
    mute_film(&trial, "mute.mp4");
    fs::write(trial.folder().join("words.txt"), "no film").unwrap();
    // Every packet of the sound is garbage.
    add_film(&trial, "broken.mkv", "beckett.wav", "-c:a flac -bsf:a noise=amount=1 -c:v mpeg4");
    for (arguments, code, because) in REFUSED {
        let model = ["--model", "whisper"];
        let named = arguments.contains(&"--model") || arguments.contains(&"--no-model");
        let model = if named { &[][..] } else { &model };
        let arguments = arguments.iter().filter(|argument| **argument != "--no-model");
        let all = ["transcribe"].iter().chain(arguments).chain(model).copied();
        let finished = trial.program(all).run(LIMIT).unwrap();
        finished.assert_code(code);
        assert!(finished.stderr.contains(because), "{because}: {}", finished.stderr);
        assert_eq!(finished.stdout, "");
    }
}

#[test]
fn a_film_that_cannot_be_heard_does_not_keep_others_from_it() {
    let trial = trial();
    add_film(&trial, "film.mkv", "beckett.wav", "-ac 1 -ar 8000 -c:a pcm_s16le");
    fs::write(trial.folder().join("words.txt"), "no film").unwrap();
    let finished = transcribe(&trial, &["words.txt", "corpus/film.mkv"]);
    finished.assert_code(1);
    assert!(finished.stderr.contains("words.txt` (probe: "), "{}", finished.stderr);
    assert!(finished.stdout.contains("Try again"), "{}", finished.stdout);
}
