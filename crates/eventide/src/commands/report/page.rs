//! The page of a run: what it did, what that cost, who worked when, what was slow, what failed.

use std::{collections::BTreeMap, fmt::Write as _};

use chrono::DateTime;
use eventide_catalog::VideoWork;

use super::{Told, timeline};
use crate::markdown::{self, code, escaped, table};

/// Videos that are listed of each kind.
const LISTED: usize = 20;

/// The page as HTML.
pub(super) fn of(told: &Told) -> String {
    let svg = timeline::svg(&told.shards);
    let mut page = String::new();
    facts(&mut page, told);
    costs(&mut page, told);
    workers(&mut page, told, svg.is_some());
    slowest(&mut page, told);
    failures(&mut page, told);
    let title = format!("Run {}", told.run.run_id);
    let picture = |name: &str| svg.as_deref().filter(|_| name == "timeline");
    markdown::page(&title, &page, picture)
}

fn facts(page: &mut String, told: &Told) {
    let run = &told.run;
    let at = |milliseconds| {
        let at = DateTime::from_timestamp_millis(milliseconds);
        at.map(|at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string()).unwrap_or_default()
    };
    let _ = writeln!(page, "# Run {} of {}\n", escaped(&run.run_id), escaped(&run.job));
    let (started, finished) = (at(run.started_at_ms), at(run.finished_at_ms));
    let _ = writeln!(page, "From {started} to {finished}.\n");
    let counts = [
        ("listed", run.listed),
        ("captioned", run.captioned),
        ("empty", run.empty),
        ("failed", run.failed),
        ("skipped", run.skipped),
        ("unchanged", run.unchanged),
        ("removed", run.removed),
        ("events", run.events),
    ];
    let rows = counts.into_iter().map(|(name, count)| vec![name.to_owned(), count.to_string()]);
    table(page, &["videos", "count"], rows);
}

fn costs(page: &mut String, told: &Told) {
    let run = &told.run;
    let wall = u64::try_from(run.finished_at_ms - run.started_at_ms).unwrap_or(0);
    page.push_str("## Cost\n\n");
    let rows = [("wall clock", wall), ("cores", run.core_ms), ("devices", run.device_ms)];
    let rows = rows.into_iter().map(|(what, spent)| {
        vec![what.to_owned(), format!("{:.1}", seconds(spent)), per_hour(spent, run.video_ms)]
    });
    table(page, &["of", "seconds", "seconds a video-hour"], rows);
    let hours = seconds(run.video_ms) / 3600.0;
    let _ = writeln!(page, "{hours:.2} video-hours, {} bytes read.\n", run.bytes_read);
}

fn workers(page: &mut String, told: &Told, drawn: bool) {
    page.push_str("## Workers\n\n");
    if !drawn {
        page.push_str("Who did which shard when is not known of this run.\n\n");
        return;
    }
    page.push_str(
        "![Who worked when](timeline.svg)\n\nA bar is a shard; it is red where a video failed.\n\n",
    );
    let rows = timeline::workers(&told.shards).into_iter().map(|worker| {
        let shards = told.shards.iter().filter(|shard| shard.work.worker == worker);
        let busy: i64 = shards.clone().map(|s| s.work.ended_at_ms - s.work.began_at_ms).sum();
        let (count, videos) = shards.fold((0, 0), |(n, videos), s| (n + 1, videos + s.videos));
        let busy = format!("{:.1}", seconds(u64::try_from(busy).unwrap_or(0)));
        vec![escaped(worker), count.to_string(), videos.to_string(), busy]
    });
    table(page, &["worker", "shards", "videos", "seconds in shards"], rows);
}

fn slowest(page: &mut String, told: &Told) {
    let mut videos: Vec<&VideoWork> = told.videos.iter().collect();
    videos.sort_by_key(|video| std::cmp::Reverse(video.wall_ms));
    if videos.is_empty() {
        return;
    }
    page.push_str("## The slowest videos\n\n");
    let rows = videos.iter().take(LISTED).map(|video| {
        vec![
            escaped(&video.uri),
            format!("{:.1}", seconds(video.wall_ms)),
            format!("{:.1}", seconds(video.core_ms)),
            format!("{:.1}", seconds(video.device_ms)),
            format!("{:.1}", seconds(video.duration_ms)),
            escaped(&video.worker),
        ]
    });
    table(page, &["video", "wall s", "core s", "device s", "length s", "worker"], rows);
}

fn failures(page: &mut String, told: &Told) {
    let failed = told.videos.iter().filter(|video| video.status == "failed");
    let mut reasons = BTreeMap::<&str, Vec<&VideoWork>>::new();
    for video in failed {
        reasons.entry(&video.reason_code).or_default().push(video);
    }
    if reasons.is_empty() {
        return;
    }
    page.push_str("## Failures\n\n");
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, videos)| std::cmp::Reverse(videos.len()));
    for (reason, videos) in reasons {
        let _ = writeln!(page, "### {} ({})\n", code(reason), videos.len());
        let rows = videos.iter().take(LISTED);
        let rows = rows.map(|video| vec![escaped(&video.uri), escaped(&video.reason)]);
        table(page, &["video", "reason"], rows);
    }
}

#[expect(clippy::cast_precision_loss, reason = "for a person to read")]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

fn per_hour(spent_ms: u64, video_ms: u64) -> String {
    match video_ms {
        0 => "-".to_owned(),
        _ => format!("{:.1}", seconds(spent_ms) * 3600.0 / seconds(video_ms)),
    }
}
