//! The section `[cluster]`: who does the work where this machine does not, and how long a run waits.

use std::time::Duration;

use eventide_engine::Patience;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BrokenRule;

/// Time below which nobody can be waited for.
const LEAST: Duration = Duration::from_secs(1);

/// How a run on a cluster waits. What was finished is kept, whatever ends the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ClusterSection {
    /// The scheduler whose executors do the work, `http://host:50050`; this machine does it if not given.
    /// `--cluster` and `EVENTIDE_CLUSTER` go before it.
    pub(crate) scheduler: Option<String>,
    /// How long a run waits while there is no executor; then it fails.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub(crate) executors_grace: Duration,
    /// How long a run waits while there are executors and no shard gets done; then it fails.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub(crate) progress_grace: Duration,
    /// How long an executor may take for a shard; then it is tried again, four times in all.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub(crate) shard_deadline: Duration,
}

impl Default for ClusterSection {
    fn default() -> Self {
        Self {
            scheduler: None,
            executors_grace: Duration::from_mins(5),
            progress_grace: Duration::from_hours(12),
            shard_deadline: Duration::from_hours(6),
        }
    }
}

/// How long a query waits for a cluster that no job says it of.
pub(crate) fn default_patience() -> Patience {
    ClusterSection::default().unchecked_patience()
}

impl ClusterSection {
    fn unchecked_patience(&self) -> Patience {
        Patience {
            executors: self.executors_grace,
            progress: self.progress_grace,
            shard: self.shard_deadline,
        }
    }

    pub(super) fn patience(&self) -> Result<Patience, BrokenRule> {
        for (name, given) in [
            ("executors-grace", self.executors_grace),
            ("progress-grace", self.progress_grace),
            ("shard-deadline", self.shard_deadline),
        ] {
            if given < LEAST {
                return Err(BrokenRule::new(
                    format!("`cluster.{name}` of {given:?} lets nobody get anything done"),
                    format!("{LEAST:?} is the least"),
                ));
            }
        }
        if self.progress_grace <= self.shard_deadline {
            return Err(BrokenRule::new(
                "`cluster.progress-grace` is not longer than `cluster.shard-deadline`",
                "twice the deadline of a shard lets a second executor try it",
            ));
        }
        Ok(self.unchecked_patience())
    }
}
