//! Why a run ended early, and which of it a task may try again.

use std::{fmt, io, time::Duration};

use datafusion::error::DataFusionError;

use crate::BUILD;

/// Why a run ended early. What it finished is kept: the next run of the job takes it over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The catalog: listing, planning, receipts, publishing.
    #[error(transparent)]
    Catalog(#[from] eventide_catalog::Error),
    /// The tables cannot be written to.
    #[error("cannot write to the tables")]
    Tables(#[source] eventide_catalog::Error),
    /// A worker could not go on.
    #[error("indexing stopped at `{video}`")]
    Pipeline {
        /// The video at which it stopped.
        video: String,
        /// Why.
        source: Box<eventide_pipeline::Error>,
    },
    /// The manifest of the model bundle could not be read.
    #[error("cannot read the manifest `{uri}` of the model bundle")]
    Manifest {
        /// Where it should be.
        uri: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// The model could not be loaded.
    #[error("cannot use the model bundle `{uri}`")]
    Bundle {
        /// Where the bundle is.
        uri: String,
        /// Why.
        source: eventide_model::Error,
    },
    /// The thread of a model could not be started.
    #[error("cannot start the model")]
    Captioner(#[source] eventide_pipeline::Error),
    /// The bundle's weights are random.
    #[error("the model bundle `{uri}` is not trained: its captions would mean nothing")]
    Untrained {
        /// Where the bundle is.
        uri: String,
    },
    /// The recogniser does not know a language.
    #[error("the speech bundle `{uri}` does not know the language `{language}`")]
    Language {
        /// Where the bundle is.
        uri: String,
        /// The language that it was to hear.
        language: String,
    },
    /// The media tools cannot be used.
    #[error("cannot use the media tools")]
    Media(#[source] eventide_media::Error),
    /// The scratch folder cannot be used.
    #[error("cannot use `{folder}` as scratch space")]
    Scratch {
        /// The folder.
        folder: String,
        /// Why.
        source: io::Error,
    },
    /// The plan failed.
    #[error("the run failed")]
    Plan(#[source] DataFusionError),
    /// Someone stopped the run.
    #[error("the run was cancelled")]
    Cancelled,
    /// The address of a scheduler is not one.
    #[error("`{url}` is not the address of a scheduler; it is written `http://host:port`")]
    SchedulerAddress {
        /// As it was given.
        url: String,
    },
    /// The scheduler is not there, or went away.
    #[error("cannot reach the scheduler at `{url}`")]
    Scheduler {
        /// Its address.
        url: String,
        /// What was said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The scheduler does not take the run.
    #[error("the scheduler at `{url}` refuses the run: {because}")]
    Refused {
        /// Its address.
        url: String,
        /// What it said.
        because: String,
    },
    /// The secret of a cluster could be guessed.
    #[error("the token of a cluster must have {least} characters or more")]
    WeakSecret {
        /// How many it must have.
        least: usize,
    },
    /// The scheduler asks for a secret that this process has not.
    #[error(
        "the scheduler at `{url}` asks for the token of its cluster, and this process has it not"
    )]
    NotAdmitted {
        /// Its address.
        url: String,
    },
    /// The scheduler is another build of the program. The same plan could mean something else there.
    #[error(
        "the scheduler at `{url}` is build `{theirs}` of eventide, and this process is `{}`",
        BUILD
    )]
    OtherBuild {
        /// Its address.
        url: String,
        /// Its build.
        theirs: String,
    },
    /// This process has a secret, and the scheduler asks for none.
    #[error("this process has the token of a cluster, and the scheduler at `{url}` asks for none")]
    OpenScheduler {
        /// Its address.
        url: String,
    },
    /// There was no executor for too long.
    #[error("no executor has worked for the scheduler at `{url}` for {}", whole_seconds(*waited))]
    NoExecutor {
        /// The scheduler.
        url: String,
        /// For how long.
        waited: Duration,
    },
    /// No shard got done for too long.
    #[error("no shard was finished on the cluster of `{url}` for {}; shards held: {held}", whole_seconds(*waited))]
    NoProgress {
        /// The scheduler.
        url: String,
        /// For how long.
        waited: Duration,
        /// How many shards each executor holds.
        held: String,
    },
    /// Executor after executor went away while a query ran.
    #[error(
        "{lost} executors of `{url}` were lost while the query ran: one of its videos may kill them"
    )]
    ExecutorsLost {
        /// The scheduler.
        url: String,
        /// How many.
        lost: usize,
    },
    /// The rows of a query cannot be fetched from the executor that has them.
    #[error("cannot fetch rows from the executor at `{address}`")]
    Fetch {
        /// Where it is.
        address: String,
        /// What was said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A device says something else than it should.
    #[error(
        "device `{device}` of `{worker}` must not be used with the model bundle `{bundle}`; shards that it finished since it last said the right thing: {since}"
    )]
    Unfit {
        /// The device.
        device: String,
        /// Who has it.
        worker: String,
        /// The bundle.
        bundle: String,
        /// Shards that may be wrong, by their ids.
        since: String,
        /// What it said.
        source: Box<eventide_pipeline::Error>,
    },
    /// An executor took too long for a shard.
    #[error("shard `{shard_id}` took longer than its deadline of {} on `{worker}`", whole_seconds(*deadline))]
    ShardDeadline {
        /// The shard.
        shard_id: String,
        /// Who worked on it.
        worker: String,
        /// How long it may take.
        deadline: Duration,
    },
    /// The cluster could not do the run.
    #[error("the run failed on the cluster of `{url}`: {because}")]
    OnCluster {
        /// The scheduler.
        url: String,
        /// What it said.
        because: String,
    },
    /// The cluster says that a run is done, and a shard is not.
    #[error("shard `{shard_id}` is said to be done, and has no receipt")]
    NoReceipt {
        /// The shard.
        shard_id: String,
    },
    /// A process of a cluster cannot listen.
    #[error("cannot listen at `{address}`")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A process of a cluster cannot go on.
    #[error("{what} stopped")]
    Process {
        /// Which.
        what: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Whether the same work may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Catalog(error) | Self::Tables(error) => error.is_transient(),
            Self::Pipeline { source, .. } => source.is_transient(),
            Self::Captioner(source) => source.is_transient(),
            Self::Media(source) => source.is_transient(),
            Self::Manifest { source, .. } => eventide_catalog::is_transient_failure(source),
            Self::Scheduler { .. }
            | Self::NoReceipt { .. }
            | Self::NoExecutor { .. }
            | Self::NoProgress { .. }
            | Self::Fetch { .. }
            | Self::ShardDeadline { .. } => true,
            Self::OnCluster { because, .. } => because.contains("all executors were lost"),
            Self::Cancelled
            | Self::SchedulerAddress { .. }
            | Self::Refused { .. }
            | Self::WeakSecret { .. }
            | Self::NotAdmitted { .. }
            | Self::OpenScheduler { .. }
            | Self::OtherBuild { .. }
            | Self::ExecutorsLost { .. }
            | Self::Unfit { .. }
            | Self::Listen { .. }
            | Self::Process { .. }
            | Self::Bundle { .. }
            | Self::Untrained { .. }
            | Self::Language { .. }
            | Self::Scratch { .. }
            | Self::Plan(_) => false,
        }
    }

    /// Whether the model or the tables, as the job names them, cannot be used: no run can begin.
    #[must_use]
    pub fn is_about_the_job(&self) -> bool {
        matches!(
            self,
            Self::Tables(_)
                | Self::Manifest { .. }
                | Self::Bundle { .. }
                | Self::Untrained { .. }
                | Self::Language { .. }
                | Self::Captioner(_)
                | Self::SchedulerAddress { .. }
                | Self::Refused { .. }
                | Self::WeakSecret { .. }
                | Self::NotAdmitted { .. }
                | Self::OpenScheduler { .. }
                | Self::OtherBuild { .. }
                | Self::Catalog(eventide_catalog::Error::DamagedBundle { .. })
        )
    }

    /// The error of a task: an I/O error where trying again may help, for that is the one class that
    /// the scheduler retries, else an external one, which ends the run.
    #[must_use]
    pub fn into_task_error(self) -> DataFusionError {
        if self.is_transient() {
            DataFusionError::IoError(io::Error::other(InTask(self)))
        } else {
            DataFusionError::External(Box::new(InTask(self)))
        }
    }

    /// What a task said, out of all that a scheduler wraps it in; the whole of it where nobody of ours spoke.
    pub(crate) fn told_by_task(text: &str) -> &str {
        let inner = text.split_once(BEGINS).and_then(|(_, rest)| rest.split_once(ENDS));
        inner.map_or(text, |(inner, _)| inner)
    }

    /// Our own error again, out of whatever the plan wrapped it in.
    #[must_use]
    pub fn from_plan(error: DataFusionError) -> Self {
        match error {
            DataFusionError::External(inner) => match inner.downcast::<InTask>() {
                Ok(ours) => ours.0,
                Err(other) => Self::Plan(DataFusionError::External(other)),
            },
            DataFusionError::IoError(io) => match io.downcast::<InTask>() {
                Ok(ours) => ours.0,
                Err(other) => Self::Plan(DataFusionError::IoError(other)),
            },
            DataFusionError::Context(_, inner) => Self::from_plan(*inner),
            other => Self::Plan(other),
        }
    }
}

/// An error of ours in a task. A scheduler shows such errors as a programmer would see them, so that is
/// what a person should read, between marks by which it is found again.
struct InTask(Error);

const BEGINS: char = '«';
const ENDS: char = '»';

impl fmt::Display for InTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = std::error::Error::source(&self.0);
        while let Some(error) = cause {
            write!(f, ", because: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for InTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BEGINS}{self}{ENDS}")
    }
}

impl std::error::Error for InTask {}

/// A time as a person writes it, without what is below a second.
fn whole_seconds(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (hours, minutes, _) => format!("{hours}h {minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped() -> Error {
        let source = Box::new(eventide_pipeline::Error::CaptionerStopped);
        Error::Pipeline { video: "v".to_owned(), source }
    }

    fn store_down() -> Error {
        let source = object_store::Error::Generic { store: "s3", source: "503".into() };
        let source =
            Box::new(eventide_pipeline::Error::Store { uri: "s3://b/v".to_owned(), source });
        Error::Pipeline { video: "v".to_owned(), source }
    }

    #[test]
    fn only_what_may_pass_is_of_the_class_that_is_retried() {
        assert!(matches!(store_down().into_task_error(), DataFusionError::IoError(_)));
        assert!(matches!(stopped().into_task_error(), DataFusionError::External(_)));
    }

    #[test]
    fn a_scheduler_shows_what_a_person_can_read() {
        for error in [stopped(), store_down()] {
            let wrapped = DataFusionError::Shared(std::sync::Arc::new(error.into_task_error()));
            let text = format!("Job failed: {:?}", format!("Task failed: {wrapped:?}"));
            let told = Error::told_by_task(&text);
            assert!(told.starts_with("indexing stopped at `v`, because: "), "{told}");
            assert!(told.ends_with(|end: char| end.is_alphanumeric() || end == '`'), "{told}");
        }
        assert_eq!(Error::told_by_task("all executors were lost"), "all executors were lost");
    }

    #[test]
    fn our_error_comes_back_out_of_the_plan() {
        for error in [stopped(), store_down()] {
            let text = error.to_string();
            let wrapped = error.into_task_error().context("somewhere in a plan");
            assert_eq!(Error::from_plan(wrapped).to_string(), text);
        }
    }
}
