//! Two hours of 1080p through the model, within 1.5 GB for the whole process tree.

use std::time::Duration;

use eventide_testkit::{bundles, footage, tools};

use crate::trial::{LIMIT, Trial};

/// Runs a command and prints the sum of two peaks in KiB: of the program itself, and of the largest process below it.
/// With one video at a time there is never more than one media child, so the sum bounds the peak of the tree.
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
print(os.waitstatus_to_exitcode(status), peak + below)
";

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
    let last = said.lines().last().unwrap_or_default();
    let (code, peak_kib) = last.split_once(' ').unwrap();
    assert_eq!(code, "0", "{said}");
    let peak_kib: u64 = peak_kib.parse().unwrap();
    assert!(peak_kib < 1_500_000, "{peak_kib} KiB");

    let video = &trial.rows("videos", "uri")[0];
    assert_eq!(
        (&video["frames_used"], &video["frames_missing"]),
        (&100.into(), &0.into()),
        "{video:#}"
    );
    let duration = video["duration_ms"].as_u64().unwrap();
    assert!(duration.abs_diff(7_200_000) < 1_000, "{duration}");
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
