//! The report as data: what `--format json` prints and `report.json` holds.

use std::collections::BTreeMap;

use eventide_eval::{
    Corpus, LeftOut,
    compare::Comparison,
    curves::{Calibration, calibration, precision_recall},
    figures::Figures,
    gate::Fall,
    localisation::At,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    arguments::{
        ConventionName, Entries, EvalArguments, RolesName, SeveralSetsName, UnpredictedName,
        Variant,
    },
    read::{Inputs, Source},
};

/// Videos that are called the worst.
const WORST: usize = 10;

/// Scores of predicted against reference events, and how they came about.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct EvalReport {
    /// Version of this form.
    pub(super) format_version: u32,
    /// What was scored.
    pub(super) predictions: Origin,
    /// What it was scored against, one set for each annotator.
    pub(super) references: Vec<Origin>,
    /// How many reference sets there were.
    pub(super) sets: usize,
    /// What kind of score.
    pub(super) variant: Variant,
    /// By whose habits.
    pub(super) convention: ConventionName,
    /// Which caption of a pair was the hypothesis.
    pub(super) roles: RolesName,
    /// What several reference sets made of a video.
    pub(super) several_sets: SeveralSetsName,
    /// What an entry of the references was of; with `annotations`, each of them counts as a video below.
    pub(super) entries: Entries,
    /// What became of reference videos without a prediction.
    pub(super) unpredicted: UnpredictedName,
    /// Videos that were scored.
    pub(super) videos: usize,
    /// What was not used, or used by a rule.
    pub(super) left_out: LeftOut,
    /// Videos that were left out since nothing was predicted in them; only paragraphs are scored so.
    pub(super) without_events: Vec<String>,
    /// Every figure by its name. CIDEr runs from 0 to 10, all others from 0 to 1.
    pub(super) figures: BTreeMap<String, f64>,
    /// The figures that a person looks at first, in their order.
    pub(super) headline: Vec<String>,
    /// Each video, by id.
    pub(super) per_video: Vec<VideoFigures>,
    /// The videos with the lowest scores, the lowest first.
    pub(super) worst: Vec<String>,
    /// Precision and recall at overlaps from 0 to 0.95; empty unless events were scored.
    pub(super) precision_recall: Vec<At>,
    /// Whether the model's own scores can be trusted; null without any.
    pub(super) calibration: Option<Calibration>,
    /// These predictions beside others.
    pub(super) comparison: Option<Compared>,
    /// Whether figures held.
    pub(super) gate: Option<Gate>,
}

/// A file or table of events.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Origin {
    /// Where, as it was given.
    pub(super) place: String,
    /// Videos that it names.
    pub(super) videos: usize,
    /// Events of these.
    pub(super) events: usize,
    /// Videos of a table that failed or were skipped, and so have no prediction.
    pub(super) unfinished: usize,
}

impl Origin {
    fn of(source: &Source) -> Self {
        Self {
            place: source.place.clone(),
            videos: source.annotations.len(),
            events: source.annotations.iter().map(|(_, events)| events.len()).sum(),
            unfinished: source.unfinished,
        }
    }
}

/// The figures of one video; those that it has no share in are left out.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct VideoFigures {
    /// The video.
    pub(super) video: String,
    /// By name.
    pub(super) figures: BTreeMap<String, f64>,
}

/// Other predictions beside these.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Compared {
    /// The others.
    pub(super) other: Origin,
    /// Of them, what was not used, or used by a rule.
    pub(super) other_left_out: LeftOut,
    /// Figure by figure.
    pub(super) comparison: Comparison,
}

/// Whether figures held against a baseline.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Gate {
    /// The baseline's file.
    pub(super) baseline: String,
    /// How much worse a figure may be, as a share of what it was.
    pub(super) tolerance: f64,
    /// Whether nothing fell.
    pub(super) passed: bool,
    /// Figures that were checked.
    pub(super) checked: usize,
    /// How many videos fewer than in the baseline were scored. Any is too many: leaving out hard ones raises figures.
    pub(super) videos_missing: usize,
    /// What fell.
    pub(super) fallen: Vec<Fall>,
}

/// Joined predictions and their figures.
pub(super) struct Scored {
    /// The videos.
    pub(super) corpus: Corpus,
    /// Their figures.
    pub(super) figures: Figures,
    /// Videos that have none: a paragraph of no caption is not scored.
    pub(super) without_events: Vec<String>,
}

impl EvalReport {
    /// The report of a run.
    pub(super) fn new(
        arguments: &EvalArguments,
        inputs: &Inputs,
        scored: &Scored,
        comparison: Option<Compared>,
        gate: Option<Gate>,
    ) -> Self {
        let Scored { corpus, figures, without_events } = scored;
        let dense = arguments.variant == Variant::Dense;
        let known = || figures.all().iter().filter(|figure| figure.value.is_finite());
        Self {
            format_version: 1,
            predictions: Origin::of(&inputs.predictions),
            references: inputs.references.iter().map(Origin::of).collect(),
            sets: inputs.references.len(),
            variant: arguments.variant,
            convention: arguments.convention,
            roles: arguments.roles,
            several_sets: arguments.several_sets,
            entries: arguments.entries,
            unpredicted: arguments.unpredicted,
            videos: figures.videos().len(),
            left_out: corpus.left_out().clone(),
            without_events: without_events.clone(),
            figures: known().map(|figure| (figure.name.clone(), figure.value)).collect(),
            headline: known().filter(|f| f.headline).map(|figure| figure.name.clone()).collect(),
            per_video: per_video(figures),
            worst: worst(figures),
            precision_recall: if dense { precision_recall(corpus) } else { Vec::new() },
            calibration: if dense { calibration(corpus) } else { None },
            comparison,
            gate,
        }
    }
}

impl Compared {
    /// Other predictions, compared.
    pub(super) fn new(other: &Source, left_out: &LeftOut, comparison: Comparison) -> Self {
        Self { other: Origin::of(other), other_left_out: left_out.clone(), comparison }
    }
}

fn per_video(figures: &Figures) -> Vec<VideoFigures> {
    let of_video = |(place, video): (usize, &String)| VideoFigures {
        video: video.clone(),
        figures: figures
            .all()
            .iter()
            .filter_map(|figure| Some((figure.name.clone(), figures.of_video(figure, place)?)))
            .collect(),
    };
    figures.videos().iter().enumerate().map(of_video).collect()
}

/// By the first figure that videos have a share in, then by the next ones.
fn worst(figures: &Figures) -> Vec<String> {
    let keys = |place: usize| -> Vec<f64> {
        let headline = figures.all().iter().filter(|figure| figure.headline);
        headline.filter_map(|figure| figures.of_video(figure, place)).collect()
    };
    let mut videos: Vec<_> =
        (0..figures.videos().len()).map(|place| (keys(place), place)).collect();
    videos.sort_by(|(one, _), (other, _)| {
        let pairs = one.iter().zip(other);
        pairs
            .map(|(a, b)| a.total_cmp(b))
            .find(|order| order.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    videos.iter().take(WORST).map(|(_, place)| figures.videos()[*place].clone()).collect()
}
