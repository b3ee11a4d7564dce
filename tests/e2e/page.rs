//! The page in a real browser, over a lake that was really indexed and videos that it can play.
//!
//! What is done in the browser is in `page/*.js`. Pictures of every view are kept in `page` below the folder of tests of
//! the build (`target/tmp`).

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use eventide_testkit::footage::{Spoken, TestCard, web_vtt};
use eventide_testkit::{Hostile, Program, tools};

use crate::serve::Server;
use crate::trial::{LIMIT, Trial};

const TOKEN: &str = "a-token-of-the-page-0123456789";

/// What happens in the kitchen; two events overlap.
const KITCHEN: [(u64, u64, &str); 5] = [
    (0, 4_000, "A cook peels garlic and chops it with a large knife."),
    (4_000, 9_000, "He fries garlic and onions in a pan until they are golden."),
    (7_000, 12_000, "Steam rises from a pot of soup at the back of the stove."),
    (12_000, 16_000, "Two guests sit down at the table by the window."),
    (16_000, 20_000, "They taste the soup, and smile."),
];

/// Adds a video that a browser can play, and what is said in it.
fn add(trial: &Trial, stem: &str, seconds: u64, cues: &[(u64, u64, String)]) -> PathBuf {
    let video = trial.corpus().join(format!("{stem}.mp4"));
    let length = Duration::from_secs(seconds);
    let card = TestCard { width: 640, height: 360, length, ..TestCard::default() };
    card.draw(&tools().unwrap(), &video).unwrap();
    let spoken = |(start_ms, end_ms, text): &(u64, u64, String)| Spoken {
        start_ms: *start_ms,
        end_ms: *end_ms,
        text: text.clone(),
    };
    let cues: Vec<_> = cues.iter().map(spoken).collect();
    fs::write(video.with_extension("vtt"), web_vtt(&cues)).unwrap();
    video
}

fn add_kitchen(trial: &Trial) -> PathBuf {
    add(trial, "kitchen", 20, &KITCHEN.map(|(start, end, text)| (start, end, text.to_owned())))
}

/// 77 events in two videos, and a third that is none.
fn indexed() -> Trial {
    let trial = Trial::of_speech();
    add_kitchen(&trial);
    let lesson = |at: u64| {
        let mut text = format!("Lesson {at} of seventy-two, on the number ");
        let _ = write!(text, "{}.", at * at); // to a string: it cannot fail
        (at * 1000, at * 1000 + 900, text)
    };
    add(&trial, "lessons", 75, &(1..=72).map(lesson).collect::<Vec<_>>());
    trial.add_hostile(Hostile::NotVideo);
    trial.indexed();
    trial
}

/// The program that does in a browser what a script says.
fn browser(script: &str, server: &Server) -> Program {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/e2e/page");
    let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    fs::create_dir_all(&shots).unwrap();
    let program = tools().unwrap().browser_script(&scripts.join(script)).unwrap();
    let address = format!("http://{}/", server.address);
    program.arguments([address, shots.display().to_string()]).environment([("TOKEN", TOKEN)])
}

#[test]
fn results_come_as_one_types_and_lead_to_their_moment() {
    let trial = indexed();
    let server = Server::start(&trial, "");
    browser("search.js", &server).run(LIMIT).unwrap().assert_code(0);
}

#[test]
fn filters_offer_what_there_is_and_results_go_on() {
    let trial = indexed();
    let server = Server::start(&trial, "");
    browser("filter.js", &server).run(LIMIT).unwrap().assert_code(0);
}

#[test]
fn the_page_needs_no_mouse() {
    let trial = indexed();
    let server = Server::start(&trial, "");
    browser("keyboard.js", &server).run(LIMIT).unwrap().assert_code(0);
}

#[test]
fn every_view_is_whole_and_accessible_in_light_and_dark_wide_and_narrow() {
    let trial = indexed();
    let server = Server::start(&trial, "");
    browser("looks.js", &server).run(LIMIT).unwrap().assert_code(0);
}

#[test]
fn what_a_person_says_stays_said() {
    let trial = indexed();
    let server = Server::start_with(&trial, "", &["--feedback"]);
    browser("feedback.js", &server).run(LIMIT).unwrap().assert_code(0);
    assert_eq!(trial.rows("feedback", "at").len(), 4);
}

/// What an annotator says about the kitchen.
const REFERENCES: &str = r#"{"kitchen": {"duration": 20.0, "timestamps": [[0.5, 8.0], [11.5, 19.5]],
    "sentences": ["Garlic is prepared and fried.", "Guests come to eat."]}}"#;

#[test]
fn references_are_shown_beside_events() {
    let trial = indexed();
    fs::write(trial.folder().join("references.json"), REFERENCES).unwrap();
    let server = Server::start_with(&trial, "", &["--references", "references.json"]);
    browser("references.js", &server).run(LIMIT).unwrap().assert_code(0);
}

#[test]
fn who_has_the_token_signs_in() {
    let trial = indexed();
    let server = Server::start(&trial, TOKEN);
    browser("token.js", &server).run(LIMIT).unwrap().assert_code(0);
}

#[test]
fn the_page_says_what_is_missing() {
    let trial = Trial::of_speech();
    let video = add_kitchen(&trial);
    let server = Server::start(&trial, "");
    let running = browser("states.js", &server).start().unwrap();
    running.await_line("now index", LIMIT).unwrap();
    trial.indexed();
    running.await_line("now remove the video", LIMIT).unwrap();
    fs::remove_file(video).unwrap();
    running.await_line("now stop", LIMIT).unwrap();
    server.stop();
    running.wait(LIMIT).unwrap().assert_code(0);
}
