//! The search for what is said: beams at temperature 0, else samples. Pure: it knows no tensors of a
//! runtime, and what it finds for a window does not depend on the others.

use ndarray::{ArrayView2, Axis};

use crate::{
    error::{Error, Result},
    speech::rules::{Rules, log_sum_exp},
};

/// A decoder that has read the prompt of some windows.
pub(crate) trait Speaker {
    /// Reads one more token in each row, `rows` saying which row of the step before each goes on from.
    /// There are as many rows to each window. The answer is `[rows, vocab]`.
    fn read(&mut self, tokens: &[i64], rows: &[usize]) -> Result<ArrayView2<'_, f32>>;

    /// Forgets all windows but these, given by their places among those that are left. Answers whether
    /// it did: it need not.
    fn keep(&mut self, places: &[usize]) -> Result<bool>;
}

/// How to search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SearchOptions {
    /// Texts that are followed at once, at least 1.
    pub(crate) width: usize,
    /// 0 follows the likeliest; above it, texts are drawn.
    pub(crate) temperature: f32,
    /// Most tokens of a text.
    pub(crate) max_tokens: usize,
}

/// Something that may have been said.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Said {
    /// Words and times, without the end.
    pub(crate) tokens: Vec<i64>,
    /// Natural-log probability of each.
    pub(crate) log_probabilities: Vec<f32>,
    /// The sum of these and of that of the end.
    pub(crate) sum: f64,
    ended: bool,
    /// The row that it goes on from.
    row: usize,
}

impl Said {
    /// The mean log-probability of its tokens and the end.
    pub(crate) fn average(&self) -> f32 {
        single(self.sum / count(self.tokens.len() + 1))
    }

    fn rank(&self) -> f64 {
        self.sum / count(self.tokens.len().max(1))
    }

    fn with(&self, token: i64, log_probability: f32, row: usize, end: i64) -> Self {
        let mut next = Self { row, sum: self.sum + f64::from(log_probability), ..self.clone() };
        if token == end {
            next.ended = true;
        } else {
            next.tokens.push(token);
            next.log_probabilities.push(log_probability);
        }
        next
    }
}

/// A window whose text is looked for.
struct Window {
    /// Its place among all windows.
    place: usize,
    live: Vec<Said>,
    ended: Vec<Said>,
}

/// The best text of each window. `first` are the logits behind the prompts, `[windows, vocab]`.
///
/// # Errors
/// What `speaker` gives, or [`Error::Logits`] if it answers with something that is not a number.
pub(crate) fn search(
    speaker: &mut impl Speaker,
    first: &ArrayView2<'_, f32>,
    rules: Rules<'_>,
    options: SearchOptions,
) -> Result<Vec<Said>> {
    let options = SearchOptions { width: options.width.max(1), ..options };
    let mut found = vec![Said::default(); first.nrows()];
    let mut windows: Vec<Window> = (0..first.nrows())
        .map(|place| Window { place, live: vec![Said::default()], ended: Vec::new() })
        .collect();
    for (window, logits) in windows.iter_mut().zip(first.axis_chunks_iter(Axis(0), 1)) {
        window.advance(&logits, 0, rules, options)?;
    }
    // Windows that the speaker still reads for, some of which may have ended.
    let mut rows = 1;
    for step in 1..options.max_tokens {
        if windows.iter().all(|window| window.has_ended(options)) {
            break;
        }
        drop_ended(speaker, &mut windows, &mut found, rows, options)?;
        let (mut tokens, mut from) = (Vec::new(), Vec::new());
        for (place, window) in windows.iter().enumerate() {
            for said in &window.live {
                tokens.push(said.last(rules));
                from.push(place * rows + said.row);
            }
        }
        rows = options.width;
        let logits = speaker.read(&tokens, &from)?;
        for (window, logits) in windows.iter_mut().zip(logits.axis_chunks_iter(Axis(0), rows)) {
            if !window.has_ended(options) {
                window.advance(&logits, step, rules, options)?;
            }
        }
    }
    for window in windows {
        let place = window.place;
        found[place] = window.best();
    }
    Ok(found)
}

/// Lets go of windows that have ended once they are half of all. Before the first read, each window has
/// one row and none has been dropped.
fn drop_ended(
    speaker: &mut impl Speaker,
    windows: &mut Vec<Window>,
    found: &mut [Said],
    rows: usize,
    options: SearchOptions,
) -> Result<()> {
    let going: Vec<usize> =
        (0..windows.len()).filter(|place| !windows[*place].has_ended(options)).collect();
    if rows != options.width || going.len() * 2 > windows.len() || !speaker.keep(&going)? {
        return Ok(());
    }
    let (kept, ended): (Vec<_>, Vec<_>) =
        std::mem::take(windows).into_iter().partition(|window| !window.has_ended(options));
    for window in ended {
        let place = window.place;
        found[place] = window.best();
    }
    *windows = kept;
    Ok(())
}

impl Said {
    /// The token to be read next.
    fn last(&self, rules: Rules<'_>) -> i64 {
        let end = i64::from(rules.tokens.end);
        if self.ended { end } else { self.tokens.last().copied().unwrap_or(end) }
    }
}

impl Window {
    fn has_ended(&self, options: SearchOptions) -> bool {
        if options.temperature > 0.0 {
            self.live.iter().all(|said| said.ended)
        } else {
            self.ended.len() >= options.width
        }
    }

    /// One more token for each text. `logits` has a row for each, or one for all at the first step.
    fn advance(
        &mut self,
        logits: &ArrayView2<'_, f32>,
        step: usize,
        rules: Rules<'_>,
        options: SearchOptions,
    ) -> Result<()> {
        let mut allowed = logits.to_owned();
        for (row, mut logits) in allowed.rows_mut().into_iter().enumerate() {
            if logits.iter().any(|logit| logit.is_nan()) {
                return Err(Error::Logits { step });
            }
            if let (Some(said), Some(logits)) = (self.live.get(row), logits.as_slice_mut()) {
                rules.apply(logits, &said.tokens);
            }
        }
        if options.temperature > 0.0 {
            self.draw(&allowed.view(), step, rules, options);
        } else {
            self.follow(&allowed.view(), rules, options);
        }
        Ok(())
    }

    /// The likeliest continuations of all texts together.
    fn follow(&mut self, logits: &ArrayView2<'_, f32>, rules: Rules<'_>, options: SearchOptions) {
        let end = i64::from(rules.tokens.end);
        let mut next: Vec<Said> = Vec::new();
        for (row, (said, logits)) in self.live.iter().zip(logits.rows()).enumerate() {
            let logits = logits.to_slice().unwrap_or_default();
            let total = log_sum_exp(logits);
            let best = highest(logits, options.width + 1).into_iter();
            next.extend(best.map(|(token, logit)| said.with(token, logit - total, row, end)));
        }
        next.sort_by(|a, b| b.sum.total_cmp(&a.sum));
        let mut live = Vec::new();
        for said in next {
            if live.len() == options.width {
                break;
            }
            if said.ended { self.ended.push(said) } else { live.push(said) }
        }
        // A text that may only end leaves fewer than are wanted; the rows stay as many.
        while let (true, Some(last)) =
            (live.len() < options.width, live.last().or(self.live.last()))
        {
            live.push(Said { sum: f64::NEG_INFINITY, ..last.clone() });
        }
        self.live = live;
    }

    /// A token for each text, drawn.
    fn draw(
        &mut self,
        logits: &ArrayView2<'_, f32>,
        step: usize,
        rules: Rules<'_>,
        options: SearchOptions,
    ) {
        let end = i64::from(rules.tokens.end);
        let first = Said::default();
        let drawn = |row: usize| {
            let said = self.live.get(row).unwrap_or(&first);
            if said.ended {
                return Said { row, ..said.clone() };
            }
            let row_of_logits = row.min(logits.nrows() - 1);
            let logits = logits.row(row_of_logits);
            let logits = logits.to_slice().unwrap_or_default();
            let token = sample(logits, options.temperature, chance(row, step, options.temperature));
            let log_probability =
                logits.get(token).map_or(0.0, |logit| logit - log_sum_exp(logits));
            said.with(i64::try_from(token).unwrap_or(end), log_probability, row_of_logits, end)
        };
        self.live = (0..options.width).map(drawn).collect();
    }

    fn best(mut self) -> Said {
        if self.ended.is_empty() {
            self.ended = self.live;
        }
        let best = self.ended.into_iter().max_by(|a, b| a.rank().total_cmp(&b.rank()));
        best.unwrap_or_default()
    }
}

/// The `wanted` highest logits with their tokens, highest first; of equal ones the first.
fn highest(logits: &[f32], wanted: usize) -> Vec<(i64, f32)> {
    let mut best: Vec<(i64, f32)> = Vec::with_capacity(wanted + 1);
    for (token, &logit) in (0..).zip(logits) {
        if best.len() == wanted && best.last().is_some_and(|(_, least)| logit <= *least) {
            continue;
        }
        let place = best.partition_point(|(_, other)| *other >= logit);
        best.insert(place, (token, logit));
        best.truncate(wanted);
    }
    best
}

/// The token at `chance` (in `0..1`) of the probabilities at a temperature.
fn sample(logits: &[f32], temperature: f32, chance: f64) -> usize {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: &f32| f64::from((logit - highest) / temperature).exp();
    let mut left = chance * logits.iter().map(weight).sum::<f64>();
    let place = logits.iter().position(|logit| {
        left -= weight(logit);
        left < 0.0
    });
    let last = || logits.iter().rposition(|logit| *logit > f32::NEG_INFINITY);
    place.or_else(last).unwrap_or(0)
}

/// A number in `0..1` that depends on nothing else, so that a window is heard alike in any company:
/// `SplitMix64` over the place of the draw.
fn chance(row: usize, step: usize, temperature: f32) -> f64 {
    let place = (step as u64) << 16 | (row as u64 & 0xffff);
    let mixed =
        (place ^ u64::from(temperature.to_bits()) << 32).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let bits = (mixed ^ (mixed >> 31)) >> 32;
    f64::from(u32::try_from(bits).unwrap_or_default()) / f64::from(u32::MAX).mul_add(1.0, 1.0)
}

#[expect(clippy::cast_precision_loss, reason = "lengths are far below 2^52")]
fn count(value: usize) -> f64 {
    value as f64
}

#[expect(clippy::cast_possible_truncation, reason = "rounding is what is wanted")]
fn single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "a small vocabulary")]
mod tests {
    use super::*;
    use crate::speech::SpeechTokens;
    use ndarray::Array2;

    const END: i64 = 4;

    fn tokens() -> SpeechTokens {
        SpeechTokens {
            end: 4,
            start: 5,
            transcribe: None,
            previous: 5,
            no_speech: 5,
            no_timestamps: 5,
            first_time: 6,
            languages: std::collections::BTreeMap::new(),
            suppressed: Vec::new(),
            suppressed_first: Vec::new(),
        }
    }

    /// Says of window `w` one time, `w` and so many words, and ends. It remembers what each row read.
    struct Script {
        /// What each row has read, with its window at the front.
        rows: Vec<Vec<i64>>,
        logits: Array2<f32>,
        kept: Vec<usize>,
        keeps: bool,
    }

    fn next(read: &[i64]) -> i64 {
        let (window, said) = (read[0], read.len() - 1);
        let words = usize::try_from(window).unwrap() + 1;
        if said == 0 {
            6
        } else if said <= words {
            window
        } else {
            END
        }
    }

    fn logits(rows: &[Vec<i64>]) -> Array2<f32> {
        Array2::from_shape_fn((rows.len(), 40), |(row, token)| {
            let likely = next(&rows[row]);
            if i64::try_from(token).unwrap() == likely { 5.0 } else { -(token as f32) / 50.0 }
        })
    }

    impl Speaker for Script {
        fn read(&mut self, tokens: &[i64], rows: &[usize]) -> Result<ArrayView2<'_, f32>> {
            let grown = |(token, row): (&i64, &usize)| {
                let mut read = self.rows[*row].clone();
                read.push(*token);
                read
            };
            self.rows = tokens.iter().zip(rows).map(grown).collect();
            self.logits = logits(&self.rows);
            Ok(self.logits.view())
        }

        fn keep(&mut self, places: &[usize]) -> Result<bool> {
            if self.keeps {
                let width = 3;
                let rows = places.iter().flat_map(|place| place * width..(place + 1) * width);
                self.rows = rows.map(|row| self.rows[row].clone()).collect();
                self.kept.push(places.len());
            }
            Ok(self.keeps)
        }
    }

    fn said(windows: &[i64], temperature: f32, keeps: bool) -> (Vec<Vec<i64>>, Vec<usize>) {
        let rows: Vec<Vec<i64>> = windows.iter().map(|window| vec![*window]).collect();
        let first = logits(&rows);
        let mut script = Script { rows, logits: first.clone(), kept: Vec::new(), keeps };
        let options = SearchOptions { width: 3, temperature, max_tokens: 20 };
        let tokens = tokens();
        let found = search(&mut script, &first.view(), Rules { tokens: &tokens }, options).unwrap();
        (found.into_iter().map(|said| said.tokens).collect(), script.kept)
    }

    #[test]
    fn each_window_gets_its_own_text() {
        for keeps in [false, true] {
            let (found, kept) = said(&[0, 1, 2, 3], 0.0, keeps);
            let expected = vec![vec![6, 0], vec![6, 1, 1], vec![6, 2, 2, 2], vec![6, 3, 3, 3, 3]];
            assert_eq!(found, expected);
            assert_eq!(!kept.is_empty(), keeps, "windows that have ended are let go of");
        }
    }

    #[test]
    fn draws_do_not_depend_on_the_company() {
        let (together, _) = said(&[0, 1, 2, 3], 0.8, false);
        for window in 0..4 {
            let (alone, _) = said(&[window], 0.8, false);
            assert_eq!(alone[0], together[usize::try_from(window).unwrap()]);
        }
    }

    #[test]
    fn the_highest_come_first() {
        assert_eq!(highest(&[1.0, 3.0, 2.0, 3.0], 3), [(1, 3.0), (3, 3.0), (2, 2.0)]);
    }

    #[test]
    fn chances_pick_by_weight() {
        let logits = [0.0, f32::NEG_INFINITY, 3.0_f32.ln()];
        assert_eq!([0.0, 0.2, 0.26, 0.99].map(|chance| sample(&logits, 1.0, chance)), [0, 0, 2, 2]);
    }
}
