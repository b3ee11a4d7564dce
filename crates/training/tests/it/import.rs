//! Import is strict: what does not fit is named.

use std::{io::Write as _, path::PathBuf};

use candle_core::{DType, pickle::PthTensors};
use eventide_model::manifest::{FeedForward, Manifest, T5, Temporal};
use eventide_testkit::released;
use eventide_training::{
    Error,
    checkpoint::Checkpoint,
    import::{Given, Sizes, import, import_t5, import_temporal, import_vision},
    presets,
    seeded::seeded,
    weights::{Weight, Weights},
};
use half::f16;
use rstest::rstest;
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

use crate::support::golden;

fn given() -> Given {
    Given { vision_heads: None, temporal_heads: 4, ..Given::default() }
}

#[rstest]
fn sizes_are_read_from_the_tensors(
    #[values("checkpoint.pth", "checkpoint_training.pth")] vid2seq: &str,
    #[values("clip.pt", "clip-torchscript.pt")] clip: &str,
) {
    let checkpoint = Checkpoint::read(&golden(&format!("vid2seq-tiny/{vid2seq}"))).unwrap();
    let clip = Checkpoint::read(&golden(&format!("vid2seq-tiny/{clip}"))).unwrap();
    let (sizes, weights) = import(&checkpoint, &clip, &given()).unwrap();
    let tiny = presets::tiny();
    assert_eq!(sizes.vision, tiny.vision);
    assert_eq!(sizes.temporal, tiny.temporal);
    assert_eq!(sizes.t5, tiny.t5);
    weights.check(&tiny).unwrap();
}

/// Candle's reader is another's work, so that both are unlikely to be wrong alike.
#[rstest]
#[case::weights_only("checkpoint.pth", Some("model"))]
#[case::left_by_a_training_run("checkpoint_training.pth", Some("model"))]
#[case::half_precision("clip.pt", None)]
fn tensors_are_those_that_another_reader_finds(#[case] name: &str, #[case] key: Option<&str>) {
    let path = golden(&format!("vid2seq-tiny/{name}"));
    let ours = Checkpoint::read(&path).unwrap();
    let theirs = PthTensors::new(&path, key).unwrap();
    let mut names: Vec<&str> = theirs.tensor_infos().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(ours.names().collect::<Vec<_>>(), names);
    for name in names {
        let tensor = theirs.get(name).unwrap().unwrap();
        assert_eq!(ours.shape(name).unwrap(), tensor.dims(), "{name}");
        if tensor.dtype().is_float() {
            let tensor = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
            let values = tensor.to_vec1::<f32>().unwrap();
            assert_eq!(ours.weight(name).unwrap().values(), values, "{name}");
        }
    }
}

#[test]
fn torch_script_holds_the_tensors_of_the_state_dictionary() {
    let open = |name: &str| Checkpoint::read(&golden(&format!("vid2seq-tiny/{name}"))).unwrap();
    let (plain, script) = (open("clip.pt"), open("clip-torchscript.pt"));
    assert!(plain.names().eq(script.names()));
    for name in plain.names().filter(|name| name.contains('.')) {
        assert_eq!(plain.weight(name).unwrap(), script.weight(name).unwrap(), "{name}");
    }
}

/// A `PyTorch` file with this pickle in it.
fn pickled(pickle: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pickled.pth");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("pickled/data.pkl", stored).unwrap();
    zip.write_all(pickle).unwrap();
    zip.finish().unwrap();
    (folder, path)
}

#[test]
fn code_in_a_pickle_is_named_and_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("was-run");
    let pickle = format!("cos\nsystem\n(S'touch {}'\ntR.", trace.display());
    let (_file, path) = pickled(pickle.as_bytes());
    let error = Checkpoint::read(&path).unwrap_err();
    let Error::Pickle { source, .. } = error else { panic!("{error}") };
    let expected =
        "the pickle names the Python code `os system`, which no weights need; it was not run";
    assert_eq!(source.to_string(), expected);
    assert!(!trace.exists());
}

#[test]
fn a_pickle_without_tensors_is_no_checkpoint() {
    let (_file, path) = pickled(b"\x80\x02}.");
    assert!(matches!(Checkpoint::read(&path), Err(Error::Empty { .. })));
}

#[test]
fn a_changed_byte_is_noticed() {
    let mut bytes = std::fs::read(golden("vid2seq-tiny/checkpoint.pth")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.pth");
    std::fs::write(&path, bytes).unwrap();
    let checkpoint = Checkpoint::read(&path).unwrap();
    let mut read = checkpoint.names().map(|name| checkpoint.weight(name));
    let error = read.find_map(Result::err).unwrap();
    assert!(matches!(error, Error::Entry { .. }), "{error}");
}

#[test]
fn a_file_that_is_cut_short_is_refused() {
    let bytes = std::fs::read(golden("vid2seq-tiny/clip-torchscript.pt")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("short.pt");
    for length in [0, 1, 1000, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = Checkpoint::read(&path).unwrap_err();
        assert!(matches!(error, Error::Checkpoint { .. }), "{length}: {error}");
    }
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    refused(
        |weights| {
            let weight = Weight::new(vec![64], vec![f32::NAN; 64]).unwrap();
            weights.insert("encoder.final_layer_norm.weight".to_owned(), weight);
        },
        "the tensor `t5_model.encoder.final_layer_norm.weight` holds values that are not finite",
    );
}

/// Widths of their own for pictures and text, so that a layer takes one to the other; a gated T5 with an output layer of
/// its own.
fn projected() -> Manifest {
    let tiny = presets::tiny();
    Manifest {
        temporal: Temporal { projection: true, ..tiny.temporal },
        t5: T5 {
            d_model: 48,
            d_kv: 24,
            heads: 3,
            feed_forward: FeedForward::GatedGelu,
            tied: false,
            ..tiny.t5
        },
        ..tiny
    }
}

#[rstest]
#[case::plain(presets::tiny(), 1)]
#[case::projected(projected(), 2)]
fn what_is_released_is_imported(#[case] manifest: Manifest, #[case] seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = golden("vid2seq-tiny/spiece.model");
    let files = released::write(folder.path(), &manifest, &tokenizer, seed).unwrap();
    let theirs = PthTensors::new(&files.vid2seq, Some("model")).unwrap();
    let [vid2seq, clip] = [&files.vid2seq, &files.clip].map(|path| Checkpoint::read(path).unwrap());
    assert_eq!(vid2seq.names().count(), theirs.tensor_infos().len());
    assert_eq!(vid2seq.contains("proj_v2t.weight"), manifest.temporal.projection);

    let (Sizes { vision, temporal, t5 }, weights) = import(&vid2seq, &clip, &given()).unwrap();
    let found = Manifest { vision, temporal, t5, ..presets::tiny() };
    assert_eq!(found, manifest);
    for (name, expected) in seeded(&manifest, seed).iter() {
        let found = weights.get(name).unwrap();
        assert_eq!(found.shape(), expected.shape(), "{name}");
        // CLIP is released in half precision.
        let is_half = name.starts_with("vision.");
        let rounded = |value: &f32| if is_half { f16::from_f32(*value).to_f32() } else { *value };
        let expected: Vec<f32> = expected.values().iter().map(rounded).collect();
        assert!(found.values() == expected, "{name}");
    }
}

/// The golden CLIP as Hugging Face would name it, by a table of its own.
fn under_huggingface_names(clip: &Checkpoint) -> Weights {
    let mut renamed = Weights::default();
    for name in clip.names().filter(|name| name.starts_with("visual.")) {
        let weight = clip.weight(name).unwrap();
        let name = name.strip_prefix("visual.").unwrap();
        let layer = name
            .replace("transformer.resblocks.", "vision_model.encoder.layers.")
            .replace("ln_1", "layer_norm1")
            .replace("ln_2", "layer_norm2")
            .replace("c_fc", "fc1")
            .replace("c_proj", "fc2")
            .replace("attn.", "self_attn.")
            .replace("conv1", "vision_model.embeddings.patch_embedding")
            .replace("ln_pre", "vision_model.pre_layrnorm")
            .replace("ln_post", "vision_model.post_layernorm");
        match name {
            "class_embedding" => {
                renamed.insert("vision_model.embeddings.class_embedding".to_owned(), weight);
            }
            "positional_embedding" => {
                let name = "vision_model.embeddings.position_embedding.weight";
                renamed.insert(name.to_owned(), weight);
            }
            "proj" => {
                let [rows, columns] = weight.shape() else { panic!("{weight:?}") };
                let turned = (0..*columns)
                    .flat_map(|column| weight.values().iter().skip(column).step_by(*columns))
                    .copied();
                let turned = Weight::new(vec![*columns, *rows], turned.collect()).unwrap();
                renamed.insert("visual_projection.weight".to_owned(), turned);
            }
            _ if name.contains("in_proj_") => {
                let (layer, kind) = layer.split_once("in_proj_").unwrap();
                let mut shape = weight.shape().to_vec();
                shape[0] /= 3;
                let parts = weight.values().chunks(weight.values().len() / 3);
                for (part, values) in ["q", "k", "v"].into_iter().zip(parts) {
                    let part_weight = Weight::new(shape.clone(), values.to_vec()).unwrap();
                    renamed.insert(format!("{layer}{part}_proj.{kind}"), part_weight);
                }
            }
            _ => renamed.insert(layer, weight),
        }
    }
    let other = Weight::new(vec![1], vec![0.0]).unwrap();
    renamed.insert("text_model.final_layer_norm.bias".to_owned(), other.clone());
    renamed.insert("logit_scale".to_owned(), other);
    renamed
}

#[test]
fn the_names_of_hugging_face_are_known() {
    let clip = Checkpoint::read(&golden("vid2seq-tiny/clip.pt")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.safetensors");
    under_huggingface_names(&clip).write(&path).unwrap();
    let renamed = Checkpoint::read(&path).unwrap().with_openai_names().unwrap();
    let (found, expected) = (import_vision(&renamed, &given()), import_vision(&clip, &given()));
    assert_eq!(found.unwrap(), expected.unwrap());
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
