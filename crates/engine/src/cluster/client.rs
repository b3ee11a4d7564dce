//! The client: hands a run to the scheduler and follows it by the receipts that its shards leave.
//!
//! The answer of the run is not fetched from executors: the receipts are in the object store, and stay
//! there whoever dies. So a scheduler that comes back with an empty memory is given the same plan
//! again, in which everything finished is found finished.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::body::Bytes;
use ballista_core::{
    extension::SessionConfigExt,
    serde::protobuf::{
        CancelJobParams, ExecuteQueryParams, GetJobStatusParams, KeyValuePair, SuccessfulJob,
        execute_query_failure_result::Failure, execute_query_params::Query, execute_query_result,
        job_status::Status, scheduler_grpc_client::SchedulerGrpcClient,
    },
    utils::{GrpcClientConfig, create_grpc_client_endpoint},
    version,
};
use datafusion::{
    common::Result as DataFusionResult,
    datasource::provider_as_source,
    logical_expr::{LogicalPlan, LogicalPlanBuilder},
    prelude::SessionConfig,
};
use datafusion_proto::{logical_plan::AsLogicalPlan, protobuf::LogicalPlanNode};
use eventide_catalog::{PlanFile, Submission, Tables};
use http_body_util::{BodyExt, Limited};
use tokio::time::Instant;
use tonic::{
    body::Body,
    client::GrpcService,
    codegen::http::{self, StatusCode},
    transport::Channel,
};
use uuid::Uuid;

use super::{
    codec::LogicalCodec,
    scheduler_address,
    secret::{Secret, build_of, introduced},
    session::{Local, MESSAGE_BYTES, session_config},
    state::{self, ClusterState, Farewell},
    table::RunTable,
    watch::{Patience, Seen, Verdict, Watchdog},
};
use crate::{
    Error, IndexOptions, Progress,
    publisher::Publisher,
    retry::{RETRIES, Retries},
};

/// How often the scheduler is asked how a run is.
const ASK_EVERY: Duration = Duration::from_millis(300);
/// How often the receipts are counted, and the executors.
pub(super) const COUNT_EVERY: Duration = Duration::from_secs(2);
/// How long a scheduler may be gone before the client gives up.
const SCHEDULER_GRACE: Duration = Duration::from_mins(2);
/// How long the scheduler may take to know a run that it has accepted.
const ACCEPT_GRACE: Duration = Duration::from_secs(10);
/// How often in a row a run is handed in again of which nothing got done.
const MOST_VAIN_SUBMISSIONS: usize = 3;
/// How long the scheduler may take to plan a run.
const PLANNING_GRACE: Duration = Duration::from_secs(3);
/// How long the scheduler may take to stop a run.
const CANCEL_GRACE: Duration = Duration::from_secs(20);

/// A cluster, by its scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    pub(super) url: String,
    pub(super) secret: Option<Secret>,
}

/// A connection to the scheduler.
pub(super) struct Connection {
    pub(super) calls: SchedulerGrpcClient<Channel>,
    channel: Channel,
}

/// How a submitted run ended.
enum Ended {
    Done,
    /// The scheduler does not know it any more.
    Forgotten,
}

impl Cluster {
    /// The cluster whose scheduler is at `url`, `http://host:port`. Nothing is asked of it.
    ///
    /// # Errors
    /// [`Error::SchedulerAddress`].
    pub fn at(url: &str, secret: Option<Secret>) -> Result<Self, Error> {
        let (host, port) = scheduler_address(url)?;
        Ok(Self { url: format!("http://{host}:{port}"), secret })
    }

    /// Tells the scheduler that an executor is gone, so that its shards go to others within a second.
    pub(super) async fn leave(&self, executor_id: &str, farewell: &Farewell) -> Result<(), Error> {
        let text = serde_json::to_string(farewell);
        let text = text.map_err(|source| self.refused(source.to_string()))?;
        let request = http::Request::post(state::left_path(executor_id));
        let request = request.body(Body::new(text));
        match self.asked(&mut self.connect().await?, request).await? {
            // One that is not known is gone already.
            (StatusCode::NO_CONTENT | StatusCode::NOT_FOUND, _) => Ok(()),
            (other, _) => Err(self.refused(format!("it answers `{other}`"))),
        }
    }

    /// What the scheduler sees of its cluster now.
    ///
    /// # Errors
    /// [`Error::Scheduler`] where it does not answer, [`Error::NotAdmitted`] where it asks for another secret.
    pub async fn state(&self) -> Result<ClusterState, Error> {
        self.seen_by(&mut self.connect().await?).await
    }

    pub(super) async fn seen_by(&self, scheduler: &mut Connection) -> Result<ClusterState, Error> {
        let request = http::Request::get(state::PATH).body(Body::empty());
        match self.asked(scheduler, request).await? {
            (StatusCode::OK, text) => serde_json::from_slice(&text).map_err(|source| {
                Error::Scheduler { url: self.url.clone(), source: source.into() }
            }),
            (other, _) => Err(self.refused(format!("it answers `{other}`"))),
        }
    }

    /// What the scheduler answers to a request that is none of Ballista's.
    async fn asked(
        &self,
        scheduler: &mut Connection,
        request: Result<http::Request<Body>, http::Error>,
    ) -> Result<(StatusCode, Bytes), Error> {
        type Cause = Box<dyn std::error::Error + Send + Sync>;
        let channel = &mut scheduler.channel;
        let answered = async {
            let request = request?;
            std::future::poll_fn(|context| GrpcService::<Body>::poll_ready(channel, context))
                .await?;
            let answer = channel.call(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MESSAGE_BYTES as usize).collect().await?;
            Ok::<_, Cause>((status, body.to_bytes()))
        };
        match answered.await {
            Ok((StatusCode::UNAUTHORIZED, _)) => Err(Error::NotAdmitted { url: self.url.clone() }),
            Ok((StatusCode::PRECONDITION_FAILED, theirs)) => {
                Err(self.other_build(String::from_utf8_lossy(&theirs).into_owned()))
            }
            Ok(answer) => Ok(answer),
            Err(source) => Err(Error::Scheduler { url: self.url.clone(), source }),
        }
    }

    /// Has the shards of a plan done, and gives their receipts to `publisher`.
    pub(crate) async fn index(
        &self,
        job: &str,
        options: IndexOptions,
        plan: &PlanFile,
        patience: Patience,
        progress: &Progress,
        publisher: &mut Publisher<'_>,
    ) -> Result<(), Error> {
        let tables = publisher.tables();
        let mut followed = Followed { publisher, plan, progress, done: BTreeSet::new() };
        let mut dog = Watchdog::new(patience, Instant::now());
        let mut vain = 0;
        while vain < MOST_VAIN_SUBMISSIONS {
            let before = followed.done.len();
            // First a note without the scheduler's name for it: this process may die before it knows that.
            let note = Submission::new(&self.url, "", &plan.run_id);
            note_submission(tables, job, Some(&note)).await?;
            let name = state::job_name(job, &plan.run_id);
            let recipe = encoded(&options, self.secret.clone())?;
            let handed_in = self.hand_in(&name, &plan.run_id, &recipe).await;
            let (mut scheduler, id) = match handed_in {
                Err(refused) if refused.is_about_the_job() => {
                    note_submission(tables, job, None).await?;
                    return Err(refused);
                }
                handed_in => handed_in?,
            };
            tracing::info!(run = %plan.run_id, cluster_job = %id, shards = plan.shards.len(), "handed to the cluster");
            let note = Submission::new(&self.url, &id, &plan.run_id);
            note_submission(tables, job, Some(&note)).await?;
            match self.follow(&mut scheduler, &id, &mut followed, &mut dog).await {
                Ok(Ended::Done) => {
                    followed.count(RETRIES).await?;
                    note_submission(tables, job, None).await?;
                    return followed.complete();
                }
                Ok(Ended::Forgotten) => {}
                Err(error @ (Error::NoExecutor { .. } | Error::NoProgress { .. })) => {
                    self.give_up(tables, job, &note).await;
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
            tracing::warn!(cluster_job = %id, "the scheduler has forgotten the run; handing it in again");
            vain = if followed.done.len() > before { 0 } else { vain + 1 };
        }
        Err(self.ended_badly("the scheduler forgets the run again and again"))
    }

    /// Stops what an earlier client of the job may have left running on a cluster. What it finished is
    /// kept; what it is at stops within seconds.
    ///
    /// # Errors
    /// When the note of it cannot be read, or the scheduler does not stop it.
    pub async fn take_over(&self, tables: &Tables, job: &str) -> Result<(), Error> {
        let Some(note) = submission(tables, job).await? else { return Ok(()) };
        if RETRIES.of("stop the earlier run", || self.stop(&note)).await? {
            tracing::warn!(cluster_job = %note.cluster_job, run = %note.run_id, "took over from an earlier client");
        }
        note_submission(tables, job, None).await
    }

    /// Stops a job, if one is known to run. Says whether it did.
    ///
    /// # Errors
    /// When the note of it cannot be read, or the scheduler does not stop it.
    pub async fn cancel(&self, tables: &Tables, job: &str) -> Result<bool, Error> {
        let Some(note) = submission(tables, job).await? else { return Ok(false) };
        let stopped = self.stop(&note).await?;
        note_submission(tables, job, None).await?;
        Ok(stopped)
    }

    /// Stops a run that is given up, if that is possible; the reason why it is given up matters more.
    async fn give_up(&self, tables: &Tables, job: &str, note: &Submission) {
        let stopped = async {
            self.stop(note).await?;
            note_submission(tables, job, None).await
        };
        if let Err(error) = stopped.await {
            tracing::warn!(cluster_job = %note.cluster_job, error = %error, "cannot stop the run that is given up");
        }
    }

    /// Stops a submitted run and waits until the scheduler says so. Says whether it was running.
    async fn stop(&self, note: &Submission) -> Result<bool, Error> {
        let mut scheduler = self.connect().await?;
        let handed_in = match note.cluster_job.as_str() {
            "" => self.handed_in(&mut scheduler, &note.run_id).await?,
            known => Some(known.to_owned()),
        };
        let Some(id) = handed_in else { return Ok(false) };
        let deadline = Instant::now() + CANCEL_GRACE;
        let mut stopping = false;
        loop {
            match self.status(&mut scheduler, &id).await? {
                Some(Status::Queued(_) | Status::Running(_)) if !stopping => {
                    let params = CancelJobParams { job_id: id.clone() };
                    scheduler.calls.cancel_job(params).await.map_err(|status| self.lost(status))?;
                    stopping = true;
                }
                Some(Status::Queued(_) | Status::Running(_)) if Instant::now() > deadline => {
                    return Err(self.ended_badly("the scheduler does not stop the run"));
                }
                Some(Status::Queued(_) | Status::Running(_)) => {
                    tokio::time::sleep(ASK_EVERY).await;
                }
                Some(Status::Failed(_) | Status::Successful(_)) | None => return Ok(stopping),
            }
        }
    }

    /// The scheduler's name for a run whose client died before it knew it. A moment is waited for a run
    /// that is still being planned.
    async fn handed_in(
        &self,
        scheduler: &mut Connection,
        run_id: &str,
    ) -> Result<Option<String>, Error> {
        let deadline = Instant::now() + PLANNING_GRACE;
        loop {
            let state = self.seen_by(scheduler).await?;
            let found = state.runs.into_iter().find(|run| run.run_id == run_id);
            if found.is_some() || Instant::now() > deadline {
                return Ok(found.map(|run| run.cluster_job));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    pub(super) async fn connect(&self) -> Result<Connection, Error> {
        let config = session_config(&Local::default());
        let grpc = GrpcClientConfig::from(&config.ballista_config());
        let unreachable =
            |source| Error::Scheduler { url: self.url.clone(), source: Box::new(source) };
        let mut endpoint =
            create_grpc_client_endpoint(self.url.clone(), Some(&grpc)).map_err(unreachable)?;
        let wrong = |source| Error::Scheduler { url: self.url.clone(), source };
        endpoint = introduced(self.secret.as_ref())(endpoint).map_err(wrong)?;
        let channel = endpoint.connect().await.map_err(unreachable)?;
        let calls = SchedulerGrpcClient::new(channel.clone())
            .max_encoding_message_size(MESSAGE_BYTES as usize)
            .max_decoding_message_size(MESSAGE_BYTES as usize);
        Ok(Connection { calls, channel })
    }

    /// Hands a plan in, unless the scheduler has it already of a try whose answer was lost; gives its name
    /// for it. `name` is made of `run_id`.
    pub(super) async fn hand_in(
        &self,
        name: &str,
        run_id: &str,
        plan: &[u8],
    ) -> Result<(Connection, String), Error> {
        let mut tried = false;
        let hand_in = || {
            let again = std::mem::replace(&mut tried, true);
            async move {
                let mut scheduler = self.connect().await?;
                let there =
                    if again { self.handed_in(&mut scheduler, run_id).await? } else { None };
                let id = match there {
                    Some(id) => id,
                    None => self.submit(&mut scheduler, name, plan.to_vec()).await?,
                };
                Ok((scheduler, id))
            }
        };
        RETRIES.of("hand the work in", hand_in).await
    }

    async fn submit(
        &self,
        scheduler: &mut Connection,
        name: &str,
        plan: Vec<u8>,
    ) -> Result<String, Error> {
        let config = session_config(&Local::default()).with_ballista_job_name(name);
        let params = ExecuteQueryParams {
            query: Some(Query::LogicalPlan(plan)),
            settings: settings(&config),
            session_id: Uuid::now_v7().to_string(),
            operation_id: Uuid::now_v7().to_string(),
        };
        let mut request = tonic::Request::new(params);
        version::insert_version_header(request.metadata_mut());
        let answer =
            scheduler.calls.execute_query(request).await.map_err(|status| self.lost(status))?;
        match answer.into_inner().result {
            Some(execute_query_result::Result::Success(success)) => Ok(success.job_id),
            Some(execute_query_result::Result::Failure(failure)) => {
                Err(self.refused(failure.failure.map_or_else(String::new, reason_of)))
            }
            None => Err(self.refused("it gave no answer".to_owned())),
        }
    }

    /// Waits for the end of a submitted run.
    async fn follow(
        &self,
        scheduler: &mut Connection,
        id: &str,
        followed: &mut Followed<'_, '_>,
        dog: &mut Watchdog,
    ) -> Result<Ended, Error> {
        let (mut inquiry, mut counted) = (Inquiry::new(), Instant::now());
        loop {
            match inquiry.ask(self, scheduler, id).await? {
                Answer::AtWork => {}
                Answer::Done(_) => return Ok(Ended::Done),
                Answer::Forgotten => return Ok(Ended::Forgotten),
            }
            if counted.elapsed() > COUNT_EVERY {
                match followed.count(Retries::NONE).await {
                    Err(error) if !error.is_transient() => return Err(error),
                    Err(error) => tracing::warn!(error = %error, "cannot count receipts now"),
                    Ok(()) => {}
                }
                let state = self.seen_by(scheduler).await.ok();
                let executors = state.as_ref().map(|state| state.executors.len());
                let seen = Seen { executors, done: followed.done.len() };
                self.heed(dog.see(seen, Instant::now()), state.as_ref())?;
                followed.publisher.publish_due().await?;
                counted = Instant::now();
            }
        }
    }

    /// Says what the watchdog says, or ends the waiting.
    pub(super) fn heed(&self, verdict: Verdict, state: Option<&ClusterState>) -> Result<(), Error> {
        let url = self.url.clone();
        match verdict {
            Verdict::Wait => {}
            Verdict::SayNoExecutor => {
                tracing::warn!("no executor works for the scheduler at {url}; waiting for one");
            }
            Verdict::SayExecutors => tracing::warn!("executors are there; going on"),
            Verdict::NoExecutor(waited) => return Err(Error::NoExecutor { url, waited }),
            Verdict::NoProgress(waited) => {
                let held = state.map_or_else(String::new, held_by);
                return Err(Error::NoProgress { url, waited, held });
            }
        }
        Ok(())
    }

    async fn status(&self, scheduler: &mut Connection, id: &str) -> Result<Option<Status>, Error> {
        let params = GetJobStatusParams { job_id: id.to_owned() };
        let answer =
            scheduler.calls.get_job_status(params).await.map_err(|status| self.lost(status))?;
        Ok(answer.into_inner().status.and_then(|status| status.status))
    }

    /// What a call that failed means.
    pub(super) fn lost(&self, status: tonic::Status) -> Error {
        if let Some(theirs) = build_of(&status) {
            return self.other_build(theirs);
        }
        match status.code() {
            tonic::Code::Unauthenticated => Error::NotAdmitted { url: self.url.clone() },
            tonic::Code::InvalidArgument | tonic::Code::FailedPrecondition => {
                self.refused(status.message().to_owned())
            }
            _ => Error::Scheduler { url: self.url.clone(), source: Box::new(status) },
        }
    }

    fn other_build(&self, theirs: String) -> Error {
        Error::OtherBuild { url: self.url.clone(), theirs }
    }

    fn refused(&self, because: String) -> Error {
        Error::Refused { url: self.url.clone(), because }
    }

    pub(super) fn ended_badly(&self, because: &str) -> Error {
        tracing::debug!(because, "the run ended badly");
        let because = Error::told_by_task(because).to_owned();
        Error::OnCluster { url: self.url.clone(), because }
    }
}

/// What the scheduler says of work that was handed in.
pub(super) enum Answer {
    AtWork,
    Done(SuccessfulJob),
    /// It does not know it, or does not know it any more.
    Forgotten,
}

/// Asks the scheduler how some work is, again and again, and bears its silence for a while.
pub(super) struct Inquiry {
    start: Instant,
    known: bool,
    silent_since: Option<Instant>,
}

impl Inquiry {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), known: false, silent_since: None }
    }

    /// Waits a moment and asks.
    pub(super) async fn ask(
        &mut self,
        cluster: &Cluster,
        scheduler: &mut Connection,
        id: &str,
    ) -> Result<Answer, Error> {
        tokio::time::sleep(ASK_EVERY).await;
        match cluster.status(scheduler, id).await {
            Ok(Some(Status::Successful(job))) => return Ok(Answer::Done(job)),
            Ok(Some(Status::Failed(job))) if job.error == "Cancelled" => {
                return Err(Error::Cancelled);
            }
            Ok(Some(Status::Failed(job))) => return Err(cluster.ended_badly(&job.error)),
            Ok(None) if self.known || self.start.elapsed() > ACCEPT_GRACE => {
                return Ok(Answer::Forgotten);
            }
            Ok(None) => {}
            Ok(Some(_)) => (self.known, self.silent_since) = (true, None),
            Err(error @ (Error::NotAdmitted { .. } | Error::OtherBuild { .. })) => {
                return Err(error);
            }
            Err(error) => {
                let since = *self.silent_since.get_or_insert_with(Instant::now);
                if since.elapsed() > SCHEDULER_GRACE {
                    return Err(error);
                }
                tracing::warn!(error = %error, "the scheduler is silent");
            }
        }
        Ok(Answer::AtWork)
    }
}

fn reason_of(failure: Failure) -> String {
    match failure {
        Failure::PlanParsingFailure(reason)
        | Failure::SessionNotFound(reason)
        | Failure::SqlParsingFailure(reason) => reason,
    }
}

/// Who holds shards, for a person.
fn held_by(state: &ClusterState) -> String {
    let holders = state.executors.iter().filter(|executor| executor.shards > 0);
    let holders: Vec<_> =
        holders.map(|executor| format!("{} at {}", executor.shards, executor.address)).collect();
    if holders.is_empty() { "none".to_owned() } else { holders.join(", ") }
}

/// The plan of a run as it is sent.
fn encoded(options: &IndexOptions, secret: Option<Secret>) -> Result<Vec<u8>, Error> {
    let table = provider_as_source(Arc::new(RunTable(options.clone())));
    let plan = LogicalPlanBuilder::scan("run", table, None).and_then(LogicalPlanBuilder::build);
    plan.and_then(|plan| bytes_of(&plan, secret)).map_err(Error::Plan)
}

/// A plan as it is sent.
pub(super) fn bytes_of(plan: &LogicalPlan, secret: Option<Secret>) -> DataFusionResult<Vec<u8>> {
    let mut buffer = Vec::new();
    LogicalPlanNode::try_from_logical_plan(plan, &LogicalCodec::new(secret))?
        .try_encode(&mut buffer)?;
    Ok(buffer)
}

/// The settings of a session as they are sent.
fn settings(config: &SessionConfig) -> Vec<KeyValuePair> {
    let entries = config.options().entries().into_iter();
    entries.map(|entry| KeyValuePair { key: entry.key, value: entry.value }).collect()
}

/// Notes who runs a job, or that nobody does any more.
async fn note_submission(
    tables: &Tables,
    job: &str,
    note: Option<&Submission>,
) -> Result<(), Error> {
    let note = || async { Ok(tables.note_submission(job, note).await?) };
    RETRIES.of("note who runs the job", note).await
}

/// Who runs a job, if anybody does.
async fn submission(tables: &Tables, job: &str) -> Result<Option<Submission>, Error> {
    let read = || async { Ok(tables.submission(job).await?) };
    RETRIES.of("read who runs the job", read).await
}

/// A run that others work on, as its receipts tell it.
struct Followed<'a, 'p> {
    /// Gets the receipts.
    publisher: &'a mut Publisher<'p>,
    plan: &'a PlanFile,
    progress: &'a Progress,
    /// The shards whose receipts it has got.
    done: BTreeSet<String>,
}

impl Followed<'_, '_> {
    /// Takes in the receipts that are new.
    async fn count(&mut self, retries: Retries) -> Result<(), Error> {
        let (tables, run_id) = (self.publisher.tables(), &self.plan.run_id);
        let list = || async { Ok(tables.finished_shards(run_id).await?) };
        let finished = retries.of("list the receipts", list).await?;
        let finished: BTreeSet<&str> = finished.iter().map(String::as_str).collect();
        let planned = self.plan.shards.iter().map(|place| place.shard_id.as_str());
        let new = planned.filter(|id| finished.contains(id) && !self.done.contains(*id));
        let read = || async { Ok(tables.receipts(run_id, new.clone()).await?) };
        for receipt in retries.of("read the receipts", read).await? {
            self.progress.record_receipt(&receipt);
            self.done.insert(receipt.shard_id.clone());
            self.publisher.take([receipt]);
        }
        Ok(())
    }

    /// Whether there is a receipt of each shard.
    fn complete(&self) -> Result<(), Error> {
        let missing = self.plan.shards.iter().find(|place| !self.done.contains(&place.shard_id));
        match missing {
            None => Ok(()),
            Some(place) => Err(Error::NoReceipt { shard_id: place.shard_id.clone() }),
        }
    }
}
