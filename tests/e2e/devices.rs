//! One executor with several devices, and a corpus that may only be read.

use eventide_testkit::{Fault, FaultProxy, Gate, Operation, Rule, S3Server, When, bundles, tools};

use crate::cluster::{Cluster, times};
use crate::object_store::upload;
use crate::trial::{LIMIT, Trial};

const TALKS: u32 = 4;

/// Talks in a bucket, behind a door.
struct Library {
    server: S3Server,
    proxy: FaultProxy,
    of: Trial,
}

impl Library {
    async fn new() -> Self {
        let server = S3Server::start(&tools().unwrap()).unwrap();
        let proxy = FaultProxy::before(&server).unwrap();
        let of = Trial::of_speech();
        for number in 1..=TALKS {
            of.add_narrated(number);
        }
        upload(&server.store().unwrap(), &of.corpus(), "library").await;
        Self { server, proxy, of }
    }

    /// Empty tables on disk, and a job of one video a shard that fills them.
    fn trial(&self, sections: &str) -> Trial {
        let trial = Trial::of_speech();
        let library = self.server.uri("library");
        trial.write_job(&format!(
            "[corpus]\nuri = \"{library}\"\n[tables]\nuri = \"lake\"\n[run]\nshard-videos = 1\n{sections}"
        ));
        trial
    }

    /// Indexes in one process.
    fn indexed_here(&self, trial: &Trial) {
        let index = trial.index().environment(self.proxy.environment());
        index.run(LIMIT).unwrap().assert_code(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_devices_of_an_executor_work_at_once_and_say_the_same() {
    let library = Library::new().await;
    let bundle = library.of.folder().join("bundle");
    bundles::golden(&bundle).unwrap();
    let model = format!(
        "[model]\nbundle = \"{}\"\n[captioning]\nmax-output-tokens = 20\n",
        bundle.display()
    );
    let (here, there) = (library.trial(&model), library.trial(&model));
    library.indexed_here(&here);
    let gate = Gate::closed();
    library.proxy.fail_by([Rule {
        operation: Operation::Get,
        path: ".mp4".to_owned(),
        when: When::Always,
        fault: Fault::Held(gate.clone()),
    }]);
    let mut cluster = Cluster::with(0, library.proxy.environment());
    cluster.add_executor_with(["--workers", "2", "--device", "cpu", "--device", "cpu"]);
    let client = cluster.index(&there).start().unwrap();
    tokio::time::timeout(LIMIT, gate.arrivals(2)).await.unwrap(); // two shards are at work
    gate.open();
    client.wait(LIMIT).unwrap().assert_code(0);
    assert_eq!((here.events(), here.videos()), (there.events(), there.videos()));
    let said = cluster.said();
    let lines = ["model loaded", "golden clip said as it should be", "shard begun"];
    assert_eq!(lines.map(|line| times(&said, line)), [2, 2, TALKS as usize], "{said:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_to_the_corpus() {
    let library = Library::new().await;
    library.proxy.fail_by([Operation::Put, Operation::Copy, Operation::Delete].map(|operation| {
        let fault = Fault::Refused { status: 403 };
        Rule { operation, path: "library".to_owned(), when: When::Always, fault }
    }));
    let speech = "[captioning]\nsource = \"speech\"\n";
    let (here, there) = (library.trial(speech), library.trial(speech));
    library.indexed_here(&here);
    let cluster = Cluster::with(1, library.proxy.environment());
    let run = cluster.indexed(&there);
    assert_eq!((&run["captioned"], &run["failed"]), (&TALKS.into(), &0.into()));
    assert_eq!((here.events(), here.videos()), (there.events(), there.videos()));
    assert_eq!(library.proxy.struck(), [0, 0, 0], "it is not even tried");
}
