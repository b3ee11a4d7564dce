//! A release becomes a bundle, or nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use eventide_model::{
    Bundle,
    manifest::{Manifest, Precision},
};
use eventide_training::{
    Error, Result, Style,
    import::Given,
    presets,
    released::{Imported, Release},
    tensors::tensors as tensors_of,
};
use rstest::rstest;

use crate::support::{golden, runtime};

fn release() -> Release {
    Release {
        vid2seq: golden("vid2seq-tiny/checkpoint.pth"),
        clip: golden("vid2seq-tiny/clip.pt"),
        tokenizer: golden("vid2seq-tiny/spiece.model"),
        model_id: "golden".to_owned(),
        licence: "MIT".to_owned(),
        time_tokens: 100,
        given: Given { temporal_heads: 4, ..Given::default() },
    }
}

fn import(release: &Release, place: &Path) -> Result<Imported> {
    release.import(place, Style::default(), Precision::Fp32, &runtime())
}

#[test]
fn the_bundle_says_what_it_was_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    let Imported { manifest, parameters, tensors } = import(&release(), &path).unwrap();
    let bundle = Bundle::open(&path).unwrap();
    assert_eq!(bundle.manifest(), &manifest);
    let table = tensors_of(&presets::tiny());
    let values = table.iter().map(|tensor| tensor.shape.iter().product::<usize>());
    assert_eq!((parameters, tensors), (values.sum(), table.len()));
    let Manifest { provenance, files, .. } = manifest.clone();
    assert!(provenance.starts_with("imported from `checkpoint.pth` (SHA-256 "), "{provenance}");
    assert!(provenance.contains("`clip.pt`"), "{provenance}");
    let expected = Manifest {
        model_id: "golden".to_owned(),
        trained: true,
        licence: "MIT".to_owned(),
        provenance,
        files,
        ..presets::tiny()
    };
    assert_eq!(manifest, expected);
}

#[rstest]
#[case::heads(|release: &mut Release| release.given.temporal_heads = 12, "`temporal.dim` is 64")]
#[case::time_tokens(
    |release: &mut Release| release.time_tokens = 50,
    "200 pieces of the tokenizer, 100 extra ids and 50 time tokens do not make the vocabulary of 400"
)]
#[case::no_tokenizer(|release: &mut Release| release.tokenizer = release.clip.clone(), "do not make a model")]
#[case::name(|release: &mut Release| release.model_id = "A model".to_owned(), "do not make a model")]
#[case::swapped(|release: &mut Release| release.clip = release.vid2seq.clone(), "the tensor `visual.conv1.weight` is missing")]
#[case::not_there(|release: &mut Release| release.vid2seq = PathBuf::from("gone.pth"), "cannot read `gone.pth`")]
fn what_does_not_fit_leaves_nothing_behind(#[case] spoil: fn(&mut Release), #[case] because: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut release = release();
    spoil(&mut release);
    let error = import(&release, &folder.path().join("bundle")).unwrap_err();
    assert!(error.to_string().contains(because), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_bundle_that_is_there_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let error = import(&release(), folder.path()).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
}
