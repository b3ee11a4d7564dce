//! Beam search over any decoder that gives logits step by step. Pure: it knows no tensors of a
//! runtime, and the same logits always give the same sequences.

use ndarray::{ArrayView1, ArrayView2};

use crate::{
    error::{Error, Result},
    manifest::Scoring,
};

/// A decoder that remembers what it has read.
pub trait Step {
    /// Reads one more token for every beam of every row.
    ///
    /// Both arguments hold `rows * beams` values, row by row. `tokens` are the tokens read;
    /// `beam_index` says which past each of them follows, as an index into all `rows * beams` pasts
    /// of the step before (always one of the same row). The answer has a row of logits for each,
    /// `[rows * beams, vocabulary]`.
    ///
    /// # Errors
    /// Whatever hinders the decoder; the search ends with it.
    fn step(&mut self, tokens: &[i64], beam_index: &[i64]) -> Result<ArrayView2<'_, f32>>;

    /// Goes on with these of its rows, at least one, in increasing order; the others are done. The next
    /// step reads tokens for them alone, and its `beam_index` still counts the pasts of the step before.
    ///
    /// # Errors
    /// As [`Step::step`].
    fn keep(&mut self, rows: &[usize]) -> Result<()>;
}

/// How to search.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchOptions {
    /// Hypotheses kept, at least 1; 1 takes the best token at each step.
    pub beams: usize,
    /// Exponent of the length in the score.
    pub length_penalty: f64,
    /// Most tokens generated, the end included; at least 1.
    pub max_tokens: usize,
    /// How a hypothesis is scored and when the search stops.
    pub scoring: Scoring,
    /// The token that the decoder begins with.
    pub start_id: i64,
    /// The token that ends a sequence.
    pub eos_id: i64,
}

/// A sequence that the search has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    /// The tokens generated: without the start, with EOS where it ended.
    pub tokens: Vec<i64>,
    /// Natural-log probability of each token after those before it.
    pub log_probabilities: Vec<f32>,
    /// Their sum.
    pub sum: f64,
    /// What hypotheses are ranked by: `sum` divided by a function of the length. Comparable only
    /// within one search.
    pub score: f64,
    /// Whether it ended by itself, not by the limit.
    pub finished: bool,
}

/// Searches for the best sequences of `rows` independent rows, all in one decoder: for each row at
/// most `beams` hypotheses, best first, at least one.
///
/// A row that has ended leaves the decoder; what a row gives does not depend on the others.
///
/// # Errors
/// What `decoder` gives, or [`Error::Logits`] if it answers with something that is not a number.
pub fn search(
    decoder: &mut impl Step,
    rows: usize,
    options: &SearchOptions,
) -> Result<Vec<Vec<Hypothesis>>> {
    let beams = options.beams.max(1);
    let options = SearchOptions { beams, max_tokens: options.max_tokens.max(1), ..options.clone() };
    let mut searches = vec![Row::default(); rows];
    let mut present: Vec<usize> = (0..rows).collect();
    let mut tokens = vec![options.start_id; rows * beams];
    let mut beam_index = identity(rows * beams);
    for step in 0..options.max_tokens {
        let logits = decoder.step(&tokens, &beam_index)?;
        for (place, &row) in present.iter().enumerate() {
            let first = place * beams;
            searches[row].advance(step, |beam| logits.row(first + beam), &options)?;
        }
        let mut staying: Vec<usize> = (0..present.len()).collect();
        staying.retain(|&place| !searches[present[place]].done);
        if staying.is_empty() || step + 1 == options.max_tokens {
            break;
        }
        (tokens, beam_index) = (Vec::new(), Vec::new());
        for &place in &staying {
            for (token, past) in searches[present[place]].feed(beams) {
                tokens.push(token);
                beam_index.push(signed(place * beams + past));
            }
        }
        if staying.len() < present.len() {
            decoder.keep(&staying)?;
            present = staying.iter().map(|&place| present[place]).collect();
        }
    }
    Ok(searches.into_iter().map(|search| search.into_hypotheses(&options)).collect())
}

fn signed(place: usize) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}

fn identity(length: usize) -> Vec<i64> {
    (0..).take(length).collect()
}

/// A sequence that goes on.
#[derive(Debug, Clone, Default)]
struct Beam {
    /// Its place among the beams of the step before.
    parent: usize,
    tokens: Vec<i64>,
    log_probabilities: Vec<f32>,
    sum: f64,
}

impl Beam {
    fn extended(&self, candidate: &Candidate) -> Self {
        let mut next = Self { parent: candidate.beam, sum: candidate.sum, ..self.clone() };
        next.tokens.push(candidate.token);
        next.log_probabilities.push(candidate.log_probability);
        next
    }

    fn into_hypothesis(self, score: f64, finished: bool) -> Hypothesis {
        let Self { tokens, log_probabilities, sum, .. } = self;
        Hypothesis { tokens, log_probabilities, sum, score, finished }
    }
}

/// One more token behind one of the beams.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    beam: usize,
    token: i64,
    log_probability: f32,
    sum: f64,
}

/// The search of one row.
#[derive(Debug, Clone)]
struct Row {
    live: Vec<Beam>,
    stored: Vec<Hypothesis>,
    done: bool,
}

impl Default for Row {
    fn default() -> Self {
        Self { live: vec![Beam::default()], stored: Vec::new(), done: false }
    }
}

impl Row {
    /// Takes the logits of one step; `logits` gives those of a beam.
    fn advance<'a>(
        &mut self,
        step: usize,
        logits: impl Fn(usize) -> ArrayView1<'a, f32>,
        options: &SearchOptions,
    ) -> Result<()> {
        let width = if options.beams == 1 { 1 } else { 2 * options.beams };
        let mut best = Best::new(width);
        for (beam, live) in self.live.iter().enumerate() {
            best.offer(beam, live.sum, &logits(beam)).ok_or(Error::Logits { step })?;
        }
        let generated = step + 1;
        if options.beams == 1 {
            self.take_best(&best.candidates, generated, options);
        } else {
            match options.scoring {
                Scoring::Length => self.take_by_length(&best.candidates, generated, options),
                Scoring::Brevity => self.take_by_brevity(&best.candidates, generated, options),
            }
        }
        self.done |= self.live.is_empty();
        Ok(())
    }

    /// One beam: the best token, until that is EOS.
    fn take_best(&mut self, best: &[Candidate], generated: usize, options: &SearchOptions) {
        let live = std::mem::take(&mut self.live);
        let Some(candidate) = best.first() else { return };
        let next = live[candidate.beam].extended(candidate);
        if candidate.token == options.eos_id {
            let score = next.sum / length_divisor(generated, options);
            self.stored.push(next.into_hypothesis(score, true));
            self.done = true;
        } else {
            self.live.push(next);
        }
    }

    /// The search of transformers 4.28 on a single row. An end counts only among the best `beams`
    /// candidates; the search stops when `beams` are stored and the worst of them is at least what
    /// the best candidate would have one token later.
    fn take_by_length(&mut self, best: &[Candidate], generated: usize, options: &SearchOptions) {
        let mut next = Vec::with_capacity(options.beams);
        for (rank, candidate) in best.iter().enumerate() {
            if candidate.token != options.eos_id {
                next.push(self.live[candidate.beam].extended(candidate));
            } else if rank < options.beams {
                let ended = self.live[candidate.beam].extended(candidate);
                let score = ended.sum / length_divisor(generated, options);
                self.store(ended.into_hypothesis(score, true), options.beams);
            }
            if next.len() == options.beams {
                break;
            }
        }
        self.live = next;
        let attainable = best
            .first()
            .map_or(f64::NEG_INFINITY, |top| top.sum / length_divisor(generated + 1, options));
        self.done = self.is_full(options) && self.worst_stored() >= attainable;
    }

    /// The search of t5x. Each end among the candidates counts; the search stops when `beams` have
    /// ended and the worst of them beats the best live one at its longest.
    fn take_by_brevity(&mut self, best: &[Candidate], generated: usize, options: &SearchOptions) {
        let mut next = Vec::with_capacity(options.beams);
        let mut ended = Vec::new();
        for candidate in best {
            let beam = self.live[candidate.beam].extended(candidate);
            if candidate.token == options.eos_id {
                let score = beam.sum / brevity_divisor(generated, options);
                ended.push(beam.into_hypothesis(score, true));
            } else if next.len() < options.beams {
                next.push(beam);
            }
        }
        self.live = next;
        self.stored.extend(ended);
        rank(&mut self.stored);
        self.stored.truncate(options.beams);
        let longest = brevity_divisor(options.max_tokens + 1, options);
        let attainable = self.live.first().map_or(f64::NEG_INFINITY, |live| live.sum / longest);
        self.done = self.is_full(options) && self.worst_stored() > attainable;
    }

    /// Keeps a hypothesis if it is among the best `beams`; of equals the one stored first goes.
    fn store(&mut self, hypothesis: Hypothesis, beams: usize) {
        if self.stored.len() >= beams && hypothesis.score <= self.worst_stored() {
            return;
        }
        self.stored.push(hypothesis);
        if self.stored.len() > beams {
            let worst = self.worst_stored();
            if let Some(index) = self.stored.iter().position(|stored| stored.score <= worst) {
                self.stored.remove(index);
            }
        }
    }

    fn is_full(&self, options: &SearchOptions) -> bool {
        self.stored.len() >= options.beams
    }

    fn worst_stored(&self) -> f64 {
        self.stored.iter().map(|stored| stored.score).fold(f64::INFINITY, f64::min)
    }

    /// What the decoder reads next for this row, which is not done: the last token of each beam, and the
    /// beam of the step before that it follows. Places without a live beam repeat the first.
    fn feed(&self, beams: usize) -> impl Iterator<Item = (i64, usize)> + '_ {
        let beam = |place| self.live.get(place).or(self.live.first());
        (0..beams).filter_map(beam).filter_map(|beam| Some((*beam.tokens.last()?, beam.parent)))
    }

    fn into_hypotheses(mut self, options: &SearchOptions) -> Vec<Hypothesis> {
        let live = if self.done { Vec::new() } else { std::mem::take(&mut self.live) };
        match options.scoring {
            Scoring::Length => {
                for beam in live {
                    // A sequence that was cut is divided by one more, as its start counts.
                    let score = beam.sum / length_divisor(beam.tokens.len() + 1, options);
                    self.store(beam.into_hypothesis(score, false), options.beams);
                }
                // Of equals, the reference gives the one stored last first.
                self.stored.reverse();
            }
            Scoring::Brevity if self.stored.is_empty() => {
                self.stored = live
                    .into_iter()
                    .map(|beam| {
                        let score = beam.sum;
                        beam.into_hypothesis(score, false)
                    })
                    .collect();
            }
            Scoring::Brevity => {}
        }
        rank(&mut self.stored);
        self.stored
    }
}

/// Best first; equals stay as they are.
fn rank(hypotheses: &mut [Hypothesis]) {
    hypotheses.sort_by(|a, b| b.score.total_cmp(&a.score));
}

#[expect(clippy::cast_precision_loss, reason = "lengths are far below 2^53")]
fn length_divisor(length: usize, options: &SearchOptions) -> f64 {
    match options.scoring {
        Scoring::Length => (length as f64).powf(options.length_penalty),
        Scoring::Brevity => brevity_divisor(length, options),
    }
}

#[expect(clippy::cast_precision_loss, reason = "lengths are far below 2^53")]
fn brevity_divisor(length: usize, options: &SearchOptions) -> f64 {
    ((5.0 + length as f64) / 6.0).powf(options.length_penalty)
}

/// Values that are worked on at once; the compiler makes vectors of them.
const LANES: usize = 8;
/// Logits of which the best is looked at before any of them is offered.
const BLOCK: usize = 32 * LANES;

/// The best candidates so far, best first; of equals the one offered first.
struct Best {
    width: usize,
    candidates: Vec<Candidate>,
}

impl Best {
    fn new(width: usize) -> Self {
        Self { width, candidates: Vec::with_capacity(width + 1) }
    }

    /// Offers every token after a beam that has `sum` so far. `None` if a logit is not a number, or
    /// none is finite.
    fn offer(&mut self, beam: usize, sum: f64, logits: &ArrayView1<'_, f32>) -> Option<()> {
        let logits = logits.as_standard_layout(); // as it is, unless its values lie apart
        let logits = logits.as_slice()?;
        let normaliser = log_sum_exp(logits)?;
        for (first, block) in (0i64..).step_by(BLOCK).zip(logits.chunks(BLOCK)) {
            // Nearly every block has nothing for the list, and its best tells.
            if !self.admits(sum + (f64::from(greatest(block)) - normaliser)) {
                continue;
            }
            for (token, &logit) in (first..).zip(block) {
                if logit == f32::NEG_INFINITY {
                    continue;
                }
                let log_probability = f64::from(logit) - normaliser;
                let candidate = Candidate {
                    beam,
                    token,
                    log_probability: narrowed(log_probability),
                    sum: sum + log_probability,
                };
                self.insert(candidate);
            }
        }
        Some(())
    }

    /// Whether a candidate with this sum is among the best so far.
    fn admits(&self, sum: f64) -> bool {
        self.candidates.len() < self.width
            || self.candidates.last().is_none_or(|last| sum > last.sum)
    }

    fn insert(&mut self, candidate: Candidate) {
        if !self.admits(candidate.sum) {
            return;
        }
        let place = self.candidates.partition_point(|kept| kept.sum >= candidate.sum);
        self.candidates.insert(place, candidate);
        self.candidates.truncate(self.width);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a log probability keeps 24 bits")]
fn narrowed(log_probability: f64) -> f32 {
    log_probability as f32
}

/// Logarithm of the sum of the exponentials, taken about the largest and added up in 64 bits. `None`
/// if one is not a number, or none is finite.
fn log_sum_exp(logits: &[f32]) -> Option<f64> {
    let is_broken = logits.iter().fold(false, |broken, logit| broken | logit.is_nan());
    let largest = greatest(logits);
    if is_broken || !largest.is_finite() {
        return None;
    }
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for (sum, logit) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(exp(logit - largest));
        }
    }
    let rest: f64 = rest.iter().map(|logit| f64::from(exp(logit - largest))).sum();
    Some(f64::from(largest) + (sums.iter().sum::<f64>() + rest).ln())
}

/// The greatest of some values that are numbers; of none, less than any.
fn greatest(values: &[f32]) -> f32 {
    let greater = |a: f32, b: f32| if a > b { a } else { b };
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut greatest = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (most, &value) in greatest.iter_mut().zip(chunk) {
            *most = greater(value, *most);
        }
    }
    greatest.into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, greater)
}

/// The exponential of a number that is not above 0, to 2e-7 of it; below -87, that of -87. Plain
/// arithmetic, so that the compiler can make vectors of it and every machine gives the same.
fn exp(value: f32) -> f32 {
    /// Added to a small number, it leaves the nearest whole number in the last bits.
    const WHOLE: f32 = 12_582_912.0;
    /// The logarithm of 2, as a number of few bits and the rest.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let value = if value > -87.0 { value } else { -87.0 };
    let shifted = value * std::f32::consts::LOG2_E + WHOLE;
    let whole = shifted - WHOLE;
    let part = value - whole * LN_2[0] - whole * LN_2[1];
    // The polynomial of Cephes for -ln 2 / 2 to ln 2 / 2.
    let mut power = 1.987_569_1e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        power = power * part + coefficient;
    }
    let power = power * part * part + part + 1.0;
    power * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()))
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "tokens, places and lengths are small"
)]
mod tests {
    use super::*;
    use ndarray::{Array2, s};
    use proptest::prelude::*;
    use rstest::rstest;

    const EOS: i64 = 1;

    /// A decoder whose logits are a fixed function of the row and of all that it has read: it finds
    /// out at once if a past is mixed up.
    struct Made {
        seeds: Vec<u64>,
        beams: usize,
        vocabulary: usize,
        read: Vec<Vec<i64>>,
        /// Where each row was in the step before.
        places: Vec<usize>,
        logits: Array2<f32>,
        steps: usize,
        /// Rows of all steps together.
        rows: usize,
    }

    impl Made {
        fn new(seeds: &[u64], beams: usize, vocabulary: usize) -> Self {
            let places = seeds.len() * beams;
            Self {
                seeds: seeds.to_vec(),
                beams,
                vocabulary,
                read: vec![Vec::new(); places],
                places: (0..seeds.len()).collect(),
                logits: Array2::zeros((places, vocabulary)),
                steps: 0,
                rows: 0,
            }
        }
    }

    impl Step for Made {
        fn step(&mut self, tokens: &[i64], beam_index: &[i64]) -> Result<ArrayView2<'_, f32>> {
            assert_eq!([tokens.len(), beam_index.len()], [self.seeds.len() * self.beams; 2]);
            let past = std::mem::take(&mut self.read);
            self.logits = Array2::zeros((tokens.len(), self.vocabulary));
            for (place, (&token, &from)) in tokens.iter().zip(beam_index).enumerate() {
                let (row, from) = (place / self.beams, from as usize);
                assert_eq!(from / self.beams, self.places[row], "rows are mixed up");
                self.read.push([past[from].as_slice(), &[token]].concat());
                let made = logits(self.seeds[row], &self.read[place], self.vocabulary);
                self.logits.slice_mut(s![place, ..]).assign(&ArrayView1::from(&made));
            }
            self.places = (0..self.seeds.len()).collect();
            self.steps += 1;
            self.rows += self.seeds.len();
            Ok(self.logits.view())
        }

        fn keep(&mut self, rows: &[usize]) -> Result<()> {
            assert!(rows.windows(2).all(|pair| pair[0] < pair[1]) && !rows.is_empty(), "{rows:?}");
            assert!(rows.len() < self.seeds.len(), "all of {rows:?} were there before");
            self.seeds = rows.iter().map(|&row| self.seeds[row]).collect();
            self.places = rows.to_vec();
            Ok(())
        }
    }

    /// Logits in about -3..3 out of a hash of what was read.
    fn logits(seed: u64, read: &[i64], vocabulary: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for &token in read {
            state = mixed(state ^ token as u64);
        }
        (0..vocabulary as u64)
            .map(|token| (mixed(state ^ (token << 32)) % 6000) as f32 / 1000.0 - 3.0)
            .collect()
    }

    fn mixed(value: u64) -> u64 {
        let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    fn log_probability(seed: u64, read: &[i64], token: i64, vocabulary: usize) -> f64 {
        let logits = logits(seed, read, vocabulary);
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        f64::from(logits[token as usize]) - sum.ln()
    }

    fn options(beams: usize, scoring: Scoring, max_tokens: usize) -> SearchOptions {
        SearchOptions { beams, length_penalty: 0.6, max_tokens, scoring, start_id: 0, eos_id: EOS }
    }

    fn found(seed: u64, vocabulary: usize, options: &SearchOptions) -> Vec<Hypothesis> {
        let mut decoder = Made::new(&[seed], options.beams, vocabulary);
        search(&mut decoder, 1, options).unwrap().remove(0)
    }

    /// Every sequence that can be generated, with the sum of its log probabilities.
    fn all_sequences(seed: u64, vocabulary: usize, limit: usize) -> Vec<(Vec<i64>, f64)> {
        let mut open = vec![(Vec::new(), 0.0)];
        let mut closed = Vec::new();
        while let Some((tokens, sum)) = open.pop() {
            if tokens.len() == limit || tokens.last() == Some(&EOS) {
                closed.push((tokens, sum));
                continue;
            }
            let read = [&[0], tokens.as_slice()].concat();
            for token in 0..vocabulary as i64 {
                let sum = sum + log_probability(seed, &read, token, vocabulary);
                open.push(([tokens.as_slice(), &[token]].concat(), sum));
            }
        }
        closed
    }

    #[rstest]
    fn wide_enough_it_finds_the_best_of_all(#[values(1, 2, 3, 4, 5, 6, 7, 8)] seed: u64) {
        let (vocabulary, limit) = (4, 4);
        // Every candidate of every step fits.
        let beams = 4usize.pow(4);
        let all = all_sequences(seed, vocabulary, limit);
        let best = |score: &dyn Fn(&[i64], f64) -> f64, finished_only: bool| {
            all.iter()
                .filter(|(tokens, _)| !finished_only || tokens.last() == Some(&EOS))
                .max_by(|a, b| score(&a.0, a.1).total_cmp(&score(&b.0, b.1)))
                .map(|(tokens, sum)| (tokens.clone(), score(tokens, *sum)))
                .unwrap()
        };
        let by_length = |tokens: &[i64], sum: f64| {
            let cut = usize::from(tokens.last() != Some(&EOS));
            sum / ((tokens.len() + cut) as f64).powf(0.6)
        };
        let by_brevity =
            |tokens: &[i64], sum: f64| sum / ((5.0 + tokens.len() as f64) / 6.0).powf(0.6);
        for (scoring, (tokens, score)) in [
            (Scoring::Length, best(&by_length, false)),
            (Scoring::Brevity, best(&by_brevity, true)),
        ] {
            let hypothesis = found(seed, vocabulary, &options(beams, scoring, limit)).remove(0);
            assert_eq!(hypothesis.tokens, tokens, "{scoring:?}");
            assert!((hypothesis.score - score).abs() < 1e-6, "{scoring:?}");
            assert_eq!(hypothesis.finished, tokens.last() == Some(&EOS));
        }
    }

    #[test]
    fn one_beam_takes_the_best_token_each_time() {
        for seed in 0..50 {
            for scoring in [Scoring::Length, Scoring::Brevity] {
                let all = found(seed, 9, &options(1, scoring, 12));
                let [hypothesis] = all.as_slice() else { panic!("{all:?}") };
                let mut read = vec![0];
                for (place, &token) in hypothesis.tokens.iter().enumerate() {
                    let logits = logits(seed, &read, 9);
                    let best = logits.iter().copied().fold(f32::MIN, f32::max);
                    assert_eq!(logits[token as usize].to_bits(), best.to_bits());
                    assert_eq!(
                        token == EOS,
                        hypothesis.finished && place + 1 == hypothesis.tokens.len()
                    );
                    read.push(token);
                }
                assert!(hypothesis.finished || hypothesis.tokens.len() == 12);
            }
        }
    }

    #[test]
    fn a_row_that_ends_early_stops_the_decoder() {
        let mut steps = Vec::new();
        for seed in 0..20 {
            let options = options(4, Scoring::Length, 200);
            let mut decoder = Made::new(&[seed], 4, 6);
            search(&mut decoder, 1, &options).unwrap();
            steps.push(decoder.steps);
        }
        assert!(steps.iter().all(|&steps| steps < 200), "{steps:?}");
    }

    #[test]
    fn a_row_takes_no_more_steps_than_alone() {
        let options = options(4, Scoring::Length, 200);
        let seeds: Vec<u64> = (0..20).collect();
        let steps = |seeds: &[u64]| {
            let mut decoder = Made::new(seeds, 4, 6);
            search(&mut decoder, seeds.len(), &options).unwrap();
            decoder.rows
        };
        let alone: Vec<usize> = seeds.iter().map(|&seed| steps(&[seed])).collect();
        assert!(alone.iter().any(|&steps| steps != alone[0]), "{alone:?}");
        assert_eq!(steps(&seeds), alone.iter().sum::<usize>());
    }

    #[test]
    fn a_sequence_cut_by_the_limit_is_divided_by_one_more() {
        let mut options = options(2, Scoring::Length, 1);
        options.length_penalty = 1.0;
        for hypothesis in found(3, 9, &options) {
            let divisor = if hypothesis.finished { 1.0 } else { 2.0 };
            assert!((hypothesis.score - hypothesis.sum / divisor).abs() < 1e-12);
        }
        options.scoring = Scoring::Brevity;
        options.eos_id = 99;
        let cut = found(3, 9, &options);
        assert_eq!(cut.len(), 2);
        assert!(cut.iter().all(|h| !h.finished && h.score.to_bits() == h.sum.to_bits()));
    }

    struct Broken(Array2<f32>);

    impl Step for Broken {
        fn step(&mut self, _: &[i64], _: &[i64]) -> Result<ArrayView2<'_, f32>> {
            Ok(self.0.view())
        }

        fn keep(&mut self, _: &[usize]) -> Result<()> {
            Ok(())
        }
    }

    #[rstest]
    #[case::not_a_number(f32::NAN)]
    #[case::infinite(f32::INFINITY)]
    fn broken_logits_are_an_error(#[case] broken: f32) {
        let mut logits = Array2::zeros((2, 5));
        logits[(0, 3)] = broken;
        let error = search(&mut Broken(logits), 1, &options(2, Scoring::Length, 3)).unwrap_err();
        assert!(matches!(error, Error::Logits { step: 0 }), "{error}");
    }

    #[test]
    fn forbidden_tokens_are_never_taken() {
        let mut logits = Array2::from_elem((3, 5), f32::NEG_INFINITY);
        logits.column_mut(2).fill(1.0);
        let found = search(&mut Broken(logits), 1, &options(3, Scoring::Length, 4)).unwrap();
        assert_eq!(found[0].len(), 1);
        assert_eq!(found[0][0].tokens, [2, 2, 2, 2]);
        assert!(found[0][0].sum.abs() < 1e-12);
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        let logits = [1e30f32, 1e30, -1e30];
        assert!((log_sum_exp(&logits).unwrap() - f64::from(1e30f32)).abs() < 1e15);
        let small = [-200.0f32, -200.0];
        assert!((log_sum_exp(&small).unwrap() - (-200.0 + 2f64.ln())).abs() < 1e-12);
    }

    #[test]
    fn exponentials_are_true_to_their_last_bits() {
        for step in 0..=86_900 {
            let value = -(step as f32) / 1000.0;
            let error = f64::from(exp(value)) / f64::from(value).exp() - 1.0;
            assert!(error.abs() < 2e-7, "{value}: {error}");
        }
        assert!(exp(f32::NEG_INFINITY) < 2e-38);
    }

    /// The best of all candidates, by sorting them; of equals the one offered first.
    fn sorted(rows: &[Vec<f32>], width: usize) -> Vec<(usize, i64)> {
        let mut all = Vec::new();
        for (beam, row) in rows.iter().enumerate() {
            let normaliser = log_sum_exp(row).unwrap();
            for (token, &logit) in (0..).zip(row) {
                all.push((f64::from(logit) - normaliser, (beam, token)));
            }
        }
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all.into_iter().take(width).map(|(_, candidate)| candidate).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn the_best_candidates_are_found_wherever_they_are(
            seed: u64,
            vocabulary in 1usize..4 * BLOCK,
            width in 1usize..9,
            strided: bool,
        ) {
            let rows: Vec<_> =
                (0..3).map(|beam| logits(seed, &[beam], vocabulary)).collect();
            let mut best = Best::new(width);
            for (beam, row) in rows.iter().enumerate() {
                let spaced: Vec<f32> = row.iter().flat_map(|&logit| [logit, 9.0]).collect();
                let view = ArrayView1::from(&spaced);
                let view = view.slice(s![..;2]);
                let row = if strided { view } else { ArrayView1::from(row) };
                prop_assert_eq!(best.offer(beam, 0.0, &row), Some(()));
            }
            let found: Vec<_> =
                best.candidates.iter().map(|found| (found.beam, found.token)).collect();
            prop_assert_eq!(found, sorted(&rows, width));
        }

        #[test]
        fn rows_do_not_disturb_one_another(
            seeds in prop::collection::vec(any::<u64>(), 1..5),
            beams in 1usize..5,
            vocabulary in 2usize..12,
            max_tokens in 1usize..12,
            brevity: bool,
        ) {
            let scoring = if brevity { Scoring::Brevity } else { Scoring::Length };
            let options = options(beams, scoring, max_tokens);
            let mut decoder = Made::new(&seeds, beams, vocabulary);
            let together = search(&mut decoder, seeds.len(), &options).unwrap();
            for (&seed, row) in seeds.iter().zip(&together) {
                prop_assert_eq!(row, &found(seed, vocabulary, &options));
            }
        }

        #[test]
        fn hypotheses_are_what_they_say(
            seed: u64,
            beams in 1usize..6,
            vocabulary in 2usize..12,
            max_tokens in 1usize..12,
            brevity: bool,
        ) {
            let scoring = if brevity { Scoring::Brevity } else { Scoring::Length };
            let hypotheses = found(seed, vocabulary, &options(beams, scoring, max_tokens));
            prop_assert!((1..=beams).contains(&hypotheses.len()));
            prop_assert!(hypotheses.windows(2).all(|pair| pair[0].score >= pair[1].score));
            for hypothesis in &hypotheses {
                prop_assert!(hypothesis.tokens.len() <= max_tokens);
                prop_assert_eq!(hypothesis.tokens.len(), hypothesis.log_probabilities.len());
                prop_assert_eq!(hypothesis.tokens.last() == Some(&EOS), hypothesis.finished);
                let mut read = vec![0];
                let mut sum = 0.0;
                for &token in &hypothesis.tokens {
                    sum += log_probability(seed, &read, token, vocabulary);
                    read.push(token);
                }
                prop_assert!((sum - hypothesis.sum).abs() < 1e-4);
            }
        }
    }
}
