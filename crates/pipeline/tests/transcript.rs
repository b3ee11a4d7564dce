//! The sound of whole videos through the recogniser of the pipeline.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use eventide_media::{Limits, Media, Probe, Tools as MediaTools};
use eventide_model::{
    Bundle, Tokenizer,
    input::input_ids,
    runtime::{Runtime, SessionOptions},
    speech::{RecognitionOptions, SpeechBundle},
};
use eventide_pipeline::{Listening, Recognised, Transcriber, Transcription, TranscriptionOptions};
use eventide_schema::{Transcript, TranscriptSource};
use eventide_testkit::{bundles, tools, whisper};
use eventide_training::Style;
use rstest::rstest;
use tempfile::TempDir;

async fn transcriber(folder: &Path) -> Transcriber {
    let tools = tools().unwrap();
    let place = folder.join("bundle");
    whisper::bundle(&tools, whisper::Size::TinyEnglish, &place, Style::Fused).unwrap();
    let bundle = SpeechBundle::open(&place).unwrap();
    let runtime = Runtime::load(&tools.onnx_runtime().unwrap()).unwrap();
    let session = SessionOptions { threads: 1, ..SessionOptions::default() };
    Transcriber::start(bundle, runtime, session, RecognitionOptions::default()).await.unwrap()
}

/// Makes a file of a recording: `input` stands before it on FFmpeg's command line, `form` behind it.
fn made(folder: &Path, name: &str, input: &str, recording: &str, form: &str) -> PathBuf {
    let tools = tools().unwrap();
    let path = folder.join(name);
    let recording = tools.recording(recording).unwrap();
    let mut arguments: Vec<&str> = input.split_whitespace().collect();
    arguments.extend(["-i", recording.to_str().unwrap()]);
    arguments.extend(form.split_whitespace());
    arguments.push(path.to_str().unwrap());
    tools.run_ffmpeg(arguments).unwrap();
    path
}

/// A film whose sound is a recording that begins ten seconds late, in any form.
fn film(folder: &Path, name: &str, form: &str) -> PathBuf {
    let pictures = "-f lavfi -i testsrc2=s=64x64:r=5:d=25 -itsoffset 10";
    let form = format!("-map 0:v -map 1:a -c:v libx264 {form}");
    made(folder, name, pictures, "beckett.wav", &form)
}

fn media() -> Media {
    let tools = tools().unwrap();
    let programs = MediaTools {
        ffmpeg: tools.ffmpeg().unwrap(),
        ffprobe: tools.ffprobe().unwrap(),
        decoder: None,
    };
    Media::new(programs, Limits::default())
}

/// What is said in a file, and what is known of it.
async fn transcription(
    transcriber: &Transcriber,
    path: &Path,
    options: &TranscriptionOptions,
    listening: &Listening,
) -> (Transcription, Probe) {
    let media = media();
    let probe = media.probe(path).await.unwrap().value;
    let index = probe.audio[0].index;
    let asked = transcriber.transcribe(&media, (path, &probe), index, options, listening);
    let found = asked.await.unwrap();
    (found, probe)
}

/// What is said in a film whose sound is whole, all of which must have been heard: 20 seconds or more.
async fn transcript(transcriber: &Transcriber, path: &Path) -> Transcript {
    let (options, listening) = (TranscriptionOptions::default(), Listening::default());
    let (found, probe) = transcription(transcriber, path, &options, &listening).await;
    let length = u64::try_from(probe.duration_us).unwrap();
    let heard = listening.heard_us();
    assert!((19_900_000..=length + 100_000).contains(&heard), "{listening:?} of {length}");
    assert!(found.device > Duration::ZERO);
    assert!(found.damage.is_none(), "{found:?}");
    found.transcript
}

#[tokio::test]
async fn a_video_says_what_is_said_and_when() {
    let folder = TempDir::new().unwrap();
    let transcriber = transcriber(folder.path()).await;
    let forms = [
        ("48k.mkv", "-c:a aac"),
        ("8k.mkv", "-ar 8000 -c:a pcm_s16le"),
        ("surround.mp4", "-ac 6 -c:a aac"),
    ];
    let films = forms.map(|(name, form)| film(folder.path(), name, form));
    let all = films.iter().map(|film| transcript(&transcriber, film));
    let together = futures::future::join_all(all).await;
    for (film, found) in films.iter().zip(&together) {
        assert_eq!((found.source, found.language.as_deref()), (TranscriptSource::Asr, Some("en")));
        let again = found.cues.iter().find(|cue| cue.text.contains("Try again"));
        let start = again.unwrap_or_else(|| panic!("{film:?}: {found:?}")).span.start_us;
        // The silence before it ends 4.665 s after the recording begins (ffmpeg's silencedetect, -32 dB).
        assert!(start.abs_diff(14_665_000) < 300_000, "{film:?}: {found:?}");
        assert!(found.cues.iter().all(|cue| cue.span.start_us >= 9_700_000), "{found:?}");
        assert_eq!(&transcript(&transcriber, film).await, found, "{film:?} alone");
    }
}

/// Videos each of whose windows knows what was said before it ask for one window at a time: a run of several windows
/// is one of several videos, whose prompts differ.
#[tokio::test]
async fn windows_of_several_videos_share_a_run() {
    let folder = TempDir::new().unwrap();
    let transcriber = transcriber(folder.path()).await;
    let sound = |name: &str, input: &str, recording: &str| {
        made(folder.path(), name, input, recording, "-c:a pcm_s16le")
    };
    let films = [
        sound("whole.wav", "", "two_cities.wav"),
        sound("later.wav", "-ss 20.5", "two_cities.wav"),
        sound("other.wav", "", "beckett.wav"),
    ];
    let options = TranscriptionOptions { connected: true, ..TranscriptionOptions::default() };
    let listening = Listening::default();
    let ask = |film: &PathBuf| {
        let film = film.clone();
        let (transcriber, options, listening) = (&transcriber, &options, &listening);
        async move { transcription(transcriber, &film, options, listening).await.0.transcript }
    };
    let mut alone = Vec::new();
    for film in &films {
        alone.push(ask(film).await);
    }
    let Recognised { windows, runs } = transcriber.recognised();
    assert!(windows >= 4, "{windows}");
    assert_eq!(windows, runs, "a video alone asks for one window at a time");
    // Windows share a run where they wait at once; on a busy machine they may miss each other for a while.
    for round in 2..12 {
        let together = futures::future::join_all(films.iter().map(ask)).await;
        assert_eq!(together, alone);
        let all = transcriber.recognised();
        assert_eq!(all.windows, round * windows);
        if all.runs < all.windows {
            return;
        }
    }
    panic!("{:?}: no two windows shared a run", transcriber.recognised());
}

/// `wisdom` is cut off in the middle.
#[rstest]
#[case::sound("cut.wav", "-t 5.42", "-c:a pcm_s16le")]
#[case::film(
    "cut.mkv",
    "-f lavfi -i testsrc2=s=64x64:r=50:d=5.42",
    "-map 0:v -map 1:a -c:v mpeg4 -c:a pcm_s16le"
)]
#[tokio::test]
async fn a_sentence_that_is_cut_off_ends_with_the_video(
    #[case] name: &str,
    #[case] input: &str,
    #[case] form: &str,
) {
    let folder = TempDir::new().unwrap();
    let transcriber = transcriber(folder.path()).await;
    let path = made(folder.path(), name, input, "two_cities.wav", form);
    let (options, listening) = (TranscriptionOptions::default(), Listening::default());
    let (found, probe) = transcription(&transcriber, &path, &options, &listening).await;
    assert_eq!(probe.duration_us, 5_420_000);
    let cues = found.transcript.cues;
    let last = cues.last().unwrap();
    assert_eq!(last.span.end_us, 5_420_000, "the voice goes on to the end: {cues:?}");
    let model = folder.path().join("model");
    bundles::tiny(&model, 7).unwrap();
    let tokenizer = Tokenizer::open(&Bundle::open(&model).unwrap()).unwrap();
    let read = input_ids(&tokenizer, std::slice::from_ref(last), probe.duration_us).unwrap();
    assert!(read.len() > 3, "the model reads nothing of it: {read:?}");
}

/// The first sentences of a recording whose second half is cut off, or noise.
#[rstest]
#[case::cut("film.mkv", "-c:a flac", false, "it breaks off at ")]
#[case::noise("film.mp4", "-c:a aac -movflags faststart", true, " pieces of it cannot be decoded")]
#[tokio::test]
async fn what_is_left_of_damaged_sound_is_heard(
    #[case] name: &str,
    #[case] form: &str,
    #[case] noise: bool,
    #[case] because: &str,
) {
    let folder = TempDir::new().unwrap();
    let transcriber = transcriber(folder.path()).await;
    let path = film(folder.path(), name, form);
    let mut bytes = std::fs::read(&path).unwrap();
    let (whole, cut) = (bytes.len(), bytes.len() * 7 / 10);
    if noise {
        let mut seed = 1;
        for byte in &mut bytes[cut..whole] {
            seed = eventide_testkit::scrambled(seed);
            *byte = seed.to_le_bytes()[7];
        }
    } else {
        bytes.truncate(cut);
    }
    std::fs::write(&path, bytes).unwrap();
    let (options, listening) = (TranscriptionOptions::default(), Listening::default());
    let (found, _) = transcription(&transcriber, &path, &options, &listening).await;
    let cues = &found.transcript.cues;
    assert!(cues.iter().any(|cue| cue.text.to_lowercase().contains("try again")), "{cues:?}");
    let damage = found.damage.unwrap();
    assert_eq!(damage.reason_code(), "damaged_sound");
    assert!(damage.to_string().contains(because), "{damage}");
}

#[tokio::test]
async fn a_silent_video_says_nothing() {
    let folder = TempDir::new().unwrap();
    let transcriber = transcriber(folder.path()).await;
    let path = folder.path().join("silent.mkv");
    let silence =
        "-f lavfi -i testsrc2=s=64x64:r=5:d=40 -f lavfi -i anullsrc=r=44100:cl=stereo:d=40";
    let mut arguments: Vec<&str> = silence.split(' ').collect();
    arguments.extend(["-shortest", "-c:v", "libx264", "-c:a", "aac", path.to_str().unwrap()]);
    tools().unwrap().run_ffmpeg(arguments).unwrap();
    let found = transcript(&transcriber, &path).await;
    assert_eq!((found.cues.len(), found.language), (0, None));
}
