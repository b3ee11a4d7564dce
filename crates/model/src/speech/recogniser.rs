//! Whisper at work: windows of speech to words with their times.

use std::{io::Write as _, ops::Range};

use flate2::{Compression, write::ZlibEncoder};
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis};

use crate::{
    error::{Error, Result},
    runtime::{Runtime, Session, SessionOptions, Tensor},
    speech::{
        Evidence, Listener, Network, SpeechBundle, SpeechManifest, SpeechWindow, Vocabulary,
        judge::{Settled, fall_back, no_temperature},
        manifest::{TIME_STEP_MS, files},
        mel::{LogMel, SAMPLE_RATE},
        network::{Cross, Past},
        rules::Rules,
        search::{Said, SearchOptions, Speaker, search},
        sentences::ends_sentence,
        words::{Group, path, words},
    },
    vid2seq::{matrix, stop_if},
};

/// Samples of a time step.
const STEP: usize = SAMPLE_RATE / 1000 * TIME_STEP_MS as usize;
/// Samples that a text must cover, two fifths of a second, for what is behind it to be heard again: so that a window
/// is heard a limited number of times.
const LEAST_SAID: usize = SAMPLE_RATE * 2 / 5;
/// Above this temperature a text is drawn so freely that what follows is better not told of it.
const MOST_HEATED: f32 = 0.5;
/// The least mean probability of words that tell the language of a sound.
const LEAST_SURE: f32 = 0.5;
/// Tokens of what was said before that are kept: no Whisper reads more.
const REMEMBERED: usize = 448;
/// Languages that are written without spaces between words.
const UNSPACED: [&str; 7] = ["zh", "yue", "ja", "th", "lo", "my", "km"];

/// How windows are recognised. The defaults are those that Whisper was released with.
#[derive(Debug, Clone, PartialEq)]
pub struct RecognitionOptions {
    /// Texts that are followed at temperature 0, at least 1.
    pub beams: usize,
    /// Texts that are drawn above it; the likeliest is taken.
    pub draws: usize,
    /// The temperatures that are tried, in order, until a text is credible.
    pub temperatures: Vec<f32>,
    /// A text that can be compressed further than this repeats itself.
    pub most_compression: f32,
    /// A text whose mean log-probability is below this is not credible.
    pub least_log_probability: f32,
    /// A window that is silent with a higher probability, and whose text is not credible, is silent.
    pub most_silence: f32,
    /// Windows that are read together.
    pub batch: usize,
}

impl Default for RecognitionOptions {
    fn default() -> Self {
        Self {
            beams: 5,
            draws: 5,
            temperatures: vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
            most_compression: 2.4,
            least_log_probability: -1.0,
            most_silence: 0.6,
            batch: 4,
        }
    }
}

/// A window to be recognised.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The window.
    pub window: SpeechWindow,
    /// The code of its language; `None` asks for the likeliest.
    pub language: Option<String>,
    /// What was said before, as tokens; empty where that must not matter.
    pub previous: Vec<i64>,
}

/// What was heard in a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// The code of its language.
    pub language: String,
    /// The probability of that language, 1 where it was given.
    pub language_probability: f32,
    /// The words; none where there was no speech.
    pub words: Vec<Word>,
    /// The tokens of the text with their times, for the window that follows.
    pub tokens: Vec<i64>,
    /// The part of the window that was not heard to its end.
    pub rest: Option<SpeechWindow>,
    /// What speaks for the text.
    pub evidence: Evidence,
    /// The last temperature that was tried for it: the highest one where no text was credible.
    pub temperature: f32,
}

impl Heard {
    /// Whether its words can be believed to be said, and in its language: they came easily, and are more
    /// probable than not. What is heard in music mostly is not.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        let sum: f32 = self.words.iter().map(|word| word.probability).sum();
        #[expect(clippy::cast_precision_loss, reason = "a window has few words")]
        let mean = sum / self.words.len().max(1) as f32;
        mean >= LEAST_SURE && self.temperature <= MOST_HEATED
    }
}

/// A word.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    /// As it is written, with the signs that follow it and the space before it.
    pub text: String,
    /// When it is said, in samples from the start of the sound.
    pub span: Range<u64>,
    /// The mean probability of its tokens, in 0..1.
    pub probability: f32,
}

/// A Whisper and its voice detector, ready to listen. It belongs to one thread.
pub struct Recogniser {
    network: Network,
    voice: Session,
    vocabulary: Vocabulary,
    manifest: SpeechManifest,
    mel: LogMel,
    options: RecognitionOptions,
}

/// A text for a window, and the language that it is in.
#[derive(Debug, Clone)]
struct Attempt {
    said: Said,
    language: (String, f32),
}

/// A decoder that has read what some windows are asked with.
struct Opened {
    past: Past,
    /// The logits behind it, `[windows, vocab]`.
    first: Array2<f32>,
    /// How many tokens may follow.
    room: usize,
    silences: Vec<f32>,
    languages: Vec<(String, f32)>,
}

impl Recogniser {
    /// Opens the graphs of a bundle.
    ///
    /// # Errors
    /// [`Error::Read`] and [`Error::Vocabulary`] where the vocabulary cannot be used,
    /// [`Error::Runtime`] where a graph cannot be opened, or the device not be had;
    /// [`Error::Decoding`] for options without a temperature.
    pub fn load(
        bundle: &SpeechBundle,
        runtime: &Runtime,
        session: &SessionOptions,
        options: RecognitionOptions,
    ) -> Result<Self> {
        if options.temperatures.is_empty() {
            return Err(no_temperature());
        }
        let path = bundle.path(files::TOKENIZER);
        let json = std::fs::read(&path).map_err(|source| Error::Read { path, source })?;
        // The detector is too small for more threads, or for another device.
        let one = SessionOptions { threads: 1, ..SessionOptions::default() };
        let manifest = bundle.manifest().clone();
        Ok(Self {
            network: Network::load(bundle, runtime, session)?,
            voice: runtime.open(&bundle.path(files::VOICE), &one)?,
            vocabulary: Vocabulary::new(&json)?,
            mel: LogMel::new(manifest.whisper.mel_bands as usize),
            manifest,
            options,
        })
    }

    /// What the bundle says about itself.
    #[must_use]
    pub fn manifest(&self) -> &SpeechManifest {
        &self.manifest
    }

    /// Does something under other options than those that it was opened with.
    pub(crate) fn with_options<T>(
        &mut self,
        options: RecognitionOptions,
        work: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let own = std::mem::replace(&mut self.options, options);
        let done = work(self);
        self.options = own;
        done
    }

    /// Lets `listener` hear more of its sound (16 kHz, one channel). The answer are the windows that
    /// are complete.
    ///
    /// # Errors
    /// [`Error::Runtime`].
    pub fn hear(&mut self, listener: &mut Listener, samples: &[f32]) -> Result<Vec<SpeechWindow>> {
        listener.hear(&mut self.voice, samples)
    }

    /// The last windows of a sound that is over.
    ///
    /// # Errors
    /// [`Error::Runtime`].
    pub fn finish(&mut self, listener: Listener) -> Result<Vec<SpeechWindow>> {
        listener.finish(&mut self.voice)
    }

    /// What is said in each window. A window is heard alike alone and in company.
    ///
    /// # Errors
    /// [`Error::Cancelled`] once `should_stop` says so, [`Error::Logits`], [`Error::Runtime`].
    pub fn recognise(
        &mut self,
        requests: &[Request],
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Heard>> {
        let mut heard = Vec::with_capacity(requests.len());
        for batch in requests.chunks(self.options.batch.max(1)) {
            heard.extend(self.recognise_batch(batch, should_stop)?);
        }
        Ok(heard)
    }

    /// All that is said in a sound, window by window: what is left of a window is heard again, and with
    /// `connected` each window knows what was said before it. The language is that of the first window whose
    /// words can be believed, unless it is given.
    ///
    /// # Errors
    /// As [`Recogniser::recognise`].
    pub fn transcribe(
        &mut self,
        samples: &[f32],
        language: Option<&str>,
        connected: bool,
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Heard>> {
        let mut listener = Listener::default();
        let mut windows = self.hear(&mut listener, samples)?;
        windows.extend(self.finish(listener)?);
        let mut conversation = Conversation::new(language.map(str::to_owned), connected);
        conversation.add(windows);
        let batch = self.options.batch.max(1);
        loop {
            let requests = conversation.next(batch);
            if requests.is_empty() {
                return Ok(conversation.into_heard());
            }
            let heard = self.recognise(&requests, should_stop)?;
            conversation.hear(requests, heard);
        }
    }

    fn recognise_batch(
        &mut self,
        requests: &[Request],
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Heard>> {
        let columns = 2 * self.manifest.whisper.audio_positions as usize;
        let bands = self.manifest.whisper.mel_bands as usize;
        let mut pictures = Array3::zeros((requests.len(), bands, columns));
        for (request, picture) in requests.iter().zip(pictures.outer_iter_mut()) {
            self.mel.draw(&request.window.samples, picture);
        }
        stop_if(should_stop)?;
        let cross = self.network.encode(&pictures)?;
        let settled = self.settle(&cross, &pictures, requests, should_stop)?;
        let spoken: Vec<usize> = (0..requests.len())
            .filter(|place| !self.options.is_silent(settled[*place].evidence))
            .collect();
        let mut timed = self.times(&cross, &pictures, requests, &settled, &spoken)?.into_iter();
        let mut heard = Vec::with_capacity(requests.len());
        for (place, (request, settled)) in requests.iter().zip(settled).enumerate() {
            let is_spoken = spoken.contains(&place);
            let words = if is_spoken { timed.next().unwrap_or_default() } else { Vec::new() };
            let Settled { text, evidence, temperature } = settled;
            let tokens = if is_spoken { text.said.tokens } else { Vec::new() };
            let rest = self.rest(&request.window, &tokens);
            let (language, language_probability) = text.language;
            heard.push(Heard {
                language,
                language_probability,
                words,
                tokens,
                rest,
                evidence,
                temperature,
            });
        }
        Ok(heard)
    }

    /// The most credible text of each window.
    fn settle(
        &mut self,
        cross: &Cross,
        pictures: &Array3<f32>,
        requests: &[Request],
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Settled<Attempt>>> {
        let options = self.options.clone();
        fall_back(requests.len(), &options, |temperature, open| {
            let chosen: Vec<&Request> = open.iter().map(|place| &requests[*place]).collect();
            if open.len() == requests.len() {
                return self.attempt(cross, pictures, &chosen, temperature, should_stop);
            }
            let some = self.network.select(cross, pictures, open)?;
            let pictures = pictures.select(Axis(0), open);
            self.attempt(&some, &pictures, &chosen, temperature, should_stop)
        })
    }

    /// A text for each window at one temperature.
    fn attempt(
        &mut self,
        cross: &Cross,
        pictures: &Array3<f32>,
        requests: &[&Request],
        temperature: f32,
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Vec<(Attempt, Evidence)>> {
        stop_if(should_stop)?;
        let Opened { past, first, room, silences, languages } = self.open(cross, requests)?;
        let width = if temperature > 0.0 { self.options.draws } else { self.options.beams };
        let half = self.manifest.whisper.text_positions as usize / 2;
        let options = SearchOptions { width, temperature, max_tokens: half.min(room) };
        let mut speaker = Reader {
            vocabulary: first.ncols(),
            network: &mut self.network,
            pictures: pictures.clone(),
            cross: Kept::Lent(cross),
            past,
            moved: None,
            width: width.max(1),
            logits: None,
            should_stop,
        };
        let rules = Rules { tokens: &self.manifest.tokens };
        let found = search(&mut speaker, &first.view(), rules, options)?;
        let judge = |((said, silence), language): ((Said, f32), (String, f32))| {
            let compression = compression(&self.vocabulary.text(&said.tokens));
            let evidence = Evidence { log_probability: said.average(), compression, silence };
            (Attempt { said, language }, evidence)
        };
        Ok(found.into_iter().zip(silences).zip(languages).map(judge).collect())
    }

    /// Lets the decoder read what each window is asked with. What begins a transcript tells how silent a
    /// window is, and in which language.
    fn open(&mut self, cross: &Cross, requests: &[&Request]) -> Result<Opened> {
        let (windows, vocabulary) = (requests.len(), self.manifest.whisper.vocab_size as usize);
        let shape = [windows, vocabulary];
        let end = i64::from(self.manifest.tokens.end);
        let prompts: Vec<Vec<i64>> = requests.iter().map(|request| self.opening(request)).collect();
        let longest = prompts.iter().map(Vec::len).max().unwrap_or_default();
        let padding: Vec<usize> = prompts.iter().map(|prompt| longest - prompt.len()).collect();
        let opening = Array2::from_shape_fn((windows, longest), |(row, column)| {
            column.checked_sub(padding[row]).map_or(end, |place| prompts[row][place])
        });
        let rows: Vec<usize> = (0..windows).collect();
        let mut past = self.network.start(padding)?;
        let mut logits = self.network.read(cross, &mut past, &opening, &rows)?;
        let mut silences = Vec::with_capacity(windows);
        let mut languages = Vec::with_capacity(windows);
        for (request, row) in requests.iter().zip(matrix(&logits, "logits", shape)?.rows()) {
            let row = row.to_slice().unwrap_or_default();
            silences.push(probability(row, self.manifest.tokens.no_speech));
            languages.push(language(&self.manifest, request, row));
        }
        let tails: Vec<Vec<i64>> = languages
            .iter()
            .map(|(language, _)| self.manifest.tokens.prompt(language).split_off(1))
            .collect();
        let more = tails.first().map_or(0, Vec::len);
        if more > 0 {
            let tail = Array2::from_shape_fn((windows, more), |(row, column)| tails[row][column]);
            logits = self.network.read(cross, &mut past, &tail, &rows)?;
        }
        let room = self.manifest.whisper.text_positions as usize;
        let room = room.saturating_sub(longest + more);
        let first = matrix(&logits, "logits", shape)?.to_owned();
        Ok(Opened { past, first, room, silences, languages })
    }

    /// What a window is asked with, up to the token that begins a transcript.
    fn opening(&self, request: &Request) -> Vec<i64> {
        let tokens = &self.manifest.tokens;
        let mut opening = Vec::new();
        if !request.previous.is_empty() {
            opening.push(i64::from(tokens.previous));
            let most = (self.manifest.whisper.text_positions as usize / 2).saturating_sub(1);
            opening.extend(&request.previous[request.previous.len().saturating_sub(most)..]);
        }
        opening.push(i64::from(tokens.start));
        opening
    }

    /// The words of the windows that are `spoken`, in that order.
    fn times(
        &mut self,
        cross: &Cross,
        pictures: &Array3<f32>,
        requests: &[Request],
        settled: &[Settled<Attempt>],
        spoken: &[usize],
    ) -> Result<Vec<Vec<Word>>> {
        if spoken.is_empty() {
            return Ok(Vec::new());
        }
        let end = i64::from(self.manifest.tokens.end);
        let reads: Vec<Vec<i64>> =
            spoken.iter().map(|place| self.aligned_tokens(&settled[*place].text)).collect();
        let longest = reads.iter().map(Vec::len).max().unwrap_or_default();
        let all = Array2::from_shape_fn((reads.len(), longest), |(row, column)| {
            reads[row].get(column).copied().unwrap_or(end)
        });
        let scores = if spoken.len() == requests.len() {
            self.network.align(cross, &all)?
        } else {
            let some = self.network.select(cross, pictures, spoken)?;
            self.network.align(&some, &all)?
        };
        let windows = spoken.iter().map(|place| (&requests[*place].window, &settled[*place].text));
        let timed = windows.zip(&reads).zip(scores.outer_iter());
        Ok(timed
            .map(|(((window, attempt), read), scores)| {
                let scores = scores.slice_move(ndarray::s![.., ..read.len(), ..]);
                self.words(window, attempt, read, &scores)
            })
            .collect())
    }

    /// The words of one window. `scores` say where the alignment heads looked while `read` was read.
    fn words(
        &self,
        window: &SpeechWindow,
        attempt: &Attempt,
        read: &[i64],
        scores: &ArrayView3<'_, f32>,
    ) -> Vec<Word> {
        let text = self.spoken_tokens(&attempt.said);
        // The row of a token is that of the one before it, which foretells it; the last is the end's.
        let rows = read.len() - text.len() - 2..read.len() - 1;
        let heard = heard_steps(window, self.manifest.whisper.audio_positions as usize);
        let firsts = path(scores, rows, &heard);
        let spaced = !UNSPACED.contains(&attempt.language.0.as_str());
        let ids: Vec<i64> = text.iter().map(|(token, _)| *token).collect();
        place_words(window, &words(&self.vocabulary, &ids, spaced), &text, &firsts)
    }

    /// What is read to align a text: it has no times, and says so.
    fn aligned_tokens(&self, attempt: &Attempt) -> Vec<i64> {
        let tokens = &self.manifest.tokens;
        let mut read = tokens.prompt(&attempt.language.0);
        read.push(i64::from(tokens.no_timestamps));
        read.extend(self.spoken_tokens(&attempt.said).iter().map(|(token, _)| *token));
        read.push(i64::from(tokens.end));
        read
    }

    /// The tokens that are words, with their log-probabilities.
    fn spoken_tokens(&self, said: &Said) -> Vec<(i64, f32)> {
        let end = i64::from(self.manifest.tokens.end);
        let both = said.tokens.iter().copied().zip(said.log_probabilities.iter().copied());
        let room = self.manifest.whisper.text_positions as usize - 6;
        both.filter(|(token, _)| *token < end).take(room).collect()
    }

    /// What is left of a window behind the last time that was said, if that ends a text.
    fn rest(&self, window: &SpeechWindow, tokens: &[i64]) -> Option<SpeechWindow> {
        let first = i64::from(self.manifest.tokens.first_time);
        let last = tokens.last().filter(|token| **token >= first)?;
        let from = usize::try_from(last - first).ok()? * STEP;
        if from >= LEAST_SAID && from < window.samples.len() { window.after(from) } else { None }
    }
}

/// The windows of one sound, in the order in which they may be recognised.
#[derive(Debug)]
pub struct Conversation {
    language: Option<String>,
    connected: bool,
    waiting: std::collections::VecDeque<SpeechWindow>,
    previous: Vec<i64>,
    heard: Vec<(u64, Heard)>,
}

impl Conversation {
    /// Nothing heard yet, in this language if it is known. With `connected`, each window is told what
    /// was said before, so that there is only ever one to be recognised.
    #[must_use]
    pub fn new(language: Option<String>, connected: bool) -> Self {
        Self {
            language,
            connected,
            waiting: std::collections::VecDeque::new(),
            previous: Vec::new(),
            heard: Vec::new(),
        }
    }

    /// Adds windows that follow the others.
    pub fn add(&mut self, windows: impl IntoIterator<Item = SpeechWindow>) {
        self.waiting.extend(windows);
    }

    /// How many windows wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes up to `most` windows to be recognised. Where the language is to be found out, they come one by one
    /// until words can be believed: the others are in the language of those.
    pub fn next(&mut self, most: usize) -> Vec<Request> {
        let alone = self.connected || self.language.is_none();
        let count = self.waiting.len().min(if alone { 1 } else { most });
        let request = |window| Request {
            window,
            language: self.language.clone(),
            previous: self.previous.clone(),
        };
        self.waiting.drain(..count).map(request).collect()
    }

    /// Takes what was heard of the windows that [`Conversation::next`] gave out.
    pub fn hear(&mut self, requests: Vec<Request>, heard: Vec<Heard>) {
        for (request, mut heard) in requests.into_iter().zip(heard) {
            if self.language.is_none() && heard.is_sure() {
                self.language = Some(heard.language.clone());
            }
            if self.connected {
                self.remember(&heard);
            }
            if let Some(rest) = heard.rest.take() {
                let place = self.waiting.partition_point(|window| window.start < rest.start);
                self.waiting.insert(place, rest);
            }
            self.heard.push((request.window.start, heard));
        }
    }

    /// Keeps what the next window is told. A text that came only at a high temperature would lead astray what
    /// follows, so after it all is forgotten; silence changes nothing.
    fn remember(&mut self, heard: &Heard) {
        if heard.tokens.is_empty() {
            return;
        }
        if heard.temperature > MOST_HEATED {
            self.previous.clear();
            return;
        }
        self.previous.extend(&heard.tokens);
        self.previous.drain(..self.previous.len().saturating_sub(REMEMBERED));
    }

    /// All that was heard, in order.
    #[must_use]
    pub fn into_heard(mut self) -> Vec<Heard> {
        self.heard.sort_by_key(|(start, _)| *start);
        self.heard.into_iter().map(|(_, heard)| heard).collect()
    }
}

/// What of a window's time steps is voiced, with a margin of a tenth of a second.
fn heard_steps(window: &SpeechWindow, most: usize) -> Vec<bool> {
    const MARGIN: usize = SAMPLE_RATE / 10;
    let steps = window.samples.len().div_ceil(STEP).min(most);
    let voiced = |step: usize| {
        let (start, end) = (step * STEP, (step + 1) * STEP);
        window.voiced.iter().any(|span| end + MARGIN > span.start && start < span.end + MARGIN)
    };
    (0..steps).map(voiced).collect()
}

/// Words with the times of their tokens. A word that begins or ends where there is no voice is cut to
/// where there is one.
fn place_words(
    window: &SpeechWindow,
    groups: &[Group],
    text: &[(i64, f32)],
    firsts: &[usize],
) -> Vec<Word> {
    let mut first = 0;
    let mut placed = Vec::with_capacity(groups.len());
    for group in groups {
        let sample = |row: usize| firsts.get(row).map_or(window.samples.len(), |step| step * STEP);
        let (start, end) = (sample(first), sample(first + group.spoken));
        let (start, end) = voiced_part(window, start, end.min(window.samples.len()));
        let tokens = &text[first..(first + group.tokens).min(text.len())];
        let sum: f32 = tokens.iter().map(|(_, log_probability)| log_probability).sum();
        #[expect(clippy::cast_precision_loss, reason = "a word has few tokens")]
        let mean = sum / tokens.len().max(1) as f32;
        placed.push(Word {
            text: group.text.clone(),
            span: window.start + start as u64..window.start + end as u64,
            probability: mean.exp(),
        });
        first += group.tokens;
    }
    cross_pauses(window, &mut placed);
    reach_pauses(window, &mut placed);
    placed
}

/// Lets words at the wrong end of a pause cross it: the first word of a sentence that was squeezed in
/// behind the voice before, and the last word of one that was squeezed in before the voice after.
fn cross_pauses(window: &SpeechWindow, words: &mut [Word]) {
    /// A tenth of a second of voice is no word.
    const SQUEEZED: u64 = SAMPLE_RATE as u64 / 10;
    let voiced =
        |span: &Range<usize>| window.start + span.start as u64..window.start + span.end as u64;
    for pair in window.voiced.windows(2) {
        let (before, after) = (voiced(&pair[0]), voiced(&pair[1]));
        // Words from here on are said behind the pause.
        let next = words.partition_point(|word| word.span.end <= after.start);
        if let Some(first) = next.checked_sub(1)
            && next < words.len()
            && words[first].span.start + SQUEEZED >= before.end
            && !ends_sentence(&words[first].text)
            && first.checked_sub(1).is_none_or(|last| ends_sentence(&words[last].text))
        {
            words[first].span = after.start..words[next].span.start.max(after.start);
        }
        let next = words.partition_point(|word| word.span.start < before.end);
        if let Some(last) = next.checked_sub(1)
            && words.get(next).is_some_and(|word| word.span.end <= after.start + SQUEEZED)
            && ends_sentence(&words[next].text)
            && !ends_sentence(&words[last].text)
        {
            words[next].span = words[last].span.end.min(before.end)..before.end;
        }
    }
}

/// Lets the words beside a pause reach to it: what the alignment heads look at is often late at a
/// beginning and early at an end, and the voice detector knows better.
fn reach_pauses(window: &SpeechWindow, words: &mut [Word]) {
    /// Half a second: what is further away may be a word that was not understood.
    const FARTHEST: u64 = SAMPLE_RATE as u64 / 2;
    for span in &window.voiced {
        let (start, end) = (window.start + span.start as u64, window.start + span.end as u64);
        let inside = |word: &Word| word.span.start < end && word.span.end > start;
        if let Some(first) = words.iter().position(inside)
            && words[first].span.start.checked_sub(start).is_some_and(|late| late <= FARTHEST)
        {
            words[first].span.start = start;
        }
        if let Some(last) = words.iter().rposition(inside)
            && end.checked_sub(words[last].span.end).is_some_and(|early| early <= FARTHEST)
        {
            words[last].span.end = end;
        }
    }
}

/// `start..end` without the silence at its ends, unless that is all there is.
fn voiced_part(window: &SpeechWindow, start: usize, end: usize) -> (usize, usize) {
    let touched = || window.voiced.iter().filter(|span| span.start < end && span.end > start);
    match (touched().next(), touched().next_back()) {
        (Some(first), Some(last)) => (start.max(first.start), end.min(last.end)),
        _ => (start, end.max(start)),
    }
}

/// The language that a window is in, and how likely that is.
fn language(manifest: &SpeechManifest, request: &Request, logits: &[f32]) -> (String, f32) {
    let known = &manifest.tokens.languages;
    if let Some(language) = &request.language
        && (known.is_empty() || known.contains_key(language))
    {
        return (language.clone(), 1.0);
    }
    let scores: Vec<(&String, f32)> =
        known.iter().filter_map(|(code, id)| Some((code, *logits.get(*id as usize)?))).collect();
    let all: Vec<f32> = scores.iter().map(|(_, logit)| *logit).collect();
    let total = super::rules::log_sum_exp(&all);
    let best = scores.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    best.map_or(("en".to_owned(), 1.0), |(code, logit)| (code.clone(), (logit - total).exp()))
}

fn probability(logits: &[f32], token: u32) -> f32 {
    let total = super::rules::log_sum_exp(logits);
    logits.get(token as usize).map_or(0.0, |logit| (logit - total).exp())
}

/// How many times shorter a text can be written; 0 for none.
fn compression(text: &str) -> f32 {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(text.trim().as_bytes()).and_then(|()| encoder.finish());
    // Writing to memory cannot fail.
    let length = written.map_or(1, |bytes| bytes.len());
    #[expect(clippy::cast_precision_loss, reason = "texts are short")]
    let ratio = text.trim().len() as f32 / length.max(1) as f32;
    ratio
}

/// The keys and values that a search looks at.
enum Kept<'a> {
    Lent(&'a Cross),
    Own(Cross),
}

impl Kept<'_> {
    fn get(&self) -> &Cross {
        match self {
            Self::Lent(cross) => cross,
            Self::Own(cross) => cross,
        }
    }
}

/// The network in the middle of some texts.
struct Reader<'a> {
    network: &'a mut Network,
    pictures: Array3<f32>,
    cross: Kept<'a>,
    past: Past,
    /// The rows that are left after windows were dropped, until they are next read.
    moved: Option<Vec<usize>>,
    width: usize,
    logits: Option<Tensor>,
    vocabulary: usize,
    should_stop: &'a dyn Fn() -> bool,
}

impl Speaker for Reader<'_> {
    fn read(&mut self, tokens: &[i64], rows: &[usize]) -> Result<ArrayView2<'_, f32>> {
        stop_if(self.should_stop)?;
        let rows: Vec<usize> = match self.moved.take() {
            Some(moved) => rows.iter().map(|row| moved[*row]).collect(),
            None => rows.to_vec(),
        };
        let column = Array2::from_shape_fn((tokens.len(), 1), |(row, _)| tokens[row]);
        let logits = self.network.read(self.cross.get(), &mut self.past, &column, &rows)?;
        matrix(self.logits.insert(logits), "logits", [tokens.len(), self.vocabulary])
    }

    fn keep(&mut self, places: &[usize]) -> Result<bool> {
        if self.network.is_resident() {
            return Ok(false);
        }
        let cross = self.network.select(self.cross.get(), &self.pictures, places)?;
        self.pictures = self.pictures.select(Axis(0), places);
        self.cross = Kept::Own(cross);
        let width = self.width;
        let rows = places.iter().flat_map(|place| place * width..(place + 1) * width);
        self.moved = Some(rows.collect());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn what_repeats_can_be_compressed() {
        assert!(compression(&"and then ".repeat(30)) > 2.4);
        assert!(compression("First, whisk two eggs in a bowl.") < 1.2);
        assert!(compression("") < f32::EPSILON);
    }

    #[test]
    fn words_are_cut_to_the_voice() {
        let window = SpeechWindow {
            start: 100,
            samples: vec![0.0; 32_000],
            voiced: vec![3200..9600, 16_000..32_000],
        };
        assert_eq!(voiced_part(&window, 0, 12_000), (3200, 9600));
        assert_eq!(voiced_part(&window, 6400, 20_000), (6400, 20_000));
        assert_eq!(voiced_part(&window, 10_000, 12_000), (10_000, 12_000));
        let steps = heard_steps(&window, 1500);
        assert_eq!(steps.len(), 100);
        assert_eq!(steps.iter().position(|heard| *heard), Some(5));
        assert!(!steps[40]);
    }

    #[test]
    fn words_reach_to_the_pauses_beside_them() {
        let window = SpeechWindow {
            start: 100,
            samples: vec![0.0; 64_000],
            voiced: vec![3200..16_000, 32_000..48_000],
        };
        let mut words: Vec<Word> = [5000..8000, 9000..14_000, 44_000..45_000]
            .map(|span: Range<u64>| Word { text: " so".to_owned(), span, probability: 1.0 })
            .into();
        reach_pauses(&window, &mut words);
        let spans: Vec<Range<u64>> = words.into_iter().map(|word| word.span).collect();
        // The last word is too far from where the second voice begins.
        assert_eq!(spans, [3300..8000, 9000..16_100, 44_000..48_100]);
    }

    #[test]
    fn words_at_the_wrong_end_of_a_pause_cross_it() {
        let window = SpeechWindow {
            start: 0,
            samples: vec![0.0; 80_000],
            voiced: vec![3200..32_000, 64_000..80_000],
        };
        let said = |words: &[(&str, Range<u64>)]| {
            let word = |(text, span): &(&str, Range<u64>)| Word {
                text: (*text).to_owned(),
                span: span.clone(),
                probability: 1.0,
            };
            let mut words: Vec<Word> = words.iter().map(word).collect();
            cross_pauses(&window, &mut words);
            words.into_iter().map(|word| word.span).collect::<Vec<_>>()
        };
        // Behind the voice, in the silence, and in the last tenth of a second of the voice.
        for start in [31_000, 32_320] {
            let squeezed = said(&[
                (" here?", 9000..31_000),
                (" I'm", start..start + 320),
                (" here.", 66_000..79_000),
            ]);
            assert_eq!(squeezed, [9000..31_000, 64_000..66_000, 66_000..79_000]);
        }
        let early = said(&[(" I", 3200..9000), (" am", 9000..30_000), (" here.", 64_000..64_640)]);
        assert_eq!(early, [3200..9000, 9000..30_000, 30_000..32_000]);
        // Whoever pauses in the middle of a sentence does so, and a short sentence stays where it is.
        let spans = [9000..31_000, 31_000..32_000, 66_000..79_000];
        for texts in [[" I", " am", " here."], [" I.", " am.", " here."]] {
            let words: Vec<_> = texts.into_iter().zip(spans.clone()).collect();
            assert_eq!(said(&words), spans);
        }
    }

    fn window(start: u64) -> SpeechWindow {
        SpeechWindow { start, samples: vec![0.0; 16], voiced: Vec::new() }
    }

    fn heard(words: usize, rest: Option<SpeechWindow>) -> Heard {
        let word = Word { text: " so".to_owned(), span: 0..1, probability: 1.0 };
        Heard {
            language: "de".to_owned(),
            language_probability: 0.9,
            words: vec![word; words],
            tokens: vec![1, 2],
            rest,
            evidence: Evidence { log_probability: -0.2, compression: 1.0, silence: 0.0 },
            temperature: 0.0,
        }
    }

    #[test]
    fn the_first_words_tell_the_language() {
        let mut conversation = Conversation::new(None, false);
        conversation.add([window(0), window(100), window(200), window(300)]);
        let first = conversation.next(8);
        assert_eq!(first.len(), 1);
        conversation.hear(first, vec![heard(0, None)]);
        let second = conversation.next(8);
        assert_eq!(second.len(), 1, "silence tells no language");
        conversation.hear(second, vec![heard(1, Some(window(150)))]);
        let others = conversation.next(8);
        let starts: Vec<u64> = others.iter().map(|request| request.window.start).collect();
        assert_eq!(starts, [150, 200, 300], "what is left comes where it belongs");
        assert!(others.iter().all(|request| request.language.as_deref() == Some("de")));
    }

    /// What is heard in music in another language, and hardly.
    #[rstest]
    #[case::improbable(|heard: &mut Heard| heard.words[0].probability = 0.4)]
    #[case::drawn(|heard: &mut Heard| heard.temperature = 0.6)]
    fn words_that_are_not_believed_tell_no_language(#[case] spoil: fn(&mut Heard)) {
        let mut conversation = Conversation::new(None, false);
        conversation.add([window(0), window(100), window(200), window(300)]);
        let mut doubtful = Heard { language: "nn".to_owned(), ..heard(1, None) };
        spoil(&mut doubtful);
        assert!(!doubtful.is_sure());
        let first = conversation.next(8);
        conversation.hear(first, vec![doubtful]);
        let second = conversation.next(8);
        assert_eq!((second.len(), &second[0].language), (1, &None));
        conversation.hear(second, vec![heard(1, None)]);
        let others = conversation.next(8);
        assert_eq!(others.len(), 2);
        assert!(others.iter().all(|request| request.language.as_deref() == Some("de")));
    }

    #[test]
    fn what_was_said_is_forgotten_after_a_text_that_was_drawn() {
        let mut conversation = Conversation::new(Some("de".to_owned()), true);
        conversation.add((0..4).map(|place| window(100 * place)));
        for (temperature, told) in [(0.0, 0), (0.4, 2), (0.6, 4), (0.0, 0)] {
            let request = conversation.next(8);
            assert_eq!(request[0].previous.len(), told, "before a text at {temperature}");
            conversation.hear(request, vec![Heard { temperature, ..heard(1, None) }]);
        }
        conversation.add([window(900), window(1000)]);
        let request = conversation.next(8);
        assert_eq!(request[0].previous, [1, 2], "what comes later is told again");
        let silent = Heard { temperature: 1.0, tokens: Vec::new(), ..heard(0, None) };
        conversation.hear(request, vec![silent]);
        assert_eq!(conversation.next(8)[0].previous, [1, 2], "silence changes nothing");
    }

    #[test]
    fn what_is_told_has_an_end() {
        let mut conversation = Conversation::new(Some("de".to_owned()), true);
        conversation.add((0..400).map(|place| window(100 * place)));
        for _ in 0..400 {
            let request = conversation.next(8);
            assert!(request[0].previous.len() <= REMEMBERED);
            conversation.hear(request, vec![heard(1, None)]);
        }
    }

    #[test]
    fn connected_windows_come_one_by_one() {
        let mut conversation = Conversation::new(Some("de".to_owned()), true);
        conversation.add([window(0), window(100)]);
        let first = conversation.next(8);
        assert_eq!((first.len(), first[0].previous.len()), (1, 0));
        conversation.hear(first, vec![heard(1, None)]);
        assert_eq!(conversation.next(8)[0].previous, [1, 2]);
        assert_eq!(conversation.into_heard().len(), 1);
    }
}
