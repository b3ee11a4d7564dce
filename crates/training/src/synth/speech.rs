//! The narrator: a timed transcript that is as unreliable as those of real videos.
//!
//! A narrator is silent in some videos. In the others many events get a sentence, which comes late or early by
//! seconds and does not always say who it is about; now and then something else is said. So speech helps, pictures
//! help, and neither is enough.

use std::fmt::Write as _;

use rand::{Rng as _, rngs::StdRng};

use super::{
    grammar,
    world::{Event, World, milliseconds},
};

/// How many videos in a hundred have no transcript.
const SILENT: f64 = 0.3;
/// How many events in a hundred are not spoken of.
const UNSPOKEN: f64 = 0.2;
/// How many remarks in a hundred do not say who they are about.
const VAGUE: f64 = 0.3;
/// Seconds between two thoughts of something else, on average.
const ASIDE_SECONDS: f32 = 28.0;
/// How far a remark may be from its event, in milliseconds.
const FARTHEST_MS: f32 = 8000.0;
/// A cue shorter than this is not said at all.
const SHORTEST_MS: u32 = 400;

/// What is said at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// First millisecond.
    pub start_ms: u32,
    /// Past the last millisecond.
    pub end_ms: u32,
    /// The sentence.
    pub text: String,
    /// The number of the event that it is about; `None` for something else.
    pub about: Option<usize>,
}

/// All that is said in a video, in order and never two lines at a time; `None` where the narrator is silent.
#[must_use]
pub fn transcript(world: &World, rng: &mut StdRng) -> Option<Vec<Line>> {
    if rng.random_bool(SILENT) {
        return None;
    }
    let mut lines = Vec::new();
    for (number, event) in world.events.iter().enumerate() {
        if !rng.random_bool(UNSPOKEN) {
            let said = if rng.random_bool(VAGUE) { grammar::hint } else { grammar::remark };
            lines.push(line(start(event, rng), said(event, rng), Some(number)));
        }
    }
    let length = milliseconds(world.length);
    let mut at = gap(rng);
    while at < length {
        lines.push(line(at, grammar::aside(rng), None));
        at += gap(rng);
    }
    Some(in_turn(lines, length))
}

/// The transcript as a WebVTT file.
#[must_use]
pub fn web_vtt(lines: &[Line]) -> String {
    lines.iter().fold("WEBVTT\n".to_owned(), |mut text, line| {
        let (start, end) = (clock(line.start_ms), clock(line.end_ms));
        let _ = write!(text, "\n{start} --> {end}\n{}\n", line.text);
        text
    })
}

/// When an event is spoken of: rather late than early, often by a second or two.
fn start(event: &Event, rng: &mut StdRng) -> u32 {
    // Close to a bell curve of mean 0 and deviation 1.
    let bell = (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0;
    let off = (900.0 + 2200.0 * bell).clamp(-FARTHEST_MS, FARTHEST_MS);
    shifted(milliseconds(event.start), off)
}

/// `at` moved by so many milliseconds, at least 0.
fn shifted(at: u32, by: f32) -> u32 {
    let distance = u32::try_from(std::time::Duration::from_secs_f32(by.abs() / 1000.0).as_millis());
    let distance = distance.unwrap_or(u32::MAX);
    if by < 0.0 { at.saturating_sub(distance) } else { at.saturating_add(distance) }
}

fn gap(rng: &mut StdRng) -> u32 {
    let seconds = ASIDE_SECONDS * rng.random_range(0.25..1.75);
    shifted(0, seconds * 1000.0)
}

/// A line as long as it takes to say it.
fn line(start_ms: u32, text: String, about: Option<usize>) -> Line {
    let letters = u32::try_from(text.len()).unwrap_or(u32::MAX);
    Line {
        start_ms,
        end_ms: start_ms.saturating_add(400 + letters.saturating_mul(60)),
        text,
        about,
    }
}

/// Lines in order, each after the one before has ended, and none past the end of the video.
fn in_turn(mut lines: Vec<Line>, length: u32) -> Vec<Line> {
    lines.sort_by_key(|line| line.start_ms);
    let mut free = 0;
    for line in &mut lines {
        let wait = free.max(line.start_ms) - line.start_ms;
        line.start_ms += wait;
        line.end_ms = line.end_ms.saturating_add(wait).min(length);
        free = free.max(line.end_ms);
    }
    lines.retain(|line| line.end_ms >= line.start_ms.saturating_add(SHORTEST_MS));
    lines
}

/// `hh:mm:ss.mmm`.
fn clock(milliseconds: u32) -> String {
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    format!("{:02}:{:02}:{:02}.{rest:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::{CROWD, looks::Split, world::RATE};
    use rand::SeedableRng as _;

    struct Narrated {
        world: World,
        lines: Option<Vec<Line>>,
    }

    fn narrated(count: u64) -> Vec<Narrated> {
        let one = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            let world = World::new(&mut rng, Split::Train, 90 * RATE, CROWD);
            let lines = transcript(&world, &mut rng);
            Narrated { world, lines }
        };
        (0..count).map(one).collect()
    }

    fn check_share(name: &str, part: usize, whole: usize, expected: std::ops::Range<usize>) {
        let percent = part * 100 / whole;
        assert!(expected.contains(&percent), "{name}: {part} of {whole} ({percent} %)");
    }

    #[test]
    fn the_narrator_is_as_unreliable_as_stated() {
        let videos = narrated(400);
        let spoken: Vec<_> =
            videos.iter().filter_map(|v| Some((&v.world, v.lines.as_ref()?))).collect();
        check_share("silent", videos.len() - spoken.len(), videos.len(), 24..37);

        let lines =
            || spoken.iter().flat_map(|(world, lines)| lines.iter().map(move |l| (world, l)));
        let events: usize = spoken.iter().map(|(world, _)| world.events.len()).sum();
        let about = || lines().filter_map(|(world, line)| Some((&world.events[line.about?], line)));
        check_share("spoken of", about().count(), events, 70..85);
        check_share("asides", lines().count() - about().count(), lines().count(), 15..40);

        let off = |(event, line): (&Event, &Line)| {
            i64::from(line.start_ms) - i64::from(milliseconds(event.start))
        };
        let offs: Vec<_> = about().map(off).collect();
        check_share(
            "a second off or more",
            offs.iter().filter(|o| o.abs() >= 1000).count(),
            offs.len(),
            55..85,
        );
        check_share("early", offs.iter().filter(|&&o| o < -200).count(), offs.len(), 15..40);
        check_share("far off", offs.iter().filter(|o| o.abs() > 10_000).count(), offs.len(), 0..5);
    }

    #[test]
    fn lines_take_turns_and_end_with_the_video() {
        for Narrated { world, lines } in narrated(200) {
            let lines = lines.unwrap_or_default();
            assert!(lines.windows(2).all(|pair| pair[0].end_ms <= pair[1].start_ms));
            assert!(lines.iter().all(|line| line.start_ms < line.end_ms));
            assert!(lines.iter().all(|line| line.end_ms <= milliseconds(world.length)));
        }
    }

    #[test]
    fn the_side_car_is_web_vtt() {
        let lines = [line(61_005, "Hello.".to_owned(), None)];
        assert_eq!(web_vtt(&lines), "WEBVTT\n\n00:01:01.005 --> 00:01:01.765\nHello.\n");
    }
}
