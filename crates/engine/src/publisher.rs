//! Publishing a run: at its end, and where its job says so also in parts while it goes on.
//!
//! A part is a publication of its own: it is there wholly or not at all, and once, whoever dies. What is
//! not in a part comes with the next one or with the last, so nothing is lost by a part that fails.

use std::{collections::HashSet, time::Duration};

use eventide_catalog::{PublishPlan, Receipt, RunFacts, Tables, WorkList};
use eventide_schema::{Provenance, tables::RunRow};
use tokio::time::Instant;

use crate::{Error, Progress, retry::RETRIES};

/// How the stretches of videos that were split are joined.
pub(crate) struct Joining<'a> {
    /// Who joins them.
    pub by: Provenance,
    /// Told of each video that is joined.
    pub progress: &'a Progress,
}

/// Takes the receipts of a run as they come, and publishes them.
pub(crate) struct Publisher<'a> {
    tables: &'a Tables,
    work: &'a WorkList,
    /// The moment at which it is finished is put in when it is known.
    facts: RunFacts,
    joining: Joining<'a>,
    every: Option<Duration>,
    next: Instant,
    /// Finished, and in no part yet.
    waiting: Vec<Receipt>,
    /// The part that was begun last. Nothing else is published before it is.
    begun: Option<PublishPlan>,
    /// Parts of the run so far, those of earlier processes among them.
    parts: u32,
    /// Videos of `work` that are published.
    videos: u64,
}

impl<'a> Publisher<'a> {
    /// Publishes a run of which `parts` are published, and `every` so often what is finished, if given.
    pub(crate) fn new(
        tables: &'a Tables,
        work: &'a WorkList,
        facts: RunFacts,
        joining: Joining<'a>,
        parts: u32,
        every: Option<Duration>,
    ) -> Self {
        Self {
            tables,
            work,
            facts,
            joining,
            every,
            next: Instant::now() + every.unwrap_or_default(),
            waiting: work.adopted.clone(),
            begun: None,
            parts,
            videos: 0,
        }
    }

    /// Where the run is published.
    pub(crate) fn tables(&self) -> &'a Tables {
        self.tables
    }

    /// Takes in what is finished.
    pub(crate) fn take(&mut self, receipts: impl IntoIterator<Item = Receipt>) {
        self.waiting.extend(receipts);
    }

    /// Ends when it is time for a part, which is never where the run is published at once.
    pub(crate) async fn due(&self) {
        match self.every {
            Some(_) => tokio::time::sleep_until(self.next).await,
            None => std::future::pending().await,
        }
    }

    /// Publishes what is finished, if it is time. What cannot be published now comes later.
    ///
    /// # Errors
    /// Trouble that will not pass.
    pub(crate) async fn publish_due(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let Some(every) = self.every.filter(|_| now >= self.next) else { return Ok(()) };
        let published = self.publish_part().await;
        self.next = Instant::now() + every;
        match published {
            Err(error) if error.is_transient() => {
                tracing::warn!(run = %self.facts.run_id, error = %error, "no part is published this time");
                Ok(())
            }
            published => published,
        }
    }

    async fn publish_part(&mut self) -> Result<(), Error> {
        if self.begun.is_none() {
            self.begun = self.next_part().await?;
        }
        if let Some(plan) = &self.begun {
            publish(self.tables, plan).await?;
            self.begun = None;
        }
        Ok(())
    }

    /// What is finished as the next part; `None` where that is nothing, or all of the run. Of a video that is split,
    /// all stretches or none are in it.
    async fn next_part(&mut self) -> Result<Option<PublishPlan>, Error> {
        let joined = self.joined().await?;
        let finished: u64 =
            self.waiting.iter().chain(&joined).map(|receipt| receipt.counts.videos()).sum();
        let all = self.work.due.total() + self.work.skipped.len() as u64;
        if finished == 0 || self.videos + finished >= all {
            return Ok(None);
        }
        self.parts += 1;
        let whole: HashSet<_> = joined.iter().flat_map(videos).collect();
        let is_whole = |receipt: &Receipt| match &receipt.stretch {
            Some(done) => whole.contains(&done.outcome.video.video_id),
            None => true,
        };
        let (mut receipts, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(is_whole);
        self.waiting = others;
        self.take_joined(joined, &mut receipts);
        let (part, facts) = (Some(self.parts), self.facts_now());
        let plan = PublishPlan::after(self.videos, part, facts, self.work, receipts);
        self.videos += finished;
        Ok(Some(plan))
    }

    /// The receipts of videos whose stretches are all waiting.
    async fn joined(&self) -> Result<Vec<Receipt>, Error> {
        let by = &self.joining.by;
        let join = || async { Ok(self.tables.join_stretches(by, &self.waiting).await?) };
        RETRIES.of("join the stretches of long videos", join).await
    }

    fn take_joined(&self, joined: Vec<Receipt>, receipts: &mut Vec<Receipt>) {
        for receipt in &joined {
            self.joining.progress.record_joined(receipt);
        }
        receipts.extend(joined);
    }

    /// Publishes what is left, and gives the row of the whole run.
    ///
    /// # Errors
    /// What keeps it from being published. The next run of the job completes what was begun.
    #[tracing::instrument(name = "publish", skip_all)]
    pub(crate) async fn finish(mut self) -> Result<RunRow, Error> {
        if let Some(plan) = self.begun.take() {
            publish(self.tables, &plan).await?;
        }
        let joined = self.joined().await?;
        let mut receipts = std::mem::take(&mut self.waiting);
        self.take_joined(joined, &mut receipts);
        let plan = PublishPlan::after(self.videos, None, self.facts_now(), self.work, receipts);
        let last = publish(self.tables, &plan).await?;
        if self.parts == 0 {
            return Ok(last);
        }
        let read = || async { Ok(self.tables.runs().await?) };
        let runs = RETRIES.of("read the run", read).await?;
        Ok(runs.into_iter().find(|run| run.run_id == last.run_id).unwrap_or(last))
    }

    fn facts_now(&self) -> RunFacts {
        let finished_at_ms = chrono::Utc::now().timestamp_millis();
        RunFacts { finished_at_ms, ..self.facts.clone() }
    }
}

/// The ids of the videos that a receipt tells of.
fn videos(receipt: &Receipt) -> impl Iterator<Item = String> {
    receipt.items.iter().map(|item| item.video_id.clone())
}

/// Publishing twice is publishing once.
async fn publish(tables: &Tables, plan: &PublishPlan) -> Result<RunRow, Error> {
    let publish = || async { Ok(tables.publish(plan).await?) };
    RETRIES.of("publish", publish).await
}
