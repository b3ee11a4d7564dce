//! Identity (T1): rows say of each video what was said of that video, however the work is mixed up, fails, is cut off
//! and done again. The operator, the receipts and the tables are the real ones; what captions says who it looked at.

use std::{
    collections::BTreeMap,
    env,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use datafusion::{
    arrow::{array::AsArray, datatypes::Int32Type, record_batch::RecordBatch},
    execution::TaskContext,
    physical_plan::execute_stream,
    prelude::SessionConfig,
};
use eventide_catalog::{
    Known, PlanFile, PlanOptions, PublishPlan, Receipt, RunFacts, Stores, Table, Tables, plan,
};
use eventide_media::Tools;
use eventide_schema::{
    Event, EventSource, Failure, Outcome, Stage, Status, TimeSpan, Transcript, Video, WorkItem,
    video_id,
};
use eventide_testkit::{Fault, FaultyStore, Operation, Rule, When, scrambled};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::memory::InMemory;
use tokio::sync::{mpsc, oneshot};

use crate::{
    IndexOptions, Indexers, OwnFolder, Progress, Worker,
    indexer::Follow,
    operator::{index_plan, receipts_of},
    testing::index_options,
};

/// Videos, unless `EVENTIDE_IDENTITY_VIDEOS` says otherwise. `cargo xtask bench identity` asks for a million.
const VIDEOS: u64 = 100_000;
/// Videos that the model looks at together at most.
const BATCH: usize = 32;
const MIB: u64 = 1 << 20;
const TABLES: &str = "memory:///lake";

/// What captions: batches of any size, answered in any order, each on its own channel; sometimes late, sometimes not
/// at all.
struct Echo {
    requests: mpsc::Sender<(WorkItem, oneshot::Sender<Outcome>)>,
    asked: AtomicU64,
    hiccups: Arc<AtomicU64>,
}

impl Echo {
    fn start(hiccups: Arc<AtomicU64>) -> Self {
        let (requests, mut inbox) = mpsc::channel::<(WorkItem, oneshot::Sender<Outcome>)>(BATCH);
        tokio::spawn(async move {
            let (mut random, mut batch) = (1, Vec::new());
            loop {
                random = scrambled(random);
                let most = 1 + usize::try_from(random % BATCH as u64).unwrap();
                if inbox.recv_many(&mut batch, most).await == 0 {
                    return;
                }
                let turn = batch.len() / 2;
                batch.rotate_left(turn);
                for (item, reply) in batch.drain(..) {
                    let _ = reply.send(outcome(item)); // whoever asked was cut off meanwhile
                }
            }
        });
        Self { requests, asked: AtomicU64::new(0), hiccups }
    }
}

#[async_trait]
impl Follow for Echo {
    async fn follow(
        &self,
        item: WorkItem,
        _: Option<&Transcript>,
    ) -> Result<Outcome, eventide_pipeline::Error> {
        let random = scrambled(self.asked.fetch_add(1, Ordering::Relaxed));
        if random.is_multiple_of(4999) {
            self.hiccups.fetch_add(1, Ordering::Relaxed);
            let source = object_store::Error::Generic { store: "S3", source: "503".into() };
            return Err(eventide_pipeline::Error::Store { uri: item.video.uri, source });
        }
        if random.is_multiple_of(499) {
            tokio::time::sleep(Duration::from_millis(random % 5)).await;
        }
        let (reply, answer) = oneshot::channel();
        let stopped = eventide_pipeline::Error::CaptionerStopped;
        let asked = self.requests.send((item, reply)).await;
        if asked.is_err() { Err(stopped) } else { answer.await.map_err(|_| stopped) }
    }
}

fn uri(number: u64) -> String {
    format!("s3://corpus/{number}.mp4")
}

/// How many events the video of this number has; `None` where it fails.
fn events_of(number: u64) -> Option<u32> {
    (!number.is_multiple_of(7)).then_some(u32::try_from(number % 3).unwrap())
}

/// What is said of a video, as nobody would say it of another.
fn said(video_id: &str, event_index: u32) -> String {
    format!("{event_index} of {video_id}")
}

fn outcome(item: WorkItem) -> Outcome {
    let name = item.video.uri.trim_start_matches("s3://corpus/").trim_end_matches(".mp4");
    let count = events_of(name.parse().unwrap());
    let reason = format!("{} is bad", item.video.video_id);
    let failure = Failure { stage: Stage::Probe, reason_code: "echo".to_owned(), reason };
    let mut outcome = Outcome::without_events(item, Status::Failed, failure);
    let Some(count) = count else { return outcome };
    outcome.status = if count == 0 { Status::Empty } else { Status::Captioned };
    outcome.failure = None;
    let event = |event_index: u32| Event {
        window_index: 0,
        event_index,
        span: TimeSpan::new(i64::from(event_index) * 1_000_000, 9_000_000),
        time_resolution_us: 1000,
        caption: said(&outcome.video.video_id, event_index),
        score: None,
        source: EventSource::Vid2Seq,
        speech: None,
        language: None,
    };
    outcome.events = (0..count).map(event).collect();
    outcome
}

fn video(number: u64) -> Video {
    let uri = uri(number);
    Video {
        video_id: video_id(&uri),
        uri,
        source_version: format!("v{number}"),
        size_bytes: (1 + scrambled(number) % 1000) * MIB, // so shards are of many sizes
        last_modified_ms: 1,
        sidecars: Vec::new(),
    }
}

fn plan_options() -> PlanOptions {
    PlanOptions {
        model_digest: "m".to_owned(),
        params_digest: "p".to_owned(),
        speech_digest: None,
        max_attempts: 3,
        largest_file_bytes: 1 << 40,
        shard_cost_bytes: 100_000 * MIB,
        max_shard_videos: 400,
        split_bytes: None,
        allow_empty: false,
    }
}

/// A store that refuses, breaks off and loses answers, about one request in a hundred.
fn faulty(inner: &Arc<InMemory>) -> FaultyStore {
    let faults = [
        (Operation::Put, Fault::Refused { status: 503 }),
        (Operation::Put, Fault::LostAnswer),
        (Operation::Get, Fault::Refused { status: 500 }),
        (Operation::Get, Fault::Reset { after: 10 }),
    ];
    let rules = faults.into_iter().zip(1..).map(|((operation, fault), seed)| Rule {
        operation,
        path: String::new(),
        when: When::Seeded { seed, per_thousand: 10 },
        fault,
    });
    FaultyStore::new(Arc::clone(inner) as _, rules)
}

fn stores(store: Arc<dyn object_store::ObjectStore>) -> Arc<Stores> {
    let stores = Stores::new(BTreeMap::new());
    stores.insert("memory://", store);
    Arc::new(stores)
}

/// A worker of many hands, all of whose videos go to `echo`.
fn worker(stores: &Arc<Stores>, options: &IndexOptions, echo: Echo) -> Indexers {
    let folder = env::temp_dir();
    let worker = Worker {
        tools: Tools { ffmpeg: folder.clone(), ffprobe: folder.clone(), decoder: None },
        scratch: Arc::new(OwnFolder::make(&folder, "eventide-identity-").unwrap()),
        cache: folder.clone(),
        onnxruntime: folder,
        videos_in_flight: 100,
        name: "echo".to_owned(),
    };
    let indexers =
        Indexers::new(Arc::clone(stores), worker, Vec::new(), 8, Arc::new(Progress::default()));
    indexers.with_pipeline(&options.how, Box::new(echo))
}

/// The receipts that a worker brings until it has so many, or the plan is done; then it is cut off.
async fn worked(indexers: &Arc<Indexers>, file: &PlanFile, most: usize) -> Vec<Receipt> {
    let options =
        IndexOptions { tables: TABLES.to_owned(), plan: file.name.clone(), ..index_options() };
    let plan = index_plan(options, file).unwrap();
    let session = SessionConfig::new().with_extension(Arc::clone(indexers));
    let context = Arc::new(TaskContext::default().with_session_config(session));
    let mut batches = execute_stream(plan, context).unwrap();
    let mut receipts = Vec::new();
    while receipts.len() < most
        && let Some(batch) = batches.next().await
    {
        match batch {
            Ok(batch) => receipts.extend(receipts_of(&batch).unwrap()),
            Err(error) => {
                println!("cut off: {error}"); // a shard was out of luck four times
                return receipts;
            }
        }
    }
    receipts
}

/// The rows of a published table.
async fn rows(tables: &Tables, table: Table, version: i64) -> Vec<RecordBatch> {
    let version = u64::try_from(version).unwrap();
    let delta = tables.delta(table, Some(version)).await.unwrap().unwrap();
    let (_, stream) = delta.scan_table().await.unwrap();
    stream.try_collect().await.unwrap()
}

/// Columns of text of a batch, row by row.
fn texts<'a, const N: usize>(
    batch: &'a RecordBatch,
    names: [&str; N],
) -> impl Iterator<Item = [String; N]> + 'a {
    let columns = names.map(|name| {
        let column = batch.column_by_name(name).unwrap();
        datafusion::arrow::compute::cast(column, &datafusion::arrow::datatypes::DataType::Utf8)
            .unwrap()
    });
    (0..batch.num_rows())
        .map(move |row| columns.each_ref().map(|c| c.as_string::<i32>().value(row).to_owned()))
}

/// Rows of events, and how many of them are of another video than they say.
fn wrong_events(batches: &[RecordBatch]) -> (u64, u64) {
    let (mut count, mut wrong) = (0, 0);
    for batch in batches {
        let index = batch.column_by_name("event_index").unwrap().as_primitive::<Int32Type>();
        let columns = ["uri", "video_id", "source_version", "caption"];
        for ([uri, id, version, caption], index) in texts(batch, columns).zip(index.values()) {
            let number = uri.trim_start_matches("s3://corpus/").trim_end_matches(".mp4");
            let right = id == video_id(&uri)
                && version == format!("v{number}")
                && caption == said(&id, u32::try_from(*index).unwrap());
            (count, wrong) = (count + 1, wrong + u64::from(!right));
        }
    }
    (count, wrong)
}

/// Rows of videos, and how many of them say what is not so.
fn wrong_videos(batches: &[RecordBatch]) -> (u64, u64) {
    let (mut count, mut wrong) = (0, 0);
    for batch in batches {
        let events = batch.column_by_name("event_count").unwrap().as_primitive::<Int32Type>();
        let columns = ["uri", "video_id", "status", "reason"];
        for ([uri, id, status, reason], told) in texts(batch, columns).zip(events.values()) {
            let number = uri.trim_start_matches("s3://corpus/").trim_end_matches(".mp4");
            let count_of = events_of(number.parse().unwrap());
            let right = id == video_id(&uri)
                && u32::try_from(*told).unwrap() == count_of.unwrap_or(0)
                && match count_of {
                    None => status == "failed" && reason == format!("{id} is bad"),
                    Some(0) => status == "empty",
                    Some(_) => status == "captioned",
                };
            (count, wrong) = (count + 1, wrong + u64::from(!right));
        }
    }
    (count, wrong)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_is_of_the_video_that_it_names() {
    let videos = env::var("EVENTIDE_IDENTITY_VIDEOS").map_or(VIDEOS, |n| n.parse().unwrap());
    let memory = Arc::new(InMemory::new());
    let tables = Tables::open(&stores(Arc::clone(&memory) as _), TABLES).unwrap();
    let listing = stream::iter((0..videos).map(|number| Ok(video(number))));
    let work = plan(listing, Known::default(), Vec::new(), &plan_options()).await.unwrap();
    let file = tables.write_plan("r", &work.shards).await.unwrap();

    let (faulty, hiccups) = (faulty(&memory), Arc::new(AtomicU64::new(0)));
    let through_faults = stores(Arc::new(faulty.clone()));
    let mut rounds = 0;
    let receipts = loop {
        rounds += 1;
        assert!(rounds < 20, "it never gets done");
        let echo = Echo::start(Arc::clone(&hiccups));
        let indexers = Arc::new(worker(&through_faults, &index_options(), echo));
        let most = if rounds < 3 { work.shards.len() * rounds / 4 } else { usize::MAX };
        let receipts = worked(&indexers, &file, most).await;
        println!("round {rounds}: {} of {} shards", receipts.len(), work.shards.len());
        if receipts.len() == work.shards.len() {
            break receipts;
        }
    };
    let facts = RunFacts {
        run_id: "r".to_owned(),
        job: "identity".to_owned(),
        started_at_ms: 1,
        finished_at_ms: 2,
        model_digest: "m".to_owned(),
        params_digest: "p".to_owned(),
    };
    let run = tables.publish(&PublishPlan::new(facts, &work, receipts)).await.unwrap();
    assert!(run.is_balanced(), "{run:?}");

    let events = rows(&tables, Table::Events, run.events_version.unwrap()).await;
    let expected: u64 = (0..videos).filter_map(events_of).map(u64::from).sum();
    assert_eq!(wrong_events(&events), (expected, 0), "rows of events, and wrong ones");
    let of_videos = rows(&tables, Table::Videos, run.videos_version.unwrap()).await;
    assert_eq!(wrong_videos(&of_videos), (videos, 0), "rows of videos, and wrong ones");
    let (struck, hiccups) = (faulty.struck(), hiccups.load(Ordering::Relaxed));
    assert!(struck > 10 && hiccups > 0 && rounds >= 3, "{struck} {hiccups} {rounds}");
    println!(
        "{videos} videos, {expected} events, {} shards: {struck} faults of the store, {hiccups} of the model, {rounds} rounds; 0 wrong",
        work.shards.len()
    );
}
