//! When the pictures of a stream are shown, as its container lists them: no decoding.

use crate::grid::TimeBase;

/// One packet of a video stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Presentation time in ticks.
    pub(crate) ticks: i64,
    /// How long it is shown, in ticks; 0 where the container does not say.
    pub(crate) duration: i64,
    /// A decoder can start here.
    pub(crate) key: bool,
    /// The demultiplexer found it incomplete.
    pub(crate) damaged: bool,
}

impl Packet {
    /// Reads a line `pts,dts,duration,flags`, as `ffprobe` writes it. `None` for a packet that is
    /// decoded but not shown (`D`), that has no time at all, or a line that is something else.
    ///
    /// Some containers (AVI) only know the decoding time; it is taken then. Pictures that are
    /// stored out of order are off by the re-ordering in that case.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.trim_end().split(',');
        let (pts, dts, duration) = (fields.next()?, fields.next()?, fields.next()?);
        let flags = fields.next()?;
        if flags.contains('D') {
            return None;
        }
        Some(Self {
            ticks: pts.parse().or_else(|_| dts.parse()).ok()?,
            duration: duration.parse().unwrap_or(0).max(0),
            key: flags.contains('K'),
            damaged: flags.contains('C'),
        })
    }
}

/// All pictures of a stream, by presentation time. 8 bytes each.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pictures {
    pub(crate) base: TimeBase,
    /// Presentation times, increasing. Never empty.
    ticks: Vec<i64>,
    /// Presentation times of those that a decoder can start at, increasing.
    keys: Vec<i64>,
    /// The moment after the last picture; its presentation time where its duration is not told.
    end: i64,
    /// Pictures after which, in a damaged file, the next one is more than a second late.
    torn: Vec<i64>,
}

impl Pictures {
    /// From the packets in any order; `None` if there are none. `torn` says that the
    /// demultiplexer complained, so that a gap between packets means packets that were lost and
    /// not a picture that stands still.
    pub(crate) fn new(base: TimeBase, mut packets: Vec<Packet>, torn: bool) -> Option<Self> {
        packets.sort_by_key(|packet| packet.ticks);
        let torn = torn || packets.iter().any(|packet| packet.damaged);
        let second = base.ticks(1_000_000);
        let late = |pair: &[Packet]| {
            pair[0].ticks.saturating_add(pair[0].duration).saturating_add(second) < pair[1].ticks
        };
        let gaps = packets.windows(2).filter(|pair| torn && late(pair)).map(|pair| pair[0].ticks);
        let torn = gaps.collect();
        let ticks: Vec<_> = packets.iter().map(|packet| packet.ticks).collect();
        let keys = packets.iter().filter(|packet| packet.key).map(|packet| packet.ticks).collect();
        let end = packets.iter().map(|p| p.ticks.saturating_add(p.duration)).max()?;
        Some(Self { base, ticks, keys, end, torn })
    }

    pub(crate) fn len(&self) -> usize {
        self.ticks.len()
    }

    /// The first presentation time.
    pub(crate) fn start(&self) -> i64 {
        self.ticks[0]
    }

    /// Length in microseconds, from the first presentation time to the end of the last picture.
    pub(crate) fn duration_us(&self) -> i64 {
        self.base.micros(self.end.saturating_sub(self.start()))
    }

    /// The picture that the container lists for `slot` of the window that starts at `origin`;
    /// the very first one where all come later.
    pub(crate) fn listed(&self, origin: i64, slot: usize) -> i64 {
        let slot = i64::try_from(slot).unwrap_or(i64::MAX);
        let opens = |ticks: i64| self.base.slot(ticks.saturating_sub(origin));
        let after = self.ticks.partition_point(|&ticks| opens(ticks) <= slot);
        self.ticks[after.saturating_sub(1)]
    }

    /// The first picture at or after `ticks`; the last one where all come earlier.
    pub(crate) fn first_from(&self, ticks: i64) -> i64 {
        let place = self.ticks.partition_point(|&t| t < ticks);
        self.ticks[place.min(self.ticks.len() - 1)]
    }

    /// The last picture at or before `ticks` that a decoder can start at.
    pub(crate) fn key_before(&self, ticks: i64) -> Option<i64> {
        let after = self.keys.partition_point(|&key| key <= ticks);
        self.keys[..after].last().copied()
    }

    /// The picture nearest to `ticks` that a decoder can start at; of two that are as near, the earlier.
    pub(crate) fn nearest_key(&self, ticks: i64) -> Option<i64> {
        let after = self.keys.partition_point(|&key| key <= ticks);
        let around = &self.keys[after.saturating_sub(1)..self.keys.len().min(after + 1)];
        around.iter().copied().min_by_key(|key| key.abs_diff(ticks))
    }

    /// How many pictures are shown in `from..to`.
    pub(crate) fn between(&self, from: i64, to: i64) -> usize {
        let place = |ticks| self.ticks.partition_point(|&t| t < ticks);
        place(to).saturating_sub(place(from))
    }

    /// Whether there is any hole where packets were lost.
    pub(crate) fn is_torn(&self) -> bool {
        !self.torn.is_empty()
    }

    /// Whether the picture at `ticks` is followed by a hole where packets were lost.
    pub(crate) fn is_torn_after(&self, ticks: i64) -> bool {
        self.torn.binary_search(&ticks).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const MILLIS: TimeBase = TimeBase { numerator: 1, denominator: 1000 };

    fn packet(ticks: i64, duration: i64) -> Packet {
        Packet { ticks, duration, key: ticks % 1000 == 0, damaged: false }
    }

    #[rstest]
    #[case::whole("512,0,512,K_", Some((512, 512, true)))]
    #[case::newer_flags("512,0,512,K__\n", Some((512, 512, true)))]
    #[case::no_presentation_time("N/A,80,N/A,__", Some((80, 0, false)))]
    #[case::negative("-40,-40,40,K_", Some((-40, 40, true)))]
    #[case::not_shown("0,0,40,KD", None)]
    #[case::no_time("N/A,N/A,40,K_", None)]
    #[case::cut("51", None)]
    fn reads_a_line(#[case] line: &str, #[case] expected: Option<(i64, i64, bool)>) {
        let read = Packet::parse(line).map(|p| (p.ticks, p.duration, p.key));
        assert_eq!(read, expected);
    }

    #[test]
    fn the_end_is_that_of_the_last_picture_as_far_as_it_is_told() {
        let told = Pictures::new(MILLIS, vec![packet(40, 0), packet(0, 0), packet(80, 500)], false);
        assert_eq!(told.unwrap().duration_us(), 580_000);
        let untold = Pictures::new(MILLIS, vec![packet(0, 0), packet(40, 0), packet(80, 0)], false);
        assert_eq!(untold.unwrap().duration_us(), 80_000);
    }

    #[rstest]
    #[case::on_it(1000, 1000)]
    #[case::before_it(900, 1000)]
    #[case::of_two_the_earlier(1500, 1000)]
    #[case::behind_the_last(9000, 3000)]
    fn the_nearest_key_is_on_either_side(#[case] ticks: i64, #[case] nearest: i64) {
        let pictures =
            Pictures::new(MILLIS, (10..=30).map(|t| packet(t * 100, 100)).collect(), false);
        assert_eq!(pictures.unwrap().nearest_key(ticks), Some(nearest));
    }

    #[test]
    fn a_hole_counts_only_where_the_file_is_damaged_and_nothing_covers_it() {
        let packets = vec![packet(0, 40), packet(40, 5000), packet(5040, 40), packet(9000, 40)];
        let whole = Pictures::new(MILLIS, packets.clone(), false).unwrap();
        assert!(!whole.is_torn_after(5040));
        let torn = Pictures::new(MILLIS, packets, true).unwrap();
        assert!(torn.is_torn_after(5040));
        assert!(!torn.is_torn_after(40), "that one is held for five seconds");
    }

    #[test]
    fn the_listed_picture_follows_the_grid() {
        let pictures =
            Pictures::new(MILLIS, [0, 499, 500, 1499, 1500].map(|t| packet(t, 1)).into(), false);
        let pictures = pictures.unwrap();
        assert_eq!([0, 1, 2].map(|slot| pictures.listed(0, slot)), [499, 1499, 1500]);
        assert_eq!(pictures.key_before(1499), Some(0));
        assert_eq!([0, 499, 1500].map(|ticks| pictures.nearest_key(ticks)), [Some(0); 3]);
        assert_eq!(pictures.between(0, 500), 2);
    }
}
