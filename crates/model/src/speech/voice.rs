//! Where there is a voice, and the windows that are recognised. Sound comes in pieces of any length; no
//! more of it is kept than one window needs.

use std::{fmt, ops::Range};

use ndarray::{Array2, Array3};

use crate::{
    error::{Error, Result},
    runtime::{Session, Tensor},
};

/// Samples that the detector hears at once.
const FRAME: usize = 512;
/// Samples before them that it is reminded of.
const CONTEXT: usize = 64;
/// The width of its state.
const STATE: usize = 128;
/// Frames of one run.
const MOST_FRAMES: usize = 512;

/// A voice begins at this probability.
const BEGINS: f32 = 0.5;
/// It ends below this one.
const ENDS: f32 = 0.35;
/// Frames before and after a voice that belong to it, 0.2 s: its first and last sounds are faint.
const MARGIN: usize = 6;
/// A window with fewer voiced frames than these, a quarter of a second, is no speech.
const FEWEST: usize = 8;
/// What is left of a window is heard again if it has as many voiced samples as these, two fifths of a second: a
/// short word.
const LEAST_REST: usize = 16_000 * 2 / 5;
/// A silence of fewer frames than these, 0.3 s, is part of the voice.
const PAUSE: usize = 10;
/// Frames of a window at most: 30 s.
const LONGEST: usize = 30 * 16_000 / FRAME;

/// A part of a sound that is recognised at once, at most 30 s.
#[derive(Clone, PartialEq)]
pub struct SpeechWindow {
    /// Its first sample, counted from the start of the sound.
    pub start: u64,
    /// The sound, 16 kHz, one channel.
    pub samples: Vec<f32>,
    /// Where in it there is a voice, in samples, in order.
    pub voiced: Vec<Range<usize>>,
}

impl fmt::Debug for SpeechWindow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, samples, voiced } = self;
        let length = samples.len();
        write!(formatter, "SpeechWindow {{ start: {start}, length: {length}, voiced: {voiced:?} }}")
    }
}

impl SpeechWindow {
    /// The rest of the window from a sample on; `None` where hardly any voice is left.
    #[must_use]
    pub fn after(&self, from: usize) -> Option<Self> {
        let voiced: Vec<Range<usize>> = self
            .voiced
            .iter()
            .filter(|span| span.end > from)
            .map(|span| span.start.max(from) - from..span.end - from)
            .collect();
        let length: usize = voiced.iter().map(ExactSizeIterator::len).sum();
        (length >= LEAST_REST).then(|| Self {
            start: self.start + from as u64,
            samples: self.samples[from..].to_vec(),
            voiced,
        })
    }

    /// The window without what lies behind a sample of the sound.
    fn until(mut self, end: u64) -> Self {
        let length = usize::try_from(end.saturating_sub(self.start)).unwrap_or(usize::MAX);
        self.samples.truncate(length);
        self.voiced.retain(|span| span.start < length);
        self.voiced.iter_mut().for_each(|span| span.end = span.end.min(length));
        self
    }
}

/// The detector's memory of one sound, and what of the sound is not yet in a window.
#[derive(Debug, Clone)]
pub struct Listener {
    hidden: Vec<f32>,
    cell: Vec<f32>,
    context: Vec<f32>,
    /// Sound from `start` on.
    samples: Vec<f32>,
    /// The frame that `samples` begin with.
    start: usize,
    /// The probability of a voice in each frame from `start` on, as far as it is known.
    voices: Vec<f32>,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            hidden: vec![0.0; STATE],
            cell: vec![0.0; STATE],
            context: vec![0.0; CONTEXT],
            samples: Vec::new(),
            start: 0,
            voices: Vec::new(),
        }
    }
}

impl Listener {
    /// Hears more of the sound. The answer are the windows that are complete.
    ///
    /// # Errors
    /// [`Error::Runtime`] and [`Error::Shape`] from the detector.
    pub fn hear(&mut self, detector: &mut Session, samples: &[f32]) -> Result<Vec<SpeechWindow>> {
        let mut windows = Vec::new();
        for piece in samples.chunks(MOST_FRAMES * FRAME) {
            self.samples.extend_from_slice(piece);
            self.detect(detector, self.samples.len() / FRAME)?;
            windows.extend(self.windows(false));
        }
        Ok(windows)
    }

    /// Hears that the sound is over. The answer are the last windows.
    ///
    /// # Errors
    /// As [`Listener::hear`].
    pub fn finish(mut self, detector: &mut Session) -> Result<Vec<SpeechWindow>> {
        let length = self.fill();
        self.detect(detector, self.samples.len() / FRAME)?;
        Ok(self.last_windows(length))
    }

    /// Fills the last frame with silence. The answer is how many samples the sound has.
    fn fill(&mut self) -> u64 {
        let length = self.start * FRAME + self.samples.len();
        self.samples.resize(self.samples.len().next_multiple_of(FRAME), 0.0);
        length as u64
    }

    /// The windows that are left, which end where the sound does.
    fn last_windows(&mut self, length: u64) -> Vec<SpeechWindow> {
        self.windows(true).into_iter().map(|window| window.until(length)).collect()
    }

    /// Asks the detector about all frames up to `frames` that it has not heard.
    fn detect(&mut self, detector: &mut Session, frames: usize) -> Result<()> {
        while self.voices.len() < frames {
            let first = self.voices.len();
            let count = (frames - first).min(MOST_FRAMES);
            let heard = &self.samples[first * FRAME..(first + count) * FRAME];
            let mut input = Array2::zeros((count, CONTEXT + FRAME));
            for (mut row, frame) in input.rows_mut().into_iter().zip(heard.chunks(FRAME)) {
                let both = self.context.iter().chain(frame);
                row.iter_mut().zip(both).for_each(|(place, sample)| *place = *sample);
                self.context.copy_from_slice(&frame[FRAME - CONTEXT..]);
            }
            let state = |values: &[f32]| {
                let shaped = Array3::from_shape_vec((1, 1, STATE), values.to_vec());
                Tensor::from_array(shaped.unwrap_or_else(|_| Array3::zeros((1, 1, STATE))))
            };
            let (input, hidden, cell) =
                (Tensor::from_array(input)?, state(&self.hidden)?, state(&self.cell)?);
            let mut outputs = detector.run(&[("input", &input), ("h", &hidden), ("c", &cell)])?;
            self.voices.extend(flat(&outputs.take("speech_probs")?, "speech_probs", count)?);
            self.hidden = flat(&outputs.take("hn")?, "hn", STATE)?;
            self.cell = flat(&outputs.take("cn")?, "cn", STATE)?;
        }
        Ok(())
    }

    /// Takes out the windows that are complete, or all of them.
    fn windows(&mut self, all: bool) -> Vec<SpeechWindow> {
        let mut windows = Vec::new();
        loop {
            let spans = spans(&self.voices);
            let known = self.voices.len();
            let Some(first) = spans.first() else {
                // The margin of a voice that may begin now is still needed.
                self.forget(if all { known } else { known.saturating_sub(MARGIN) });
                return windows;
            };
            let begin = first.start.saturating_sub(MARGIN);
            if !all && known <= begin + LONGEST {
                self.forget(begin);
                return windows;
            }
            let most = known.min(begin + LONGEST);
            let end = cut(&self.voices, &spans, begin..most);
            // What is between this voice and the next is halved, up to the margin.
            let next = spans.iter().find(|span| span.end > end).map(|span| span.start.max(end));
            let middle = next.map_or(most, |next| end.midpoint(next));
            let close = (end + MARGIN).min(middle).min(most);
            windows.extend(self.window(begin..close, &spans, end));
            self.forget(close);
        }
    }

    fn window(
        &self,
        frames: Range<usize>,
        spans: &[Range<usize>],
        end: usize,
    ) -> Option<SpeechWindow> {
        let inside = spans.iter().filter(|span| span.start < end);
        let voiced: Vec<Range<usize>> = inside
            .map(|span| span.start.max(frames.start)..span.end.min(end))
            .filter(|span| !span.is_empty())
            .collect();
        let heard: usize = voiced.iter().map(ExactSizeIterator::len).sum();
        let sample = |frame: usize| (frame - frames.start) * FRAME;
        (heard >= FEWEST).then(|| SpeechWindow {
            start: ((self.start + frames.start) * FRAME) as u64,
            samples: self.samples[frames.start * FRAME..frames.end * FRAME].to_vec(),
            voiced: voiced.iter().map(|span| sample(span.start)..sample(span.end)).collect(),
        })
    }

    /// Lets go of the first frames.
    fn forget(&mut self, frames: usize) {
        let frames = frames.min(self.voices.len());
        self.voices.drain(..frames);
        self.samples.drain(..frames * FRAME);
        self.start += frames;
    }
}

/// Where the voiced part of a window that may have these frames ends: with the last voice that fits, if
/// that leaves it half full, else where the voice that does not fit is quietest.
fn cut(voices: &[f32], spans: &[Range<usize>], frames: Range<usize>) -> usize {
    let half = frames.start + LONGEST / 2;
    let fits = spans.iter().rev().find(|span| span.end <= frames.end).map(|span| span.end);
    let across = spans.iter().find(|span| span.start < frames.end && span.end > frames.end);
    match (fits, across) {
        (Some(fits), None) => fits,
        (Some(fits), Some(across)) if across.start > half => fits,
        (_, Some(across)) => quietest(voices, across.start.max(half)..frames.end),
        (None, None) => frames.end,
    }
}

/// Where there is a voice, in frames. Short pauses are part of it.
fn spans(voices: &[f32]) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    let mut open: Option<usize> = None;
    for (frame, &voice) in voices.iter().enumerate() {
        match open {
            None if voice >= BEGINS => open = Some(frame),
            Some(start) if voice < ENDS => {
                spans.push(start..frame);
                open = None;
            }
            _ => {}
        }
    }
    if let Some(start) = open {
        spans.push(start..voices.len());
    }
    let mut joined: Vec<Range<usize>> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.start - last.end < PAUSE => last.end = span.end,
            _ => joined.push(span),
        }
    }
    joined
}

/// The middle of the three frames with the least voice, the last of equal ones.
fn quietest(voices: &[f32], frames: Range<usize>) -> usize {
    let voice = |frame: usize| {
        let near = frame.saturating_sub(1)..(frame + 2).min(voices.len());
        voices[near].iter().sum::<f32>()
    };
    let quietest = frames.clone().rev().min_by(|a, b| voice(*a).total_cmp(&voice(*b)));
    quietest.unwrap_or(frames.end)
}

fn flat(tensor: &Tensor, output: &'static str, length: usize) -> Result<Vec<f32>> {
    let values: Vec<f32> = tensor.view::<f32>()?.iter().copied().collect();
    if values.len() == length {
        return Ok(values);
    }
    Err(Error::Shape { output, found: tensor.shape(), expected: vec![length] })
}

#[cfg(test)]
#[expect(
    clippy::cast_precision_loss,
    clippy::single_range_in_vec_init,
    reason = "numbers of frames are small, and one span is a list of spans"
)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Frames of a sound whose voice is where `voiced` says, as the windows that are made of it. The
    /// sound counts its samples, so that each window can be told.
    fn windows(
        voiced: &[Range<usize>],
        frames: usize,
        piece: usize,
    ) -> Vec<(usize, usize, Vec<Range<usize>>)> {
        let mut listener = Listener::default();
        let mut found = Vec::new();
        let mut heard = 0;
        while heard < frames {
            let more = piece.min(frames - heard);
            for frame in heard..heard + more {
                let voice = voiced.iter().any(|span| span.contains(&frame));
                listener.voices.push(if voice { 0.9 } else { 0.01 });
                listener.samples.extend(std::iter::repeat_n(frame as f32, FRAME));
            }
            heard += more;
            found.extend(listener.windows(false));
            assert!(listener.voices.len() <= LONGEST + piece, "what is over is let go of");
        }
        found.extend(listener.windows(true));
        let frame = |sample: usize| sample / FRAME;
        found
            .into_iter()
            .map(|window| {
                let start = frame(usize::try_from(window.start).unwrap());
                assert!((window.samples[0] - start as f32).abs() < 0.5, "sound and place agree");
                let voiced = window.voiced.iter().map(|span| frame(span.start)..frame(span.end));
                (start, frame(window.samples.len()), voiced.collect())
            })
            .collect()
    }

    #[rstest]
    #[case::silence(&[], 3000, &[])]
    #[case::a_click(&[100..104], 3000, &[])]
    #[case::one_voice(&[100..200], 3000, &[(94, 112, vec![6..106])])]
    #[case::at_both_ends(&[0..200], 200, &[(0, 200, vec![0..200])])]
    #[case::two_together(&[100..200, 500..600], 3000, &[(94, 512, vec![6..106, 406..506])])]
    #[case::a_pause_is_voice(&[100..200, 205..300], 3000, &[(94, 212, vec![6..206])])]
    #[case::two_apart(&[100..800, 900..1200], 3000, &[(94, 712, vec![6..706]), (894, 312, vec![6..306])])]
    fn voices_become_windows(
        #[case] voiced: &[Range<usize>],
        #[case] frames: usize,
        #[case] expected: &[(usize, usize, Vec<Range<usize>>)],
    ) {
        assert_eq!(windows(voiced, frames, frames), expected);
        assert_eq!(windows(voiced, frames, 7), expected, "whatever the pieces");
    }

    #[test]
    fn a_long_voice_is_cut_where_it_is_quiet() {
        let found = windows(&[100..1000, 1001..4000], 5000, 64);
        assert!(found.len() > 3);
        let mut end = 94;
        for (start, length, _) in found {
            assert_eq!(start, end, "nothing is left out");
            assert!(length <= LONGEST);
            end = start + length;
        }
        assert_eq!(end, 4006);
    }

    /// A voice that is cut off in the middle of a frame.
    #[rstest]
    #[case::in_a_frame(1)]
    #[case::at_its_end(FRAME)]
    fn the_last_window_ends_with_the_sound(#[case] more: usize) {
        let length = 200 * FRAME + more;
        let mut listener = Listener { samples: vec![0.1; length], ..Listener::default() };
        assert_eq!(listener.fill(), length as u64);
        listener.voices = vec![0.9; 201];
        let windows = listener.last_windows(length as u64);
        let [window] = &windows[..] else { panic!("{windows:?}") };
        assert_eq!((window.start, window.samples.len()), (0, length));
        assert_eq!(window.voiced, [0..length]);
    }

    #[test]
    fn what_is_left_of_a_window() {
        let window = SpeechWindow {
            start: 1000,
            samples: vec![0.0; 60_000],
            voiced: vec![0..20_000, 40_000..60_000],
        };
        let rest = window.after(30_000).unwrap();
        assert_eq!((rest.start, rest.samples.len()), (31_000, 30_000));
        assert_eq!(rest.voiced, [10_000..30_000]);
        assert_eq!(window.after(50_000).unwrap().voiced, [0..10_000]);
        assert_eq!(window.after(54_000), None, "less than a word");
    }
}
