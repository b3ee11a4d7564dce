//! How long the parts of a model take, each in one process on one thread: what `cargo xtask bench model` sets beside other
//! programs. What they answer comes along, to be compared.

use std::path::Path;
use std::time::Instant;

use eventide_model::Bundle;
use eventide_model::beam::{self, Hypothesis, SearchOptions, Step};
use eventide_model::manifest::Decoding;
use eventide_model::runtime::{Runtime, SessionOptions};
use eventide_model::{Vid2Seq, WindowInput};
use eventide_training::inputs::Inputs;
use ndarray::{Array2, ArrayView2};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::scrambled;
use crate::tools::tools;

/// How sequences are generated.
#[derive(Debug, Clone)]
pub struct Generation {
    /// Hypotheses that are kept.
    pub beams: u32,
    /// Most tokens of each.
    pub tokens: u32,
    /// Windows that share a run of the decoder, at most
    /// [`WINDOWS_PER_RUN`](eventide_model::vid2seq::WINDOWS_PER_RUN).
    pub together: usize,
}

/// Encodes the pictures of a file of [`Inputs`] `runs` times, after once that is not timed: an object of `seconds` `[runs]`
/// and `features` `[pictures, dim]`.
///
/// # Errors
/// [`Error::MissingTool`], [`Error::Model`] where the bundle or the file is of no use.
pub fn encode(bundle: &Path, inputs: &Path, runs: usize) -> Result<Value> {
    let mut model = load(bundle)?;
    let inputs = read(bundle, inputs)?;
    let (count, pictures) = inputs.frames.unwrap_or_default();
    let (features, seconds) = timed(runs, || {
        let encoded = model.encode_frames(&pictures, count, &|| false);
        encoded.map_err(|error| unusable(bundle, error))
    })?;
    let features: Vec<_> = features.rows().into_iter().map(|row| row.to_vec()).collect();
    Ok(json!({ "seconds": seconds, "features": features }))
}

/// Generates sequences for the windows of a file of [`Inputs`] `runs` times, after once that is not timed: an object of
/// `seconds` `[runs]`, `rows` with the `tokens`, `log_probabilities` and `sum` of the best of each, and `search_seconds`
/// `[runs]`, what the search for one window takes where logits cost nothing.
///
/// # Errors
/// As [`encode`].
pub fn generate(
    bundle: &Path,
    inputs: &Path,
    generation: &Generation,
    runs: usize,
) -> Result<Value> {
    let mut model = load(bundle)?;
    let pad = i64::from(model.manifest().text.pad_id);
    let windows = windows(read(bundle, inputs)?, pad);
    let &Generation { beams, tokens, together } = generation;
    let decoding =
        Decoding { beams, max_output_tokens: tokens, ..model.manifest().decoding.clone() };
    let (rows, seconds) = timed(runs, || -> Result<_> {
        let mut rows = Vec::with_capacity(windows.len());
        for windows in windows.chunks(together.max(1)) {
            let found = model.generate(windows, &decoding, &|| false);
            rows.extend(found.map_err(|error| unusable(bundle, error))?);
        }
        Ok(rows)
    })?;
    let (_, search_seconds) = search(&model, &decoding, runs).map_err(|e| unusable(bundle, e))?;
    let rows: Vec<_> = rows.iter().filter_map(|found| found.first()).map(described).collect();
    Ok(json!({ "seconds": seconds, "rows": rows, "search_seconds": search_seconds }))
}

fn described(best: &Hypothesis) -> Value {
    json!({ "tokens": best.tokens, "log_probabilities": best.log_probabilities, "sum": best.sum })
}

/// A decoder that says the same at each step, whatever it reads.
struct Drawn(Array2<f32>);

impl Step for Drawn {
    fn step(&mut self, _: &[i64], _: &[i64]) -> eventide_model::Result<ArrayView2<'_, f32>> {
        Ok(self.0.view())
    }

    fn keep(&mut self, _: &[usize]) -> eventide_model::Result<()> {
        Ok(()) // it has one row
    }
}

/// The search of one window over logits of the model's vocabulary that cost nothing.
fn search(
    model: &Vid2Seq,
    decoding: &Decoding,
    runs: usize,
) -> eventide_model::Result<(Vec<Vec<Hypothesis>>, Vec<f64>)> {
    let manifest = model.manifest();
    let shape = (decoding.beams as usize, manifest.t5.vocab_size as usize);
    let mut state = 0;
    let mut drawn = Drawn(Array2::from_shape_simple_fn(shape, || {
        state = scrambled(state);
        // About 0, as far as logits are: each the sum of four numbers, which is nearly normal.
        let parts = state.to_le_bytes().chunks(2).map(|part| f32::from(part[0])).sum::<f32>();
        (parts - 510.0) / 50.0
    }));
    let options = SearchOptions {
        beams: shape.0,
        length_penalty: decoding.length_penalty.into(),
        max_tokens: decoding.max_output_tokens as usize,
        scoring: decoding.scoring,
        start_id: manifest.text.pad_id.into(),
        eos_id: manifest.text.eos_id.into(),
    };
    timed(runs, || beam::search(&mut drawn, 1, &options))
}

/// Does it once, and then `runs` times by the clock; gives the last answer, and the seconds of each.
fn timed<T, E>(
    runs: usize,
    mut work: impl FnMut() -> std::result::Result<T, E>,
) -> std::result::Result<(T, Vec<f64>), E> {
    let mut answer = work()?;
    let mut seconds = Vec::with_capacity(runs);
    for _ in 0..runs {
        let started = Instant::now();
        answer = work()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    Ok((answer, seconds))
}

fn load(folder: &Path) -> Result<Vid2Seq> {
    let library = tools()?.onnx_runtime()?;
    let options = SessionOptions { threads: 1, ..SessionOptions::default() };
    let load = || {
        let runtime = Runtime::load(&library)?;
        Vid2Seq::load(&Bundle::open(folder)?, &runtime, &options)
    };
    load().map_err(|error| unusable(folder, error))
}

fn read(bundle: &Path, inputs: &Path) -> Result<Inputs> {
    let wrong = |source| Error::Model { path: bundle.to_path_buf(), source: Box::new(source) };
    Inputs::read(inputs).map_err(wrong)
}

fn unusable(bundle: &Path, error: eventide_model::Error) -> Error {
    let source = eventide_training::Error::Model { source: Box::new(error) };
    Error::Model { path: bundle.to_path_buf(), source: Box::new(source) }
}

/// The windows of some inputs; ids that only fill up a row are left out.
fn windows(inputs: Inputs, pad: i64) -> Vec<WindowInput> {
    let mut windows = vec![WindowInput::default(); inputs.rows];
    for (window, features) in windows.iter_mut().zip(inputs.features.into_iter().flatten()) {
        window.features = Some(features);
    }
    for (window, ids) in windows.iter_mut().zip(inputs.input_ids.into_iter().flatten()) {
        let length = ids.iter().rposition(|&id| id != pad).map_or(0, |last| last + 1);
        window.input_ids = Some(ids[..length].to_vec());
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundles;

    #[test]
    fn windows_that_share_a_run_say_what_they_say_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (bundle, words) = (folder.path().join("bundle"), folder.path().join("words"));
        bundles::tiny(&bundle, 1).unwrap();
        write_words(&words);
        let said = |together| {
            let generation = Generation { beams: 3, tokens: 5, together };
            generate(&bundle, &words, &generation, 2).unwrap()
        };
        let (alone, shared) = (said(1), said(2));
        assert_eq!(alone["seconds"].as_array().unwrap().len(), 2);
        assert_eq!(alone["search_seconds"].as_array().unwrap().len(), 2);
        assert_eq!(alone["rows"].as_array().unwrap().len(), 3);
        assert_eq!(alone["rows"], shared["rows"]);
    }

    /// Three windows of four, four and two words, as safetensors: a length, a header, the data.
    fn write_words(path: &Path) {
        let ids: Vec<u8> = (10..20_i64).chain([0, 0]).flat_map(i64::to_le_bytes).collect();
        let header =
            r#"{"input_ids":{"dtype":"I64","shape":[3,4],"data_offsets":[0,96]}}"#.as_bytes();
        let length = u64::try_from(header.len()).unwrap().to_le_bytes();
        std::fs::write(path, [&length, header, &ids].concat()).unwrap();
    }
}
