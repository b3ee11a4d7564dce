//! Import is strict: what does not fit is named.

use std::path::PathBuf;

use eventide_training::{
    Error,
    checkpoint::Checkpoint,
    import::{Given, import, import_t5, import_temporal, import_vision},
    presets,
    weights::{Weight, Weights},
};
use rstest::rstest;
use tempfile::TempDir;

use crate::support::golden;

fn given() -> Given {
    Given { vision_heads: None, temporal_heads: 4, ..Given::default() }
}

#[rstest]
#[case::weights_only("checkpoint.pth")]
#[case::left_by_a_training_run("checkpoint_training.pth")]
fn sizes_are_read_from_the_tensors(#[case] name: &str) {
    let checkpoint = Checkpoint::read(&golden(&format!("vid2seq-tiny/{name}"))).unwrap();
    let clip = Checkpoint::read(&golden("vid2seq-tiny/clip.pt")).unwrap();
    let (sizes, weights) = import(&checkpoint, &clip, &given()).unwrap();
    let tiny = presets::tiny();
    assert_eq!(sizes.vision, tiny.vision);
    assert_eq!(sizes.temporal, tiny.temporal);
    assert_eq!(sizes.t5, tiny.t5);
    weights.check(&tiny).unwrap();
}

/// The golden T5 with some tensors changed, as a file.
fn changed(change: impl FnOnce(&mut Weights)) -> (TempDir, PathBuf) {
    let mut weights = Weights::read(&golden("t5-v1_0-tiny/model.safetensors")).unwrap();
    change(&mut weights);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.safetensors");
    weights.write(&path).unwrap();
    (folder, path)
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Weights), expected: &str) {
    let (_folder, path) = changed(change);
    let checkpoint = Checkpoint::read(&path).unwrap().prefixed("t5_model.");
    let error = import_t5(&checkpoint, &given()).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_missing_tensor_is_named() {
    let name = "decoder.block.1.layer.1.EncDecAttention.v.weight";
    refused(
        |weights| *weights = weights.clone().into_iter().filter(|(key, _)| key != name).collect(),
        &format!("the tensor `t5_model.{name}` is missing"),
    );
}

#[test]
fn a_surplus_tensor_is_named() {
    refused(
        |weights| {
            let weight = Weight::new(vec![2], vec![0.0; 2]).unwrap();
            weights.insert("adapter.weight".to_owned(), weight);
        },
        "the tensor `t5_model.adapter.weight` has no place in this model",
    );
}

#[test]
fn a_misshapen_tensor_is_named() {
    refused(
        |weights| {
            let weight = Weight::new(vec![64, 32], vec![0.0; 64 * 32]).unwrap();
            weights.insert("encoder.block.1.layer.0.SelfAttention.o.weight".to_owned(), weight);
        },
        "the tensor `t5_model.encoder.block.1.layer.0.SelfAttention.o.weight` has shape [64, 32], \
         expected [64, 64]",
    );
}

#[test]
fn a_table_that_should_be_tied_is_named() {
    refused(
        |weights| {
            let weight = Weight::new(vec![400, 64], vec![0.5; 400 * 64]).unwrap();
            weights.insert("encoder.embed_tokens.weight".to_owned(), weight);
        },
        "the tensor `t5_model.encoder.embed_tokens.weight` differs from \
         `t5_model.shared.weight`, to which it is tied",
    );
}

#[test]
fn heads_that_do_not_divide_the_width_are_refused() {
    let clip = Checkpoint::read(&golden("vid2seq-tiny/clip.pt")).unwrap();
    let wrong = Given { vision_heads: Some(3), ..given() };
    let error = import_vision(&clip, &wrong).unwrap_err();
    assert_eq!(error.to_string(), "`vision.width` is 128, which 3 does not divide");
    let temporal = Checkpoint::read(&golden("temporal-tiny/model.safetensors")).unwrap();
    let temporal = temporal.prefixed("visual_encoder.");
    let error = import_temporal(&temporal, 64, &Given { temporal_heads: 0, ..given() });
    assert!(matches!(error, Err(Error::Divide { part: "temporal.dim", whole: 64, by: 0 })));
}

#[rstest]
#[case::not_a_zip("vid2seq-tiny/spiece.model")]
#[case::a_video("frames/cfr25.mp4")]
fn another_kind_of_file_is_named(#[case] name: &str) {
    let path = golden(name);
    let error = Checkpoint::read(&path).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` is not a PyTorch checkpoint", path.display()));
}

#[test]
fn a_tensor_of_integers_is_not_a_weight() {
    let clip = Checkpoint::read(&golden("vid2seq-tiny/clip.pt")).unwrap();
    let error = clip.weight("vocab_size").unwrap_err();
    assert_eq!(error.to_string(), "the tensor `vocab_size` holds `i64`, expected floats");
}
