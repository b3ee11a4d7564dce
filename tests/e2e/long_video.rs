//! Two hours of 1080p through the model, within 1.5 GB for the whole process tree; and three hours of sound in less.

use std::time::Duration;

use eventide_testkit::{bundles, footage, tools, whisper};
use rstest::rstest;

use crate::speech::add_whisper_of;
use crate::trial::{LIMIT, Trial};

/// Runs a command and prints its exit code and two peaks in KiB: of the program itself, and of the largest process, be it
/// the program or one below it. With one video at a time there is never more than one media child, so the sum bounds the
/// peak of the tree.
const PEAKS: &str = "
import os, resource, sys
own = os.path.join(os.path.dirname(sys.argv[1]), 'peak')
pid = os.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
peak = 0
while True:
    try:
        for line in open(f'/proc/{pid}/status'):
            if line.startswith('VmHWM:'):
                peak = max(peak, int(line.split()[1]))
    except OSError:
        pass
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        break
    os.sched_yield()
    import select
    select.select([], [], [], 0.05)
below = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(os.waitstatus_to_exitcode(status), peak, below)
";

/// The peaks of a command that has succeeded, out of its last line.
fn peaks(line: &str) -> [u64; 2] {
    let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
    let [0, own_kib, largest_kib] = numbers[..] else { panic!("{line}") };
    [own_kib, largest_kib]
}

#[test]
fn two_hours_fit_in_memory() {
    let trial = Trial::with_job(
        "[model]\nbundle = \"bundle\"\n[captioning]\nmax-output-tokens = 20\n[limits]\nwall = \"10m\"\n",
    );
    bundles::tiny(&trial.folder().join("bundle"), 7).unwrap();
    let tools = tools().unwrap();
    let length = Duration::from_hours(2);
    footage::full_hd(&tools, length, &trial.corpus().join("long.mp4")).unwrap();

    let job = trial.folder().join("night.toml").display().to_string();
    let program = env!("CARGO_BIN_EXE_eventide");
    let said = tools
        .run_python(
            PEAKS,
            [
                program,
                "index",
                &job,
                "--allow-untrained",
                "--workers",
                "1",
                "--quiet",
                "--format",
                "json",
            ],
        )
        .unwrap();
    let [own_kib, largest_kib] = peaks(said.lines().last().unwrap_or_default());
    assert!(own_kib + largest_kib < 1_500_000, "{own_kib} and {largest_kib} KiB");

    let video = &trial.rows("videos", "uri")[0];
    assert_eq!(
        (&video["frames_used"], &video["frames_missing"]),
        (&100.into(), &0.into()),
        "{video:#}"
    );
    let duration = video["duration_ms"].as_u64().unwrap();
    assert!(duration.abs_diff(7_200_000) < 1_000, "{duration}");
}

#[rstest]
#[case::the_smallest(whisper::Size::TinyEnglish, "Try again", 4_665)]
#[case::base(whisper::Size::Base, "ever tried", 352)] // base writes all of them as one sentence
fn the_sound_of_three_hours_is_heard_in_little_memory(
    #[case] size: whisper::Size,
    #[case] begins: &str,
    #[case] start: u64,
) {
    let trial = Trial::of_speech();
    add_whisper_of(&trial, size);
    let tools = tools().unwrap();
    let recording = |name: &str| tools.recording(name).unwrap().display().to_string();
    let (short, long) = (recording("beckett.wav"), recording("two_cities.wav"));
    let place = trial.corpus().join("long.flac").display().to_string();
    let silence = "anullsrc=r=48000:cl=stereo:d=10800";
    let form = "aresample=48000,aformat=channel_layouts=stereo";
    // Minutes of speech at the end, so that windows are read together.
    let joined = format!("[0]{form}[a];[2]{form}[b];[3]{form}[c];[a][1][b][c]concat=n=4:v=0:a=1");
    let inputs = ["-i", &*short, "-f", "lavfi", "-i", silence, "-i", &*short];
    let inputs = inputs.into_iter().chain(["-stream_loop", "3", "-i", &*long]);
    tools.run_ffmpeg(inputs.chain(["-filter_complex", &joined, &place])).unwrap();
    let model = trial.folder().join("whisper");
    let weights = std::fs::metadata(model.join("model.safetensors")).unwrap().len() / 1024;
    let model = model.display().to_string();
    let program = env!("CARGO_BIN_EXE_eventide");
    let asked = [program, "transcribe", &*place, "--model", &*model, "--format", "json"];
    let said = tools.run_python(PEAKS, asked.into_iter().chain(["--threads", "1"])).unwrap();
    let (transcript, last) = said.trim_end().rsplit_once('\n').unwrap();
    let [_, largest_kib] = peaks(last);
    assert!(largest_kib < weights + 600_000, "{largest_kib} KiB with weights of {weights} KiB");
    let transcript: serde_json::Value = serde_json::from_str(transcript).unwrap();
    let sentences = transcript[0]["sentences"].as_array().unwrap();
    let best =
        sentences.iter().filter(|said| said["text"].as_str().unwrap().contains("best of times"));
    assert_eq!(best.count(), 4, "{transcript:#}");
    let found = sentences.iter().filter(|said| said["text"].as_str().unwrap().contains(begins));
    let starts: Vec<u64> = found.map(|said| said["start_ms"].as_u64().unwrap()).collect();
    // The recording is 9.963 s long.
    let [first, second] = starts[..] else { panic!("{transcript:#}") };
    let again = start + 9_963 + 10_800_000;
    assert!(first.abs_diff(start) < 300 && second.abs_diff(again) < 300, "{starts:?}");
}

#[test]
fn a_hundred_frames_of_five_minutes_are_all_had() {
    // Too short to seek, too long for the wanted seconds to lie together: a hundred terms in one selection.
    let trial =
        Trial::with_job("[model]\nbundle = \"bundle\"\n[captioning]\nmax-output-tokens = 20\n");
    bundles::tiny(&trial.folder().join("bundle"), 7).unwrap();
    let tools = tools().unwrap();
    let card = footage::TestCard {
        rate: 5,
        sound: false,
        length: Duration::from_secs(301),
        ..footage::TestCard::default()
    };
    card.draw(&tools, &trial.corpus().join("five.mp4")).unwrap();
    card.draw(&tools, &trial.corpus().join("five.ts")).unwrap();
    trial.index().arguments(["--allow-untrained"]).run(LIMIT).unwrap().assert_code(0);
    for video in trial.rows("videos", "uri") {
        let frames = (&video["frames_used"], &video["frames_missing"]);
        assert_eq!(frames, (&100.into(), &0.into()), "{video:#}");
    }
}
