//! The figures of the reference programs, from `tests/data/golden/eval`.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod bad_input;
mod golden;
mod hand_made;
mod support;
