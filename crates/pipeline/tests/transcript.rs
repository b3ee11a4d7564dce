//! The sound of whole videos through the recogniser of the pipeline.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use std::{path::Path, time::Duration};

use eventide_media::{Limits, Media, Tools as MediaTools};
use eventide_model::{
    runtime::{Runtime, SessionOptions},
    speech::{RecognitionOptions, SpeechBundle},
};
use eventide_pipeline::{Listening, Transcriber, TranscriptionOptions};
use eventide_schema::{Transcript, TranscriptSource};
use eventide_testkit::{tools, whisper};
use eventide_training::Style;
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

/// A film whose sound is a recording that begins ten seconds late, in any form.
fn film(folder: &Path, name: &str, form: &[&str]) -> std::path::PathBuf {
    let tools = tools().unwrap();
    let path = folder.join(name);
    let recording = tools.recording("beckett.wav").unwrap();
    let recording = recording.to_str().unwrap();
    let pictures = ["-f", "lavfi", "-i", "testsrc2=s=64x64:r=5:d=25"];
    let sound =
        ["-itsoffset", "10", "-i", recording, "-map", "0:v", "-map", "1:a", "-c:v", "libx264"];
    let arguments = [&pictures[..], &sound, form, &[path.to_str().unwrap()]].concat();
    tools.run_ffmpeg(arguments).unwrap();
    path
}

async fn transcript(transcriber: &Transcriber, path: &Path) -> Transcript {
    let tools = tools().unwrap();
    let programs =
        MediaTools { ffmpeg: tools.ffmpeg().unwrap(), ffprobe: tools.ffprobe().unwrap() };
    let media = Media::new(programs, Limits::default());
    let probe = media.probe(path).await.unwrap().value;
    let index = probe.audio[0].index;
    let options = TranscriptionOptions::default();
    let listening = Listening::default();
    let asked = transcriber.transcribe(&media, (path, &probe), index, &options, &listening);
    let found = asked.await.unwrap();
    // All of the sound was heard, to the last piece; it is 20 seconds long or more.
    let length = u64::try_from(probe.duration_us).unwrap();
    let heard = listening.heard_us();
    assert!((19_900_000..=length + 100_000).contains(&heard), "{listening:?} of {length}");
    assert!(found.device > Duration::ZERO);
    found.transcript
}

#[tokio::test]
async fn a_video_says_what_is_said_and_when() {
    let folder = TempDir::new().unwrap();
    let transcriber = transcriber(folder.path()).await;
    let forms: [(&str, &[&str]); 3] = [
        ("48k.mkv", &["-c:a", "aac"]),
        ("8k.mkv", &["-ar", "8000", "-c:a", "pcm_s16le"]),
        ("surround.mp4", &["-ac", "6", "-c:a", "aac"]),
    ];
    let mut films: Vec<_> = forms.map(|(name, form)| film(folder.path(), name, form)).into();
    // All at once, so that their windows meet.
    let all = films.iter().map(|film| transcript(&transcriber, film));
    for (film, found) in films.iter().zip(futures::future::join_all(all).await) {
        assert_eq!((found.source, found.language.as_deref()), (TranscriptSource::Asr, Some("en")));
        let again = found.cues.iter().find(|cue| cue.text.contains("Try again"));
        let start = again.unwrap_or_else(|| panic!("{film:?}: {found:?}")).span.start_us;
        // The silence before it ends 4.665 s after the recording begins (ffmpeg's silencedetect, -32 dB).
        assert!(start.abs_diff(14_665_000) < 300_000, "{film:?}: {found:?}");
        assert!(found.cues.iter().all(|cue| cue.span.start_us >= 9_700_000), "{found:?}");
    }
    films.truncate(1);
    let alone = transcript(&transcriber, &films[0]).await;
    let again = transcript(&transcriber, &films[0]).await;
    assert_eq!(alone, again);
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
