//! What `deploy/` names exists: commands, flags, variables, ports and metrics. What checks such files checks them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use eventide_testkit::{bundles, tools};

use crate::operations::{fetched, started};
use crate::trial::{LIMIT, Trial, eventide, run};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");

/// The commands that are deployed.
const COMMANDS: [&str; 3] = ["scheduler", "executor", "index"];

/// Fails unless each YAML document of these files is what Kubernetes 1.33 takes.
const VALIDATE: &str = "
import sys, kubernetes_validate, yaml
for path in sys.argv[1:]:
    for document in yaml.safe_load_all(open(path)):
        if document['kind'] != 'Kustomization':
            kubernetes_validate.validate(document, '1.33', strict=True)
            print(document['kind'])
";

fn files(below: &str) -> Vec<PathBuf> {
    let mut folders = vec![Path::new(FOLDER).join(below)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

/// A command line of the program somewhere in a file.
#[derive(Debug)]
struct Call {
    file: PathBuf,
    command: &'static str,
    arguments: Vec<String>,
}

/// The words of a line of shell, of a unit or of YAML.
fn words(line: &str) -> Vec<&str> {
    let parts = line.split(|c: char| c.is_whitespace() || "\"',[]()".contains(c));
    parts.filter(|word| !word.is_empty()).collect()
}

/// The calls in a file: on one line, or as a YAML list of one word a line.
fn calls(file: &Path) -> Vec<Call> {
    let text = fs::read_to_string(file).unwrap();
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let mut calls = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let words = words(line);
        let begin = words.windows(2).position(|pair| {
            let starts = [
                "eventide",
                "/usr/bin/eventide",
                "ExecStart=/usr/bin/eventide",
                "args:",
                "command:",
                "-",
            ];
            starts.contains(&pair[0]) && COMMANDS.contains(&pair[1])
        });
        let Some(begin) = begin else { continue };
        let command = COMMANDS.into_iter().find(|command| *command == words[begin + 1]).unwrap();
        let mut arguments: Vec<_> = words[begin + 2..].iter().map(ToString::to_string).collect();
        if words[begin] == "-" {
            let items = lines[at + 1..].iter().map_while(|line| line.trim().strip_prefix("- "));
            arguments.extend(items.map(str::to_owned));
        }
        calls.push(Call { file: file.to_owned(), command, arguments });
    }
    calls
}

/// Every word in a text that begins like this.
fn named<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    let places = text.match_indices(prefix).map(|(at, _)| at);
    let alone =
        places.filter(|at| !text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
    let word = |at: usize| {
        let end = text[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        &text[at..end.map_or(text.len(), |end| at + end)]
    };
    alone.map(word).collect()
}

#[test]
fn commands_flags_and_variables_are_those_of_the_program() {
    let help = |command: &'static str| (command, run([command, "--help"]).stdout);
    let helps: BTreeMap<&str, String> = COMMANDS.into_iter().map(help).collect();
    let (mut found, mut variables) = (0, 0);
    for file in files("") {
        for Call { file, command, arguments } in calls(&file) {
            found += 1;
            for flag in arguments.iter().filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap();
                let known = words(&helps[command]).contains(&flag);
                assert!(known, "{}: `{command}` has no `{flag}`", file.display());
            }
        }
        for variable in named(&fs::read_to_string(&file).unwrap(), "EVENTIDE_") {
            variables += 1;
            let known = helps.values().any(|help| named(help, "EVENTIDE_").contains(&variable));
            assert!(known, "{}: nobody reads `{variable}`", file.display());
        }
    }
    assert!(found >= 12 && variables > 15, "{found} calls, {variables} variables");
}

#[test]
fn the_job_is_the_one_to_copy() {
    let job = |path: &str| fs::read_to_string(Path::new(FOLDER).join(path)).unwrap();
    assert_eq!(job("kubernetes/nightly.toml"), job("../jobs/nightly.toml"));
}

#[test]
fn ports_are_those_that_the_program_is_told() {
    let mut ports = 0;
    for file in files("kubernetes") {
        let told: Vec<String> = files("kubernetes")
            .iter()
            .flat_map(|file| calls(file))
            .flat_map(|c| c.arguments)
            .collect();
        let text = fs::read_to_string(&file).unwrap();
        let after = |key: &str| {
            let rest = text.split(key).skip(1).map(str::to_owned);
            rest.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>())
                .collect::<Vec<_>>()
        };
        for port in ["containerPort: ", " port: ", "/port: \""].iter().flat_map(|key| after(key)) {
            if port.is_empty() {
                continue; // by its name
            }
            ports += 1;
            let known = told.iter().any(|word| word.ends_with(&port));
            assert!(known, "{}: nobody listens at {port}", file.display());
        }
    }
    assert!(ports >= 10, "{ports} ports");
}

#[test]
fn the_scheduler_is_called_where_it_listens() {
    let port = |word: &str| {
        let digits = word.rsplit_once(':')?.1.trim_end_matches('/');
        digits.parse::<u16>().ok().filter(|port| *port > 0)
    };
    let (mut listening, mut calling) = (Vec::new(), Vec::new());
    let calls: Vec<_> = files("").iter().flat_map(|file| calls(file)).collect();
    for Call { file, command, arguments } in &calls {
        let listen = arguments.windows(2).find(|pair| pair[0] == "--listen").map(|pair| &pair[1]);
        let urls = arguments.iter().filter(|word| word.starts_with("http://"));
        match *command {
            "scheduler" => listening.extend(listen.and_then(|address| port(address))),
            _ => calling.extend(urls.map(|url| (file.clone(), port(url)))),
        }
    }
    assert!(listening.len() >= 4 && calling.len() >= 6, "{listening:?}, {calling:?}");
    for (file, port) in calling {
        let known = port.is_some_and(|port| listening.contains(&port));
        assert!(known, "{}: no scheduler listens at {port:?}", file.display());
    }
    let told = fs::read_to_string(Path::new(FOLDER).join("README.md")).unwrap();
    assert!(listening.iter().all(|port| told.contains(&port.to_string())), "{listening:?}");
}

#[test]
fn metrics_are_those_that_the_program_tells() {
    let job = "[model]\nbundle = \"bundle\"\n[captioning]\nmax-output-tokens = 20\n";
    let trial = Trial::with_job(job);
    bundles::golden(&trial.folder().join("bundle")).unwrap();
    trial.add_narrated(1);
    let scheduler = eventide().arguments(["scheduler", "--listen", "127.0.0.1:0"]);
    let (_scheduler, url, cluster) = started(&scheduler, "scheduler listens at ");
    let client = trial.index().arguments(["--cluster", &*url]).start().unwrap();
    client.await_line("no executor works for the scheduler", LIMIT).unwrap();
    let mut told = fetched(&cluster);
    let executor = eventide().arguments(["executor", &*url, "--heartbeat", "1s"]);
    let (_executor, _, work) = started(&executor, "executor listens at ");
    client.wait(LIMIT).unwrap().assert_code(0);
    told += &fetched(&cluster);
    told += &fetched(&work);
    let mut found = 0;
    for file in files("monitoring") {
        for metric in named(&fs::read_to_string(&file).unwrap(), "eventide_") {
            found += 1;
            assert!(
                named(&told, "eventide_").contains(&metric),
                "{}: no `{metric}` in\n{told}",
                file.display()
            );
        }
    }
    assert!(found > 30, "{found} metrics are named");
}

#[test]
fn kubernetes_takes_the_manifests() {
    let files: Vec<_> = files("kubernetes")
        .into_iter()
        .filter(|f| f.extension().is_some_and(|e| e == "yaml"))
        .collect();
    let kinds = tools().unwrap().run_validator(VALIDATE, &files).unwrap();
    assert_eq!(kinds.lines().count(), 7, "{kinds}");
}

#[test]
fn systemd_takes_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return; // a machine without systemd has nobody to ask
    }
    let folder = tempfile::tempdir().unwrap();
    let units: Vec<_> = files("systemd")
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            assert!(
                text.contains("/usr/bin/eventide ")
                    || file.extension().is_some_and(|e| e == "timer")
            );
            let unit = folder.path().join(file.file_name().unwrap());
            fs::write(
                &unit,
                text.replace("/usr/bin/eventide ", concat!(env!("CARGO_BIN_EXE_eventide"), " ")),
            )
            .unwrap();
            unit
        })
        .collect();
    let verified =
        Command::new("systemd-analyze").args(["verify", "--man=no"]).args(units).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    let ours: Vec<_> = said.lines().filter(|line| line.contains("eventide")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{said}");
}
