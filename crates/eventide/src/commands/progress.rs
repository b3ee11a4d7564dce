//! How far a run is, for the person who waits for it: a bar at a terminal, else lines.

use std::{io::IsTerminal, time::Duration};

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
    loop {
        tokio::time::sleep(TELL_EVERY).await;
        let counts = progress.counts();
        eprintln!("{} of {} videos, {}", counts.done, counts.planned, done_so_far(&counts));
        tell_paces(&progress.paces());
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
