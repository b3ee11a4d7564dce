//! The program under test as a process: run to its end, watched line by line, stopped politely or killed at a chosen
//! line. Whatever it started goes with it when the test drops it.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::retry_on_intr;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};

use crate::error::{Error, Result};

/// A program with its arguments and environment, not yet started.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
}

/// How a program ended, and what it said.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its status.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// A program that was started. Dropping it kills it and the processes of its group.
#[derive(Debug)]
pub struct Running {
    path: PathBuf,
    process: Pid,
    watch: Arc<Watch>,
}

/// What is known of a running program.
#[derive(Debug, Default)]
struct Watch {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Seen {
    stdout: String,
    stderr: String,
    /// Streams that have not ended yet.
    open: usize,
    status: Option<ExitStatus>,
}

#[derive(Debug, Clone, Copy)]
enum Stream {
    Output,
    Error,
}

impl Program {
    /// A program by its path, for instance `env!("CARGO_BIN_EXE_eventide")`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), arguments: Vec::new(), environment: Vec::new(), folder: None }
    }

    /// Adds arguments.
    #[must_use]
    pub fn arguments<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets environment variables, beside those of the test.
    #[must_use]
    pub fn environment<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let owned = |(name, value): (K, V)| (name.as_ref().to_owned(), value.as_ref().to_owned());
        self.environment.extend(variables.into_iter().map(owned));
        self
    }

    /// Runs it in a folder.
    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_path_buf());
        self
    }

    /// Starts it, in a process group of its own and without standard input.
    ///
    /// # Errors
    /// [`Error::Start`].
    pub fn start(&self) -> Result<Running> {
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let mut child = command
            .spawn()
            .map_err(|source| Error::Start { program: self.path.clone(), source })?;
        let process = Pid::from_child(&child);
        let watch = Arc::new(Watch::default());
        if let Some(stream) = child.stdout.take() {
            watch.follow(stream, Stream::Output);
        }
        if let Some(stream) = child.stderr.take() {
            watch.follow(stream, Stream::Error);
        }
        watch.await_end(child);
        Ok(Running { path: self.path.clone(), process, watch })
    }

    /// Runs it to its end. A failure of the program is not an error here: see [`Finished::status`].
    ///
    /// # Errors
    /// [`Error::Start`], and [`Error::Late`] where it takes longer than `limit`; it is killed then.
    pub fn run(&self, limit: Duration) -> Result<Finished> {
        self.start()?.wait(limit)
    }
}

impl Finished {
    /// Fails the test, with all that the program said, unless it ended with this code.
    ///
    /// # Panics
    /// As said.
    #[track_caller]
    pub fn assert_code(&self, code: i32) {
        let Self { status, stdout, stderr } = self;
        let said = format!("--- standard output\n{stdout}\n--- standard error\n{stderr}");
        assert!(
            status.code() == Some(code),
            "ended with {status} and not with code {code}\n{said}"
        );
    }

    /// Whether it was killed by `SIGKILL`.
    #[must_use]
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(Signal::KILL.as_raw())
    }
}

impl Running {
    /// Its process number.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.process.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for a whole line, of either stream, that contains `text`, and gives it. Lines from before the call count.
    ///
    /// # Errors
    /// [`Error::Late`], or [`Error::Ended`] where it ends without such a line.
    pub fn await_line(&self, text: &str, limit: Duration) -> Result<String> {
        let what = format!("a line with `{text}`");
        let found = |seen: &Seen| {
            let lines = whole_lines(&seen.stdout).chain(whole_lines(&seen.stderr));
            lines.into_iter().find(|line| line.contains(text)).map(str::to_owned)
        };
        let done = |seen: &Seen| found(seen).is_some() || seen.open == 0;
        let seen = self.watch.until(&what, limit, done)?;
        found(&seen).ok_or_else(|| Error::Ended {
            program: self.path.clone(),
            what,
            said: seen.said(),
        })
    }

    /// What it has said since it was asked last; [`Running::await_line`] does not see that any more.
    #[must_use]
    pub fn take_said(&self) -> String {
        let mut seen = self.watch.lock();
        std::mem::take(&mut seen.stdout) + &std::mem::take(&mut seen.stderr)
    }

    /// Waits until it has ended and said everything.
    ///
    /// # Errors
    /// [`Error::Late`]; it is killed then.
    pub fn wait(self, limit: Duration) -> Result<Finished> {
        let what = format!("the end of `{}`", self.path.display());
        let ended = |seen: &Seen| seen.status.is_some() && seen.open == 0;
        let mut seen = self.watch.until(&what, limit, ended)?;
        let status = seen.status.unwrap_or_default();
        Ok(Finished {
            status,
            stdout: std::mem::take(&mut seen.stdout),
            stderr: std::mem::take(&mut seen.stderr),
        })
    }

    /// Kills the program alone (`SIGKILL`), as a crash or the system's memory guard would, and waits for its end. Its
    /// own children are not killed: what becomes of them is the program's affair, and ours when `self` is dropped.
    ///
    /// # Errors
    /// [`Error::Signal`], [`Error::Late`].
    pub fn kill(self) -> Result<Finished> {
        self.signal(Signal::KILL)?;
        self.wait(Duration::from_secs(30))
    }

    /// Kills it as [`Running::kill`] does, and goes on holding what it said.
    ///
    /// # Errors
    /// [`Error::Signal`], [`Error::Late`].
    pub fn crash(&self) -> Result<()> {
        self.signal(Signal::KILL)?;
        let ended = |seen: &Seen| seen.status.is_some();
        self.watch.until("the end of a killed program", Duration::from_secs(30), ended).map(drop)
    }

    /// Asks it to stop (`SIGTERM`), as a cluster does that drains a node.
    ///
    /// # Errors
    /// [`Error::Signal`].
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Asks it to stop (`SIGINT`), as a person at a terminal does.
    ///
    /// # Errors
    /// [`Error::Signal`].
    pub fn interrupt(&self) -> Result<()> {
        self.signal(Signal::INT)
    }

    /// Stops it in its tracks (`SIGSTOP`), as a machine does that hangs. Its children go on.
    ///
    /// # Errors
    /// [`Error::Signal`].
    pub fn suspend(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Has it go on (`SIGCONT`), unaware that time has passed.
    ///
    /// # Errors
    /// [`Error::Signal`].
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        // The lock keeps the process from being reaped, and its number from being given away, meanwhile.
        let seen = self.watch.lock();
        if seen.status.is_some() {
            return Ok(());
        }
        let sent = kill_process(self.process, signal);
        sent.map_err(|errno| Error::Signal { process: self.process(), source: errno.into() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The group outlives its leader for as long as a child lives; without one there is nothing to kill.
        let _ = kill_process_group(self.process, Signal::KILL);
    }
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Collects a stream on a thread of its own until it ends.
    fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static, which: Stream) {
        self.change(|seen| seen.open += 1);
        let watch = Arc::clone(self);
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line).into_owned();
                watch.change(|seen| match which {
                    Stream::Output => seen.stdout.push_str(&text),
                    Stream::Error => seen.stderr.push_str(&text),
                });
                line.clear();
            }
            watch.change(|seen| seen.open -= 1);
        });
    }

    /// Reaps the child on a thread of its own.
    fn await_end(self: &Arc<Self>, mut child: Child) {
        let (watch, process) = (Arc::clone(self), Pid::from_child(&child));
        thread::spawn(move || {
            // Only wait here, and reap under the lock: whoever holds it may signal the process by its number.
            let waiting =
                || waitid(WaitId::Pid(process), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            let _ = retry_on_intr(waiting);
            watch.change(|seen| seen.status = Some(child.wait().unwrap_or_default()));
        });
    }

    fn until(
        &self,
        what: &str,
        limit: Duration,
        done: impl Fn(&Seen) -> bool,
    ) -> Result<MutexGuard<'_, Seen>> {
        let start = Instant::now();
        let waiting = self.changed.wait_timeout_while(self.lock(), limit, |seen| !done(seen));
        let (seen, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        if done(&seen) {
            return Ok(seen);
        }
        Err(Error::Late { what: what.to_owned(), waited: start.elapsed(), said: seen.said() })
    }
}

impl Seen {
    fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// The lines that have their end.
fn whole_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Program {
        Program::new("sh").arguments(["-c", script])
    }

    #[test]
    fn runs_with_arguments_environment_and_folder() {
        let folder = tempfile::tempdir().unwrap();
        let program = shell("pwd; echo $WORD >&2; exit 3")
            .environment([("WORD", "hello")])
            .in_folder(folder.path());
        let finished = program.run(LIMIT).unwrap();
        finished.assert_code(3);
        assert_eq!(Path::new(finished.stdout.trim()), folder.path().canonicalize().unwrap());
        assert_eq!(finished.stderr, "hello\n");
    }

    #[test]
    fn is_killed_at_a_line() {
        let running = shell("echo one; echo shard 7 begun >&2; sleep 1000").start().unwrap();
        assert_eq!(running.await_line("shard 7", LIMIT).unwrap(), "shard 7 begun");
        running.signal(Signal::KILL).unwrap();
        // The shell's own child holds the streams open; the status alone tells.
        drop(running.watch.until("the end", LIMIT, |seen| seen.status.is_some()).unwrap());
        let status = running.watch.lock().status.unwrap();
        assert_eq!(status.signal(), Some(9));
    }

    #[test]
    fn a_kill_is_told_from_an_end() {
        let running = shell("echo begun; exec sleep 1000").start().unwrap();
        running.await_line("begun", LIMIT).unwrap();
        assert!(running.kill().unwrap().was_killed());
        assert!(!shell("exit 1").run(LIMIT).unwrap().was_killed());
    }

    #[test]
    fn a_polite_stop_can_be_answered() {
        let running =
            shell("trap 'echo stopping; exit 0' TERM; echo begun; while :; do sleep 0.05; done")
                .start()
                .unwrap();
        running.await_line("begun", LIMIT).unwrap();
        running.terminate().unwrap();
        let finished = running.wait(LIMIT).unwrap();
        finished.assert_code(0);
        assert!(finished.stdout.contains("stopping"), "{finished:?}");
    }

    #[test]
    fn says_nothing_while_it_is_suspended() {
        let running =
            shell("echo begun; while :; do sleep 0.05; echo again; done").start().unwrap();
        running.await_line("begun", LIMIT).unwrap();
        running.suspend().unwrap();
        let state = || fs::read_to_string(format!("/proc/{}/stat", running.process())).unwrap();
        let start = Instant::now();
        while !state().contains(") T ") {
            assert!(start.elapsed() < LIMIT, "{}", state());
            thread::yield_now();
        }
        running.resume().unwrap();
        running.await_line("again", LIMIT).unwrap();
        assert!(running.kill().unwrap().was_killed());
    }

    #[test]
    fn a_line_that_never_comes_is_told_from_one_that_is_late() {
        let ended = shell("echo other").start().unwrap().await_line("wanted", LIMIT).unwrap_err();
        assert!(matches!(&ended, Error::Ended { said, .. } if said == "other\n"), "{ended}");
        let late = shell("exec sleep 1000")
            .start()
            .unwrap()
            .await_line("wanted", Duration::from_millis(50))
            .unwrap_err();
        assert!(matches!(late, Error::Late { .. }), "{late}");
    }

    #[test]
    fn dropping_it_kills_its_children_too() {
        let running = shell("sleep 1000 & echo $!; wait").start().unwrap();
        let child = running.await_line("", LIMIT).unwrap();
        let watch = Arc::clone(&running.watch);
        drop(running);
        // The streams end when the last process that holds them has ended.
        drop(watch.until("the end of the streams", LIMIT, |seen| seen.open == 0).unwrap());
        assert!(child.parse::<u32>().is_ok(), "{child}");
    }
}
