//! `eventide model run`: the bare network on tensors that someone else has computed.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};
use eventide_catalog::Stores;
use eventide_model::{Hypothesis, Vid2Seq, WindowInput, manifest::Decoding, vid2seq::Memory};
use eventide_training::inputs::Inputs;
use ndarray::Axis;
use serde_json::{Value, json};

use super::{BundleArguments, DeviceArguments, failed, load, open, unusable};
use crate::{arguments::Format, commands::Stop, report};

/// Arguments of `model run`.
#[derive(Debug, Args)]
#[command(after_help = INPUTS)]
pub(crate) struct RunArguments {
    /// The bundle.
    #[command(flatten)]
    bundle: BundleArguments,
    /// The tensors.
    #[arg(long, value_name = "X.safetensors")]
    inputs: PathBuf,
    /// Hypotheses that are kept, instead of the bundle's own number; 1 is greedy.
    #[arg(long, value_name = "N")]
    beams: Option<u32>,
    /// Exponent of the length in the score, instead of the bundle's own.
    #[arg(long, value_name = "F")]
    length_penalty: Option<f32>,
    /// Most tokens that are generated, instead of the bundle's own number.
    #[arg(long, value_name = "N")]
    max_output_tokens: Option<u32>,
    /// Leave the other out.
    #[arg(long)]
    only: Option<Sense>,
    /// Also print what the decoder looks at. Needs --format json.
    #[arg(long)]
    memory: bool,
    /// Also print the logits of the first step. Needs --format json.
    #[arg(long)]
    logits: bool,
    /// What runs it.
    #[command(flatten)]
    device: DeviceArguments,
}

/// What a window is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sense {
    /// Its frames.
    Video,
    /// Its words.
    Speech,
}

const INPUTS: &str = "\
The file holds `video` [rows, frames, dim] (features, floats), or `frames`
[frames, side, side, 3] (RGB bytes, one row), and `input_ids` [rows, tokens].
`feature_count` [rows] says how many features of each row of `video` there are;
without it there are as many as rows of features. Missing frames are zero, as in
training. Tokens are printed without the start
token and with the end.";

pub(super) async fn run(arguments: &RunArguments, stores: &Stores) -> Result<ExitCode, Stop> {
    if (arguments.memory || arguments.logits) && arguments.bundle.format == Format::Text {
        let help = "add --format json";
        return Err(Stop::bad_job(miette::miette!(
            help = help,
            "--memory and --logits are printed as JSON only"
        )));
    }
    let inputs = Inputs::read(&arguments.inputs).map_err(|error| unusable(&error))?;
    let bundle = open(&arguments.bundle, stores).await?;
    let mut model = load(&bundle, &arguments.device)?;
    let windows = windows(&mut model, inputs, arguments).map_err(|error| stop(&error))?;
    let decoding = decoding(arguments, &bundle.manifest().decoding);
    let answers = windows
        .iter()
        .map(|window| answer(&mut model, window, &decoding, arguments))
        .collect::<eventide_model::Result<Vec<_>>>()
        .map_err(|error| stop(&error))?;
    let numbered = answers.iter().enumerate().flat_map(|(row, (lines, _))| {
        std::iter::once(("row", row.to_string())).chain(lines.iter().cloned())
    });
    let rows: Vec<_> = numbered.collect();
    let document = json!({
        "model_id": bundle.manifest().model_id,
        "digest": bundle.digest(),
        "device": arguments.device.device.to_string(),
        "rows": answers.iter().map(|(_, document)| document).collect::<Vec<_>>(),
    });
    report::described(&rows, &document, arguments.bundle.format).map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}

/// A window that does not fit the model is the caller's mistake; anything else is a failure.
fn stop(error: &eventide_model::Error) -> Stop {
    use eventide_model::Error;
    let is_mistaken = matches!(error, Error::Decoding { .. })
        || (error.reason_code().is_some() && !matches!(error, Error::Logits { .. }));
    if is_mistaken { unusable(error) } else { failed(error) }
}

/// The inputs of each row, without what is to be left out.
fn windows(
    model: &mut Vid2Seq,
    inputs: Inputs,
    arguments: &RunArguments,
) -> eventide_model::Result<Vec<WindowInput>> {
    let mut windows = vec![WindowInput::default(); inputs.rows];
    if arguments.only != Some(Sense::Speech) {
        let features = match inputs.frames {
            Some((count, pictures)) => {
                Some(vec![model.encode_frames(&pictures, count, &|| false)?])
            }
            None => inputs.features,
        };
        for (window, features) in windows.iter_mut().zip(features.into_iter().flatten()) {
            window.features = Some(features);
        }
    }
    if arguments.only != Some(Sense::Video) {
        for (window, ids) in windows.iter_mut().zip(inputs.input_ids.into_iter().flatten()) {
            window.input_ids = Some(ids);
        }
    }
    Ok(windows)
}

fn decoding(arguments: &RunArguments, default: &Decoding) -> Decoding {
    Decoding {
        beams: arguments.beams.unwrap_or(default.beams),
        length_penalty: arguments.length_penalty.unwrap_or(default.length_penalty),
        max_output_tokens: arguments.max_output_tokens.unwrap_or(default.max_output_tokens),
        scoring: default.scoring,
    }
}

/// What the model says to one window, as lines and as an object.
fn answer(
    model: &mut Vid2Seq,
    window: &WindowInput,
    decoding: &Decoding,
    arguments: &RunArguments,
) -> eventide_model::Result<(Vec<(&'static str, String)>, Value)> {
    let one = std::slice::from_ref(window);
    let greedy = Decoding { beams: 1, ..decoding.clone() };
    let mut generated = |decoding: &Decoding| -> eventide_model::Result<Vec<Hypothesis>> {
        Ok(model.generate(one, decoding, &|| false)?.into_iter().flatten().collect())
    };
    let (greedy, beams) = (generated(&greedy)?, generated(decoding)?);
    let mut lines = Vec::new();
    let mut described = |label, hypotheses: &[Hypothesis]| {
        hypotheses
            .iter()
            .map(|hypothesis| {
                let text = model.tokenizer().decode(&hypothesis.tokens)?;
                let line = format!("{:.4}  {:?}  {text}", hypothesis.score, hypothesis.tokens);
                lines.push((label, line));
                Ok(json!({
                    "tokens": hypothesis.tokens,
                    "log_probabilities": hypothesis.log_probabilities,
                    "sum": hypothesis.sum,
                    "score": hypothesis.score,
                    "finished": hypothesis.finished,
                    "text": text,
                }))
            })
            .collect::<eventide_model::Result<Vec<_>>>()
    };
    let mut document = json!({
        "greedy": described("greedy", &greedy)?.into_iter().next(),
        "hypotheses": described("beam", &beams)?,
    });
    if arguments.memory {
        document["memory"] = memory(&model.encode(one)?);
    }
    if arguments.logits {
        let end = i64::from(model.manifest().text.eos_id);
        let logits = model.teacher_forced(window, &[end], &|| false)?;
        document["first_step_logits"] = logits.iter().copied().collect();
    }
    Ok((lines, document))
}

/// The memory of one window: its rows, and for each whether the decoder may look.
fn memory(memory: &Memory) -> Value {
    let rows = memory
        .rows
        .axis_iter(Axis(0))
        .flat_map(|window| window.rows().into_iter().map(|row| row.to_vec()).collect::<Vec<_>>());
    json!({
        "rows": rows.collect::<Vec<_>>(),
        "mask": memory.mask.iter().copied().collect::<Vec<_>>(),
    })
}
