//! The same night over a real S3 server: corpus, bundle and tables in a bucket.

use std::fs;

use eventide_testkit::{Program, S3Server, bundles, tools};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use serde_json::Value;

use crate::trial::{LIMIT, Trial};

async fn upload(store: &impl ObjectStore, folder: &std::path::Path, prefix: &str) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        let to = Path::from(format!("{prefix}/{name}"));
        store.put(&to, fs::read(&path).unwrap().into()).await.unwrap();
    }
}

fn answer(program: &Program) -> Value {
    let finished = program.run(LIMIT).unwrap();
    finished.assert_code(0);
    serde_json::from_str(&finished.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_night_in_a_bucket() {
    let server = S3Server::start(&tools().unwrap()).unwrap();
    let store = server.store().unwrap();
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.add_narrated(2);
    bundles::tiny(&trial.folder().join("bundle"), 7).unwrap();
    upload(&store, &trial.corpus(), "videos").await;
    upload(&store, &trial.folder().join("bundle"), "bundle").await;
    let lake = server.uri("lake");
    let job = |captioning: &str| {
        format!(
            "[corpus]\nuri = \"{}\"\n[model]\nbundle = \"{}\"\n[tables]\nuri = \"{lake}\"\n\
             [captioning]\nmax-output-tokens = 20\n{captioning}",
            server.uri("videos"),
            server.uri("bundle"),
        )
    };
    let at_home = |program: Program| program.environment(server.environment());

    trial.write_job(&job("source = \"speech\"\n"));
    let first = answer(&at_home(trial.index()));
    assert_eq!((&first["captioned"], &first["events"]), (&2.into(), &4.into()));
    let again = answer(&at_home(trial.index()));
    assert_eq!((&again["unchanged"], &again["planned"]), (&2.into(), &0.into()));

    store.delete(&Path::from("videos/talk-1.mp4")).await.unwrap();
    let third = answer(&at_home(trial.index()));
    assert_eq!((&third["removed"], &third["unchanged"]), (&1.into(), &1.into()));

    let question = "SELECT uri, start_ms, caption FROM events ORDER BY start_ms";
    let rows =
        answer(&at_home(trial.program(["sql", "--tables", &lake, "--format", "json", question])));
    let captions: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| row["caption"].as_str().unwrap()).collect();
    assert_eq!(captions, ["talk-2 begins.", "talk-2 ends."]);

    trial.write_job(&job("source = \"vid2seq\"\n"));
    let captioned = answer(&at_home(trial.index().arguments(["--allow-untrained"])));
    assert_eq!((&captioned["planned"], &captioned["failed"]), (&1.into(), &0.into()));
}
