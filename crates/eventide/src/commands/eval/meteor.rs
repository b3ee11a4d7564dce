//! METEOR 1.5 by its own program: one Java process that answers line by line.
//!
//! The protocol of its `-stdio` mode: `SCORE ||| REFERENCE ||| ... ||| HYPOTHESIS` is answered by a line of statistics,
//! and `EVAL ||| STATISTICS ||| ...` by one line with the score of each, and one with the score of all together. A
//! process that dies, errs or is silent for too long is ended and asked anew from a fresh one.

use std::{
    collections::{HashMap, VecDeque},
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use eventide_eval::{Pair, PairScores, ScorerError, SentenceScorer, figures::METEOR};
use indicatif::ProgressBar;

/// How often a list of pairs is tried, each time with a new process.
const ATTEMPTS: usize = 3;
/// Memory of the process: its table of paraphrases takes most of it.
const MEMORY: &str = "-Xmx2G";
/// Answers that wait to be read.
const QUEUE: usize = 1024;
/// Pairs whose statistics are remembered: the same pair comes back at each threshold and in SODA.
const REMEMBERED: usize = 500_000;
/// Lines of the process's complaints that an error shows.
const SHOWN: usize = 10;

/// Why METEOR gave no score.
#[derive(Debug, thiserror::Error)]
pub(super) enum MeteorError {
    #[error("cannot start `{java}`")]
    Start { java: PathBuf, source: std::io::Error },
    #[error("it did not answer within {deadline:?}{said}")]
    Silent { deadline: Duration, said: String },
    #[error("it ended early{said}")]
    Ended { said: String },
    #[error("it answered `{answer}`, which is not {expected}{said}")]
    Answer { answer: String, expected: &'static str, said: String },
}

/// METEOR 1.5, English, normalising, as the published figures are made.
pub(super) struct Meteor {
    java: PathBuf,
    jar: PathBuf,
    deadline: Duration,
    running: Option<Running>,
    /// Statistics by question.
    known: HashMap<String, String>,
}

impl Meteor {
    /// Starts nothing yet.
    pub(super) fn new(java: PathBuf, jar: PathBuf, deadline: Duration) -> Self {
        Self { java, jar, deadline, running: None, known: HashMap::new() }
    }

    fn running(&mut self) -> Result<&mut Running, MeteorError> {
        let running = match self.running.take() {
            Some(running) => running,
            None => Running::start(self)?,
        };
        Ok(self.running.insert(running))
    }

    /// Scores the pairs with the process that runs.
    fn ask(&mut self, questions: &[String]) -> Result<PairScores, MeteorError> {
        if self.known.len() > REMEMBERED {
            self.known.clear();
        }
        let deadline = self.deadline;
        let mut unknown: Vec<&String> =
            questions.iter().filter(|question| !self.known.contains_key(*question)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        let unknown: Vec<String> = unknown.into_iter().cloned().collect();
        let running = self.running()?;
        running.send(unknown.clone())?;
        let answers = unknown
            .into_iter()
            .map(|question| Ok((question, running.statistics(deadline)?)))
            .collect::<Result<Vec<_>, MeteorError>>()?;
        self.known.extend(answers);
        let statistics: Vec<&str> = questions
            .iter()
            .filter_map(|question| self.known.get(question))
            .map(|s| &**s)
            .collect();
        let all = format!("EVAL ||| {}", statistics.join(" ||| "));
        let running = self.running()?;
        running.send(vec![all])?;
        let each = questions
            .iter()
            .map(|_| running.score(deadline))
            .collect::<Result<Vec<_>, MeteorError>>()?;
        Ok(PairScores { total: running.score(deadline)?, each })
    }
}

impl SentenceScorer for Meteor {
    fn name(&self) -> &str {
        METEOR
    }

    fn score(&mut self, pairs: &[Pair<'_, String>]) -> Result<PairScores, ScorerError> {
        let questions: Vec<String> = pairs.iter().map(question).collect();
        let mut attempt = 1;
        loop {
            match self.ask(&questions) {
                Ok(scores) => return Ok(scores),
                Err(error @ MeteorError::Start { .. }) => return Err(error.into()),
                Err(error) => {
                    self.running = None;
                    if attempt == ATTEMPTS {
                        return Err(error.into());
                    }
                    tracing::warn!(%error, attempt, "METEOR is started anew");
                    attempt += 1;
                }
            }
        }
    }
}

/// The line that asks about a pair. Tokens have no line breaks and no bars of their own.
fn question(pair: &Pair<'_, String>) -> String {
    let caption = |tokens: &[String]| {
        let tokens: Vec<&str> =
            tokens.iter().map(|token| &**token).filter(|t| *t != "|||").collect();
        tokens.join(" ")
    };
    let mut parts = vec!["SCORE".to_owned()];
    parts.extend(pair.references.iter().map(|reference| caption(reference)));
    parts.push(caption(pair.hypothesis));
    parts.join(" ||| ")
}

/// The process, with a thread that writes to it, one that reads its answers and one that reads its complaints, so that
/// no full pipe can hold anybody up.
struct Running {
    child: Child,
    questions: Option<SyncSender<Vec<String>>>,
    answers: Receiver<String>,
    said: Arc<Mutex<VecDeque<String>>>,
    listener: Option<thread::JoinHandle<()>>,
}

impl Running {
    fn start(meteor: &Meteor) -> Result<Self, MeteorError> {
        let failed = |source| MeteorError::Start { java: meteor.java.clone(), source };
        let mut child = Command::new(&meteor.java)
            .args([MEMORY, "-Dfile.encoding=UTF-8", "-Duser.language=en", "-jar"])
            .arg(&meteor.jar)
            .args(["-", "-", "-stdio", "-l", "en", "-norm"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (questions, asked) = sync_channel::<Vec<String>>(1);
        let (answer, answers) = sync_channel(QUEUE);
        let said = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(mut stdin) = child.stdin.take() {
            thread::spawn(move || {
                for lines in asked {
                    let text = lines.join("\n") + "\n";
                    if stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).is_err() {
                        break; // it has ended, which the reader of its answers says
                    }
                }
            });
        }
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                for line in lines {
                    if answer.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let listener = child.stderr.take().map(|stderr| {
            let said = Arc::clone(&said);
            thread::spawn(move || keep_last(BufReader::new(stderr), &said))
        });
        Ok(Self { child, questions: Some(questions), answers, said, listener })
    }

    fn send(&mut self, lines: Vec<String>) -> Result<(), MeteorError> {
        if lines.is_empty() {
            return Ok(());
        }
        let sent = self.questions.as_ref().map(|questions| questions.send(lines));
        sent.and_then(Result::ok).ok_or_else(|| self.ended())
    }

    fn answer(&mut self, deadline: Duration) -> Result<String, MeteorError> {
        self.answers.recv_timeout(deadline).map_err(|error| match error {
            RecvTimeoutError::Timeout => MeteorError::Silent { deadline, said: self.said() },
            RecvTimeoutError::Disconnected => self.ended(),
        })
    }

    /// Ends what is left of it and hears its last words.
    fn ended(&mut self) -> MeteorError {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        MeteorError::Ended { said: self.said() }
    }

    fn statistics(&mut self, deadline: Duration) -> Result<String, MeteorError> {
        let answer = self.answer(deadline)?;
        let numbers = answer.split_whitespace().map(str::parse::<f64>);
        let right = !answer.is_empty() && numbers.into_iter().all(|number| number.is_ok());
        if right { Ok(answer) } else { Err(self.strange(answer, "a line of statistics")) }
    }

    fn score(&mut self, deadline: Duration) -> Result<f64, MeteorError> {
        let answer = self.answer(deadline)?;
        let score = answer.trim().parse::<f64>().ok().filter(|score| score.is_finite());
        score.ok_or_else(|| self.strange(answer, "a score"))
    }

    fn strange(&self, answer: String, expected: &'static str) -> MeteorError {
        MeteorError::Answer { answer, expected, said: self.said() }
    }

    /// The end of what it complained of, as the tail of a message.
    fn said(&self) -> String {
        let said = self.said.lock().map(|said| said.iter().cloned().collect::<Vec<_>>());
        match said {
            Ok(lines) if !lines.is_empty() => format!("; it said: {}", lines.join(" / ")),
            _ => String::new(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.questions = None;
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keep_last(stderr: impl BufRead, said: &Mutex<VecDeque<String>>) {
    for line in stderr.lines().map_while(Result::ok) {
        if let Ok(mut said) = said.lock() {
            said.push_back(line);
            if said.len() > SHOWN {
                said.pop_front();
            }
        }
    }
}

/// A scorer that shows how many pairs it has scored.
pub(super) struct Counted {
    /// Who scores.
    pub(super) scorer: Box<dyn SentenceScorer>,
    /// Where it is shown.
    pub(super) bar: ProgressBar,
}

impl SentenceScorer for Counted {
    fn name(&self) -> &str {
        self.scorer.name()
    }

    fn score(&mut self, pairs: &[Pair<'_, String>]) -> Result<PairScores, ScorerError> {
        let scores = self.scorer.score(pairs);
        self.bar.inc(pairs.len() as u64);
        scores
    }
}
