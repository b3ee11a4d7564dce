//! Parts of examples: the temporal crop that training adds variety with (`vid2seq.md` §5.2), and the single
//! sentences of pre-training on clips.

use eventide_schema::{Cue, TimeSpan};
use rand::Rng;

use super::example::Example;

const SECOND_US: i64 = 1_000_000;

/// How examples are cropped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crop {
    /// The least share of a video that is left, in `0..=1`. A second is left in any case.
    pub least: f64,
    /// Whether a second of each event stays in the picture, or all of a shorter one.
    pub keep_events: bool,
}

impl Crop {
    /// A random part of an example: whole seconds, or up to the end of the video. The start is drawn first, evenly,
    /// and then the end, as Scenic does.
    #[must_use]
    pub fn draw(self, example: &Example, rng: &mut impl Rng) -> TimeSpan {
        let duration = example.duration_us();
        let whole = duration / SECOND_US;
        let least =
            whole_seconds(self.least.clamp(0.0, 1.0) * seconds(duration)).clamp(1, whole.max(1));
        let events = if self.keep_events { example.references.concat() } else { Vec::new() };
        // The latest start and the earliest end, in seconds.
        let starts = events.iter().map(|event| (event.span.end_us - margin(event)) / SECOND_US);
        let ends = events.iter().map(|event| ceil_seconds(event.span.start_us + margin(event)));
        let latest = starts.min().unwrap_or(whole).clamp(0, (whole - least).max(0));
        let earliest = ends.max().unwrap_or(0);
        let start = rng.random_range(0..=latest);
        let shortest = (start + least).max(earliest).min(whole.max(start));
        let end = rng.random_range(shortest..=whole.max(shortest));
        let end_us = if end >= whole { duration } else { end * SECOND_US };
        TimeSpan::new(start * SECOND_US, end_us)
    }
}

/// How much of an event has to be seen.
fn margin(event: &Cue) -> i64 {
    event.span.duration_us().min(SECOND_US)
}

impl Example {
    /// The part of this example within `part`, which starts at a whole second: what is said and what happens then,
    /// cut at its edges, in times that count from its start. What is there for less than a second, and not whole, is
    /// left out.
    #[must_use]
    pub fn within(&self, part: TimeSpan) -> Self {
        let inside = |cues: &[Cue]| cues.iter().filter_map(|cue| cut(cue, part)).collect();
        Self {
            video_id: self.video_id.clone(),
            file: self.file.clone(),
            span: part.shifted(self.span.start_us),
            speech: inside(&self.speech),
            references: self.references.iter().map(|events| inside(events)).collect(),
        }
    }

    /// The clip of each sentence that is said within the video, for pre-training without context: from the second
    /// in which it starts to the end of that in which it ends, with nothing else said and nothing told.
    #[must_use]
    pub fn clips(&self) -> Vec<Self> {
        let duration = self.duration_us();
        let whole = |cue: &&Cue| cue.span.start_us >= 0 && cue.span.end_us <= duration;
        let clip = |cue: &Cue| {
            let start = cue.span.start_us / SECOND_US * SECOND_US;
            let end = (ceil_seconds(cue.span.end_us) * SECOND_US).min(duration);
            let part = TimeSpan::new(start, end);
            Self {
                speech: vec![Cue { span: cue.span.shifted(-start), text: cue.text.clone() }],
                references: Vec::new(),
                span: part.shifted(self.span.start_us),
                video_id: self.video_id.clone(),
                file: self.file.clone(),
            }
        };
        let said = self.speech.iter().filter(whole).filter(|cue| cue.span.duration_us() > 0);
        said.map(clip).collect()
    }
}

/// What is left of a cue.
fn cut(cue: &Cue, part: TimeSpan) -> Option<Cue> {
    let left =
        TimeSpan::new(cue.span.start_us.max(part.start_us), cue.span.end_us.min(part.end_us));
    let length = left.duration_us();
    let enough = length > 0 && length >= margin(cue);
    enough.then(|| Cue { span: left.shifted(-part.start_us), text: cue.text.clone() })
}

fn ceil_seconds(us: i64) -> i64 {
    us.saturating_add(SECOND_US - 1).div_euclid(SECOND_US)
}

#[expect(clippy::cast_precision_loss, reason = "a share is drawn from it")]
fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}

#[expect(clippy::cast_possible_truncation, reason = "seconds of a video")]
fn whole_seconds(seconds: f64) -> i64 {
    seconds.ceil() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{SeedableRng as _, rngs::StdRng};
    use std::path::PathBuf;

    fn cue((start_us, length): (i64, i64)) -> Cue {
        Cue {
            span: TimeSpan::new(start_us, start_us + length),
            text: format!("{start_us}+{length}"),
        }
    }

    fn example(duration_us: i64, speech: Vec<Cue>, events: Vec<Cue>) -> Example {
        Example {
            video_id: "v".to_owned(),
            file: PathBuf::new(),
            span: TimeSpan::new(0, duration_us),
            speech,
            references: vec![events],
        }
    }

    #[test]
    fn cut_and_shifted() {
        let events =
            vec![cue((500_000, 400_000)), cue((1_000_000, 3_500_000)), cue((7_500_000, 900_000))];
        let speech = vec![
            cue((3_100_000, 50_000)),
            cue((5_500_000, 3_000_000)),
            cue((8_000_000, 1_000_000)),
        ];
        let found = example(9_700_000, speech, events).within(TimeSpan::new(3_000_000, 8_000_000));
        let spans = |cues: &[Cue]| -> Vec<_> {
            cues.iter().map(|cue| (cue.span.start_us, cue.span.end_us)).collect()
        };
        assert_eq!(found.span, TimeSpan::new(3_000_000, 8_000_000));
        // The last event keeps half a second of its 900 ms.
        assert_eq!(spans(found.events()), [(0, 1_500_000)]);
        assert_eq!(spans(&found.speech), [(100_000, 150_000), (2_500_000, 5_000_000)]);
        let again = found.within(TimeSpan::new(1_000_000, 5_000_000));
        assert_eq!(again.span, TimeSpan::new(4_000_000, 8_000_000));
    }

    #[test]
    fn a_clip_is_one_sentence() {
        let speech = vec![
            cue((-100_000, 900_000)),
            cue((2_250_000, 1_500_000)),
            cue((9_100_000, 600_000)),
            cue((9_100_000, 700_000)),
        ];
        let clips = example(9_700_000, speech, vec![cue((0, 9_000_000))]).clips();
        let shown: Vec<_> = clips
            .iter()
            .map(|clip| {
                (
                    clip.span.start_us,
                    clip.span.end_us,
                    clip.speech[0].span.start_us,
                    clip.speech[0].span.end_us,
                )
            })
            .collect();
        let expected =
            [(2_000_000, 4_000_000, 250_000, 1_750_000), (9_000_000, 9_700_000, 100_000, 700_000)];
        assert_eq!(shown, expected);
        assert!(clips.iter().all(|clip| clip.speech.len() == 1 && clip.references.is_empty()));
    }

    #[test]
    fn crops_vary() {
        let video = example(60_000_000, Vec::new(), Vec::new());
        let mut rng = StdRng::seed_from_u64(1);
        let crop = Crop { least: 0.5, keep_events: false };
        let parts: Vec<_> = (0..200).map(|_| crop.draw(&video, &mut rng)).collect();
        let starts: std::collections::BTreeSet<_> =
            parts.iter().map(|part| part.start_us).collect();
        assert!(starts.len() > 20, "{starts:?}");
        assert!(parts.iter().any(|part| part.end_us < 60_000_000));
    }

    fn cues(longest: i64) -> impl Strategy<Value = Vec<(i64, i64)>> {
        prop::collection::vec((0..longest, 1..longest), 0..6)
    }

    proptest! {
        #[test]
        fn a_crop_lies_within_and_shifts_exactly(
            duration in 1i64..300_000_000, speech in cues(400_000_000), events in cues(300_000_000),
            least in 0.0..=1.0, keep_events: bool, seed: u64,
        ) {
            let within = |&(start, length): &(i64, i64)| {
                let start = start % duration;
                cue((start, length.min(duration - start)))
            };
            let whole = example(
                duration,
                speech.into_iter().map(|(start, length)| cue((start - 50_000_000, length))).collect(),
                events.iter().map(within).collect(),
            );
            let part = Crop { least, keep_events }.draw(&whole, &mut StdRng::seed_from_u64(seed));
            prop_assert!(part.start_us % SECOND_US == 0 && part.start_us >= 0);
            prop_assert!(part.end_us > part.start_us && part.end_us <= duration, "{:?}", part);
            prop_assert!(part.end_us == duration || part.end_us % SECOND_US == 0);
            let found = whole.within(part);
            let length = found.duration_us();
            // Whole seconds cost up to one at each edge of what is asked for.
            prop_assert!(seconds(length) >= (least * seconds(duration)).floor() - 1.0, "{:?}", part);
            if keep_events {
                prop_assert_eq!(found.events().len(), whole.events().len());
            }
            for (cropped, all) in [(&found.speech, &whole.speech), (&found.references[0], &whole.references[0])] {
                for cue in cropped {
                    prop_assert!(cue.span.start_us >= 0 && cue.span.end_us <= length);
                    prop_assert!(cue.span.duration_us() > 0);
                    let source = all.iter().find(|source| source.text == cue.text).unwrap();
                    let back = cue.span.shifted(part.start_us);
                    prop_assert_eq!(back.start_us, source.span.start_us.max(part.start_us));
                    prop_assert_eq!(back.end_us, source.span.end_us.min(part.end_us));
                }
            }
        }
    }
}
