//! The same night over a real S3 server: corpus, bundle and tables in a bucket.

use std::fs;

use eventide_testkit::{Program, S3Server, bundles, tools};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use serde_json::Value;

use crate::trial::{LIMIT, Trial};

/// Puts every file of a folder, and of those within, below a prefix.
pub(crate) async fn upload(store: &impl ObjectStore, folder: &std::path::Path, prefix: &str) {
    let mut folders = vec![(folder.to_path_buf(), prefix.to_owned())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let to = format!("{prefix}/{}", path.file_name().unwrap().to_string_lossy());
            if path.is_dir() {
                folders.push((path, to));
            } else {
                store.put(&Path::from(to), fs::read(&path).unwrap().into()).await.unwrap();
            }
        }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_model_in_a_bucket() {
    let server = S3Server::start(&tools().unwrap()).unwrap();
    let store = server.store().unwrap();
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    let folder = trial.folder().join("bundle");
    bundles::golden(&folder).unwrap();
    upload(&store, &folder, "bundle").await;
    upload(&store, &trial.corpus(), "videos").await;
    let bundle = server.uri("bundle");
    let cache = trial.folder().join("cache");
    let at_home = |arguments: &[&str]| {
        let program = trial.program(arguments.iter().copied().chain(["--format", "json"]));
        program.environment(server.environment()).environment([("XDG_CACHE_HOME", &cache)])
    };
    let inspected = answer(&at_home(&["model", "inspect", &bundle]));
    assert_eq!(inspected["manifest"]["trained"], true);
    assert!(inspected["file_sizes"]["golden/clip.safetensors"].as_u64().unwrap() > 1000);
    assert!(!cache.exists(), "to look at a bundle its weights are not fetched");

    let verified = answer(&at_home(&["model", "verify", &bundle]));
    assert_eq!((&verified["golden"], &verified["digest"]), (&true.into(), &inspected["digest"]));
    let clip = folder.join("golden/clip.safetensors").display().to_string();
    let ran = answer(&at_home(&[
        "model",
        "run",
        &bundle,
        "--inputs",
        &clip,
        "--max-output-tokens",
        "48",
    ]));
    assert_eq!(ran["rows"][0]["greedy"]["tokens"], verified["said"]["greedy"]["tokens"]);

    let video = format!("{}/talk-1.mp4", server.uri("videos"));
    let [there, here] = [&*video, "corpus/talk-1.mp4"]
        .map(|video| answer(&at_home(&["caption", video, "--bundle", &bundle]))["events"].clone());
    assert!(!here.as_array().unwrap().is_empty());
    assert_eq!(there, here);

    store.delete(&Path::from("bundle/decoder.onnx")).await.unwrap();
    let elsewhere = [("XDG_CACHE_HOME", trial.folder().join("other"))];
    let finished =
        at_home(&["model", "verify", &bundle]).environment(elsewhere).run(LIMIT).unwrap();
    finished.assert_code(2);
    assert!(finished.stderr.contains("bundle/decoder.onnx"), "{}", finished.stderr);
}
