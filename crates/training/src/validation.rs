//! What a model in training would say, and how good that is.

use eventide_eval::{
    Annotations, Corpus, Event, MeteorNative, Unpredicted,
    dense::captions,
    localisation::localisation,
    soda::{SodaOptions, soda_c},
};
use eventide_model::{
    input::input_ids,
    manifest::Decoding,
    parse::Parsed,
    vid2seq::{Vid2Seq, WindowInput},
};
use eventide_schema::{Cue, TimeSpan};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    trainer::{Sample, Shown},
};

/// Scores on a validation set. The captions are judged by our own METEOR, which has no paraphrases.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// `SODA_c` with `meteor_native`.
    pub soda_c: f64,
    /// CIDEr over matched pairs, the mean over the thresholds.
    pub cider: f64,
    /// F1 of mean precision and mean recall at each tIoU, the mean over 0.3, 0.5, 0.7 and 0.9.
    pub f1: f64,
    /// Mean precision.
    pub precision: f64,
    /// Mean recall.
    pub recall: f64,
}

/// The events that `model` tells of each sample.
///
/// # Errors
/// [`Error::Run`].
pub fn predict(
    model: &mut Vid2Seq,
    samples: &[Sample],
    shown: Shown,
    decoding: &Decoding,
) -> Result<Vec<Vec<Cue>>> {
    let windows: Vec<WindowInput> =
        samples.iter().map(|sample| window(model, sample, shown)).collect::<Result<_>>()?;
    let found = model.generate(&windows, decoding, &|| false)?;
    let events = found.iter().zip(samples).map(|(hypotheses, sample)| {
        let Some(best) = hypotheses.first() else { return Ok(Vec::new()) };
        Ok(match model.parse(best, sample.example.duration_us())? {
            Parsed::Events(events) => events
                .into_iter()
                .map(|event| Cue {
                    span: TimeSpan { start_us: event.span.start_us, end_us: event.span.end_us },
                    text: event.caption,
                })
                .collect(),
            Parsed::Nothing(_) => Vec::new(),
        })
    });
    events.collect()
}

/// What `model` tells of each sentence that is said in each sample, of which it gets to see no more than that: an event
/// with the sentence's bounds, if it tells anything.
///
/// # Errors
/// [`Error::Run`].
pub fn predict_sentences(
    model: &mut Vid2Seq,
    samples: &[Sample],
    shown: Shown,
    decoding: &Decoding,
) -> Result<Vec<Vec<Cue>>> {
    let mut of_sample = |sample: &Sample| {
        let alone = |example| Sample { example, features: sample.features.clone() };
        let clips: Vec<Sample> = sample.example.clips().into_iter().map(alone).collect();
        let told = predict(model, &clips, shown, decoding)?;
        let cues = clips.iter().zip(told).filter_map(|(clip, told)| {
            let captions: Vec<String> = told.into_iter().map(|cue| cue.text).collect();
            let from_start = clip.example.span.start_us - sample.example.span.start_us;
            let span = clip.example.speech.first()?.span.shifted(from_start);
            (!captions.is_empty()).then(|| Cue { span, text: captions.join(" ") })
        });
        Ok(cues.collect())
    };
    samples.iter().map(&mut of_sample).collect()
}

fn window(model: &Vid2Seq, sample: &Sample, shown: Shown) -> Result<WindowInput> {
    let ids = if shown.speech {
        Some(input_ids(model.tokenizer(), &sample.example.speech, sample.example.duration_us())?)
    } else {
        None
    };
    let features = shown.video.then(|| sample.seen(&model.manifest().frames));
    Ok(WindowInput { features, input_ids: ids })
}

/// Scores of what was predicted for `samples`, against all annotators of each.
///
/// # Errors
/// [`Error::Scores`].
pub fn scores(predicted: &[Vec<Cue>], samples: &[Sample]) -> Result<Scores> {
    let named = |cues: &mut dyn Iterator<Item = Option<&Vec<Cue>>>| -> Result<Annotations> {
        let mut annotations = Annotations::new();
        for (number, cues) in cues.enumerate() {
            let Some(cues) = cues else { continue };
            let events = cues.iter().map(event).collect();
            annotations.insert(&format!("{number:06}"), events).map_err(failed)?;
        }
        Ok(annotations)
    };
    let predictions = named(&mut predicted.iter().map(Some))?;
    let told_by = |sample: &Sample| sample.example.references.len();
    let annotators = samples.iter().map(told_by).max().unwrap_or(0);
    let of = |annotator: usize| {
        named(&mut samples.iter().map(|sample| sample.example.references.get(annotator)))
    };
    let references = (0..annotators).map(of).collect::<Result<Vec<_>>>()?;
    let corpus = Corpus::join(&predictions, &references, Unpredicted::Empty).map_err(failed)?;
    let found = localisation(&corpus).f1_of_means;
    let mut meteor = MeteorNative::new();
    let soda = soda_c(&corpus, SodaOptions::default(), &mut meteor).map_err(failed)?;
    let captions = captions(&corpus, &mut []).map_err(failed)?;
    Ok(Scores {
        soda_c: soda.average.f1,
        cider: captions.average.cider,
        f1: found.f1,
        precision: found.precision,
        recall: found.recall,
    })
}

fn event(cue: &Cue) -> Event {
    #[expect(clippy::cast_precision_loss, reason = "videos are far shorter than 2^52 microseconds")]
    let seconds = |at: i64| at as f64 / 1e6;
    Event::new(seconds(cue.span.start_us), seconds(cue.span.end_us), &cue.text)
}

fn failed(source: eventide_eval::Error) -> Error {
    Error::Scores { source: Box::new(source) }
}
