//! One child process: started in the sandbox, read while it runs, always waited for.
//!
//! Each child has a thread of its own, which takes on the sandbox, starts the child, and then
//! blocks until it ends. That thread alone reaps, so a child is never left behind, and whoever
//! drops the future only has to kill.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    pin::Pin,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use regex::{Captures, Regex};
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::Receiver,
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::{Error, Limits, Measured, micros, sandbox};

/// Bytes of the tool's messages that are kept: the last ones.
const TAIL: usize = 4096;
/// Bytes of one line of messages that are looked at; the rest of a longer line is dropped.
const LINE: usize = 4096;
/// Files that a child may have open.
const OPEN_FILES: u64 = 64;

/// What is left for one call, which may take several children.
#[derive(Debug)]
pub(crate) struct Budget {
    deadline: Instant,
    cpu: Duration,
    used: Duration,
    meter: Arc<AtomicU64>,
}

impl Budget {
    pub(crate) fn new(limits: &Limits, meter: Arc<AtomicU64>) -> Self {
        let far = Duration::from_hours(24 * 365);
        let deadline = Instant::now() + limits.wall.min(far);
        Self { deadline, cpu: limits.cpu, used: Duration::ZERO, meter }
    }

    pub(crate) fn measured<T>(&self, value: T) -> Measured<T> {
        Measured { value, core_ms: micros(self.used) / 1000 }
    }
}

/// What to run on which file.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// The program.
    pub(crate) tool: &'a Path,
    /// The only file that it may read.
    pub(crate) file: &'a Path,
    /// Its arguments; see [`input`] for the file.
    pub(crate) arguments: Vec<OsString>,
}

/// How a child ended.
#[derive(Debug)]
pub(crate) struct Exit {
    status: ExitStatus,
    tail: String,
}

impl Exit {
    pub(crate) fn is_success(&self) -> bool {
        self.status.success()
    }

    /// The last that the tool said, fit for a message to a person: one line, no control
    /// characters, paths cut to file names, the exit code where it said nothing.
    pub(crate) fn detail(&self) -> String {
        let said = one_line(&self.tail);
        if said.is_empty() { format!("the tool ended with {}", self.status) } else { said }
    }

    /// Whether the tool said any of `words`.
    pub(crate) fn said(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.tail.contains(word))
    }

    /// Whether the tool complained about anything at all.
    pub(crate) fn complained(&self) -> bool {
        !self.tail.trim().is_empty()
    }

    /// Whether the kernel ended the child for its processor time, which it may do a little before
    /// that time is up by the account that it gives afterwards. FFmpeg catches the signal.
    fn ran_out_of_cpu(&self) -> bool {
        self.status.signal() == Some(libc::SIGXCPU)
            || (!self.is_success() && self.said(&["received signal 24"]))
    }

    /// The limit that ended the child, if it was one; or the signal.
    pub(crate) fn broken_limit(&self, file: &Path, limits: &Limits) -> Option<Error> {
        let file = name(file);
        if self.is_success() {
            return None;
        }
        if self.said(&OUT_OF_MEMORY) {
            let detail = self.detail();
            return Some(Error::MemoryLimit { file, limit: limits.memory, detail });
        }
        let signal = self.status.signal()?;
        Some(Error::Crashed { file, signal, detail: self.detail() })
    }
}

/// How the tools, their libraries and the dynamic loader say that there is no memory.
pub(crate) const OUT_OF_MEMORY: [&str; 6] = [
    "Cannot allocate memory",
    "Could not allocate",
    "Failed to allocate",
    "cannot allocate memory",
    "std::bad_alloc",
    "failed to map segment",
];

/// The bare file name of `file`, for messages.
pub(crate) fn name(file: &Path) -> String {
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// How the tools are told of `file`: as a file whatever its name looks like.
///
/// # Errors
/// [`Error::Read`] where the working directory is gone and the path is relative.
pub(crate) fn input(file: &Path) -> Result<OsString, Error> {
    let path =
        std::path::absolute(file).map_err(|source| Error::Read { file: name(file), source })?;
    let mut input = OsString::from("file:");
    input.push(path);
    Ok(input)
}

/// A sink that keeps what a child writes, up to `limit` bytes.
pub(crate) fn keep(
    kept: &mut Vec<u8>,
    limit: usize,
) -> impl FnMut(&[u8]) -> Result<(), Overflow> + Send {
    move |bytes| {
        if kept.len() + bytes.len() > limit {
            return Err(Overflow::Bytes(limit));
        }
        kept.extend_from_slice(bytes);
        Ok(())
    }
}

/// More came out than may.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Overflow {
    /// More than so many bytes.
    Bytes(usize),
    /// More than so many pictures.
    Pictures(usize),
}

/// Takes what a child writes to standard output, piece by piece.
pub(crate) type Output<'a> = dyn FnMut(&[u8]) -> Result<(), Overflow> + Send + 'a;
/// What is waited for before the child's next output is read.
pub(crate) type Later<'a> = Pin<Box<dyn Future<Output = Result<(), Overflow>> + Send + 'a>>;
/// The same as [`Output`] for a taker that may be slower than the child.
pub(crate) type SlowOutput<'a, 'b> = dyn FnMut(&[u8]) -> Later<'b> + Send + 'a;
/// Takes each line of a child's messages, without its end.
pub(crate) type Messages<'a> = dyn FnMut(&str) + Send + 'a;

/// Runs a child to its end and says how it ended, whatever its exit code.
///
/// Dropping the future kills the child's process group.
///
/// # Errors
/// [`Error::Deadline`], [`Error::CpuLimit`], [`Error::OutputLimit`], [`Error::TooManyPictures`],
/// [`Error::Read`], [`Error::Spawn`].
pub(crate) async fn run(
    launch: Launch<'_>,
    limits: &Limits,
    budget: &mut Budget,
    output: &mut Output<'_>,
    messages: &mut Messages<'_>,
) -> Result<Exit, Error> {
    let mut at_once = |bytes: &[u8]| -> Later<'static> {
        let taken = output(bytes);
        Box::pin(std::future::ready(taken))
    };
    run_slowly(launch, limits, budget, &mut at_once, messages).await
}

/// As [`run`], for an output that the child has to wait for.
///
/// # Errors
/// As [`run`].
pub(crate) async fn run_slowly(
    launch: Launch<'_>,
    limits: &Limits,
    budget: &mut Budget,
    output: &mut SlowOutput<'_, '_>,
    messages: &mut Messages<'_>,
) -> Result<Exit, Error> {
    let file = name(launch.file);
    let tool = launch.tool.to_owned();
    let spawn = |source| Error::Spawn { tool: tool.clone(), source };
    tokio::fs::metadata(launch.file)
        .await
        .map_err(|source| Error::Read { file: file.clone(), source })?;
    let out_of_time = || Error::CpuLimit { file: file.clone(), limit: limits.cpu };
    let cpu = budget.cpu.checked_sub(budget.used).filter(|left| !left.is_zero());
    let cpu = cpu.ok_or_else(out_of_time)?;

    let started = start(&launch, limits, cpu, Arc::clone(&budget.meter)).map_err(spawn)?;
    let mut tail = Vec::new();
    let mut line = |line: &str| {
        messages(line);
        keep_tail(&mut tail, line);
    };
    let deadline = budget.deadline;
    let work = async {
        let Running { stdout, stderr, ended, _kill } = started.await.map_err(gone)??;
        let stdout = Receiver::from_owned_fd(stdout)?;
        let stderr = Receiver::from_owned_fd(stderr)?;
        let out = read_output(stdout, output);
        let err = async { read_lines(stderr, &mut line).await.map_err(Stop::from) };
        tokio::try_join!(out, err)?;
        Ok::<_, Stop>(ended.await.map_err(gone)?)
    };
    let (status, used) = match timeout_at(deadline, work).await {
        Err(_) => return Err(Error::Deadline { file, limit: limits.wall }),
        Ok(Err(Stop::Io(source))) => return Err(spawn(source)),
        Ok(Err(Stop::Overflow(Overflow::Bytes(limit)))) => {
            return Err(Error::OutputLimit { file, limit });
        }
        Ok(Err(Stop::Overflow(Overflow::Pictures(limit)))) => {
            return Err(Error::TooManyPictures { file, limit });
        }
        Ok(Ok(ended)) => ended,
    };
    budget.used += used;
    let tail = String::from_utf8_lossy(&tail).into_owned();
    let exit = Exit { status, tail };
    if used >= cpu || exit.ran_out_of_cpu() { Err(out_of_time()) } else { Ok(exit) }
}

/// The thread that waits for a child has vanished, which only a panic in it can do.
fn gone(_: oneshot::error::RecvError) -> io::Error {
    io::Error::other("the thread of the child is gone")
}

/// Why the reading of a child stops before its end.
enum Stop {
    Io(io::Error),
    Overflow(Overflow),
}

impl From<io::Error> for Stop {
    fn from(source: io::Error) -> Self {
        Self::Io(source)
    }
}

async fn read_output(mut pipe: Receiver, output: &mut SlowOutput<'_, '_>) -> Result<(), Stop> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match pipe.read(&mut buffer).await? {
            0 => return Ok(()),
            n => output(&buffer[..n]).await.map_err(Stop::Overflow)?,
        }
    }
}

async fn read_lines(mut pipe: Receiver, line: &mut Messages<'_>) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 14];
    let mut cutter = LineCutter::default();
    loop {
        match pipe.read(&mut buffer).await? {
            0 => break,
            n => cutter.push(&buffer[..n], line),
        }
    }
    cutter.finish(line);
    Ok(())
}

/// Cuts a stream of bytes into lines. Of a line that is too long only the beginning is kept.
#[derive(Debug, Default)]
pub(crate) struct LineCutter {
    part: Vec<u8>,
}

impl LineCutter {
    /// Takes the next bytes and gives each line that they complete to `line`.
    pub(crate) fn push(&mut self, bytes: &[u8], line: &mut dyn FnMut(&str)) {
        let mut pieces = bytes.split(|&byte| byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let room = LINE.saturating_sub(self.part.len());
            self.part.extend_from_slice(&piece[..piece.len().min(room)]);
            if pieces.peek().is_some() {
                line(&String::from_utf8_lossy(&self.part));
                self.part.clear();
            }
        }
    }

    /// Gives the last line where the stream ends without a line end.
    pub(crate) fn finish(self, line: &mut dyn FnMut(&str)) {
        if !self.part.is_empty() {
            line(&String::from_utf8_lossy(&self.part));
        }
    }
}

/// Keeps the end of what the tool says, but not the running commentary of level `info`.
fn keep_tail(tail: &mut Vec<u8>, line: &str) {
    let is_info = line.contains("[info] ") || line.ends_with("[info]");
    if is_info && !line.contains("received signal") {
        return;
    }
    tail.extend_from_slice(line.as_bytes());
    tail.push(b'\n');
    let over = tail.len().saturating_sub(TAIL);
    tail.drain(..over);
}

/// A child that runs.
struct Running {
    stdout: OwnedFd,
    stderr: OwnedFd,
    ended: oneshot::Receiver<(ExitStatus, Duration)>,
    _kill: KillOnDrop,
}

/// The process group of a child, until the child is reaped and its number may mean another.
#[derive(Clone)]
struct Group(Arc<Mutex<Option<Pid>>>);

impl Group {
    fn kill(&self) {
        let leader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leader) = *leader {
            // It fails only where the group has no member left to kill.
            let _ = rustix::process::kill_process_group(leader, Signal::KILL);
        }
    }

    /// Runs `reap` while nobody can kill, after which nobody will.
    fn reaped<T>(&self, reap: impl FnOnce() -> T) -> T {
        let mut leader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reaped = reap();
        *leader = None;
        reaped
    }
}

struct KillOnDrop(Group);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill();
    }
}

type Started = oneshot::Receiver<io::Result<Running>>;

/// Starts the thread that starts the child and waits for it.
fn start(
    launch: &Launch<'_>,
    limits: &Limits,
    cpu: Duration,
    meter: Arc<AtomicU64>,
) -> io::Result<Started> {
    let (tool, file) = (launch.tool.to_owned(), launch.file.to_owned());
    let mut command = Command::new(launch.tool);
    command
        .args(&launch.arguments)
        .env_clear()
        // Each arena of the allocator claims address space, which is what the limit counts.
        .env("MALLOC_ARENA_MAX", "2")
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    limit(&mut command, limits.memory, cpu);
    let (ready, started) = oneshot::channel();
    thread::Builder::new().name("media-child".to_owned()).spawn(move || {
        match sandbox::restrict(&tool, &file).and_then(|_| command.spawn()) {
            Ok(child) => oversee(child, ready, &meter),
            // Whoever asked may have gone; there is nothing to undo then.
            Err(source) => drop(ready.send(Err(source))),
        }
    })?;
    Ok(started)
}

/// Sets the limits of the process between fork and exec.
fn limit(command: &mut Command, memory: u64, cpu: Duration) {
    let seconds = cpu.as_secs() + u64::from(cpu.subsec_nanos() > 0);
    let limits = [
        (Resource::As, memory, memory),
        // At the first number the tool is told and gives up; at the second it is killed.
        (Resource::Cpu, seconds, seconds.saturating_add(1)),
        (Resource::Fsize, 0, 0),
        (Resource::Nofile, OPEN_FILES, OPEN_FILES),
        (Resource::Core, 0, 0),
    ];
    let apply = move || {
        for (resource, current, maximum) in limits {
            let ceiling = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
            let rlimit =
                Rlimit { current: Some(current.min(ceiling)), maximum: Some(maximum.min(ceiling)) };
            rustix::process::setrlimit(resource, rlimit)?;
        }
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(())
    };
    #[expect(unsafe_code, reason = "limits of a process can only be set within it before exec")]
    // SAFETY: the closure makes system calls on values that it owns; it neither allocates nor
    // takes a lock, so it may run in the child of a process with many threads.
    unsafe {
        command.pre_exec(apply);
    }
}

/// Hands the running child over and waits until it has ended.
fn oversee(mut child: Child, ready: oneshot::Sender<io::Result<Running>>, meter: &AtomicU64) {
    let pid = Pid::from_child(&child);
    let group = Group(Arc::new(Mutex::new(Some(pid))));
    let (report, ended) = oneshot::channel();
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        unreachable!("both are piped")
    };
    let running = Running {
        stdout: stdout.into(),
        stderr: stderr.into(),
        ended,
        _kill: KillOnDrop(group.clone()),
    };
    // Where nobody waits any more, this drops `running`, which kills the child.
    drop(ready.send(Ok(running)));
    // Once its leader is dead, but while the number of the group is still taken, so that whatever
    // the leader may have left behind is killed with it.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = rustix::process::waitid(WaitId::Pid(pid), options) {}
    group.kill();
    let (status, used) = group.reaped(|| reap(pid));
    meter.fetch_add(micros(used), Ordering::Relaxed);
    // Where nobody waits any more, nobody needs the report.
    let _ = report.send((status, used));
}

/// Takes the dead child `pid` off the system: how it ended, and its user and system time.
fn reap(pid: Pid) -> (ExitStatus, Duration) {
    let mut status = 0;
    #[expect(unsafe_code, reason = "no safe call tells what one child has used")]
    // SAFETY: `rusage` is plain numbers, for which zero is valid, and both pointers are to locals
    // that outlive the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::wait4(pid.as_raw_nonzero().get(), &raw mut status, 0, &raw mut usage);
        usage
    };
    let time = |value: libc::timeval| {
        let seconds = u64::try_from(value.tv_sec).unwrap_or(0);
        Duration::from_secs(seconds)
            + Duration::from_micros(u64::try_from(value.tv_usec).unwrap_or(0))
    };
    (ExitStatus::from_raw(status), time(usage.ru_utime) + time(usage.ru_stime))
}

/// What the tools put before a message: which of their parts says it, with its address, and how bad
/// it is. `[h264 @ 0x55d0c0de] [error] no frame!`
static PREFIX: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\[([^\[\]\s]+) @ 0x[0-9a-f]+\]|\[(?:error|warning|fatal|panic)\]")
        .unwrap_or_else(|error| unreachable!("a pattern of our own: {error}"))
});

/// `text` as one line for a person, at most 400 characters: the last lines first to stay. Of what
/// stands before a message only the name of the part is kept, as in `h264: no frame!`.
pub(crate) fn one_line(text: &str) -> String {
    let text = PREFIX.replace_all(text, |prefix: &Captures<'_>| {
        prefix.get(1).map_or_else(String::new, |part| format!("{}:", part.as_str()))
    });
    let words: Vec<_> = text.split_whitespace().map(file_name).collect();
    let line: String = words.join(" ").chars().filter(|c| !c.is_control()).collect();
    let over = line.chars().count().saturating_sub(400);
    line.chars().skip(over).collect()
}

/// What is after the last slash, so that no message tells where a worker keeps its files.
fn file_name(word: &str) -> &str {
    let name = word.trim_end_matches('/').rsplit('/').next();
    name.filter(|_| word.contains('/')).unwrap_or(word)
}

#[cfg(test)]
mod tests;
