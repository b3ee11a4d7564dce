//! A bundle on the disk: whole, aligned, and its digests true.

use std::{fs, path::Path};

use eventide_model::{
    manifest::{Manifest, files},
    runtime::SessionOptions,
};
use eventide_training::{
    Error, Style,
    bundle::write_bundle,
    layout::{ALIGNMENT, Layout},
    presets,
    seeded::seeded,
    weights::{Weight, Weights},
};
use rstest::rstest;
use safetensors::SafeTensors;
use sha2::{Digest as _, Sha256};

use crate::support::Bundle;

const TOKENIZER: &[u8] = b"a tokenizer";

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_manifest_lists_every_other_file_by_its_digest() {
    let bundle = Bundle::write(presets::tiny(), &seeded(&presets::tiny(), 1), Style::Fused);
    let text = fs::read_to_string(bundle.path().join(files::MANIFEST)).unwrap();
    let mut manifest: Manifest = serde_json::from_str(&text).unwrap();
    let mut names = entries(&bundle.path());
    names.retain(|name| name != files::MANIFEST);
    assert_eq!(manifest.files.keys().cloned().collect::<Vec<_>>(), names);
    for (name, digest) in &manifest.files {
        let bytes = fs::read(bundle.path().join(name)).unwrap();
        assert_eq!(format!("{:x}", Sha256::digest(&bytes)), *digest, "{name}");
    }
    manifest.files.clear();
    assert_eq!(manifest, presets::tiny());
}

#[rstest]
fn graphs_hold_no_weights(#[values(Style::Fused, Style::Portable)] style: Style) {
    let bundle = Bundle::write(presets::tiny(), &seeded(&presets::tiny(), 1), style);
    for name in [files::VISION, files::TEMPORAL, files::TEXT_ENCODER, files::CROSS, files::DECODER]
    {
        let size = fs::metadata(bundle.path().join(name)).unwrap().len();
        assert!(size < 40_000, "{name} has {size} bytes");
        bundle.session(name);
    }
    fs::remove_file(bundle.path().join(files::WEIGHTS)).unwrap();
    let error = crate::support::runtime()
        .open(&bundle.path().join(files::DECODER), &SessionOptions::default())
        .unwrap_err();
    assert!(error.to_string().contains(files::DECODER), "{error}");
}

#[test]
fn weights_come_back_and_lie_aligned() {
    let weights = seeded(&presets::tiny(), 3);
    let bundle = Bundle::write(presets::tiny(), &weights, Style::Fused);
    let path = bundle.path().join(files::WEIGHTS);
    assert_eq!(Weights::read(&path).unwrap(), weights);

    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let layout = Layout::of(&weights);
    for (name, tensor) in file.iter() {
        let entry = layout.entry(name).unwrap();
        assert_eq!(&bytes[entry.offset..entry.offset + entry.length], tensor.data(), "{name}");
        if entry.length.is_multiple_of(ALIGNMENT) {
            assert!(entry.offset.is_multiple_of(ALIGNMENT), "{name} at {}", entry.offset);
        }
    }
}

#[test]
fn odd_sizes_do_not_disturb_the_others() {
    let weight = |count: usize| Weight::new(vec![count], vec![1.0; count]).unwrap();
    let weights: Weights = [("a", 3), ("b", 16), ("c", 5), ("d", 32)]
        .into_iter()
        .map(|(name, count)| (name.to_owned(), weight(count)))
        .collect();
    let layout = Layout::of(&weights);
    assert!(layout.entry("b").unwrap().offset.is_multiple_of(ALIGNMENT));
    assert!(layout.entry("d").unwrap().offset.is_multiple_of(ALIGNMENT));
    let mut file = Vec::new();
    let failed = |source| Error::Write { path: "file".into(), source };
    layout.write(&weights, &mut file, failed).unwrap();
    assert_eq!(SafeTensors::deserialize(&file).unwrap().len(), 4);
}

#[test]
fn the_same_seed_gives_the_same_bundle() {
    let digests = |seed| {
        let bundle = Bundle::write(presets::tiny(), &seeded(&presets::tiny(), seed), Style::Fused);
        fs::read_to_string(bundle.path().join(files::MANIFEST)).unwrap()
    };
    assert_eq!(digests(5), digests(5));
    assert_ne!(digests(5), digests(6));
}

#[test]
fn weights_that_do_not_fit_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = presets::tiny();
    let write = |weights: &Weights| {
        write_bundle(&folder.path().join("new"), &manifest, weights, TOKENIZER, Style::Fused)
    };
    let whole = seeded(&manifest, 1);
    let without = |name: &str| -> Weights {
        whole.clone().into_iter().filter(|(key, _)| key != name).collect()
    };
    let error = write(&without("vision.1.attention.output.bias")).unwrap_err();
    assert_eq!(error.to_string(), "the tensor `vision.1.attention.output.bias` is missing");

    let mut surplus = whole.clone();
    surplus.insert("more".to_owned(), Weight::new(vec![1], vec![0.0]).unwrap());
    assert!(matches!(write(&surplus), Err(Error::Surplus { name }) if name == "more"));

    let mut misshapen = whole.clone();
    let weight = Weight::new(vec![2], vec![0.0; 2]).unwrap();
    misshapen.insert("temporal.output_norm.bias".to_owned(), weight);
    assert!(matches!(write(&misshapen), Err(Error::Shape { found, .. }) if found == [2]));
    assert!(entries(folder.path()).is_empty());
}

#[test]
fn a_bundle_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, path) = (presets::tiny(), folder.path().join("bundle"));
    let weights = seeded(&manifest, 1);
    write_bundle(&path, &manifest, &weights, TOKENIZER, Style::Fused).unwrap();
    let error = write_bundle(&path, &manifest, &weights, TOKENIZER, Style::Fused).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    assert_eq!(entries(folder.path()), ["bundle"]);
}
