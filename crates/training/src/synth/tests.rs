use super::*;
use eventide_media::{Limits, Media, Tools};
use std::time::SystemTime;

/// Videos of at most 14 seconds.
fn short(seed: u64) -> Recipe {
    let (shortest, longest) = (Duration::from_secs(10), Duration::from_secs(14));
    Recipe::new(seed, Split::Train).with_lengths(shortest, longest).unwrap()
}

fn tools() -> Tools {
    let tools = eventide_testkit::tools().unwrap();
    Tools { ffmpeg: tools.ffmpeg().unwrap(), ffprobe: tools.ffprobe().unwrap(), decoder: None }
}

fn make(folder: &Path, recipe: &Recipe, videos: u32) -> Result<Summary, Error> {
    let workers = NonZeroUsize::new(2).unwrap();
    generate(folder, recipe, videos, &tools().ffmpeg, workers, &|_| ())
}

fn modified(folder: &Path, recipe: &Recipe, index: u32) -> SystemTime {
    let file = recipe.video(index).file(&folder.join(VIDEOS));
    fs::metadata(file).unwrap().modified().unwrap()
}

#[test]
fn the_same_seed_gives_the_same_truth_speech_and_pictures() {
    let first_pictures = |video: &Video| -> Vec<Vec<u8>> {
        let mut painter = Painter::new(&video.world, SIZE);
        let mut picture = vec![0; usize::from(SIZE) * usize::from(SIZE) * 3];
        let mut paint = |at| {
            painter.paint(at, &mut picture);
            picture.clone()
        };
        (0..20).map(&mut paint).collect()
    };
    for index in 0..4 {
        let one = Recipe::new(7, Split::Test).video(index);
        let again = Recipe::new(7, Split::Test).video(index);
        assert_eq!(one, again);
        assert_eq!(first_pictures(&one), first_pictures(&again));
    }
}

#[test]
fn another_seed_split_or_number_gives_another_video() {
    let base = Recipe::new(7, Split::Train).video(0);
    let others = [
        Recipe::new(8, Split::Train).video(0),
        Recipe::new(7, Split::Val).video(0),
        Recipe::new(7, Split::Train).video(1),
    ];
    for other in others {
        assert_ne!(other.name, base.name);
        assert_ne!(other.world, base.world);
    }
}

#[test]
fn this_version_still_gives_the_videos_that_it_gave() {
    let video = Recipe::new(1, Split::Train).video(0);
    let text = serde_json::to_string(&video.truth()).unwrap() + &format!("{:?}", video.lines);
    let digest = Sha256::digest(text);
    assert_eq!(
        digest[..4],
        [230, 223, 113, 120],
        "other videos from the same seed: raise `VERSION`"
    );
}

#[test]
fn the_truth_is_within_the_video_and_in_order() {
    let recipe = Recipe::new(3, Split::Val);
    for index in 0..300 {
        let truth = recipe.video(index).truth();
        assert!((20.0..=180.0).contains(&truth.duration), "{}", truth.duration);
        assert_eq!(truth.timestamps.len(), truth.sentences.len());
        assert!(truth.timestamps.is_sorted_by_key(|[start, _]| *start));
        for [start, end] in truth.timestamps {
            assert!(0.0 <= start && start < end && end <= truth.duration, "{start}..{end}");
        }
    }
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    let refused = |shortest, longest| {
        let (shortest, longest) = (Duration::from_secs(shortest), Duration::from_secs(longest));
        Recipe::new(0, Split::Train).with_lengths(shortest, longest).is_err()
    };
    assert!(refused(9, 20) && refused(30, 20) && refused(20, 3601));
    assert!(!refused(10, 3600) && !refused(20, 20));
}

#[test]
fn a_crowd_that_cannot_be_is_refused() {
    let asked = |crowd| Recipe::new(0, Split::Train).with_crowd(crowd);
    assert!(matches!(asked(1), Err(Error::Crowd { crowd: 1 })) && asked(7).is_err());
    assert_eq!(asked(CROWD).unwrap(), Recipe::new(0, Split::Train));
    assert_ne!(asked(2).unwrap().version(), Recipe::new(0, Split::Train).version());
}

#[tokio::test]
async fn videos_are_drawn_with_side_cars_and_truth() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = short(11);
    let summary = make(folder.path(), &recipe, 2).unwrap();
    let text = fs::read(folder.path().join(TRUTH)).unwrap();
    let truth: BTreeMap<String, Truth> = serde_json::from_slice(&text).unwrap();
    assert_eq!((summary.videos, summary.kept, truth.len()), (2, 0, 2));

    let media = Media::new(tools(), Limits::default());
    for index in 0..2 {
        let video = recipe.video(index);
        assert_eq!(truth[&video.name], video.truth());
        let file = video.file(&folder.path().join(VIDEOS));
        let probe = media.probe(&file).await.unwrap().value;
        let stream = probe.require_video(&file).unwrap();
        assert_eq!((stream.width, stream.height), (128, 128));
        assert!(!probe.audio.is_empty(), "it has a sound");
        let side_car = file.with_extension("vtt");
        assert_eq!(side_car.is_file(), video.lines.is_some());
    }
    let left = fs::read_dir(folder.path().join(VIDEOS)).unwrap();
    let hidden =
        left.filter(|entry| entry.as_ref().unwrap().file_name().as_encoded_bytes()[0] == b'.');
    assert_eq!(hidden.count(), 0);
}

#[test]
fn a_data_set_grows_and_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = short(12);
    make(folder.path(), &recipe, 1).unwrap();
    let first = modified(folder.path(), &recipe, 0);
    let summary = make(folder.path(), &recipe, 2).unwrap();
    assert_eq!((summary.videos, summary.kept), (2, 1));
    assert_eq!(modified(folder.path(), &recipe, 0), first);

    let refused = make(folder.path(), &short(13), 1).unwrap_err();
    assert!(matches!(refused, Error::OtherRecipe { .. }), "{refused}");
}

#[test]
fn a_missing_encoder_ends_the_work_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let (recipe, workers) = (short(1), NonZeroUsize::MIN);
    let error = generate(folder.path(), &recipe, 3, Path::new("/nowhere/ffmpeg"), workers, &|_| ());
    let error = error.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "cannot start `/nowhere/ffmpeg`");
    assert!(!folder.path().join(TRUTH).exists());
}
