//! `cargo xtask bench identity`, `mutations` and `soak`: tests of the workspace, made as large as a person wants.

use crate::children;
use crate::error::Result;
use crate::setup::{self, Scope};
use crate::workspace::Workspace;

/// The rows of so many videos through the real operators, each of which must be of the video that it names.
pub(crate) fn identity(workspace: &Workspace, profile: &str, videos: u64) -> Result<()> {
    let test = "each_row_is_of_the_video_that_it_names";
    run(workspace, profile, "--lib", test, ("EVENTIDE_IDENTITY_VIDEOS", videos))
}

/// So many damaged files through the sandboxed decoder.
pub(crate) fn mutations(workspace: &Workspace, profile: &str, files: u64) -> Result<()> {
    let kinds = 4;
    let test = "any_mutation_ends_in_a_result_or_a_reason";
    run(workspace, profile, "--tests", test, ("EVENTIDE_MUTATIONS", files.div_ceil(kinds)))
}

/// Nights on a cluster for so many minutes, while its processes are killed at random.
pub(crate) fn soak(workspace: &Workspace, profile: &str, minutes: u64) -> Result<()> {
    let test = "nights_of_a_corpus_that_changes_while_processes_are_killed";
    let seconds = minutes.saturating_mul(60);
    run(workspace, profile, "--tests", test, ("EVENTIDE_SOAK_SECONDS", seconds))
}

/// Runs one test, which says what it has seen.
fn run(
    workspace: &Workspace,
    profile: &str,
    targets: &str,
    test: &str,
    (variable, value): (&str, u64),
) -> Result<()> {
    setup::run(workspace, Scope::Test)?;
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--workspace", targets, "--profile", profile, test, "--", "--nocapture"]);
    children::run(cargo.env(variable, value.to_string()))
}
