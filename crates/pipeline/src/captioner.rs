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
    Bundle,
    manifest::Decoding,
    runtime::{Runtime, SessionOptions},
    vid2seq::{Caption, Vid2Seq, Window},
};
use tokio::sync::{mpsc, oneshot};

use crate::Error;

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
    pub manifest: eventide_model::manifest::Manifest,
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

/// Anything that captions windows; in tests, not a model.
pub(crate) trait CaptionModel {
    /// One caption for each window, in order. `should_stop` is looked at often.
    fn caption(
        &mut self,
        windows: &[Window],
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Caption>, eventide_model::Error>;
}

struct Network {
    model: Vid2Seq,
    decoding: Decoding,
}

impl CaptionModel for Network {
    fn caption(
        &mut self,
        windows: &[Window],
        should_stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Caption>, eventide_model::Error> {
        self.model.caption(windows, &self.decoding, should_stop)
    }
}

/// What the model said of one window.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) caption: Caption,
    /// The window's share of the time that its batch took.
    pub(crate) device: Duration,
}

/// Why one window has no answer.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The model says what is wrong.
    Model(eventide_model::Error),
    /// The model panicked; what it said.
    Panic(String),
}

struct Request {
    window: Window,
    reply: oneshot::Sender<Result<Answer, Refusal>>,
}

/// A handle to the model's thread. Cloning it shares the thread; dropping the last one ends it.
#[derive(Debug, Clone)]
pub struct Captioner {
    requests: mpsc::Sender<Request>,
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
            Ok(Network { model, decoding })
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

    /// Captions one window; waits while the queue is full. Dropping the future cancels it.
    pub(crate) async fn caption(&self, window: Window) -> Result<Result<Answer, Refusal>, Error> {
        let (reply, answer) = oneshot::channel();
        self.requests
            .send(Request { window, reply })
            .await
            .map_err(|_| Error::CaptionerStopped)?;
        answer.await.map_err(|_| Error::CaptionerStopped)
    }
}

fn serve(model: &mut impl CaptionModel, mut inbox: mpsc::Receiver<Request>) {
    while let Some(first) = inbox.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH {
            let Ok(next) = inbox.try_recv() else { break };
            batch.push(next);
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
    let captions = catch_unwind(AssertUnwindSafe(|| model.caption(windows, &all_gone)))
        .map_err(|panic| Refusal::Panic(panic_text(panic.as_ref())))?
        .map_err(Refusal::Model)?;
    let share = started.elapsed() / u32::try_from(windows.len().max(1)).unwrap_or(1);
    Ok(captions.into_iter().map(|caption| Answer { caption, device: share }).collect())
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}
