//! The watchdog of a run: what it may wait for, and how long. Nothing of it asks or sleeps; the client
//! tells it what it sees.

use std::time::Duration;

use tokio::time::Instant;

/// How long a run on a cluster may wait before it is given up. What it finished is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long there may be no executor.
    pub executors: Duration,
    /// How long no shard may get done while there are executors.
    pub progress: Duration,
    /// How long an executor may take for a shard; then another tries it.
    pub shard: Duration,
}

/// What is seen of a run at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Executors that are there; `None` where it is not known.
    pub(super) executors: Option<usize>,
    /// Shards that are done.
    pub(super) done: usize,
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Wait,
    /// Say that there is no executor. Said once.
    SayNoExecutor,
    /// Say that executors are there again. Said once.
    SayExecutors,
    /// Give up: there was no executor for so long.
    NoExecutor(Duration),
    /// Give up: no shard got done for so long.
    NoProgress(Duration),
}

/// Watches one run.
#[derive(Debug)]
pub(super) struct Watchdog {
    patience: Patience,
    done: usize,
    /// Since when nothing has happened, while there were executors.
    still_since: Instant,
    alone_since: Option<Instant>,
}

impl Watchdog {
    pub(super) fn new(patience: Patience, now: Instant) -> Self {
        Self { patience, done: 0, still_since: now, alone_since: None }
    }

    /// Takes in what is seen now.
    pub(super) fn see(&mut self, seen: Seen, now: Instant) -> Verdict {
        if seen.done != self.done {
            (self.done, self.still_since) = (seen.done, now);
        }
        match (seen.executors, self.alone_since) {
            (Some(0), None) => {
                self.alone_since = Some(now);
                return Verdict::SayNoExecutor;
            }
            (Some(0), Some(since)) => {
                let waited = now - since;
                let over = waited > self.patience.executors;
                return if over { Verdict::NoExecutor(waited) } else { Verdict::Wait };
            }
            (Some(_), Some(_)) => {
                (self.alone_since, self.still_since) = (None, now);
                return Verdict::SayExecutors;
            }
            (Some(_) | None, _) => {}
        }
        let waited = now - self.still_since;
        let over = self.alone_since.is_none() && waited > self.patience.progress;
        if over { Verdict::NoProgress(waited) } else { Verdict::Wait }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const PATIENCE: Patience = Patience {
        executors: Duration::from_secs(10),
        progress: Duration::from_mins(1),
        shard: Duration::from_secs(30),
    };
    const NONE: Option<usize> = Some(0);
    const TWO: Option<usize> = Some(2);
    const UNKNOWN: Option<usize> = None;

    /// The verdict that differs from waiting, each with its second, of what is seen when.
    fn verdicts(seen: &[(u64, Option<usize>, usize)]) -> Vec<(u64, Verdict)> {
        let start = Instant::now();
        let mut dog = Watchdog::new(PATIENCE, start);
        let mut all = Vec::new();
        for &(second, executors, done) in seen {
            let verdict = dog.see(Seen { executors, done }, start + Duration::from_secs(second));
            if verdict != Verdict::Wait {
                all.push((second, verdict));
            }
        }
        all
    }

    #[rstest]
    #[case::steady(&[(1, TWO, 0), (50, TWO, 1), (100, TWO, 2), (150, TWO, 3)], &[])]
    #[case::never_an_executor(
        &[(1, NONE, 0), (5, NONE, 0), (11, NONE, 0), (12, NONE, 0)],
        &[(1, Verdict::SayNoExecutor), (12, Verdict::NoExecutor(Duration::from_secs(11)))]
    )]
    #[case::they_come_in_time(
        &[(1, NONE, 0), (9, TWO, 0), (68, TWO, 0), (69, TWO, 0)],
        &[(1, Verdict::SayNoExecutor), (9, Verdict::SayExecutors)]
    )]
    #[case::still(
        &[(1, TWO, 0), (30, TWO, 1), (90, TWO, 1), (91, TWO, 1)],
        &[(91, Verdict::NoProgress(Duration::from_secs(61)))]
    )]
    #[case::a_silent_scheduler_is_not_an_empty_cluster(
        &[(1, TWO, 0), (30, UNKNOWN, 0), (59, UNKNOWN, 0)],
        &[]
    )]
    #[case::silence_does_not_make_executors(
        &[(1, NONE, 0), (5, UNKNOWN, 0), (12, NONE, 0)],
        &[(1, Verdict::SayNoExecutor), (12, Verdict::NoExecutor(Duration::from_secs(11)))]
    )]
    fn what_is_seen_has_its_verdict(
        #[case] seen: &[(u64, Option<usize>, usize)],
        #[case] expected: &[(u64, Verdict)],
    ) {
        assert_eq!(verdicts(seen), expected);
    }
}
