//! Recordings and golden numbers.

use std::{
    fs,
    path::{Path, PathBuf},
};

use eventide_testkit::tools;
use serde_json::Value;
use tempfile::TempDir;

/// A recording as 16 kHz, one channel.
pub(crate) fn recording(name: &str) -> Vec<f32> {
    decoded(&tools().unwrap().recording(name).unwrap())
}

/// What a narrator says, as 16 kHz, one channel, and when he says what.
pub(crate) fn narration(name: &str) -> (Vec<f32>, Vec<Value>) {
    let folder = data("narration");
    let spoken = fs::read(folder.join(format!("{name}.json"))).unwrap();
    (decoded(&folder.join(format!("{name}.ogg"))), serde_json::from_slice(&spoken).unwrap())
}

fn decoded(source: &Path) -> Vec<f32> {
    let tools = tools().unwrap();
    let folder = TempDir::new().unwrap();
    let raw = folder.path().join("sound.raw");
    let (from, to) = (source.to_str().unwrap(), raw.to_str().unwrap());
    tools.run_ffmpeg(["-i", from, "-ac", "1", "-ar", "16000", "-f", "f32le", to]).unwrap();
    let bytes = fs::read(raw).unwrap();
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// What the other program said of a model: see `make.py` beside the file.
pub(crate) fn golden(name: &str) -> Value {
    let path = data("whisper").join(format!("{name}.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn data(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/golden")).join(name)
}

pub(crate) fn floats(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The worst difference between every `step`th value and what is expected of it.
pub(crate) fn worst<'a>(
    found: impl Iterator<Item = &'a f32>,
    step: usize,
    expected: &[f32],
) -> f32 {
    let found: Vec<f32> = found.step_by(step).copied().collect();
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
    differences.fold(
        0.0,
        |worst, difference| if difference.is_nan() { f32::NAN } else { worst.max(difference) },
    )
}
