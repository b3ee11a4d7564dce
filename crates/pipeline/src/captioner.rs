//! The thread that owns the model, and the handle that others hold.
//!
//! Inference computes for long and a session belongs to one thread, so neither is for a Tokio
//! worker. The channel is the only way in. Windows of different videos that wait together are
//! captioned together; each answer goes back on its own request's channel, so that answers cannot
//! change places.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, Instant},
};

use eventide_model::{
    Bundle, NoEvents, Parsed, Vid2Seq, WindowInput, golden,
    input::input_ids,
    manifest::{Decoding, Manifest},
    parse,
    runtime::{Runtime, SessionOptions},
};
use eventide_schema::Cue;
use tokio::sync::{mpsc, oneshot};

use crate::{Error, sample::features_in_place};

/// Windows that may wait for the model. Each holds up to 100 frames of 224 x 224 x 3 bytes (15 MB),
/// so the queue stays under 60 MB.
const WAITING_WINDOWS: usize = 4;
/// Windows that are captioned together at most.
const BATCH: usize = 4;

/// What others must know of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    /// Name of the bundle.
    pub model_id: String,
    /// Digest of the bundle.
    pub digest: String,
    /// Whether its words mean anything.
    pub trained: bool,
    /// Sizes and rules.
    pub manifest: Manifest,
}

impl ModelInfo {
    /// What `bundle` says about itself.
    #[must_use]
    pub fn of(bundle: &Bundle) -> Self {
        Self {
            model_id: bundle.manifest().model_id.clone(),
            digest: bundle.digest().to_owned(),
            trained: bundle.manifest().trained,
            manifest: bundle.manifest().clone(),
        }
    }
}

/// What the model gets to see of one window.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Window {
    /// RGB pictures of the bundle's image size, one after another.
    pub(crate) frames: Vec<u8>,
    /// The row of each picture's features, increasing. Rows without a picture stay zero, so that
    /// a lost picture does not move the later ones to another time.
    pub(crate) rows: Vec<usize>,
    /// Rows in all.
    pub(crate) row_count: usize,
    /// What is said, in times of the window.
    pub(crate) cues: Vec<Cue>,
    /// Length of the window.
    pub(crate) duration_us: i64,
}

/// What the model makes of some windows.
pub(crate) struct Captioned {
    /// For each window, in order: its events, all that was written without its times, and its tokens.
    pub(crate) said: Vec<(Parsed, String, usize)>,
    /// How long the frames took to encode, all together.
    pub(crate) encoding: Duration,
}

/// Anything that captions windows; in tests, not a model.
pub(crate) trait CaptionModel {
    /// The events of each window. `should_stop` is looked at often.
    fn caption(
        &mut self,
        windows: &[Window],
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Captioned, eventide_model::Error>;

    /// Whether it says of its golden clip what it should; fine where it has none.
    fn check(&mut self) -> Result<(), eventide_model::Error>;
}

struct Network {
    bundle: Bundle,
    model: Vid2Seq,
    decoding: Decoding,
}

impl Network {
    fn input(
        &mut self,
        window: &Window,
        should_stop: &dyn Fn() -> bool,
    ) -> Result<WindowInput, eventide_model::Error> {
        let encoded = self.model.encode_frames(&window.frames, window.rows.len(), should_stop)?;
        let features = features_in_place(&encoded, &window.rows, window.row_count);
        let ids = input_ids(self.model.tokenizer(), &window.cues, window.duration_us)?;
        Ok(WindowInput { features: Some(features), input_ids: Some(ids) })
    }
}

impl CaptionModel for Network {
    fn caption(
        &mut self,
        windows: &[Window],
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Captioned, eventide_model::Error> {
        let started = Instant::now();
        tracing::debug!(windows = windows.len(), "encoding");
        let inputs = windows
            .iter()
            .map(|window| self.input(window, should_stop))
            .collect::<Result<Vec<_>, _>>()?;
        let encoding = started.elapsed();
        tracing::debug!(windows = windows.len(), "generating");
        let found = self.model.generate(&inputs, &self.decoding, should_stop)?;
        let said = windows
            .iter()
            .zip(&found)
            .map(|(window, hypotheses)| match hypotheses.first() {
                Some(best) => {
                    let parsed = self.model.parse(best, window.duration_us)?;
                    let text = parse::text(self.model.tokenizer(), &best.tokens)?;
                    Ok((parsed, text, best.tokens.len()))
                }
                None => Ok((Parsed::Nothing(NoEvents::Silent), String::new(), 0)),
            })
            .collect::<Result<_, eventide_model::Error>>()?;
        Ok(Captioned { said, encoding })
    }

    fn check(&mut self) -> Result<(), eventide_model::Error> {
        if golden::verify(&self.bundle, &mut self.model)?.is_none() {
            tracing::warn!(bundle = %self.bundle.digest(), "the bundle has no golden clip to check the device by");
        }
        Ok(())
    }
}

/// What the model said of one window.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) parsed: Parsed,
    /// All that was written, without its times.
    pub(crate) text: String,
    /// How many tokens that took.
    pub(crate) tokens: usize,
    /// The window's share of the time that its batch took.
    pub(crate) device: Duration,
    /// How much of that went into encoding its frames.
    pub(crate) encoding: Duration,
}

/// Why one window has no answer.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The model says what is wrong.
    Model(eventide_model::Error),
    /// The model panicked; what it said.
    Panic(String),
}

/// What the model's thread is asked.
enum Asked {
    Caption(Request),
    Check(oneshot::Sender<Result<(), eventide_model::Error>>),
}

struct Request {
    window: Window,
    reply: oneshot::Sender<Result<Answer, Refusal>>,
}

/// A handle to the model's thread. Cloning it shares the thread; dropping the last one ends it.
#[derive(Debug, Clone)]
pub struct Captioner {
    requests: mpsc::Sender<Asked>,
    info: ModelInfo,
}

impl Captioner {
    /// Opens the sessions of `bundle` on a thread of their own, and waits until they are open.
    ///
    /// # Errors
    /// When the system refuses a thread, or the runtime the model.
    pub async fn start(
        bundle: Bundle,
        runtime: Runtime,
        session: SessionOptions,
        decoding: Decoding,
    ) -> Result<Self, Error> {
        let info = ModelInfo::of(&bundle);
        Self::start_with(info, move || {
            let model = Vid2Seq::load(&bundle, &runtime, &session)?;
            Ok(Network { bundle, model, decoding })
        })
        .await
    }

    async fn start_with<M: CaptionModel>(
        info: ModelInfo,
        load: impl FnOnce() -> Result<M, eventide_model::Error> + Send + 'static,
    ) -> Result<Self, Error> {
        let (requests, inbox) = mpsc::channel(WAITING_WINDOWS);
        let (ready, loaded) = oneshot::channel();
        thread::Builder::new()
            .name("captioner".to_owned())
            .spawn(move || match load() {
                Ok(mut model) => {
                    let _ = ready.send(Ok(()));
                    serve(&mut model, inbox);
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            })
            .map_err(Error::Thread)?;
        loaded.await.map_err(|_| Error::CaptionerStopped)?.map_err(Error::Model)?;
        Ok(Self { requests, info })
    }

    /// What others must know of the model.
    #[must_use]
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Windows that wait for the model.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.requests.max_capacity() - self.requests.capacity()
    }

    /// Captions one window; waits while the queue is full. Dropping the future cancels it.
    pub(crate) async fn caption(&self, window: Window) -> Result<Result<Answer, Refusal>, Error> {
        let (reply, answer) = oneshot::channel();
        let asked = Asked::Caption(Request { window, reply });
        self.requests.send(asked).await.map_err(|_| Error::CaptionerStopped)?;
        answer.await.map_err(|_| Error::CaptionerStopped)
    }

    /// Shows the model the golden clip of its bundle; waits for its turn. Fine where there is none.
    ///
    /// # Errors
    /// [`Error::Model`] with [`eventide_model::Error::Golden`] where it says something else than where the
    /// bundle was made, and with others where it cannot say anything; [`Error::CaptionerStopped`].
    pub async fn check(&self) -> Result<(), Error> {
        let (reply, checked) = oneshot::channel();
        self.requests.send(Asked::Check(reply)).await.map_err(|_| Error::CaptionerStopped)?;
        checked.await.map_err(|_| Error::CaptionerStopped)?.map_err(Error::Model)
    }
}

fn serve(model: &mut impl CaptionModel, mut inbox: mpsc::Receiver<Asked>) {
    let mut next = None;
    while let Some(asked) = next.take().or_else(|| inbox.blocking_recv()) {
        let first = match asked {
            Asked::Caption(request) => request,
            Asked::Check(reply) => {
                let _ = reply.send(model.check()); // a failed send means that the caller was cancelled
                continue;
            }
        };
        let mut batch = vec![first];
        while batch.len() < BATCH && next.is_none() {
            match inbox.try_recv() {
                Ok(Asked::Caption(request)) => batch.push(request),
                Ok(check @ Asked::Check(_)) => next = Some(check),
                Err(_) => break,
            }
        }
        batch.retain(|request| !request.reply.is_closed()); // whoever asked was cancelled meanwhile
        answer(model, batch);
    }
}

/// Answers a batch. A batch that fails is tried window by window, so that one bad window does not
/// take its neighbours with it.
fn answer(model: &mut impl CaptionModel, batch: Vec<Request>) {
    let (windows, replies): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|request| (request.window, request.reply)).unzip();
    if windows.is_empty() {
        return;
    }
    match guarded(model, &windows, &replies) {
        Ok(answers) => send(replies, answers.into_iter().map(Ok)),
        Err(refusal) if windows.len() == 1 => send(replies, std::iter::once(Err(refusal))),
        Err(_) => {
            for (window, reply) in windows.into_iter().zip(replies) {
                answer(model, vec![Request { window, reply }]);
            }
        }
    }
}

fn send(
    replies: Vec<oneshot::Sender<Result<Answer, Refusal>>>,
    answers: impl Iterator<Item = Result<Answer, Refusal>>,
) {
    for (reply, answer) in replies.into_iter().zip(answers) {
        let _ = reply.send(answer); // a failed send means that the caller was cancelled
    }
}

fn guarded(
    model: &mut impl CaptionModel,
    windows: &[Window],
    replies: &[oneshot::Sender<Result<Answer, Refusal>>],
) -> Result<Vec<Answer>, Refusal> {
    let started = Instant::now();
    let all_gone = || replies.iter().all(oneshot::Sender::is_closed);
    let captioned = catch_unwind(AssertUnwindSafe(|| model.caption(windows, &all_gone)))
        .map_err(|panic| Refusal::Panic(panic_text(panic.as_ref())))?
        .map_err(Refusal::Model)?;
    let count = u32::try_from(windows.len().max(1)).unwrap_or(1);
    let (device, encoding) = (started.elapsed() / count, captioned.encoding / count);
    let answer = |(parsed, text, tokens)| Answer { parsed, text, tokens, device, encoding };
    Ok(captioned.said.into_iter().map(answer).collect())
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventide_model::ParsedEvent;
    use eventide_schema::TimeSpan;
    use std::sync::mpsc;

    /// Says of each window how long it is; waits for a word before each batch; panics at a length
    /// of 13.
    struct Echo {
        go: mpsc::Receiver<()>,
        batches: mpsc::Sender<Vec<i64>>,
    }

    fn echo(duration_us: i64) -> Parsed {
        let span = TimeSpan::new(0, duration_us);
        Parsed::Events(vec![ParsedEvent { span, caption: duration_us.to_string(), score: 0.0 }])
    }

    impl CaptionModel for Echo {
        fn caption(
            &mut self,
            windows: &[Window],
            _: &dyn Fn() -> bool,
        ) -> Result<Captioned, eventide_model::Error> {
            let lengths: Vec<_> = windows.iter().map(|window| window.duration_us).collect();
            assert!(!lengths.contains(&13), "thirteen");
            self.batches.send(lengths.clone()).unwrap();
            self.go.recv().unwrap();
            let said = lengths.into_iter().map(|length| (echo(length), length.to_string(), 1));
            Ok(Captioned { said: said.collect(), encoding: Duration::ZERO })
        }

        fn check(&mut self) -> Result<(), eventide_model::Error> {
            self.batches.send(Vec::new()).unwrap();
            Err(eventide_model::Error::Golden { problem: "an echo".to_owned() })
        }
    }

    /// Says of each window how long it is; panics, refuses and takes its time now and then.
    struct Moody {
        batches: [u64; BATCH + 1],
        answered: std::sync::Arc<std::sync::Mutex<[u64; BATCH + 1]>>,
    }

    impl CaptionModel for Moody {
        fn caption(
            &mut self,
            windows: &[Window],
            _: &dyn Fn() -> bool,
        ) -> Result<Captioned, eventide_model::Error> {
            self.batches[windows.len()] += 1;
            *self.answered.lock().unwrap() = self.batches;
            let lengths = windows.iter().map(|window| window.duration_us);
            for length in lengths.clone() {
                assert!(length % 99_991 != 0, "a multiple of 99991");
                if length % 49_999 == 0 {
                    let problem = format!("a multiple of 49999: {length}");
                    return Err(eventide_model::Error::Golden { problem });
                }
            }
            if windows[0].duration_us % 997 == 0 {
                thread::yield_now();
            }
            let said = lengths.map(|length| (echo(length), length.to_string(), 1)).collect();
            Ok(Captioned { said, encoding: Duration::ZERO })
        }

        fn check(&mut self) -> Result<(), eventide_model::Error> {
            Ok(())
        }
    }

    /// Whether an answer is that to this window.
    fn is_of(length: i64, answer: &Result<Answer, Refusal>) -> bool {
        match answer {
            Ok(answer) => answer.text == length.to_string() && answer.parsed == echo(length),
            Err(Refusal::Panic(text)) => length % 99_991 == 0 && text.contains("99991"),
            Err(Refusal::Model(error)) => {
                error.to_string().ends_with(&format!("a multiple of 49999: {length}"))
            }
        }
    }

    /// Identity (T1) at the thread of the model: batches of any size, panics, refusals, and callers that go away.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_million_windows_get_their_own_answers() {
        const WINDOWS: i64 = 1_000_000;
        const CALLERS: i64 = 16;
        let answered = std::sync::Arc::default();
        let batches = std::sync::Arc::clone(&answered);
        let load = move || Ok(Moody { batches: [0; BATCH + 1], answered });
        let captioner = Captioner::start_with(info(), load).await.unwrap();
        let callers = (0..CALLERS).map(|caller| {
            let captioner = captioner.clone();
            tokio::spawn(async move {
                let (mut right, mut wrong, mut left) = (0, 0, 0);
                for length in (1 + caller..=WINDOWS).step_by(usize::try_from(CALLERS).unwrap()) {
                    let asked = captioner.caption(window(length));
                    if length % 101 == 0 {
                        left += 1; // asks, and does not wait for the answer
                        let _ = tokio::time::timeout(Duration::ZERO, asked).await;
                        continue;
                    }
                    let answer = asked.await.unwrap();
                    *(if is_of(length, &answer) { &mut right } else { &mut wrong }) += 1;
                }
                (right, wrong, left)
            })
        });
        let (mut right, mut wrong, mut left) = (0, 0, 0);
        for caller in callers.collect::<Vec<_>>() {
            let (r, w, l) = caller.await.unwrap();
            (right, wrong, left) = (right + r, wrong + w, left + l);
        }
        assert_eq!((right, wrong, left), (WINDOWS - WINDOWS / 101, 0, WINDOWS / 101));
        let batches = *batches.lock().unwrap();
        assert!(batches[1..].iter().all(|count| *count > 0), "batches by their size: {batches:?}");
    }

    fn info() -> ModelInfo {
        ModelInfo {
            model_id: "echo".to_owned(),
            digest: "0".to_owned(),
            trained: false,
            manifest: crate::testing::manifest(),
        }
    }

    fn window(duration_us: i64) -> Window {
        Window { duration_us, ..Window::default() }
    }

    struct Held {
        captioner: Captioner,
        go: mpsc::Sender<()>,
        batches: mpsc::Receiver<Vec<i64>>,
    }

    async fn held() -> Held {
        let (go, wait) = mpsc::channel();
        let (batches, seen) = mpsc::channel();
        let captioner =
            Captioner::start_with(info(), move || Ok(Echo { go: wait, batches })).await.unwrap();
        Held { captioner, go, batches: seen }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_window_gets_its_own_answer_whatever_shares_its_batch() {
        let Held { captioner, go, batches } = held().await;
        let asked: Vec<_> = (100..200)
            .map(|length| {
                let captioner = captioner.clone();
                tokio::spawn(async move { (length, captioner.caption(window(length)).await) })
            })
            .collect();
        for _ in 0..100 {
            go.send(()).unwrap(); // at most as many batches as windows
        }
        for answer in asked {
            let (length, answer) = answer.await.unwrap();
            assert_eq!(answer.unwrap().unwrap().parsed, echo(length));
        }
        drop(captioner);
        let sizes: Vec<_> = batches.into_iter().map(|batch| batch.len()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 100);
        assert!(sizes.iter().all(|size| (1..=BATCH).contains(size)), "{sizes:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_window_that_panics_takes_none_with_it() {
        let Held { captioner, go, batches } = held().await;
        let first = tokio::spawn({
            let captioner = captioner.clone();
            async move { captioner.caption(window(1)).await }
        });
        let batches = tokio::task::spawn_blocking(move || {
            assert_eq!(batches.recv().unwrap(), [1]); // the model is busy: what follows waits together
            batches
        })
        .await
        .unwrap();
        let good = captioner.caption(window(2));
        let bad = captioner.caption(window(13));
        let also_good = captioner.caption(window(3));
        for _ in 0..3 {
            go.send(()).unwrap();
        }
        let (good, bad, also_good) = tokio::join!(good, bad, also_good);
        assert_eq!(good.unwrap().unwrap().parsed, echo(2));
        assert_eq!(also_good.unwrap().unwrap().parsed, echo(3));
        match bad.unwrap() {
            Err(Refusal::Panic(text)) => assert!(text.contains("thirteen"), "{text}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(first.await.unwrap().unwrap().unwrap().parsed, echo(1));
        drop(batches);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_check_waits_for_its_turn_and_ends_a_batch() {
        let Held { captioner, go, batches } = held().await;
        let first = tokio::spawn({
            let captioner = captioner.clone();
            async move { captioner.caption(window(1)).await }
        });
        let batches = tokio::task::spawn_blocking(move || {
            assert_eq!(batches.recv().unwrap(), [1]); // the model is busy: what follows waits together
            batches
        })
        .await
        .unwrap();
        let (second, check, third) =
            (captioner.caption(window(2)), captioner.check(), captioner.caption(window(3)));
        for _ in 0..3 {
            go.send(()).unwrap();
        }
        let (second, checked, third) = tokio::join!(second, check, third);
        assert!(second.is_ok() && third.is_ok() && first.await.unwrap().is_ok());
        assert!(matches!(checked, Err(Error::Model(eventide_model::Error::Golden { .. }))));
        drop(captioner);
        assert_eq!(batches.into_iter().collect::<Vec<_>>(), [vec![2], vec![], vec![3]]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_nobody_waits_for_is_not_done() {
        let Held { captioner, go, batches } = held().await;
        let first = tokio::spawn({
            let captioner = captioner.clone();
            async move { captioner.caption(window(1)).await }
        });
        let batches = tokio::task::spawn_blocking(move || {
            assert_eq!(batches.recv().unwrap(), [1]);
            batches
        })
        .await
        .unwrap();
        let cancelled = captioner.caption(window(2));
        tokio::select! { biased; _ = cancelled => unreachable!("the model is held"), () = tokio::task::yield_now() => {} }
        go.send(()).unwrap();
        first.await.unwrap().unwrap().unwrap();
        go.send(()).unwrap();
        captioner.caption(window(3)).await.unwrap().unwrap();
        drop(captioner);
        assert_eq!(batches.into_iter().collect::<Vec<_>>(), [[3]]);
    }
}
