//! What videos will cost, learnt from what those of earlier runs have cost: for each kind of video a line through the costs of
//! those that were indexed with the same model and parameters.
//!
//! A video that the tables know is of a kind by its codec and size of picture, and costs by its length; one that is new is
//! of a kind by the ending of its name, and costs by its bytes.

use std::collections::{BTreeMap, HashMap};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Int32Type, Int64Type},
};
use eventide_schema::WorkItem;

use crate::{
    PlanOptions, Result, Tables,
    tables::{Table, text},
};

/// What videos will cost.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Estimate {
    /// Their length in seconds.
    pub video_seconds: f64,
    /// Processor time of the media children in seconds.
    pub core_seconds: f64,
    /// Time that a device will work in seconds.
    pub device_seconds: f64,
}

impl Estimate {
    fn add(&mut self, other: Self, share: f64) {
        self.video_seconds += share * other.video_seconds;
        self.core_seconds += share * other.core_seconds;
        self.device_seconds += share * other.device_seconds;
    }
}

/// What a row of `videos` says of a video and of its cost.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Costed {
    pub(crate) uri: String,
    pub(crate) codec: String,
    pub(crate) pixels: u64,
    pub(crate) bytes: u64,
    pub(crate) took: Estimate,
}

impl Costed {
    fn kind(&self) -> Kind {
        Kind::Seen { codec: self.codec.clone(), pixels_log2: self.pixels.max(1).ilog2() }
    }
}

/// Videos that cost alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Probed before.
    Seen { codec: String, pixels_log2: u32 },
    /// Only the ending of its name is known, in lower case.
    Named(String),
    /// Any video.
    Any,
}

/// The ending of the last part of a name, without its dot.
fn ending(uri: &str) -> Kind {
    let name = uri.rsplit('/').next().unwrap_or_default();
    Kind::Named(name.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase())
}

/// The line of least squares through some points. Costs neither fall with size nor are below nothing at none: where the line would,
/// it goes through the origin or lies flat.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Line {
    fn add(&mut self, x: f64, y: f64) {
        self.n += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
    }

    fn at(&self, x: f64) -> f64 {
        let spread = self.n * self.xx - self.x * self.x;
        let slope = (self.n * self.xy - self.x * self.y) / spread;
        let least = (self.y - slope * self.x) / self.n;
        if spread > 1e-9 * self.n * self.xx && slope >= 0.0 && least >= 0.0 {
            least + slope * x
        } else if self.xx > 0.0 && (least < 0.0 || spread <= 1e-9 * self.n * self.xx) {
            self.y / self.x * x
        } else {
            self.y / self.n
        }
    }
}

/// What a kind of video costs by its size, in seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    length: Line,
    cores: Line,
    device: Line,
}

impl Rate {
    fn add(&mut self, size: f64, took: Estimate) {
        self.length.add(size, took.video_seconds);
        self.cores.add(size, took.core_seconds);
        self.device.add(size, took.device_seconds);
    }

    fn at(&self, size: f64) -> Estimate {
        Estimate {
            video_seconds: self.length.at(size),
            core_seconds: self.cores.at(size),
            device_seconds: self.device.at(size),
        }
    }
}

/// What each kind of video costs.
#[derive(Debug, Clone, Default)]
pub(crate) struct CostModel(BTreeMap<Kind, Rate>);

impl CostModel {
    /// Learns from a video that was indexed.
    pub(crate) fn learn(&mut self, video: &Costed) {
        if !video.codec.is_empty() && video.took.video_seconds > 0.0 {
            self.rate(video.kind()).add(video.took.video_seconds, video.took);
        }
        for kind in [ending(&video.uri), Kind::Any] {
            self.rate(kind).add(float(video.bytes), video.took);
        }
    }

    fn rate(&mut self, kind: Kind) -> &mut Rate {
        self.0.entry(kind).or_default()
    }

    /// What a video of so many bytes at `uri` will cost, of which the tables may know an earlier version; `None` where nothing
    /// was learnt.
    pub(crate) fn foretell(
        &self,
        uri: &str,
        bytes: u64,
        before: Option<&Costed>,
    ) -> Option<Estimate> {
        if let Some(before) = before.filter(|before| before.bytes > 0)
            && let Some(rate) = self.0.get(&before.kind())
        {
            let grown = float(bytes) / float(before.bytes);
            let seconds = before.took.video_seconds * grown;
            return Some(Estimate { video_seconds: seconds, ..rate.at(seconds) });
        }
        let rate = self.0.get(&ending(uri)).or_else(|| self.0.get(&Kind::Any))?;
        Some(rate.at(float(bytes)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn float(value: u64) -> f64 {
    value as f64
}

impl Tables {
    /// What some work will cost, by what the videos have cost that the tables hold of the same model and parameters; `None` where
    /// they hold none.
    ///
    /// # Errors
    /// Whatever keeps `videos` from being read.
    pub async fn estimate<'a>(
        &self,
        items: impl Iterator<Item = &'a WorkItem> + Clone,
        options: &PlanOptions,
    ) -> Result<Option<Estimate>> {
        let Some(snapshot) = self.snapshot().await? else { return Ok(None) };
        let version = Some(snapshot.videos_version);
        let Some(videos) = self.delta(Table::Videos, version).await? else { return Ok(None) };
        let mut before: HashMap<&str, Option<Costed>> =
            items.clone().map(|item| (item.video.uri.as_str(), None)).collect();
        let mut model = CostModel::default();
        let columns = [
            "uri",
            "size_bytes",
            "duration_ms",
            "video_codec",
            "width",
            "height",
            "core_ms",
            "device_ms",
            "model_digest",
            "params_digest",
        ];
        self.scan(Table::Videos, &videos, &columns, |batch| {
            for row in 0..batch.num_rows() {
                let video = costed(batch, row);
                if text(batch, "model_digest", row) == options.model_digest
                    && text(batch, "params_digest", row) == options.params_digest
                {
                    model.learn(&video);
                }
                if let Some(place) = before.get_mut(video.uri.as_str()) {
                    *place = Some(video);
                }
            }
        })
        .await?;
        let mut all = Estimate::default();
        for item in items {
            let (uri, whole) = (item.video.uri.as_str(), item.video.size_bytes);
            let before = before.get(uri).and_then(Option::as_ref);
            let Some(cost) = model.foretell(uri, whole, before) else { return Ok(None) };
            all.add(cost, float(item.size_bytes()) / float(whole.max(1)));
        }
        Ok(Some(all).filter(|_| !model.0.is_empty()))
    }
}

fn costed(batch: &RecordBatch, row: usize) -> Costed {
    let long = |name: &str| {
        let column = batch.column_by_name(name)?.as_primitive_opt::<Int64Type>()?;
        column.is_valid(row).then(|| u64::try_from(column.value(row)).unwrap_or(0))
    };
    let int = |name: &str| {
        let column = batch.column_by_name(name)?.as_primitive_opt::<Int32Type>()?;
        column.is_valid(row).then(|| u64::try_from(column.value(row)).unwrap_or(0))
    };
    let seconds = |name: &str| float(long(name).unwrap_or(0)) / 1000.0;
    Costed {
        uri: text(batch, "uri", row),
        codec: text(batch, "video_codec", row),
        pixels: int("width").unwrap_or(0) * int("height").unwrap_or(0),
        bytes: long("size_bytes").unwrap_or(0),
        took: Estimate {
            video_seconds: seconds("duration_ms"),
            core_seconds: seconds("core_ms"),
            device_seconds: seconds("device_ms"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const CLIP: u64 = 320 * 180;
    const FILM: u64 = 1920 * 1080;

    /// A made-up video: each costs 0.2 core-seconds to begin with, and then by its length and picture.
    fn video(uri: &str, codec: &str, pixels: u64, seconds: f64) -> Costed {
        let per_second = float(pixels) * if codec == "hevc" { 4e-8 } else { 2e-8 };
        let bytes = float(pixels) * seconds / 4.0;
        let took = Estimate {
            video_seconds: seconds,
            core_seconds: 0.2 + per_second * seconds,
            device_seconds: 0.05,
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "made up")]
        Costed { uri: uri.to_owned(), codec: codec.to_owned(), pixels, bytes: bytes as u64, took }
    }

    /// Earlier runs over clips of H.264 in MP4 and films of HEVC in Matroska.
    fn learnt() -> CostModel {
        let mut model = CostModel::default();
        for seconds in [20.0, 25.0, 60.0] {
            model.learn(&video("s3://b/clip.mp4", "h264", CLIP, seconds));
            model.learn(&video("s3://b/film.MKV", "hevc", FILM, 10.0 * seconds));
        }
        model
    }

    fn check(found: Option<Estimate>, expected: Estimate, within: f64) {
        let found = found.unwrap();
        let pairs = [
            (found.video_seconds, expected.video_seconds),
            (found.core_seconds, expected.core_seconds),
            (found.device_seconds, expected.device_seconds),
        ];
        for (found, expected) in pairs {
            assert!((found - expected).abs() <= within * expected, "{found} for {expected}");
        }
    }

    #[rstest]
    #[case::short_clip("s3://b/new.mp4", "h264", CLIP, 5.0)]
    #[case::long_clip("s3://b/new.mp4", "h264", CLIP, 300.0)]
    #[case::film("s3://b/new.mkv", "hevc", FILM, 3600.0)]
    fn costs_follow_kind_and_size(
        #[case] uri: &str,
        #[case] codec: &str,
        #[case] pixels: u64,
        #[case] seconds: f64,
    ) {
        let due = video(uri, codec, pixels, seconds);
        check(learnt().foretell(uri, due.bytes, None), due.took, 0.01);
        check(learnt().foretell(uri, due.bytes, Some(&due)), due.took, 0.01);
    }

    #[test]
    fn a_video_that_has_grown_costs_by_its_new_length() {
        let (before, due) =
            (video("b.mkv", "h264", CLIP, 30.0), video("b.mkv", "h264", CLIP, 60.0));
        check(learnt().foretell("b.mkv", due.bytes, Some(&before)), due.took, 0.01);
    }

    #[test]
    fn a_name_of_no_kind_is_any_video() {
        assert!(learnt().foretell("s3://b.c/video", 1_000_000, None).is_some());
        let before = video("a.mp4", "av1", FILM, 10.0);
        assert!(learnt().foretell("a.mp4", before.bytes, Some(&before)).is_some());
        assert_eq!(CostModel::default().foretell("a.mp4", 1, Some(&before)), None);
    }

    #[rstest]
    #[case::one_point(&[(10.0, 5.0)], 20.0, 10.0)]
    #[case::one_size(&[(10.0, 4.0), (10.0, 6.0)], 20.0, 10.0)]
    #[case::a_line(&[(10.0, 3.0), (20.0, 5.0)], 40.0, 9.0)]
    #[case::below_nothing_at_none(&[(10.0, 1.0), (20.0, 3.0)], 30.0, 4.0)]
    #[case::falls_with_size(&[(10.0, 3.0), (20.0, 1.0)], 40.0, 2.0)]
    #[case::no_size(&[(0.0, 3.0), (0.0, 5.0)], 40.0, 4.0)]
    fn lines(#[case] points: &[(f64, f64)], #[case] at: f64, #[case] expected: f64) {
        let mut line = Line::default();
        for &(x, y) in points {
            line.add(x, y);
        }
        assert!((line.at(at) - expected).abs() < 1e-9, "{}", line.at(at));
    }
}
