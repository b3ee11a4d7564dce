//! Who worked when: a row for each worker, a bar for each shard.

use std::fmt::Write as _;

use eventide_catalog::ShardWork;

/// Pixels.
const WIDTH: i64 = 900;
const NAMES: i64 = 180;
const ROW: i64 = 22;

/// The workers of these shards, by name.
pub(super) fn workers(shards: &[ShardWork]) -> Vec<&str> {
    let mut workers: Vec<_> = shards.iter().map(|shard| shard.work.worker.as_str()).collect();
    workers.sort_unstable();
    workers.dedup();
    workers
}

/// The picture, from the first begin to the last end; `None` where nothing is known.
pub(super) fn svg(shards: &[ShardWork]) -> Option<String> {
    let begin = shards.iter().map(|shard| shard.work.began_at_ms).min()?;
    let end = shards.iter().map(|shard| shard.work.ended_at_ms).max()?;
    let span = (end - begin).max(1);
    let across = |at: i64| NAMES + (at - begin) * (WIDTH - NAMES) / span;
    let workers = workers(shards);
    let height = ROW * (i64::try_from(workers.len()).unwrap_or(0) + 1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-size=\"11\">"
    );
    for (worker, row) in workers.iter().zip(0..) {
        let top = row * ROW;
        let baseline = top + ROW - 7;
        let _ = write!(svg, "<text x=\"0\" y=\"{baseline}\">{}</text>", text(worker));
        for shard in shards.iter().filter(|shard| shard.work.worker == *worker) {
            let (left, right) = (across(shard.work.began_at_ms), across(shard.work.ended_at_ms));
            let colour = if shard.failed > 0 { "#c44" } else { "#48a" };
            let seconds = (shard.work.ended_at_ms - shard.work.began_at_ms) / 1000;
            let _ = write!(
                svg,
                "<rect x=\"{left}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{colour}\"><title>{}: {} videos, {} \
                 failed, {seconds} s</title></rect>",
                top + 3,
                (right - left - 1).max(1),
                ROW - 6,
                text(&shard.shard_id),
                shard.videos,
                shard.failed,
            );
        }
    }
    let baseline = height - 7;
    let _ = write!(
        svg,
        "<text x=\"{NAMES}\" y=\"{baseline}\">0 s</text><text x=\"{WIDTH}\" y=\"{baseline}\" \
         text-anchor=\"end\">{} s</text></svg>",
        span / 1000
    );
    Some(svg)
}

/// As text in XML.
fn text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use eventide_catalog::Work;

    use super::*;

    fn shard(worker: &str, began_at_ms: i64, ended_at_ms: i64) -> ShardWork {
        let work = Work { worker: worker.to_owned(), began_at_ms, ended_at_ms };
        ShardWork { shard_id: "s".to_owned(), work, videos: 1, failed: 0 }
    }

    #[test]
    fn a_bar_stands_where_its_time_is() {
        let svg = svg(&[shard("a", 1000, 2000), shard("<b>", 1500, 3000)]).unwrap();
        let rect = |x, y, width| format!("<rect x=\"{x}\" y=\"{y}\" width=\"{width}\"");
        assert!(svg.contains(&rect(360, 3, 539)), "the second row, alphabetically `<b>`: {svg}");
        assert!(svg.contains(&rect(180, 25, 359)), "{svg}");
        assert!(svg.contains("&lt;b&gt;") && svg.contains(">2 s</text>"), "{svg}");
    }

    #[test]
    fn nothing_known_is_no_picture() {
        assert_eq!(svg(&[]), None);
    }
}
