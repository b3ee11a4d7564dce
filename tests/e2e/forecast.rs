//! What the plan foretells, by what earlier runs cost.

use std::fs::File;
use std::time::SystemTime;

use crate::trial::Trial;

const LEARNT: &str = "what videos of their kind cost with this model and these parameters";

#[test]
fn the_same_corpus_again_costs_what_it_has_cost() {
    let trial = Trial::of_speech();
    let talks: Vec<_> = (1..=3).map(|number| trial.add_narrated(number).video).collect();
    let thumb = trial.planned();
    assert!(thumb["device_seconds"].is_null(), "{thumb:#}");
    assert!(thumb["estimated_from"].as_str().unwrap().starts_with("rules of thumb"), "{thumb:#}");

    let run = trial.indexed();
    for talk in &talks {
        File::options().write(true).open(talk).unwrap().set_modified(SystemTime::now()).unwrap();
    }
    let plan = trial.planned();
    assert_eq!((&plan["changed"], &plan["estimated_from"]), (&3.into(), &LEARNT.into()));
    for (foretold, took) in [
        (plan["video_hours"].as_f64().unwrap() * 3600.0, &run["video_ms"]),
        (plan["core_seconds"].as_f64().unwrap(), &run["core_ms"]),
        (plan["device_seconds"].as_f64().unwrap(), &run["device_ms"]),
    ] {
        let took = took.as_f64().unwrap() / 1000.0;
        assert!((foretold - took).abs() < 0.01, "{foretold} for {took} of {run:#}");
    }

    trial.add_narrated(4);
    let more = trial.planned();
    assert!(more["core_seconds"].as_f64() > plan["core_seconds"].as_f64(), "{more:#}");
    trial.write_job("[corpus]\nuri = \"corpus\"\ntranscripts = [\"sidecar\"]\n[tables]\nuri = \"lake\"\n[captioning]\nsource = \"speech\"\n");
    let other = trial.planned();
    assert_ne!(other["estimated_from"], LEARNT, "other parameters, other costs: {other:#}");
}
