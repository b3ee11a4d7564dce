//! Executors that are told to stop, as those on machines that are taken away are every night: the shard in hand is
//! finished and done by nobody else, or given back, and no video is blamed.

use std::time::Duration;

use eventide_testkit::{Error, Fault, FaultProxy, Gate, Operation, Rule, S3Server, When, tools};
use futures::StreamExt as _;
use object_store::{ObjectStore as _, path::Path};
use serde_json::Value;

use crate::cluster::{Cluster, times};
use crate::object_store::upload;
use crate::trial::{LIMIT, Trial};

/// A talk in a bucket whose bytes come when a gate is open, and a cluster of one executor that comes to it through the gate.
struct SlowTalk {
    server: S3Server,
    proxy: FaultProxy,
    gate: Gate,
    trial: Trial,
    cluster: Cluster,
}

impl SlowTalk {
    async fn new(grace: &'static str) -> Self {
        let server = S3Server::start(&tools().unwrap()).unwrap();
        let proxy = FaultProxy::before(&server).unwrap();
        let gate = Gate::closed();
        proxy.fail_by([Rule {
            operation: Operation::Get,
            path: ".mp4".to_owned(),
            when: When::Always,
            fault: Fault::Held(gate.clone()),
        }]);
        let trial = Trial::of_speech();
        trial.add_narrated(1);
        upload(&server.store().unwrap(), &trial.corpus(), "videos").await;
        trial.write_job(&format!(
            "[corpus]\nuri = \"{}\"\n[tables]\nuri = \"{}\"\n[captioning]\nsource = \"speech\"\n",
            server.uri("videos"),
            server.uri("lake"),
        ));
        let mut cluster = Cluster::with(0, proxy.environment());
        cluster.grace = grace;
        cluster.add_executor();
        Self { server, proxy, gate, trial, cluster }
    }

    /// Marks of attempts that lie beside the tables.
    async fn marks(&self) -> usize {
        let prefix = Path::from("lake/_eventide/attempts");
        self.server.store().unwrap().list(Some(&prefix)).count().await
    }
}

fn run_of(client: eventide_testkit::Running) -> Value {
    let finished = client.wait(LIMIT).unwrap();
    finished.assert_code(0);
    serde_json::from_str(&finished.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_is_being_finished_is_given_to_nobody_else() {
    let mut talk = SlowTalk::new("3m").await;
    let client = talk.cluster.index(&talk.trial).start().unwrap();
    let leaving = talk.cluster.executors.remove(0);
    leaving.await_line("shard begun", LIMIT).unwrap();
    talk.cluster.add_executor();
    leaving.terminate().unwrap();
    talk.cluster.scheduler.await_line("executor stopped request", LIMIT).unwrap();
    let begun = talk.cluster.executors[0].await_line("shard begun", Duration::from_secs(3));
    assert!(matches!(begun, Err(Error::Late { .. })), "{begun:?}");
    talk.gate.open();
    let finished = leaving.wait(LIMIT).unwrap();
    finished.assert_code(0);
    assert!(finished.stderr.contains("receipt written"), "{}", finished.stderr);
    assert_eq!(run_of(client)["captioned"], 1);
    assert_eq!(talk.marks().await, 0);
    let said = [talk.cluster.said(), vec![finished.stderr]].concat();
    let counts = (times(&said, "shard begun"), times(&said, "going on video by video"));
    assert_eq!(counts, (1, 0), "{said:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_that_outlasts_the_grace_of_executors_is_captioned_by_the_one_that_may_stay() {
    let mut talk = SlowTalk::new("1s").await;
    let client = talk.cluster.index(&talk.trial).start().unwrap();
    let mut said = Vec::new();
    for left in 1..=4 {
        let leaving = talk.cluster.executors.remove(0);
        leaving.await_line("shard begun", LIMIT).unwrap();
        leaving.terminate().unwrap();
        let finished = leaving.wait(LIMIT).unwrap();
        finished.assert_code(0);
        assert!(finished.stderr.contains("shards in flight are given back"), "{}", finished.stderr);
        assert_eq!(talk.marks().await, 0, "the mark of executor {left} stays");
        said.push(finished.stderr);
        talk.cluster.add_executor();
    }
    talk.gate.open();
    let run = run_of(client);
    assert_eq!((&run["captioned"], &run["failed"]), (&1.into(), &0.into()));
    talk.proxy.fail_by([]);
    said.extend(talk.cluster.said());
    let counts = (times(&said, "shard begun"), times(&said, "going on video by video"));
    assert_eq!(counts, (5, 0), "{said:#?}");
}
