//! `eventide caption`: one video, without a job and without tables.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Args, ValueEnum};
use eventide_catalog::{Stores, video_at};
use eventide_engine::{How, ModelOptions, SpeechOptions};
use eventide_model::runtime::Device;
use eventide_pipeline::{
    CaptioningOptions, CaptioningSource, LimitOptions, ListeningOptions, TranscriptOption,
};
use eventide_query::functions::parse_timecode;
use eventide_schema::{
    Event, Outcome, Sidecar, SidecarFormat, Stage, Status, TimeSpan, Video, WorkItem,
};
use miette::{IntoDiagnostic, WrapErr};

use super::{Stop, absolute, explained, index::told_to_stop, model::device, ready};
use crate::{arguments::ToolArguments, report};

/// Arguments of `caption`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CaptionArguments {
    /// The video: a file, or an address such as `s3://bucket/talk.mp4`.
    #[arg(value_name = "FILE")]
    video: String,
    /// The model bundle: a folder or an address. Not needed for --source speech.
    #[arg(long, env = "EVENTIDE_BUNDLE", value_name = "BUNDLE")]
    bundle: Option<String>,
    /// A speech bundle, which hears what is said where no subtitles tell it.
    #[arg(long, env = "EVENTIDE_SPEECH_BUNDLE", value_name = "BUNDLE")]
    speech_bundle: Option<String>,
    /// What is asked for.
    #[arg(long = "as", default_value = "events")]
    form: Form,
    /// A clip to be captioned, such as `1:30-1:42.5`; may be given again.
    #[arg(long = "clip", value_name = "FROM-TO", value_parser = clip)]
    clips: Vec<TimeSpan>,
    /// A JSON file of clips: a list of pairs of seconds, such as `[[10, 20], [31.5, 40]]`.
    #[arg(long = "clips", value_name = "BOUNDS.json")]
    bounds: Option<PathBuf>,
    /// Subtitles of the video (`.vtt`, `.srt`, or Whisper's `.json`), instead of those beside it or in it.
    #[arg(long, value_name = "FILE")]
    transcript: Option<String>,
    /// What makes the captions.
    #[arg(long, default_value = "vid2seq")]
    source: Source,
    /// How they are printed.
    #[arg(long, default_value = "text")]
    format: CaptionFormat,
    /// Use a bundle whose weights are random; its captions mean nothing.
    #[arg(long)]
    allow_untrained: bool,
    /// Where the model runs: `cpu`, or `cuda:N`.
    #[arg(long, default_value = "cpu", value_parser = device)]
    device: Device,
    /// Threads of one operator; 0 is one a core.
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    /// The tools that do the work.
    #[command(flatten)]
    tools: ToolArguments,
}

const EXAMPLES: &str = "\
Examples:
  eventide caption talk.mp4 --bundle models/m                       what happens, and when
  eventide caption talk.mp4 --bundle models/m --format vtt >a.vtt   the same as subtitles
  eventide caption talk.mp4 --bundle models/m --as paragraph        all of it in a few sentences
  eventide caption talk.mp4 --bundle models/m --as clips --clip 0:10-0:20 --clip 1:00-1:30
  eventide caption talk.mp4 --source speech                         what is said, without a model
  eventide caption talk.mp4 --bundle models/m --speech-bundle models/whisper-base";

/// What is asked of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// When what happens.
    Events,
    /// What happens in all, as one text.
    Paragraph,
    /// What happens in each of the clips that are given, by itself.
    Clips,
}

/// What makes captions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Source {
    /// The model.
    Vid2seq,
    /// The sentences that are said.
    Speech,
}

/// How captions are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CaptionFormat {
    /// A table for people.
    Text,
    /// One JSON object.
    Json,
    /// Subtitles, as WebVTT.
    Vtt,
}

/// A clip such as `1:30-1:42.5`.
fn clip(text: &str) -> Result<TimeSpan, String> {
    let moments = || {
        let (start, end) = text.split_once('-')?;
        let micros = |moment: &str| parse_timecode(moment)?.checked_mul(1000);
        Some(TimeSpan::new(micros(start)?, micros(end)?))
    };
    let span = moments().ok_or_else(|| "expected two moments such as `1:30-1:42.5`".to_owned())?;
    if span.duration_us() > 0 { Ok(span) } else { Err("it ends before it starts".to_owned()) }
}

pub(super) async fn run(
    arguments: &CaptionArguments,
    stores: &Arc<Stores>,
) -> Result<ExitCode, Stop> {
    let clips = clips(arguments)?;
    let video = video(arguments, stores).await?;
    let how = how(arguments)?;
    let (worker, _) = ready(&how, stores, &arguments.tools).await?;
    let work = async {
        let pipeline = how.pipeline(stores, &worker).await.map_err(|e| Stop::of_run(&e))?;
        let uri = video.uri.clone();
        let item = WorkItem::new(video, 1);
        let outcome = match arguments.form {
            Form::Events | Form::Paragraph => pipeline.index(item).await,
            Form::Clips => pipeline.clips(item, &clips).await,
        };
        let failed =
            |error| eventide_engine::Error::Pipeline { video: uri, source: Box::new(error) };
        outcome.map_err(|error| Stop::of_run(&failed(error)))
    };
    let outcome = tokio::select! {
        outcome = work => outcome?,
        () = told_to_stop() => return Err(Stop::interrupted(miette::miette!("interrupted"))),
    };
    refuse(arguments, &outcome)?;
    let told = told(arguments.form, &outcome, &clips);
    report::captions(&outcome, arguments.form, &told, arguments.format).map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}

/// A span and what is said of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) span: TimeSpan,
    pub(crate) caption: String,
    /// Mean log-probability of its tokens, where a model wrote it as an event.
    pub(crate) score: Option<f32>,
}

/// What is printed: the events, one text, or one for each clip.
fn told(form: Form, outcome: &Outcome, clips: &[TimeSpan]) -> Vec<Told> {
    let event = |event: &Event| Told {
        span: event.span,
        caption: event.caption.clone(),
        score: event.score,
    };
    match form {
        Form::Events => outcome.events.iter().map(event).collect(),
        Form::Paragraph => {
            let captions: Vec<_> =
                outcome.events.iter().map(|event| event.caption.as_str()).collect();
            let span = TimeSpan::new(0, outcome.media.duration_us.unwrap_or_default());
            vec![Told { span, caption: captions.join(" "), score: None }]
        }
        Form::Clips => (0..)
            .zip(clips)
            .map(|(index, clip)| {
                let found = outcome.events.iter().find(|event| event.window_index == index);
                let nothing = Told { span: *clip, caption: String::new(), score: None };
                found.map_or(nothing, event)
            })
            .collect(),
    }
}

/// A video that cannot be captioned is an error here; and so are subtitles that were asked for.
fn refuse(arguments: &CaptionArguments, outcome: &Outcome) -> Result<(), Stop> {
    let Some(failure) = &outcome.failure else { return Ok(()) };
    let lost_words = arguments.transcript.is_some() && failure.stage == Stage::Words;
    if outcome.status == Status::Failed || lost_words {
        let (stage, code) = (failure.stage, &failure.reason_code);
        return Err(Stop::failed(miette::miette!(
            "cannot caption `{}` ({stage}: {code})\n  because: {}",
            outcome.video.uri,
            failure.reason
        )));
    }
    Ok(())
}

/// The clips that were asked for.
fn clips(arguments: &CaptionArguments) -> Result<Vec<TimeSpan>, Stop> {
    let mut clips = arguments.clips.clone();
    if let Some(path) = &arguments.bounds {
        let text = std::fs::read_to_string(path)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot read `{}`", path.display()))
            .map_err(Stop::bad_job)?;
        clips.extend(bounds(&text).map_err(|problem| {
            Stop::bad_job(miette::miette!(
                help = "expected a list of pairs of seconds, such as [[10, 20], [31.5, 40]]",
                "`{}` holds no clips: {problem}",
                path.display()
            ))
        })?);
    }
    let is_asked = arguments.form == Form::Clips;
    match (is_asked, clips.is_empty()) {
        (true, true) => Err(Stop::bad_job(miette::miette!(
            help = "give --clip 0:10-0:20, or --clips BOUNDS.json",
            "no clips are given"
        ))),
        (false, false) => Err(Stop::bad_job(miette::miette!(
            help = "add --as clips",
            "clips are given, and not asked for"
        ))),
        _ => Ok(clips),
    }
}

/// Pairs of seconds as spans.
fn bounds(text: &str) -> Result<Vec<TimeSpan>, String> {
    let pairs: Vec<[f64; 2]> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    #[expect(clippy::cast_possible_truncation, reason = "a cast of floats saturates")]
    let micros = |seconds: f64| (seconds * 1e6).round() as i64;
    let span = |[start, end]: [f64; 2]| {
        let span = TimeSpan::new(micros(start), micros(end));
        let is_fine = start >= 0.0 && span.duration_us() > 0;
        is_fine.then_some(span).ok_or_else(|| format!("[{start}, {end}] is no span of a video"))
    };
    pairs.into_iter().map(span).collect()
}

/// The video with its words.
async fn video(arguments: &CaptionArguments, stores: &Stores) -> Result<Video, Stop> {
    let uri = absolute(&arguments.video)?;
    let found = video_at(stores, &uri).await;
    let mut video = found.map_err(|error| Stop::bad_job(explained(&error.into())))?;
    if let Some(transcript) = &arguments.transcript {
        let extension = transcript.rsplit_once('.').map_or("", |(_, extension)| extension);
        let format = SidecarFormat::from_extension(extension).ok_or_else(|| {
            let help = "expected a file that ends in `.vtt`, `.srt` or `.json`";
            Stop::bad_job(miette::miette!(help = help, "`{transcript}` is no transcript"))
        })?;
        let at = stores.open(&absolute(transcript)?);
        let at = at.map_err(|error| Stop::bad_job(explained(&error.into())))?;
        video.sidecars = vec![Sidecar { uri: at.uri, format, language: None }];
    }
    Ok(video)
}

fn how(arguments: &CaptionArguments) -> Result<How, Stop> {
    let (source, model) = match arguments.source {
        Source::Speech => (CaptioningSource::Speech, None),
        Source::Vid2seq => {
            let bundle = arguments.bundle.as_deref().ok_or_else(|| {
                let help = "give --bundle, or --source speech for what is said";
                Stop::bad_job(miette::miette!(help = help, "no model bundle is given"))
            })?;
            let model = ModelOptions {
                bundle: absolute(bundle)?,
                device: arguments.device,
                threads: arguments.threads,
                allow_untrained: arguments.allow_untrained,
            };
            (CaptioningSource::Vid2Seq, Some(model))
        }
    };
    let mut transcripts = vec![TranscriptOption::Sidecar, TranscriptOption::Embedded];
    let speech = match &arguments.speech_bundle {
        Some(bundle) => {
            transcripts.push(TranscriptOption::Asr);
            Some(SpeechOptions {
                bundle: absolute(bundle)?,
                device: arguments.device,
                threads: arguments.threads,
                listening: ListeningOptions::default(),
            })
        }
        None => None,
    };
    Ok(How {
        transcripts,
        captioning: CaptioningOptions { source, ..CaptioningOptions::default() },
        limits: LimitOptions::default(),
        model,
        speech,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::minutes("1:30-1:42.5", Some((90_000_000, 102_500_000)))]
    #[case::seconds("0-7", Some((0, 7_000_000)))]
    #[case::backwards("0:20-0:10", None)]
    #[case::empty("0:20-0:20", None)]
    #[case::one_moment("0:20", None)]
    #[case::words("start-end", None)]
    fn clips_are_two_moments(#[case] text: &str, #[case] expected: Option<(i64, i64)>) {
        let expected = expected.map(|(start, end)| TimeSpan::new(start, end));
        assert_eq!(clip(text).ok(), expected);
    }

    #[rstest]
    #[case::pairs("[[10, 20], [31.5, 40]]", Some(2))]
    #[case::none("[]", Some(0))]
    #[case::backwards("[[20, 10]]", None)]
    #[case::before_the_start("[[-1, 10]]", None)]
    #[case::triples("[[1, 2, 3]]", None)]
    #[case::another_shape("{\"start\": 1}", None)]
    fn bounds_are_pairs_of_seconds(#[case] text: &str, #[case] expected: Option<usize>) {
        assert_eq!(bounds(text).ok().map(|clips| clips.len()), expected);
    }
}
