//! An executor that is cut off from the network and comes back, in a network of its own (Linux network namespaces).

use std::fs;
use std::process::{Command, id};
use std::time::Duration;

use eventide_testkit::{Error, Program, Running};
use serde_json::Value;

use crate::conservation::assert_conserved;
use crate::trial::{LIMIT, Trial, eventide};

/// What all processes are told. With a token both ports of an executor are guarded, which must work between machines, too.
const TOLD: [(&str, &str); 2] =
    [("EVENTIDE_LOG", "info"), ("EVENTIDE_CLUSTER_TOKEN", "correct horse battery staple")];

/// Set where no network namespaces can be made, and that is known: then nothing is tested here.
const WITHOUT: &str = "EVENTIDE_TEST_WITHOUT_NETWORKS";

/// A network of two machines: this one at `.1`, and one at `.2` that can be cut off. Goes when it is dropped.
struct Wire {
    name: String,
    net: String,
}

impl Wire {
    /// What the machine lacks for it, where it cannot be laid: root's rights over networks, or the program `ip`.
    fn lay() -> Result<Self, String> {
        let number = id();
        // Of the addresses that RFC 2544 keeps for tests of networks, which nobody else uses.
        let net = format!("198.{}.{}", 18 + number / 256 % 2, number % 256);
        let name = format!("evt{number}");
        try_ip(&format!("netns add {name}"))?;
        let wire = Self { name, net };
        let (name, there) = (&wire.name, wire.there());
        try_ip(&format!("link add {name}a type veth peer name {name}b netns {name}"))?;
        ip(&format!("addr add {}/24 dev {name}a", wire.here()));
        ip(&format!("link set {name}a up"));
        ip(&format!("-n {name} addr add {there}/24 dev {name}b"));
        ip(&format!("-n {name} link set lo up"));
        wire.join();
        Ok(wire)
    }

    /// This machine's address.
    fn here(&self) -> String {
        format!("{}.1", self.net)
    }

    /// The other's.
    fn there(&self) -> String {
        format!("{}.2", self.net)
    }

    fn cut(&self) {
        ip(&format!("-n {0} link set {0}b down", self.name));
    }

    fn join(&self) {
        ip(&format!("-n {0} link set {0}b up", self.name));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.name)); // the pair goes with it
    }
}

fn ip(arguments: &str) {
    try_ip(arguments).unwrap();
}

fn try_ip(arguments: &str) -> Result<(), String> {
    let done = Command::new("ip").args(arguments.split(' ')).output();
    let done = done.map_err(|error| format!("`ip` cannot be started: {error}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if done.status.success() { Ok(()) } else { Err(format!("`ip {arguments}` says: {said}")) }
}

/// A talk and so many copies of it, whose names begin with `prefix`.
fn add_talks(trial: &Trial, prefix: &str, count: u32) {
    let talk = trial.add_narrated(1);
    for number in 0..count {
        let copy = trial.corpus().join(format!("{prefix}-{number}.mp4"));
        fs::copy(&talk.video, &copy).unwrap();
        fs::copy(&talk.side_car, copy.with_extension("vtt")).unwrap();
    }
}

fn started(program: &Program, says: &str) -> (Running, String) {
    let running = program.clone().environment(TOLD).start().unwrap();
    let line = running.await_line(says, LIMIT).unwrap();
    (running, line.rsplit(' ').next().unwrap().to_owned())
}

/// The executor at work again. A scheduler that has given it up tells it to end as soon as it can hear, and one that hears
/// no scheduler for long ends by itself; then what supervises it (`Restart=always` in `deploy/`) starts another.
fn back(cut_off: Running, program: &Program) -> Running {
    let ends = cut_off.await_line("Stop the task runner pool", Duration::from_mins(2));
    if matches!(ends, Err(Error::Late { .. })) {
        return cut_off; // it was in time to be missed by nobody
    }
    cut_off.wait(LIMIT).unwrap().assert_code(0);
    started(program, "Executor registration succeed").0
}

#[test]
fn an_executor_that_is_cut_off_is_taken_over_and_comes_back() {
    let wire = match Wire::lay() {
        Ok(wire) => wire,
        Err(lacking) if std::env::var_os(WITHOUT).is_some() => {
            println!("not tested, as `{WITHOUT}` allows: {lacking}");
            return;
        }
        Err(lacking) => panic!(
            "no networks can be made here: {lacking}. Run this as root with `ip` (iproute2), or set `{WITHOUT}=1` \
             to do without this test"
        ),
    };
    let (here, there) = (wire.here(), wire.there());
    let listen = format!("{here}:0");
    let scheduler =
        eventide().arguments(["scheduler", "--listen", &listen, "--executor-timeout", "4s"]);
    let (_scheduler, url) = started(&scheduler, "scheduler listens at ");
    let executor =
        ["executor", &*url, "--heartbeat", "1s", "--workers", "1", "--grace", "3m", "--listen"];
    let near = eventide().arguments(executor).arguments([&here]);
    let network = format!("--net=/run/netns/{}", wire.name);
    let far_program = Program::new("nsenter")
        .arguments([network.as_str(), env!("CARGO_BIN_EXE_eventide")])
        .arguments(executor)
        .arguments([&there]);
    let (_near, _) = started(&near, "Executor registration succeed");
    let (far, _) = started(&far_program, "Executor registration succeed");

    let trial = Trial::with_job("[captioning]\nsource = \"speech\"\n[run]\nshard-videos = 12\n");
    add_talks(&trial, "first", 23);
    let index = trial.index().arguments(["--cluster", &*url]).environment(TOLD);
    let client = index.start().unwrap();
    far.await_line("shard begun", LIMIT).unwrap();
    wire.cut();
    let finished = client.wait(LIMIT).unwrap();
    finished.assert_code(0);
    let run: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!((&run["captioned"], &run["failed"]), (&24.into(), &0.into()));
    assert_conserved(&trial, "lake", []);

    wire.join();
    let far = back(far, &far_program);
    let _ = far.take_said();
    add_talks(&trial, "second", 48);
    let client = index.start().unwrap();
    far.await_line("shard begun", LIMIT).unwrap();
    client.wait(LIMIT).unwrap().assert_code(0);
    assert_conserved(&trial, "lake", []);
    // The one that comes back has a name of its own; what it finished before it was cut off keeps the old one.
    assert!((2..=3).contains(&trial.distinct("videos", "worker")), "both work again");
}
