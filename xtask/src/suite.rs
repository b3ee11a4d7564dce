//! `cargo xtask test`: set up, build, run every test; says how long each step took and ends with cargo's own results.

use std::time::{Duration, Instant};

use crate::children;
use crate::error::Result;
use crate::setup::{self, Scope};
use crate::workspace::{Workspace, say};

/// Runs the tests of the workspace, or `cargo test` with the given arguments.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    timed("setup", || setup::run(workspace, Scope::Test))?;
    if !arguments.is_empty() {
        return children::run(workspace.cargo().arg("test").args(arguments));
    }
    let targets = ["test", "--workspace", "--lib", "--bins", "--tests"];
    timed("build", || children::run(workspace.cargo().args(targets).arg("--no-run")))?;
    timed("examples", || children::run(workspace.cargo().args(["test", "--workspace", "--doc"])))?;
    // The tests come last, so that the output ends with cargo's own lines on what was run.
    say("test", "everything");
    children::run(workspace.cargo().args(targets))
}

fn timed(step: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    let result = work();
    say("time", &format!("{step}: {}", minutes(start.elapsed())));
    result
}

/// `m min s s`, to the second.
fn minutes(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{} min {:02} s", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_times_in_minutes() {
        assert_eq!(minutes(Duration::from_millis(125_900)), "2 min 05 s");
    }
}
