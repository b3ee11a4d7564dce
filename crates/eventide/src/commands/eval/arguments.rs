//! The arguments of `eventide eval`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use eventide_eval::{
    Convention, SodaCost, Unpredicted,
    soda::{Roles, SeveralSets},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::arguments::Format;

const EXAMPLES: &str = "\
Examples:
  eventide eval --predictions s3://lake/tables --references val_1.json val_2.json
  eventide eval --predictions preds.json --references val.json --meteor-jar meteor-1.5.jar --report out
  eventide eval --predictions new.json --references val.json --compare old.json
  eventide eval --predictions lake --references vitt_test.json --entries annotations
  eventide eval --predictions lake --references val.json --write-baseline baseline.json
  eventide eval --predictions lake --references val.json --gate baseline.json --tolerance 5%

Files are JSON in the forms of ActivityNet Captions ({\"results\": {video: [{sentence, timestamp}]}} and
{video: {duration, timestamps, sentences}}) or of VidChapters ({video: {duration, chapters: [{time, label}]}}),
on either side. Without --meteor-jar, METEOR and SODA_c are not the published measures and are named
meteor_native and soda_c_native.

Exit codes: 0 done, 1 a figure fell or a scorer failed, 2 the input is wrong.";

/// Arguments of `eval`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EvalArguments {
    /// What to score: a folder of tables, its `events` table, or a JSON file. A path or an address.
    #[arg(long, value_name = "TABLE|FILE")]
    pub(super) predictions: String,
    /// What to score against, one for each annotator.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    pub(super) references: Vec<String>,
    /// What is scored.
    #[arg(long, default_value = "dense")]
    pub(super) variant: Variant,
    /// Whose habits are followed where the published scorers differ.
    #[arg(long, default_value = "densevid")]
    pub(super) convention: ConventionName,
    /// Which caption of a pair is the hypothesis, in SODA and in clips.
    #[arg(long, default_value = "swapped")]
    pub(super) roles: RolesName,
    /// What several reference sets make of a video, in SODA.
    #[arg(long, default_value = "each-set")]
    pub(super) several_sets: SeveralSetsName,
    /// What an aligned pair is worth in `SODA_c`, times its overlap.
    #[arg(long, default_value = "meteor")]
    pub(super) soda_cost: SodaCostName,
    /// What becomes of reference videos that the predictions do not name.
    #[arg(long, default_value = "leave-out")]
    pub(super) unpredicted: UnpredictedName,
    /// What the videos of tables are called in the references.
    #[arg(long, default_value = "stem")]
    pub(super) ids: Ids,
    /// What an entry of the references is of.
    #[arg(long, default_value = "videos")]
    pub(super) entries: Entries,
    /// METEOR 1.5's own program, with its folder `data` beside it.
    #[arg(long, value_name = "FILE", env = "EVENTIDE_METEOR_JAR")]
    pub(super) meteor_jar: Option<PathBuf>,
    /// Folder of WordNet's index files, for synonyms in the measure that stands in for METEOR, which is then
    /// `meteor_native_wordnet`. Of no effect with --meteor-jar.
    #[arg(long, value_name = "DIR")]
    pub(super) wordnet: Option<PathBuf>,
    /// The Java that runs it; else it is looked for in the folder of the tools and in `PATH`.
    #[arg(long, value_name = "FILE")]
    pub(super) java: Option<PathBuf>,
    /// Folder with `java`.
    #[arg(long, env = "EVENTIDE_TOOLS", value_name = "DIR")]
    pub(super) tools: Option<PathBuf>,
    /// How long METEOR may take for one answer; it needs some seconds for the first.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    pub(super) meteor_deadline: Duration,
    /// Other predictions to put beside these.
    #[arg(long, value_name = "TABLE|FILE")]
    pub(super) compare: Option<String>,
    /// How often the videos are drawn anew for the intervals of a comparison.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) resamples: u32,
    /// Number from which these draws follow.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(super) seed: u64,
    /// Fail if a figure is below that of an earlier run, as --write-baseline or --format json wrote it.
    #[arg(long, value_name = "FILE")]
    pub(super) gate: Option<PathBuf>,
    /// How much worse a figure may be, as a share of what it was.
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = share)]
    pub(super) tolerance: f64,
    /// Write the headline figures to a file for later gates.
    #[arg(long, value_name = "FILE")]
    pub(super) write_baseline: Option<PathBuf>,
    /// Write `report.md`, `report.html`, `report.json` and the plots to a folder.
    #[arg(long, value_name = "DIR")]
    pub(super) report: Option<PathBuf>,
    /// How the result is printed.
    #[arg(long, default_value = "text")]
    pub(super) format: Format,
}

/// What is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Variant {
    /// Events: where they are and what they say.
    Dense,
    /// All captions of a video as one paragraph.
    Paragraph,
    /// Captions for the spans of the references, such as chapter titles with given boundaries.
    Clips,
}

/// Whose habits are followed where the published scorers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ConventionName {
    /// Events by start, references whole: the scorer of VidChapters and PDVC.
    Densevid,
    /// Events as given, references cut to 200 bytes: the scorer of the JAX original.
    Scenic,
}

impl ConventionName {
    /// The same for the scorer.
    pub(super) fn of_scorer(self) -> Convention {
        match self {
            Self::Densevid => Convention::Densevid,
            Self::Scenic => Convention::Scenic,
        }
    }
}

/// Which caption of a pair is the hypothesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RolesName {
    /// The reference, as published.
    Swapped,
    /// The prediction.
    Straight,
}

impl From<RolesName> for Roles {
    fn from(name: RolesName) -> Self {
        match name {
            RolesName::Swapped => Self::Swapped,
            RolesName::Straight => Self::Straight,
        }
    }
}

/// What several reference sets make of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SeveralSetsName {
    /// Each set by itself, and the mean over sets: as published.
    EachSet,
    /// The set that gives the best F1.
    BestOfSets,
    /// One list.
    Pooled,
}

impl From<SeveralSetsName> for SeveralSets {
    fn from(name: SeveralSetsName) -> Self {
        match name {
            SeveralSetsName::EachSet => Self::EachSet,
            SeveralSetsName::BestOfSets => Self::BestOfSets,
            SeveralSetsName::Pooled => Self::Pooled,
        }
    }
}

/// What an aligned pair is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SodaCostName {
    /// METEOR, as published, or `meteor_native`.
    Meteor,
    /// CIDEr-D over the references' document frequencies; the figure is `soda_c_cider_d`.
    CiderD,
}

impl From<SodaCostName> for SodaCost {
    fn from(name: SodaCostName) -> Self {
        match name {
            SodaCostName::Meteor => Self::Meteor,
            SodaCostName::CiderD => Self::CiderD,
        }
    }
}

/// What becomes of reference videos without a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UnpredictedName {
    /// They are not scored, as published; how many is printed.
    LeaveOut,
    /// They are scored as if nothing had been found in them.
    Empty,
}

impl From<UnpredictedName> for Unpredicted {
    fn from(name: UnpredictedName) -> Self {
        match name {
            UnpredictedName::LeaveOut => Self::LeaveOut,
            UnpredictedName::Empty => Self::Empty,
        }
    }
}

/// What the videos of tables are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ids {
    /// By the name of the file, without its extension.
    Stem,
    /// By the column `video_id`.
    VideoId,
    /// By the column `uri`.
    Uri,
}

/// What an entry of the references is of.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Entries {
    /// Of a video, under its id.
    #[default]
    Videos,
    /// Of a video by one annotator, under `k_id`, as in `ViTT`: each annotator counts as a video.
    Annotations,
}

/// `5%` or `0.05`, from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let share = number.trim().parse::<f64>().map(|number| number / scale);
    share
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("`{text}` is no share: write it as `5%` or `0.05`"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("5%", Some(0.05))]
    #[case("0.05", Some(0.05))]
    #[case("0", Some(0.0))]
    #[case("100 %", Some(1.0))]
    #[case("5", None)]
    #[case("-1%", None)]
    #[case("NaN", None)]
    #[case("", None)]
    fn shares(#[case] text: &str, #[case] expected: Option<f64>) {
        assert_eq!(share(text).ok(), expected);
    }
}
