//! Scores under names, in one flat list, with what each is made of: that is what reports print, gates compare and
//! resamplings of the videos are computed from.
//!
//! With METEOR 1.5 the names are `meteor` and `soda_c`. With any other scorer they are the scorer's own name and
//! `soda_c_` with what is left of it after `meteor_`, such as `meteor_native` and `soda_c_native`: nobody shall compare
//! the two by mistake.

use std::collections::HashMap;

use crate::{
    Scores,
    clips::{Clips, VideoClips},
    dense::CaptionScores,
    localisation::{At, PrecisionRecall, count},
    paragraph::Paragraphs,
    soda::Soda,
};

/// The name under which METEOR 1.5 itself is to be reported.
pub const METEOR: &str = "meteor";

/// The figures of one set of predictions. The greater, the better, each of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    videos: Vec<String>,
    /// What figures are made of: for each part a value for each video, not a number where a video has none.
    parts: Vec<Vec<f64>>,
    all: Vec<Figure>,
}

/// A named figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Its name, such as `cider` or `recall@0.5`.
    pub name: String,
    /// Over all videos.
    pub value: f64,
    /// Whether it is one of those that a person looks at first, and not a figure at a single threshold.
    pub headline: bool,
    made_of: MadeOf,
}

#[derive(Debug, Clone, PartialEq)]
enum MadeOf {
    /// The mean of the means of parts over videos.
    Means(Vec<usize>),
    /// The mean over pairs of a precision and a recall of the F1 of their means over videos.
    F1OfMeans(Vec<(usize, usize)>),
    /// The sum of one part over videos, divided by that of another.
    Shares { sum: usize, number: usize },
    /// Counts of the whole corpus. What is given for each video is its own score, of which this is no mean.
    Corpus(Option<usize>),
}

impl Figures {
    fn new(videos: Vec<String>) -> Self {
        Self { videos, parts: Vec::new(), all: Vec::new() }
    }

    /// The figures of dense captions.
    #[must_use]
    pub fn of_dense(scores: &Scores) -> Self {
        let videos = scores.localisation.videos.iter();
        let mut figures = Self::new(videos.map(|video| video.video.clone()).collect());
        figures.add_soda(scores);
        figures.add_captions(scores);
        figures.add_localisation(scores);
        figures
    }

    /// The figures of paragraphs.
    #[must_use]
    pub fn of_paragraphs(scores: &Paragraphs) -> Self {
        let mut figures = Self::new(scores.videos.clone());
        let part = figures.part(scores.video_cider.clone());
        figures.add("cider", true, MadeOf::Means(vec![part]));
        for ((name, total), of_videos) in scores.others.iter().zip(&scores.video_others) {
            let part = figures.part(of_videos.clone());
            figures.push(name, true, MadeOf::Corpus(Some(part)), *total);
        }
        figures
    }

    /// The figures of captions for given spans: means over clips, so that a video counts as often as it has some.
    #[must_use]
    pub fn of_clips(scores: &Clips) -> Self {
        let mut figures =
            Self::new(scores.videos.iter().map(|video| video.video.clone()).collect());
        let number = figures.part(scores.videos.iter().map(|video| count(video.clips)).collect());
        let mut add = |name: &str, value: fn(&VideoClips) -> f64| {
            let sums = scores.videos.iter().map(|video| value(video) * count(video.clips));
            let sum = figures.part(sums.collect());
            figures.add(name, true, MadeOf::Shares { sum, number });
        };
        add("cider", |video| video.cider);
        add("rouge_l", |video| video.rouge_l);
        let CaptionScores { bleu, others, .. } = &scores.corpus;
        for (place, (name, total)) in scores.others.iter().zip(others).enumerate() {
            let of_videos = scores.videos.iter().map(|video| video.others[place]);
            let part = figures.part(of_videos.collect());
            figures.push(name, true, MadeOf::Corpus(Some(part)), *total);
        }
        for (n, bleu) in (1..).zip(bleu) {
            figures.push(&format!("bleu_{n}"), true, MadeOf::Corpus(None), *bleu);
        }
        figures
    }

    fn add_soda(&mut self, scores: &Scores) {
        let suffix = match &*scores.soda_measure {
            METEOR => String::new(),
            other => format!("_{}", other.strip_prefix("meteor_").unwrap_or(other)),
        };
        self.add_alignment(&format!("soda_c{suffix}"), &scores.soda_c);
        self.add_alignment("soda_d", &scores.soda_d);
    }

    fn add_alignment(&mut self, name: &str, soda: &Soda) {
        for (figure, headline, value) in [
            (name.to_owned(), true, (|scores| scores.f1) as fn(PrecisionRecall) -> f64),
            (format!("{name}_precision"), false, |scores| scores.precision),
            (format!("{name}_recall"), false, |scores| scores.recall),
        ] {
            let parts = soda.sets.iter().map(|set| {
                let scored: HashMap<_, _> =
                    set.videos.iter().map(|video| (&*video.video, video.scores)).collect();
                let videos = self.videos.iter();
                videos.map(|video| scored.get(&**video).map_or(f64::NAN, |s| value(*s))).collect()
            });
            let parts: Vec<Vec<f64>> = parts.collect();
            let parts = parts.into_iter().map(|part| self.part(part)).collect();
            self.add(&figure, headline, MadeOf::Means(parts));
        }
    }

    fn add_captions(&mut self, scores: &Scores) {
        let captions = &scores.captions;
        let measures = ["cider", "rouge_l", "bleu_1", "bleu_2", "bleu_3", "bleu_4"];
        let own = measures.iter().map(|name| (*name).to_owned());
        let value = |scores: &CaptionScores, measure: usize| match measure {
            0 => scores.cider,
            1 => scores.rouge_l,
            2..6 => scores.bleu[measure - 2],
            other => scores.others[other - 6],
        };
        let measures: Vec<_> = own.chain(captions.others.iter().cloned()).enumerate().collect();
        for (measure, name) in &measures {
            let parts = (0..captions.by_iou.len()).map(|at| {
                let videos = captions.videos.iter();
                videos.map(|video| value(&video.by_iou[at].scores, *measure)).collect()
            });
            let parts: Vec<usize> = parts.map(|part| self.part(part)).collect();
            self.add(name, true, MadeOf::Means(parts.clone()));
            for (at, part) in captions.by_iou.iter().zip(parts) {
                self.add(&format!("{name}@{}", at.threshold), false, MadeOf::Means(vec![part]));
            }
        }
    }

    fn add_localisation(&mut self, scores: &Scores) {
        let localisation = &scores.localisation;
        let mut overlaps = Vec::new();
        for (index, at) in localisation.by_iou.iter().enumerate() {
            let found = localisation.videos.iter().map(|video| &video.by_iou[index]);
            overlaps.push(self.add_at("", &at.threshold.to_string(), &found.collect::<Vec<_>>()));
        }
        for (index, at) in localisation.by_start.iter().enumerate() {
            let found = localisation.videos.iter().map(|video| &video.by_start[index]);
            let distance = format!("{}s", at.threshold);
            self.add_at("start_", &distance, &found.collect::<Vec<_>>());
        }
        let (precisions, recalls) = overlaps.iter().copied().unzip();
        self.add("precision", true, MadeOf::Means(precisions));
        self.add("recall", true, MadeOf::Means(recalls));
        self.add("f1_of_means", true, MadeOf::F1OfMeans(overlaps));
        let of_videos = localisation.videos.iter().map(|video| video.mean.f1).collect();
        let part = self.part(of_videos);
        self.add("mean_of_f1", true, MadeOf::Means(vec![part]));
    }

    /// Precision, recall and F1 at one threshold; gives the parts of the first two.
    fn add_at(&mut self, prefix: &str, threshold: &str, videos: &[&At]) -> (usize, usize) {
        let precision = self.part(videos.iter().map(|at| at.scores.precision).collect());
        let recall = self.part(videos.iter().map(|at| at.scores.recall).collect());
        for (name, made_of) in [
            ("precision", MadeOf::Means(vec![precision])),
            ("recall", MadeOf::Means(vec![recall])),
            ("f1", MadeOf::F1OfMeans(vec![(precision, recall)])),
        ] {
            self.add(&format!("{prefix}{name}@{threshold}"), false, made_of);
        }
        (precision, recall)
    }

    fn part(&mut self, values: Vec<f64>) -> usize {
        self.parts.push(values);
        self.parts.len() - 1
    }

    fn add(&mut self, name: &str, headline: bool, made_of: MadeOf) {
        let value = self.value(&made_of, |part| mean(part.iter().copied()));
        self.push(name, headline, made_of, value);
    }

    fn push(&mut self, name: &str, headline: bool, made_of: MadeOf, value: f64) {
        self.all.push(Figure { name: name.to_owned(), value, headline, made_of });
    }

    fn value(&self, made_of: &MadeOf, mean_of: impl Fn(&[f64]) -> f64) -> f64 {
        let mean_of = |part: &usize| mean_of(&self.parts[*part]);
        match made_of {
            MadeOf::Means(parts) => mean(parts.iter().map(mean_of)),
            MadeOf::F1OfMeans(pairs) => mean(pairs.iter().map(|(precision, recall)| {
                PrecisionRecall::new(mean_of(precision), mean_of(recall)).f1
            })),
            MadeOf::Shares { sum, number } => mean_of(sum) / mean_of(number),
            MadeOf::Corpus(_) => f64::NAN,
        }
    }

    /// The videos that were scored, by id.
    #[must_use]
    pub fn videos(&self) -> &[String] {
        &self.videos
    }

    /// All figures, in the order in which a person reads them.
    #[must_use]
    pub fn all(&self) -> &[Figure] {
        &self.all
    }

    /// The figure of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Figure> {
        self.all.iter().find(|figure| figure.name == name)
    }

    /// What a figure is for one video, by its place among [`Self::videos`]; `None` where the video has no share in it.
    #[must_use]
    pub fn of_video(&self, figure: &Figure, video: usize) -> Option<f64> {
        let value = match figure.made_of {
            MadeOf::Corpus(part) => part.map_or(f64::NAN, |part| self.parts[part][video]),
            _ => self.value(&figure.made_of, |part| part[video]),
        };
        (!value.is_nan()).then_some(value)
    }

    /// What a figure is where each video counts as often as `times` says; `None` for a figure of the whole corpus.
    pub(crate) fn weighted(&self, figure: &Figure, times: &[u32]) -> Option<f64> {
        let weighted_mean = |part: &[f64]| {
            let (mut sum, mut number) = (0.0, 0.0);
            for (value, times) in part.iter().zip(times) {
                if !value.is_nan() {
                    sum += value * f64::from(*times);
                    number += f64::from(*times);
                }
            }
            if number > 0.0 { sum / number } else { f64::NAN }
        };
        let value = self.value(&figure.made_of, weighted_mean);
        (!value.is_nan()).then_some(value)
    }
}

/// The mean of those that are numbers; not a number for none.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut number) = (0.0, 0.0);
    for value in values.filter(|value| !value.is_nan()) {
        sum += value;
        number += 1.0;
    }
    if number > 0.0 { sum / number } else { f64::NAN }
}
