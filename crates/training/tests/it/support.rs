//! Golden tensors, bundles made of them, and one loop that decodes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use eventide_model::{
    manifest::{Manifest, files},
    runtime::{Runtime, Session, SessionOptions, Tensor},
};
use eventide_training::{
    Style,
    bundle::write_bundle,
    checkpoint::Checkpoint,
    import::{Given, import_t5, import_temporal, import_vision},
    presets,
    weights::Weights,
};
use ndarray::{Array, Array1, Array2, ArrayD, Axis, Dimension, IxDyn};
use safetensors::{Dtype, SafeTensors};
use tempfile::TempDir;

/// What float32 may differ from the reference by, on hidden states and logits.
pub(crate) const TOLERANCE: f32 = 1e-4;

pub(crate) fn golden(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/golden")).join(path)
}

pub(crate) fn runtime() -> Runtime {
    let tools = std::env::var_os("EVENTIDE_TOOLS").map(PathBuf::from).unwrap_or_default();
    let library = tools.join("libonnxruntime.so");
    assert!(library.exists(), "no `{}`: run `cargo xtask setup`", library.display());
    Runtime::load(&library).unwrap()
}

/// A file of golden tensors.
pub(crate) struct Expected(Vec<u8>);

impl Expected {
    pub(crate) fn open(path: &str) -> Self {
        Self(fs::read(golden(path)).unwrap())
    }

    fn read<const N: usize, T>(&self, name: &str, value: impl Fn([u8; N]) -> T) -> ArrayD<T> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap();
        let values = tensor.data().as_chunks().0.iter().map(|chunk| value(*chunk)).collect();
        ArrayD::from_shape_vec(IxDyn(tensor.shape()), values).unwrap()
    }

    pub(crate) fn floats(&self, name: &str) -> ArrayD<f32> {
        self.read(name, f32::from_le_bytes)
    }

    pub(crate) fn bytes(&self, name: &str) -> ArrayD<u8> {
        self.read(name, |[byte]| byte)
    }

    pub(crate) fn ids(&self, name: &str) -> Array2<i64> {
        let ids = self.read(name, |bytes| i64::from(i32::from_le_bytes(bytes)));
        ids.into_dimensionality().unwrap()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        file.tensor(name).is_ok_and(|tensor| tensor.dtype() != Dtype::BOOL)
    }
}

/// Fails unless both have one shape and differ nowhere by more than `tolerance`.
#[track_caller]
pub(crate) fn assert_close(found: &ArrayD<f32>, expected: &ArrayD<f32>, tolerance: f32) {
    assert_eq!(found.shape(), expected.shape());
    let worst = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
    let worst = worst.fold(0.0_f32, |worst, difference| {
        if difference.is_nan() { f32::INFINITY } else { worst.max(difference) }
    });
    assert!(worst <= tolerance, "differs by {worst}");
}

/// A bundle on the disk, gone when it is dropped.
pub(crate) struct Bundle {
    pub(crate) manifest: Manifest,
    folder: TempDir,
}

impl Bundle {
    pub(crate) fn write(manifest: Manifest, weights: &Weights, style: Style) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = fs::read(golden("vid2seq-tiny/spiece.model")).unwrap();
        let path = folder.path().join("bundle");
        write_bundle(&path, &manifest, weights, &tokenizer, style).unwrap();
        Self { manifest, folder }
    }

    /// The golden vision encoder, temporal encoder and one of the golden T5s in one bundle.
    pub(crate) fn of_parts(t5: &str, style: Style) -> Self {
        let given = Given { vision_heads: Some(4), temporal_heads: 4, ..Given::default() };
        let open =
            |name: &str| Checkpoint::read(&golden(&format!("{name}/model.safetensors"))).unwrap();
        let (t5, mut weights) = import_t5(&open(t5).prefixed("t5_model."), &given).unwrap();
        let temporal = open("temporal-tiny").prefixed("visual_encoder.");
        let (temporal, more) = import_temporal(&temporal, t5.d_model, &given).unwrap();
        weights.extend(more);
        let (vision, more) = import_vision(&open("clip-vision-tiny"), &given).unwrap();
        weights.extend(more);
        Self::write(Manifest { vision, temporal, t5, ..presets::tiny() }, &weights, style)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("bundle")
    }

    pub(crate) fn session(&self, graph: &str) -> Session {
        let options = SessionOptions { threads: 1, ..SessionOptions::default() };
        runtime().open(&self.path().join(graph), &options).unwrap()
    }
}

pub(crate) fn tensor<T: eventide_model::runtime::Element, D: Dimension + 'static>(
    array: &Array<T, D>,
) -> Tensor {
    Tensor::from_array(array.clone()).unwrap()
}

/// Runs a graph with one output that is read.
pub(crate) fn run(session: &mut Session, inputs: &[(&str, &Tensor)], output: &str) -> ArrayD<f32> {
    let mut outputs = session.run(inputs).unwrap();
    outputs.take(output).unwrap().view::<f32>().unwrap().to_owned()
}

/// `memory` of the text encoder.
pub(crate) fn encode(bundle: &Bundle, ids: &Array2<i64>, mask: &Array2<i64>) -> ArrayD<f32> {
    // A session first: tensors need the library that it loads.
    let mut session = bundle.session(files::TEXT_ENCODER);
    let (ids, mask) = (tensor(ids), tensor(mask));
    let inputs = [("input_ids", &ids), ("attention_mask", &mask)];
    run(&mut session, &inputs, "memory")
}

/// A decoder part of the way through a sequence.
pub(crate) struct Decoder {
    session: Session,
    mask: Tensor,
    cross: Vec<(String, Tensor)>,
    past: Vec<(String, Tensor)>,
    beams: usize,
}

impl Decoder {
    /// At the start: memory `[b, length, d_model]`, mask `[b, length]`.
    pub(crate) fn start(
        bundle: &Bundle,
        memory: &ArrayD<f32>,
        mask: &Array2<i64>,
        beams: usize,
    ) -> Self {
        let memory = tensor(memory);
        let cross = bundle.session(files::CROSS).run(&[("memory", &memory)]).unwrap();
        let sizes = &bundle.manifest.t5;
        let empty = [mask.nrows() * beams, sizes.heads as usize, 0, sizes.d_kv as usize];
        let past = (0..sizes.decoder_layers).flat_map(|layer| {
            ["key", "value"].map(|part| {
                (format!("past_{part}_{layer}"), tensor(&ArrayD::<f32>::zeros(IxDyn(&empty))))
            })
        });
        Self {
            session: bundle.session(files::DECODER),
            mask: tensor(mask),
            cross: cross.into_tensors(),
            past: past.collect(),
            beams,
        }
    }

    /// Leaves the caches where they are, as on a device.
    pub(crate) fn keep_on_device(&mut self) {
        let names: Vec<String> =
            self.past.iter().map(|(name, _)| name.replace("past", "present")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.session.keep_on_device(&names).unwrap();
    }

    /// One step with the past as it is; `tokens` are one a row.
    pub(crate) fn step(&mut self, tokens: Array1<i64>) -> ArrayD<f32> {
        let rows = i64::try_from(tokens.len()).unwrap();
        self.step_from(tokens, &Array1::from_iter(0..rows))
    }

    /// One step, each row going on from the row of the past that `from` says.
    pub(crate) fn step_from(&mut self, tokens: Array1<i64>, from: &Array1<i64>) -> ArrayD<f32> {
        let rows = tokens.len() / self.beams;
        let tokens = tensor(&tokens.into_shape_with_order((rows, self.beams)).unwrap());
        let from = tensor(from);
        let mut inputs =
            vec![("tokens", &tokens), ("memory_mask", &self.mask), ("beam_index", &from)];
        inputs.extend(self.cross.iter().map(|(name, tensor)| (name.as_str(), tensor)));
        inputs.extend(self.past.iter().map(|(name, tensor)| (name.as_str(), tensor)));
        let mut outputs = self.session.run(&inputs).unwrap();
        for (name, past) in &mut self.past {
            *past = outputs.take(&name.replace("past", "present")).unwrap();
        }
        outputs.take("logits").unwrap().view::<f32>().unwrap().to_owned()
    }

    /// A key or value of the past, or of the memory.
    pub(crate) fn cache(&self, name: &str) -> ArrayD<f32> {
        let (_, tensor) =
            self.past.iter().chain(&self.cross).find(|(cache, _)| cache == name).unwrap();
        tensor.view::<f32>().unwrap().to_owned()
    }

    /// The logits of all `tokens` `[rows, steps]`, one at a time: `[rows, steps, vocab]`.
    pub(crate) fn teach(&mut self, tokens: &Array2<i64>) -> ArrayD<f32> {
        let steps: Vec<ArrayD<f32>> =
            tokens.columns().into_iter().map(|column| self.step(column.to_owned())).collect();
        let views: Vec<_> = steps.iter().map(|logits| logits.view()).collect();
        ndarray::stack(Axis(1), &views).unwrap()
    }
}
