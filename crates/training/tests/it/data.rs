//! Data sets from videos that were really made, decoded and encoded.

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
    time::Duration,
};

use eventide_media::{Limits, Media, Tools};
use eventide_model::{
    Bundle, Tokenizer, Vid2Seq, VisionEncoder,
    frames::pick,
    manifest::{FrameRule, Manifest, Vision as Sizes, files},
    runtime::SessionOptions,
};
use eventide_pipeline::{features_in_place, sample};
use eventide_schema::TimeSpan;
use eventide_training::{
    Style,
    bundle::write_bundle,
    data::{
        Error, Example,
        batch::{captioning, features as together},
        cache::{Cache, Features},
        drawn::{self, Drawn},
        features::{self, Prepared, Vision, prepare, prepare_drawn, prepare_pictures},
        folder::{Report, synthetic},
        pictures::{Look, duration_us, pictures},
    },
    presets,
    seeded::seeded,
    synth::{RECIPE, Recipe, generate, looks::Split},
};
use half::f16;
use ndarray::Array2;
use tempfile::TempDir;

use crate::support::{golden, runtime};

fn tools() -> Tools {
    let folder = std::env::var_os("EVENTIDE_TOOLS").map(PathBuf::from).unwrap_or_default();
    let found = |name| folder.join(name);
    assert!(found("ffmpeg").exists(), "no ffmpeg: run `cargo xtask setup`");
    Tools { ffmpeg: found("ffmpeg"), ffprobe: found("ffprobe"), decoder: None }
}

fn media() -> Media {
    Media::new(tools(), Limits::default())
}

/// Three videos of 10 to 14 seconds, made once.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let lengths = (Duration::from_secs(10), Duration::from_secs(14));
        let recipe =
            |seed| Recipe::new(seed, Split::Train).with_lengths(lengths.0, lengths.1).unwrap();
        // Narrators of short videos are often silent; not all of these are.
        let spoken = |recipe: &Recipe| {
            (0..3).any(|number| recipe.video(number).lines.is_some_and(|lines| !lines.is_empty()))
        };
        let recipe = (11..40).map(recipe).find(spoken).unwrap();
        generate(folder.path(), &recipe, 3, &tools().ffmpeg, NonZeroUsize::MIN, &|_| ()).unwrap();
        folder
    });
    folder.path()
}

fn examples() -> (Vec<Example>, Report) {
    synthetic(folder()).unwrap()
}

fn files(examples: &[Example]) -> Vec<PathBuf> {
    examples.iter().map(|example| example.file.clone()).collect()
}

fn manifest() -> Manifest {
    let tiny = presets::tiny();
    let vision = Sizes { image_size: 32, patch: 8, ..tiny.vision };
    Manifest { vision, ..tiny }
}

fn bundle(manifest: &Manifest, seed: u64) -> (TempDir, Bundle) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    let tokenizer = fs::read(golden("vid2seq-tiny/spiece.model")).unwrap();
    write_bundle(&path, manifest, &seeded(manifest, seed), &tokenizer, Style::Fused).unwrap();
    let bundle = Bundle::open(&path).unwrap();
    (folder, bundle)
}

const ONE_THREAD: SessionOptions =
    SessionOptions { device: eventide_model::runtime::Device::Cpu, threads: 1 };

/// Prepares the features of `videos` with all that the bundle says.
fn prepared(videos: &[PathBuf], bundle: &Bundle, cache: &Path) -> (Prepared, Cache, Media) {
    let runtime = runtime();
    let rule = bundle.manifest().frames.clone();
    let vision = Vision { bundle, runtime: &runtime, session: ONE_THREAD, rule };
    let cache = Cache::open(cache, &vision.digest().unwrap()).unwrap();
    let (media, two) = (media(), NonZeroUsize::new(2).unwrap());
    let heard = Mutex::new(Vec::new());
    let told = |progress: &_| heard.lock().unwrap().push(*progress);
    let prepared = prepare(videos, &vision, &media, &cache, two, &told).unwrap();
    let heard = heard.into_inner().unwrap();
    assert_eq!(heard.last(), Some(&prepared.progress));
    assert_eq!(heard.len(), videos.len());
    (prepared, cache, media)
}

#[test]
fn a_synthetic_folder_is_a_data_set() {
    let (examples, report) = examples();
    assert_eq!((examples.len(), report.annotated), (3, 3));
    assert_eq!((report.without_file.len(), report.without_annotation.len()), (0, 0));
    assert!(report.silent < 3 && report.faulty.is_empty(), "{report:?}");
    for example in &examples {
        assert!(!example.events().is_empty());
        let probed = duration_us(&media(), &example.file).unwrap();
        assert_eq!(example.duration_us(), probed, "the truth is as long as the file");
    }
}

/// What is drawn without files is what the files show and tell, but for what the codec loses.
#[test]
fn a_drawn_data_set_is_that_of_the_folder() {
    let (of_files, _) = examples();
    let recipe: serde_json::Value =
        serde_json::from_slice(&fs::read(folder().join(RECIPE)).unwrap()).unwrap();
    let seed = recipe["seed"].as_u64().unwrap();
    let drawn = Drawn { drawn: 3, seed, split: Split::Train, shortest: 10, longest: 14, crowd: 6 };
    let (examples, report) = drawn.examples().unwrap();
    assert_eq!(report.annotated, 3);
    assert!(examples.iter().any(|example| !example.speech.is_empty()));
    let look = Look { size: 96, rule: FrameRule { count: 100, ..presets::base().frames } };
    for ((index, example), of_file) in (0..).zip(&examples).zip(&of_files) {
        assert_eq!(Example { file: of_file.file.clone(), ..example.clone() }, *of_file);
        let video = drawn.recipe().unwrap().video(index);
        let (drawn, decoded) =
            (drawn::pictures(&video, &look), pictures(&media(), &of_file.file, &look).unwrap());
        assert_eq!((&drawn.slots, drawn.duration_us), (&decoded.slots, decoded.duration_us));
        for (one, other) in drawn.values.outer_iter().zip(decoded.values.outer_iter()) {
            let off: u32 = one.iter().zip(&other).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
            assert!(off < 8 * 96 * 96 * 3, "{off}");
        }
    }
}

#[test]
fn features_of_drawn_videos_are_computed_once() {
    let (_folder, bundle) = bundle(&manifest(), 1);
    let runtime = runtime();
    let rule = bundle.manifest().frames.clone();
    let vision = Vision { bundle: &bundle, runtime: &runtime, session: ONE_THREAD, rule };
    let place = tempfile::tempdir().unwrap();
    let cache = Cache::open(place.path(), "key").unwrap();
    let drawn = Drawn { drawn: 3, seed: 5, split: Split::Val, shortest: 10, longest: 12, crowd: 6 };
    let recipe = drawn.recipe().unwrap();
    let heard = Mutex::new(Vec::new());
    let told = |progress: &features::Progress| heard.lock().unwrap().push(*progress);
    for videos in [&[0, 1][..], &[1, 2]] {
        prepare_drawn(&recipe, videos, &vision, &cache, NonZeroUsize::MIN, &told).unwrap();
    }
    let cached: Vec<usize> = heard.into_inner().unwrap().iter().map(|heard| heard.cached).collect();
    assert_eq!(cached, [0, 0, 1, 1]);
    let kept: Features = cache.get_named(&recipe.name(2), &recipe.version()).unwrap();
    let pictures = drawn::pictures(&recipe.video(2), &Look { size: 32, rule: vision.rule.clone() });
    let mut encoder = VisionEncoder::load(&bundle, &runtime, &ONE_THREAD).unwrap();
    let bytes = pictures.values.as_slice().unwrap();
    let features = encoder.encode(bytes, pictures.slots.len(), &|| false).unwrap();
    assert_eq!(kept.values, features.mapv(f16::from_f32));
    let others = Recipe::new(5, Split::Val).version();
    assert!(cache.get_named::<f16>(&recipe.name(2), &others).is_none(), "other lengths");
}

/// What a captioner shows the model, by the functions that it calls.
fn as_captioned(file: &Path, bundle: &Bundle) -> Array2<f32> {
    let media = media();
    let wait = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sampled = wait.block_on(async {
        let probe = media.probe(file).await.unwrap().value;
        let window = TimeSpan::new(0, probe.duration_us);
        let manifest = bundle.manifest();
        let size = manifest.vision.image_size;
        sample(&media, file, &probe, window, size, &manifest.frames).await.unwrap()
    });
    let mut model = Vid2Seq::load(bundle, &runtime(), &ONE_THREAD).unwrap();
    let count = sampled.frames.slots.len();
    let encoded = model.encode_frames(&sampled.frames.pixels, count, &|| false).unwrap();
    features_in_place(&encoded, &sampled.rows(), sampled.slots.len())
}

#[test]
fn features_are_those_of_the_captioner_and_are_computed_once() {
    let (examples, _) = examples();
    let videos = files(&examples);
    let (_folder, bundle) = bundle(&manifest(), 1);
    let folder = tempfile::tempdir().unwrap();

    let (first, cache, media) = prepared(&videos, &bundle, folder.path());
    assert!(media.core_ms() > 0 && first.failed.is_empty());
    assert_eq!((first.progress.done, first.progress.cached), (3, 0));
    let rule = &bundle.manifest().frames;
    for example in &examples {
        let kept: Features = cache.get(&example.file).unwrap().unwrap();
        assert_eq!(kept.duration_us, example.duration_us());
        let expected = as_captioned(&example.file, &bundle).mapv(|x| f16::from_f32(x).to_f32());
        assert_eq!(kept.within(example.span, rule), expected);
    }

    let (second, _, media) = prepared(&videos, &bundle, folder.path());
    assert_eq!((second.progress.cached, second.progress.pictures), (3, 0));
    assert_eq!(media.core_ms(), 0, "the second time no tool is started");

    // One file is damaged and one video written anew: only those are computed again.
    let any = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let kept = fs::read_dir(any).unwrap().next().unwrap().unwrap().path();
    fs::write(&kept, b"damaged").unwrap();
    let (third, _, media) = prepared(&videos, &bundle, folder.path());
    assert_eq!((third.progress.cached, third.progress.done), (2, 3));
    assert!(media.core_ms() > 0);
}

#[test]
fn a_part_has_the_features_that_it_has_as_a_video_of_its_own() {
    let (examples, _) = examples();
    let (_folder, bundle) = bundle(&manifest(), 1);
    let folder = tempfile::tempdir().unwrap();
    let (_, cache, _) = prepared(&files(&examples[..1]), &bundle, folder.path());
    let example = &examples[0];
    let kept: Features = cache.get(&example.file).unwrap().unwrap();
    let rule = FrameRule { count: 4, ..bundle.manifest().frames.clone() };
    let part = TimeSpan::new(2_000_000, 8_000_000);

    let media = media();
    let wait = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sampled = wait.block_on(async {
        let probe = media.probe(&example.file).await.unwrap().value;
        let size = bundle.manifest().vision.image_size;
        sample(&media, &example.file, &probe, part, size, &rule).await.unwrap()
    });
    assert_eq!(sampled.slots, pick(6, &rule));
    let mut model = Vid2Seq::load(&bundle, &runtime(), &ONE_THREAD).unwrap();
    let encoded = model.encode_frames(&sampled.frames.pixels, 4, &|| false).unwrap();
    let expected = encoded.mapv(|x| f16::from_f32(x).to_f32());
    let found = kept.within(part, &rule);
    let apart = (&found - &expected).mapv(f32::abs).into_iter().fold(0.0, f32::max);
    // Pictures that share a run of the encoder may differ in the last digits.
    assert!(apart < 2e-3, "{apart}");
}

#[test]
fn the_digest_is_of_the_vision_encoder_alone() {
    let runtime = runtime();
    let digest = |bundle: &Bundle, rule: FrameRule| {
        Vision { bundle, runtime: &runtime, session: ONE_THREAD, rule }.digest().unwrap()
    };
    let (_one, first) = bundle(&manifest(), 1);
    let rule = || first.manifest().frames.clone();

    // Another text encoder of another size: other weights in other places.
    let mut larger = manifest();
    larger.t5.d_ff = 256;
    let (_two, same_vision) = bundle(&larger, 1);
    assert_ne!(first.digest(), same_vision.digest());
    assert_eq!(digest(&first, rule()), digest(&same_vision, rule()));

    let (_three, other) = bundle(&manifest(), 2);
    assert_ne!(digest(&first, rule()), digest(&other, rule()));
    assert_ne!(digest(&first, rule()), digest(&first, FrameRule { count: 7, ..rule() }));

    fs::write(first.path(files::WEIGHTS), b"cut").unwrap();
    let vision = Vision { bundle: &first, runtime: &runtime, session: ONE_THREAD, rule: rule() };
    let error = vision.digest().unwrap_err();
    assert!(matches!(error, Error::Graph { .. }), "{error}");
}

#[test]
fn a_video_that_cannot_be_seen_is_told_and_costs_no_other() {
    let (examples, _) = examples();
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.mp4");
    fs::write(&broken, b"not a video").unwrap();
    let gone = folder.path().join("gone.mp4");
    let videos = [broken.clone(), examples[0].file.clone(), gone.clone()];
    let (_folder, bundle) = bundle(&manifest(), 1);
    let (prepared, cache, _) = prepared(&videos, &bundle, &folder.path().join("cache"));
    assert_eq!((prepared.progress.done, prepared.progress.failed), (3, 2));
    let failed: Vec<_> = prepared.failed.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(failed, [broken, gone]);
    assert!(matches!(prepared.failed[0].1, Error::Video { .. }), "{:?}", prepared.failed);
    assert!(cache.get::<f16>(&examples[0].file).unwrap().is_some());
}

#[test]
fn pictures_are_kept_too() {
    let (examples, _) = examples();
    let videos = files(&examples);
    let look = Look { size: 24, rule: manifest().frames };
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), "24").unwrap();
    let prepare = |media: &Media| {
        prepare_pictures(&videos, &look, media, &cache, NonZeroUsize::MIN, &|_| ()).unwrap()
    };
    assert_eq!(prepare(&media()).progress.cached, 0);
    let second = media();
    assert_eq!((prepare(&second).progress.cached, second.core_ms()), (3, 0));
    let kept = cache.get::<u8>(&videos[0]).unwrap().unwrap();
    assert_eq!(kept, pictures(&media(), &videos[0], &look).unwrap());
    let seconds = usize::try_from((examples[0].duration_us() + 500_000) / 1_000_000).unwrap();
    assert_eq!(kept.values.shape(), [seconds, 24, 24, 3]);
    assert_eq!(kept.slots, (0..seconds).collect::<Vec<_>>());
}

#[test]
fn examples_become_a_batch() {
    let (examples, _) = examples();
    let (_folder, bundle) = bundle(&manifest(), 1);
    let folder = tempfile::tempdir().unwrap();
    let (_, cache, _) = prepared(&files(&examples), &bundle, folder.path());
    let tokenizer = Tokenizer::open(&bundle).unwrap();
    let manifest = bundle.manifest();
    let rows: Vec<_> = examples
        .iter()
        .map(|example| {
            let kept: Features = cache.get(&example.file).unwrap().unwrap();
            let sequences = captioning(example, &tokenizer, 256, None).unwrap();
            (kept.within(example.span, &manifest.frames), sequences)
        })
        .collect();
    let (seen, sequences): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    assert_eq!(together(&seen, manifest).shape(), [3, 100, 64]);
    for (sequences, example) in sequences.iter().zip(&examples) {
        let is_time = |id: &&i64| tokenizer.time_tokens().bin_of(**id).is_some();
        let times = sequences.target.iter().filter(is_time).count();
        assert_eq!(times, 2 * example.events().len());
    }
}
