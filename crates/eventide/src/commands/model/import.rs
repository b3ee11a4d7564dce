//! `eventide model import`: a released checkpoint becomes a bundle.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use eventide_model::{Bundle, manifest::Precision};
use eventide_training::{
    Error, Style,
    import::Given,
    released::{Imported, Release},
    sentence::SentenceRelease,
    whisper::WhisperRelease,
};
use serde_json::json;

use super::{
    inspect::{Described, describe, describe_sentence, describe_speech},
    load_runtime, precisions,
};
use crate::{
    arguments::{Format, ToolArguments},
    commands::Stop,
    environment, report,
};

/// Arguments of `model import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// The checkpoint of VidChapters: temporal encoder and T5. A pickle is read, never run.
    #[arg(long, value_name = "CHECKPOINT.pth", requires_all = ["clip", "tokenizer"])]
    vid2seq: Option<PathBuf>,
    /// The CLIP model: OpenAI's `.pt` (also TorchScript), or `.safetensors` with OpenAI's or Hugging
    /// Face's names.
    #[arg(long, value_name = "CLIP", requires = "vid2seq")]
    clip: Option<PathBuf>,
    /// The SentencePiece model that the checkpoint was trained with.
    #[arg(long, value_name = "spiece.model", requires = "vid2seq")]
    tokenizer: Option<PathBuf>,
    /// A folder of Whisper as Hugging Face has it: `model.safetensors`, `config.json`, `tokenizer.json` and
    /// `generation_config.json`. The bundle recognises speech.
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present_any = ["vid2seq", "text_encoder"],
        conflicts_with = "vid2seq"
    )]
    whisper: Option<PathBuf>,
    /// A folder of a text encoder as sentence-transformers has it: a BERT with mean pooling, such as MiniLM, with
    /// `model.safetensors`, `config.json` and `tokenizer.json`. The bundle makes vectors of captions.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["vid2seq", "whisper"])]
    text_encoder: Option<PathBuf>,
    /// Silero's voice detector, `silero_vad_16k_sequence.onnx` of the package `silero-vad`. If not given, that
    /// beside the Whisper, or that of the tools.
    #[arg(long, value_name = "VAD.onnx", requires = "whisper")]
    voice: Option<PathBuf>,
    /// The folder of the bundle, which must not be there yet.
    #[arg(long, value_name = "BUNDLE")]
    out: PathBuf,
    /// The name of the bundle: lower-case letters, digits, `-` and `.`. If not given, that of the
    /// checkpoint.
    #[arg(long, value_name = "ID")]
    name: Option<String>,
    /// SPDX expression of the weights' licence.
    #[arg(long, value_name = "SPDX", default_value = "NOASSERTION")]
    licence: String,
    /// Rows of the vocabulary, the last ones, that are time tokens.
    #[arg(long, value_name = "N", default_value_t = 100)]
    time_tokens: u32,
    /// Attention heads of the temporal encoder, which no tensor tells.
    #[arg(long, value_name = "N", default_value_t = Given::default().temporal_heads)]
    temporal_heads: u32,
    /// Attention heads of the CLIP model. If not given, one for each 64 of its width, as in OpenAI's.
    #[arg(long, value_name = "N")]
    clip_heads: Option<u32>,
    /// How the weights are to lie in the bundle: as floats of 32 or 16 bits, or as whole numbers of 8.
    #[arg(
        long,
        default_value = "fp32",
        value_parser = precisions([Precision::Fp32, Precision::Fp16, Precision::Int8])
    )]
    precision: Precision,
    /// How the result is printed.
    #[arg(long, default_value = "text")]
    format: Format,
    /// What runs the bundle once, on its golden clip or sound.
    #[command(flatten)]
    tools: ToolArguments,
}

pub(super) fn run(arguments: &ImportArguments) -> Result<ExitCode, Stop> {
    if let Some(folder) = &arguments.whisper {
        return import_whisper(arguments, folder);
    }
    if let Some(folder) = &arguments.text_encoder {
        return import_text_encoder(arguments, folder);
    }
    // The parser lets none of these be left out.
    let [vid2seq, clip, tokenizer] = [&arguments.vid2seq, &arguments.clip, &arguments.tokenizer]
        .map(|path| path.clone().unwrap_or_default());
    let release = Release {
        model_id: arguments.name.clone().unwrap_or_else(|| name_after(&vid2seq)),
        vid2seq,
        clip,
        tokenizer,
        licence: arguments.licence.clone(),
        time_tokens: arguments.time_tokens,
        given: Given {
            vision_heads: arguments.clip_heads,
            temporal_heads: arguments.temporal_heads,
            ..Given::default()
        },
    };
    let runtime = load_runtime(&arguments.tools)?;
    let imported = release
        .import(&arguments.out, Style::default(), arguments.precision, &runtime)
        .map_err(|error| stop(&error))?;
    let Imported { manifest, parameters, tensors } = imported;
    let Described { mut rows, mut document } = describe(&manifest);
    rows.insert(0, ("bundle", arguments.out.display().to_string()));
    rows.insert(1, ("read", format!("{tensors} tensors, {parameters} parameters")));
    document["bundle"] = json!(arguments.out);
    document["digest"] = json!(Bundle::digest_of(&manifest));
    document["tensors"] = json!(tensors);
    report::described(&rows, &document, arguments.format).map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}

/// A speech bundle out of a release of Whisper.
fn import_whisper(arguments: &ImportArguments, folder: &Path) -> Result<ExitCode, Stop> {
    let voice = environment::voice_detector(arguments.voice.as_deref(), folder, &arguments.tools);
    let release = WhisperRelease {
        folder: folder.to_owned(),
        voice: voice.map_err(Stop::bad_job)?,
        model_id: name_of_folder(arguments, folder),
        licence: arguments.licence.clone(),
    };
    let runtime = load_runtime(&arguments.tools)?;
    let manifest = release
        .import(&arguments.out, Style::default(), arguments.precision, &runtime)
        .map_err(|error| stop(&error))?;
    let Described { mut rows, mut document } = describe_speech(&manifest);
    rows.insert(0, ("bundle", arguments.out.display().to_string()));
    document["bundle"] = json!(arguments.out);
    report::described(&rows, &document, arguments.format).map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}

/// A sentence bundle out of a release of a text encoder.
fn import_text_encoder(arguments: &ImportArguments, folder: &Path) -> Result<ExitCode, Stop> {
    let release = SentenceRelease {
        folder: folder.to_owned(),
        model_id: name_of_folder(arguments, folder),
        licence: arguments.licence.clone(),
    };
    let runtime = load_runtime(&arguments.tools)?;
    let manifest = release
        .import(&arguments.out, Style::default(), arguments.precision, &runtime)
        .map_err(|error| stop(&error))?;
    let Described { mut rows, mut document } = describe_sentence(&manifest);
    rows.insert(0, ("bundle", arguments.out.display().to_string()));
    document["bundle"] = json!(arguments.out);
    report::described(&rows, &document, arguments.format).map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}

/// The name that was given, else that of the folder of a release.
fn name_of_folder(arguments: &ImportArguments, folder: &Path) -> String {
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let own = || name_of(whole.file_name().unwrap_or_default());
    arguments.name.clone().unwrap_or_else(own)
}

/// The name of a file, as far as it can be that of a bundle.
fn name_after(path: &Path) -> String {
    name_of(path.file_stem().unwrap_or_default())
}

/// A name, as far as it can be that of a bundle.
fn name_of(name: &OsStr) -> String {
    let stem = name.to_string_lossy().to_ascii_lowercase();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.';
    let name: String = stem.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    name.trim_matches('-').to_owned()
}

fn stop(error: &Error) -> Stop {
    let help = match error {
        Error::Divide { part: "temporal.dim", .. } => {
            "say how many heads there are: --temporal-heads"
        }
        Error::Divide { part: "vision.width", .. } => "say how many heads there are: --clip-heads",
        Error::Vocabulary { .. } => {
            "give the tokenizer that the checkpoint was trained with, and --time-tokens if they are not 100"
        }
        Error::Exists { .. } => {
            "a bundle is never written over: name another folder, or remove this one"
        }
        Error::Pickle { .. } => {
            "only weights are read: save the `state_dict()` of the model, not the model itself"
        }
        Error::Write { .. } | Error::Run { .. } => return super::failed(error),
        _ => return super::unusable(error),
    };
    Stop::bad_job(miette::miette!(help = help, "{}", crate::commands::chain(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("/models/vid2seq_htmchapters_YouCook2.pth", "vid2seq-htmchapters-youcook2")]
    #[case("best model (2).pth", "best-model--2")]
    #[case("..", "")]
    fn bundles_are_named_after_checkpoints(#[case] path: &str, #[case] expected: &str) {
        assert_eq!(name_after(Path::new(path)), expected);
    }
}
