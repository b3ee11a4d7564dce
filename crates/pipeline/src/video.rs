//! The way of one video: fetch, probe, words, sample, encode and generate, parse.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use eventide_media::{FrameRequest, Media, Probe, parse_sidecar};
use eventide_model::{Parsed, frames, manifest::Manifest};
use eventide_schema::{
    Costs, Cue, Event, EventSource, Failure, MediaFacts, Outcome, Sidecar, Stage, Status, Stretch,
    TimeSpan, Transcript, Video, WorkItem,
};
use futures::{FutureExt, StreamExt, TryStreamExt};
use tracing::{debug, info, warn};

use crate::{
    Captioner, CaptioningOptions, CaptioningSource, Error, LimitOptions, Listening, Recognition,
    Scratch, Sources, TranscriptOption, Transcription, TranscriptionError,
    captioner::{Answer, Refusal, Window, panic_text},
    fetch::{Fetched, Trouble, fetch, read_sidecar},
    language::track_in,
    sample::Sampled,
    speech,
    window::{own_part, windows},
};

/// Windows of one video between decode and answer: the next is decoded while the model has one.
const WINDOWS_IN_FLIGHT: usize = 2;
/// Stages on the way of a video.
const STAGES: usize = Stage::Parse as usize + 1;
const ALL_STAGES: [Stage; STAGES] = [
    Stage::Fetch,
    Stage::Probe,
    Stage::Words,
    Stage::Sample,
    Stage::Encode,
    Stage::Generate,
    Stage::Parse,
];

/// Everything that takes a video to its outcome. Shared by all videos of a worker.
pub struct Pipeline {
    /// The media tools.
    pub media: Media,
    /// The model; `None` where events come from speech.
    pub captioner: Option<Captioner>,
    /// What recognises speech; `None` where `transcripts` does not name it.
    pub speech: Option<Recognition>,
    /// Where videos are read from.
    pub sources: Arc<dyn Sources>,
    /// Disk space for copies of remote videos.
    pub scratch: Scratch,
    /// What is captioned and how.
    pub captioning: CaptioningOptions,
    /// Where words may come from, in the order in which they are tried.
    pub transcripts: Vec<TranscriptOption>,
    /// What one video may cost.
    pub limits: LimitOptions,
    /// Who is told what each video took.
    pub watcher: Option<Arc<dyn Watcher>>,
}

/// Keeps count of what videos take.
pub trait Watcher: Send + Sync {
    /// A video has come to its end.
    fn ended(&self, outcome: &Outcome, effort: &Effort);
}

/// What one video took that its row does not say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effort {
    /// Wall time of each stage that it came to. Stages of different windows overlap.
    pub stages: Vec<(Stage, Duration)>,
    /// Time that its device worked on it.
    pub device: Duration,
    /// Tokens that the model wrote.
    pub tokens: u64,
    /// The stretch of the video's windows that was looked at; all of them if not given.
    pub stretch: Option<Stretch>,
}

/// What is asked of a video.
#[derive(Debug, Clone, Copy)]
enum Question<'a> {
    /// When what happens.
    Events,
    /// What happens in each of these spans.
    Clips(&'a [TimeSpan]),
    /// What is said. There may be sound and no pictures.
    Words,
}

/// What is known of the speech of a video, and who is told of the rest.
#[derive(Debug, Clone, Copy)]
struct Hearing<'a> {
    /// What the recogniser has heard in it before.
    known: Option<&'a Transcript>,
    listening: &'a Listening,
}

impl<'a> Hearing<'a> {
    fn new(listening: &'a Listening) -> Self {
        Self { known: None, listening }
    }
}

/// A part of a video that the model sees at once.
#[derive(Debug)]
struct Part {
    /// What its words and times count in.
    span: TimeSpan,
    /// What its slots count in.
    grid: TimeSpan,
    /// The slots that are looked at.
    slots: Vec<usize>,
}

fn failure(stage: Stage, reason_code: &str, reason: String) -> Failure {
    Failure { stage, reason_code: reason_code.to_owned(), reason }
}

/// What is known of a video so far. Kept outside the future that follows the video, so that a
/// video that fails or runs out of time still says how far it came.
#[derive(Debug)]
struct Draft {
    stage: Stage,
    media: MediaFacts,
    transcript: Transcript,
    heard: bool,
    windows: u32,
    frames_used: u32,
    frames_missing: u32,
    /// How far a frame lies from the exact one of its slot, at most.
    shift_us: i64,
    costs: Costs,
    /// Wall time of each stage. Stages of different windows overlap.
    stages: [Duration; STAGES],
    tokens: u64,
    /// What went wrong, whether it ended the video or not.
    remark: Option<Failure>,
}

impl Draft {
    fn effort(&self, stretch: Option<Stretch>) -> Effort {
        let stages = ALL_STAGES.iter().map(|stage| (*stage, self.stages[*stage as usize]));
        Effort {
            stages: stages.filter(|(_, time)| !time.is_zero()).collect(),
            device: Duration::from_millis(self.costs.device_ms),
            tokens: self.tokens,
            stretch,
        }
    }

    /// What became of the video; says in the log how long each stage took.
    fn outcome(self, item: WorkItem, status: Status, events: Vec<Event>) -> Outcome {
        let stage_ms = |stage: Stage| millis(self.stages[stage as usize]);
        info!(
            events = events.len(),
            wall_ms = self.costs.wall_ms,
            fetch_ms = stage_ms(Stage::Fetch),
            probe_ms = stage_ms(Stage::Probe),
            words_ms = stage_ms(Stage::Words),
            sample_ms = stage_ms(Stage::Sample),
            encode_ms = stage_ms(Stage::Encode),
            generate_ms = stage_ms(Stage::Generate),
            frame_shift_ms = self.shift_us / 1000,
            "{}",
            status.as_str()
        );
        Outcome {
            video: item.video,
            attempts: item.attempt,
            status,
            failure: self.remark,
            media: self.media,
            transcript: self.transcript,
            heard: self.heard,
            windows: self.windows,
            frames_used: self.frames_used,
            frames_missing: self.frames_missing,
            events,
            costs: self.costs,
        }
    }
}

/// The notes of one video on its way.
struct Notes(Mutex<Draft>);

impl Notes {
    fn new() -> Self {
        Self(Mutex::new(Draft {
            stage: Stage::Fetch,
            media: MediaFacts::default(),
            transcript: Transcript::default(),
            heard: false,
            windows: 0,
            frames_used: 0,
            frames_missing: 0,
            shift_us: 0,
            costs: Costs::default(),
            stages: [Duration::ZERO; STAGES],
            tokens: 0,
            remark: None,
        }))
    }

    fn note<T>(&self, change: impl FnOnce(&mut Draft) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn enter(&self, stage: Stage) {
        debug!(%stage, "entered");
        self.note(|draft| draft.stage = stage);
    }

    /// Does the work of a stage, and notes how long it took.
    async fn during<T>(&self, stage: Stage, work: impl Future<Output = T>) -> T {
        self.enter(stage);
        let started = Instant::now();
        let done = work.await;
        self.note(|draft| draft.stages[stage as usize] += started.elapsed());
        done
    }

    /// A failure in the stage that was entered last.
    fn failure(&self, reason_code: &str, reason: String) -> Failure {
        failure(self.note(|draft| draft.stage), reason_code, reason)
    }
}

impl Pipeline {
    /// Follows one video to its end, or the stretch of its windows that the item names. Dropping the future
    /// stops everything that it started.
    ///
    /// # Errors
    /// Only for trouble that has nothing to do with the video; see [`Error`].
    pub async fn index(&self, item: WorkItem) -> Result<Outcome, Error> {
        self.answer(item, Question::Events, Hearing::new(&Listening::default())).await
    }

    /// The same of a video whose sound the same recogniser has heard before: it is not asked again.
    ///
    /// # Errors
    /// As [`Pipeline::index`].
    pub async fn index_heard(&self, item: WorkItem, heard: &Transcript) -> Result<Outcome, Error> {
        let listening = Listening::default();
        let hearing = Hearing { known: Some(heard), listening: &listening };
        self.answer(item, Question::Events, hearing).await
    }

    /// Captions given spans of one video, each by itself: one event a span, whose caption is all that is
    /// said of it and whose `window_index` is the place of the span in `clips`. A span of which nothing
    /// is said has none.
    ///
    /// # Errors
    /// As [`Pipeline::index`].
    pub async fn clips(&self, item: WorkItem, clips: &[TimeSpan]) -> Result<Outcome, Error> {
        self.answer(item, Question::Clips(clips), Hearing::new(&Listening::default())).await
    }

    /// What is said in one video, or in a file that is sound alone: the outcome has a transcript and no
    /// events. `listening` is told how far it is.
    ///
    /// # Errors
    /// As [`Pipeline::index`].
    pub async fn transcribe(
        &self,
        item: WorkItem,
        listening: &Listening,
    ) -> Result<Outcome, Error> {
        self.answer(item, Question::Words, Hearing::new(listening)).await
    }

    #[tracing::instrument(name = "video", skip_all, fields(video = %item.video.video_id, uri = %item.video.uri, attempt = item.attempt))]
    async fn answer(
        &self,
        item: WorkItem,
        question: Question<'_>,
        hearing: Hearing<'_>,
    ) -> Result<Outcome, Error> {
        let started = Instant::now();
        let notes = Notes::new();
        let media = self.media.metered();
        let (video, stretch, notes_of) = (&item.video, item.stretch, &notes);
        let way = Way { pipeline: self, media: &media, video, stretch, notes: notes_of, hearing };
        let followed = AssertUnwindSafe(way.follow(question)).catch_unwind();
        let ended = match tokio::time::timeout(self.limits.wall, followed).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(panic)) => Err(notes
                .failure("panic", format!("a panic: {}", panic_text(panic.as_ref())))
                .into()),
            Err(_) => {
                let limit = humantime_serde::re::humantime::format_duration(self.limits.wall);
                Err(notes.failure("deadline", format!("not done within {limit}")).into())
            }
        };
        let mut draft = notes.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        draft.costs.core_ms = media.core_ms();
        draft.costs.wall_ms = millis(started.elapsed());
        let (status, events) = match ended {
            Err(Trouble::Run(error)) => return Err(error),
            Err(Trouble::Video(failure)) => {
                let Failure { stage, reason_code, reason } = &failure;
                warn!(uri = item.video.uri, %stage, reason_code, reason, "failed");
                draft.remark = Some(failure);
                (Status::Failed, Vec::new())
            }
            Ok(events) if events.is_empty() => (Status::Empty, events),
            Ok(events) => (Status::Captioned, events),
        };
        let effort = draft.effort(item.stretch);
        let outcome = draft.outcome(item, status, events);
        if let Some(watcher) = &self.watcher {
            watcher.ended(&outcome, &effort);
        }
        Ok(outcome)
    }
}

/// One video on its way, and all that it needs.
#[derive(Clone, Copy)]
struct Way<'a> {
    pipeline: &'a Pipeline,
    /// The media tools, with a meter for this video.
    media: &'a Media,
    video: &'a Video,
    /// The stretch of its windows that is looked at; all of them if not given.
    stretch: Option<Stretch>,
    notes: &'a Notes,
    hearing: Hearing<'a>,
}

impl Way<'_> {
    async fn follow(self, question: Question<'_>) -> Result<Vec<Event>, Trouble> {
        let Pipeline { sources, scratch, captioning, .. } = self.pipeline;
        let fetching = fetch(self.video, sources.as_ref(), scratch);
        let fetched = self.notes.during(Stage::Fetch, fetching).await?;
        self.notes.note(|draft| draft.costs.bytes_read = fetched.bytes_read);

        let probed = self.notes.during(Stage::Probe, self.media.probe(&fetched.path)).await;
        let probe = probed.map_err(|e| self.media_trouble(Stage::Probe, e))?.value;
        self.notes.note(|draft| draft.media = probe.facts());
        self.hearing.listening.set_length(probe.duration_us);
        if !matches!(question, Question::Words) {
            probe.require_video(&fetched.path).map_err(|e| self.media_trouble(Stage::Probe, e))?;
        }

        let transcript = self.notes.during(Stage::Words, self.words(&fetched, &probe)).await?;
        self.notes.note(|draft| draft.transcript = transcript.clone());

        match (question, captioning.source) {
            (Question::Words, _) => Ok(Vec::new()),
            (Question::Events, CaptioningSource::Speech) => {
                Ok(self.speech_events(&transcript, &probe))
            }
            (Question::Events, CaptioningSource::Vid2Seq) => {
                self.model_events(&fetched, &probe, &transcript).await
            }
            (Question::Clips(clips), CaptioningSource::Speech) => {
                let clips = inside(clips, &probe)?;
                let sentences = speech::sentences(&transcript, probe.duration_us);
                let spoken = Transcript { cues: sentences, ..transcript };
                let said = clips.iter().map(|clip| spoken.said_during(*clip).unwrap_or_default());
                Ok(clip_events(&clips, said, EventSource::Speech, &spoken))
            }
            (Question::Clips(clips), CaptioningSource::Vid2Seq) => {
                let clips = inside(clips, &probe)?;
                let parts =
                    clips.iter().map(|clip| self.clip(*clip, &probe)).collect::<Result<_, _>>()?;
                let answers = self.ask(&fetched, &probe, &transcript, parts).await?;
                let said = answers.into_iter().map(|answer| answer.text);
                Ok(clip_events(&clips, said, EventSource::Vid2Seq, &transcript))
            }
        }
    }

    /// The slots of a clip: those of the whole video that begin in its seconds, the last one included.
    fn clip(self, clip: TimeSpan, probe: &Probe) -> Result<Part, Trouble> {
        let grid = TimeSpan::new(0, probe.duration_us);
        let second = |us: i64| usize::try_from(us / 1_000_000).unwrap_or_default();
        let last = eventide_media::slots(grid) - 1;
        let (first, last) = (second(clip.start_us).min(last), second(clip.end_us).min(last));
        let rule = &self.captioner()?.info().manifest.frames;
        let picked = frames::pick(last + 1 - first, rule);
        let slots = picked.into_iter().map(|slot| first + slot).collect();
        Ok(Part { span: clip, grid, slots })
    }

    /// The words of a video, from the first source that has any. A source that cannot be read is
    /// remarked on and passed over: another, or the pictures, may still tell enough.
    async fn words(self, fetched: &Fetched, probe: &Probe) -> Result<Transcript, Trouble> {
        for source in &self.pipeline.transcripts {
            let found = match source {
                TranscriptOption::Sidecar => self.sidecars_words(probe).await?,
                TranscriptOption::Embedded => {
                    self.heard(self.embedded_words(fetched, probe).await)?
                }
                TranscriptOption::Asr => self.heard(self.recognised_words(fetched, probe).await)?,
            };
            if let Some(transcript) = found {
                return Ok(transcript);
            }
        }
        Ok(Transcript::default())
    }

    /// The words of the first side-car that has any.
    async fn sidecars_words(self, probe: &Probe) -> Result<Option<Transcript>, Trouble> {
        for sidecar in &self.video.sidecars {
            if let Some(transcript) = self.heard(self.sidecar_words(sidecar, probe).await)? {
                return Ok(Some(transcript));
            }
        }
        Ok(None)
    }

    /// A transcript with words; `None`, and a remark where there is trouble, for one without.
    fn heard(self, found: Result<Transcript, Trouble>) -> Result<Option<Transcript>, Trouble> {
        match found {
            Ok(transcript) => Ok(Some(transcript).filter(|found| !found.cues.is_empty())),
            Err(Trouble::Video(failure)) => {
                self.pass_over(failure);
                Ok(None)
            }
            Err(run) => Err(run),
        }
    }

    /// Remarks on what does not end the video.
    fn pass_over(self, failure: Failure) {
        let Failure { reason_code, reason, .. } = &failure;
        warn!(uri = self.video.uri, reason_code, reason, "passed over");
        self.notes.note(|draft| draft.remark = Some(failure));
    }

    /// The words of a side-car. Its times count from the start of the container, as players have
    /// it; those of a transcript count from the first picture.
    async fn sidecar_words(self, sidecar: &Sidecar, probe: &Probe) -> Result<Transcript, Trouble> {
        let read = read_sidecar(&sidecar.uri, self.pipeline.sources.as_ref()).await;
        let bytes = read.map_err(|trouble| match trouble {
            Trouble::Video(failure) => Failure { stage: Stage::Words, ..failure }.into(),
            run @ Trouble::Run(_) => run,
        })?;
        self.notes.note(|draft| draft.costs.bytes_read += bytes.len() as u64);
        let parsed = parse_sidecar(&bytes, sidecar.format, sidecar.language.as_deref());
        let mut transcript = parsed.map_err(|source| {
            let reason = format!("`{}`: {}", sidecar.uri, chain(&source));
            failure(Stage::Words, source.reason_code(), reason)
        })?;
        for cue in &mut transcript.cues {
            cue.span = cue.span.shifted(probe.lead_us.saturating_neg());
        }
        Ok(transcript)
    }

    /// The language that the job asks for, if it does.
    fn language(&self) -> Option<&str> {
        self.pipeline.speech.as_ref()?.options.language.as_deref()
    }

    /// The words of a subtitle stream: the first one of the language that is asked for, else the first.
    async fn embedded_words(self, fetched: &Fetched, probe: &Probe) -> Result<Transcript, Trouble> {
        let texts = probe.subtitles.iter().filter(|stream| stream.is_text);
        let found = track_in(texts, self.language(), |stream| stream.language.as_deref());
        let Some(stream) = found else { return Ok(Transcript::default()) };
        let read = self.media.embedded_cues(&fetched.path, probe, stream.index).await;
        Ok(read.map_err(|e| self.media_trouble(Stage::Words, e))?.value)
    }

    /// What the recogniser hears in the first sound stream of the language that is asked for, else in the
    /// first; nothing where there is none. Sound of which a part is lost is not taken as heard: another
    /// decoder may have more of it.
    async fn recognised_words(
        self,
        fetched: &Fetched,
        probe: &Probe,
    ) -> Result<Transcript, Trouble> {
        if let Some(known) = self.hearing.known {
            self.notes.note(|draft| draft.heard = true);
            info!(sentences = known.cues.len(), "heard before");
            return Ok(known.clone());
        }
        let sounds = probe.audio.iter();
        let found = track_in(sounds, self.language(), |stream| stream.language.as_deref());
        let Some(stream) = found else { return Ok(Transcript::default()) };
        let recognition = self.pipeline.speech.as_ref();
        let Recognition { transcriber, options, .. } =
            recognition.ok_or(Trouble::Run(Error::NoRecogniser))?;
        let file = (fetched.path.as_path(), probe);
        let listening = self.hearing.listening;
        let asked = transcriber.transcribe(self.media, file, stream.index, options, listening);
        let heard = asked.await.map_err(|error| self.speech_trouble(error))?;
        let Transcription { transcript, device, damage } = heard;
        self.notes.note(|draft| {
            draft.heard = damage.is_none();
            draft.costs.device_ms += millis(device);
        });
        if let Some(damage) = damage {
            self.pass_over(failure(Stage::Words, damage.reason_code(), chain(&damage)));
        }
        info!(sentences = transcript.cues.len(), language = transcript.language, "listened");
        Ok(transcript)
    }

    /// Trouble with a recogniser as a failure of this video, or of the run where it would fail at any.
    fn speech_trouble(self, error: TranscriptionError) -> Trouble {
        match (error.reason_code(), error) {
            (_, TranscriptionError::Sound(source)) => self.media_trouble(Stage::Words, source),
            (Some(code), error) => failure(Stage::Words, code, chain(&error)).into(),
            (None, error) => {
                let (uri, source) = (self.video.uri.clone(), Box::new(error));
                Trouble::Run(Error::Recognition { uri, source })
            }
        }
    }

    fn speech_events(self, transcript: &Transcript, probe: &Probe) -> Vec<Event> {
        let events = speech::events(transcript, probe.duration_us);
        if events.is_empty() {
            let reason = "there is no transcript, and events were to come from speech".to_owned();
            let failure = failure(Stage::Words, "no_transcript", reason);
            self.notes.note(|draft| {
                draft.remark.get_or_insert(failure);
            });
        }
        events
    }

    async fn model_events(
        self,
        fetched: &Fetched,
        probe: &Probe,
        transcript: &Transcript,
    ) -> Result<Vec<Event>, Trouble> {
        let manifest = &self.captioner()?.info().manifest;
        let windows = windows(probe.duration_us, &self.pipeline.captioning);
        let part = |span: &TimeSpan| {
            let slots = frames::pick(eventide_media::slots(*span), &manifest.frames);
            Part { span: *span, grid: *span, slots }
        };
        let own = self.stretch.map_or(0..windows.len(), |stretch| stretch.windows(windows.len()));
        let parts = windows[own.clone()].iter().map(part).collect();
        let answers = self.ask(fetched, probe, transcript, parts).await?;
        let mut events = Vec::new();
        for (index, answer) in own.zip(answers) {
            events.extend(self.window_events(&windows, index, answer.parsed, transcript, manifest));
        }
        events.sort_by_key(|event| (event.span, event.window_index, event.event_index));
        Ok(events)
    }

    fn captioner(&self) -> Result<&Captioner, Trouble> {
        self.pipeline.captioner.as_ref().ok_or(Trouble::Run(Error::CaptionerStopped))
    }

    /// What the model says of each part.
    async fn ask(
        self,
        fetched: &Fetched,
        probe: &Probe,
        transcript: &Transcript,
        parts: Vec<Part>,
    ) -> Result<Vec<Answer>, Trouble> {
        let captioner = self.captioner()?;
        let size = captioner.info().manifest.vision.image_size;
        let whole = TimeSpan::new(0, probe.duration_us);
        self.notes.note(|draft| draft.windows = u32::try_from(parts.len()).unwrap_or(u32::MAX));
        let answers = futures::stream::iter(parts)
            .map(|part| async move {
                let sampled = self.sample(fetched, probe, &part, size).await?;
                let window = seen(sampled, transcript, part.span, whole);
                self.notes.enter(Stage::Generate);
                let answer = captioner.caption(window).await.map_err(Trouble::Run)?;
                let answer = answer.map_err(|refusal| self.model_trouble(refusal))?;
                self.notes.note(|draft| {
                    draft.costs.device_ms += millis(answer.device);
                    draft.tokens += answer.tokens as u64;
                    draft.stages[Stage::Encode as usize] += answer.encoding;
                    draft.stages[Stage::Generate as usize] +=
                        answer.device.saturating_sub(answer.encoding);
                });
                Ok::<_, Trouble>(answer)
            })
            .buffered(WINDOWS_IN_FLIGHT)
            .try_collect()
            .await?;
        self.notes.enter(Stage::Parse);
        Ok(answers)
    }

    /// The frames of a part that the model will look at, as squares of `size` pixels.
    async fn sample(
        self,
        fetched: &Fetched,
        probe: &Probe,
        part: &Part,
        size: u32,
    ) -> Result<Sampled, Trouble> {
        let exactness = self.pipeline.captioning.frames.into();
        let request = FrameRequest { size, window: part.grid, slots: &part.slots, exactness };
        let decoding = self.media.frames(&fetched.path, probe, &request);
        let decoded = self.notes.during(Stage::Sample, decoding).await;
        let decoded = decoded.map_err(|e| self.media_trouble(Stage::Sample, e))?.value;
        let (frames, missing) = (decoded.slots.len(), decoded.missing);
        self.notes.note(|draft| {
            draft.frames_used += u32::try_from(frames).unwrap_or(u32::MAX);
            draft.frames_missing += missing;
            draft.shift_us = draft.shift_us.max(decoded.shift_us);
        });
        debug!(frames, missing, "sampled");
        Ok(Sampled { frames: decoded, slots: part.slots.clone() })
    }

    /// The events of one window that are its own, numbered as the model wrote them.
    fn window_events(
        self,
        windows: &[TimeSpan],
        index: usize,
        parsed: Parsed,
        transcript: &Transcript,
        manifest: &Manifest,
    ) -> Vec<Event> {
        let found = match parsed {
            Parsed::Events(events) => events,
            Parsed::Nothing(reason) => {
                let failure = failure(Stage::Parse, reason.code(), reason.to_string());
                self.notes.note(|draft| draft.remark = Some(failure));
                return Vec::new();
            }
        };
        let (window, own) = (windows[index], own_part(windows, index));
        let steps = i64::from(manifest.time_tokens.bins.saturating_sub(1).max(1));
        let shift_us = self.notes.note(|draft| draft.shift_us);
        found
            .into_iter()
            .map(|event| (event.span.shifted(window.start_us), event))
            .filter(|(span, _)| own.contains(i64::midpoint(span.start_us, span.end_us)))
            .take(self.pipeline.captioning.max_events.get() as usize)
            .zip(0..)
            .map(|((span, event), event_index)| Event {
                window_index: u32::try_from(index).unwrap_or(u32::MAX),
                event_index,
                span,
                time_resolution_us: (window.duration_us() / steps).max(shift_us),
                caption: event.caption,
                score: Some(event.score),
                source: EventSource::Vid2Seq,
                speech: transcript.said_during(span),
                language: None,
            })
            .collect()
    }

    /// What the model refuses as a failure of this video, or of the run where it would refuse any.
    fn model_trouble(self, refusal: Refusal) -> Trouble {
        match refusal {
            Refusal::Model(source) => match source.reason_code() {
                Some(code) => failure(Stage::Generate, code, chain(&source)).into(),
                None => Trouble::Run(Error::Inference { uri: self.video.uri.clone(), source }),
            },
            Refusal::Panic(text) => {
                failure(Stage::Generate, "panic", format!("the model panicked: {text}")).into()
            }
        }
    }

    /// A media error as a failure of this video, or of the run where trying again may help.
    fn media_trouble(self, stage: Stage, source: eventide_media::Error) -> Trouble {
        if source.is_transient() {
            return Trouble::Run(Error::Media { uri: self.video.uri.clone(), source });
        }
        failure(stage, source.reason_code(), chain(&source)).into()
    }
}

/// Clips as far as they lie inside the video, which each must in part.
fn inside(clips: &[TimeSpan], probe: &Probe) -> Result<Vec<TimeSpan>, Failure> {
    let cut = |clip: &TimeSpan| {
        let inside = TimeSpan::new(clip.start_us.max(0), clip.end_us.min(probe.duration_us));
        (inside.duration_us() > 0).then_some(inside).ok_or_else(|| {
            let seconds = |us: i64| Duration::from_micros(us.unsigned_abs()).as_secs_f64();
            let reason = format!(
                "the clip from {} s to {} s is not inside the video of {} s",
                seconds(clip.start_us),
                seconds(clip.end_us),
                seconds(probe.duration_us)
            );
            failure(Stage::Sample, "clip_outside", reason)
        })
    };
    clips.iter().map(cut).collect()
}

/// What is said of each clip as an event, but for those of which nothing is.
fn clip_events(
    clips: &[TimeSpan],
    said: impl Iterator<Item = String>,
    source: EventSource,
    transcript: &Transcript,
) -> Vec<Event> {
    let event = |(window_index, (span, caption)): (u32, (&TimeSpan, String))| Event {
        window_index,
        event_index: 0,
        span: *span,
        time_resolution_us: 0, // the bounds were given
        caption,
        score: None,
        source,
        speech: transcript.said_during(*span),
        language: match source {
            EventSource::Speech => transcript.language.clone(),
            EventSource::Vid2Seq => None,
        },
    };
    let told = (0..).zip(clips.iter().zip(said)).map(event);
    told.filter(|event| !event.caption.is_empty()).collect()
}

/// What the model gets to see of one window. A cue that reaches over the edge to a neighbouring
/// window is cut there; one that reaches over the end of the video is left for the model's own rule.
fn seen(sampled: Sampled, transcript: &Transcript, window: TimeSpan, video: TimeSpan) -> Window {
    let cues = transcript
        .cues
        .iter()
        .filter(|cue| cue.span.overlaps(window))
        .map(|cue| {
            let start = if window.start_us > video.start_us { window.start_us } else { i64::MIN };
            let end = if window.end_us < video.end_us { window.end_us } else { i64::MAX };
            let span = TimeSpan::new(cue.span.start_us.max(start), cue.span.end_us.min(end));
            Cue { span: span.shifted(-window.start_us), text: cue.text.clone() }
        })
        .collect();
    Window {
        rows: sampled.rows(),
        row_count: sampled.slots.len(),
        frames: sampled.frames.pixels,
        cues,
        duration_us: window.duration_us(),
    }
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
