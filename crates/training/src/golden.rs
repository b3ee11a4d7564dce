//! The golden clip that a new bundle gets: pictures of a synthetic world with its narrator. What reads it
//! and holds a model to it is in `eventide_model::golden`.

use std::collections::HashMap;

use eventide_model::{
    Tokenizer,
    golden::{Clip, Expected},
    input::input_ids,
    manifest::Manifest,
};
use eventide_schema::{Cue, TimeSpan};
use safetensors::{Dtype, tensor::TensorView};

use crate::{
    error::Result,
    synth::{Recipe, draw::Painter, looks::Split, world::milliseconds},
};

/// Bytes of pictures in a clip, about; but at least two pictures.
const PICTURE_BYTES: usize = 150_000;
/// Most pictures of a clip.
const MOST_PICTURES: usize = 12;
/// Most sentences of a clip.
const MOST_LINES: usize = 4;
/// The seed of the clip that a new bundle gets.
pub(crate) const GOLDEN_SEED: u64 = 1;

/// Pictures of a synthetic world with its narrator; the same for the same seed.
///
/// # Errors
/// [`Error::Run`](crate::Error::Run) if the tokenizer refuses the narrator's words.
pub fn painted(manifest: &Manifest, tokenizer: &Tokenizer, seed: u64) -> Result<Clip> {
    let recipe = Recipe::new(seed, Split::Test);
    // A narrator is silent now and then, but never for long.
    let videos = (0..64).map(|index| recipe.video(index));
    let video = videos.filter(|video| video.lines.is_some()).min_by_key(|video| video.world.length);
    let video = video.unwrap_or_else(|| recipe.video(0));
    let side = u16::try_from(manifest.vision.image_size).unwrap_or(u16::MAX);
    let picture = usize::from(side) * usize::from(side) * 3;
    let count = (PICTURE_BYTES / picture.max(1)).clamp(2, MOST_PICTURES);
    let count = count.min(manifest.temporal.positions as usize);
    let mut painter = Painter::new(&video.world, side);
    let mut pictures = vec![0; count * picture];
    for (index, rgb) in pictures.chunks_exact_mut(picture.max(1)).enumerate() {
        let at = usize::from(video.world.length) * index / count;
        painter.paint(u16::try_from(at).unwrap_or(u16::MAX), rgb);
    }
    let cue = |start: u32, end: u32, text: &str| Cue {
        span: TimeSpan::new(i64::from(start) * 1000, i64::from(end) * 1000),
        text: text.to_owned(),
    };
    let lines = video.lines.iter().flatten().take(MOST_LINES);
    let cues: Vec<Cue> = lines.map(|line| cue(line.start_ms, line.end_ms, &line.text)).collect();
    let duration_us = i64::from(milliseconds(video.world.length)) * 1000;
    let input_ids = input_ids(tokenizer, &cues, duration_us)?;
    Ok(Clip { pictures, count, side: usize::from(side), input_ids })
}

/// A clip as a file of [`Inputs`](crate::Inputs), which `eventide model run` takes too.
#[must_use]
pub(crate) fn clip_file(clip: &Clip) -> Vec<u8> {
    let ids: Vec<u8> = clip.input_ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let frames = vec![clip.count, clip.side, clip.side, 3];
    let tensors = [
        ("frames", TensorView::new(Dtype::U8, frames, &clip.pictures)),
        ("input_ids", TensorView::new(Dtype::I64, vec![1, clip.input_ids.len()], &ids)),
    ];
    let tensors = tensors.into_iter().filter_map(|(name, view)| Some((name, view.ok()?)));
    // Two tensors of known sizes: to write them to memory cannot fail.
    safetensors::serialize(tensors, None::<HashMap<String, String>>).unwrap_or_default()
}

/// What a model said of it, as a file.
#[must_use]
pub(crate) fn expected_file(expected: &Expected) -> Vec<u8> {
    // Plain fields; to write them to memory cannot fail.
    let mut text = serde_json::to_vec_pretty(expected).unwrap_or_default();
    text.push(b'\n');
    text
}
