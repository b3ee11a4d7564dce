//! Synthetic videos that are drawn as they are needed, without files: encoding and decoding them takes ten times as
//! long as all else that is done to learn from them.
//!
//! Pictures are those of the files but for what the codec and scaling lose: features of a small vision encoder
//! differ by a cosine of 0.99, those of one second and the next by 0.90.

use std::time::Duration;

use eventide_media::slots;
use eventide_model::frames::pick;
use eventide_schema::{Cue, TimeSpan};
use ndarray::Array4;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    cache::{Pictures, Rows},
    example::Example,
    folder::Report,
    pictures::Look,
};
use crate::synth::{
    self, Recipe, Video,
    draw::Painter,
    looks::Split,
    scene::{self, Phrase},
    world::{milliseconds, shown_in},
};

/// The first videos of a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Drawn {
    /// How many.
    pub drawn: u32,
    /// Number from which all of them follow.
    pub seed: u64,
    /// Which part of a data set they are.
    #[serde(default = "train")]
    pub split: Split,
    /// Seconds of the shortest, at least 10.
    pub shortest: u64,
    /// Seconds of the longest, at most 3600.
    pub longest: u64,
    /// How many shapes are on stage at once, at most: 2 to 6.
    #[serde(default = "crowd")]
    pub crowd: u8,
}

fn train() -> Split {
    Split::Train
}

fn crowd() -> u8 {
    synth::CROWD
}

impl Drawn {
    /// What the videos are made from.
    ///
    /// # Errors
    /// [`synth::Error::Lengths`], [`synth::Error::Crowd`].
    pub fn recipe(&self) -> Result<Recipe, synth::Error> {
        let [shortest, longest] = [self.shortest, self.longest].map(Duration::from_secs);
        Recipe::new(self.seed, self.split).with_lengths(shortest, longest)?.with_crowd(self.crowd)
    }

    /// An example for each video, named as its file would be.
    ///
    /// # Errors
    /// As [`Drawn::recipe`].
    pub fn examples(&self) -> Result<(Vec<Example>, Report), synth::Error> {
        let recipe = self.recipe()?;
        let examples: Vec<Example> =
            (0..self.drawn).map(|index| example(&recipe.video(index))).collect();
        let mut report = Report { annotated: self.drawn as usize, ..Report::default() };
        for example in &examples {
            report.count(example);
        }
        Ok((examples, report))
    }
}

/// A video with all that is true and said of it.
fn example(video: &Video) -> Example {
    let span = |start_ms: u32, end_ms: u32| {
        TimeSpan::new(i64::from(start_ms) * 1000, i64::from(end_ms) * 1000)
    };
    let said = video.lines.iter().flatten();
    let told = video.world.events.iter().zip(&video.captions);
    Example {
        video_id: video.name.clone(),
        file: video.name.clone().into(),
        span: span(0, milliseconds(video.world.length)),
        speech: said
            .map(|line| Cue { span: span(line.start_ms, line.end_ms), text: line.text.clone() })
            .collect(),
        references: vec![
            told.map(|(event, caption)| Cue {
                span: span(milliseconds(event.start), milliseconds(event.end)),
                text: caption.clone(),
            })
            .collect(),
        ],
    }
}

/// The pictures of a video, as those of its file are looked at.
#[must_use]
pub fn pictures(video: &Video, look: &Look) -> Pictures {
    let duration_us = i64::from(milliseconds(video.world.length)) * 1000;
    let slots = pick(slots(TimeSpan::new(0, duration_us)), &look.rule);
    let side = u16::try_from(look.size).unwrap_or(u16::MAX);
    let mut values = Array4::zeros((slots.len(), side.into(), side.into(), 3));
    let mut painter = Painter::new(&video.world, side);
    for (slot, mut picture) in slots.iter().zip(values.outer_iter_mut()) {
        if let Some(rgb) = picture.as_slice_mut() {
            painter.paint(shown(video, *slot), rgb);
        }
    }
    Rows { values, slots: slots.clone(), wanted: slots, duration_us }
}

/// What is seen in second `slot` of a video, in words.
#[must_use]
pub fn phrases(video: &Video, slot: usize) -> Vec<Phrase> {
    scene::phrases(&video.world, shown(video, slot))
}

/// The picture that is shown in second `slot`: the last one where the video ends before.
fn shown(video: &Video, slot: usize) -> u16 {
    shown_in(slot).min(video.world.length.saturating_sub(1))
}
