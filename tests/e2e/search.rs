//! Words in SQL: `search` and `matches` over an index that follows the tables, and over Flight SQL.

use std::fs;

use eventide_testkit::{
    footage::{Scene, narrated},
    tools,
};

use crate::{
    serve::Server,
    trial::{LIMIT, Trial},
};

/// Asks with an index in the folder of the trial, and gives lines of CSV.
fn asked(trial: &Trial, arguments: &[&str]) -> Vec<String> {
    let sql = ["sql", "--tables", "lake", "--format", "csv"];
    let finished = trial
        .program(sql)
        .arguments(arguments)
        .environment([("XDG_CACHE_HOME", trial.folder().join("cache"))])
        .run(LIMIT)
        .unwrap();
    finished.assert_code(0);
    finished.stdout.lines().skip(1).map(str::to_owned).collect()
}

/// Names of the indexes that are kept.
fn indexes(trial: &Trial) -> Vec<String> {
    let folder = fs::read_dir(trial.folder().join("cache/eventide/search")).unwrap();
    let mut names: Vec<_> =
        folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const SEARCH: &str = "SELECT caption FROM search('begin OR talk-2') ORDER BY caption";
const MATCHES: &str =
    "SELECT caption FROM events WHERE matches(caption, 'begin OR \"talk 2\"') ORDER BY caption";

#[test]
fn words_are_found_in_the_night_that_is_asked_about() {
    let trial = Trial::of_speech();
    let gone = trial.add_narrated(1);
    trial.add_narrated(2);
    let first_run = trial.indexed()["run_id"].as_str().unwrap().to_owned();
    let first = ["talk-1 begins.", "talk-2 begins.", "talk-2 ends."];
    for question in [SEARCH, MATCHES] {
        assert_eq!(asked(&trial, &[question]), first, "{question}");
    }
    let plan = asked(&trial, &[&format!("EXPLAIN {MATCHES}")]).join("\n");
    assert!(plan.contains("matches_in_index(caption"), "{plan}");
    let [index] = &indexes(&trial)[..] else { panic!("{:?}", indexes(&trial)) };

    for file in [&gone.video, &gone.side_car] {
        fs::remove_file(file).unwrap();
    }
    trial.add_narrated(3);
    trial.indexed();
    let second = ["talk-2 begins.", "talk-2 ends.", "talk-3 begins."];
    for question in [SEARCH, MATCHES] {
        assert_eq!(asked(&trial, &[question]), second, "{question}");
    }
    assert_eq!(indexes(&trial), std::slice::from_ref(index), "one index follows the nights");
    for question in [SEARCH, MATCHES] {
        assert_eq!(asked(&trial, &["--as-of", &first_run, question]), first, "{question}");
        assert_eq!(asked(&trial, &[question]), second, "{question}");
    }
    assert_eq!(indexes(&trial).len(), 2, "an earlier night has one of its own");
}

#[test]
fn functions_for_words_are_told_of() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.indexed();
    let told = asked(&trial, &["\\df"]).join("\n");
    assert!(
        told.contains("search(words [, most])") && told.contains("matches(text, words)"),
        "{told}"
    );
}

#[test]
fn without_a_place_for_an_index_each_text_is_looked_at() {
    let trial = Trial::of_speech();
    trial.add_narrated(1);
    trial.indexed();
    fs::create_dir(trial.folder().join("cache")).unwrap();
    fs::write(trial.folder().join("cache/eventide"), "no folder").unwrap();
    let ends = "SELECT caption FROM events WHERE matches(caption, 'ending')";
    assert_eq!(asked(&trial, &[ends]), ["talk-1 ends."]);
}

/// A talk of which each sentence is another event.
pub(crate) const SENTENCES: [&str; 4] = [
    "A man is chopping garlic with a knife.",
    "A dog runs along the beach.",
    "A zither player tunes his strings.",
    "Someone pours tea into a cup.",
];

/// A night of that talk, and beside it the bundle `minilm`, which embeds sentences.
pub(crate) fn talk_and_encoder() -> Trial {
    let trial = Trial::of_speech();
    let scenes = SENTENCES.map(|said| Scene { colour: 7, length_ms: 2_000, said: said.to_owned() });
    narrated(&tools().unwrap(), &trial.corpus(), "talk", &scenes).unwrap();
    trial.indexed();
    let encoder = tools().unwrap().text_encoder().unwrap();
    let import =
        ["model", "import", "--text-encoder", encoder.to_str().unwrap(), "--out", "minilm"];
    trial.program(import).run(LIMIT).unwrap().assert_code(0);
    trial
}

#[test]
fn captions_are_found_by_words_and_by_meaning() {
    let trial = talk_and_encoder();
    let best = |words: &str| {
        let question = format!("SELECT caption FROM search('{words}') ORDER BY rrf DESC");
        let mut found = asked(&trial, &["--embeddings", "minilm", &question]);
        assert_eq!(found.len(), SENTENCES.len(), "{words}");
        found.swap_remove(0)
    };
    for (words, sentence) in [
        ("preparing vegetables in the kitchen", 0),
        ("an animal outdoors", 1),
        ("musical instrument", 2),
        ("a hot drink", 3),
        ("zither", 2),
        ("knife", 0),
    ] {
        assert_eq!(best(words), SENTENCES[sentence], "{words}");
    }
    let words_alone = "SELECT caption FROM search('animal outdoors')";
    assert!(asked(&trial, &[words_alone]).is_empty());

    let server = Server::start_with(&trial, "", &["--embeddings", "minilm"]);
    let found = server.rows("/search?q=a%20hot%20drink&limit=1", "events");
    assert_eq!(found[0]["caption"], SENTENCES[3], "{found:?}");
    assert!(found[0]["similarity"].as_f64().unwrap() > 0.2 && found[0]["bm25"] == 0.0, "{found:?}");
    let exact = server.rows("/search?q=%22hot%20drink%22", "events");
    assert!(exact.is_empty(), "{exact:?}");
}
