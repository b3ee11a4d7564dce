//! What a gate holds figures against: the headline figures of an earlier run.

use std::{collections::BTreeMap, fs, path::Path};

use eventide_eval::{figures::Figures, gate::fallen};
use serde::{Deserialize, Serialize};

use super::{
    arguments::{ConventionName, Entries, EvalArguments, RolesName, SeveralSetsName, Variant},
    document::Gate,
};
use crate::commands::Stop;

/// Figures of a run and what they are figures of. A whole report can be read as one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Baseline {
    /// What was scored.
    variant: Variant,
    /// By whose habits.
    convention: ConventionName,
    /// How many reference sets there were.
    sets: usize,
    /// What they made of a video.
    several_sets: SeveralSetsName,
    /// Which caption of a pair was the hypothesis.
    roles: RolesName,
    /// What an entry of the references was of.
    #[serde(default)]
    entries: Entries,
    /// How many videos were scored.
    videos: usize,
    /// The figures.
    figures: BTreeMap<String, f64>,
}

impl Baseline {
    /// The headline figures of this run.
    pub(super) fn of(arguments: &EvalArguments, figures: &Figures) -> Self {
        let headline = figures.all().iter().filter(|f| f.headline && f.value.is_finite());
        Self {
            variant: arguments.variant,
            convention: arguments.convention,
            sets: arguments.references.len(),
            several_sets: arguments.several_sets,
            roles: arguments.roles,
            entries: arguments.entries,
            videos: figures.videos().len(),
            figures: headline.map(|figure| (figure.name.clone(), figure.value)).collect(),
        }
    }

    /// What its figures are figures of.
    fn kind(&self) -> String {
        let Self { variant, convention, sets, several_sets, roles, entries, .. } = self;
        format!(
            "{variant:?}, {convention:?}, {sets} reference sets ({several_sets:?}) of {entries:?}, {roles:?}"
        )
    }

    /// Reads one.
    pub(super) fn load(path: &Path) -> Result<Self, Stop> {
        let wrong = |error: &dyn std::error::Error| {
            Stop::bad_job(miette::miette!(
                help = "make one by --write-baseline FILE",
                "cannot use `{}` as a baseline\n  because: {error}",
                path.display()
            ))
        };
        let text = fs::read(path).map_err(|error| wrong(&error))?;
        serde_json::from_slice(&text).map_err(|error| wrong(&error))
    }

    /// Writes it whole or not at all.
    pub(super) fn write(&self, path: &Path) -> Result<(), Stop> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        super::write(path, text.as_bytes())
    }

    /// Holds figures against it.
    pub(super) fn check(&self, arguments: &EvalArguments, figures: &Figures) -> Result<Gate, Stop> {
        let now = Self::of(arguments, figures);
        if self.kind() != now.kind() {
            return Err(Stop::bad_job(miette::miette!(
                help = "score as the baseline was made, or write another one by --write-baseline",
                "the baseline is of other figures: {}; and this run gives: {}",
                self.kind(),
                now.kind()
            )));
        }
        let fallen = fallen(figures, &self.figures, arguments.tolerance);
        let missing: Vec<_> =
            fallen.iter().filter(|fall| fall.now.is_none()).map(|fall| &*fall.figure).collect();
        if !missing.is_empty() {
            return Err(Stop::bad_job(miette::miette!(
                help =
                    "`meteor` and `soda_c` need --meteor-jar, which is to be given always or never",
                "this run has no figure of the baseline's: {}",
                missing.join(", ")
            )));
        }
        let videos_missing = self.videos.saturating_sub(now.videos);
        Ok(Gate {
            baseline: arguments.gate.as_deref().unwrap_or(Path::new("")).display().to_string(),
            tolerance: arguments.tolerance,
            passed: fallen.is_empty() && videos_missing == 0,
            checked: self.figures.len(),
            videos_missing,
            fallen,
        })
    }
}
