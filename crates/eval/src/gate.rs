//! Whether figures fell below those of an earlier run.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::figures::Figures;

/// A figure that is lower than it may be, or that is not there.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Fall {
    /// The figure's name.
    pub figure: String,
    /// What it was.
    pub baseline: f64,
    /// The least that would have passed.
    pub least: f64,
    /// What it is; `None` if this run has no such figure.
    pub now: Option<f64>,
}

/// The figures of `baseline` that `figures` lacks, or in which it is worse by more than `tolerance`, a share of what the
/// figure was. Improvements pass.
#[must_use]
pub fn fallen(figures: &Figures, baseline: &BTreeMap<String, f64>, tolerance: f64) -> Vec<Fall> {
    let check = |(name, &was): (&String, &f64)| {
        let now = figures.get(name).map(|figure| figure.value);
        let least = was * (1.0 - tolerance);
        let holds = now.is_some_and(|now| now >= least);
        (!holds).then(|| Fall { figure: name.clone(), baseline: was, least, now })
    };
    baseline.iter().filter_map(check).collect()
}
