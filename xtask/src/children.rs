//! Child programs: run them loudly or quietly, and turn a bad end into an error that shows what they said.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::error::{Error, Result};

/// How much of a failed program's output an error shows, in bytes.
const SHOWN: usize = 4000;

/// Runs a program with its output going where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|source| start_error(command, source))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Failed { command: text(command), status, output: String::new() })
}

/// Runs a program unseen and gives what it wrote to standard output; an error shows the end of all that it said.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().map_err(|source| start_error(command, source))?;
    if status.success() {
        return Ok(stdout);
    }
    let said = [stdout, stderr].concat();
    Err(Error::Failed { command: text(command), status, output: format!(":\n{}", tail(&said)) })
}

/// Where `program` lies on the `PATH`, if it does.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

fn start_error(command: &Command, source: std::io::Error) -> Error {
    Error::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

/// The command as a person would type it, without the environment.
fn text(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn tail(said: &[u8]) -> String {
    String::from_utf8_lossy(&said[said.len().saturating_sub(SHOWN)..]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_end_shows_what_was_said() {
        let error = output(Command::new("sh").args(["-c", "echo deep trouble >&2; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("deep trouble") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(&mut Command::new("eventide-no-such-program")).unwrap_err();
        assert_eq!(error.to_string(), "cannot start `eventide-no-such-program`");
    }

    #[test]
    fn finds_the_shell_and_nothing_else() {
        assert!(find("sh").is_some());
        assert_eq!(find("eventide-no-such-program"), None);
    }

    #[test]
    fn a_long_output_is_cut_at_its_start() {
        let said = [b"start".to_vec(), vec![b'x'; SHOWN]].concat();
        assert_eq!(tail(&said), "x".repeat(SHOWN));
    }
}
