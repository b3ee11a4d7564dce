//! What people have said about events, for those who learn from them.

use std::collections::HashMap;

use eventide_schema::{Cue, Verdict};

/// What one person said about an event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mark {
    /// What the person thinks.
    pub(super) verdict: Verdict,
    /// The right caption, where the event's is not.
    pub(super) caption: Option<String>,
    /// The right start in microseconds, likewise.
    pub(super) start_us: Option<i64>,
    /// The right end in microseconds, likewise.
    pub(super) end_us: Option<i64>,
}

/// An event as a run found it: another run may have put another in its place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Found {
    pub(super) event_id: String,
    pub(super) run_id: String,
}

/// The last mark of each event.
#[derive(Debug, Default)]
pub(super) struct Marks {
    last: HashMap<Found, Mark>,
    /// Events whose mark was asked for.
    used: usize,
}

impl Marks {
    /// Adds a mark that is later than all before.
    pub(super) fn add(&mut self, found: Found, mark: Mark) {
        self.last.insert(found, mark);
    }

    /// Whether the event is marked, and what is to be learnt of it: nothing if it is wrong.
    pub(super) fn applied(&mut self, found: &Found, event: Cue) -> (bool, Option<Cue>) {
        let Some(mark) = self.last.get(found) else { return (false, Some(event)) };
        self.used += 1;
        let event = match mark.verdict {
            Verdict::Right => Some(event),
            Verdict::Wrong => None,
            Verdict::Edited => Some(edited(event, mark)),
        };
        (true, event)
    }

    /// How many events of the tables are marked.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// How many marks are of events that are not there any more.
    pub(super) fn left_out(&self) -> usize {
        self.last.len().saturating_sub(self.used)
    }
}

fn edited(mut event: Cue, mark: &Mark) -> Cue {
    event.span.start_us = mark.start_us.unwrap_or(event.span.start_us);
    event.span.end_us = mark.end_us.unwrap_or(event.span.end_us);
    if let Some(caption) = &mark.caption {
        event.text.clone_from(caption);
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventide_schema::TimeSpan;
    use rstest::rstest;

    fn found(event_id: &str, run_id: &str) -> Found {
        Found { event_id: event_id.to_owned(), run_id: run_id.to_owned() }
    }

    fn event(text: &str, start_us: i64, end_us: i64) -> Cue {
        Cue { span: TimeSpan::new(start_us, end_us), text: text.to_owned() }
    }

    fn mark(verdict: Verdict) -> Mark {
        Mark { verdict, caption: None, start_us: None, end_us: None }
    }

    fn edit(caption: Option<&str>, start_us: Option<i64>, end_us: Option<i64>) -> Mark {
        let caption = caption.map(str::to_owned);
        Mark { caption, start_us, end_us, ..mark(Verdict::Edited) }
    }

    #[rstest]
    #[case::none(&[], (false, Some(event("a dog", 0, 9))))]
    #[case::right(&[mark(Verdict::Right)], (true, Some(event("a dog", 0, 9))))]
    #[case::wrong(&[mark(Verdict::Wrong)], (true, None))]
    #[case::caption(&[edit(Some("a cat"), None, None)], (true, Some(event("a cat", 0, 9))))]
    #[case::start(&[edit(None, Some(3), None)], (true, Some(event("a dog", 3, 9))))]
    #[case::all(&[edit(Some("a cat"), Some(2), Some(20))], (true, Some(event("a cat", 2, 20))))]
    #[case::wrong_after_all(&[edit(Some("a cat"), None, None), mark(Verdict::Wrong)], (true, None))]
    #[case::an_edit_takes_back_the_edit_before(
        &[edit(Some("a cat"), None, None), edit(None, None, Some(5))],
        (true, Some(event("a dog", 0, 5)))
    )]
    #[case::right_after_all(
        &[mark(Verdict::Wrong), mark(Verdict::Right)],
        (true, Some(event("a dog", 0, 9)))
    )]
    fn the_last_mark_counts(#[case] said: &[Mark], #[case] expected: (bool, Option<Cue>)) {
        let mut marks = Marks::default();
        for mark in said {
            marks.add(found("dog", "run-1"), mark.clone());
        }
        let dog = event("a dog", 0, 9);
        assert_eq!(marks.applied(&found("dog", "run-1"), dog.clone()), expected);
        let later = marks.applied(&found("dog", "run-2"), dog.clone());
        assert_eq!(later, (false, Some(dog)), "a later run found another event in its place");
    }

    #[test]
    fn marks_of_what_is_gone_are_counted() {
        let mut marks = Marks::default();
        for event_id in ["a", "b", "b", "c"] {
            marks.add(found(event_id, "run-1"), mark(Verdict::Right));
        }
        marks.applied(&found("b", "run-1"), event("b", 0, 1));
        assert_eq!((marks.used(), marks.left_out()), (1, 2));
    }
}
