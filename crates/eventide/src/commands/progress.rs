//! How far a run is, for the person who waits for it: a bar at a terminal, else lines.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use eventide_catalog::Pace;
use eventide_engine::{Counts, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::MissedTickBehavior;

use crate::report;

/// How often a run says how far it is, where there is no terminal.
const TELL_EVERY: Duration = Duration::from_mins(1);
/// How often a bar is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(250);
/// Executors that a bar shows; a terminal is not high.
const MOST_SHOWN: usize = 8;

/// Shows how far the run is, for as long as it is polled.
pub(super) async fn shown(progress: &Progress, quiet: bool) {
    if quiet {
        return std::future::pending().await;
    }
    if !std::io::stderr().is_terminal() {
        return told(progress).await;
    }
    let style = ProgressStyle::with_template(
        "{elapsed_precise} {bar:30} {pos}/{len} videos, {eta} left, {msg}",
    )
    .expect("the template is right");
    let bar = ProgressBar::new(0).with_style(style);
    let mut ticks = tokio::time::interval(DRAW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let (counts, paces) = (progress.counts(), progress.paces());
        bar.set_length(counts.planned);
        bar.set_position(counts.done);
        let lines = [vec![done_so_far(&counts)], paces_shown(&paces)].concat();
        bar.set_message(lines.join("\n  "));
    }
}

/// Says how far the run is, some lines now and then, for who has no terminal.
async fn told(progress: &Progress) {
    let mut pace = None;
    loop {
        tokio::time::sleep(TELL_EVERY).await;
        let counts = progress.counts();
        // What an earlier run has done is there at once, and says nothing of how long the rest takes.
        let (since, before) = *pace.get_or_insert_with(|| (Instant::now(), counts.done));
        let left = time_left(counts.planned, counts.done, before, since.elapsed());
        eprintln!("{} of {} videos{left}, {}", counts.done, counts.planned, done_so_far(&counts));
        tell_paces(&progress.paces());
    }
}

/// How long the rest of the videos may take, if they go on as those did that were done in `elapsed`: all but `before`. Nothing,
/// where there is no telling.
fn time_left(planned: u64, done: u64, before: u64, elapsed: Duration) -> String {
    let (Some(done_since), Some(rest)) = (done.checked_sub(before), planned.checked_sub(done))
    else {
        return String::new();
    };
    let Some(minutes) = (elapsed.as_secs() * rest).checked_div(done_since) else {
        return String::new();
    };
    let minutes = minutes.div_ceil(60);
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!(", about {minutes}m left"),
        (hours, minutes) => format!(", about {hours}h {minutes}m left"),
    }
}

/// Says how fast executors were, a line each.
pub(super) fn tell_paces(paces: &[Pace]) {
    for pace in paces {
        eprintln!("  {}", pace_of(pace));
    }
}

fn done_so_far(counts: &Counts) -> String {
    format!(
        "{} of {} shards, {}, {} events, {} failed",
        counts.done_shards,
        counts.planned_shards,
        report::hours(counts.video_ms),
        counts.events,
        counts.failed
    )
}

/// The lines of as many executors as a terminal has room for.
fn paces_shown(paces: &[Pace]) -> Vec<String> {
    let mut lines: Vec<_> = paces.iter().take(MOST_SHOWN).map(pace_of).collect();
    if let Some(more) = paces.len().checked_sub(MOST_SHOWN).filter(|more| *more > 0) {
        lines.push(format!("and {more} more"));
    }
    lines
}

fn pace_of(pace: &Pace) -> String {
    format!(
        "{}: {} shards, {:.1} an hour; {} videos, {:.1} an hour; {} of video",
        pace.worker,
        pace.shards,
        pace.per_hour(pace.shards),
        pace.videos,
        pace.per_hour(pace.videos),
        report::hours(pace.video_ms)
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn pace(number: usize) -> Pace {
        Pace {
            worker: format!("host/{number}"),
            shards: 2,
            videos: 30,
            failed: 0,
            video_ms: 5_400_000,
            began_at_ms: 0,
            ended_at_ms: 1_800_000,
        }
    }

    #[test]
    fn an_executor_is_a_line_and_a_terminal_has_room_for_some() {
        let paces: Vec<_> = (0..10).map(pace).collect();
        let lines = paces_shown(&paces);
        assert_eq!(lines.len(), 9);
        let line = "host/0: 2 shards, 4.0 an hour; 30 videos, 60.0 an hour; 1.50 h of video";
        assert_eq!(lines.first().map(String::as_str), Some(line));
        assert_eq!(lines.last().map(String::as_str), Some("and 2 more"));
        assert_eq!(paces_shown(&paces[..8]).len(), 8);
    }

    #[rstest]
    #[case::half_in_ten_minutes(100, 50, 0, 600, ", about 10m left")]
    #[case::an_earlier_run_did_half(100, 60, 50, 600, ", about 40m left")]
    #[case::hours(1000, 100, 0, 3600, ", about 9h 0m left")]
    #[case::less_than_a_minute(100, 99, 0, 600, ", about 1m left")]
    #[case::nothing_done_yet(100, 50, 50, 600, "")]
    #[case::nothing_planned_yet(0, 0, 0, 60, "")]
    #[case::all_done(100, 100, 0, 600, ", about 0m left")]
    fn what_is_left_goes_on_as_before(
        #[case] planned: u64,
        #[case] done: u64,
        #[case] before: u64,
        #[case] elapsed: u64,
        #[case] said: &str,
    ) {
        assert_eq!(time_left(planned, done, before, Duration::from_secs(elapsed)), said);
    }

    #[test]
    fn a_line_says_what_was_done_so_far() {
        let counts = Counts {
            planned_shards: 9,
            done_shards: 3,
            video_ms: 360_000,
            events: 7,
            failed: 1,
            ..Counts::default()
        };
        assert_eq!(done_so_far(&counts), "3 of 9 shards, 0.10 h, 7 events, 1 failed");
    }
}
