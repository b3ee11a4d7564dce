//! `eventide transcribe`: what is said in some files, without a job and without tables.

use std::{
    io::IsTerminal,
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{Args, ValueEnum};
use comfy_table::{Table, presets};
use eventide_catalog::{Stores, list, video_at};
use eventide_engine::{How, SpeechIdentity, SpeechOptions};
use eventide_model::runtime::Device;
use eventide_pipeline::{
    CaptioningOptions, CaptioningSource, LimitOptions, Listening, ListeningOptions, Pipeline,
    TranscriptOption,
};
use eventide_query::{functions::timecode, subtitles};
use eventide_schema::{Cue, Failure, Outcome, Status, TranscriptSource, Video, WorkItem};
use futures::{StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use miette::{IntoDiagnostic, WrapErr};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::{Stop, absolute, caption::Told, explained, index::told_to_stop, model::device, ready};
use crate::{
    arguments::{Common, ToolArguments},
    job::{JobFile, LanguageOption, Overrides, confidence, longest_sentence},
    report,
};

/// How long one file may take. A person waits, and may stop it.
const LONGEST: Duration = Duration::from_hours(24);
/// Files that are worked on at once: their windows share the runs of the recogniser, and their sound is decoded
/// meanwhile.
const AT_ONCE: usize = 4;
/// The environment variable that stands for `--model`.
const BUNDLE_VARIABLE: &str = "EVENTIDE_SPEECH_BUNDLE";

/// Arguments of `transcribe`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TranscribeArguments {
    /// Videos or sounds: files, or addresses such as `s3://bucket/talk.mp4`. Or one job file: the words of its corpus
    /// as the job would have them, from subtitles or heard.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,
    /// The speech bundle: a folder or an address. A job names its own.
    #[arg(long, env = BUNDLE_VARIABLE, value_name = "BUNDLE")]
    model: Option<String>,
    /// How it is printed.
    #[arg(long, default_value = "text")]
    format: TranscriptFormat,
    /// A folder to write a file to for each FILE, instead of printing it.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// How it is heard.
    #[command(flatten)]
    hearing: HearingArguments,
    /// The tools that do the work.
    #[command(flatten)]
    tools: ToolArguments,
}

/// How speech is heard. What is not given is as the job has it, or as usual.
#[derive(Debug, Args)]
struct HearingArguments {
    /// The language that is spoken, such as `en`; found out for each file if `auto`, as is usual.
    #[arg(long, value_name = "CODE", value_parser = language)]
    language: Option<LanguageOption>,
    /// Leave out sentences that are less probable than this, 0 to 1; 0.5 is usual.
    #[arg(long, value_name = "P", value_parser = probability)]
    min_confidence: Option<f32>,
    /// Texts that are followed side by side; 5 is usual.
    #[arg(long, value_name = "N")]
    beams: Option<NonZeroU32>,
    /// Cut sentences that are longer than this, at a comma or a silence; `30s` is usual.
    #[arg(long, value_name = "TIME", value_parser = sentence_length)]
    longest_sentence: Option<Duration>,
    /// Tell each window of 30 seconds what was said before it. Slower: windows of a file come one by one.
    #[arg(long)]
    previous_text: bool,
    /// Where the model runs: `cpu`, which is usual, or `cuda:N`.
    #[arg(long, value_parser = device)]
    device: Option<Device>,
    /// Threads of one operator; 0, which is usual, is one a core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl HearingArguments {
    /// Puts what is given in the place of what is there.
    fn apply(&self, speech: &mut SpeechOptions) {
        let SpeechOptions { device, threads, listening, .. } = speech;
        *device = self.device.unwrap_or(*device);
        *threads = self.threads.unwrap_or(*threads);
        if let Some(LanguageOption(language)) = &self.language {
            listening.language.clone_from(language);
        }
        listening.min_confidence = self.min_confidence.unwrap_or(listening.min_confidence);
        listening.beams = self.beams.unwrap_or(listening.beams);
        listening.longest_sentence = self.longest_sentence.unwrap_or(listening.longest_sentence);
        listening.previous_text |= self.previous_text;
    }

    /// A flag that is given.
    fn given(&self) -> Option<&'static str> {
        let flags = [
            (self.language.is_some(), "--language"),
            (self.min_confidence.is_some(), "--min-confidence"),
            (self.beams.is_some(), "--beams"),
            (self.longest_sentence.is_some(), "--longest-sentence"),
            (self.previous_text, "--previous-text"),
            (self.device.is_some(), "--device"),
            (self.threads.is_some(), "--threads"),
        ];
        flags.into_iter().find_map(|(given, flag)| given.then_some(flag))
    }
}

impl TranscribeArguments {
    /// A flag that is given and says how speech is heard. The variable of the environment is there for whoever needs it.
    fn given(&self) -> Option<&'static str> {
        let is_flag = self.model.is_some() && std::env::var_os(BUNDLE_VARIABLE).is_none();
        is_flag.then_some("--model").or_else(|| self.hearing.given())
    }
}

const EXAMPLES: &str = "\
Examples:
  eventide transcribe talk.mp4 --model models/whisper-base                       what is said, and when
  eventide transcribe talk.mp4 --model models/whisper-base --format srt >talk.srt
  eventide transcribe *.mp4 --model models/whisper-base --format vtt --out .     side-cars for all of them
  eventide transcribe jobs/nightly.toml --format vtt --out subtitles             what its corpus says";

/// How a transcript is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TranscriptFormat {
    /// A table for people.
    Text,
    /// A JSON list of the files, or one object a file.
    Json,
    /// Subtitles, as SubRip.
    Srt,
    /// Subtitles, as WebVTT.
    Vtt,
}

impl TranscriptFormat {
    fn extension(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Json => "json",
            Self::Srt => "srt",
            Self::Vtt => "vtt",
        }
    }
}

fn language(text: &str) -> Result<LanguageOption, String> {
    LanguageOption::try_from(text.to_owned())
}

fn probability(text: &str) -> Result<f32, String> {
    confidence(text.parse().map_err(|_| format!("`{text}` is no number"))?)
}

fn sentence_length(text: &str) -> Result<Duration, String> {
    let given = humantime::parse_duration(text).map_err(|error| format!("`{text}`: {error}"))?;
    longest_sentence(given)
}

pub(super) async fn run(
    arguments: &TranscribeArguments,
    common: &Common,
    stores: &Arc<Stores>,
) -> Result<ExitCode, Stop> {
    let Task { videos, how } = match arguments.files.as_slice() {
        [job] if Path::new(job).extension().is_some_and(|end| end == "toml") => {
            task_of_job(arguments, Path::new(job), stores).await?
        }
        _ => task_of_files(arguments, stores).await?,
    };
    let (worker, identity) = ready(&how, stores, &arguments.tools).await?;
    let bar = bar(!common.quiet && std::io::stderr().is_terminal());
    let listenings: Vec<Listening> = videos.iter().map(|_| Listening::default()).collect();
    let work = async {
        let pipeline = how.pipeline(stores, &worker).await.map_err(|e| Stop::of_run(&e))?;
        let mut told = Transcripts { identity, ..Transcripts::default() };
        let asked =
            videos.into_iter().zip(&listenings).map(|(Wanted { video, place }, listening)| {
                let outcome = transcribe(&pipeline, video, listening);
                async { Ok::<_, Stop>((outcome.await?, place)) }
            });
        let mut outcomes = futures::stream::iter(asked).buffered(AT_ONCE);
        while let Some((outcome, place)) = outcomes.try_next().await? {
            told.take(arguments.format, outcome, place.as_deref())?;
        }
        Ok(told)
    };
    let told = tokio::select! {
        told = work => told?,
        () = show(&bar, &listenings) => unreachable!("it shows for ever"),
        () = told_to_stop() => return Err(Stop::interrupted(miette::miette!("interrupted"))),
    };
    bar.finish_and_clear();
    for remark in &told.remarks {
        eprintln!("{remark}");
    }
    if arguments.out.is_none() && !told.heard.is_empty() {
        report::text(&told.text(arguments.format)).map_err(Stop::failed)?;
    }
    told.end()
}

/// A video, and the file that its transcript is written to.
struct Wanted {
    video: Video,
    place: Option<PathBuf>,
}

/// What is to be done.
struct Task {
    videos: Vec<Wanted>,
    how: How,
}

async fn task_of_files(arguments: &TranscribeArguments, stores: &Stores) -> Result<Task, Stop> {
    let how = how(arguments)?;
    let stem = |file: &String| {
        Path::new(file).file_stem().unwrap_or_default().to_string_lossy().into_owned()
    };
    let places = places(arguments, &arguments.files.iter().map(stem).collect::<Vec<_>>())?;
    let mut places = places.into_iter();
    let mut videos = Vec::new();
    for file in &arguments.files {
        let found = video_at(stores, &absolute(file)?).await;
        let video = found.map_err(|error| Stop::bad_job(explained(&error.into())))?;
        videos.push(Wanted { video, place: places.next() });
    }
    Ok(Task { videos, how })
}

/// The corpus of a job, whose words come from where the job has them from.
async fn task_of_job(
    arguments: &TranscribeArguments,
    job: &Path,
    stores: &Stores,
) -> Result<Task, Stop> {
    let overrides = Overrides { speech_bundle: arguments.model.as_deref(), ..Overrides::default() };
    let night = JobFile::load(job, &overrides).map_err(Stop::bad_job)?;
    let mut how = night.how();
    (how.model, how.captioning.source) = (None, CaptioningSource::Speech);
    match (&mut how.speech, arguments.given()) {
        (Some(speech), _) => arguments.hearing.apply(speech),
        (None, Some(flag)) => {
            return Err(Stop::bad_job(miette::miette!(
                help = "set `corpus.transcripts = [\"sidecar\", \"embedded\", \"asr\"]`, or leave the flag out",
                "{flag} says how speech is heard, and the job `{}` hears none: its `corpus.transcripts` does not name `asr`",
                job.display()
            )));
        }
        (None, None) => {}
    }
    let wrong = |error: eventide_catalog::Error| Stop::bad_job(explained(&error.into()));
    let below = stores.open(&night.corpus.uri).map_err(wrong)?.uri;
    let listing = list(stores, &night.corpus).map_err(wrong)?;
    let videos: Vec<Video> = listing.try_collect().await.map_err(wrong)?;
    let stem = |video: &Video| {
        let name = video.uri.strip_prefix(&below).unwrap_or(&video.uri).trim_start_matches('/');
        Path::new(name).with_extension("").to_string_lossy().into_owned()
    };
    let places = places(arguments, &videos.iter().map(stem).collect::<Vec<_>>())?;
    let mut places = places.into_iter();
    let videos = videos.into_iter().map(|video| Wanted { video, place: places.next() });
    Ok(Task { videos: videos.collect(), how })
}

/// The file that each transcript is written to; none where they are printed.
fn places(arguments: &TranscribeArguments, stems: &[String]) -> Result<Vec<PathBuf>, Stop> {
    let Some(folder) = &arguments.out else {
        let subtitles = matches!(arguments.format, TranscriptFormat::Srt | TranscriptFormat::Vtt);
        if subtitles && stems.len() > 1 {
            return Err(Stop::bad_job(miette::miette!(
                help = "give --out FOLDER, and each file gets subtitles of its own there",
                "the subtitles of several files cannot be printed as one"
            )));
        }
        return Ok(Vec::new());
    };
    let mut places: Vec<PathBuf> = Vec::new();
    for stem in stems {
        let place = folder.join(format!("{stem}.{}", arguments.format.extension()));
        if places.contains(&place) {
            return Err(Stop::bad_job(miette::miette!(
                help =
                    "transcribe files of the same name one after the other, to different folders",
                "two of the files would be written to `{}`",
                place.display()
            )));
        }
        let parent = place.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot make the folder `{}`", parent.display()))
            .map_err(Stop::bad_job)?;
        places.push(place);
    }
    Ok(places)
}

fn how(arguments: &TranscribeArguments) -> Result<How, Stop> {
    let bundle = arguments.model.as_deref().ok_or_else(|| {
        let help = "give --model; `eventide model import --whisper` makes one";
        Stop::bad_job(miette::miette!(help = help, "no speech bundle is given"))
    })?;
    let mut speech = SpeechOptions {
        bundle: absolute(bundle)?,
        device: Device::Cpu,
        threads: 0,
        listening: ListeningOptions::default(),
    };
    arguments.hearing.apply(&mut speech);
    Ok(How {
        transcripts: vec![TranscriptOption::Asr],
        captioning: CaptioningOptions {
            source: CaptioningSource::Speech,
            ..CaptioningOptions::default()
        },
        limits: LimitOptions { wall: LONGEST, cpu: LONGEST, ..LimitOptions::default() },
        model: None,
        speech: Some(speech),
    })
}

fn bar(visible: bool) -> ProgressBar {
    if !visible {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {msg}")
        .expect("the template is right");
    ProgressBar::new(0).with_style(style)
}

/// What is said in a video.
async fn transcribe(
    pipeline: &Pipeline,
    video: Video,
    listening: &Listening,
) -> Result<Outcome, Stop> {
    let uri = video.uri.clone();
    pipeline.transcribe(WorkItem::new(video, 1), listening).await.map_err(|error| {
        let failed = eventide_engine::Error::Pipeline { video: uri, source: Box::new(error) };
        Stop::of_run(&failed)
    })
}

/// Shows how much was heard of all that was begun, for ever.
async fn show(bar: &ProgressBar, listenings: &[Listening]) {
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let begun = listenings.iter().filter(|listening| listening.length_us() > 0);
        let heard: u64 = begun.clone().map(Listening::heard_us).sum();
        let length: u64 = begun.clone().map(Listening::length_us).sum();
        bar.set_length(length);
        bar.set_position(heard);
        let (begun, all) = (begun.count(), listenings.len());
        bar.set_message(format!("{} of {}, {begun} of {all} files", clock(heard), clock(length)));
    }
}

/// Whole seconds as people write them.
fn clock(us: u64) -> String {
    let whole = timecode(i64::try_from(us / 1000).unwrap_or(i64::MAX));
    whole.split('.').next().unwrap_or_default().to_owned()
}

/// What was heard in files, and why nothing was in others.
#[derive(Default)]
struct Transcripts {
    identity: Option<SpeechIdentity>,
    /// Those that are to be printed.
    heard: Vec<Outcome>,
    failures: Vec<String>,
    /// What was passed over where something was heard.
    remarks: Vec<String>,
}

impl Transcripts {
    /// Takes what came of a file; writes it at once where it has a place.
    fn take(
        &mut self,
        format: TranscriptFormat,
        outcome: Outcome,
        place: Option<&Path>,
    ) -> Result<(), Stop> {
        if let Some(failure) = failure(&outcome) {
            self.failures.push(failure);
            return Ok(());
        }
        self.remarks.extend(outcome.failure.as_ref().map(|remark| {
            let Failure { stage, reason_code, reason } = remark;
            let uri = &outcome.video.uri;
            format!(
                "not all of `{uri}` could be read ({stage}: {reason_code})\n  because: {reason}"
            )
        }));
        if let Some(place) = place {
            let text = match format {
                TranscriptFormat::Json => format!("{:#}", self.json(&outcome)),
                _ => written(format, &outcome),
            };
            std::fs::write(place, text + "\n")
                .into_diagnostic()
                .wrap_err_with(|| format!("cannot write `{}`", place.display()))
                .map_err(Stop::failed)?;
        } else {
            self.heard.push(outcome);
        }
        Ok(())
    }

    /// All of it as one text.
    fn text(&self, format: TranscriptFormat) -> String {
        if format == TranscriptFormat::Json {
            let all: Vec<Value> = self.heard.iter().map(|outcome| self.json(outcome)).collect();
            return format!("{:#}", Value::from(all));
        }
        let named = self.heard.len() + self.failures.len() > 1;
        let one = |outcome: &Outcome| {
            let text = written(format, outcome);
            if named { format!("{}\n{text}\n", outcome.video.uri) } else { text }
        };
        self.heard.iter().map(one).collect::<Vec<_>>().join("\n")
    }

    fn json(&self, outcome: &Outcome) -> Value {
        let transcript = &outcome.transcript;
        let heard = transcript.source == TranscriptSource::Asr;
        let identity = self.identity.as_ref().filter(|_| heard);
        let sentences = transcript.cues.iter().enumerate().map(|(index, cue)| {
            json!({
                "start_ms": cue.span.start_ms(),
                "end_ms": cue.span.end_ms(),
                "text": cue.text,
                "confidence": transcript.confidences.get(index),
            })
        });
        json!({
            "uri": outcome.video.uri,
            "duration_ms": outcome.media.duration_us.map(|us| us / 1000),
            "source": transcript.source.as_str(),
            "language": transcript.language,
            "model_id": identity.map(|identity| &identity.model_id),
            "model_digest": identity.map(|identity| &identity.model_digest),
            "remark": outcome.failure.as_ref().map(|remark| &remark.reason),
            "sentences": sentences.collect::<Vec<_>>(),
        })
    }

    fn end(self) -> Result<ExitCode, Stop> {
        if self.failures.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        Err(Stop::failed(miette::miette!("{}", self.failures.join("\n"))))
    }
}

/// Why nothing could be heard; `None` where it could, even if nothing is said.
fn failure(outcome: &Outcome) -> Option<String> {
    let uri = &outcome.video.uri;
    let nothing = outcome.status == Status::Failed || outcome.transcript.cues.is_empty();
    if let Some(failure) = outcome.failure.as_ref().filter(|_| nothing) {
        let (stage, code, reason) = (failure.stage, &failure.reason_code, &failure.reason);
        return Some(format!("cannot transcribe `{uri}` ({stage}: {code})\n  because: {reason}"));
    }
    let silent = nothing && outcome.media.has_audio == Some(false);
    silent
        .then(|| format!("cannot transcribe `{uri}` (words: no_sound)\n  because: it has no sound"))
}

/// One transcript as a text.
fn written(format: TranscriptFormat, outcome: &Outcome) -> String {
    let cues = &outcome.transcript.cues;
    match format {
        TranscriptFormat::Srt => {
            let cue = |cue: &Cue| (cue.span.start_ms(), cue.span.end_ms(), cue.text.clone());
            let mut text = subtitles::sub_rip(&cues.iter().map(cue).collect::<Vec<_>>());
            text.truncate(text.trim_end().len());
            text
        }
        TranscriptFormat::Vtt => {
            let told = cues.iter().map(|cue| Told {
                span: cue.span,
                caption: cue.text.clone(),
                score: None,
            });
            report::web_vtt(&told.collect::<Vec<_>>())
        }
        TranscriptFormat::Text | TranscriptFormat::Json if cues.is_empty() => {
            "nothing is said".to_owned()
        }
        TranscriptFormat::Text | TranscriptFormat::Json => {
            let mut table = Table::new();
            table.load_preset(presets::NOTHING);
            table.set_header(["start", "end", "text"]);
            for cue in cues {
                let [start, end] = [cue.span.start_ms(), cue.span.end_ms()].map(timecode);
                table.add_row([start, end, cue.text.clone()]);
            }
            table.trim_fmt()
        }
    }
}
