//! The thread that owns the recogniser, and the way from the sound of a video to its transcript.
//!
//! Sound is taken from the decoder as fast as it is recognised: of a video of any length no more is in
//! memory than the windows that are read together. Windows of different videos that wait together are
//! recognised together.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use eventide_media::{Media, Probe};
use eventide_model::{
    runtime::{Runtime, SessionOptions},
    speech::{
        Conversation, Heard, Listener, Recogniser, RecognitionOptions, Request, SpeechBundle,
        SpeechWindow, Word, golden,
        sentences::{SentenceOptions, sentences},
    },
};
use eventide_schema::{Cue, TimeSpan, Transcript, TranscriptSource};
use futures::future::try_join_all;
use tokio::sync::{mpsc, oneshot};

use crate::{Error, captioner::panic_text};

/// Requests that may wait for the recogniser. Each holds a window of up to 2 MB.
const WAITING: usize = 8;
/// Pieces of sound between the decoder and the recogniser, of up to 64 KB each.
const PIECES: usize = 4;
/// How long windows wait for those of other videos that are being heard. A run takes a second.
const LINGER: Duration = Duration::from_millis(50);
/// Samples that the voice detector hears at once: 8 seconds.
const BLOCK: usize = 8 * 16_000;

/// What recognises the speech of videos, and what is asked of it.
#[derive(Debug, Clone)]
pub struct Recognition {
    /// The recogniser.
    pub transcriber: Transcriber,
    /// What is asked of it.
    pub options: TranscriptionOptions,
    /// Stands for all that decides what is heard in a sound: bundle and options.
    pub digest: String,
}

/// How far the sound of a video is listened to, for whoever shows it.
#[derive(Debug, Default)]
pub struct Listening {
    length_us: AtomicU64,
    heard_us: AtomicU64,
}

impl Listening {
    /// The length of the video in microseconds; 0 while it is not known.
    #[must_use]
    pub fn length_us(&self) -> u64 {
        self.length_us.load(Ordering::Relaxed)
    }

    /// How much of that was heard.
    #[must_use]
    pub fn heard_us(&self) -> u64 {
        self.heard_us.load(Ordering::Relaxed)
    }

    pub(crate) fn set_length(&self, length_us: i64) {
        self.length_us.store(u64::try_from(length_us).unwrap_or_default(), Ordering::Relaxed);
    }

    fn hear(&self, samples: u64) {
        self.heard_us.fetch_add(samples * 125 / 2, Ordering::Relaxed);
    }
}

/// What is said in a sound.
#[derive(Debug)]
pub struct Transcription {
    /// The sentences.
    pub transcript: Transcript,
    /// How long the recogniser was busy with it.
    pub device: Duration,
    /// What is wrong with the sound where a part of it could not be had, and not heard.
    pub damage: Option<eventide_media::Error>,
}

/// What a recogniser has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recognised {
    /// Windows that were recognised.
    pub windows: u64,
    /// Runs of the network, of one window or of several of whatever videos.
    pub runs: u64,
}

#[derive(Debug, Default)]
struct Meter {
    windows: AtomicU64,
    runs: AtomicU64,
    /// Videos that are being heard now.
    videos: AtomicUsize,
}

/// Counts a video for as long as it lives.
struct BeingHeard<'a>(&'a Meter);

impl<'a> BeingHeard<'a> {
    fn new(meter: &'a Meter) -> Self {
        meter.videos.fetch_add(1, Ordering::Relaxed);
        Self(meter)
    }
}

impl Drop for BeingHeard<'_> {
    fn drop(&mut self) {
        self.0.videos.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is asked of a transcript.
#[derive(Debug, Clone, PartialEq)]
pub struct TranscriptionOptions {
    /// The language, as Whisper's code; `None` finds it out.
    pub language: Option<String>,
    /// Sentences that are less probable than this are left out, in 0..1.
    pub least_confidence: f32,
    /// Whether each window is told what was said before it. Texts hang together better, and a video's
    /// windows are recognised one by one.
    pub connected: bool,
    /// Where sentences end.
    pub sentences: SentenceOptions,
    /// How long one video may take.
    pub wall: Duration,
}

impl Default for TranscriptionOptions {
    fn default() -> Self {
        Self {
            language: None,
            least_confidence: 0.0,
            connected: false,
            sentences: SentenceOptions::default(),
            wall: Duration::from_hours(6),
        }
    }
}

/// Why there is no transcript.
#[derive(Debug, thiserror::Error)]
pub enum TranscriptionError {
    /// The sound cannot be had.
    #[error("cannot read the sound")]
    Sound(#[source] eventide_media::Error),
    /// The recogniser failed at this sound.
    #[error("cannot recognise the speech")]
    Model(#[source] eventide_model::Error),
    /// The recogniser panicked; what it said.
    #[error("the recogniser panicked: {0}")]
    Panic(String),
    /// The thread of the recogniser has ended.
    #[error("the recogniser has stopped")]
    Stopped,
}

impl TranscriptionError {
    /// A stable word in `snake_case` for what is wrong with one video; `None` where the recogniser is to
    /// blame, and every video would fail alike.
    #[must_use]
    pub fn reason_code(&self) -> Option<&'static str> {
        match self {
            Self::Sound(source) => Some(source.reason_code()),
            Self::Model(source) => source.reason_code(),
            Self::Panic(_) => Some("panic"),
            Self::Stopped => None,
        }
    }
}

/// The way back of an answer, and of how long the recogniser was busy with it.
type Reply<T> = oneshot::Sender<Result<(T, Duration), TranscriptionError>>;
/// The listener, unless the sound is over, and the windows that are complete.
type Listened = (Option<Box<Listener>>, Vec<SpeechWindow>);

enum Ask {
    Hear {
        listener: Box<Listener>,
        samples: Vec<f32>,
        /// Whether the sound is over.
        over: bool,
        reply: Reply<Listened>,
    },
    Recognise {
        request: Request,
        reply: Reply<Heard>,
    },
}

/// A handle to the recogniser's thread. Cloning it shares the thread; dropping the last one ends it.
#[derive(Debug, Clone)]
pub struct Transcriber {
    asks: mpsc::Sender<Ask>,
    batch: usize,
    digest: String,
    meter: Arc<Meter>,
}

impl Transcriber {
    /// Opens the sessions of `bundle` on a thread of their own, lets them hear its golden sound, and waits
    /// until that is done.
    ///
    /// # Errors
    /// [`Error::Thread`] when the system refuses a thread, [`Error::Model`] when the runtime the model, or when
    /// the model hears something else in the golden sound than where it was made.
    pub async fn start(
        bundle: SpeechBundle,
        runtime: Runtime,
        session: SessionOptions,
        options: RecognitionOptions,
    ) -> Result<Self, Error> {
        let (asks, inbox) = mpsc::channel(WAITING);
        let (ready, loaded) = oneshot::channel();
        let batch = options.batch.max(1);
        let digest = bundle.digest().to_owned();
        let meter = Arc::<Meter>::default();
        let counted = Arc::clone(&meter);
        let load = move || {
            let mut recogniser = Recogniser::load(&bundle, &runtime, &session, options)?;
            if golden::verify(&bundle, &mut recogniser)?.is_none() {
                tracing::warn!(bundle = %bundle.digest(), "the speech bundle has no golden sound to check the device by");
            }
            Ok(recogniser)
        };
        let timer = || tokio::runtime::Builder::new_current_thread().enable_time().build();
        let prepare = move || {
            let recogniser = load().map_err(Error::Model)?;
            Ok((recogniser, timer().map_err(Error::Thread)?))
        };
        thread::Builder::new()
            .name("recogniser".to_owned())
            .spawn(move || match prepare() {
                Ok((recogniser, timer)) => {
                    let _ = ready.send(Ok(()));
                    serve(recogniser, inbox, &timer, batch, &counted);
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            })
            .map_err(Error::Thread)?;
        loaded.await.map_err(|_| Error::CaptionerStopped)??;
        Ok(Self { asks, batch, digest, meter })
    }

    /// The digest of the speech bundle.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What it has done for all that share it.
    #[must_use]
    pub fn recognised(&self) -> Recognised {
        let Meter { windows, runs, .. } = &*self.meter;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Recognised { windows: count(windows), runs: count(runs) }
    }

    /// What is said in the sound of stream `index`, in sentences whose times count from the first
    /// picture and lie within the video. `listening` is told how far it is. Dropping the future cancels it.
    ///
    /// # Errors
    /// [`TranscriptionError`].
    pub async fn transcribe(
        &self,
        media: &Media,
        (file, probe): (&Path, &Probe),
        index: u32,
        options: &TranscriptionOptions,
        listening: &Listening,
    ) -> Result<Transcription, TranscriptionError> {
        let _counted = BeingHeard::new(&self.meter);
        let (sender, pieces) = mpsc::channel(PIECES);
        let decoding = async {
            let decoded = media.sound(file, probe, index, options.wall, sender).await;
            decoded.map_err(TranscriptionError::Sound)
        };
        let hearing = self.listen(pieces, options, listening);
        let (decoded, (heard, device)) = tokio::try_join!(decoding, hearing)?;
        let transcript = transcript(&heard, options, probe.duration_us);
        Ok(Transcription { transcript, device, damage: decoded.value })
    }

    async fn listen(
        &self,
        mut pieces: mpsc::Receiver<Vec<f32>>,
        options: &TranscriptionOptions,
        listening: &Listening,
    ) -> Result<(Vec<Heard>, Duration), TranscriptionError> {
        let mut conversation = Conversation::new(options.language.clone(), options.connected);
        let mut listener = Some(Box::<Listener>::default());
        let (mut block, mut device) = (Vec::new(), Duration::ZERO);
        while let Some(heard_so_far) = listener.take() {
            let piece = pieces.recv().await;
            let over = piece.is_none();
            block.extend(piece.unwrap_or_default());
            if !over && block.len() < BLOCK {
                listener = Some(heard_so_far);
                continue;
            }
            let samples = std::mem::take(&mut block);
            let length = samples.len() as u64;
            let ((rest, windows), busy) = self.hear(heard_so_far, samples, over).await?;
            listener = rest;
            device += busy;
            conversation.add(windows);
            while conversation.waiting() >= if over { 1 } else { self.batch } {
                let requests = conversation.next(self.batch);
                let heard =
                    try_join_all(requests.iter().map(|request| self.recognise(request))).await?;
                device += heard.iter().map(|(_, busy)| *busy).sum::<Duration>();
                conversation.hear(requests, heard.into_iter().map(|(heard, _)| heard).collect());
            }
            listening.hear(length);
        }
        Ok((conversation.into_heard(), device))
    }

    async fn hear(
        &self,
        listener: Box<Listener>,
        samples: Vec<f32>,
        over: bool,
    ) -> Result<(Listened, Duration), TranscriptionError> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Hear { listener, samples, over, reply };
        self.asks.send(ask).await.map_err(|_| TranscriptionError::Stopped)?;
        answer.await.map_err(|_| TranscriptionError::Stopped)?
    }

    async fn recognise(&self, request: &Request) -> Result<(Heard, Duration), TranscriptionError> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Recognise { request: request.clone(), reply };
        self.asks.send(ask).await.map_err(|_| TranscriptionError::Stopped)?;
        answer.await.map_err(|_| TranscriptionError::Stopped)?
    }
}

/// Answers one ask after the other, windows that wait together in one go. What is to be listened to goes before
/// what is to be recognised, since it takes little time and gives more windows; but not without end. Windows wait a
/// little for the other videos that are being heard.
fn serve(
    mut recogniser: Recogniser,
    mut inbox: mpsc::Receiver<Ask>,
    timer: &tokio::runtime::Runtime,
    batch: usize,
    meter: &Meter,
) {
    let (mut windows, mut listened) = (Vec::new(), 0);
    loop {
        let others = meter.videos.load(Ordering::Relaxed) > windows.len();
        let ask = if windows.is_empty() {
            listened = 0;
            inbox.blocking_recv()
        } else if others {
            let next = async { tokio::time::timeout(LINGER, inbox.recv()).await };
            timer.block_on(next).ok().flatten()
        } else {
            inbox.try_recv().ok()
        };
        let is_idle = ask.is_none();
        match ask {
            Some(Ask::Hear { listener, samples, over, reply }) => {
                listened += 1;
                if !reply.is_closed() {
                    let started = Instant::now();
                    let heard = guarded(|| hear(&mut recogniser, *listener, &samples, over));
                    let heard = heard.map(|heard| (heard, started.elapsed()));
                    let _ = reply.send(heard); // a failed send means that the caller was cancelled
                }
            }
            Some(Ask::Recognise { request, reply }) => windows.push((request, reply)),
            None if windows.is_empty() => return,
            None => {}
        }
        let is_due = windows.len() >= batch || is_idle || listened >= WAITING;
        if is_due && !windows.is_empty() {
            listened = 0;
            recognise(&mut recogniser, std::mem::take(&mut windows), meter);
        }
    }
}

fn hear(
    recogniser: &mut Recogniser,
    mut listener: Listener,
    samples: &[f32],
    over: bool,
) -> Result<Listened, eventide_model::Error> {
    let mut windows = recogniser.hear(&mut listener, samples)?;
    if over {
        windows.extend(recogniser.finish(listener)?);
        return Ok((None, windows));
    }
    Ok((Some(Box::new(listener)), windows))
}

/// A window, and who wants to know.
type Wanted = (Request, Reply<Heard>);

/// Answers some windows. A batch that fails is tried window by window, so that one bad window does not
/// take its neighbours with it.
fn recognise(recogniser: &mut Recogniser, mut windows: Vec<Wanted>, meter: &Meter) {
    windows.retain(|(_, reply)| !reply.is_closed());
    if windows.is_empty() {
        return;
    }
    let requests: Vec<Request> = windows.iter().map(|(request, _)| request.clone()).collect();
    let all_gone = || windows.iter().all(|(_, reply)| reply.is_closed());
    let started = Instant::now();
    meter.runs.fetch_add(1, Ordering::Relaxed);
    meter.windows.fetch_add(windows.len() as u64, Ordering::Relaxed);
    let heard = guarded(|| recogniser.recognise(&requests, &all_gone));
    match heard {
        Ok(heard) => {
            let share = started.elapsed() / u32::try_from(windows.len().max(1)).unwrap_or(1);
            for ((_, reply), heard) in windows.into_iter().zip(heard) {
                let _ = reply.send(Ok((heard, share)));
            }
        }
        Err(error) if windows.len() <= 1 => {
            if let Some((_, reply)) = windows.pop() {
                let _ = reply.send(Err(error));
            }
        }
        Err(_) => windows.into_iter().for_each(|window| recognise(recogniser, vec![window], meter)),
    }
}

fn guarded<T>(
    work: impl FnOnce() -> Result<T, eventide_model::Error>,
) -> Result<T, TranscriptionError> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|panic| TranscriptionError::Panic(panic_text(panic.as_ref())))?
        .map_err(TranscriptionError::Model)
}

/// The sentences of what was heard, those that are probable enough. They end with the video, if its length is known.
fn transcript(heard: &[Heard], options: &TranscriptionOptions, duration_us: i64) -> Transcript {
    let words: Vec<Word> = heard.iter().flat_map(|heard| heard.words.iter().cloned()).collect();
    let spoken = || heard.iter().find(|heard| !heard.words.is_empty());
    let language = heard.iter().find(|heard| heard.is_sure()).or_else(spoken);
    let language = language.map(|heard| heard.language.clone());
    // Whole milliseconds, which is what the tables keep: what is read there again is what was heard.
    let last = if duration_us > 0 { duration_us / 1000 * 1000 } else { i64::MAX };
    let start = |sample: u64| i64::try_from(sample / 16 * 1000).map_or(last, |us| us.min(last));
    let end =
        |sample: u64| i64::try_from(sample.div_ceil(16) * 1000).map_or(last, |us| us.min(last));
    let spelt = language.as_deref().unwrap_or_default();
    let (cues, confidences) = sentences(&words, spelt, &options.sentences)
        .into_iter()
        .filter(|sentence| sentence.confidence >= options.least_confidence)
        .map(|sentence| {
            let span = TimeSpan::new(start(sentence.span.start), end(sentence.span.end));
            (Cue { span, text: sentence.text }, sentence.confidence)
        })
        .unzip();
    Transcript { source: TranscriptSource::Asr, language, cues, confidences }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventide_model::speech::Evidence;

    fn heard(words: &[(&str, u64, f32)]) -> Heard {
        let word = |(text, second, probability): &(&str, u64, f32)| Word {
            text: format!(" {text}"),
            span: second * 16_000..second * 16_000 + 8000,
            probability: *probability,
        };
        Heard {
            language: "en".to_owned(),
            language_probability: 1.0,
            words: words.iter().map(word).collect(),
            tokens: Vec::new(),
            rest: None,
            evidence: Evidence { log_probability: -0.2, compression: 1.0, silence: 0.0 },
            temperature: 0.0,
        }
    }

    #[test]
    fn sentences_of_different_windows_are_cues() {
        let said = [
            heard(&[("Add", 1, 0.9), ("the", 2, 0.9)]),
            heard(&[("salt.", 3, 0.9), ("Hm.", 4, 0.1)]),
        ];
        let options =
            TranscriptionOptions { least_confidence: 0.5, ..TranscriptionOptions::default() };
        let transcript = transcript(&said, &options, 60_000_000);
        assert_eq!(transcript.language.as_deref(), Some("en"));
        let span = TimeSpan::new(1_000_000, 3_500_000);
        assert_eq!(transcript.cues, [Cue { span, text: "Add the salt.".to_owned() }]);
        assert!((transcript.confidences[0] - 0.9).abs() < 1e-6, "{transcript:?}");
    }

    #[test]
    fn a_sentence_ends_with_the_video() {
        let said = [heard(&[("Add", 1, 0.9), ("salt.", 2, 0.9)])];
        let options = TranscriptionOptions::default();
        let span = |duration_us| transcript(&said, &options, duration_us).cues[0].span;
        assert_eq!(span(2_480_900), TimeSpan::new(1_000_000, 2_480_000));
        assert_eq!(span(2_500_000), TimeSpan::new(1_000_000, 2_500_000));
        assert_eq!(span(0), TimeSpan::new(1_000_000, 2_500_000), "nobody knows how long it is");
    }

    #[test]
    fn words_that_are_believed_tell_the_language() {
        let doubtful = Heard { language: "nn".to_owned(), ..heard(&[("Aa", 1, 0.2)]) };
        let options = TranscriptionOptions::default();
        let language = |said: &[Heard]| transcript(said, &options, 60_000_000).language;
        let both = [doubtful.clone(), heard(&[("salt.", 9, 0.9)])];
        assert_eq!(language(&both).as_deref(), Some("en"));
        assert_eq!(language(&[doubtful]).as_deref(), Some("nn"));
        assert_eq!(language(&[heard(&[])]), None);
    }
}
